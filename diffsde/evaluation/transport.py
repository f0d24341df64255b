"""The metrics of optimal transport between samples and data: `w2`, with each column's statistics, `w1`, `sliced_w2`, `sinkhorn`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import numpy as np

from diffsde.evaluation.columns import column_figures, column_rows, column_summary
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.interpolants import Backward
from diffsde.metrics.distances import MOST, Transport, transport, w1, w2
from diffsde.metrics.figures import Figure, paired_error
from diffsde.metrics.sinkhorn import sinkhorn_divergence
from diffsde.metrics.sliced import sliced
from diffsde.types import Key

REFERENCES = 8  # most pairs of sets that a distance and its floor are averaged over: a single pair varies by a third
# Most numbers in all true points of a distance: for larger points (images) there are fewer sets, then fewer points per set.
NUMBERS = 2**23
SINKHORN_SETS, SINKHORN_POINTS = 4, 1024
SHARE = 0.05  # of the data's variance, that Sinkhorn's epsilon is


@dataclasses.dataclass(frozen=True)
class W2(Metric):
    """w2: the 2-Wasserstein distance between samples and true points, compared with that between two sets of true points.

    W2^2(mu, nu) = min over couplings of E |X - Y|^2, exact for two sets of points (assignment). `points`: of a set, one pair
    of sets; None: the mean over up to 8 pairs of sets of up to 512. For tabular data also each column's mean, std and
    Kolmogorov-Smirnov distance.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "w2": Quantity("in the data's units", "lower", "with each coordinate in units of its std")
    }
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    points: int | None = None

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is None and subject.dataset.law() is None and not subject.in_bytes

    def measure(self, subject: Subject, key: Key) -> Measured:
        assert subject.x is not None
        found = transport_distance(subject, key, 2, self.points)
        scaling = subject.dataset.scaling(subject.x.shape[1:])
        by_column = column_figures(subject.x, subject.dataset, scaling, subject.labels, key)
        rows = column_rows(
            by_column, subject.labels is not None, "source" if isinstance(subject.field, Backward) else "data"
        )
        return Measured({"w2": found.alone() if subject.guided else found}, column_summary(by_column), tuple(rows))


@dataclasses.dataclass(frozen=True)
class W1(Metric):
    """w1: the 1-Wasserstein distance, min over couplings of E |X - Y|, between the same sets of points as w2."""

    quantities: ClassVar[dict[str, Quantity]] = {
        "w1": Quantity("in the data's units", "lower", "with each coordinate in units of its std")
    }
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    points: int | None = None

    def is_default(self, subject: Subject) -> bool:
        return False

    def measure(self, subject: Subject, key: Key) -> Measured:
        found = transport_distance(subject, key, 1, self.points)
        return Measured({"w1": found.alone() if subject.guided else found})


@dataclasses.dataclass(frozen=True)
class SlicedW2(Metric):
    """sliced_w2: the root of the mean, over 128 random directions, of W2^2 between projections of all samples and as many true
    points (Bonneel et al. 2015): of sets of any size, where w2 is of up to 10,000 points. At most w2/sqrt(d) on average.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "sliced_w2": Quantity("in the data's units", "lower", "with each coordinate in units of its std")
    }
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    def is_default(self, subject: Subject) -> bool:
        return False

    def measure(self, subject: Subject, key: Key) -> Measured:
        x = subject.samples
        true = subject.dataset.true_points(subject.labels, key, 2 * len(x)).reshape(2, *x.shape)
        found, floor = (root(sliced(each, true[0])) for each in (x, true[1]))
        found = found._replace(points=len(x))
        return Measured({"sliced_w2": found if subject.guided else found.against("floor", floor)})


@dataclasses.dataclass(frozen=True)
class Sinkhorn(Metric):
    """sinkhorn: the Sinkhorn divergence (1810.08278), entropic transport with the cost |x - y|^2 and its bias taken off, between
    sets of up to 1,024 points; the mean over up to 4 pairs of sets. epsilon is 5% of the data's variance, of all coordinates.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "sinkhorn": Quantity("in squares of the data's units", "lower", "with each coordinate in units of its std")
    }
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    def is_default(self, subject: Subject) -> bool:
        return False

    def measure(self, subject: Subject, key: Key) -> Measured:
        dataset, x = subject.dataset, subject.samples
        epsilon = SHARE * float(dataset.moments(dataset.load(), jax.random.key(0)).std) ** 2 * x[0].size

        def divergence(one: np.ndarray, other: np.ndarray) -> float:
            return float(sinkhorn_divergence(one.reshape(len(one), -1), other.reshape(len(other), -1), epsilon))

        size = min(len(x), SINKHORN_POINTS)
        found = over_sets(subject, key, divergence, SINKHORN_SETS, size)
        row = "epsilon of sinkhorn", f"{epsilon:.3g}"
        return Measured({"sinkhorn": found.alone() if subject.guided else found}, {"sinkhorn_epsilon": epsilon}, (row,))


def transport_distance(subject: Subject, key: Key, power: int = 2, points: int | None = None) -> Figure:
    """The mean W1 or W2 between sets of samples and sets of true points, and, as its floor, between two sets of true points.

    Errors: from the scatter over the pairs, where samples that occur in several pairs count once (paired_error); of one pair
    of larger sets by the potentials (distances.transport).
    """
    x = subject.samples
    references, size = pairs(len(x), x[0].size) if points is None else (1, min(points, len(x)))
    if size <= MOST:
        return over_sets(subject, key, w1 if power == 1 else w2, references, size)
    true = subject.dataset.true_points(subject.labels, key, 2 * size).reshape(2, size, *x.shape[1:])
    own, floor = (root(transport(each, true[0], power), power) for each in (x[:size], true[1]))
    return own._replace(points=size).against("floor", floor)


def over_sets(
    subject: Subject, key: Key, distance: Callable[[np.ndarray, np.ndarray], float], references: int, size: int
) -> Figure:
    """The mean distance over so many pairs of sets of samples and true points, and its floor, over pairs of sets of the latter."""
    x = subject.samples
    drawn = subject.dataset.true_points(subject.labels, key, 2 * references * size)
    true = drawn.reshape(2, references, size, *x.shape[1:])
    mine = x[np.arange(references * size) % len(x)].reshape(true[0].shape)
    values, floors = (
        np.array([distance(a, b) for a, b in zip(sets, true[0], strict=True)]) for sets in (mine, true[1])
    )
    floor = Figure(float(floors.mean()), paired_error(floors, references))
    return Figure(float(values.mean()), paired_error(values, len(x) / size), points=size).against("floor", floor)


def root(found: Transport, power: int = 2) -> Figure:
    """W_power from its power, and the error by the slope of the root."""
    value = found.cost ** (1 / power)
    if found.error is None or value == 0:
        return Figure(value)
    return Figure(value, found.error / (power * value ** (power - 1)))


def pairs(count: int, dimension: int) -> tuple[int, int]:
    """Number of pairs of sets that the distance of `count` samples is averaged over, and number of points per set."""
    size = min(count, MOST, max(1, NUMBERS // (2 * dimension)))
    return min(REFERENCES, max(1, NUMBERS // (2 * size * dimension))), size
