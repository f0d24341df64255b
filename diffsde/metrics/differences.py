"""Which of several means leads the others by more than the errors: differences, paired or not, with Student's t.

A row's values are of units that were trained or drawn again, each with the seeds that made it (`run.seed` of the training and
`seed` of the samples, say). The mean's error is sd/sqrt(n) over a seed's n values, n - 1 degrees of freedom; where two seeds are
crossed, each training sampled with each noise, the errors of both, added in squares (in which their interaction counts twice:
on the safe side). Trainings that are all sampled with one noise have that noise in common, however many they are: then the
error of a single figure, as it was measured with it, is added. A single value has that error alone, which says something of
this one run, and nothing of training it again.

Two rows of the same seeds are compared by the differences of each, which take out what these have in common; other rows by the
errors of both. A seed of which a row has one value is taken to scatter as in the row that it is compared with.

The leader has to lead each of the others at the two-sided level LEVEL. Of two rows of equal law one is then said to lead with
probability LEVEL at most, and so among more: whichever leads wrongly leads an equal one, of which the probability is no more
(an intersection-union test needs no correction for their number, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.05  # probability, at most, that one of several equal rows is said to lead
PAIRED, UNPAIRED, BY_POINT, ALONE = "paired by seed", "unpaired", "paired by test point", "by their own errors"

# The differences (n,) of two rows, the first minus the second, at equal test points, and an error that all of them have in
# common (of solvers); None where there are none.
ByPoint = Callable[[int, int], tuple[np.ndarray, float] | None]
Seeds = tuple[str, ...]


class Error(NamedTuple):
    """A standard error, None where it is not known, and the margin: what a mean has to exceed to be told from 0 at LEVEL."""

    error: float | None
    margin: float


def error(value: float | None, degrees: float = math.inf) -> Error:
    """A standard error with its degrees of freedom, infinity for a normal law; its margin is Student's quantile times it."""
    if value is None or math.isnan(value):
        return Error(None, math.inf)
    return Error(value, value * float(stdtrit(min(degrees, 1e9), 1 - LEVEL / 2)))


def added(errors: Sequence[Error]) -> Error:
    """Independent errors added in squares, and their margins too, each by its own degrees of freedom, so that one of few is not
    lent those of another; not known where one is not.
    """
    if any(each.error is None for each in errors):
        return Error(None, math.inf)
    return Error(math.hypot(*(each.error or 0.0 for each in errors)), math.hypot(*(each.margin for each in errors)))


class Units(NamedTuple):
    """The values of a row by their seeds. own: the error of a single figure as it was measured, None where it is not known.
    shared: whether all values have one noise in common, whose error `own` is.
    """

    values: Mapping[Seeds, float]
    own: float | None = None
    shared: bool = False

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(np.mean(list(self.values.values())))

    @property
    def error(self) -> Error:
        """The error of the mean."""
        return error_of(self)


class Difference(NamedTuple):
    """A difference of two means, its error, and how it was found."""

    value: float
    by: Error
    how: str

    @property
    def margin(self) -> float:
        """The value that it must exceed for a lead."""
        return self.by.margin

    @property
    def is_lead(self) -> bool:
        """Whether the value exceeds the margin."""
        return self.value > self.margin


class Lead(NamedTuple):
    """The row with the best mean; the rows that it does not lead by more than the errors; and of these, or else of all others,
    the one whose difference from it is the least, with this difference (None where there is one row alone).
    """

    first: int
    level: tuple[int, ...]
    second: int | None
    by: Difference | None

    @property
    def is_lead(self) -> bool:
        """Whether the first leads every other row by more than the errors."""
        return self.by is not None and not self.level


def error_of(units: Units) -> Error:
    """The standard error of a mean over units; see the module."""
    if len(units.values) < 2:
        return error(units.own)
    found = [each for axis in axes_of(list(units.values)) if (each := error_along(units.values, axis))]
    return added([*found, error(units.own)] if units.shared else found)


def axes_of(seeds: Sequence[Seeds]) -> list[int]:
    """The seeds whose scatter counts: all, but the first alone where each of its values has others that no other has."""
    axes = range(len(seeds[0]))
    return [0] if len({each[0] for each in seeds}) == len(seeds) else list(axes)


def error_along(values: Mapping[Seeds, float], axis: int) -> Error | None:
    """sd/sqrt(n) of the means for each value of one seed; None for one value alone."""
    groups: dict[str, list[float]] = {}
    for seeds, value in values.items():
        groups.setdefault(seeds[axis], []).append(value)
    means = [float(np.mean(each)) for each in groups.values()]
    n = len(means)
    return error(float(np.std(means, ddof=1)) / math.sqrt(n), n - 1) if n > 1 else None


def combined(one: Units, other: Units, sign: float) -> Difference:
    """mean(one) + sign mean(other) and its error; see the module."""
    value, n, m = one.mean + sign * other.mean, len(one.values), len(other.values)
    own = added([error(one.own), error(other.own)])
    if n == m == 1:
        return Difference(value, own, ALONE)
    if one.values.keys() == other.values.keys():
        each = {seeds: one.values[seeds] + sign * other.values[seeds] for seeds in one.values}
        return Difference(value, error_of(Units(each, own.error, one.shared or other.shared)), PAIRED)
    return Difference(value, added([error_beside(one, other), error_beside(other, one)]), UNPAIRED)


def error_beside(units: Units, other: Units) -> Error:
    """The error of a row's mean, where a seed of which it has one value is taken to scatter as in the other row."""
    alone = len(units.values) == 1
    found = [] if alone else [units.error]
    for axis in axes_of(list(other.values)):
        if units.shared or len({seeds[axis] for seeds in units.values}) > 1:
            continue
        if (theirs := error_along(other.values, axis)) is not None and theirs.error is not None:
            root = math.sqrt(len({seeds[axis] for seeds in other.values}))
            found.append(Error(root * theirs.error, root * theirs.margin))
    return added([*found, error(other.own)] if alone and other.shared else found)


def lead_of(
    rows: Sequence[Units], direction: str, points: ByPoint = lambda first, second: None, target_error: float = 0.0
) -> Lead:
    """The leading row. direction: `lower` or `higher`; `target`: nearer to 0, of values from which the target is subtracted.

    points: the differences of two rows at equal test points. target_error: of the target, which all rows have in common.
    """
    sign = -1.0 if direction == "higher" else 1.0
    means = np.array([row.mean for row in rows])
    first = int(np.argmin(np.abs(means) if direction == "target" else sign * means))
    found: dict[int, Difference] = {}
    for i, row in enumerate(rows):
        if i == first:
            continue
        if direction == "target":
            by = nearer(rows[first], row, target_error)
        else:
            by = behind(row, rows[first], sign, lambda i=i: points(i, first))  # type: ignore[misc]
        found[i] = by
    if not found:
        return Lead(first, (), None, None)
    level = tuple(i for i, by in found.items() if not by.is_lead)
    second = min(level or found, key=lambda i: abs(found[i].value))
    return Lead(first, level, second, found[second])


def behind(
    other: Units, first: Units, sign: float, points: Callable[[], tuple[np.ndarray, float] | None]
) -> Difference:
    """By how much a row is behind the first. Of values with one noise in common, which test points are, by the differences at
    each point where these are the same, instead of by the rows' own errors.
    """
    found = combined(other, first, sign=-1.0)
    found = found._replace(value=sign * found.value)
    alone = len(first.values) == len(other.values) == 1
    paired = found.how == PAIRED and first.shared and other.shared
    if not (alone or paired) or (each := points()) is None:
        return found
    differences, common = each
    n = len(differences)
    by = [error(float(differences.std(ddof=1)) / math.sqrt(n), n - 1), error(common)]
    if paired:
        each_seed = {seeds: other.values[seeds] - first.values[seeds] for seeds in first.values}
        by.append(error_of(Units(each_seed)))
    return Difference(found.value, added(by), BY_POINT)


def nearer(first: Units, other: Units, target_error: float) -> Difference:
    """By how much the first is nearer to 0 than the other, |other| - |first|. Both |other| - first and |other| + first have to
    exceed their margins, each with its own error, so that two rows at the two sides of 0 are not told apart by chance. One of
    the two is the difference, the other is larger by 2 |first|, which its margin is less by: the value need exceed the larger.
    """
    side = 1.0 if other.mean >= 0 else -1.0
    value = abs(other.mean) - abs(first.mean)
    apart, both = (combined(other, first, sign) for sign in (-1.0, 1.0))
    both = both._replace(by=added([both.by, error(2 * target_error)]))  # in the sum the target is subtracted twice
    found = []
    for each in (apart, both):
        more = max(side * each.value - value, 0.0)
        found.append(Difference(value, each.by._replace(margin=each.margin - more), each.how))
    return max(found, key=lambda each: each.margin)
