"""How well samples follow a known mixture. Components are weighed by their posterior, so every figure has an exact value."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.types import Array, Scalar


class Values(NamedTuple):
    """Of every sample: log_p (n,) in nats; responsibilities r_k (n, K); squares (n,): sum_k r_k |S_k^-1/2 (x - mu_k)|^2 / d."""

    log_p: Array
    responsibilities: Array
    squares: Array


class MixtureFigures(NamedTuple):
    """cross_entropy in nats and its standard error, NaN for one sample; within_mode_std; mode_weight_kl in nats. All scalars."""

    cross_entropy: Scalar
    cross_entropy_error: Scalar
    within_mode_std: Scalar
    mode_weight_kl: Scalar


@jax.jit
def mixture_values(mixture: mixtures.Mixture, x: Array) -> Values:
    """What the figures of samples x (n, *shape) are means of."""
    x = x.reshape(x.shape[0], -1)
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x)
    squares = jax.vmap(partial(mixtures.standardised_squares, mixture))(x)
    log_p = jnp.asarray(jax.vmap(partial(mixtures.log_prob, mixture))(x))
    return Values(log_p, r, jnp.sum(r * squares, axis=-1) / x.shape[1])


@jax.jit
def mixture_figures(mixture: mixtures.Mixture, x: Array) -> MixtureFigures:
    """For samples x (n, *shape) and their posterior responsibilities r_k under the mixture:

    cross_entropy = -mean log p(x), exactly the entropy for samples of p;
    within_mode_std = sqrt(mean sum_k r_k |S_k^-1/2 (x - mu_k)|^2 / d), exactly 1;
    mode_weight_kl = sum_k q_k log(q_k/w_k), q_k = mean r_k, exactly 0 and for n samples of p about
        sum_k Var(r_k)/(2 n w_k) = (sum_k E_k[r_k] - 1)/(2n), (K-1)/(2n) where no components overlap (see expected_kl).
    """
    values = mixture_values(mixture, x)
    return MixtureFigures(
        cross_entropy=-jnp.mean(values.log_p),
        cross_entropy_error=jnp.std(values.log_p, ddof=1) / jnp.sqrt(x.shape[0]),
        within_mode_std=jnp.sqrt(jnp.mean(values.squares)),
        mode_weight_kl=jnp.sum(jax.scipy.special.rel_entr(jnp.mean(values.responsibilities, axis=0), mixture.weights)),
    )


def kl_error(r: np.ndarray, weights: np.ndarray) -> float | None:
    """The standard error of KL(q | w), q = mean of responsibilities r (n, K); None for n = 1.

    With C = Cov(r): sqrt(g^T C g/n + tr((diag(1/q) C)^2)/(2 n^2)), g = log(q/w). The first is the slope's, the second the
    curvature's, which is all there is where q is about w.
    """
    n, q = len(r), r.mean(axis=0)
    if n < 2:
        return None
    there = q > 0
    r, q, weights = r[:, there], q[there], weights[there]
    c, slope = np.atleast_2d(np.cov(r, rowvar=False)), np.log(q / weights)
    curved = c / q[:, None]
    return float(np.sqrt(max(slope @ c @ slope / n, 0) + np.sum(curved * curved.T) / (2 * n**2)))


def expected_kl(mixture: mixtures.Mixture, n: int) -> tuple[float, float]:
    """mode_weight_kl of n samples of p to first order in 1/n, in nats, and its error: (sum_k E_k[r_k] - 1)/(2n).

    Of q = mean r about w, KL(q | w) = sum_k (q_k - w_k)^2/(2 w_k), whose mean is sum_k Var(r_k)/(2 n w_k); and Var(r_k) =
    E[r_k^2] - w_k^2 with E[r_k^2] = w_k E_k[r_k], as p r_k = w_k N_k.
    """
    found = mixtures.component_overlap(mixture)
    return float(max(found.own.sum() - 1, 0) / (2 * n)), float(np.linalg.norm(found.own_error) / (2 * n))


@jax.jit
def label_probabilities(mixture: mixtures.Mixture, x: Array, labels: Array) -> Array:
    """P(component k_n | x_n) (n,) of samples x (n, *shape), labels k (n,)."""
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x.reshape(x.shape[0], -1))
    return jnp.take_along_axis(r, labels[:, None], axis=1)[:, 0]
