"""The density p_t of x_t on pixels: exact where its ends are mixtures or a finite set and noise, else counted."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from diffsde import mixtures
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array

ATOMS = 20_000  # points of a finite set, at most, whose p_t is summed exactly
SMOOTHED = 2  # pixels of a bin of counts on a line, and the std in pixels by which counts in the plane are smoothed


class Atoms(NamedTuple):
    """A finite set of points: where they are as a picture shows alpha z (N, k), their weights (N,), and the stds (k,) that
    noise of std 1 has in the shown coordinates.
    """

    places: np.ndarray
    weights: np.ndarray
    stds: np.ndarray


def mixture_density(
    mixture: Mixture, path: GaussianPath, times: np.ndarray, edges: list[np.ndarray], source: Mixture | None = None
) -> np.ndarray:
    """p_t (m, rows, columns) at the middles of pixels for mixture data, at times (m,); in one dimension (m, columns).

    edges: those of the pixels along each of the one or two coordinates. source: the law at t = 0, independent; None: noise.
    """
    middles = [(each[1:] + each[:-1]) / 2 for each in edges]
    grid = np.stack(np.meshgrid(*middles), axis=-1).astype(mixture.means.dtype)
    found = _density(mixture, path, grid.reshape(-1, len(edges)), times.astype(mixture.means.dtype), source)
    return np.asarray(found, np.float64).reshape(len(times), *grid.shape[:-1])


@jax.jit
def _density(mixture: Mixture, path: GaussianPath, grid: Array, times: Array, source: Mixture | None) -> Array:
    """p_t (m, k) for mixture data, at times (m,) and places (k, d)."""

    def at(t: Array) -> Array:
        c = coefficients(path, t)
        law = mixtures.marginal(mixture, c) if source is None else mixtures.between(source, mixture, c)
        return jnp.exp(jax.vmap(lambda x: mixtures.log_prob(law, x))(grid))

    return jax.lax.map(at, times)


def atoms_density(atoms: Atoms, beta: float, edges: list[np.ndarray]) -> np.ndarray:
    """The means of p_t over pixels, (rows, columns) or (columns,), where beta > 0: sums of products of Gaussian integrals,
    so that none is missed between pixels however narrow.
    """
    along = []
    for i, each in enumerate(edges):
        std = max(beta * atoms.stds[i], 1e-9 * (each[-1] - each[0]))  # a constant column has no noise
        below = np.asarray(ndtr((each[:, None] - atoms.places[:, i]) / std), np.float64)
        along.append(np.diff(below, axis=0) / np.diff(each)[:, None])
    return along[0] @ atoms.weights if len(edges) == 1 else (along[1] * atoms.weights) @ along[0].T


def counted(points: np.ndarray, edges: list[np.ndarray], weights: np.ndarray | None = None) -> np.ndarray:
    """A density estimate of points (n, k) on pixels, (columns,) or (rows, columns): counts in bins of SMOOTHED pixels on a line,
    and counts smoothed by a Gaussian in the plane.
    """
    share = np.full(len(points), 1 / len(points)) if weights is None else weights
    if len(edges) == 1:
        bins = edges[0][::SMOOTHED]
        counts, _ = np.histogram(points[:, 0], bins, weights=share)
        return np.repeat(counts / np.diff(bins), SMOOTHED)
    counts, *_ = np.histogram2d(points[:, 1], points[:, 0], edges[::-1], weights=share)
    kernel = np.exp(-((np.arange(-3 * SMOOTHED, 3 * SMOOTHED + 1) / SMOOTHED) ** 2) / 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel / kernel.sum(), "same")
    return counts / np.outer(np.diff(edges[1]), np.diff(edges[0]))
