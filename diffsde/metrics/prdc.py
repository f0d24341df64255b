"""Precision, recall, density and coverage of samples, by balls about points that reach to their k-th nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffsde.metrics.squared_distances import squared_distances

MANIFOLD = 3  # neighbours whose distance is the radius of a ball (1904.06991, section 3.1)
COVERAGE = 5  # ... (2002.09797, section 5.1)


class PRDC(NamedTuple):
    """precision and recall (1904.06991, eq. 2), density and coverage (2002.09797, eqs. 3 and 4)."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, generated: np.ndarray) -> PRDC:
    """Of features real (N, d) and generated (M, d), each with more than 5 points; the same computation serves all four.

    A ball about a point reaches to its k-th nearest neighbour among its own kind, k = 3 for precision and recall, 5 for
    the others. precision: the share of generated points in a ball of a real one; recall: the other way round; density: in
    how many balls of real points a generated one lies, over k, 1 on average where the laws agree; coverage: the share of
    real points whose ball holds a generated one, 1 - prod_{i=1..k} (N - i)/(N + M - i) on average where they agree.
    """
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    radii, wide = radii_of(real, (MANIFOLD, COVERAGE))
    (own,) = radii_of(generated, (MANIFOLD,))
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    covered, held = np.zeros(len(real), bool), 0
    for rows, squares in squared_distances(real, generated):
        precise |= (squares <= radii[rows, None]).any(axis=0)
        recalled[rows] = (squares <= own).any(axis=1)
        inside = squares <= wide[rows, None]
        covered[rows] = inside.any(axis=1)
        held += int(inside.sum())
    return PRDC(precise.mean(), recalled.mean(), held / (COVERAGE * len(generated)), covered.mean())


def radii_of(x: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """The squared distance (n,) to the k-th nearest other point, for each k."""
    found = np.empty((len(ks), len(x)))
    for rows, squares in squared_distances(x, x):
        squares[np.arange(len(squares)), np.arange(len(x))[rows]] = np.inf  # itself
        nearby = np.partition(squares, [k - 1 for k in ks], axis=1)
        found[:, rows] = nearby[:, [k - 1 for k in ks]].T
    return list(found)
