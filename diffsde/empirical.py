"""The law of a finite data set: equal atoms, whose path is a mixture of as many Gaussians and whose field is known exactly.

It is what a network that fits its training data perfectly would learn, and samples from it are the training data.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diffsde.types import Array, Coefficients, Prediction

CHUNK = 256  # points at a time: what is held for n samples is (n, CHUNK), whatever the number of points


def arrange(points: Array) -> Array:
    """N points (N, *shape), flattened, cut in chunks and padded with zeros: (chunks, CHUNK, d)."""
    flat = jnp.asarray(points).reshape(len(points), -1)
    return jnp.pad(flat, ((0, -len(flat) % CHUNK), (0, 0))).reshape(-1, CHUNK, flat.shape[1])


def posterior(
    chunks: Array, count: int, x: Array, c: Coefficients, log_weights: Array | None = None
) -> tuple[Array, Array]:
    """E[z | x_t = x] (d,) and log p_t(x) of `count` points in chunks, for one point x (d,), a chunk after another.

    With w_i proportional to exp(l_i - |x - alpha z_i|^2/(2 beta^2)):  E[z|x] = sum w_i z_i.  NaN where beta = 0.
    The points have weights proportional to exp(l_i), log_weights (chunks, CHUNK); None: equal ones.
    """
    places = jnp.arange(chunks.shape[0] * CHUNK).reshape(-1, CHUNK)
    if log_weights is None:
        log_total = jnp.log(count)
        log_weights = jnp.zeros(places.shape, x.dtype)
    else:
        log_total = jax.scipy.special.logsumexp(jnp.where(places < count, log_weights, -jnp.inf))

    @jax.checkpoint  # a derivative in x holds what is carried, not the distances of every chunk
    def add(
        carry: tuple[Array, Array, Array], part: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        highest, total, weighted = carry
        z, place, log_weight = part
        logs = log_weight - jnp.sum((x - c.alpha * z) ** 2, axis=-1) / (2 * c.beta**2)
        logs = jnp.where(place < count, logs, -jnp.inf)
        top = jnp.maximum(highest, jnp.max(logs))
        old, new = jnp.exp(highest - top), jnp.exp(logs - top)
        return (top, total * old + jnp.sum(new), weighted * old + new @ z), None

    start = jnp.asarray(-jnp.inf, x.dtype), jnp.zeros((), x.dtype), jnp.zeros_like(x)
    (top, total, weighted), _ = jax.lax.scan(add, start, (chunks, places, log_weights))
    log_density = top + jnp.log(total) - log_total - x.size / 2 * jnp.log(2 * jnp.pi * c.beta**2)
    return weighted / total, log_density


def predict(chunks: Array, count: int, x: Array, c: Coefficients, log_weights: Array | None = None) -> Prediction:
    """The exact E[z|x], E[eps|x], u_t(x) and grad log p_t(x) for one point x (d,): those of mixtures.predict with S_k = 0.

    score = -(x - alpha E[z|x])/beta^2,  u = dalpha E[z|x] - beta dbeta score: infinite where beta = 0, at the atoms.
    """
    data, _ = posterior(chunks, count, x, c, log_weights)
    score = -(x - c.alpha * data) / c.beta**2
    return Prediction(data, -c.beta * score, c.dalpha * data - c.beta_dbeta * score, score)
