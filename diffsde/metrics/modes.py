"""Mean and covariance of each mode of samples, weighted by the modes' posterior: exact on average, though modes overlap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.metrics.figures import Figure
from diffsde.types import Array

GROUPS = 20  # of samples, each left out once for the errors
FEWEST = 2.0  # samples, by the sum of their responsibilities, without which a mode is left out


@jax.jit
def _sums(mixture: mixtures.Mixture, x: Array) -> tuple[Array, Array, Array]:
    """Sums over samples x (n, d) of r_k (K,), r_k z_k (K, d) and r_k z_k z_k^T (K, d, d), z_k = S_k^-1/2 (x - mu_k)."""

    def of_one(x: Array) -> tuple[Array, Array, Array]:
        away = x - mixture.means
        if mixture.rotations is not None:
            away = jnp.einsum("kji,kj->ki", mixture.rotations, away)
        z, r = away / jnp.sqrt(mixture.variances), mixtures.responsibilities(mixture, x)
        return r, r[:, None] * z, jnp.einsum("k,ki,kj->kij", r, z, z)

    return jax.tree.map(lambda each: jnp.sum(each, axis=0), jax.vmap(of_one)(x))


def mode_errors(mixture: mixtures.Mixture, x: np.ndarray) -> tuple[dict[str, Figure], int]:
    """mode_mean_error and mode_covariance_error of samples x (n, *shape), and the number of modes with too few samples for them.

    Of samples of the law the r_k-weighted mean is mu_k and the r_k-weighted covariance about mu_k is S_k, whatever overlaps:
    integral p r_k f = w_k integral N_k f. With z = S_k^-1/2 (x - mu_k) the errors are the root mean squares, over modes and
    coordinates, of the mean of z, and over modes of |mean of z z^T - I|_F/sqrt(d). Their errors are by the jackknife.
    """
    n = len(x)
    flat, groups = jnp.asarray(x.reshape(n, -1)), min(GROUPS, n)
    parts = [_sums(mixture, flat[i::groups]) for i in range(groups)]
    counts, means, squares = (np.stack([np.asarray(part[i], np.float64) for part in parts]) for i in range(3))
    there = counts.sum(axis=0) >= FEWEST
    if not there.any():
        return {}, len(there)

    def errors(kept: np.ndarray) -> np.ndarray:
        weight = np.maximum(counts[kept].sum(axis=0)[there], 1e-300)
        mean = means[kept].sum(axis=0)[there] / weight[:, None]
        square = squares[kept].sum(axis=0)[there] / weight[:, None, None] - np.eye(flat.shape[1])
        return np.sqrt([np.mean(mean**2), np.mean(np.sum(square**2, axis=(1, 2))) / flat.shape[1]])

    every = np.arange(groups)
    whole, left = errors(every), np.stack([errors(every != i) for i in every])
    spread = np.sqrt((groups - 1) / groups * np.sum((left - left.mean(axis=0)) ** 2, axis=0))
    names = "mode_mean_error", "mode_covariance_error"
    found = {name: Figure(float(one), float(error)) for name, one, error in zip(names, whole, spread, strict=True)}
    return found, int((~there).sum())
