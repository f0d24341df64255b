"""The training points nearest to a sample: whether it is new, or one of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.datasets.dataset import FiniteDataset, as_points, mirrored

PART = 1 << 20  # numbers compared with a sample at a time


class Nearest(NamedTuple):
    """points (n, k, *shape), nearest first, and their distances (n, k)."""

    points: np.ndarray
    distances: np.ndarray


def nearest(x: np.ndarray, dataset: FiniteDataset, points: np.ndarray, k: int) -> Nearest:
    """The k points (fewer of fewer) with the least |x - z|, over all numbers of a point, for each x (n, *shape).

    points (N, *shape) are floats or bytes, as `load` gives them; their mirror images count where the dataset draws them.
    By brute force from differences, part after part: equal points are at 0, and memory does not grow with N.
    """
    n, flat = len(x), x.reshape(len(x), 1, -1).astype(np.float64)
    squares, found = np.full((n, 0), np.inf), np.zeros((n, 0, *x.shape[1:]))
    rows = max(1, PART // flat[0].size)
    for begin in range(0, len(points), rows):
        part = np.asarray(as_points(points[begin : begin + rows]), np.float64)
        for each in [part, mirrored(part)] if dataset.flip else [part]:
            here = np.stack([np.sum((one - each.reshape(len(each), -1)) ** 2, axis=1) for one in flat])
            first = np.argsort(here, axis=1, kind="stable")[:, :k]
            squares = np.concatenate([squares, np.take_along_axis(here, first, 1)], axis=1)
            found = np.concatenate([found, each[first]], axis=1)
            best = np.argsort(squares, axis=1, kind="stable")[:, :k]
            squares = np.take_along_axis(squares, best, 1)
            found = np.stack([one[order] for one, order in zip(found, best, strict=True)])
    return Nearest(found, np.sqrt(squares))
