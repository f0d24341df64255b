"""Pictures at the end of a training run: its loss, and samples of the trained field beside the data."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import to_own
from diffsde.ensembles import member
from diffsde.errors import UserError
from diffsde.fields import bound
from diffsde.pictures.between import Between
from diffsde.pictures.drawn import described_sampler, names_of
from diffsde.pictures.images import CLASSES, SIDE, image_overview, screen_of_images
from diffsde.plots.clouds import Cloud, clouds_in_time, histograms_in_time
from diffsde.plots.loss import loss_curve
from diffsde.plots.style import Extent, escape_formulas, window
from diffsde.runs.starting import choose_grid, standing_in, starting_points, stds_met
from diffsde.runs.train_config import TrainedField
from diffsde.samplers import DPMSolverPP2M, Heun, LoopSettings, Sampler, Saving, simulate_compiled, times
from diffsde.samplers.flow_map import FlowMapJumps
from diffsde.samplers.grids import AutoGrid, UniformGrid
from diffsde.stability import choose_last_step
from diffsde.types import Key

SHOWN = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # times of `marginals`
DRAWN, MARGINAL_STEPS = 10_000, 100  # points in each of its clouds, and steps
LEARNED, LEARNED_STEPS = 64, 25  # samples drawn at the end of training (about), and their number of steps


class TrainedRun(NamedTuple):
    """The inputs of a training run's pictures.

    losses: mean losses, one per `every` steps, the last at `steps`; floor: the irreducible loss, where it is known; held_out:
    validation losses; regrets (lines, 2): step, regret; field: the trained field, if samples of it are drawn; name: the title; between: how
    x_t of the data comes about.
    """

    losses: np.ndarray
    every: int
    steps: int
    floor: float | None
    name: str
    held_out: np.ndarray
    regrets: np.ndarray
    field: TrainedField | None
    dataset: Dataset
    key: Key
    between: Between


def run_loss(run: TrainedRun) -> Figure:
    """The loss of a run along its training."""
    return loss_curve(run.losses, run.every, run.steps, run.floor, run.name, run.held_out, run.regrets)


def run_samples(run: TrainedRun) -> Figure:
    """A few samples by DPM-Solver++(2M) in 25 steps, between two laws by Heun's method, of a flow map by one jump, equally many per
    label: a cheap look at the trained field.
    """
    assert run.field is not None
    sampler: Sampler = DPMSolverPP2M() if run.field.gaussian else Heun()
    steps = LEARNED_STEPS
    if run.field.jumps:
        sampler, steps = FlowMapJumps(), 1
    key_prior, key_noise = jax.random.split(run.key)
    kinds = min(run.field.classes, CLASSES)
    n = kinds * min(SIDE, LEARNED // kinds) if kinds else LEARNED
    condition = jnp.arange(n) % kinds if kinds else None
    grid = times(UniformGrid(), steps, run.field.path)
    last = choose_last_step(sampler, bound(run.field, member(condition, 0)), grid, "auto")
    source = law_at_0(run)
    x0, _ = starting_points(run.field, run.dataset, 0.0, key_prior, n, None, source)
    x = simulate_compiled(sampler, run.field, x0, grid, key_noise, condition, settings=LoopSettings(last)).x
    nfe = sampler.nfe(steps, last)
    shown = screen_of_images(run.dataset, run.dataset.scaling(run.field.shape))(x)
    many = f"{steps} step{'' if steps == 1 else 's'}"
    about = f"{described_sampler(sampler)}, {many}, {nfe:.4g} NFE, path {name_of(run.field.path)}, {run.name}"
    return image_overview(
        {"": shown}, None if condition is None else np.asarray(condition), about, names_of(run.dataset)
    )


def run_marginals(run: TrainedRun) -> Figure:
    """x_t of the data above, samples of the trained field by Heun's method below, at the same times."""
    assert run.field is not None
    field, (key_true, key_start, key_noise) = run.field, jax.random.split(run.key, 3)
    if not field.knows_velocity:
        raise UserError("a model that jumps to t = 1 alone has no x_t on the way there")
    if field.classes:
        raise UserError(
            "the marginals of a conditional run are of a label; diffsde show what=marginals label=... draws them"
        )
    source, sampler = law_at_0(run), Heun()
    placed = choose_grid(AutoGrid(), field, stds_met(field, run.dataset), standing_in(field, source))
    grid = np.asarray(times(placed, MARGINAL_STEPS, field.path))
    wanted = np.clip(SHOWN, *grid[[0, -1]])
    grid = np.unique(np.concatenate([grid, wanted.astype(grid.dtype)]))
    last = choose_last_step(sampler, field, jnp.asarray(grid), "auto")
    x0, _ = starting_points(field, run.dataset, float(grid[0]), key_start, DRAWN, None, source)
    way = simulate_compiled(
        sampler, field, x0, grid, key_noise, settings=LoopSettings(last, saving=Saving(1))
    ).trajectory
    assert way is not None
    scaling = run.dataset.scaling(field.shape)
    at = np.searchsorted(grid, wanted.astype(grid.dtype))
    z = jnp.asarray(run.dataset.draw_given(run.dataset.load(), None, key_true, DRAWN))
    truth = run.between.draws(z, jax.random.fold_in(key_true, 1), jnp.asarray(wanted, float))
    rows = {"data": to_own(scaling, truth), "samples": to_own(scaling, np.asarray(way.x)[at])}
    about = f"x_t = {run.between.formula} above, {described_sampler(sampler)}, {len(grid) - 1} steps below, {run.name}"
    stamps = dict.fromkeys(rows, wanted)
    names = tuple(map(escape_formulas, run.dataset.column_names()))
    if field.shape == (1,):
        left, right = window([np.repeat(x, 2, axis=-1) for each in rows.values() for x in each])[:2]
        extent = Extent(left, right, 0.0, 1.0, names or ("$x$",))
        return histograms_in_time({name: list(x[..., 0]) for name, x in rows.items()}, stamps, None, extent, about)
    extent = window([x for each in rows.values() for x in each], square=scaling is None)
    extent = extent._replace(names=names or extent.names)
    return clouds_in_time({name: [Cloud(x) for x in each] for name, each in rows.items()}, stamps, extent, (), about)


def law_at_0(run: TrainedRun) -> Dataset | None:
    """The source of a run between two laws, also where it is noise; None on a Gaussian path."""
    assert run.field is not None
    return run.between.source or (None if run.field.gaussian else StandardNormal(run.field.shape))
