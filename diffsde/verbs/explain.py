"""diffsde explain: the equations of a configuration, where they are singular, and whether loss and steps are sound."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde.build import name_of, read
from diffsde.errors import UserError
from diffsde.fields import VELOCITY_ALONE, Field
from diffsde.objectives import (
    WEIGHTS,
    FlowMapObjective,
    Likelihood,
    Problem,
    Regression,
    choose_weight,
    objection,
    resolve_weight,
)
from diffsde.paths import GaussianPath, coefficients, log_snr, written
from diffsde.runs import machine
from diffsde.runs.results import Report, Result, say_result
from diffsde.runs.sample_config import with_reference_sigma
from diffsde.runs.starting import choose_grid, fixed_steps, stds_of, trial_of, trial_points, trial_starts
from diffsde.runs.train_config import infinite_end
from diffsde.samplers import Grid, times
from diffsde.solver_error import GaussianField, SamplingPlan
from diffsde.solver_remedies import solver_error
from diffsde.stability import (
    ODE_SAMPLERS,
    UntrainedField,
    UntrainedFlowMap,
    check_jumps,
    check_sampler,
    choose_last_step,
    instability,
)
from diffsde.step_choice import MOST, choose_steps, fewest
from diffsde.types import Array, PredictionType
from diffsde.verbs.explain_between import lines_between
from diffsde.verbs.explain_config import (
    SHOWN,
    ExplainConfig,
    about_diffusion,
    about_sampler,
    about_search,
    doc_lines,
    table,
)
from diffsde.verbs.explain_flow import lines_of_flow

COLUMNS = ("t", "alpha", "beta", "dalpha", "dbeta", "log(alpha/beta)", "sigma_t")
ROWS: dict[PredictionType, str] = {
    "velocity": "y = dalpha z + dbeta eps",
    "score": "y = -eps/({beta})",
    "noise": "y = eps",
    "data": "y = z",
    "v": "y = ({alpha}) eps - ({beta}) z",
}


def explain(config: dict[str, Any], out: Path) -> None:
    """Print the equations and warnings of a configuration; nothing is trained, sampled or written."""
    machine.set_compilation_cache(True, None)
    say_result(result_of(config))


def result_of(config: dict[str, Any]) -> Result:
    """The result of a configuration, whose report has the lines to be printed. Raises UserError."""
    config = with_reference_sigma(config)
    return Result(partial(_report, read(ExplainConfig, config), config))


def _report(chosen: ExplainConfig, config: dict[str, Any]) -> Report:
    """The report: the path and its limits, the loss, the sampler and its steps, and warnings about them."""
    if chosen.net is not None:
        return Report("", [], {}, 0.0, lines=lines_of_flow(chosen, chosen.net))
    if chosen.between_laws:
        return Report("", [], {}, 0.0, lines=lines_between(chosen, config))
    alpha, beta = written(chosen.path)
    columns = along(chosen)
    problem, against = resolve_loss(chosen)
    steps, wrong = about_steps(chosen, problem)
    drawn = "" if isinstance(chosen.objective, Likelihood) else f" time={config['time']['name']}"
    lines = [
        f"path={config['path']['name']}",
        *doc_lines(chosen.path),
        f"  x_t = ({alpha}) z + ({beta}) eps\n",
        *(f"  {line}" for line in [*table(columns), *ends(columns)]),
        f"\nobjective={config['objective']['name']}{drawn}",
        *doc_lines(chosen.objective, 2 if isinstance(chosen.objective, FlowMapObjective) else 1),
        *about_loss(chosen, problem, alpha, beta),
        f"\nsampler={config['sampler']['name']} grid={config['grid']['name']}",
        *doc_lines(chosen.sampler),
        *about_diffusion(chosen),
        *steps,
        "\nbefore it runs",
        *(f"  {warning}" for warning in [*against, *wrong] or ["nothing speaks against it"]),
    ]
    return Report("", [], {}, 0.0, lines=tuple(lines))


def about_loss(chosen: ExplainConfig, problem: Problem, alpha: str, beta: str) -> list[str]:
    """Lines on the regression's equation and weight; none for a classifier."""
    if not isinstance(problem.objective, Regression):
        return []
    row, weight = ROWS[problem.objective.kind].format(alpha=alpha, beta=beta), problem.objective.weight
    lines = [f"  {row}; loss = E[weight |y_hat(x_t, t) - y|^2 / d]", f"  weight: {weight} ({WEIGHTS[weight]})"]
    if isinstance(chosen.objective, Regression) and chosen.objective.weight == "auto":
        lines.append(f"  taken by auto, because {choose_weight(problem).because}")
    return lines


def along(chosen: ExplainConfig) -> dict[str, np.ndarray]:
    """Columns t, alpha, beta, dalpha, dbeta, log(alpha/beta) and, for an SDE sampler, sigma_t, at the times SHOWN."""
    diffusion = getattr(chosen.sampler, "diffusion", None)
    found = _along(chosen.path, diffusion, np.asarray(SHOWN))
    return {name: np.asarray(column) for name, column in zip(COLUMNS, found, strict=True) if column is not None}


@jax.jit
def _along(path: GaussianPath, diffusion: Any, times: Array) -> tuple[Any, ...]:
    def at(t: Array) -> tuple[Any, ...]:
        c = coefficients(path, t)
        sigma = None if diffusion is None else diffusion.sigma_at(t, c)
        return (
            t,
            *jax.tree.map(lambda value: value + 0 * t, (c.alpha, c.beta, c.dalpha, c.dbeta)),
            log_snr(path, t),
            sigma,
        )

    return jax.vmap(at)(times)


def ends(columns: dict[str, np.ndarray]) -> list[str]:
    """Lines on the limits of alpha and beta at t = 0 and t = 1, and which predictions are singular there."""
    alpha, beta, dbeta = (columns[name] for name in ("alpha", "beta", "dbeta"))
    found = []
    if alpha[0] == 0:
        found.append("at t=0, alpha = 0: x_t is all noise, and a prediction of noise or score says nothing of the data")
    else:
        signal = float(alpha[0] / beta[0])
        found.append(
            f"at t=0, alpha/beta = {signal:.3g}, not 0: the prior N(0, beta^2) leaves out that much of the data"
        )
    if beta[-1] == 0:
        found.append(
            "at t=1, beta = 0: x_t is data, a prediction of data says nothing of the noise, the score of a network"
        )
        found.append("is -noise/beta there, 0/0, and the score of data on a thin set is infinite")
    else:
        found.append(f"at t=1, beta = {beta[-1]:.3g}, not 0: samples keep noise of that std")
    if not math.isfinite(dbeta[-1]):
        found.append("at t=1, dbeta is infinite, beta dbeta is not: the velocity of a network is infinite there")
    return found


def resolve_loss(chosen: ExplainConfig) -> tuple[Problem, list[str]]:
    """The training problem with its weight resolved, and warnings about it."""
    moments = chosen.dataset.moments(chosen.dataset.load(), jax.random.key(0))
    asked = Problem(chosen.path, chosen.objective, chosen.time, moments, None, chosen.precondition)
    problem = resolve_weight(asked)
    against = objection(problem)
    return problem, [f"warning: {against}"] if against else []


def about_steps(chosen: ExplainConfig, problem: Problem) -> tuple[list[str], list[str]]:
    """(lines, warnings) on the sampler's order, steps and evaluations; for a classifier, of the field that it guides."""
    if search := about_search(chosen):
        return search, []
    sampler = chosen.sampler
    if isinstance(problem.objective, Likelihood):
        why = infinite_end(chosen.path) if chosen.precondition else ""
        refused = [] if sampler.needs == "velocity" else [f"{VELOCITY_ALONE}; {ODE_SAMPLERS}"]
        return [], [f"refused: {each}" for each in [why, *refused] if each]
    kind = problem.objective.kind if isinstance(problem.objective, Regression) else "velocity"
    field: Field
    if isinstance(objective := problem.objective, FlowMapObjective):
        field = UntrainedFlowMap(chosen.path, problem.moments, objective.ends_only)
    else:
        field = UntrainedField(chosen.path, problem.moments, kind, chosen.precondition)
    steps, how_many = fixed_steps(sampler, chosen.grid, chosen.steps), ""
    stds = stds_of(chosen.dataset)
    try:
        check_sampler(sampler, field, name_of(sampler))
        grid = choose_grid(chosen.grid, field, stds)
        if steps is None:
            steps, how_many = usual_steps(chosen, problem, grid, stds)
        at = times(grid, steps, chosen.path)
        check_jumps(sampler, field, at)
        last = choose_last_step(sampler, field, at, chosen.last)
    except UserError as error:
        return [], [f"refused: {error}"]
    h = np.diff(np.asarray(at))
    lines = [
        *about_sampler(sampler, grid, steps, how_many, last),
        f"  t from {float(at[0]):.4g} to {float(at[-1]):.6g}; steps from {h.min():.3g} to {h.max():.3g}",
    ]
    found = (
        instability(sampler, chosen.path, at, last, chosen.dataset.least_variance()),
        solver_error(SamplingPlan(sampler, grid, steps, last), chosen.path, stds),
    )
    return lines, [f"warning: {warning}" for warning in found if warning]


def usual_steps(chosen: ExplainConfig, problem: Problem, grid: Grid, stds: tuple[float, ...]) -> tuple[int, str]:
    """The number of steps that `sample` would choose, and for which field: the exact one if known, else Gaussian data's."""
    moments, sampler = problem.moments, chosen.sampler
    exact = None if chosen.dataset.law() is None else chosen.dataset.exact_field(chosen.path)
    field: Field = exact or GaussianField(chosen.path, moments.std, moments.mean.shape)
    at = times(grid, fewest(sampler), chosen.path)
    last = choose_last_step(sampler, field, at, chosen.last)
    x0 = trial_starts(field, chosen.dataset, float(at[0]), trial_points(field.shape), None)
    trial = trial_of(sampler, field, grid, last, x0, None)
    steps = choose_steps(SamplingPlan(sampler, grid, MOST, last), chosen.path, stds, trial).steps
    if trial is None:
        return steps, " (for Gaussian data)"
    return steps, " (for the exact field)" if exact else " (for Gaussian data; sample tries the field)"
