"""The comparison of jobs: rows of equal choices with their seeds folded, columns of figures and costs, and what leads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from diffsde.errors import UserError, suggestion
from diffsde.knobs import as_number
from diffsde.report import ranking
from diffsde.report.columns import COST_UNITS, label_of
from diffsde.report.folding import grouped, row_of
from diffsde.report.jobs import Job, Parent, jobs_of, varied_seeds
from diffsde.report.keys import called, determined, differing
from diffsde.report.remarks import about_errors, few, left_out, title_of
from diffsde.report.rows import Column, Comparison, Folded, Row
from diffsde.runs.records import Record, remembered, trained

__all__ = ["Column", "Comparison", "Folded", "Row", "compare"]


def compare(
    records: Sequence[Record], by: Sequence[str] = (), where: Sequence[str] = (), parent: Parent | None = None
) -> Comparison:
    """Compare the jobs of records. by: the keys whose values make the rows, () for all that differ; over others a row is averaged.

    where: words key=value or key=value,value that a job's choices must have. parent: the run that a job sampled from.
    Raises UserError where no job is left, and for keys that no job has.
    """
    found = jobs_of(records, parent or remembered(trained))
    if not found:
        raise UserError(
            f"there is nothing to compare: of {len(records)} jobs none is finished and has figures and a config that can be read"
        )
    jobs = chosen(found, where)
    if len({job.record.verb for job in jobs}) > 1:
        jobs = [job._replace(choices={"verb": job.record.verb} | job.choices) for job in jobs]
    if "run" in by:
        jobs = by_run(jobs)
    keys = differing([job.choices for job in jobs], ["verb", *(word for job in jobs for word in job.words)])
    if "verb" in keys:  # what a verb has of its own says no more
        keys = ["verb", *(key for key in keys[1:] if not determined([job.choices for job in jobs], key, ["verb"]))]
    for key in by:
        if not any(key in job.choices for job in jobs):
            raise UserError(f"by: no job has '{key}'{suggestion(key, keys)}")
    averaged = [key for key in keys if by and key not in by]
    keys, seeds = list(by) or keys, varied_seeds(jobs)
    jobs, own = told_apart(jobs, [*keys, *averaged, *seeds])
    keys = list(dict.fromkeys([*keys, *own]))
    jobs, repeats = once(jobs, [*keys, *averaged, *seeds])
    groups = grouped(jobs, keys)
    outer = replicated(list(groups.values()), averaged, seeds)
    rows = [row_of(group, dict(zip(keys, values, strict=True)), outer) for values, group in groups.items()]
    rows = ordered(rows, keys)
    columns = columns_of(jobs, keys, uneven(groups, averaged))
    best, said = leads(
        columns, rows, bool(outer) and any(folded.n > 1 for row in rows for folded in row.figures.values())
    )
    remarks = [*said, *left_out(records, found, repeats), *about_errors(jobs, rows, outer, averaged)]
    return Comparison(title_of(jobs, keys), tuple(keys), tuple(columns), tuple(rows), best, tuple(remarks))


def chosen(jobs: list[Job], where: Sequence[str]) -> list[Job]:
    """The jobs whose choices are as the words say. Raises UserError for a key that no job has, and where none is left."""
    for word in where:
        key, equals, wanted = word.partition("=")
        if not equals:
            raise UserError(f"where: '{word}' must be key=value, as where='path=ot'")
        known = dict.fromkeys(name for job in jobs for name in job.choices)
        if key not in known:
            raise UserError(f"where: no job has '{key}'{suggestion(key, known)}")
        values = sorted({job.choices[key] for job in jobs if key in job.choices})
        jobs = [job for job in jobs if any(equal(job.choices.get(key, ""), each) for each in wanted.split(","))]
        if not jobs:
            raise UserError(f"where: no job has {word}; there are {key}={','.join(values)}")
    return jobs


def equal(one: str, other: str) -> bool:
    """Whether two values are the same, as text or as numbers."""
    return one == other or ((number := as_number(one)) is not None and number == as_number(other))


def by_run(jobs: list[Job]) -> list[Job]:
    """The jobs with their runs as a choice, each by its name, and by its id where it has none or shares it."""
    runs = [job.record if job.record.verb == "train" else job.parent for job in jobs]
    named = {name: {run.id for run in runs if run and run.name == name} for name in {run.name for run in runs if run}}
    found = []
    for job, run in zip(jobs, runs, strict=True):
        word = called(job.record, "run") if run is None else run.name if len(named[run.name]) == 1 else run.id
        found.append(job._replace(choices=job.choices | {"run": word or (run.id if run else "")}))
    return found


def told_apart(jobs: list[Job], keys: Sequence[str]) -> tuple[list[Job], list[str]]:
    """Where jobs of the same choices and seeds, or their runs, have names (name=), or are of other samples, that is a choice too:
    the jobs with each of these that tells some apart, and its key. A training that was only done again is no other one.
    """
    found: list[str] = []
    for key in ("name", "run.name", "samples"):
        same = [group for group in grouped(jobs, [*keys, *found]).values() if len(group) > 1]
        if any(len({said_of(job, key) for job in group}) > 1 for group in same):
            jobs = [job._replace(choices=job.choices | {key: said_of(job, key)}) for job in jobs]
            found.append(key)
    return jobs, found


def said_of(job: Job, key: str) -> str:
    """A job's name or that of its run, or what the samples are called that it judges; '' where it has none."""
    if key == "samples":
        return called(job.record, key)
    named = job.record if key == "name" else job.parent
    return named.name if named else ""


def once(jobs: list[Job], keys: Sequence[str]) -> tuple[list[Job], int]:
    """The jobs without those that were done again later, and the number of these: each figure of the same choices and seeds
    is taken once, the newest.
    """
    kept, repeats = [], 0
    for group in grouped(jobs, keys).values():
        seen: set[str] = set()
        for job in reversed(group):  # the newest first
            new = {name: figure for name, figure in job.figures.items() if name not in seen}
            repeats += not new
            if new:
                kept.append(job._replace(figures=new, costs=job.costs if not seen else {}))
            seen |= job.figures.keys()
    place = {id(job.record): i for i, job in enumerate(jobs)}
    return sorted(kept, key=lambda job: place[id(job.record)]), repeats


def replicated(groups: list[list[Job]], averaged: Sequence[str], seeds: Sequence[str]) -> list[str]:
    """The keys of which a row has several values that its error is of: seeds, over which other keys are averaged within each;
    where no row has several seeds the keys that are averaged over.
    """
    several = [key for key in seeds if any(len({job.choices.get(key) for job in group}) > 1 for group in groups)]
    return several or list(averaged) or list(seeds)


def uneven(groups: dict[tuple[str, ...], list[Job]], averaged: Sequence[str]) -> str:
    """Why rows that are averages over keys cannot be ranked: they are of different values; '' where they are of the same."""
    if not averaged:
        return ""
    counts = [
        Counter(tuple(job.choices.get(key, "") for key in averaged) for job in group) for group in groups.values()
    ]
    if all(count == counts[0] for count in counts):
        return ""
    return f"rows are averages over different values of {'= and '.join(averaged)}="


def ordered(rows: list[Row], keys: Sequence[str]) -> list[Row]:
    """The rows by their keys: numbers by size, words in the order in which they first came."""
    places = []
    for key in keys:
        values = list(dict.fromkeys(row.keys[key] for row in rows))
        numbers = {value: as_number(value) for value in values if value not in ("", "null")}
        if all(number is not None for number in numbers.values()):
            values.sort(key=lambda value: numbers.get(value) if value in numbers else float("-inf"))  # type: ignore[arg-type, return-value]
        places.append({value: i for i, value in enumerate(values)})
    return sorted(rows, key=lambda row: [place[row.keys[key]] for key, place in zip(keys, places, strict=True)])


def columns_of(jobs: Sequence[Job], keys: Sequence[str], reason: str) -> list[Column]:
    """The columns: figures, the one that jobs are judged by first, then costs. reason: why none is ranked, '' for its own."""
    having: dict[str, list[Job]] = {}
    for job in jobs:
        for name in job.figures:
            having.setdefault(name, []).append(job)
    found = []
    for name, able in having.items():
        first = able[0].figures[name]
        found.append(Column(name, label_of(name), first.unit, first.direction, reason or ranking.why_not(name, able)))
    for name in dict.fromkeys(name for job in jobs for name in job.costs):
        if name not in keys or any(job.choices.get(name) == "null" for job in jobs):
            found.append(Column(name, label_of(name), COST_UNITS.get(name, ""), "lower", ranking.COST, True))
    return found


def leads(columns: Sequence[Column], rows: Sequence[Row], several: bool) -> tuple[dict[str, int], list[str]]:
    """The row that leads in each column, where one does; and what is said: `best: ...` of the first column that may be ranked,
    or `no best: ...`, and which other figures are never ranked and why.
    """
    best: dict[str, int] = {}
    said: list[str] = []
    figures = [column for column in columns if not column.cost]
    for column in figures:
        found = None if column.ranks else ranking.lead(column, rows)
        if found is None:
            continue
        lead, able = found
        if lead.is_lead:
            best[column.name] = able[lead.first]
        if not said:
            said.append(ranking.said_lead(column, rows, lead, able, several))
    apart: dict[str, list[str]] = {}
    for column in figures:
        if column.ranks:
            apart.setdefault(column.ranks, []).append(column.label)
    why = [f"{few(labels)}: {reason}" for reason, labels in apart.items()]
    if not said and len(rows) < 2:
        said.append("no best: there is one row alone")
    elif not said:
        said.append(f"no best: {'; '.join(why) or 'no two rows have a figure in common'}")
    else:
        said += [f"not ranked: {each}" for each in why]
    return best, said
