"""Figures with their errors: each error is one standard error of the value, and is absent where a single number says nothing."""

from __future__ import annotations

import numpy as np

from diffsde.overlap import Estimate

Figure = dict[str, float]

NEGLIGIBLE = 1e-6  # the error of a reference below which it is called exact: no figure is printed to so many digits


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float | None:
    """Of the mean of values (n,): sqrt(sum (v - mean)^2/(n - 1)/n); None for n = 1.

    groups (n,): of which each value is, where so many of each were dealt and not drawn: then they scatter about their group's
    mean alone, sqrt(sum_g n_g s_g^2)/n; where a group has a single value, as if there were none.
    """
    n = len(values)
    if n < 2:
        return None
    if groups is not None:
        _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if counts.min() > 1:
            rest = values - (np.bincount(index, values) / counts)[index]
            return float(np.sqrt(np.sum(rest**2 * (counts / (counts - 1))[index])) / n)
    return float(np.std(values, ddof=1) / np.sqrt(n))


def with_error(value: float, error: float | None) -> Figure:
    return {"value": float(value)} | ({} if error is None else {"error": float(error)})


def mean_figure(values: np.ndarray, groups: np.ndarray | None = None) -> Figure:
    """The mean of values (n,) and its standard error; groups: see standard_error."""
    return with_error(values.mean(), standard_error(values, groups))


def root_mean_figure(squares: np.ndarray, groups: np.ndarray | None = None) -> Figure:
    """sqrt(mean of squares (n,)), and its error by the slope of the root, the mean's over 2 sqrt(mean)."""
    value, error = float(np.sqrt(squares.mean())), standard_error(squares, groups)
    return with_error(value, None if error is None or value == 0 else error / (2 * value))


def share_figure(hits: np.ndarray) -> Figure:
    """The share p of hits (n,), and half the width of Wilson's interval at one standard deviation (Wilson 1927):
    sqrt(p (1 - p)/n + 1/(4 n^2))/(1 + 1/n), which is not 0 where all or none are hits.
    """
    n, p = len(hits), float(np.mean(hits))
    return {"value": p, "error": float(np.sqrt(p * (1 - p) / n + 1 / (4 * n**2)) / (1 + 1 / n))}


def prefixed(name: str, figure: Figure) -> Figure:
    """A figure as a reference of another: `name` and `name`_error."""
    return {name if key == "value" else f"{name}_{key}": number for key, number in figure.items()}


def reference(known: Estimate) -> Figure:
    """`exact`, where its error is negligible, else `true` with its error."""
    if known.error < NEGLIGIBLE:
        return {"exact": known.value}
    return {"true": known.value, "true_error": known.error}


def paired_error(distances: np.ndarray, sets: float) -> float | None:
    """The standard error of the mean of distances (m,) between m pairs of sets: of the samples, of which only `sets` are
    disjoint, the others being the same points again, and m independent ones of the data. None for m = 1.

    Where each side adds the same variance V, the pairs scatter by s^2 = V (1 + (1 - 1/sets) m/(m - 1)) about their mean, which
    itself scatters by V (1/sets + 1/m): points that are used again count once. That is on the safe side where the sides do not
    add up: of 100 points of the moons in all 8 pairs the error is 1.7 times too large, of 800 in one each it is right.
    """
    m = len(distances)
    if m < 2:
        return None
    sets = min(max(sets, 1.0), m)
    each = np.var(distances, ddof=1) / (1 + (1 - 1 / sets) * m / (m - 1))
    return float(np.sqrt(each * (1 / sets + 1 / m)))
