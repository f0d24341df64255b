"""Squared distances between two sets of points by products of matrices, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ROWS = 512  # points whose distances to all others are held at a time


def squared_distances(x: np.ndarray, y: np.ndarray, ranks_only: bool = False) -> Iterator[tuple[slice, np.ndarray]]:
    """|x|^2 + |y|^2 - 2 x y between x (n, d) and y (m, d): which rows, and (rows, m), in the precision of x and y.

    ranks_only: less |x|^2, which orders y about each x in the same way, by one pass less.
    """
    offset = np.einsum("nd,nd->n", y, y)
    for begin in range(0, len(x), ROWS):
        rows = slice(begin, min(begin + ROWS, len(x)))
        part = x[rows]
        squares = offset - 2 * part @ y.T
        yield rows, squares if ranks_only else squares + np.einsum("nd,nd->n", part, part)[:, None]
