"""A small network that learns to tell two samples apart, for the classifier two-sample test (1610.06545)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.metrics.figures import Figure, share_figure
from diffsde.optimizers import AdamW
from diffsde.types import Array, Key

WIDTH, STEPS, BATCH = 64, 1000, 256
LR = 3e-3

LAYERS = ("first", "second", "head")

Params = dict[str, Array]


def held_out_accuracy(x: np.ndarray, y: np.ndarray, key: Key) -> Figure:
    """The share of held-out points whose set is told right, with Wilson's interval: 0.5 where the two laws are one.

    Of both sets (n, *shape) one half, chosen by the key, trains a network of two hidden layers of 64; the other half is held out.
    """
    n, key_rows, key_fit = len(x), *jax.random.split(key)
    both = np.stack([x, y]).reshape(2, n, -1)
    both = ((both - both.mean(axis=(0, 1))) / np.maximum(both.std(axis=(0, 1)), 1e-12)).astype(np.float32)
    rows = np.asarray(jax.random.permutation(key_rows, n))
    seen, held = both[:, rows[: n // 2]], both[:, rows[n // 2 :]]
    params = _fit(jnp.asarray(seen), key_fit)
    scores = np.asarray(jax.vmap(jax.vmap(partial(_score, params)))(jnp.asarray(held)))
    return share_figure(np.concatenate([scores[0] < 0, scores[1] >= 0]))


def _score(params: Params, x: Array) -> Array:
    """The logit () of a point (d,) to be of the second set."""
    for layer in LAYERS:
        x = x @ params[f"{layer}/kernel"] + params[f"{layer}/bias"]
        x = x if layer == LAYERS[-1] else jax.nn.gelu(x)
    return x[0]


@jax.jit
def _fit(seen: Array, key: Key) -> Params:
    """The parameters after training on points seen (2, n, d) of both sets."""
    key_start, key_rows = jax.random.split(key)
    sizes = (seen.shape[2], WIDTH, WIDTH, 1)
    params = {}
    for key, layer, a, b in zip(jax.random.split(key_start, 3), LAYERS, sizes, sizes[1:], strict=False):
        params[f"{layer}/kernel"] = jax.random.normal(key, (a, b)) * jnp.sqrt(2 / a)
        params[f"{layer}/bias"] = jnp.zeros(b)
    optimizer = AdamW(lr=LR, warmup=50.0, weight_decay=1e-3).transform(float(STEPS))

    def loss(params: Params, batch: Array) -> Array:
        logits = jax.vmap(jax.vmap(partial(_score, params)))(batch)
        return jnp.mean(jax.nn.softplus(logits[0])) + jnp.mean(jax.nn.softplus(-logits[1]))

    def step(i: Array, state: tuple[Params, Any]) -> tuple[Params, Any]:
        rows = jax.random.randint(jax.random.fold_in(key_rows, i), (2, BATCH), 0, seen.shape[1])
        batch = jnp.take_along_axis(seen, rows[..., None], axis=1)
        updates, opt_state = optimizer.update(jax.grad(loss)(state[0], batch), state[1], state[0])
        return jax.tree.map(jnp.add, state[0], updates), opt_state

    return jax.lax.fori_loop(0, STEPS, step, (params, optimizer.init(params)))[0]
