"""diffsde train: fit a field to a dataset along a path."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde import checkpoints, ensembles
from diffsde.build import as_config, read
from diffsde.datasets import Examples, are_images, streaming
from diffsde.datasets.dataset import Source
from diffsde.datasets.scaling import same_scaling
from diffsde.datasets.streaming import Stream
from diffsde.errors import UserError
from diffsde.evaluation.in_training import check_metric, measured_figure, sampling_times
from diffsde.evaluation.kl import NAME, POINTS, is_available, kl_from_law, shown_kl
from diffsde.evaluation.validation import check_of, said_validation
from diffsde.fields import LearnedField
from diffsde.knobs import as_words
from diffsde.loggers import NoLogger
from diffsde.metrics.figures import Figure, Reference
from diffsde.nets import Net, count
from diffsde.objectives import Classification, Regression, has_finite_loss
from diffsde.runs import clock, files, folder, jobs, machine, processes, progress
from diffsde.runs.data_report import say_data
from diffsde.runs.lengthen import initial_params, lengthen
from diffsde.runs.restore import recorded_net
from diffsde.runs.results import Report, Result
from diffsde.runs.run_writer import DIVERGED, DIVERGED_RARE, RunWriter, Schedule
from diffsde.runs.starting import default_solver_error
from diffsde.runs.train_config import TrainConfig, field_of, in_precision, named
from diffsde.runs.training_loop import fit
from diffsde.sharding import Sharding, member_sharding, replicate, shard_members, shard_parameters
from diffsde.stability import UntrainedField
from diffsde.training import Run, TrainState, start, train_members, train_steps
from diffsde.verbs.train_setup import known_floor, linear_baseline, prepare_with, unlearnt

CURVE = 3  # lines of the log, of which a curve is made unasked


@dataclasses.dataclass
class TrainJob:
    """A run on its way: what it is, where it writes, and what it starts from."""

    config: dict[str, Any]
    chosen: TrainConfig
    out: Path
    run: Run
    state: TrainState
    floor: tuple[float, float] | None
    member: RunWriter
    stream: Stream | None
    data: dict[str, Any]
    net: Net

    def group(self) -> Any:
        """What has to be equal for jobs to be trained as one program."""
        if self.chosen.shard or self.stream:  # the one takes all devices, the other has examples of its own
            return self.out
        kind = ensembles.kind((self.run, self.state))
        return kind, int(self.state.step), self.member.plan


def train(config: dict[str, Any], out: Path) -> float:
    """Train, or go on with what `out` holds of this config, write the run folder, and return the figure `metric`."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Train many runs, those that differ in numbers alone as one vmapped program: the figure `metric` of each, or why not."""
    return jobs.together(VERB, asked)


def _choose(config: dict[str, Any]) -> TrainConfig:
    """The config's choices, its logger installed."""
    chosen = read(TrainConfig, config)
    check_metric(chosen.metric, chosen.dataset)
    chosen.logger.require()
    if chosen.dataset.stream:
        streaming.require()
    return chosen


def plan_of(chosen: TrainConfig) -> Schedule:
    log_every = min(chosen.log_every, chosen.steps)
    return Schedule(chosen.steps, log_every, chosen.checkpoint_every, chosen.keep, chosen.best)


def prepare_job(chosen: TrainConfig, config: dict[str, Any], out: Path, held: ExitStack) -> TrainJob:
    """All that a run needs before its first step, or its next: the state is the newest checkpoint's where there is one."""
    begun = (out / "config.json").exists()
    if begun:
        chosen = dataclasses.replace(chosen, dataset=chosen.dataset.found_from(folder.read_directory(out)))
    run, params, net = prepare_with(chosen, recorded_net(out) if begun else None)
    scaling = chosen.dataset.scaling(run.problem.moments.mean.shape)
    if chosen.init is not None and not checkpoints.steps(out / "checkpoints"):
        params = initial_params(chosen, params, run.classes)
    if begun and not same_scaling(scaling, folder.read_scaling(out)):
        raise UserError(
            f"run: the data have changed since '{out}' was begun, their mean or std is another; begin another run, in"
            " another folder or with resume=false"
        )
    if {*as_words(chosen.pictures)} - {"default", "all"}:  # a name that is none is said before anything is trained
        from diffsde.pictures import chosen_pictures

        chosen_pictures(as_words(chosen.pictures), pictured(run))
    data = say_data(chosen.dataset)
    progress.scaled(scaling, chosen.dataset.column_names())
    floor = known_floor(run, chosen.dataset)
    sharding = sharding_of(chosen)
    run = dataclasses.replace(replicate(sharding, run), sharding=sharding)
    fresh = shard_parameters(sharding, start(run, params))
    if chosen.metric != "loss":  # what cannot be judged is said before it is trained
        sampling_times(field_of(chosen, run.problem.moments, run.problem.graph, params, run.classes), chosen.dataset)
    if isinstance(objective := run.problem.objective, Regression):
        field = UntrainedField(chosen.path, run.problem.moments, objective.kind, chosen.precondition)
        if wrong := default_solver_error(field, chosen.dataset):
            progress.warn(f"diffsde sample, by default: {wrong}")
    rate = partial(chosen.optimizer.rate, chosen.steps)
    diverged_ratio = DIVERGED if has_finite_loss(run.problem) else DIVERGED_RARE
    member = RunWriter(out, plan_of(chosen), run.problem.moments, run.classes, rate, diverged_ratio)
    member.check = check_of(chosen, run)
    state = member.resume(fresh, sharding)
    if chosen.run is not None:
        lengthen(out, chosen, config, int(state.step))
    if step := int(state.step):
        progress.say(f"going on with {progress.shown(out)} from step {step} (resume=false begins afresh)")
    stream = None
    if chosen.dataset.stream:
        stream = held.enter_context(closing(stream_of(chosen, member.plan, step, sharding)))
    logger = chosen.logger if processes.is_main_process() else NoLogger()
    member.recorder = held.enter_context(logger.open(out, config, step, progress.warn))
    if not begun:
        folder.write_config(out, "train", config, scaling, as_config(net))
    return TrainJob(config, chosen, out, run, state, floor, member, stream, data, net)


def stream_of(chosen: TrainConfig, plan: Schedule, step: int, sharding: Sharding | None) -> Stream:
    """The examples of the steps from `step` on."""
    source = chosen.dataset.source()
    read = partial(read_in_precision, chosen.precision, source)
    return Stream(
        source._replace(read=read), chosen.seed, chosen.batch_size, plan.log_every, (step, plan.steps), sharding
    )


def read_in_precision(precision: str, source: Source, rows: np.ndarray) -> Examples:
    return in_precision(precision, source.read(rows))


def sharding_of(chosen: TrainConfig) -> Sharding | None:
    """Over which devices the run is spread. Raises UserError where its batch does not divide evenly among them."""
    mesh = machine.mesh(chosen.devices)
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


def fit_group(group: list[TrainJob]) -> list[Result | UserError]:
    """Train jobs of one structure as one program: the result of each, or why it failed."""
    compiler, first_job, split = machine.Compiler(), group[0], len(group) > 1
    plan, run, state, stream = first_job.member.plan, first_job.run, first_job.state, first_job.stream
    if stream is not None:
        run = dataclasses.replace(run, arrays=stream.buffer(int(state.step)))
    count = np.int32(plan.log_every)
    apart: tuple[bool, ...] = ()
    if split:
        sharding = member_sharding(machine.mesh(first_job.chosen.devices), len(group))
        run, apart = ensembles.stack([dataclasses.replace(job.run, sharding=None) for job in group])
        run = shard_members(sharding, run, apart)
        state = ensembles.stack_all([job.state for job in group])
        state = shard_members(sharding, state, (True,) * len(jax.tree.leaves(state)))
    with progress.working("compiling"):
        if split:
            program = compiler(train_members, run, state, count, chunk=plan.log_every, split=apart)
        else:
            program = compiler(train_steps, run, state, count, chunk=plan.log_every)

    for job in group:
        if job.member.check:
            compiler.warm(job.group(), partial(job.member.check, job.state))

    def score(i: int, state: TrainState) -> float:
        return figure(group[i], state)

    try:
        state = fit(program, run, state, [job.member for job in group], plan, score, stream)
        clock.lap("training", compiling=compiler.seconds)
    except UserError as error:
        if not all(job.member.failed for job in group):  # each of which says why
            return [job.member.failed or error for job in group]
    results: list[Result | UserError] = []
    for i, job in enumerate(group):
        if job.member.failed:
            files.write_json(job.out / "error.json", {"error": str(job.member.failed)})
            results.append(job.member.failed)
        else:
            mine = ensembles.member(state, i) if split else state
            together = f" for {len(group)} runs at once" if split else ""
            results.append(
                Result(
                    partial(_report, job, mine, compiler.seconds, len(group)),
                    draw=partial(draw_run, job, mine),
                    end=partial(end_log, job),
                    together=together,
                )
            )
    return results


def figure(job: TrainJob, state: TrainState) -> float:
    """The figure that `metric` names, of the first parameter average."""
    if job.chosen.metric == "loss":
        return final_loss(job.member.losses() or job.member.window)  # a checkpoint may come before the first line
    key = jax.random.fold_in(job.run.key, 2**31 - 2)
    return measured_figure(averaged(job, state), job.chosen.dataset, job.chosen.metric, key).distance_from_target


def kl_of(job: TrainJob, state: TrainState) -> Figure | None:
    """KL(p || p_theta) of the first parameter average, where `train` measures it; by the first of several processes alone."""
    dataset = job.chosen.dataset
    if not is_available(dataset, job.chosen.steps) or not isinstance(job.run.problem.objective, Regression):
        return None
    field = processes.all_gather(averaged(job, state))
    return (
        kl_from_law(field, dataset, jax.random.fold_in(job.run.key, 2**31 - 7)) if processes.is_main_process() else None
    )


def averaged(job: TrainJob, state: TrainState) -> LearnedField:
    """The field of the first parameter average, which lies where the run's own numbers do."""
    problem, params = job.run.problem, shard_parameters(job.run.sharding, ensembles.member(state.ema, 0))
    return field_of(job.chosen, problem.moments, problem.graph, params, job.run.classes)


def loss_error(losses: list[float]) -> float | None:
    """The standard error of final_loss, by how the lines of the log that it is the mean of scatter; None for fewer than 4."""
    tail = losses[-max(1, len(losses) // 10) :]
    return float(np.std(tail, ddof=1) / np.sqrt(len(tail))) if len(tail) > 3 else None


def final_loss(losses: list[float]) -> float:
    """The mean over the last tenth of the steps."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _report(job: TrainJob, state: TrainState, compiling: float, members: int) -> Report:
    """What came of a trained run: its loss, beside what it is held against, and the metric that it is judged by."""
    chosen, losses, run = job.chosen, job.member.losses(), job.run
    loss, held_out = Figure(final_loss(losses), loss_error(losses)), job.member.validation()
    if job.floor is not None:
        loss = loss._replace(reference=Reference("floor", *job.floor))
    diverged = job.member.diverging(loss.value)
    metric = job.member.score(chosen.steps) if chosen.best else figure(job, state)
    kl = None if diverged else kl_of(job, state)
    seconds, cpu_seconds = job.member.seconds()
    summary = {
        "steps": chosen.steps,
        "parameters": count(state.params),
        "metric": {"name": chosen.metric, "value": metric},
        "loss": loss.as_dict(),
        **({"validation_loss": {"value": held_out[-1][0], "error": held_out[-1][1]}} if held_out else {}),
        **({"kl": kl.as_dict() | {"n": POINTS}} if kl else {}),
        **({"diverged": diverged} if diverged else {}),
        **({"weight": run.problem.objective.weight} if isinstance(run.problem.objective, Regression) else {}),
        "data": job.data,
        "data_std": float(run.problem.moments.std),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_compile": compiling,
        "members": members,
        "devices": jax.device_count() if run.sharding is None else run.sharding.mesh.size,
        "device": jax.devices()[0].device_kind,
    }
    if diverged and not job.member.warned:
        progress.warn(diverged)
    little = None if diverged else unlearnt(loss.value, job.floor and job.floor[0], linear_baseline(run), job.net)
    others = f" for {members} runs at once" if members > 1 else ""
    rows = [
        ("parameters", f"{summary['parameters']:,}"),
        ("loss", shown_loss(loss) + (f"  diverged: untrained {job.member.untrained:.4g}" if diverged else "")),
        *([(NAME, shown_kl(kl, bool(run.classes)))] if kl else []),
        *([("validation loss", said_validation(held_out, loss.value))] if held_out else []),
        *([(chosen.metric.replace("_", " "), f"{metric:.4f}")] if chosen.metric != "loss" else []),
        ("speed", f"{chosen.steps / seconds:.0f} steps/s{others}"),
        *([("still to learn", little)] if little else []),
        ("run", progress.shown(job.out)),
        *([("logger", job.member.recorder.about)] if job.member.recorder.about else []),
        ("next", next_command(chosen, are_images(run.problem.moments.mean.shape), job.out)),
    ]
    return Report(f"trained {named(chosen)}", rows, summary, metric)


def shown_loss(loss: Figure) -> str:
    """The loss, its error, and the loss that no network passes where it is known."""
    error = "" if loss.error is None else f" +- {loss.error:.4f}"
    floor = loss.reference
    return f"{loss.value:.4f}{error}" + (
        f"  (irreducible, on average: {floor.value:.4f} +- {floor.error:.4f})" if floor else ""
    )


def end_log(job: TrainJob, report: Report, pictures: list[Path]) -> None:
    """Tell the run's logger how it ended."""
    job.member.recorder.finish(report.summary, pictures)


def draw_run(job: TrainJob, state: TrainState) -> list[Path]:
    """Draw the pictures of a trained run that were asked for, and say which there are besides; their paths."""
    chosen = job.chosen
    words = as_words(chosen.pictures)
    short = "default" in words and "loss" not in words and len(job.member.losses()) < CURVE
    if short:
        progress.say(
            f"no loss.png: fewer than {CURVE} lines of the log make no curve (log_every={job.member.plan.log_every})"
        )
    if not words or (short and words == ("default",) and not are_images(job.run.problem.moments.mean.shape)):
        return []
    from diffsde import pictures  # with which matplotlib comes in

    kind = pictured(job.run)
    wanted = pictures.chosen_pictures(words, kind)
    field = processes.all_gather(averaged(job, state)) if "samples" in wanted else None
    if not processes.is_main_process():
        return []
    if short:
        wanted.pop("loss", None)
    held_out, title = [value for value, _ in job.member.validation()], f"{named(chosen)}, {chosen.steps:,} steps"
    curve = job.member.losses(), job.member.plan.log_every, chosen.steps, job.floor and job.floor[0], title
    key = jax.random.fold_in(jax.random.key(chosen.seed), 2**31 - 3)
    scene = pictures.TrainedRun(*curve, held_out, job.member.regrets(), field, chosen.dataset, key)
    paths = pictures.draw_pictures(scene, wanted, job.out / "plots")
    if more := pictures.more_pictures(wanted, kind):
        progress.say(more)
    return paths


def pictured(run: Run) -> str:
    """The kind of pictures that a run has."""
    from diffsde import pictures

    images = are_images(run.problem.moments.mean.shape) and isinstance(run.problem.objective, Regression)
    return pictures.RUN_ON_IMAGES if images else pictures.RUN


def next_command(chosen: TrainConfig, images: bool, run: Path) -> str:
    """What the run is for. On images, a thin set, constant sigma would be unstable, and 10,000 samples are many."""
    if isinstance(chosen.objective, Classification):
        return f"diffsde sample labels=all guidance=2 {progress.word('guide', run)} run=<a field on the same path>"
    labels = (" labels=all guidance=2" if images else " labels=all") if chosen.dataset.conditional else ""
    how = "steps=50 n=100" if images else "sampler=em sigma=0.5"
    return f"diffsde sample {how}{labels} {progress.word('run', run)}"


def with_init(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with the folder that init=latest means now, twice: as it is kept, and as the process is set up by."""
    if config.get("init") == "latest":
        config = config | {"init": str(folder.latest())}
    return config, config


VERB = jobs.Verb("train", with_init, _choose, prepare_job, fit_group)
