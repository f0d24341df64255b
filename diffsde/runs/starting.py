"""What is decided before samples are drawn: the grid for the data at hand, where they start, how many steps they take."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset
from diffsde.errors import UserError
from diffsde.fields import Field, NetworkField
from diffsde.runs import progress
from diffsde.samplers import Grid, LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.grids import AutoGrid, ListGrid
from diffsde.samplers.loop import prior
from diffsde.samplers.ode import Heun
from diffsde.solver_error import TOLERATED, SamplingPlan, data_stds
from diffsde.solver_remedies import resolve_grid, solver_error
from diffsde.stability import finite_velocity
from diffsde.step_choice import MOST, Trial, choose_steps, quiet
from diffsde.types import Array, Key, on_device

TRIAL_POINTS, TRIAL_NUMBERS = (
    64,
    8192,
)  # of a trial of steps: points, or fewer of many coordinates, so many numbers, ...
DATA = 2**31 - 1  # folded into the key for the data's draws: no sample has this index
TRIAL_LEAST = 4  # ... but at least so many points


def stds_of(dataset: Dataset) -> tuple[float, ...]:
    """The data's stds (solver_error.data_stds); none where the data is not here."""
    try:
        return data_stds(dataset, jax.random.key(0))
    except UserError:
        return ()


def stds_met(field: Field, dataset: Dataset) -> tuple[float, ...]:
    """stds_of the dataset; of a network that was trained on points in units of their stds what it was trained with, so that
    its samples are the same when the file has other points by now.
    """
    while (inner := getattr(field, "field", None)) is not None:  # of a guided one
        field = inner
    if isinstance(field, NetworkField) and dataset.scaling(field.shape) is not None:
        return (float(field.moments.std),)
    return stds_of(dataset)


def choose_grid(grid: Grid, field: Field, stds: tuple[float, ...]) -> Grid:
    """The grid, `auto` decided for data of these stds; field: bound to what it may not do without."""
    if not isinstance(grid, AutoGrid):
        return grid
    return resolve_grid(grid, field.path, stds, "mean" if finite_velocity(field, grid.end) else "denoise")


def default_solver_error(field: Field, dataset: Dataset) -> str | None:
    """solver_error of `diffsde sample` with its defaults, of a field on this dataset."""
    stds, last = stds_of(dataset), "mean" if finite_velocity(field, 1.0) else "denoise"
    how = SamplingPlan(Heun(), resolve_grid(AutoGrid(), field.path, stds, last), MOST, last)
    return solver_error(how._replace(steps=choose_steps(how, field.path, stds, None).steps), field.path, stds)


def fixed_steps(sampler: Sampler, grid: Grid, asked: int | None) -> int | None:
    """The number of steps where the user, or a grid of its own times, says it, or the sampler takes its own; None: it is to be
    chosen.
    """
    if asked is not None:
        return asked
    if isinstance(grid, ListGrid):
        return len(grid.times) - 1
    return 1 if sampler.adaptive else None


def trial_points(shape: tuple[int, ...]) -> int:
    """How many points a trial of steps takes through the field."""
    return max(TRIAL_LEAST, min(TRIAL_POINTS, TRIAL_NUMBERS // math.prod(shape)))


def trial_starts(field: Field, dataset: Dataset, start: float, count: int, labels: Array | None) -> Array:
    """Points for a trial, which no seed changes: N(0, beta^2) by numpy, which takes no program, inside the path p_t."""
    if start:
        return starting_points(field, dataset, start, jax.random.key(0), count, labels)[0]
    normal = np.random.default_rng(0).normal(size=(count, *field.shape))
    return on_device(float(field.path.beta(start)) * normal, float)


def trial_of(sampler: Sampler, field: Field, grid: Grid, last: str, x0: Array, condition: Any) -> Trial | None:
    """The trial of steps on a field from these points, by one program for every number; None where there can be none."""
    plain = quiet(sampler)
    if plain is None:
        return None

    def trial(steps: int) -> np.ndarray:
        at = np.pad(np.asarray(times(grid, steps, field.path)), (0, 2 * MOST - steps), mode="edge")
        policy = "step" if last == "mean" else last
        count = np.asarray(steps, np.int32)
        key = jax.random.key(0)
        return np.asarray(
            simulate_compiled(plain, field, x0, at, key, condition, count, LoopSettings(policy, chunk=len(x0))).x
        )

    return trial


def starting_points(
    field: Field, dataset: Dataset, start: float, key: Key, n: int, labels: Array | None
) -> tuple[Array, str | None]:
    """n points (n, *shape): N(0, beta^2) at t = 0, inside the path p_t of the data, given their labels where there are any;
    and why not p_t, where the data is not here.
    """
    at = on_device(start, float)
    if start == 0:
        return prior(field.path, at, field.shape, key, n), None
    try:
        z = jnp.asarray(dataset.draw_by_index(dataset.load(), jax.random.fold_in(key, DATA), n, labels), float)
    except UserError as error:
        return prior(field.path, at, field.shape, key, n), str(error)
    return prior(field.path, at, field.shape, key, n, z), None


def warn_of_start(field: Field, dataset: Dataset, start: float, absent: str | None, other_law: str | None) -> None:
    """Say what data that is not here (`absent`), or what makes the field's law another than the data's (`other_law`), changes,
    where the start knows enough of the data for it to matter.
    """
    if absent is not None:
        progress.warn(
            f"grid.start: samples start at t={start:g} from N(0, beta^2) and not from p_t, as the data is not here ({absent})"
        )
    elif other_law and start:
        signal = float(field.path.alpha(start) / field.path.beta(start))
        if signal * float(dataset.moments(dataset.load(), jax.random.key(0)).std) > TOLERATED:
            progress.warn(
                f"grid.start: samples start at t={start:g} from p_t of the data, which is not that of a field {other_law};"
                " start at 0"
            )
