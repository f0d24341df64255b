"""KL(p || p_theta) between the data's known law and a trained field, as `train` prints it: in fewer steps than `evaluate`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood
from diffsde.datasets import Dataset
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.evaluation.densities import density_figures, test_points
from diffsde.evaluation.flow_densities import flow_kl
from diffsde.fields import Field, bound
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure
from diffsde.mixtures import Mixture
from diffsde.runs import clock, machine, progress
from diffsde.samplers import times
from diffsde.samplers.grids import CosineGrid
from diffsde.samplers.ode import RK4
from diffsde.types import Array, Key

LEAST = 1000  # training steps from which the KL divergence is worth its cost
POINTS, PART = 2000, 200  # number of points, and how many are computed together
SOLVER, GRID = RK4(), CosineGrid()
STEPS, FINER = 16, 24  # solver steps, and those of a finer solution for one part, to estimate the solver's error
NAME = "KL(p || p_theta)"


def is_available(dataset: Dataset, steps: int) -> bool:
    """Whether `train` computes KL for a run of `steps` steps on the dataset: the law is known, the exact divergence is cheap."""
    law = dataset.law()
    return steps >= LEAST and law is not None and law.means.shape[1] <= likelihood.EXACT


def kl_from_law(
    field: Field | DiscreteFlow, dataset: Dataset, key: Key, source: Mixture | None = None
) -> Figure | None:
    """E_p[log p - log p_theta] over 2,000 points of p, in nats; None where the field's ODE has no finite solution.

    error: the standard error over the points and the change by FINER solver steps on the first 200, in quadrature. For a
    conditional field: the mean over the labels of KL(p(.|label) || p_theta(.|label)). source: the source's law, between two laws.
    A discrete flow has no ODE to be solved, and no error but that of the points.
    """
    key_points, key_unused = jax.random.split(key)
    if isinstance(field, DiscreteFlow):
        return flow_kl(field, dataset, key_points, POINTS)
    labels = np.arange(field.classes) if field.classes else None
    points = test_points(dataset, POINTS, labels, key_points)
    try:
        grid = likelihood.choose_end(bound(field, None if labels is None else jnp.asarray(0)), GRID)
    except UserError:
        return None
    fine = times(grid, FINER, field.path)
    coarse = likelihood.coarser(jnp.zeros(len(fine)), times(grid, STEPS, field.path))
    compiler = machine.Compiler()

    def solved(number: int, at: Array, steps: int) -> np.ndarray:
        part = slice(number * PART, (number + 1) * PART)
        condition = None if points.labels is None else points.labels[part]
        asked = SOLVER, field, points.x[part], at, key_unused, condition, np.int32(steps), source
        program = compiler(likelihood.log_likelihood_compiled, *asked, probe="exact")
        return np.asarray(program(*asked).log_p, np.float64)

    with progress.working("KL divergence"):
        log_p = np.concatenate([solved(number, coarse, STEPS) for number in range(POINTS // PART)])
        change = float(np.mean(solved(0, fine, FINER) - log_p[:PART]))
    clock.lap("figures", compiling=compiler.seconds)
    if not (np.isfinite(log_p).all() and np.isfinite(change)):
        return None
    return density_figures(log_p, points, change)["kl"]


def shown_kl(figure: Figure, conditional: bool) -> str:
    """KL as the table shows it, e.g. 0.0087 +- 0.0012 nats (2,000 points); for a conditional field with a remark on labels."""
    of = ", the mean over the labels of that given each" if conditional else ""
    return f"{shown_figure(figure.alone(), 'nats')} ({POINTS:,} points{of})"
