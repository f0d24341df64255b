"""Pictures at the end of a training run: its loss, and for images a few samples of the trained field."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.ensembles import member
from diffsde.fields import LearnedField, bound
from diffsde.pictures.drawn import described_sampler, names_of
from diffsde.pictures.images import CLASSES, SIDE, image_overview, screen_of_images
from diffsde.plots.loss import loss_curve
from diffsde.samplers import DPMSolverPP2M, LoopSettings, simulate_compiled, times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import prior
from diffsde.stability import choose_last_step
from diffsde.types import Key

LEARNED, LEARNED_STEPS = 64, 25  # samples drawn at the end of training (about), and their number of steps


class TrainedRun(NamedTuple):
    """The inputs of a training run's pictures.

    losses: mean losses, one per `every` steps, the last at `steps`; floor: the irreducible loss, where it is known; held_out:
    validation losses; regrets: (step, regret); field: the trained field, if samples of it are drawn; name: the title.
    """

    losses: list[float]
    every: int
    steps: int
    floor: float | None
    name: str
    held_out: list[float]
    regrets: list[tuple[int, float]]
    field: LearnedField | None
    dataset: Dataset
    key: Key


def run_loss(run: TrainedRun) -> Figure:
    """The loss of a run along its training."""
    return loss_curve(run.losses, run.every, run.steps, run.floor, run.name, run.held_out, run.regrets)


def run_samples(run: TrainedRun) -> Figure:
    """A few samples by DPM-Solver++(2M) in 25 steps, equally many per label: a cheap look at the trained field."""
    assert run.field is not None
    sampler, (key_prior, key_noise) = DPMSolverPP2M(), jax.random.split(run.key)
    kinds = min(run.field.classes, CLASSES)
    n = kinds * min(SIDE, LEARNED // kinds) if kinds else LEARNED
    condition = jnp.arange(n) % kinds if kinds else None
    grid = times(UniformGrid(), LEARNED_STEPS, run.field.path)
    last = choose_last_step(sampler, bound(run.field, member(condition, 0)), grid, "auto")
    x0 = prior(run.field.path, grid[0], run.field.shape, key_prior, n)
    x = simulate_compiled(sampler, run.field, x0, grid, key_noise, condition, settings=LoopSettings(last)).x
    nfe = sampler.nfe(LEARNED_STEPS, last)
    shown = screen_of_images(run.dataset, run.dataset.scaling(run.field.shape))(x)
    about = f"{described_sampler(sampler)}, {LEARNED_STEPS} steps, {nfe:.4g} NFE, path {name_of(run.field.path)}, {run.name}"
    return image_overview(
        {"": shown}, None if condition is None else np.asarray(condition), about, names_of(run.dataset)
    )
