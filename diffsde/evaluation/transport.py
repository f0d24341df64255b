"""The metric `w2`: the 2-Wasserstein distance between samples and data; of tabular data also statistics of each column."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from diffsde.evaluation.columns import column_figures, column_rows, column_summary
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.metrics.distances import MOST, Transport, transport, w2
from diffsde.metrics.figures import Figure, paired_error
from diffsde.types import Key

REFERENCES = 8  # most pairs of sets that a distance and its floor are averaged over: a single pair varies by a third
# Most numbers in all true points of a distance: for larger points (images) there are fewer sets, then fewer points per set.
NUMBERS = 2**23


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
        found = transport_distance(subject, key, self.points)
        scaling = subject.dataset.scaling(subject.x.shape[1:])
        by_column = column_figures(subject.x, subject.dataset, scaling, subject.labels, key)
        rows = column_rows(by_column, subject.labels is not None)
        return Measured({"w2": found.alone() if subject.guided else found}, column_summary(by_column), tuple(rows))


def transport_distance(subject: Subject, key: Key, points: int | None = None) -> Figure:
    """The mean W2 between sets of samples and sets of true points, and, as its floor, between two sets of true points each.

    Errors: from the scatter over the pairs, where samples that occur in several pairs count once (paired_error); of one pair
    of larger sets by the potentials (distances.transport).
    """
    x, dataset = subject.samples, subject.dataset
    references, size = pairs(len(x), x[0].size) if points is None else (1, min(points, len(x)))
    drawn = dataset.true_points(subject.labels, key, 2 * references * size)
    true = drawn.reshape(2, references, size, *x.shape[1:])
    mine = x[np.arange(references * size) % len(x)].reshape(true[0].shape)
    if size > MOST:
        own, floor = (root(transport(sets[0], true[0][0])) for sets in (mine, true[1]))
        return own._replace(points=size).against("floor", floor)
    values, floors = (np.array([w2(a, b) for a, b in zip(sets, true[0], strict=True)]) for sets in (mine, true[1]))
    floor = Figure(float(floors.mean()), paired_error(floors, references))
    return Figure(float(values.mean()), paired_error(values, len(x) / size), points=size).against("floor", floor)


def root(found: Transport) -> Figure:
    """W2 from W2^2, and its error by the slope of the root."""
    value = float(np.sqrt(found.cost))
    return Figure(value, None if found.error is None or value == 0 else found.error / (2 * value))


def pairs(count: int, dimension: int) -> tuple[int, int]:
    """Number of pairs of sets that the distance of `count` samples is averaged over, and number of points per set."""
    size = min(count, MOST, max(1, NUMBERS // (2 * dimension)))
    return min(REFERENCES, max(1, NUMBERS // (2 * size * dimension))), size
