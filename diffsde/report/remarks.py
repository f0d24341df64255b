"""What is said of a comparison beside its table: its title, what was left out, and what the errors are of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from diffsde.report.folding import seeds_of
from diffsde.report.grid import spread_of
from diffsde.report.jobs import Job
from diffsde.report.rows import Row
from diffsde.runs.records import Record

TITLE = (
    "dataset",
    "path",
    "objective",
    "sampler",
    "steps",
    "n",
)  # choices that a title names where all jobs share them


def few(labels: Sequence[str], most: int = 4) -> str:
    """The first of some labels, and how many more there are."""
    more = len(labels) - most
    return ", ".join(labels) if more < 2 else f"{', '.join(labels[:most])} and {more} more"


def left_out(records: Sequence[Record], jobs: Sequence[Job], repeats: int) -> list[str]:
    """What is said of records that are in no row."""
    found = Counter(record.state for record in records if record.state != "whole")
    without = sum(record.state == "whole" for record in records) - len(jobs)
    said = [f"{count} {state}" for state, count in found.items()] + ([f"{without} without figures"] if without else [])
    lines = [f"left out: {', '.join(said)} of {len(records)} jobs"] if said else []
    if repeats:
        lines.append(f"left out: {repeats} older job{'s' if repeats > 1 else ''} of the same choices and seeds")
    return lines


def about_errors(jobs: Sequence[Job], rows: Sequence[Row], seeds: Sequence[str], averaged: Sequence[str]) -> list[str]:
    """What the numbers after +- are; [] where there are none."""
    figures = {name for job in jobs for name in job.figures}
    if not any(spread_of(folded) for row in rows for name, folded in row.figures.items() if name in figures):
        return []
    found = dict.fromkeys(seeds_of(folded.values) for row in rows for folded in row.figures.values())
    if list(found) == ["1"]:
        return ["+- is the standard error of measuring, of one seed each; another seed may differ by more"]
    single = any(job.parent for job in jobs) and "run.seed" not in (*seeds, *averaged)
    what = "values" if set(seeds) <= set(averaged) else "seeds"
    noise = any(folded.shared for row in rows for folded in row.figures.values())
    one = "; all are sampled with one noise, whose error of measuring is not in it" if noise else ""
    one += "; of one training each, and another may differ by more" if single else ""
    within = f", each averaged over {' and '.join(averaged)}" if averaged and what == "seeds" else ""
    return [f"+- is the sd over {' or '.join(found)} {what} ({' x '.join(seeds)}){within}{one}"]


def title_of(jobs: Sequence[Job], keys: Sequence[str]) -> str:
    """What is compared, in a line: the verbs, what differs, and what all jobs share."""
    verbs = " and ".join(dict.fromkeys(job.record.verb for job in jobs))
    shared = []
    for key in TITLE:
        values = {job.choices.get(key) for job in jobs}
        if key not in keys and len(values) == 1 and (value := values.pop()) not in (None, "null", ""):
            shared.append(f"{key}={value}")
    count = f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} of {verbs}"
    return f"{count}: {', '.join(keys) or 'seeds'} compared{' (' + ', '.join(shared) + ')' if shared else ''}"
