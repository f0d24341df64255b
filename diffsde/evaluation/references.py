"""The real images that samples are compared with: which, and how many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.datasets import Dataset, Examples
from diffsde.datasets.finite import HALF_RANGE
from diffsde.errors import UserError

IMAGES = 2000  # samples of images unless another number is asked for, or fewer where there are fewer test images
POINTS = 10_000  # of other points
REFERENCE = 10_000  # real images whose features stand for the data's law


class Split(NamedTuple):
    """Real images in bytes: those to compare with, and others of the same law; provenance: how these were found."""

    train: Examples
    test: Examples
    provenance: str


def split(dataset: Dataset, labels: np.ndarray | None) -> Split:
    """The images for training and for tests, of these labels alone where there are any, mirror images among the first.

    Where there is no test split, a fifth of the images is set apart: the run has seen it, the classifier has not. Raises
    UserError for a label without images.
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
        train, test = of_labels(train, labels, "those for training"), of_labels(test, labels, "those for tests")
    return Split(train, test, provenance)


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


def real_beside(found: Split, n: int, labels: np.ndarray | None) -> Real:
    """What n samples, of labels (n,) where they have any, are judged beside. Raises UserError for too few real images."""
    rows = proportioned(found.test, n, labels)
    if len(rows) < n:
        raise UserError(
            f"n is {n}, but beside so many samples as many real test images are judged, of the same labels; there are"
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


def usual_number(dataset: Dataset, labels: np.ndarray | None = None) -> int:
    """Samples, where none were asked for: as many as there are test images, at most 2000; 10,000 of other points."""
    if not dataset.in_bytes(dataset.load()):
        return POINTS
    test = split(dataset, None).test
    return max(1, most(test, IMAGES, labels if test.y is not None else None))
