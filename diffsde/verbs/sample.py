"""diffsde sample: draw samples from a trained field, or from the exact one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.build import name_of
from diffsde.datasets import Dataset, point_shape
from diffsde.datasets.common_scaling import remeasured
from diffsde.datasets.scaling import Scaling, same_scaling, to_own
from diffsde.errors import UserError
from diffsde.evaluation.budget import in_short
from diffsde.evaluation.metric import Measured, Subject
from diffsde.evaluation.shown import directions, figure_rows, units
from diffsde.evaluation.table import METRICS, name_of_fit
from diffsde.fields import VELOCITY_ALONE, Field, bound
from diffsde.interpolants import path_times
from diffsde.inverse import MMPS
from diffsde.inverse.measurements import NOISE
from diffsde.inverse.posteriors import PosteriorField
from diffsde.inverse.problem import InverseProblem, pose
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure
from diffsde.runs import clock, folder, jobs, processes, progress, sampler_search, sizes
from diffsde.runs.data_report import say_data
from diffsde.runs.flow_sampling import FlowJob
from diffsde.runs.load_field import labels_of, load_field
from diffsde.runs.load_flow import names_flow
from diffsde.runs.results import Cell, Report, Result, summary_figures
from diffsde.runs.sample_config import SampleConfig, describe, resolve_latest, sample_choices
from diffsde.runs.simulating import SampleJob, SimulationBatch, how_drawn, simulate_jobs
from diffsde.runs.starting import (
    choose_grid,
    fixed_steps,
    left_over,
    standing_in,
    starting_points,
    stds_met,
    trial_of,
    trial_points,
    trial_starts,
    unstable,
    warn_of_start,
)
from diffsde.sampler_trials import TrialPoints
from diffsde.samplers import Grid, times
from diffsde.samplers.best import Best
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.loop import Simulated
from diffsde.samplers.ode import Heun
from diffsde.solver_error import SamplingPlan
from diffsde.solver_remedies import solver_error
from diffsde.stability import check_jumps, check_sampler, choose_last_step, likelihood_instability
from diffsde.step_choice import MOST, StepChoice, choose_steps, fewest
from diffsde.types import Array
from diffsde.verbs.sample_flow import draw_flows, prepare_flow
from diffsde.verbs.sample_sweep import grid_of


def sample(config: dict[str, Any], out: Path) -> float:
    """Draw samples, write the sample folder `out`, and return the first figure's distance from its target."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Draw many sets of samples, jobs that differ in numbers alone by one vmapped program; the outcome of each job."""
    return jobs.together(VERB, asked)


def prepare(chosen: SampleConfig, config: dict[str, Any], out: Path, held: ExitStack) -> SampleJob | FlowJob:
    """The job, of a field or of a discrete flow. Raises UserError."""
    if names_flow(chosen.run):
        job = prepare_flow(chosen, config, out)
        job.known = data_here(job.dataset, chosen.run)
        return job
    return prepare_field(chosen, config, out, held)


def prepare_field(chosen: SampleConfig, config: dict[str, Any], out: Path, held: ExitStack) -> SampleJob:
    """The job: field, grid, number of steps, starting points, and warnings about the steps. Raises UserError."""
    field, dataset, origin, source, coupling = load_field(chosen)
    sizes.require_samples(chosen.n, field.shape)
    check_sampler(chosen.sampler, field, name_of(chosen.sampler))
    if chosen.measurement is not None and not field.follows_path:
        raise UserError(f"measurement: {VELOCITY_ALONE}")
    if chosen.measurement is not None and chosen.sampler.jumps:
        raise UserError(
            f"measurement: of the field given what is measured no map is known, which sampler={name_of(chosen.sampler)} asks for;"
            " take sampler=heun"
        )
    if chosen.measurement is not None and not field.gaussian:
        raise UserError(
            "measurement: inverse problems are solved on Gaussian paths from N(0, I) alone, not between two laws"
        )
    if {*chosen.drawn} - {"default", "all"}:  # a wrong name is refused before anything is computed
        from diffsde.pictures import chosen_pictures, kind_of

        chosen_pictures(chosen.drawn, kind_of(field.shape, chosen.measurement is not None, dataset))
    if chosen.coordinates is not None:
        from diffsde.pictures import check_coordinates

        check_coordinates(chosen.coordinates, field.shape, dataset, chosen.measurement is not None)
    key_prior, key_noise, key_true = jax.random.split(jax.random.key(chosen.seed), 3)
    labels, problem, scaling = labels_of(chosen, field), None, dataset.scaling(field.shape)
    known = chosen.measurement is not None or data_here(dataset, chosen.run, source)
    stds = stds_met(field, dataset)
    path = standing_in(field, source)
    placed = choose_grid(chosen.grid, bound(field, ensembles.member(labels, 0)), stds, path)
    law = "guided" if chosen.guided else None
    if chosen.measurement is not None:
        law = "given what is measured"
        count, moments = min(chosen.n, chosen.n_measurements or MEASUREMENTS), dataset.moments(dataset.load(), key_true)
        key_pose = jax.random.fold_in(key_true, 1)
        problem = pose(chosen.measurement, chosen.truth, count, dataset, moments, key_pose, scaling)
        if chosen.measurement.noise is None and scaling is not None:
            progress.say(
                f"measurement.noise: {problem.noise:.3g} in the data's own units, {NOISE:g} stds of what is measured"
            )
        field = (chosen.posterior or MMPS()).field(field, problem.model_operator(), problem.noise, problem.y[0])
    choice = found = None
    if sampler_search.is_open(chosen):
        chosen, found = search_sampler(chosen, field, dataset, stds, labels, source)
        placed = chosen.grid
    steps = fixed_steps(chosen.sampler, placed, chosen.steps)
    if steps is None:
        choice = chosen_steps(chosen, field, dataset, placed, stds, labels, problem, source)
        steps = choice.steps
    if chosen.save_every is not None:
        states = 2 + (steps - 1) // chosen.save_every
        sizes.require_states(states, min(chosen.keep or chosen.n, chosen.n), field.shape)
    grid = times(placed, steps, field.path)
    check_jumps(chosen.sampler, field, grid)
    start = float(np.asarray(grid)[0])
    if start and not field.follows_path:
        raise UserError(
            f"grid.start is {start:g}: {VELOCITY_ALONE} from which to start later; its samples start at t=0"
        )
    x0, absent = starting_points(field, dataset, start, key_prior, chosen.n, labels, source)
    warn_of_start(field, dataset, start, absent, law or (None if coupling is None else COUPLED))
    about = say_data(dataset) if chosen.run == "oracle" else {}
    drawn = origin, steps, choice, placed, grid, chosen.last, x0, labels
    keys = key_noise, key_true
    job = SampleJob(
        config, chosen, out, field, dataset, *drawn, *keys, problem, scaling, known, about, source, coupling
    )
    job.found = found
    job.last = choose_last_step(chosen.sampler, bound(field, ensembles.member(job.condition, 0)), grid, chosen.last)
    how = SamplingPlan(chosen.sampler, placed, steps, job.last)
    steep = None
    if isinstance(field, PosteriorField):
        steep = likelihood_instability(chosen.sampler, field, grid, job.last, float(moments.std) ** 2)
    grows = unstable(chosen.sampler, field, grid, job.last, dataset, source)
    errs = None if found else solver_error(how, path, stds)  # a search has measured it, on this field
    job.warnings = [line for line in (steep, grows, errs, left_over(field, placed, job.last, stds)) if line]
    return job


def search_sampler(
    chosen: SampleConfig,
    field: Field,
    dataset: Dataset,
    stds: tuple[float, ...],
    labels: Array | None,
    source: Dataset | None,
) -> tuple[SampleConfig, sampler_search.Found]:
    """The choices with sampler=best and grid=optimised resolved for the field, by trials on points that depend on neither `seed`
    nor `n`; and what was found. Where steps= is null, as many evaluations as Heun would make by its choice of steps.
    """
    given, count = bound(field, ensembles.member(labels, 0)), sampler_search.search_points(field.shape)
    auto = choose_grid(AutoGrid(chosen.grid.start, chosen.grid.end), given, stds, standing_in(field, source))
    budget = (chosen.steps or 0) * chosen.sampler.evaluations
    if not budget:
        as_heun = dataclasses.replace(chosen, sampler=Heun())
        budget = Heun.evaluations * chosen_steps(as_heun, field, dataset, auto, stds, labels, None, source).steps
    theirs = None if labels is None else jnp.asarray(np.resize(np.asarray(labels), count))
    x0 = trial_starts(field, dataset, chosen.grid.start, count, theirs, source)
    if isinstance(chosen.sampler, Best) and chosen.run != "oracle" and given.jumps:
        progress.say(
            f"this run is a flow map, whose jumps are not among the candidates: sampler=flow_map steps={budget} makes as many"
            " evaluations"
        )
    clock.lap("starting")
    on, scaled = TrialPoints(field, x0, theirs), dataset.scaling(field.shape) is not None
    resolved = sampler_search.resolved(chosen, budget, on, stds, auto, scaled)
    clock.lap("choosing a sampler")
    return resolved


def chosen_steps(
    chosen: SampleConfig,
    field: Field,
    dataset: Dataset,
    grid: Grid,
    stds: tuple[float, ...],
    labels: Array | None,
    problem: InverseProblem | None,
    source: Dataset | None = None,
) -> StepChoice:
    """The number of steps where the user does not set it, by a trial on the field.

    The trial's points and labels depend on neither `seed` nor `n`, so that all jobs of a sweep over these take as many steps.
    """
    sampler, count = chosen.sampler, trial_points(field.shape)
    at = times(grid, fewest(sampler), field.path)
    given_labels = None if labels is None else jnp.asarray(np.resize(np.asarray(labels), count))
    condition = given_labels if problem is None else problem.condition(count, given_labels)
    last = choose_last_step(sampler, bound(field, ensembles.member(condition, 0)), at, chosen.last)
    x0 = trial_starts(field, dataset, float(np.asarray(at)[0]), count, given_labels, source)
    clock.lap("starting")
    with progress.working("choosing the number of steps"):
        trial = trial_of(sampler, field, grid, last, x0, condition)
        choice = choose_steps(SamplingPlan(sampler, grid, MOST, last), standing_in(field, source), stds, trial)
    clock.lap("choosing steps")
    return choice


def draw(group: list[SampleJob] | list[FlowJob]) -> Iterator[Result | UserError]:
    """The result of each job of one structure."""
    if isinstance(group[0], FlowJob):
        return draw_flows(group)
    return draw_fields(group)


def draw_fields(group: list[SampleJob]) -> Iterator[Result | UserError]:
    """Simulate jobs of one structure by one program; the result of each, whose arrays are made when it is asked for."""
    batch = simulate_jobs(group)
    clock.lap("sampling", compiling=batch.compiling)
    together = f" for {len(group)} jobs at once" if len(group) > 1 else ""
    for job, found in zip(group, batch.found, strict=True):
        yield one_of(job, found, batch, together)


def one_of(job: SampleJob, found: Simulated, batch: SimulationBatch, together: str) -> Result | UserError:
    """The result of one job: samples, written before anything is measured, the report and the pictures."""
    try:
        how = how_drawn(job, found)
    except UserError as error:
        return error
    arrays = {"samples": sample_arrays(job, found.x)}
    if found.trajectory is not None:
        times, x = found.trajectory
        arrays["trajectory"] = {"times": path_times(job.field, np.asarray(times)), "x": to_own(job.scaling, x)}
    drawing = (
        partial(pictures_of, job, found.x, how["nfe"]) if processes.is_main_process() and job.chosen.drawn else None
    )
    return Result(partial(_report, job, found.x, how, batch), arrays, drawing, together=together)


def sample_arrays(job: SampleJob, x: Array) -> dict[str, Any]:
    """The arrays of samples.npz: x (n, *shape) in the data's own units; labels y (n,); of an inverse problem truth and measured."""
    arrays: dict[str, Any] = {"x": to_own(job.scaling, x)}
    if job.labels is not None:
        arrays["y"] = np.asarray(job.labels, np.int32)
    if job.problem is not None:
        arrays |= {"truth": job.problem.own_truth(), "measured": job.problem.own_measured()}
    return arrays


def _report(job: SampleJob, x: Array, how: dict[str, Any], batch: SimulationBatch) -> Report:
    """The report of a job: the figures of the samples, and how they were drawn."""
    chosen, scaled = job.chosen, job.scaling is not None
    found = measured(job, x)
    network = network_error(job, x)
    unit_scaled = scaled and job.problem is None
    summary = {
        **how,
        "seconds": batch.seconds,
        "cpu_seconds": batch.cpu_seconds,
        "seconds_compile": batch.compiling,
        "members": len(batch.found),
        "field": job.origin,
        **({"data": job.data} if job.data else {}),
        "metrics": summary_figures(found.figures),
        "units": units(found.figures, unit_scaled),
        "directions": directions(found.figures),
        **found.about,
        **({"budget": summary_figures(network)} if network else {}),
    }
    rows = [
        ("segments" if chosen.sampler.adaptive else "steps", progress.described_steps(how)),
        *([("units", "x in the data's own; sigma in stds of each coordinate")] if scaled else []),
        *figure_rows(found.figures, job.guided, unit_scaled),
        *found.rows,
        *network_rows(network),
    ]
    score = next((figure.distance_from_target for figure in found.figures.values()), math.nan)
    return Report(
        f"sampled {chosen.n:,} points with {describe(job.config, how.get('found'))} from {job.origin}",
        rows,
        summary,
        score,
    )


def measured(job: SampleJob, x: Array) -> Measured:
    """How well the samples follow their law (table.name_of_fit); no figures where the data cannot be read."""
    if not job.known:
        return Measured({})
    subject = Subject(
        job.dataset, job.field, len(x), x, job.data_labels, guided=job.guided, problem=job.problem, whole=job.plain
    )
    return METRICS[name_of_fit(subject)]().measure(subject, job.key_true)


def network_error(job: SampleJob, x: Array) -> dict[str, Figure]:
    """The network's part of the error budget where it is cheap (evaluation.budget.in_short); {} elsewhere."""
    if not (job.known and job.plain) or job.problem is not None:
        return {}
    return in_short(Subject(job.dataset, job.field, len(x), x, source=job.source, coupling=job.coupling), job.key_true)


def network_rows(found: dict[str, Figure]) -> list[tuple[str, str]]:
    """The row of the table for them."""
    if not found:
        return []
    error, bound_on = shown_figure(found["field_error"].alone()), ""
    if "kl_bound" in found:
        bound_on = f"; of KL at most {shown_figure(found['kl_bound'].alone())} nats in an SDE"
    text = f"E|u_theta - u|^2 per coordinate {error}{bound_on} (evaluate 'metrics=[budget]')"
    return [("network's error", text)]


def pictures_of(job: SampleJob, x: Array, nfe: float) -> list[Path]:
    """Draw the pictures of `pictures=`; nfe: evaluations per sample, for their titles; their paths."""
    from diffsde.pictures.sampled import draw_samples  # here: matplotlib takes a while

    return draw_samples(job, x, nfe)


def sweep_pictures(cells: list[Cell], where: Path) -> list[Path]:
    """The picture of a whole sweep, its jobs' samples side by side; its path."""
    return grid_of(cells, where, prepare_field)


COUPLED = "of pairs that are not independent"
MEASUREMENTS = 8  # default of n_measurements


def data_here(dataset: Dataset, run: str, source: Dataset | None = None) -> bool:
    """Whether the data can be read; warns where they cannot, or have changed since the run was trained on them.

    source: the law at the other end, with which the data may have a scaling in common.
    """
    try:
        arrays = dataset.load()
        shape = point_shape(dataset, arrays)
        kept = dataset.scaling(shape)
        if run != "oracle" and kept is not None and not same_scaling(kept, scaling_now(dataset, run, source) or kept):
            progress.warn(
                "the data have changed since the run was trained on them: samples are compared with what is there now"
            )
    except UserError as error:
        progress.warn(f"no figures, and no picture beside the data, which is not here ({error})")
        return False
    return True


def scaling_now(dataset: Dataset, run: str, source: Dataset | None) -> Scaling | None:
    """The scaling of a run's data measured as they are now; None where the user gave mean and std."""
    config = folder.read_config(Path(run))
    ends = [config["dataset"], config.get("source") or {}]
    if any(end.get("mean") is not None for end in ends if end.get("name") == "array"):
        return None
    return dataset.measured_scaling() if source is None or not ends[1] else remeasured(source, dataset)


VERB = jobs.Verb("sample", resolve_latest, sample_choices, prepare, draw)
