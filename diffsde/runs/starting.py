"""What is settled before samples are drawn: the grid for the data at hand, where they start, and what their steps do to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diffsde.datasets import Dataset
from diffsde.errors import UserError
from diffsde.fields import Field, NetworkField
from diffsde.rails import finite_velocity
from diffsde.runs import report
from diffsde.samplers import Grid
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.ode import Heun
from diffsde.samplers.starts import draw_data, prior
from diffsde.solver_error import TOLERATED, Steps, data_stds
from diffsde.solver_remedies import resolve_grid, solver_error
from diffsde.types import Array, Key


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


def settle_grid(grid: Grid, field: Field, stds: tuple[float, ...]) -> Grid:
    """The grid, `auto` decided for data of these stds; field: bound to what it may not do without."""
    if not isinstance(grid, AutoGrid):
        return grid
    return resolve_grid(grid, field.path, stds, "mean" if finite_velocity(field, grid.end) else "denoise")


def default_solver_error(field: Field, dataset: Dataset) -> str | None:
    """solver_error of `diffsde sample` with its defaults, of a field on this dataset."""
    stds, last = stds_of(dataset), "mean" if finite_velocity(field, 1.0) else "denoise"
    grid = resolve_grid(AutoGrid(), field.path, stds, last)
    return solver_error(Steps(Heun(), grid, Heun.default_steps, last), field.path, stds)


def starting_points(
    field: Field, dataset: Dataset, start: Array, key: Key, n: int, labels: Array | None, other_law: str | None
) -> Array:
    """n points (n, *shape): N(0, beta^2) at t = 0, inside the path p_t of the data, given their labels where there are any.

    other_law: what makes the field's law another than the data's, where something does. What that, or data that is not
    here, changes is said where the start knows enough of the data for it to matter.
    """
    t = float(start)
    if t == 0:
        return prior(field.path, start, field.shape, key, n)
    signal = float(field.path.alpha(start) / field.path.beta(start))
    try:
        arrays = dataset.load()
        matters = signal * float(dataset.measure(arrays, key).std) > TOLERATED
        z = draw_data(dataset, arrays, key, n, labels)
    except UserError as error:
        report.warn(
            f"grid.start: samples start at t={t:g} from N(0, beta^2) and not from p_t, as the data is not here ({error})"
        )
        return prior(field.path, start, field.shape, key, n)
    if other_law and matters:
        report.warn(
            f"grid.start: samples start at t={t:g} from p_t of the data, which is not that of a field {other_law}; start at 0"
        )
    return prior(field.path, start, field.shape, key, n, jnp.asarray(z, float))
