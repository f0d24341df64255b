"""Entropic optimal transport by Sinkhorn's scaling, its potentials in the log domain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FIRST = 0.1  # regularisation that the annealing begins with, times the mean reduced cost
ANNEALING = 0.25  # what the regularisation is multiplied by from a stage to the next
STAGE = 20  # iterations of a stage before the last, and between two looks at the error
MOST_LOG = 50.0  # logarithm of a scaling at which it goes into the potentials
NOTHING = 300.0  # minus the logarithm of a mass that counts as none


class Entropic(NamedTuple):
    """A plan (n, m), of total mass 1 where it is balanced; the sum of |row sums - what they must be| as a share of the mass; and
    how many iterations it took.
    """

    plan: np.ndarray
    error: float
    iterations: int


def entropic(
    costs: np.ndarray, epsilon: float, rho: float | None = None, tolerance: float = 1e-3, most: int = 10_000
) -> Entropic:
    """The plan P that minimises <P, C> + epsilon KL(P | 1/(n m)) with uniform marginals; with rho, of marginals that may differ:
    + rho KL(rows | 1/n) + rho KL(columns | 1/m) instead (1607.05816).

    P_ij = a_i exp((f_i + g_j - C_ij)/epsilon) b_j/(n m). The potentials f, g stay in the log domain; between two looks at the
    error only the scalings a, b change, by products of matrix and vector (1610.06519, stabilised and annealed).
    """
    f = costs.min(axis=1)
    reduced = costs - f[:, None]
    g = reduced.min(axis=0)
    eps = max(epsilon, FIRST * float(reduced.mean() - g.mean()))
    done = 0
    while True:
        last = eps <= epsilon
        f, g, plan, error, took = stage(costs, f, g, eps, rho, tolerance if last else np.inf, most - done)
        done += took
        if last and (error <= tolerance or done >= most):
            return Entropic(plan, error, done)
        eps = max(epsilon, eps * ANNEALING)


def stage(
    costs: np.ndarray, f: np.ndarray, g: np.ndarray, eps: float, rho: float | None, tolerance: float, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
    """Iterations at one regularisation, until the error is below the tolerance or the scalings grow large: the potentials, the
    plan, its error and how many iterations; at least STAGE of them. Every row and column has an f + g - C that is not far below
    0, by the stage before, so that no sum of the kernel vanishes, but where marginals may differ and a point is left out.
    """
    kernel = np.exp((f[:, None] + g - costs) / eps) / costs.size
    power = 1.0 if rho is None else rho / (rho + eps)
    held = [np.exp(np.clip((power - 1) * each / eps, -NOTHING, NOTHING)) for each in (f, g)]
    weights = 1 / costs.shape[0], 1 / costs.shape[1]
    a, b, took, least = np.ones(len(f)), np.ones(len(g)), 0, np.exp(-NOTHING)
    while True:
        for _ in range(STAGE):
            a = held[0] * (weights[0] / np.maximum(kernel @ b, least)) ** power
            b = held[1] * (weights[1] / np.maximum(a @ kernel, least)) ** power
        took += STAGE
        rows = np.maximum(kernel @ b, least)
        error = float(np.sum(np.abs(a - held[0] * (weights[0] / rows) ** power) * rows) / np.sum(a * rows))
        grown = max(np.abs(np.log(a)).max(), np.abs(np.log(b)).max()) > MOST_LOG
        if error <= tolerance or grown or took >= most:
            return f + eps * np.log(a), g + eps * np.log(b), a[:, None] * kernel * b, error, took
