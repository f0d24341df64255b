"""Decisions before samples are drawn: the grid for the data, the starting points, the number of steps."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset
from diffsde.datasets.common_scaling import naming_the_source
from diffsde.errors import UserError
from diffsde.fields import Field, NetworkField
from diffsde.interpolants import Backward
from diffsde.learned_interpolant import LearnedInterpolant
from diffsde.paths import GaussianPath
from diffsde.runs import progress
from diffsde.samplers import Grid, LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.grids import AutoGrid, ListGrid
from diffsde.samplers.loop import prior, prior_from
from diffsde.samplers.ode import Heun
from diffsde.solver_error import TOLERATED, FromSource, SamplingPlan, data_stds
from diffsde.solver_remedies import resolve_grid, solver_error
from diffsde.stability import finite_velocity, instability
from diffsde.step_choice import MOST, Trial, choose_steps, quiet
from diffsde.types import Array, Key, on_device

TRIAL_POINTS, TRIAL_NUMBERS = (
    64,
    8192,
)  # most points of a trial of steps, and most numbers in them, ...
DATA = 2**31 - 1  # folded into the key for draws of the data: no sample has this index
SOURCE = 2**31 - 2  # ... and of the source
TRIAL_LEAST = 4  # ... but at least this many points


def stds_of(dataset: Dataset) -> tuple[float, ...]:
    """The data's stds (solver_error.data_stds); () where the data cannot be read."""
    try:
        return data_stds(dataset, jax.random.key(0))
    except UserError:
        return ()


def stds_met(field: Field, dataset: Dataset) -> tuple[float, ...]:
    """stds_of the dataset; for a network trained on scaled points the std of its training data.

    So a trained run's samples do not change when the data's file does.
    () for a flow that follows no path, of which Gaussian data on that path say nothing.
    """
    if not field.follows_path:
        return ()
    inner, backward = inside(field)
    if dataset.scaling(field.shape) is not None:
        if isinstance(inner, LearnedInterpolant):
            return (float((inner.source_moments if backward else inner.moments).std),)
        if isinstance(inner, NetworkField) and not backward:
            return (float(inner.moments.std),)
    return stds_of(dataset)


def inside(field: Field) -> tuple[Field, bool]:
    """The field inside guided ones and ones whose time is turned round; and whether its time is."""
    backward = False
    while (inner := getattr(field, "field", None) or getattr(field, "forward", None)) is not None:
        backward ^= isinstance(field, Backward)
        field = inner
    return field, backward


def choose_grid(grid: Grid, field: Field, stds: tuple[float, ...], path: GaussianPath | None = None) -> Grid:
    """The grid, `auto` resolved for data of the stds; field: with any condition it needs already bound. path: standing_in for
    the field's own; None: that.
    """
    if not isinstance(grid, AutoGrid):
        return grid
    return resolve_grid(grid, path or field.path, stds, "mean" if finite_velocity(field, grid.end) else "denoise")


def default_solver_error(field: Field, dataset: Dataset) -> str | None:
    """The solver_error warning that `diffsde sample` would give with its defaults for a field on the dataset; None: none."""
    stds, last = stds_of(dataset), "mean" if finite_velocity(field, 1.0) else "denoise"
    how = SamplingPlan(Heun(), resolve_grid(AutoGrid(), field.path, stds, last), MOST, last)
    return solver_error(how._replace(steps=choose_steps(how, field.path, stds, None).steps), field.path, stds)


def fixed_steps(sampler: Sampler, grid: Grid, asked: int | None) -> int | None:
    """The number of steps if fixed: by the user, by a list of times, 1 of an adaptive sampler, 1 or 2 jumps; None: to be chosen."""
    if asked is not None:
        return asked
    if isinstance(grid, ListGrid):
        return len(grid.times) - 1
    return 1 if sampler.adaptive else sampler.usual_steps


def trial_points(shape: tuple[int, ...]) -> int:
    """Number of points in a trial of steps, for points of a shape."""
    return max(TRIAL_LEAST, min(TRIAL_POINTS, TRIAL_NUMBERS // math.prod(shape)))


def trial_starts(
    field: Field, dataset: Dataset, start: float, count: int, labels: Array | None, source: Dataset | None = None
) -> Array:
    """Starting points of a trial (count, *shape), whatever the seed: N(0, beta^2 I) from numpy at t = 0, else from p_t."""
    if start or source is not None:
        return starting_points(field, dataset, start, jax.random.key(0), count, labels, source)[0]
    normal = np.random.default_rng(0).normal(size=(count, *field.shape))
    return on_device(float(field.path.beta(start)) * normal, float)


def trial_of(sampler: Sampler, field: Field, grid: Grid, last: str, x0: Array, condition: Any) -> Trial | None:
    """A function steps -> points (count, *shape) simulated from x0; None where the sampler has no noise-free form.

    One compiled program serves all numbers of steps.
    """
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
    field: Field,
    dataset: Dataset,
    start: float,
    key: Key,
    n: int,
    labels: Array | None,
    source: Dataset | None = None,
) -> tuple[Array, str | None]:
    """(n starting points (n, *shape), reason): from N(0, beta^2 I) at t = 0, from p_t of the data with the labels at t > 0; with a
    source from that in the place of N(0, I).

    reason: why the data cannot be read, in which case the points have none of them at t > 0 either; else None. The labels are of
    the data, which backward in time are the source.
    """
    at, z, absent = on_device(start, float), None, None
    backward = isinstance(field, Backward)
    if start:
        try:
            z = drawn_by_index(dataset, jax.random.fold_in(key, DATA), n, None if backward else labels)
        except UserError as error:
            absent = str(error)
    if source is None:
        return prior(field.path, at, field.shape, key, n, z), absent
    with nullcontext() if backward else naming_the_source():
        y = drawn_by_index(source, jax.random.fold_in(key, SOURCE), n, labels if backward else None)
    return prior_from(field.path, at, y, key, z), absent


def drawn_by_index(dataset: Dataset, key: Key, n: int, labels: Array | None) -> Array:
    """n points of a dataset (n, *shape), as floats. Raises UserError where it cannot be read."""
    return jnp.asarray(dataset.draw_by_index(dataset.load(), key, n, labels), float)


def standing_in(field: Field, source: Dataset | None) -> GaussianPath:
    """The path on which Gaussian data stand for the data at hand (solver_error.py): the field's own; between two laws from a
    Gaussian source of the source's std.
    """
    if source is None:
        return field.path
    inner, backward = inside(field)
    if isinstance(inner, LearnedInterpolant):  # which knows it, whether or not the source's files are here
        std = (inner.moments if backward else inner.source_moments).std
    else:
        std = source.moments(source.load(), jax.random.key(0)).std
    return FromSource(field.path, on_device(float(std), float))


def left_over(field: Field, grid: Grid, last: str, stds: tuple[float, ...]) -> str | None:
    """One line where the noise that a path adds is still there at t = 1, and changes a std of the data by more than is tolerated."""
    if not field.path.has_gamma or grid.end < 1 or last == "denoise" or not stds:
        return None
    gamma = float(field.path.gamma(jnp.asarray(1.0)))
    ratio = math.hypot(1, gamma / stds[0])
    if ratio <= 1 + TOLERATED:
        return None
    mend = "last=denoise takes E[z|x]; or " if field.knows_data else ""
    return (
        f"the path ends in noise of std gamma={gamma:.3g}: samples follow the data widened by it, {ratio:.3g} times its"
        f" std of {stds[0]:.3g}; {mend}a path whose gamma is 0 at t=1, e.g. bridge"
    )


def unstable(
    sampler: Sampler, field: Field, grid: Array, last: str, dataset: Dataset, source: Dataset | None
) -> str | None:
    """stability.instability of the data, and between two laws of the source too, where both are thinnest."""
    path = field.path
    if source is not None:
        path = FromSource(path, on_device(math.sqrt(source.least_variance()), float))
    backward = isinstance(field, Backward)
    return instability(sampler, path, grid, last, dataset.least_variance(), field.gaussian, backward)


def warn_of_start(field: Field, dataset: Dataset, start: float, absent: str | None, other_law: str | None) -> None:
    """Warn where the starting points at t = start > 0 do not follow the field's p_t.

    absent: the reason why the data cannot be read, or None. other_law: what makes the field's law differ from the data's,
    or None; a warning only where alpha/beta at the start is large enough to matter.
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
