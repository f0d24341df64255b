"""Unbiased discrepancies between two samples by kernels: the squared MMD and the energy distance, with standard errors."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.metrics.figures import Figure
from diffsde.types import Array, Scalar

# Bandwidths of the MMD's kernel, in root-mean-square distances of two points of the data. Each is half the one before it:
# exp(-r^2/(2 b^2)) of the next is the fourth power of the last.
BANDWIDTHS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
ROWS = 128  # points whose kernels with all others are held at a time
DIRECT = 8  # most coordinates whose differences are squared one by one, as products of matrices lose digits


def mmd_squared(x: np.ndarray, y: np.ndarray, std: float) -> Figure:
    """MMD^2 of samples x and y (n, *shape), for the mean of Gaussian kernels exp(-r^2/(2 b^2)) of five bandwidths b.

    std: of a coordinate of the data, in root mean square: b = std sqrt(2 d) times BANDWIDTHS. Unbiased, so that it
    may be negative, and is 0 on average where the two laws are one (Gretton et al. 2012).
    """
    width = std * math.sqrt(2 * x[0].size)
    return _discrepancy(x, y, width, "gaussian")


def energy_distance(x: np.ndarray, y: np.ndarray) -> Figure:
    """2 E|x - y| - E|x - x'| - E|y - y'| of samples (n, *shape) (Szekely and Rizzo 2013): MMD^2 with the kernel -r; unbiased."""
    return _discrepancy(x, y, 1.0, "distance")


def _discrepancy(x: np.ndarray, y: np.ndarray, width: float, kernel: str) -> Figure:
    """The mean over i /= j of h_ij = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), and its error.

    Var = 4 zeta_1/n + 2 zeta_2/n^2, zeta_1 the variance of E_j h_ij over i, and zeta_2 that of h: the first is 0 where the
    two laws are one, and the second is all there is (Hoeffding 1948). The rows' means scatter by zeta_1 + zeta_2/n. As no
    estimate of zeta_1 is taken below 0, the error is a quarter too large where the two laws are one.
    """
    n = len(x)
    both = np.stack([x, y]).reshape(2, n, -1).astype(np.float64)
    both = ((both - both.mean(axis=(0, 1))) / width).astype(np.float32)  # centred: float32 has few digits
    means, squares = (np.asarray(each, np.float64) for each in _rows(*both, kernel=kernel))
    value, second = means.mean(), max(squares.mean() - means.mean() ** 2, 0.0)
    first = max(means.var(ddof=1) - second / n, 0.0)
    return Figure(float(value), math.sqrt(4 * first / n + 2 * second / n**2), points=n)


@partial(jax.jit, static_argnames="kernel")
def _rows(x: Array, y: Array, kernel: str) -> tuple[Array, Array]:
    """The means over j /= i of h_ij and of h_ij^2, each (n,), for x, y (n, d)."""
    n = len(x)

    def between(a: Array, others: Array) -> Array:
        if x.shape[1] <= DIRECT:
            return sum(((a[i] - others[:, i]) ** 2 for i in range(x.shape[1])), jnp.zeros(n))
        return jnp.maximum(a @ a + jnp.sum(others**2, axis=1) - 2 * others @ a, 0)

    def values(squares: Array) -> Array:
        if kernel == "distance":
            return -jnp.sqrt(squares)
        each, total = jnp.exp(-squares / 2), jnp.zeros(())
        for i in range(len(BANDWIDTHS)):
            total = total + each
            each = each**4 if i + 1 < len(BANDWIDTHS) else each
        return total / len(BANDWIDTHS)

    def of_point(i: Array) -> tuple[Scalar, Scalar]:
        a, b = x[i], y[i]
        h = values(between(a, x)) + values(between(b, y)) - values(between(a, y)) - values(between(b, x))
        h = jnp.where(jnp.arange(n) == i, 0.0, h)
        return jnp.sum(h) / (n - 1), jnp.sum(h**2) / (n - 1)

    return jax.lax.map(of_point, jnp.arange(n), batch_size=ROWS)
