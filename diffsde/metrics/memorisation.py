"""Whether samples are new: the nearest training point of each of thousands, by products of matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROWS = 512  # points whose distances to a part of the data are held at a time
COLUMNS = 8192  # training points that are turned from bytes to numbers at a time


class Neighbours(NamedTuple):
    """distances (n,) to the nearest point, and its index (n,)."""

    distances: np.ndarray
    indices: np.ndarray


def nearest(x: np.ndarray, data: np.ndarray) -> Neighbours:
    """The nearest of the data (N, *shape) to each of x (n, *shape), Euclidean, both bytes or numbers in the same units.

    Products of matrices find it, in float32, a part of the data after another; its distance is then computed from the
    difference, so that a copy is at 0.
    """
    flat = x.reshape(len(x), -1).astype(np.float32)
    best = np.full(len(x), np.inf, np.float32)
    indices = np.zeros(len(x), np.int64)
    for begin in range(0, len(data), COLUMNS):
        part = data[begin : begin + COLUMNS].reshape(-1, flat.shape[1]).astype(np.float32)
        offset = np.einsum("nd,nd->n", part, part)
        for i in range(0, len(x), ROWS):
            rows = slice(i, i + ROWS)
            scores = offset - 2 * flat[rows] @ part.T  # squared distances, less |x|^2
            at = scores.argmin(axis=1)
            found = scores[np.arange(len(at)), at]
            closer = found < best[rows]
            best[rows] = np.where(closer, found, best[rows])
            indices[rows] = np.where(closer, begin + at, indices[rows])
    difference = flat - data[indices].reshape(len(x), -1)
    return Neighbours(np.sqrt(np.einsum("nd,nd->n", difference, difference, dtype=np.float64)), indices)
