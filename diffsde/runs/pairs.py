"""Pairs (y, z) of source and data: drawn independently, or points of one end and where a field carries each of them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax

from diffsde.couplings.pairs import HELD_OUT, PairSet, pair_set
from diffsde.datasets import Dataset
from diffsde.ensembles import member
from diffsde.fields import Field, bound
from diffsde.interpolants import Backward
from diffsde.runs.starting import choose_grid, stds_of
from diffsde.samplers import LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import AutoGrid, UniformGrid
from diffsde.samplers.loop import prior_from
from diffsde.samplers.ode import Heun
from diffsde.samplers.sde import EulerMaruyama
from diffsde.stability import finite_velocity
from diffsde.types import Array, Key

STARTING = 2**31 - 1  # folded into the key for the noise of a path at its beginning


class Ends(NamedTuple):
    """The two laws of a run: source and data, and the arrays of each."""

    source: Dataset
    source_arrays: Any
    dataset: Dataset
    arrays: Any


class Carrying(NamedTuple):
    """How points are carried from end to end: in so many steps along a field's ODE, or with sigma > 0 its SDE; backward: from the data."""

    steps: int
    sigma: float = 0.0
    backward: bool = False


@partial(jax.jit, static_argnames="count")
def draw_labelled(dataset: Dataset, arrays: Any, key: Key, count: int) -> tuple[Array, Array | None]:
    """`count` points (count, *shape) and their labels (count,), or None."""
    return dataset.draw_labelled(arrays, key, count)


def independent_pairs(ends: Ends, count: int, key: Key) -> PairSet:
    """Points of source and of data, which are not joint: each pair that is drawn of them is of two others."""
    key_source, key_data = jax.random.split(key)
    y, _ = draw_labelled(ends.source, ends.source_arrays, key_source, count)
    z, label = draw_labelled(ends.dataset, ends.arrays, key_data, count)
    return pair_set(y, z, label, joint=False, held_out=HELD_OUT)


def carried_pairs(field: Field, ends: Ends, how: Carrying, count: int, key: Key) -> PairSet:
    """Points of the source and where the field carries them, with labels of the data in their proportions; or backward."""
    key_points, key_path = jax.random.split(key)
    y, z, label, *_ = independent_pairs(ends, count, key_points)
    label = label if field.classes else None
    if how.backward:
        y = carry(Backward(field), z, how, key_path, label)
    else:
        z = carry(field, y, how, key_path, label, stds_of(ends.dataset) if field.gaussian else ())
    return pair_set(y, z, label, held_out=HELD_OUT)


def carry(
    field: Field, x: Array, how: Carrying, key: Key, label: Array | None = None, stds: tuple[float, ...] = ()
) -> Array:
    """Where a field carries points x (n, *shape) of the law at its t = 0 to its t = 1: from beta x + gamma eps, as samples start.
    stds: of the data, for the grid of a Gaussian path.
    """
    sampler: Sampler = EulerMaruyama(Constant(how.sigma)) if how.sigma else Heun()
    one = bound(field, member(label, 0))
    grid = choose_grid(AutoGrid(), one, stds) if field.gaussian else UniformGrid()
    settings = LoopSettings("mean" if finite_velocity(one, grid.end) else "denoise")
    at = times(grid, how.steps, field.path)
    start = prior_from(field.path, at[0], x, jax.random.fold_in(key, STARTING))
    return simulate_compiled(sampler, field, start, at, key, label, None, settings).x
