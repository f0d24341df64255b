"""Training examples between consecutive snapshots: their two ends, and their times."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from diffsde.objectives import Problem, time_within
from diffsde.objectives.objective import SHORT
from diffsde.types import Array, Key


def draw_consecutive(laws: tuple[Array, ...], key: Key, count: int) -> tuple[Array, Array, Array]:
    """(y, z, interval): points y (count, d) of one snapshot and z of the next, not coupled, and the number (count,) of the interval
    between the two. laws: the points (n_k, d) of each snapshot.

    The intervals take turns, row by row, so that any run of rows has as many of each, but for one.
    """
    intervals = len(laws) - 1
    interval = jnp.arange(count) % intervals
    y, z = (jnp.zeros((count, *laws[0].shape[1:]), laws[0].dtype) for _ in range(2))
    for k, key_k in enumerate(jax.random.split(key, intervals)):
        here = jnp.arange(k, count, intervals)
        ends = []
        for law, key_end in zip(laws[k : k + 2], jax.random.split(key_k), strict=True):
            ends.append(law[jax.random.randint(key_end, here.shape, 0, len(law))])
        y, z = y.at[here].set(ends[0]), z.at[here].set(ends[1])
    return y, z, interval


def times_within(problem: Problem, interval: Array, u: Array, key: Key) -> Array:
    """Times t (count,) in the intervals (count,) of the rows, from uniforms u (count,).

    Where those are stratified, one in each of `count` cells, every K-th is of one interval; one shift for all lets each be anywhere.
    """
    v = (u + jax.random.uniform(key)) % 1 if problem.time.stratified else u
    return jnp.asarray(jax.vmap(partial(time_within, problem))(interval, jnp.clip(v, SHORT, 1 - SHORT)))
