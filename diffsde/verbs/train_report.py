"""The report of a trained run: its figures, its table and its pictures."""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde import ensembles
from diffsde.datasets import Snapshots, are_images
from diffsde.datasets.normal import density_of
from diffsde.datasets.streaming import Stream
from diffsde.discrete_flow import DiscreteFlow
from diffsde.evaluation.in_training import GAPS, measured_figure, score_name
from diffsde.evaluation.kl import NAME, POINTS, is_available, kl_from_law, shown_kl
from diffsde.evaluation.shown import directions, figure_rows, units
from diffsde.evaluation.validation import said_validation
from diffsde.knobs import as_words
from diffsde.likelihood import bits_per_dim
from diffsde.metrics.figure_text import SMALL, decimals, with_places
from diffsde.metrics.figures import Figure, Reference
from diffsde.nets import Net, count
from diffsde.objectives import (
    Classification,
    DiscreteLikelihood,
    FlowMapObjective,
    Likelihood,
    Regression,
    VelocityAndScore,
)
from diffsde.pairs_ahead import Cost
from diffsde.runs import processes, progress
from diffsde.runs.results import Report, summary_figures
from diffsde.runs.run_writer import RunWriter
from diffsde.runs.train_config import TrainConfig, TrainedField, field_of, flow_of, named
from diffsde.sharding import shard_parameters
from diffsde.training import Run, TrainState
from diffsde.verbs.train_pairs import row_of_cost, summary_of_cost
from diffsde.verbs.train_setup import learned, linear_baseline, unlearnt

CURVE = 3  # least number of lines of the log for which loss.png is drawn by default


@dataclasses.dataclass
class TrainJob:
    """A training job: its config and choices, the folder it writes, the state it starts from, and its log (`member`)."""

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
    held: ExitStack

    def group(self) -> Any:
        """The key of jobs that can be trained as one program: equal for jobs of one structure."""
        if self.chosen.shard or self.stream or self.member.plan.round_ends:
            # a sharded run uses all devices, a streamed one has examples of its own, and one with rounds its own pairs
            return self.out
        kind = ensembles.kind((self.run, self.state))
        return kind, int(self.state.step), self.member.plan


def score_of(job: TrainJob, state: TrainState) -> float:
    """The score of a state, lower is better: the loss, or the figure `metric`'s distance from its target (first average).

    The loss is that of the first average on the points or pairs for validation where there are any, else of the last steps. Infinite
    in a round before the last, whose pairs are others.
    """
    if int(state.step) <= max(job.member.plan.round_ends[:-1], default=-1):
        return math.inf
    found = metric_figure(job, state)
    if found is None:
        validated = job.chosen.dataset.has_validation or job.run.pair_set is not None
        if validated and job.member.check:
            average = state._replace(params=ensembles.member(state.ema, 0))
            return float(job.member.check(average)["validation_loss"])
        losses = job.member.log.column("loss")
        return final_loss(losses if losses.size else np.array(job.member.window))  # a checkpoint before the first line
    return found.distance_from_target


def metric_figure(job: TrainJob, state: TrainState) -> Figure | None:
    """The figure of samples that `metric` names, of the first parameter average; None where that is the loss."""
    if job.chosen.metric == "loss":
        return None
    key = jax.random.fold_in(job.run.key, 2**31 - 2)
    field, cache = averaged(job, state), job.chosen.machine.cache_folder
    return measured_figure(field, job.chosen.dataset.validated(), job.chosen.metric, key, cache, job.run.source)


def kl_of(job: TrainJob, state: TrainState) -> Figure | None:
    """KL(p || p_theta) of the first parameter average; None where not measured, and on all processes but the first."""
    dataset = job.chosen.dataset
    if not is_available(dataset, job.chosen.steps) or isinstance(job.run.problem.objective, Classification):
        return None
    law = None
    if job.run.source is not None and (law := density_of(job.run.source)) is None:
        return None
    if isinstance(job.chosen.objective, FlowMapObjective) and job.chosen.objective.ends_only:
        return None  # no velocity is learnt, whose ODE would give a density
    field, key = processes.all_gather(averaged(job, state)), jax.random.fold_in(job.run.key, 2**31 - 7)
    return kl_from_law(field, dataset, key, law) if processes.is_main_process() else None


def averaged(job: TrainJob, state: TrainState) -> TrainedField | DiscreteFlow:
    """The field, or the discrete flow, of the first parameter average, sharded like the run."""
    params = shard_parameters(job.run.sharding, ensembles.member(state.ema, 0))
    if job.chosen.is_flow:
        return flow_of(learned(job.run), params)
    return field_of(job.chosen, learned(job.run), params)


def loss_error(losses: np.ndarray) -> float | None:
    """The standard error of final_loss, from the scatter of the averaged lines of the log; None for fewer than 4 lines."""
    tail = losses[-max(1, len(losses) // 10) :]
    return float(np.std(tail, ddof=1) / np.sqrt(len(tail))) if len(tail) > 3 else None


def final_loss(losses: np.ndarray) -> float:
    """The mean loss over the last tenth of the log's lines."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def report_of(job: TrainJob, state: TrainState, compiling: float, members: int, pairs: Cost | None = None) -> Report:
    """The report of a trained run: its loss compared with the irreducible loss, its metric, KL and speed.

    pairs: what the coupling of all members has cost.
    """
    chosen, log, run = job.chosen, job.member.log, job.run
    losses, held_out = log.column("loss"), log.last("validation_loss")
    loss = Figure(final_loss(losses), loss_error(losses))
    if job.floor is not None:
        loss = loss._replace(reference=Reference("floor", *job.floor))
    diverged = job.member.diverging(loss.value)
    measured = None if chosen.best else metric_figure(job, state)
    if chosen.best:
        metric = log.scores[chosen.steps]
    else:
        metric = loss.value if measured is None else measured.distance_from_target
    shape = run.problem.moments.mean.shape
    scaled = chosen.dataset.scaling(shape) is not None
    kl = None if diverged else kl_of(job, state)
    seconds, cpu_seconds = log.seconds
    coupled = summary_of_cost(run.coupling, pairs) if run.coupling and pairs else None
    bits = bits_of(job, loss.value, held_out)
    nfe, marginal = log.column("nfe"), None
    if isinstance(objective := run.problem.objective, Regression) and objective.marginal:
        marginal = log.last("regret")
    summary = {
        "steps": chosen.steps,
        "parameters": count(state.params),
        "metric": {"name": score_name(chosen.metric), "value": metric},
        "loss": loss.as_dict(),
        **(
            {"validation_loss": {"value": held_out, "error": log.last("validation_error")}}
            if held_out is not None
            else {}
        ),
        **(summary_of_metric(chosen.metric, measured, scaled) if measured else {}),
        **({"kl": kl.as_dict() | {"n": POINTS}} if kl else {}),
        **({"bits_per_dim": bits} if bits else {}),
        **({"diverged": diverged} if diverged else {}),
        **({"weight": run.problem.objective.weight} if isinstance(run.problem.objective, Regression) else {}),
        **({"coupling": coupled} if coupled else {}),
        **({"marginal_loss": marginal} if marginal is not None else {}),
        **({"nfe": {"first": float(nfe[0]), "mean": float(nfe.mean()), "last": float(nfe[-1])}} if nfe.size else {}),
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
        *(
            [("validation loss", said_validation(log.column("validation_loss", "validation_error"), loss.value))]
            if held_out is not None
            else []
        ),
        *([("bits per dim", ", ".join(f"{value:.3f} {of}" for of, value in bits.items()))] if bits else []),
        *(rows_of_metric(chosen.metric, metric, measured, scaled) if chosen.metric != "loss" else []),
        ("speed", f"{chosen.steps / seconds:.0f} steps/s{others}"),
        *([("marginal loss", marginal_loss(marginal))] if marginal is not None else []),
        *([("evaluations", shown_nfe(nfe))] if nfe.size else []),
        *([row_of_cost(run.coupling, coupled, others, run.batch_size)] if coupled else []),
        *([("still to learn", little)] if little else []),
        ("run", progress.shown_path(job.out)),
        *([("logger", job.member.recorder.about)] if job.member.recorder.about else []),
        ("next", next_command(chosen, are_images(shape), job.out)),
    ]
    return Report(f"trained {named(chosen)}", rows, summary, metric)


def bits_of(job: TrainJob, loss: float, held_out: float | None) -> dict[str, float]:
    """Bits per dimension of a likelihood's loss, and of that on held-out points, for images in bytes; {} for all else."""
    if not isinstance(job.chosen.objective, Likelihood) or not job.chosen.dataset.in_bytes(job.chosen.dataset.load()):
        return {}
    both = {"training": loss} | ({} if held_out is None else {"held out": held_out})
    return {of: float(bits_per_dim(np.asarray(-value), 1)) for of, value in both.items()}  # type: ignore[arg-type]


def summary_of_metric(word: str, measured: Figure, scaled: bool) -> dict[str, Any]:
    """The figure that `metric` names, as a summary has figures of samples."""
    name = GAPS.get(word, word)
    return {
        "metrics": summary_figures({name: measured}),
        "units": units([name], scaled),
        "directions": directions([name]),
    }


def rows_of_metric(word: str, score: float, measured: Figure | None, scaled: bool) -> list[tuple[str, str]]:
    """What a run is scored by: the figure with what it is held against, and the score where that is not the figure's value."""
    figure, name = GAPS.get(word, word), score_name(word)
    rows = figure_rows({figure: measured}, scaled=scaled) if measured else []
    if measured is None or name != figure:
        rows.insert(0, (name.replace("_", " "), f"{score:.4f} {units([figure], scaled).get(figure, '')}".strip()))
    return rows


def shown_loss(loss: Figure) -> str:
    """The loss as text, with its error, and the irreducible loss where it is known."""
    places = 4 if loss.value >= SMALL else decimals(loss.error or abs(loss.value) / 100)
    error = "" if loss.error is None else f" +- {with_places(loss.error, places)}"
    floor = loss.reference
    return f"{with_places(loss.value, places)}{error}" + (
        f"  (irreducible, on average: {floor.value:.4f} +- {floor.error:.4f})" if floor else ""
    )


def marginal_loss(value: float) -> str:
    """L_FM, the loss against E[y | x_t], of the parameter average, with what L_CFM has beside it."""
    return f"{with_places(value, 4)} against E[y | x_t]; the loss against y is on average that and the irreducible loss"


def shown_nfe(nfe: np.ndarray) -> str:
    """Evaluations of the network per solve of a batch, of the log's lines, as text."""
    return f"{nfe[-1]:.0f} of the network per solve, forward (first line {nfe[0]:.0f}, on average {np.mean(nfe):.1f})"


def end_log(job: TrainJob, report: Report, pictures: list[Path]) -> None:
    """Pass the summary and the pictures to the run's logger."""
    job.member.recorder.finish(report.summary, pictures)


def draw_run(job: TrainJob, state: TrainState) -> list[Path]:
    """Draw the pictures of `pictures=` for a trained run, and print which others there are; their paths."""
    chosen, log = job.chosen, job.member.log
    words = as_words(chosen.pictures)
    short = "default" in words and "loss" not in words and log.column("loss").size < CURVE
    if short:
        progress.say(
            f"no loss.png: fewer than {CURVE} lines of the log make no curve (log_every={job.member.plan.log_every})"
        )
    if not words or (short and words == ("default",) and not are_images(job.run.problem.moments.mean.shape)):
        return []
    from diffsde import pictures  # here: it imports matplotlib

    kind = pictured(job.run)
    wanted = pictures.chosen_pictures(words, kind)
    field: Any = processes.all_gather(averaged(job, state)) if {"samples", "marginals"} & {*wanted} else None
    if not processes.is_main_process():
        return []
    if short:
        wanted.pop("loss", None)
    held_out, title = log.column("validation_loss"), f"{named(chosen)}, {chosen.steps:,} steps"
    curve = log.column("loss"), job.member.plan.log_every, chosen.steps, job.floor and job.floor[0], title
    key = jax.random.fold_in(jax.random.key(chosen.seed), 2**31 - 3)
    scene = pictures.TrainedRun(
        *curve, held_out, log.column("step of regret", "regret"), field, chosen.dataset, key, between(job)
    )
    paths = pictures.draw_pictures(scene, wanted, job.out / "plots")
    if more := pictures.more_pictures(wanted, kind):
        progress.say(more)
    return paths


def pictured(run: Run) -> str:
    """The kind of a run's pictures, a key of PICTURES."""
    from diffsde import pictures

    shape = run.problem.moments.mean.shape
    objective = run.problem.objective
    if isinstance(objective, Classification | DiscreteLikelihood) or (
        isinstance(objective, Likelihood) and not are_images(shape)
    ):
        return pictures.RUN
    if shape in ((1,), (2,)):
        return pictures.RUN_IN_PLANE
    return pictures.RUN_ON_IMAGES if are_images(shape) else pictures.RUN


def between(job: TrainJob) -> Any:
    """How x_t of a run's data comes about (pictures.Between)."""
    from diffsde import pictures

    run, series = job.run, job.chosen.dataset if isinstance(job.chosen.dataset, Snapshots) else None
    return pictures.Between(run.problem.path, run.source, run.coupling, run.batch_size, series)


def next_command(chosen: TrainConfig, images: bool, run: Path) -> str:
    """The command to type next. For images: few samples, and no SDE, since constant sigma is unstable on such thin data."""
    if isinstance(chosen.objective, Classification):
        return f"diffsde sample labels=all guidance=2 {progress.word('guide', run)} run=<a field on the same path>"
    labels = (" labels=all guidance=2" if images else " labels=all") if chosen.dataset.conditional else ""
    if chosen.is_flow:
        labels = " labels=all" if chosen.dataset.conditional else ""
        return f"diffsde sample{' n=100' if images else ''}{labels} {progress.word('run', run)}"
    how = "steps=50 n=100" if images else "sampler=em sigma=0.5"
    if isinstance(chosen.objective, Likelihood):
        how = "sampler=heun" + (" steps=50 n=100" if images else "")
    elif isinstance(chosen.objective, FlowMapObjective):
        how = f"sampler={'consistency' if chosen.objective.ends_only else 'flow_map'}" + (" n=100" if images else "")
    elif chosen.between_laws:
        knows_score = isinstance(chosen.objective, VelocityAndScore) or chosen.source_is_noise
        how = "sampler=em" if knows_score else "sampler=heun"
    return f"diffsde sample {how}{labels} {progress.word('run', run)}"
