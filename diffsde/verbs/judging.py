"""What evaluate finds of a job: its figures, one measure after another in the order asked for, written and said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import name_of
from diffsde.datasets import Dataset, FiniteDataset
from diffsde.errors import UserError
from diffsde.evaluation import densities, references
from diffsde.evaluation.columns import column_figures, column_rows, column_summary
from diffsde.evaluation.densities import Plan
from diffsde.evaluation.distances import figures
from diffsde.evaluation.features import judge
from diffsde.evaluation.references import Figures, Real, Seen
from diffsde.fields import Field
from diffsde.runs import clock, files, folder, machine, progress
from diffsde.runs.results import judged, off
from diffsde.runs.sample_config import SampleConfig, describe
from diffsde.types import Key
from diffsde.verbs import sample


class Samples(NamedTuple):
    """x (n, *shape) in the model's units, and the labels y (n,) that they were given."""

    x: np.ndarray
    y: np.ndarray | None


@dataclasses.dataclass
class Job:
    """A field or a set of samples to be judged: all that was read before anything is computed.

    metrics: in this order; named: whether the user named them, so that one that comes to nothing is an error.
    """

    config: dict[str, Any]
    draws: SampleConfig
    out: Path
    field: Field
    dataset: Dataset
    origin: str
    metrics: list[str]
    named: bool
    plan: Plan | None
    real: Real | None
    samples: sample.Job | Samples | None

    def group(self) -> Any:
        """Each is worked on by itself."""
        return self.out


@dataclasses.dataclass
class Record:
    """What has been found of a job: its figures, what else its summary and its table say, arrays by the file's name, and what
    the classifier made of the images.
    """

    figures: Figures
    summary: dict[str, Any]
    rows: list[tuple[str, str]]
    arrays: dict[str, dict[str, np.ndarray]]
    seen: Seen | None = None


def finish(job: Job) -> float:
    """Measure, write the folder and say what came out; how far the first figure is off is returned. Raises UserError."""
    record = Record({}, {"field": job.origin}, [], {})
    samples = get_samples(job, record)
    clock.lap("sampling", compiling=record.summary.get("seconds_compile", 0.0))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(job.draws.seed), 1))
    for name in job.metrics:
        progress.begun(f"measuring {name}")
        try:
            if name == "likelihood":
                judge_field(job, record, keys[0])
            else:
                assert samples is not None
                MEASURES[name](job, record, samples, keys[1])
        except UserError as error:
            if job.named:
                raise
            progress.say(f"not measured: {name}: {error}")
        clock.lap(name)
    if not record.figures:
        raise UserError("metrics: nothing could be measured")
    scaled = job.dataset.scaling(job.field.shape) is not None
    summary = record.summary | {"metrics": record.figures, "units": progress.units(record.figures, scaled)}
    folder.write_config(job.out, "evaluate", job.config)
    for name, arrays in record.arrays.items():
        files.write(job.out / f"{name}.npz", partial(np.savez, **arrays))  # type: ignore[arg-type]
    files.write_json(job.out / "summary.json", summary)
    guided = samples is not None and job.draws.guidance is not None
    record.rows += progress.figure_rows(record.figures, guided and "distance" in job.metrics, scaled)
    progress.table(f"judged {job.origin}", [*record.rows, ("written to", progress.shown(job.out))])
    progress.say(f"time: {clock.said()}")
    return off(judged(summary)[1])


def get_samples(job: Job, record: Record) -> Samples | None:
    """Those that are there, or drawn now and written too; None where no metric needs any."""
    if job.samples is None:
        return None
    if isinstance(job.samples, Samples):
        record.summary["n"] = len(job.samples.x)
        record.rows.append(("samples", f"{len(job.samples.x):,} of {progress.shown(Path(str(job.config['samples'])))}"))
        return job.samples
    drawn = sample.simulated([job.samples])
    how = sample.how_drawn(job.samples, drawn.found[0])
    record.summary |= how | {"seconds": drawn.seconds, "seconds_compile": drawn.compiling}
    record.rows.append(("samples", f"{how['n']:,} with {describe(job.config)}"))
    record.rows.append(("steps", progress.described_steps(how)))
    record.arrays["samples"] = sample.sample_arrays(job.samples, drawn.found[0].x)
    return Samples(np.asarray(drawn.found[0].x), record.arrays["samples"].get("y"))


def judge_field(job: Job, record: Record, key: Key) -> None:
    """The likelihood of points that the field was not trained on; given their labels where samples are."""
    assert job.plan is not None
    plan, (key_points, key_solve) = job.plan, jax.random.split(key)
    points = densities.test_points(job.dataset, plan.n_test, plan.labels, key_points)
    scaling = job.dataset.scaling(job.field.shape)
    found, told, log_p = densities.likelihood_figures(job.field, points, plan, key_solve, scaling)
    solver = name_of(plan.solving.solver)
    record.figures |= found
    record.summary["likelihood"] = told | {"solver": solver, "given_labels": points.labels is not None}
    record.arrays["likelihood"] = {"log_p": log_p, "x": points.own(scaling)}
    about = f"{told['n']:,} test points, {solver}, {told['nfe']:.0f} evaluations, divergence: {told['probe']}"
    repeats = f", {told['dequantisations']} dequantisation(s)" if points.bytes else ""
    record.rows.append(("likelihood", f"{about}{repeats}, {told['seconds']:.1f} s"))
    if "change" in told:
        name, unit = next(iter(found)).replace("_", " "), "bits" if points.bytes else "nats"
        finer = "ten times the tolerance to this" if plan.solving.solver.adaptive else "half as many steps to these"
        record.rows.append(("", f"{told['change']:+.2g} {unit} in {name}, from {finer}; a part of the error"))


def judge_distance(job: Job, record: Record, samples: Samples, key: Key) -> None:
    """Exact figures of a known mixture, else a distance."""
    labels = None if samples.y is None else jnp.asarray(samples.y)
    guided = job.draws.guidance is not None
    record.figures |= figures(jnp.asarray(samples.x), job.dataset, key, labels, guided)
    scaling = job.dataset.scaling(job.field.shape)
    by_column = column_figures(jnp.asarray(samples.x), job.dataset, scaling, labels, key)
    record.summary |= column_summary(by_column)
    record.rows += column_rows(by_column, labels is not None)


def seen(job: Job, record: Record, samples: Samples) -> Seen:
    """What the dataset's classifier makes of the samples and of real images: once, for all measures of its features."""
    if record.seen is None:
        assert isinstance(job.dataset, FiniteDataset) and job.real is not None
        whole = references.split(job.dataset, None)
        eye = judge(name_of(job.dataset), whole.train, job.dataset.flip, cache_of(job.draws))
        right = float((eye.look(np.asarray(whole.test.x))[1] == np.asarray(whole.test.y)).mean())
        record.summary["classifier"] = {"name": eye.name, "accuracy": right, "judged_on": whole.told}
        record.rows.append(("features", f"of classifier {eye.name}, right on {right:.2%} of {whole.told}"))
        record.seen = references.look(eye, references.as_bytes(samples.x), job.real)
    return record.seen


def judge_frechet(job: Job, record: Record, samples: Samples, key: Key) -> None:
    record.figures |= references.frechet_figures(seen(job, record, samples))


def judge_balls(job: Job, record: Record, samples: Samples, key: Key) -> None:
    record.figures |= references.ball_figures(seen(job, record, samples))


def judge_labels(job: Job, record: Record, samples: Samples, key: Key) -> None:
    assert samples.y is not None and job.real is not None
    record.figures |= references.label_figures(seen(job, record, samples), samples.y, job.real)


def judge_neighbours(job: Job, record: Record, samples: Samples, key: Key) -> None:
    """The nearest training images, written too."""
    assert isinstance(job.dataset, FiniteDataset) and job.real is not None
    found = references.nearby(references.as_bytes(samples.x), job.real, job.dataset.flip)
    record.figures |= references.neighbour_figures(found)
    record.arrays["neighbours"] = {
        "distances": found.samples.distances,
        "indices": found.samples.indices,
        "test_distances": found.test.distances,
        "test_indices": found.test.indices,
    }


MEASURES: dict[str, Callable[[Job, Record, Samples, Key], None]] = {
    "distance": judge_distance,
    "frechet": judge_frechet,
    "balls": judge_balls,
    "labels": judge_labels,
    "neighbours": judge_neighbours,
}


def cache_of(draws: SampleConfig) -> Path | None:
    """Where classifiers are kept; None: nowhere."""
    return Path(draws.cache_dir or machine.cache_home()) / "classifiers" if draws.cache else None
