"""Memorisation: how near sampled images lie to the training images, compared with test images."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np

from diffsde.datasets.finite import HALF_RANGE, mirrored
from diffsde.errors import UserError
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.evaluation.references import Real, as_bytes
from diffsde.metrics.figures import Figure, share_figure
from diffsde.metrics.neighbours import Neighbours, nearest
from diffsde.types import Key

RESAMPLES = 200  # of the bootstrap
COPY = 0.01  # quantile of the test images' distances below which a sample counts as a copy


@dataclasses.dataclass(frozen=True)
class NearestNeighbours(Metric):
    """nearest_ratio: the samples' median distance to the nearest training image, divided by the test images', compared with 1;
    far below 1, the model has memorised training images. Error: bootstrap.

    copied: the share of samples nearer to a training image than the nearest 1% of half of the test images (share_copied).
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "nearest_ratio": Quantity("", "target"),
        "copied": Quantity("", "lower"),
    }
    needs: ClassVar[tuple[str, ...]] = ("samples", "images")

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is None and subject.in_bytes

    def unavailable(self, subject: Subject) -> str | None:
        why = super().unavailable(subject)
        return why if why or subject.real else None

    def measure(self, subject: Subject, key: Key) -> Measured:
        """The figures; as arrays, the nearest training images: distances (n,) for images in [-1, 1], indices (n,)."""
        found = nearby(as_bytes(subject.samples), subject.real, subject.dataset.flip)
        arrays = {
            "distances": found.samples.distances,
            "indices": found.samples.indices,
            "test_distances": found.test.distances,
            "test_indices": found.test.indices,
        }
        return Measured(neighbour_figures(found), arrays={"neighbours": arrays})


class Nearby(NamedTuple):
    """The nearest training images of n samples and of n test images: distances (n,) for images in [-1, 1], indices (n,)."""

    samples: Neighbours
    test: Neighbours


def nearby(images: np.ndarray, real: Real, flip: bool) -> Nearby:
    """The training images nearest to `images` (n, H, W, C) and to real.test; if flip, the indices continue into mirrored ones."""
    train = np.asarray(real.train.x)
    if flip:
        train = np.concatenate([train, mirrored(train)])
    found = (nearest(each, train) for each in (images, np.asarray(real.test.x)))
    return Nearby(*(Neighbours(each.distances[:, 0] / HALF_RANGE, each.indices[:, 0]) for each in found))


def neighbour_figures(found: Nearby) -> dict[str, Figure]:
    """The figures of NearestNeighbours. Raises UserError where half of the test images are among the training images."""
    mine, real = found.samples.distances, found.test.distances
    rng = np.random.default_rng(0)

    def again(values: np.ndarray) -> np.ndarray:
        return np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, spread = np.median(mine) / np.median(real), again(mine) / again(real)
    if not np.isfinite(ratio):
        raise UserError(
            "neighbours: half of the test images are among the training images; there is nothing to compare"
        )
    error = float(spread[np.isfinite(spread)].std(ddof=1)) if len(mine) > 1 else None
    return {
        "nearest_ratio": Figure(float(ratio), error).against("real", Figure(1.0)),
        "copied": share_copied(mine, real),
    }


def share_copied(mine: np.ndarray, real: np.ndarray) -> Figure:
    """The share of samples nearer to a training image than the nearest 1% of half of the test images, from both distances (n,).

    floor: the same share of the other half of the test images, which does not set the threshold; none for a single test
    image. Errors: Wilson's (share_figure).
    """
    halves = np.array_split(np.random.default_rng(0).permutation(real), 2)
    near = np.quantile(halves[0], COPY)
    found = share_figure(mine <= near)
    return found.against("floor", share_figure(halves[1] <= near)) if len(halves[1]) else found
