"""Jobs with equal choices as one row: the mean of each figure over seeds, and its error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diffsde.metrics.differences import Units
from diffsde.metrics.figures import Figure, Reference
from diffsde.report.jobs import BETWEEN, Job
from diffsde.report.rows import Folded, Row


def grouped(jobs: Sequence[Job], keys: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
    """The jobs by the values of their keys."""
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        found.setdefault(tuple(job.choices.get(key, "") for key in keys), []).append(job)
    return found


def row_of(jobs: Sequence[Job], keys: dict[str, str], seeds: Sequence[str]) -> Row:
    """The row of jobs with equal choices `keys`. seeds: the keys that say what was done again, the outer first, of which the
    figures' errors are; jobs with equal values of these are averaged first.
    """
    figures = {}
    for name in dict.fromkeys(name for job in jobs for name in (*job.figures, *job.costs)):
        figures[name] = folded([job for job in jobs if name in job.figures or name in job.costs], name, seeds)
    return Row(keys, tuple(job.record for job in jobs), figures)


def figure_of(job: Job, name: str) -> Figure:
    """A figure of a job, or a cost as a figure without error."""
    return job.figures[name].figure if name in job.figures else Figure(job.costs[name])


def folded(jobs: Sequence[Job], name: str, seeds: Sequence[str]) -> Folded:
    """A figure of a row's jobs, folded over seeds."""
    units: dict[str, list[Figure]] = {}
    for job in jobs:
        units.setdefault(job.label(seeds), []).append(figure_of(job, name))
    means = {unit: mean_of(figures) for unit, figures in units.items()}
    values = {unit: figure.value for unit, figure in means.items()}
    whole = mean_of(list(means.values()))
    if len(values) == 1:
        return Folded(whole, None, 1, values, whole.error)
    known = [figure.error for figure in means.values() if figure.error is not None]
    own = float(np.mean(known)) if len(known) == len(means) else None
    by_seed = units_of(values, own, name in jobs[0].figures and has_one_noise(jobs))
    sd = float(np.std(list(values.values()), ddof=1))
    return Folded(whole._replace(error=by_seed.error.error), sd, len(values), values, own, by_seed.shared)


def seeds_of(values: dict[str, float]) -> str:
    """How many seeds values are of, as text: `3`, or of two crossed seeds `3 x 2`."""
    labels = [label.split(BETWEEN) for label in values]
    counts = [len({label[axis] for label in labels}) for axis in range(len(labels[0]))]
    crossed = len(labels) == math.prod(counts)
    return " x ".join(str(count) for count in counts if count > 1) or "1" if crossed else str(len(labels))


def has_one_noise(jobs: Sequence[Job]) -> bool:
    """Whether several trained runs were sampled with one noise, which no number of runs averages out."""
    runs = {job.choices.get("run.seed") for job in jobs if "run.seed" in job.choices}
    return len(runs) > 1 and len({job.choices.get("seed") for job in jobs}) == 1


def units_of(values: dict[str, float], own: float | None, shared: bool, target: float = 0.0) -> Units:
    """The values of a row by seed, without a target that they should be near."""
    return Units({tuple(unit.split(BETWEEN)): value - target for unit, value in values.items()}, own, shared)


def mean_of(figures: Sequence[Figure]) -> Figure:
    """The mean of figures of independent samples, its error by theirs (None where one has none); the mean of their references,
    where all are of one kind.
    """
    if len(figures) == 1:
        return figures[0]
    errors = [figure.error for figure in figures]
    known = [error for error in errors if error is not None]
    error = math.sqrt(sum(each**2 for each in known)) / len(known) if len(known) == len(errors) else None
    points = {figure.points for figure in figures}
    value = float(np.mean([figure.value for figure in figures]))
    return Figure(value, error, mean_reference(figures), points.pop() if len(points) == 1 else None)


def mean_reference(figures: Sequence[Figure]) -> Reference | None:
    """The mean of the references, where all are of one kind; its error as of independent ones, unless all are the same."""
    references = [figure.reference for figure in figures]
    if any(each is None for each in references):
        return None
    there = [each for each in references if each is not None]
    if len({each.kind for each in there}) > 1:
        return None
    if len(set(there)) == 1:
        return there[0]
    errors = [each.error for each in there if each.error is not None]
    error = math.sqrt(sum(each**2 for each in errors)) / len(errors) if len(errors) == len(there) else None
    return Reference(there[0].kind, float(np.mean([each.value for each in there])), error)
