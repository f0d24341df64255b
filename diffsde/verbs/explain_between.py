"""What `explain` says between two laws: the equations, where they are singular, and whether the sampler's steps are sound."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import name_of
from diffsde.datasets import Dataset, point_shape
from diffsde.datasets.common_scaling import common
from diffsde.datasets.normal import StandardNormal
from diffsde.errors import UserError
from diffsde.interpolants import OracleInterpolant
from diffsde.mixtures import Mixture
from diffsde.objectives import WEIGHTS, Problem, Regression, VelocityAndScore, choose_weight, objection, resolve_weight
from diffsde.paths import coefficients, written
from diffsde.runs.load_field import interpolant_of
from diffsde.runs.starting import (
    choose_grid,
    fixed_steps,
    left_over,
    standing_in,
    stds_of,
    trial_of,
    trial_points,
    trial_starts,
    unstable,
)
from diffsde.samplers import times
from diffsde.solver_error import SamplingPlan
from diffsde.solver_remedies import solver_error
from diffsde.stability import check_sampler_between, choose_last_step
from diffsde.step_choice import MOST, choose_steps, fewest
from diffsde.types import Moments
from diffsde.verbs.explain_config import (
    SHOWN,
    ExplainConfig,
    about_diffusion,
    about_sampler,
    about_search,
    doc_lines,
    table,
)

COLUMNS = ("t", "alpha", "beta", "gamma", "dalpha", "dbeta", "dgamma", "sigma_t")


def lines_between(chosen: ExplainConfig, config: dict[str, Any]) -> tuple[str, ...]:
    """The lines of the report: the path and its limits, the loss, the sampler and its steps, and warnings. Raises UserError."""
    shape = point_shape(chosen.dataset, chosen.dataset.load())
    source, dataset = common(chosen.source or StandardNormal(shape), chosen.dataset)
    columns, has_gamma = along(chosen), chosen.path.has_gamma
    alpha, beta, *rest = written(chosen.path)
    gamma = f" + ({rest[0]}) eps" if has_gamma else ""
    drift = "dalpha E[z|x] + dbeta E[y|x]"
    steps, wrong = about_steps(chosen, config["sampler"]["name"], source, dataset)
    loss, against = about_loss(chosen, source, dataset)
    return (
        f"path={config['path']['name']} source={name_of(source)} dataset={name_of(dataset)}",
        *doc_lines(chosen.path),
        f"  x_t = ({alpha}) z + ({beta}) y{gamma}, y of the source, z of the data",
        f"  u_t(x) = {drift} + dgamma E[eps|x] = {drift} - gamma dgamma score" if has_gamma else f"  u_t(x) = {drift}",
        "  score = -E[eps|x]/gamma\n" if has_gamma else "",
        *(f"  {line}" for line in [*table(columns), *ends(columns, chosen)]),
        f"\nobjective={config['objective']['name']} time={config['time']['name']}",
        *loss,
        f"\nsampler={config['sampler']['name']} grid={config['grid']['name']}",
        *doc_lines(chosen.sampler),
        *about_diffusion(chosen),
        *steps,
        "\nbefore it runs",
        *(f"  {warning}" for warning in [*against, *wrong] or ["nothing speaks against it"]),
    )


def along(chosen: ExplainConfig) -> dict[str, np.ndarray]:
    """The COLUMNS at the times SHOWN, sigma_t of an SDE sampler alone."""
    diffusion = getattr(chosen.sampler, "diffusion", None)

    def at(t: Any) -> Any:
        c = coefficients(chosen.path, t)
        sigma = None if diffusion is None else diffusion.sigma_at(t, c)
        row = (t, c.alpha, c.beta, c.gamma, c.dalpha, c.dbeta, c.dgamma)
        return *(jnp.asarray(each) + 0 * t for each in row), sigma

    found = jax.jit(jax.vmap(at))(np.asarray(SHOWN))
    return {name: np.asarray(column) for name, column in zip(COLUMNS, found, strict=True) if column is not None}


def ends(columns: dict[str, np.ndarray], chosen: ExplainConfig) -> list[str]:
    """Lines on what x_t is at t = 0 and t = 1, on what is infinite there, and on what the velocity says of the score."""
    gamma, found = columns["gamma"], []
    for end, what in ((0, "the source"), (-1, "the data")):
        wider = f", widened by noise of std {gamma[end]:.3g}" if gamma[end] > 0 else ""
        found.append(f"at t={SHOWN[end]:g}, x_t is a point of {what}{wider}")
    for name, product in (("dbeta", "beta dbeta"), ("dgamma", "gamma dgamma")):
        at = [f"{SHOWN[end]:g}" for end in (0, -1) if not math.isfinite(columns[name][end])]
        if at:
            found.append(f"at t={' and '.join(at)}, {name} is infinite, {product} is not")
    if chosen.source is None:
        found.append("from N(0, I), independent of the data, the velocity gives the score")
    elif chosen.path.has_gamma:
        found.append("the velocity alone does not give the score: objective=cfm+score learns both")
    else:
        found.append("the velocity alone does not give the score, and without noise on the way nothing else does")
    return found


def moments_of(dataset: Dataset) -> Moments:
    """Mean and std of a dataset."""
    return dataset.moments(dataset.load(), jax.random.key(0))


def about_loss(chosen: ExplainConfig, source: Dataset, dataset: Dataset) -> tuple[list[str], list[str]]:
    """(lines on the loss, warnings about it)."""
    asked = Problem(
        chosen.path,
        chosen.objective,
        chosen.time,
        moments_of(dataset),
        None,
        chosen.precondition,
        moments_of(source),
        chosen.source is None,
    )
    problem = resolve_weight(asked)
    assert isinstance(problem.objective, Regression) and isinstance(chosen.objective, Regression)
    weight, both = problem.objective.weight, isinstance(problem.objective, VelocityAndScore)
    if both:
        lines = doc_lines(chosen.objective)
    else:
        target = "dalpha z + dbeta y" + (" + dgamma eps" if chosen.path.has_gamma else "")
        lines = [f"  cfm: loss = E[weight |u_hat(x_t, t) - ({target})|^2 / d] (2302.00482; 2303.08797)"]
    lines.append(f"  weight: {weight} ({WEIGHTS[weight]})")
    if chosen.objective.weight == "auto" and not both:
        lines.append(f"  taken by auto, because {choose_weight(asked).because}")
    against = objection(problem)
    return lines, [f"warning: {against}"] if against else []


def field_of(chosen: ExplainConfig, source: Dataset, dataset: Dataset) -> tuple[OracleInterpolant, str]:
    """The exact field, or where a law is not known that of Gaussians with the moments of both ends; which, in words."""
    if source.law() is not None and dataset.law() is not None:
        return interpolant_of(source, dataset, chosen.path), "the exact field"

    def gaussian(moments: Moments) -> Mixture:
        return Mixture(moments.mean.reshape(1, -1), jnp.full((1, 1), moments.std) ** 2, jnp.ones(1))

    shape = point_shape(dataset, dataset.load())
    return OracleInterpolant(
        chosen.path, gaussian(moments_of(source)), gaussian(moments_of(dataset)), shape
    ), "Gaussian ends; sample tries the field"


def about_steps(chosen: ExplainConfig, name: str, source: Dataset, dataset: Dataset) -> tuple[list[str], list[str]]:
    """(lines, warnings) on the sampler's order, steps and evaluations."""
    if search := about_search(chosen):
        return search, []
    sampler, stds = chosen.sampler, stds_of(dataset)
    try:
        knows_score = chosen.source is None or isinstance(chosen.objective, VelocityAndScore)
        check_sampler_between(sampler, name, knows_score)
        field, what = field_of(chosen, source, dataset)
        path = standing_in(field, source)
        grid = choose_grid(chosen.grid, field, stds, path)
        steps, how_many = fixed_steps(sampler, grid, chosen.steps), ""
        if steps is None:
            at = times(grid, fewest(sampler), field.path)
            last = choose_last_step(sampler, field, at, chosen.last)
            x0 = trial_starts(field, dataset, float(at[0]), trial_points(field.shape), None, source)
            trial = trial_of(sampler, field, grid, last, x0, None)
            steps = choose_steps(SamplingPlan(sampler, grid, MOST, last), path, stds, trial).steps
            how_many = f" (for {what})"
        at = times(grid, steps, chosen.path)
        last = choose_last_step(sampler, field, at, chosen.last)
    except UserError as error:
        return [], [f"refused: {error}"]
    lines = about_sampler(sampler, grid, steps, how_many, last)
    found = (
        unstable(sampler, field, at, last, dataset, source),
        solver_error(SamplingPlan(sampler, grid, steps, last), path, stds),
        left_over(field, grid, last, stds),
    )
    return lines, [f"warning: {warning}" for warning in found if warning]
