"""How well samples follow a known mixture. Components are weighed by their posterior, so every figure has an exact value."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffsde import mixtures
from diffsde.types import Array, Scalar


class MixtureFigures(NamedTuple):
    """cross_entropy in nats and its standard error; within_mode_std; mode_weight_kl in nats. All scalars."""

    cross_entropy: Scalar
    cross_entropy_error: Scalar
    within_mode_std: Scalar
    mode_weight_kl: Scalar


@jax.jit
def mixture_figures(mixture: mixtures.Mixture, x: Array) -> MixtureFigures:
    """For samples x (n, *shape) and their posterior responsibilities r_k under the mixture:

    cross_entropy = -mean log p(x), exactly the entropy for samples of p;
    within_mode_std = sqrt(mean sum_k r_k |S_k^-1/2 (x - mu_k)|^2 / d), exactly 1;
    mode_weight_kl = sum_k q_k log(q_k/w_k), q_k = mean r_k, exactly 0 and about (K-1)/(2n) for n samples of p.
    """
    x = x.reshape(x.shape[0], -1)
    log_p = jax.vmap(partial(mixtures.log_prob, mixture))(x)
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x)
    squares = jax.vmap(partial(mixtures.standardised_squares, mixture))(x)
    q = jnp.mean(r, axis=0)
    return MixtureFigures(
        cross_entropy=-jnp.mean(log_p),
        cross_entropy_error=jnp.std(log_p) / jnp.sqrt(x.shape[0]),
        within_mode_std=jnp.sqrt(jnp.mean(jnp.sum(r * squares, axis=-1)) / x.shape[1]),
        mode_weight_kl=jnp.sum(jax.scipy.special.rel_entr(q, mixture.weights)),
    )


@jax.jit
def mean_label_probability(mixture: mixtures.Mixture, x: Array, labels: Array) -> Scalar:
    """The mean over samples x (n, *shape) of P(component k_n | x_n), labels k (n,)."""
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x.reshape(x.shape[0], -1))
    return jnp.mean(jnp.take_along_axis(r, labels[:, None], axis=1))
