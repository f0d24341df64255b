"""The sliced 2-Wasserstein distance: W2 on many lines, where sorting is optimal, for sets of any size."""

from __future__ import annotations

import numpy as np

from diffsde.metrics.distances import Transport

DIRECTIONS = 128


def sliced(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Transport:
    """SW2^2, the mean over 128 random directions of W2^2 between the projections of x and y (n, *shape), and its error.

    On a line the dual potential u of the one law has u' = 2 (x - T(x)), T the monotone map to the other. SW2^2 scatters about its
    own mean by sqrt(Var u/n + Var v/n) with the potentials averaged over the directions at each point.
    """
    n = len(x)
    x, y = (each.reshape(n, -1).astype(np.float64) for each in (x, y))
    directions = np.random.default_rng(seed).normal(size=(DIRECTIONS, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cost, potentials = 0.0, np.zeros((2, n))
    for direction in directions:
        along = np.stack([x @ direction, y @ direction])
        order = np.argsort(along, axis=1)
        ends = np.take_along_axis(along, order, axis=1)
        cost += float(np.mean((ends[0] - ends[1]) ** 2)) / len(directions)
        for own, sign in ((0, 1), (1, -1)):
            slope = sign * 2 * (ends[0] - ends[1])
            steps = (slope[1:] + slope[:-1]) / 2 * np.diff(ends[own])
            potentials[own, order[own]] += np.append(0.0, np.cumsum(steps)) / len(directions)
    return Transport(cost, float(np.sqrt(potentials.var(axis=1).sum() / n)))
