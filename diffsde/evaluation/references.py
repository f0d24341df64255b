"""What evaluate measures of images: beside real ones in a classifier's features, by its classes, and by their neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.datasets import Examples, FiniteDataset
from diffsde.datasets.finite import HALF_RANGE, mirrored
from diffsde.errors import UserError
from diffsde.evaluation.features import Judge
from diffsde.metrics.balls import balls
from diffsde.metrics.errors import Figure, prefixed, share_figure, with_error
from diffsde.metrics.frechet import frechet_distance
from diffsde.metrics.neighbours import Neighbours, nearest

Figures = dict[str, Figure]

REFERENCE = 10_000  # real images whose features stand for the data's law
RESAMPLES = 200  # of the bootstrap
COPY = 0.01  # share of the images for tests that are as near to a training image as a copy


class Split(NamedTuple):
    """Real images in bytes: those to compare with, and others of the same law; told: how they were told apart."""

    train: Examples
    test: Examples
    told: str


def split(dataset: FiniteDataset, labels: np.ndarray | None) -> Split:
    """The images for training and for tests, of these labels alone where there are any, mirror images among the first.

    Where there is no test split, a fifth of the images is set apart: the run has seen it, the classifier has not. Raises
    UserError for a label without images.
    """
    train, told = dataset.load(), "the test split"
    try:
        test = dataset.held_out()
    except UserError:
        rows = np.random.default_rng(0).permutation(len(train.x))
        apart = max(1, len(rows) // 5)
        train, test = (take(train, part) for part in (rows[apart:], rows[:apart]))
        told = "a fifth of the images, which the run was trained on, as there is no test split"
    if labels is not None:
        train, test = of_labels(train, labels, "those for training"), of_labels(test, labels, "those for tests")
    return Split(train, test, told)


def of_labels(examples: Examples, labels: np.ndarray, where: str) -> Examples:
    """Those of these labels alone. Raises UserError for a label that none has."""
    y = np.asarray(examples.y)
    if len(lacking := np.setdiff1d(labels, y)):
        raise UserError(f"labels: of {lacking[0]} there is none among {where}; leave it out")
    return take(examples, np.isin(y, labels))


def take(examples: Examples, rows: np.ndarray) -> Examples:
    x, y = (None if each is None else np.asarray(each)[rows] for each in examples)
    return Examples(x, y)  # type: ignore[arg-type]  # on the host


def as_bytes(x: np.ndarray) -> np.ndarray:
    """The nearest bytes of points in [-1, 1], those beyond cut: what a picture of them would hold."""
    return np.clip(np.round(np.asarray(x) * HALF_RANGE + HALF_RANGE), 0, 255).astype(np.uint8)


class Real(NamedTuple):
    """Real images beside n samples, in the samples' proportions where these have labels: train, all for training; rows,
    those of train that stand for the law of the samples; test, n others.
    """

    train: Examples
    rows: np.ndarray
    test: Examples


def beside(found: Split, n: int, labels: np.ndarray | None) -> Real:
    """What n samples, of labels (n,) where they have any, are judged beside. Raises UserError for too few real images."""
    rows = proportioned(found.test, n, labels)
    if len(rows) < n:
        raise UserError(
            f"n is {n}, but beside so many samples as many real images for tests are judged, of the same labels; there are"
            f" {len(found.test.x)} in all, and enough for n={most(found.test, n, labels)}"
        )
    kept = proportioned(found.train, max(REFERENCE, n), labels)
    return Real(found.train, kept, take(found.test, rows))


def proportioned(examples: Examples, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Up to `count` rows at random, always the same. Beside samples of labels (n,), as long as every label has some left, and
    in their proportions: the first n have just these labels.
    """
    order = np.random.default_rng(0).permutation(len(examples.x))
    if labels is None:
        return order[:count]
    y, place, end = np.asarray(examples.y)[order], np.full(len(order), np.inf), np.inf
    for label, wanted in zip(*np.unique(labels, return_counts=True), strict=True):
        mine = np.flatnonzero(y == label)
        place[mine] = (np.arange(len(mine)) + 0.5) / wanted  # the j-th of a label stands at j in n
        end = min(end, len(mine) / wanted)
    ranked = np.argsort(place, kind="stable")
    return order[ranked[: min(count, int((place < end).sum()))]]


def most(examples: Examples, count: int, labels: np.ndarray | None) -> int:
    """The largest number up to `count` of samples, given labels in turn or none, beside which there are as many images."""
    if labels is None:
        return min(count, len(examples.x))
    y, given = np.asarray(examples.y), np.resize(labels, count)
    for label in np.unique(labels):
        places = np.flatnonzero(given == label)
        count = min(count, int(np.append(places, count)[min(len(places), int((y == label).sum()))]))
    return count


class Seen(NamedTuple):
    """Features of the samples, of as many real images for tests, and of real images to compare with; classes of the first two."""

    samples: np.ndarray
    test: np.ndarray
    train: np.ndarray
    sample_classes: np.ndarray
    test_classes: np.ndarray


def look(judge: Judge, images: np.ndarray, real: Real) -> Seen:
    """All that the classifier makes of the samples (n, H, W, C), bytes, and of the real images."""
    mine, classes = judge.look(images)
    theirs, test_classes = judge.look(np.asarray(real.test.x))
    return Seen(mine, theirs, judge.look(np.asarray(real.train.x)[real.rows])[0], classes, test_classes)


def frechet_figures(seen: Seen) -> Figures:
    """floor: of as many real images."""
    return {
        "frechet": {
            "value": frechet_distance(seen.samples, seen.train),
            "floor": frechet_distance(seen.test, seen.train),
        }
    }


def ball_figures(seen: Seen) -> Figures:
    """precision, recall, density, coverage, against as many real images as there are samples; real: of others of them."""
    train = seen.train[: len(seen.samples)]
    mine, real = balls(train, seen.samples), balls(train, seen.test)
    return {
        name: {"value": float(value), "real": float(one)}
        for name, value, one in zip(mine._fields, mine, real, strict=True)
    }


def label_figures(seen: Seen, labels: np.ndarray, real: Real) -> Figures:
    """The share of samples that look like the label that they were given; real: of images for tests. Both with the half-width
    of Wilson's interval, which is not 0 where all are right (share_figure).
    """
    true = share_figure(seen.test_classes == np.asarray(real.test.y))
    return {"label_accuracy": share_figure(seen.sample_classes == labels) | prefixed("real", true)}


class Nearby(NamedTuple):
    """The nearest training image of each sample and of as many images for tests, distances (n,) in [-1, 1]'s units, indices (n,)."""

    samples: Neighbours
    test: Neighbours


def nearby(images: np.ndarray, real: Real, flip: bool) -> Nearby:
    """Indices are rows of the images for training, followed by their mirror images where flip."""
    train = np.asarray(real.train.x)
    if flip:
        train = np.concatenate([train, mirrored(train)])
    found = (nearest(each, train) for each in (images, np.asarray(real.test.x)))
    return Nearby(*(Neighbours(each.distances[:, 0] / HALF_RANGE, each.indices[:, 0]) for each in found))


def neighbour_figures(found: Nearby) -> Figures:
    """nearest_ratio: the median distance of samples to the training images over that of images for tests; far below 1,
    the training images were learned by heart. real: 1; error: of the bootstrap. copied: see copied.
    """
    mine, real = found.samples.distances, found.test.distances
    rng = np.random.default_rng(0)

    def again(values: np.ndarray) -> np.ndarray:
        return np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, spread = np.median(mine) / np.median(real), again(mine) / again(real)
    if not np.isfinite(ratio):
        raise UserError(
            "neighbours: half of the images for tests are among those for training; there is nothing to compare"
        )
    error = float(spread[np.isfinite(spread)].std(ddof=1)) if len(mine) > 1 else None
    return {"nearest_ratio": with_error(ratio, error) | {"real": 1.0}, "copied": copied(mine, real)}


def copied(mine: np.ndarray, real: np.ndarray) -> Figure:
    """The share of samples that are as near to a training image as the nearest hundredth of half of the images for tests, by
    distances (n,) of both; floor: the share of the other half that is, which has no part in that threshold. Errors: Wilson's
    (share_figure). Of a single image for tests there is no floor.
    """
    halves = np.array_split(np.random.default_rng(0).permutation(real), 2)
    near = np.quantile(halves[0], COPY)
    floor = prefixed("floor", share_figure(halves[1] <= near)) if len(halves[1]) else {}
    return share_figure(mine <= near) | floor
