"""Column by column: mean, std and Kolmogorov-Smirnov distance of samples from the data, in the data's own units."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

EXPECTED = math.sqrt(math.pi / 2) * math.log(2)  # the mean of Kolmogorov's law


class Column(NamedTuple):
    """One coordinate of samples beside that of data: means, stds, and ks, with what two true sets of these sizes have on average."""

    mean: float
    data_mean: float
    std: float
    data_std: float
    ks: float
    ks_floor: float


def columns(x: np.ndarray, data: np.ndarray) -> list[Column]:
    """The columns of samples x (n, d) beside those of data (m, d)."""
    floor = EXPECTED * math.sqrt(1 / len(x) + 1 / len(data))
    found = []
    for mine, true in zip(x.astype(np.float64).T, data.astype(np.float64).T, strict=True):
        (mean, std), (data_mean, data_std) = mean_and_std(mine), mean_and_std(true)
        found.append(Column(mean, data_mean, std, data_std, ks(mine, true), min(1.0, floor)))
    return found


def mean_and_std(x: np.ndarray) -> tuple[float, float]:
    """Of numbers (n,); of equal ones that number and 0, where rounding would say otherwise."""
    return (float(x[0]), 0.0) if (x == x[0]).all() else (float(x.mean()), float(x.std()))


def ks(x: np.ndarray, y: np.ndarray) -> float:
    """sup |F_x - F_y| over the distribution functions of two samples (n,), (m,): between 0 and 1, whatever the units."""
    at = np.concatenate([x, y])
    below = (np.searchsorted(np.sort(each), at, side="right") / len(each) for each in (x, y))
    return float(np.abs(next(below) - next(below)).max())
