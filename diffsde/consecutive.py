"""Training examples between consecutive snapshots: their two ends, and their times."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.objectives import Problem, time_within
from diffsde.objectives.objective import SHORT
from diffsde.types import Array, Key, on_device


class Stacked(NamedTuple):
    """Snapshots one after another: points x (N, d), and the first row (K + 1,) and the number of rows (K + 1,) of each."""

    x: Array
    first: Array
    size: Array


def in_one(laws: tuple[Array, ...]) -> Stacked:
    """The points (n_k, d) of each snapshot in one array."""
    sizes = np.array([len(law) for law in laws], np.int32)
    return Stacked(jnp.concatenate(laws), on_device(np.cumsum(sizes) - sizes), on_device(sizes))


def draw_consecutive(laws: Stacked, key: Key, count: int) -> tuple[Array, Array, Array]:
    """(y, z, interval): points y (count, d) of one snapshot and z of the next, not coupled, and the number (count,) of the interval
    between the two.

    The intervals take turns, row by row, so that any run of rows has as many of each, but for one.
    """
    interval = jnp.arange(count) % (len(laws.size) - 1)
    which = jnp.stack([interval, interval + 1])
    rows = laws.first[which] + jax.random.randint(key, which.shape, 0, laws.size[which])
    return laws.x[rows[0]], laws.x[rows[1]], interval


def times_within(problem: Problem, interval: Array, u: Array, key: Key) -> Array:
    """Times t (count,) in the intervals (count,) of the rows, from uniforms u (count,).

    Where those are stratified, one in each of `count` cells, every K-th is of one interval; one shift for all lets each be anywhere.
    """
    v = (u + jax.random.uniform(key)) % 1 if problem.time.stratified else u
    return jnp.asarray(jax.vmap(partial(time_within, problem))(interval, jnp.clip(v, SHORT, 1 - SHORT)))
