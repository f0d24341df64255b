"""Optimal transport between two samples: the Wasserstein distances, exact by assignment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST = 512  # points a side whose assignment scipy solves; where two sets differ, 4,096 took it 40 to 50 s
EXACT = 10_000  # points a side that POT's network simplex solves: 27 s, and 800 MB


class Transport(NamedTuple):
    """The least mean cost of a pairing of two sets, and its standard error; None by scipy, which gives no potentials."""

    cost: float
    error: float | None


def transport(x: np.ndarray, y: np.ndarray, power: int = 2) -> Transport:
    """min over pairings of mean |x_i - y_pair(i)|^power, of sets of equally many points (n, *shape): W_power^power, exactly.

    By scipy up to 512 points, by POT beyond. With the dual potentials u, v the cost is mean u + mean v, and it scatters about
    its own mean by sqrt(Var u/n + Var v/n) (del Barrio and Loubes 2019), or by less, where the two laws are one.
    """
    from scipy.spatial.distance import cdist  # here: half a second that other commands need not wait for

    n = len(x)
    costs = cdist(x.reshape(n, -1), y.reshape(n, -1), {1: "euclidean", 2: "sqeuclidean"}[power])
    if n <= MOST:
        from scipy.optimize import linear_sum_assignment

        return Transport(float(costs[linear_sum_assignment(costs)].mean()), None)
    import ot  # POT, of the extra `ot`

    each = np.full(n, 1 / n)
    cost, found = ot.emd2(each, each, costs, numItermax=10**9, log=True)
    return Transport(float(cost), float(np.sqrt((np.var(found["u"]) + np.var(found["v"])) / n)))


def w1(x: np.ndarray, y: np.ndarray) -> float:
    """The 1-Wasserstein distance between two samples (n, *shape) by exact assignment, on the first 512 of each."""
    n = min(len(x), len(y), MOST)
    return transport(x[:n], y[:n], 1).cost


def w2(x: np.ndarray, y: np.ndarray) -> float:
    """The 2-Wasserstein distance between two samples (n, *shape) by exact assignment, on the first 512 of each."""
    n = min(len(x), len(y), MOST)
    return float(np.sqrt(transport(x[:n], y[:n]).cost))
