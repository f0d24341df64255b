"""Autocorrelation of time series: rho(k), the integrated autocorrelation time, and the effective sample size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft

WINDOW = 5.0  # the window is the least M >= WINDOW tau(M) (Sokal 1997)
BLOCKS = 20  # of series, each left out once for the error


class Autocorrelation(NamedTuple):
    """rho (m,): the autocorrelation at lags 0, 1, ...; time: 1 + 2 sum of rho up to `window`, in states; error: of the time.

    resolved: whether the window closed: else the series are too short, and the time is a lower bound.
    """

    rho: np.ndarray
    time: float
    error: float
    window: int
    resolved: bool


def autocovariances(series: np.ndarray, mean: float | None = None) -> np.ndarray:
    """sum_i (x_i - mean)(x_(i+k) - mean)/(m - k) of each series (m, k) at every lag, (m, k); mean: None for that of all."""
    m = len(series)
    centred = series - (series.mean() if mean is None else mean)
    spectrum = fft.rfft(centred, fft.next_fast_len(2 * m), axis=0)
    products = fft.irfft(np.abs(spectrum) ** 2, fft.next_fast_len(2 * m), axis=0)[:m]
    return products / (m - np.arange(m))[:, None]


def autocorrelation(series: np.ndarray, mean: float | None = None) -> Autocorrelation:
    """The autocorrelation of k independent series (m, k) of m equally spaced states, pooled over them.

    The time is summed up to Sokal's window ("Monte Carlo methods in statistical mechanics", 1997, section 3); its error is by
    the jackknife over groups of series, or, for fewer than BLOCKS, Madras and Sokal's (1988, eq. E.11).
    """
    each = autocovariances(np.asarray(series, np.float64), mean)
    m, k = each.shape
    pooled = each.mean(axis=1)
    if not pooled[0] > 0:
        return Autocorrelation(np.ones(m), np.inf, np.nan, 0, False)
    rho = pooled / pooled[0]
    times = 2 * np.cumsum(rho) - 1
    closed = np.arange(m) >= WINDOW * times
    window = int(np.argmax(closed)) if closed.any() else m - 1
    time = float(times[window])
    if k < BLOCKS:
        error = time * float(np.sqrt(2 * (2 * window + 1) / (m * k)))
        return Autocorrelation(rho, time, error, window, bool(closed.any()))
    left = np.stack([each[: window + 1, np.arange(k) % BLOCKS != i].mean(axis=1) for i in range(BLOCKS)])
    without = 2 * (left / left[:, :1]).sum(axis=1) - 1
    error = float(np.sqrt((BLOCKS - 1) / BLOCKS * np.sum((without - without.mean()) ** 2)))
    return Autocorrelation(rho, time, error, window, bool(closed.any()))
