"""The data nearest to a sample: whether it is new, or one of them. By products of matrices, thousands in seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.metrics.squared_distances import squared_distances

COLUMNS = 8192  # of the data that are turned from bytes to numbers at a time


class Neighbours(NamedTuple):
    """distances (n, k), the least first, and the indices (n, k) of these points of the data."""

    distances: np.ndarray
    indices: np.ndarray


def nearest(x: np.ndarray, data: np.ndarray, k: int = 1) -> Neighbours:
    """The k points (fewer of fewer) of the data (N, *shape) nearest to each of x (n, *shape), Euclidean.

    Both are bytes or numbers, in the same units. Products of matrices rank the data, in float32, a part after another; the
    distances of those found come from the differences, so that a copy is at 0.
    """
    flat = x.reshape(len(x), -1).astype(np.float32)
    scores, indices = np.zeros((len(x), 0), np.float32), np.zeros((len(x), 0), np.int64)
    for begin in range(0, len(data), COLUMNS):
        part = data[begin : begin + COLUMNS].reshape(-1, flat.shape[1]).astype(np.float32)
        here = min(k, len(part))
        found, at = np.empty((len(x), here), np.float32), np.empty((len(x), here), np.int64)
        for rows, squares in squared_distances(flat, part, ranks_only=True):
            at[rows] = squares.argmin(1)[:, None] if here == 1 else np.argpartition(squares, here - 1)[:, :here]
            found[rows] = np.take_along_axis(squares, at[rows], 1)
        scores, indices = np.concatenate([scores, found], 1), np.concatenate([indices, begin + at], 1)
        best = np.argsort(scores, axis=1, kind="stable")[:, :k]
        scores, indices = np.take_along_axis(scores, best, 1), np.take_along_axis(indices, best, 1)
    distances = np.empty(indices.shape)
    for j in range(indices.shape[1]):
        difference = flat - data[indices[:, j]].reshape(flat.shape)
        distances[:, j] = np.sqrt(np.einsum("nd,nd->n", difference, difference, dtype=np.float64))
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))
