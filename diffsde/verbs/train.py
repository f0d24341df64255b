"""diffsde train: fit a field to a dataset along a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde import checkpoints, ensembles
from diffsde.build import as_config, name_of
from diffsde.couplings import BatchCoupling, IteratedPairs
from diffsde.couplings.pairs import round_ends
from diffsde.datasets import Examples, Snapshots, streaming
from diffsde.datasets.common_scaling import common
from diffsde.datasets.dataset import Source
from diffsde.datasets.streaming import Stream
from diffsde.errors import UserError
from diffsde.evaluation.in_training import check_metric, sampling_times
from diffsde.evaluation.validation import check_of
from diffsde.knobs import as_words
from diffsde.loggers import NoLogger
from diffsde.objectives import Regression, has_finite_loss
from diffsde.pairs_ahead import Cost
from diffsde.runs import clock, files, folder, jobs, machine, processes, progress
from diffsde.runs.data_report import say_data
from diffsde.runs.lengthen import initial_params, lengthen
from diffsde.runs.made_of import check_made_of, check_scaling, made_of
from diffsde.runs.restore import found_from, recorded_net
from diffsde.runs.results import Report, Result
from diffsde.runs.run_writer import DIVERGED, DIVERGED_RARE, RunWriter, Schedule
from diffsde.runs.starting import default_solver_error
from diffsde.runs.train_config import TrainConfig, field_of, in_precision, through_snapshots, train_choices
from diffsde.runs.training_loop import fit
from diffsde.sharding import Sharding, member_sharding, replicate, shard_members, shard_parameters
from diffsde.signals import stoppable
from diffsde.stability import UntrainedField
from diffsde.training import TrainState, start, train_members, train_steps
from diffsde.verbs.train_pair_sets import next_round, resumed, with_flow, with_pair_set
from diffsde.verbs.train_pairs import pairs_of, with_pairs
from diffsde.verbs.train_report import TrainJob, draw_run, end_log, pictured, report_of, score_of
from diffsde.verbs.train_setup import known_floor, learned, prepare_with


def train(config: dict[str, Any], out: Path) -> float:
    """Train, or resume what `out` holds of this config, write the run folder, and return the run's score, lower is better."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Train many runs, jobs that differ in numbers alone as one vmapped program; the outcome of each job."""
    return jobs.together(VERB, asked)


def _choose(config: dict[str, Any]) -> TrainConfig:
    """The config's choices. Raises UserError where the logger or streaming is not available."""
    chosen = train_choices(config)
    chosen.logger.require()
    if chosen.dataset.stream:
        streaming.require_grain()
    if isinstance(chosen.coupling, BatchCoupling) and chosen.machine.processes not in (None, 1):
        raise UserError(
            f"coupling={name_of(chosen.coupling)} solves its plans in one process; leave out processes=, or take"
            " coupling=independent"
        )
    return chosen


def plan_of(chosen: TrainConfig) -> Schedule:
    """How often the run logs and saves."""
    log_every = min(chosen.log_every, chosen.steps)
    ends = round_ends(chosen.coupling, chosen.steps) if isinstance(chosen.coupling, IteratedPairs) else ()
    return Schedule(chosen.steps, log_every, chosen.checkpoint_every, chosen.keep, chosen.best, ends)


def prepare_job(chosen: TrainConfig, config: dict[str, Any], out: Path, held: ExitStack) -> TrainJob:
    """The job, ready for its first or its next step: the state is the newest checkpoint's, if there is one. Raises UserError."""
    begun = (out / "config.json").exists()
    if begun:
        chosen = found_from(chosen, folder.read_directory(out))
    if chosen.source is not None:
        source, dataset = common(chosen.source, chosen.dataset)
        chosen = dataclasses.replace(chosen, source=source, dataset=dataset)
    chosen = through_snapshots(chosen)
    check_metric(chosen.metric, chosen.dataset)
    run, params, net = prepare_with(chosen, recorded_net(out) if begun else None)
    scaling = chosen.dataset.scaling(run.problem.moments.mean.shape)
    if chosen.init is not None and not checkpoints.steps(out / "checkpoints"):
        params = initial_params(chosen, params, run.classes)
    parts = made_of(chosen, run)
    if begun:
        check_scaling(out, scaling)
        check_made_of(out, chosen, parts)
    run = with_pair_set(chosen, run)
    if {*as_words(chosen.pictures)} - {"default", "all"}:  # a wrong name is refused before anything is trained
        from diffsde.pictures import chosen_pictures

        chosen_pictures(as_words(chosen.pictures), pictured(run))
    data = say_data(chosen.dataset)
    if chosen.source is not None and not isinstance(chosen.dataset, Snapshots):
        data |= {"source": say_data(chosen.source, "source")}
    progress.scaled(scaling, chosen.dataset.column_names())
    floor = known_floor(run, chosen.dataset)
    sharding = sharding_of(chosen)
    run = dataclasses.replace(replicate(sharding, run), sharding=sharding)
    fresh = shard_parameters(sharding, start(run, params))
    if (
        chosen.metric != "loss" and not chosen.is_flow
    ):  # a field that cannot be sampled for the metric is refused before it is trained
        sampling_times(field_of(chosen, learned(run), params), chosen.dataset, run.source)
    if isinstance(objective := run.problem.objective, Regression) and run.source is None:
        field = UntrainedField(chosen.path, run.problem.moments, objective.kind, chosen.precondition)
        if wrong := default_solver_error(field, chosen.dataset):
            progress.warn(f"diffsde sample, by default: {wrong}")
    rate = partial(chosen.optimizer.rate, chosen.steps)
    diverged_ratio = DIVERGED if has_finite_loss(run.problem) else DIVERGED_RARE
    moments, source_moments = run.problem.moments, run.problem.source_moments
    member = RunWriter(out, plan_of(chosen), moments, run.classes, rate, diverged_ratio, source_moments)
    if not member.plan.round_ends:
        member.check = check_of(chosen, run)
    state = member.resume(fresh, sharding)
    if chosen.run is not None:
        lengthen(out, chosen, config, int(state.step))
    if step := int(state.step):
        progress.say(f"resuming {progress.shown_path(out)} from step {step} (resume=false begins afresh)")
    stream = None
    if chosen.dataset.stream:
        stream = held.enter_context(closing(stream_of(chosen, member.plan, step, sharding)))
    logger = chosen.logger if processes.is_main_process() else NoLogger()
    with stoppable():  # else a signal between the two would leave a tracker's files in a folder that is no run's
        member.recorder = held.enter_context(logger.open(out, config, step, progress.warn))
        if not begun:
            folder.write_config(out, "train", config, scaling, as_config(net), parts)
    job = TrainJob(config, chosen, out, run, state, floor, member, stream, data, net, held)
    if member.plan.round_ends:
        job.run = resumed(job)
        member.check = check_of(chosen, job.run)
    return job


def stream_of(chosen: TrainConfig, plan: Schedule, step: int, sharding: Sharding | None) -> Stream:
    """The stream of the examples of all steps from `step` on."""
    source = chosen.dataset.source()
    read = partial(read_in_precision, chosen.precision, source)
    return Stream(
        source._replace(read=read), chosen.seed, chosen.batch_size, plan.log_every, (step, plan.steps), sharding
    )


def read_in_precision(precision: str, source: Source, rows: np.ndarray) -> Examples:
    """The examples of the given rows of a source, in the run's precision."""
    return in_precision(precision, source.read(rows))


def sharding_of(chosen: TrainConfig) -> Sharding | None:
    """How the run is sharded over devices; None: one device. Raises UserError where the batch does not divide evenly."""
    mesh = machine.mesh(chosen.machine.devices)
    if mesh is None:
        if chosen.shard:
            raise UserError("shard=true splits the parameters over several devices, but there is only one")
        return None
    part = chosen.batch_size // (chosen.accumulate or 1)
    if part % mesh.size:
        raise UserError(
            f"batch_size: {part} examples at once do not divide evenly among {mesh.size} devices;"
            " take a multiple of that, or fewer devices="
        )
    return Sharding(mesh, chosen.shard)


def fit_group(group: list[TrainJob]) -> Iterator[Result | UserError]:
    """Train jobs of one structure as one program: the result of each, or why it failed; one job's own state at a time is taken
    from the stacked one.
    """
    compiler, first_job, split, spent = machine.Compiler(), group[0], len(group) > 1, None
    plan, run, state, stream = first_job.member.plan, first_job.run, first_job.state, first_job.stream
    if stream is not None:
        run = dataclasses.replace(run, arrays=stream.buffer(int(state.step)))
    runs, devices = [job.run for job in group], first_job.chosen.machine.devices
    ahead = pairs_of(runs, int(state.step), plan, devices, first_job.held)
    count = np.int32(plan.log_every)
    apart: tuple[bool, ...] = ()
    if split:
        sharding = member_sharding(machine.mesh(devices), len(group))
        run, apart = ensembles.stack([dataclasses.replace(one, sharding=None) for one in runs])
        run = shard_members(sharding, run, apart)
        state = ensembles.stack_all([job.state for job in group])
        state = shard_members(sharding, state, (True,) * len(jax.tree.leaves(state)))
    if ahead is not None:
        run, apart = with_pairs(run, apart, ahead.empty())
    with progress.working("compiling"):
        if split:
            program = compiler(train_members, run, state, count, chunk=plan.log_every, split=apart)
        else:
            program = compiler(train_steps, run, state, count, chunk=plan.log_every)

    for job in group:
        if job.member.check:
            compiler.warm(job.group(), partial(job.member.check, job.state))

    def score(i: int, state: TrainState) -> float:
        return score_of(group[i], state)

    try:
        turn = partial(next_round, first_job) if plan.round_ends else None
        state = fit(program, run, state, [job.member for job in group], plan, score, ahead or stream, turn)
        spent = ahead.cost() if ahead else None
        clock.lap("training", compiling=compiler.seconds)
    except UserError as error:
        if not all(job.member.failed for job in group):  # where all failed, each says why
            yield from (job.member.failed or error for job in group)
            return
    for i, job in enumerate(group):
        if job.member.failed:
            files.write_json(job.out / "error.json", {"error": str(job.member.failed)})
            yield job.member.failed
        else:
            mine = ensembles.member(state, i) if split else state
            together = f" for {len(group)} runs at once" if split else ""
            yield Result(
                partial(reported, job, mine, compiler.seconds, len(group), spent),
                draw=partial(draw_run, job, mine),
                end=partial(end_log, job),
                together=together,
            )


def reported(job: TrainJob, state: TrainState, compiling: float, members: int, spent: Cost | None) -> Report:
    """The report of a trained run, with how straight its flow is where it learnt from pairs."""
    return with_flow(job, state, report_of(job, state, compiling, members, spent))


def resolve_runs(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with init=, teacher= and coupling.run=latest resolved to folders, twice: to be kept, and to configure the process
    (Verb.resolve).
    """
    config = folder.with_latest(config)
    return config, config


VERB = jobs.Verb("train", resolve_runs, _choose, prepare_job, fit_group)
