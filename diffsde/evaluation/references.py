"""Selection of the real images that samples are compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.datasets import Dataset, Examples
from diffsde.datasets.finite import HALF_RANGE
from diffsde.errors import UserError

IMAGES = 2000  # default number of sampled images; fewer where there are fewer test images
POINTS = 10_000  # default number of samples of other data
REFERENCE = 10_000  # most training images whose features represent the data's law


class Split(NamedTuple):
    """Real images in bytes: training images, and test images; provenance: where the test images come from, as text."""

    train: Examples
    test: Examples
    provenance: str


def split(dataset: Dataset, labels: np.ndarray | None) -> Split:
    """Training images and test images of a dataset, restricted to `labels` if given.

    Where there is no test split, a fifth of the training images is set apart as test images: the run was trained on these,
    the classifier was not. Raises UserError for a label without images.
    """
    train, provenance = dataset.load(), "the test split"
    try:
        test = dataset.held_out()
    except UserError:
        rows = np.random.default_rng(0).permutation(len(train.x))
        apart = max(1, len(rows) // 5)
        train, test = (take(train, part) for part in (rows[apart:], rows[:apart]))
        provenance = "a fifth of the images, which the run was trained on, as there is no test split"
    if labels is not None:
        train, test = of_labels(train, labels, "the training images"), of_labels(test, labels, "the test images")
    return Split(train, test, provenance)


def of_labels(examples: Examples, labels: np.ndarray, where: str) -> Examples:
    """The examples with one of the labels. Raises UserError for a label that none has; where: their name in the message."""
    y = np.asarray(examples.y)
    if len(lacking := np.setdiff1d(labels, y)):
        raise UserError(f"labels: of {lacking[0]} there is none among {where}; leave it out")
    return take(examples, np.isin(y, labels))


def take(examples: Examples, rows: np.ndarray) -> Examples:
    """The examples of the given rows, on the host."""
    x, y = (None if each is None else np.asarray(each)[rows] for each in examples)
    return Examples(x, y)  # type: ignore[arg-type]  # on the host


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Points in [-1, 1] rounded to bytes, as a picture would hold them; values outside are clipped."""
    return np.clip(np.round(np.asarray(x) * HALF_RANGE + HALF_RANGE), 0, 255).astype(np.uint8)


class Real(NamedTuple):
    """Real images for comparison with n samples: all training images, test images (n), and rows of `train`.

    rows: the training images that represent the law of the samples. If the samples have labels, `rows` and `test` have
    the labels in the same proportions.
    """

    train: Examples
    rows: np.ndarray
    test: Examples


def real_beside(found: Split, n: int, labels: np.ndarray | None) -> Real:
    """The real images to compare n samples with, labels (n,) or None. Raises UserError for too few test images."""
    rows = proportioned(found.test, n, labels)
    if len(rows) < n:
        raise UserError(
            f"n is {n}, but beside so many samples as many real test images are judged, of the same labels; there are"
            f" {len(found.test.x)} in all, and enough for n={most(found.test, n, labels)}"
        )
    kept = proportioned(found.train, max(REFERENCE, n), labels)
    return Real(found.train, kept, take(found.test, rows))


def proportioned(examples: Examples, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Up to `count` row numbers in a fixed random order; with labels (n,), in the proportions of the labels.

    The first n rows then have exactly the labels `labels`; the rows end where a label has no examples left.
    """
    order = np.random.default_rng(0).permutation(len(examples.x))
    if labels is None:
        return order[:count]
    y, place, end = np.asarray(examples.y)[order], np.full(len(order), np.inf), np.inf
    for label, wanted in zip(*np.unique(labels, return_counts=True), strict=True):
        mine = np.flatnonzero(y == label)
        place[mine] = (np.arange(len(mine)) + 0.5) / wanted  # the j-th example of a label is ranked at j/wanted
        end = min(end, len(mine) / wanted)
    ranked = np.argsort(place, kind="stable")
    return order[ranked[: min(count, int((place < end).sum()))]]


def most(examples: Examples, count: int, labels: np.ndarray | None) -> int:
    """The largest number of samples, up to `count`, with the labels in turn or none, for which there are as many images."""
    if labels is None:
        return min(count, len(examples.x))
    y, given = np.asarray(examples.y), np.resize(labels, count)
    for label in np.unique(labels):
        places = np.flatnonzero(given == label)
        count = min(count, int(np.append(places, count)[min(len(places), int((y == label).sum()))]))
    return count


def usual_number(dataset: Dataset, labels: np.ndarray | None = None) -> int:
    """The default number of samples: for images the number of test images, at most 2000; for other data 10,000."""
    if not dataset.in_bytes(dataset.load()):
        return POINTS
    test = split(dataset, None).test
    return max(1, most(test, IMAGES, labels if test.y is not None else None))
