"""diffsde evaluate: measure how good a field is, by test points, and how good its samples are."""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde import extras
from diffsde.build import keys_of, read_parts
from diffsde.datasets.scaling import Scaling, to_model
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.evaluation.field_error import FieldErrors
from diffsde.evaluation.likelihood import Likelihood
from diffsde.evaluation.metric import Drawing, Metric, Subject
from diffsde.evaluation.references import usual_number
from diffsde.evaluation.shown import directions, figure_rows, units
from diffsde.evaluation.straightness import Straightness
from diffsde.evaluation.table import Chosen, check_words, choose_metrics, figures_kept
from diffsde.evaluation.transport import W1, W2
from diffsde.fields import Field
from diffsde.metrics.distances import MOST
from diffsde.metrics.figures import Figure
from diffsde.runs import clock, files, folder, jobs, progress, records, sample_config, shapes
from diffsde.runs.drawn_arrays import read_drawn
from diffsde.runs.flow_sampling import FlowJob, drawn_of
from diffsde.runs.load_field import load_field
from diffsde.runs.load_flow import load_flow, names_flow
from diffsde.runs.machine import Machine
from diffsde.runs.outputs import Outputs
from diffsde.runs.record import as_found
from diffsde.runs.restore import read_train_config
from diffsde.runs.results import Arrays, Report, Result, summary_figures
from diffsde.runs.sample_config import SampleConfig, Sampling, describe
from diffsde.runs.simulating import SampleJob, how_drawn, simulate_jobs
from diffsde.verbs import sample, sample_flow


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """The knobs of configs/evaluate.yaml that belong to no metric; the file documents each."""

    samples: str | None
    metrics: tuple[str, ...] | None
    transport_points: int | None

    def check(self) -> None:
        """Raise ValueError for words of metrics= that name no metric, UserError where transport_points needs POT."""
        if self.metrics is not None:
            check_words(self.metrics)
        if self.transport_points is not None and self.transport_points > MOST:
            extras.require("ot", "ot", f"transport_points={self.transport_points}, above {MOST},", "POT")


PARTS = (Machine, Outputs, Sampling, Likelihood, EvaluateConfig)


class Choices(NamedTuple):
    """The choices of an evaluation: what is measured, the likelihood's settings, and how samples are drawn."""

    own: EvaluateConfig
    likelihood: Likelihood
    draws: SampleConfig


class Samples(NamedTuple):
    """Samples x (n, *shape) in the model's units, and their labels y (n,), or None."""

    x: np.ndarray
    y: np.ndarray | None


@dataclasses.dataclass
class EvaluateJob:
    """An evaluation to be done: everything that is read before anything is computed.

    samples: how to draw the samples, or the samples of samples=; None: no metric needs any. named: whether the user named
    the metrics.
    """

    config: dict[str, Any]
    draws: SampleConfig
    out: Path
    subject: Subject
    origin: str
    metrics: list[Chosen]
    named: bool
    samples: SampleJob | FlowJob | Samples | None

    def group(self) -> Any:
        """Jobs are never computed together: every job is a group of its own."""
        return self.out


def evaluate(config: dict[str, Any], out: Path) -> float:
    """Measure, write the folder `out`, and return the first figure's distance from its target."""
    return jobs.alone(VERB, config, out)


def _resolve(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with run=latest resolved and, for samples=, with the knobs that these samples were drawn with."""
    if config["samples"] is not None:
        theirs = folder.read_config(Path(str(config["samples"])), "samples", "sample")
        theirs = as_found(theirs, files.read_json(Path(str(config["samples"])) / "summary.json", shape=shapes.SUMMARY))
        if theirs.get("measurement") is not None:
            raise UserError("samples: these are reconstructions, judged by what was measured where they were drawn")
        config = config | {key: theirs[key] for key in drawing_knobs() if key in theirs}
        config = config | {"run": run_of(Path(str(config["samples"])), config["run"])}
    return sample_config.resolve_latest(config)


def run_of(samples: Path, named: Any) -> Any:
    """The folder of the run that samples were drawn from, found by its id where it was moved; as named where it is there, or gone."""
    record = records.read_record(samples)
    if record is None or not records.is_of_run(record) or os.path.isdir(named):
        return named
    found = records.job_used(record, "run")
    return records.shown(found.folder) if found is not None else named


def drawing_knobs() -> list[str]:
    """The names of the knobs that say how samples are drawn."""
    return sorted(keys_of((Machine, Sampling))[Sampling])


def refuse_words(words: list[str]) -> None:
    """Raise UserError for a word of the command line that says how to draw samples, which samples= rules out."""
    for word in words:
        key = word.partition("=")[0].lstrip("+~").partition("@")[0]
        if key.partition(".")[0] in (*drawing_knobs(), "diffusion"):
            raise UserError(f"samples= are judged as they were drawn; they cannot be combined with {word}")


def _choose(config: dict[str, Any]) -> Choices:
    numbered = config | ({"n": 1} if config["n"] is None else {})
    _, _, sampling, likelihood, own = read_parts(numbered, *PARTS)
    draws = sample_config.only_judged(sampling)
    if draws.direction == "backward" and draws.labels is not None:
        raise UserError(
            "labels: backward in time they are of the starting points, and no metric asks for them; leave them out"
        )
    if config["n"] is None:
        draws = dataclasses.replace(draws, n=number_of_samples(draws))
    return Choices(own, likelihood, draws)


def number_of_samples(draws: SampleConfig) -> int:
    """The default number of samples (references.usual_number)."""
    dataset = draws.dataset
    if draws.run != "oracle":
        dataset = read_train_config(Path(draws.run)).dataset
    assert dataset is not None
    labels = np.arange(dataset.classes(dataset.load())) if draws.labels == "all" else draws.labels
    return usual_number(dataset, None if labels is None else np.asarray(labels))


def prepare(chosen: Choices, config: dict[str, Any], out: Path, held: ExitStack) -> EvaluateJob:
    """The evaluation's field, samples (or how to draw them) and metrics. Raises UserError for a metric that is not available."""
    own, _, draws = chosen
    samples: SampleJob | Samples | None
    if names_flow(draws.run):
        return prepare_flow(chosen, config, out, held)
    if own.samples is not None:
        field, dataset, origin, source, coupling = load_field(draws)
        samples = read_samples(Path(own.samples), field.shape, dataset.scaling(field.shape))
        draws = dataclasses.replace(draws, n=len(samples.x))
        labels = samples.y
    else:
        samples = sample.prepare_field(draws, config, out, held)
        field, dataset, origin, source = samples.field, samples.dataset, samples.origin, samples.source
        labels, coupling = samples.data_labels, samples.coupling
    subject = Subject(
        dataset,
        field,
        draws.n,
        labels=labels,
        field_labels=given_labels(draws, field),
        guided=draws.guided,
        cache=draws.machine.cache_folder,
        drawing=drawing_of(samples) if isinstance(samples, SampleJob) else None,
        source=source,
        coupling=coupling,
    )
    return with_metrics(chosen, config, out, subject, origin, samples, draws)


def prepare_flow(chosen: Choices, config: dict[str, Any], out: Path, held: ExitStack) -> EvaluateJob:
    """The same of a discrete flow."""
    own, _, draws = chosen
    samples: FlowJob | Samples
    if own.samples is not None:
        flow, dataset, origin = load_flow(draws)
        samples = read_samples(Path(own.samples), flow.shape, dataset.scaling(flow.shape))
        draws, labels = dataclasses.replace(draws, n=len(samples.x)), samples.y
    else:
        samples = sample_flow.prepare_flow(draws, config, out)
        flow, dataset, origin, labels = samples.flow, samples.dataset, samples.origin, samples.data_labels
    subject = Subject(
        dataset,
        n=draws.n,
        labels=labels,
        field_labels=given_labels(draws, flow),
        cache=draws.machine.cache_folder,
        model=flow,
    )
    return with_metrics(chosen, config, out, subject, origin, samples, draws)


def with_metrics(
    chosen: Choices,
    config: dict[str, Any],
    out: Path,
    subject: Subject,
    origin: str,
    samples: SampleJob | FlowJob | Samples | None,
    draws: SampleConfig,
) -> EvaluateJob:
    """The evaluation with its metrics, and with samples where one of these needs them. Raises UserError."""
    own, likelihood, _ = chosen
    points = own.transport_points
    made: dict[str, Metric] = {
        "likelihood": likelihood,
        "w2": W2(points),
        "w1": W1(points),
        "straightness": Straightness(points),
    }
    metrics = choose_metrics(own.metrics, subject, made, many=bool(config["n"]))
    if not any("samples" in each.metric.needs for each in metrics):
        samples = None
    return EvaluateJob(config, draws, out, subject, origin, metrics, own.metrics is not None, samples)


def drawing_of(job: SampleJob) -> Drawing:
    """How the samples of a job are drawn."""
    chosen = job.chosen
    return Drawing(
        chosen.sampler, job.placed, job.steps, job.last, chosen.coupled, job.x0, job.key_noise, job.condition
    )


def given_labels(draws: SampleConfig, field: Field | DiscreteFlow) -> np.ndarray | None:
    """The distinct labels that the field is conditioned on; None where there are none."""
    if draws.labels is None:
        return None
    return np.arange(field.classes) if draws.labels == "all" else np.unique(draws.labels)


def read_samples(place: Path, shape: tuple[int, ...], scaling: Scaling | None) -> Samples:
    """The samples of a sample folder, converted by `scaling` to the model's units. Raises UserError where they cannot be used."""
    path = place / "samples.npz"
    try:
        x, y = read_drawn(place)
    except UserError as error:
        raise UserError(f"samples: {error}") from None
    if x.shape[1:] != shape:
        raise UserError(f"samples: '{path}' has points of shape {x.shape[1:]}, the field of {shape}")
    if bad := int((~np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum()):
        raise UserError(
            f"samples: {bad} of the {len(x)} points in '{path}' are NaN or infinite; leave them out of the file"
        )
    return Samples(to_model(scaling, x), y)


def _measure(group: list[EvaluateJob]) -> list[Result | UserError]:
    """The result of each job; the metrics are computed when it is reported."""
    return [
        Result(
            partial(_report, job),
            figures=partial(_figures, job) if any(each.name == "budget" for each in job.metrics) else None,
            lap="writing",
        )
        for job in group
    ]


def _figures(job: EvaluateJob) -> dict[str, Any]:
    """The picture of the field's error by t, where that was measured, by the name of its file."""
    errors: FieldErrors | None = job.subject.kept.get("field_errors")
    if errors is None:
        return {}
    from diffsde.plots.field_error import error_by_time  # here: matplotlib takes a while

    return {"budget.png": error_by_time(*errors[:5], f"{job.origin}, {describe(job.config)}")}


def _report(job: EvaluateJob) -> Report:
    """The report of all metrics, measured in the order asked for. Raises UserError where nothing could be measured."""
    summary, rows, arrays = {"field": job.origin}, [], {}  # type: tuple[dict[str, Any], list[tuple[str, str]], Arrays]
    add_samples(job, summary, rows, arrays)
    clock.lap("sampling", compiling=summary.get("seconds_compile", 0.0))
    key_field, key_samples = jax.random.split(jax.random.fold_in(jax.random.key(job.draws.seed), 1))
    figures: dict[str, Figure] = {}
    for name, metric, kept in job.metrics:
        progress.begun(f"measuring {name}")
        try:
            found = metric.measure(job.subject, key_samples if "samples" in metric.needs else key_field)
        except UserError as error:
            if job.named:
                raise
            progress.say(f"not measured: {name}: {error}")
        else:
            if lacking := (kept or frozenset()) - found.figures.keys():
                there = ", ".join(found.figures)
                raise UserError(f"metrics: {min(lacking)} is not available here; {name} finds {there}")
            figures |= figures_kept(found.figures, kept)
            summary |= found.about
            rows += [row for row in found.rows if row not in rows]
            arrays |= found.arrays
        clock.lap(name)
    if not figures:
        why = "".join(f"; {what}: {said}" for what, said in rows)
        raise UserError(f"metrics: nothing could be measured{why}")
    scaled = job.subject.dataset.scaling(job.subject.shape) is not None
    of_law = any(name in ("mixture", "w2") for name, *_ in job.metrics)
    rows += figure_rows(figures, job.subject.guided and of_law, scaled)
    rows.append(("written to", progress.shown_path(job.out)))
    summary |= {
        "metrics": summary_figures(figures),
        "units": units(figures, scaled),
        "directions": directions(figures),
    }
    score = next(iter(figures.values())).distance_from_target
    return Report(f"judged {job.origin}", rows, summary, score, arrays)


def add_samples(job: EvaluateJob, summary: dict[str, Any], rows: list[tuple[str, str]], arrays: Arrays) -> None:
    """Give the subject its samples, read or drawn now, and add them to summary, table rows and arrays."""
    if isinstance(job.samples, Samples):
        job.subject.x = job.samples.x
        summary["n"] = len(job.samples.x)
        rows.append(("samples", f"{len(job.samples.x):,} of {progress.shown_path(Path(str(job.config['samples'])))}"))
    elif isinstance(job.samples, FlowJob):
        found = drawn_of(job.samples)
        summary |= sample_flow.how_drawn(found)
        rows += [("samples", f"{len(found.x):,}"), ("steps", sample_flow.PASS)]
        arrays["samples"] = sample_flow.sample_arrays(job.samples, found.x)
        job.subject.x = np.asarray(found.x)
    elif job.samples is not None:
        drawn = simulate_jobs([job.samples])
        how = how_drawn(job.samples, drawn.found[0])
        summary |= how | {"seconds": drawn.seconds, "seconds_compile": drawn.compiling}
        rows.append(("samples", f"{how['n']:,} with {describe(job.config, how.get('found'))}"))
        rows.append(("steps", progress.described_steps(how)))
        arrays["samples"] = sample.sample_arrays(job.samples, drawn.found[0].x)
        job.subject.x = np.asarray(drawn.found[0].x)


VERB = jobs.Verb("evaluate", _resolve, _choose, prepare, _measure)
