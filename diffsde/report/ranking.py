"""Whether rows may be ranked by a figure at all, and which row leads by more than the errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffsde.errors import UserError
from diffsde.metrics.differences import Lead, lead_of
from diffsde.metrics.figure_text import shown_figure
from diffsde.report.folding import seeds_of, units_of
from diffsde.report.jobs import Job
from diffsde.report.rows import Column, Folded, Row
from diffsde.runs.drawn_arrays import read_log_densities

# What must be equal for two training losses to be comparable: the loss is the mean of something else with each.
OF_LOSS = (
    "dataset",
    "source",
    "path",
    "coupling",
    "objective",
    "time",
    "precondition",
    "label_dropout",
    "posterior_points",
)
OF_SAMPLES = ("dataset", "direction", "measurement", "labels")  # for two figures of samples to be comparable
LOSSES = ("loss", "validation_loss")
BY_POINT = ("nll", "kl")  # figures that are means over test points, whose log p is kept in likelihood.npz
COST = "a cost"


def why_not(name: str, jobs: Sequence[Job]) -> str:
    """Why jobs are never ranked by a figure; '' where they may be. jobs: those that have it."""
    found = [job.figures[name] for job in jobs]
    if said := next((text for job in jobs if (text := job.record.summary.get("not_ranked"))), ""):
        return str(said)
    if len(verbs := sorted({job.record.verb for job in jobs})) > 1:
        return f"{' and '.join(verbs)} measure it in other ways"
    if {each.direction for each in found} - {"lower", "higher", "target"}:
        return "its metric says of no direction that it is better"
    if len(directions := sorted({each.direction for each in found})) > 1:
        return f"its directions differ: {', '.join(directions)}"
    if len(units := sorted({each.unit for each in found})) > 1:
        return f"its units differ: {', '.join(unit or 'none' for unit in units)}"
    if apart := unlike(jobs, OF_LOSS if name in LOSSES else OF_SAMPLES):
        differ = f"{'= and '.join(apart)}="
        if name in LOSSES:
            return f"the {name.replace('_', ' ')} means something else with each {differ}"
        return f"{differ} differ{'s' if len(apart) == 1 else ''}, and a figure is better only where they are the same"
    if len(counts := sorted({count for job in jobs if (count := points_of(job, name))})) > 1:
        return f"it depends on the number of points, and these are of {', '.join(map(str, counts))}"
    if any(job.config("guidance") is not None and job.figures[name].figure.reference is None for job in jobs):
        return "guided samples follow another law than the data's, which they are not held against"
    if any(each.direction == "target" and each.figure.target is None for each in found):
        return "it is held against nothing here: samples that follow another law than the data's, as guided ones do"
    return ""


def unlike(jobs: Sequence[Job], keys: Sequence[str]) -> list[str]:
    """The keys whose values differ between jobs."""
    return [key for key in keys if any(value_of(job, key) != value_of(jobs[0], key) for job in jobs)]


def value_of(job: Job, key: str) -> Any:
    """A choice; of a dataset without `stream`, which does not change the data."""
    value = job.config(key)
    return {word: each for word, each in value.items() if word != "stream"} if isinstance(value, dict) else value


def points_of(job: Job, name: str) -> int | None:
    """The number of points on which the expected value of a figure depends; None where it does not, as of a mean over points."""
    figure = job.figures[name].figure
    if figure.points is not None:
        return figure.points
    if figure.reference is None or figure.reference.kind not in ("floor", "real"):
        return None
    n = job.record.summary.get("n")
    return n if isinstance(n, int) else None


def lead(column: Column, rows: Sequence[Row]) -> tuple[Lead, list[int]] | None:
    """The lead among rows that have the figure, and the indices of these; None where fewer than two have it."""
    able = [
        i
        for i, row in enumerate(rows)
        if column.name in row.figures and math.isfinite(row.figures[column.name].figure.value)
    ]
    if len(able) < 2:
        return None
    folded = [rows[i].figures[column.name] for i in able]
    units = [units_of(each.values, each.own, each.shared, target_of(each, column)) for each in folded]

    kept: dict[int, LogDensities | None] = {}  # of the leader alone, which all others are compared with

    def points(other: int, first: int) -> tuple[np.ndarray, float] | None:
        if column.name not in BY_POINT:
            return None
        if first not in kept:
            kept[first] = log_densities(rows[able[first]])
        return at_points(log_densities(rows[able[other]]), kept[first])

    target = rows[able[0]].figures[column.name].figure.target
    return lead_of(units, column.direction, points, (target and target.error) or 0.0), able


def target_of(folded: Folded, column: Column) -> float:
    """The target that a row's values should be near; 0 where lower or higher is better."""
    target = folded.figure.target
    return target.value if column.direction == "target" and target else 0.0


class LogDensities(NamedTuple):
    """log p (n,) of a row's jobs, averaged, at the test points x (n, *shape) that all of them have; error: of their solver."""

    log_p: np.ndarray
    x: np.ndarray
    error: float


def at_points(one: LogDensities | None, other: LogDensities | None) -> tuple[np.ndarray, float] | None:
    """-log p of one row minus that of another at the same test points (n,), and the error of their solvers beside it; None where
    the points are not the same or not kept.
    """
    if one is None or other is None or not np.array_equal(one.x, other.x) or len(one.x) < 2:
        return None
    return other.log_p - one.log_p, math.hypot(one.error, other.error)


def log_densities(row: Row) -> LogDensities | None:
    """The log densities of a row; None where the points of its jobs are not the same or not kept."""
    found, x = [], None
    for record in row.records:
        try:
            log_p, points = read_log_densities(record.folder)
        except UserError:
            return None
        if x is not None and not np.array_equal(x, points):
            return None
        x = points
        found.append(log_p)
    changes = [record.summary.get("likelihood", {}).get("change") or 0.0 for record in row.records]
    return None if x is None else LogDensities(np.mean(found, axis=0), x, float(np.max(np.abs(changes))))


def said_lead(column: Column, rows: Sequence[Row], found: Lead, able: list[int], several: bool) -> str:
    """`best: ...`, or `no best: ...` with the reason. several: whether rows are of several seeds."""
    first = rows[able[found.first]]
    assert found.second is not None and found.by is not None
    second, by = rows[able[found.second]], found.by
    text = f"{column.label} {shown_figure(first.figures[column.name].figure, column.unit)}"
    if by.by.error is None:
        return f"no best: {column.label} has no error to be told apart by; several seeds have one (seed=0,1,2)"
    how = f"{by.how}, {counted(first, second, column)}"
    if found.is_lead:
        return f"best: {text}: {called(first, rows)}; the next is {called(second, rows)}, worse by {by.value:.2g} (at least {by.margin:.2g} tells them apart; {how})"
    level = f"{len(found.level)} other rows are" if len(found.level) > 1 else "one other row is"
    near = f"{called(second, rows)} is worse by {by.value:.2g}, and less than {by.margin:.2g} does not tell them apart ({how})"
    return f"no best: {text} of {called(first, rows)} comes first, but {level} level with it: {near}{'' if several else '; more seeds would tell more'}"


def counted(first: Row, second: Row, column: Column) -> str:
    """How many seeds a difference is of."""
    n, m = (seeds_of(row.figures[column.name].values) for row in (first, second))
    return f"{n} seed{'' if n == '1' else 's'} each" if n == m else f"{n} and {m} seeds"


def called(row: Row, rows: Sequence[Row]) -> str:
    """A row by its choices, and its jobs, where they are few and of sweeps: by their numbers where all rows' are of one sweep, else by
    their ids.
    """
    swept = [record for record in row.records if record.sweep is not None]
    place = ""
    if swept and len(swept) == len(row.records) <= 4:
        one = len({record.sweep for each in rows for record in each.records}) == 1
        jobs = [record.folder.name if one else record.id for record in swept]
        place = f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"
    return " ".join(filter(None, [row.words(), f"({place})" if place and row.words() else place])) or row.records[0].id
