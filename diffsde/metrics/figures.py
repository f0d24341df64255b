"""Figures: a value with its standard error and what it is held against; and the errors, each by its estimator."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from diffsde.overlap import Estimate

# What a figure is held against, and how it is said; the first three are what it should be near, the others what it cannot pass
# or should be better than.
KINDS = {
    "exact": "exact",
    "true": "of the true law",
    "real": "real ones",
    "measurement": "the measurement alone",
    "truth": "the truth",
    "floor": "a true sample of this size",
    "field": "the exact field",
}
TARGETS = ("exact", "true", "real")
NEGLIGIBLE = 1e-6  # the error of a reference below which it is called exact: no figure is printed to so many digits


class Reference(NamedTuple):
    """What a figure is held against: its kind, a key of KINDS, its value and standard error."""

    kind: str
    value: float
    error: float | None = None


class Figure(NamedTuple):
    """A number that was measured: its value, one standard error of it (None where a single number says nothing), and what it
    is held against; points: in each of the sets that it is a distance of. Its unit and direction are its metric's.
    """

    value: float
    error: float | None = None
    reference: Reference | None = None
    points: int | None = None

    def against(self, kind: str, other: Figure) -> Figure:
        """The same figure, held against another of this kind; alone where that is infinite."""
        known = math.isfinite(other.value)
        return self._replace(reference=Reference(kind, other.value, other.error) if known else None)

    def against_exact(self, value: float) -> Figure:
        """The same figure, held against a value that is known."""
        return self.against("exact", Figure(value))

    def against_estimate(self, known: Estimate) -> Figure:
        """The same figure, held against the true law's: `exact`, where the error of that is negligible, else `true`."""
        if known.error < NEGLIGIBLE:
            return self.against_exact(known.value)
        return self.against("true", Figure(known.value, known.error))

    def alone(self) -> Figure:
        """The same figure, held against nothing, as where its samples follow another law than the data's."""
        return self._replace(reference=None)

    @property
    def target(self) -> Reference | None:
        """What the value should be near; None where the least is the best."""
        return self.reference if self.reference and self.reference.kind in TARGETS else None

    @property
    def distance_from_target(self) -> float:
        """How far the value is from its target, or from 0 where it has none: the least is the best."""
        return self.value if self.target is None else abs(self.value - self.target.value)

    def as_dict(self) -> dict[str, Any]:
        """The figure as summary.json has it: value, error, and its reference's value and error under the reference's kind."""
        found: dict[str, Any] = {"value": self.value}
        if self.error is not None:
            found["error"] = self.error
        if self.reference is not None:
            kind, value, error = self.reference
            found[kind] = value
            if error is not None:
                found[f"{kind}_error"] = error
        return found if self.points is None else found | {"points": self.points}

    @classmethod
    def of_dict(cls, found: dict[str, Any]) -> Figure:
        """The inverse of `as_dict`; other keys are passed over."""
        kind = next((kind for kind in KINDS if kind in found), None)
        reference = None if kind is None else Reference(kind, found[kind], found.get(f"{kind}_error"))
        return cls(found.get("value", math.nan), found.get("error"), reference, found.get("points"))


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float | None:
    """Of the mean of values (n,): sqrt(sum (v - mean)^2/(n - 1)/n); None for n = 1.

    groups (n,): of which each value is, where so many of each were dealt and not drawn: then they scatter about their group's
    mean alone, sqrt(sum_g n_g s_g^2)/n; where a group has a single value, as if there were none.
    """
    n = len(values)
    if n < 2:
        return None
    if groups is not None:
        _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if counts.min() > 1:
            rest = values - (np.bincount(index, values) / counts)[index]
            return float(np.sqrt(np.sum(rest**2 * (counts / (counts - 1))[index])) / n)
    return float(np.std(values, ddof=1) / np.sqrt(n))


def mean_figure(values: np.ndarray, groups: np.ndarray | None = None) -> Figure:
    """The mean of values (n,) and its standard error; groups: see standard_error."""
    return Figure(float(values.mean()), standard_error(values, groups))


def root_mean_figure(squares: np.ndarray, groups: np.ndarray | None = None) -> Figure:
    """sqrt(mean of squares (n,)), and its error by the slope of the root, the mean's over 2 sqrt(mean)."""
    value, error = float(np.sqrt(squares.mean())), standard_error(squares, groups)
    return Figure(value, None if error is None or value == 0 else error / (2 * value))


def rms_distance(one: np.ndarray, other: np.ndarray) -> Figure:
    """The root-mean-square distance of points (n, *shape), |x - y| over all coordinates, and its error."""
    return root_mean_figure(np.square(one.astype(np.float64) - other).reshape(len(one), -1).sum(axis=1))


def share_figure(hits: np.ndarray) -> Figure:
    """The share p of hits (n,), and half the width of Wilson's interval at one standard deviation (Wilson 1927):
    sqrt(p (1 - p)/n + 1/(4 n^2))/(1 + 1/n), which is not 0 where all or none are hits.
    """
    n, p = len(hits), float(np.mean(hits))
    return Figure(p, float(np.sqrt(p * (1 - p) / n + 1 / (4 * n**2)) / (1 + 1 / n)))


def paired_error(distances: np.ndarray, sets: float) -> float | None:
    """The standard error of the mean of distances (m,) between m pairs of sets: of the samples, of which only `sets` are
    disjoint, the others being the same points again, and m independent ones of the data. None for m = 1.

    Where each side adds the same variance V, the pairs scatter by s^2 = V (1 + (1 - 1/sets) m/(m - 1)) about their mean, which
    itself scatters by V (1/sets + 1/m): points that are used again count once. That is on the safe side where the sides do not
    add up: of 100 points of the moons in all 8 pairs the error is 1.7 times too large, of 800 in one each it is right.
    """
    m = len(distances)
    if m < 2:
        return None
    sets = min(max(sets, 1.0), m)
    each = np.var(distances, ddof=1) / (1 + (1 - 1 / sets) * m / (m - 1))
    return float(np.sqrt(each * (1 / sets + 1 / m)))
