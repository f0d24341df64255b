"""The end of a sweep: sweep.csv, a row a job; the comparison of its jobs as tables and pictures; and the verb's own pictures."""

from __future__ import annotations

import csv
import glob
import importlib
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffsde.cli.job import VERBS
from diffsde.errors import UserError, first_line
from diffsde.nested import flatten
from diffsde.report.comparison import Comparison, compare
from diffsde.report.pictures import draw_pictures
from diffsde.report.ranking import LOSSES
from diffsde.report.show import say_comparison
from diffsde.report.tables import write_tables
from diffsde.runs import files, folder, progress
from diffsde.runs.records import Record, read_record
from diffsde.runs.results import Cell

APART = ("columns", "data", "units", "directions", "not_ranked")  # entries of a summary that are left out of sweep.csv
DRAW_ALONE = ("show", "explain")  # verbs whose jobs measure nothing


def end_sweep(where: Path, compares: bool = True) -> list[str]:
    """Write the tables and pictures of the sweep in `where`, and print its comparison; one line per job that was refused.

    compares: false for a sweep of a study, which compares at its own end.
    """
    jobs = [record for job in sorted(where.iterdir(), key=_number) if (record := ended(job))]
    if not jobs:
        return []
    files.write(where / "sweep.csv", lambda path: _write_csv(path, table_of(jobs)))
    done = [record for record in jobs if record.state == "whole"]
    written = [("table", where / "sweep.csv")]
    found = compared(jobs) if done else ""
    if compares and isinstance(found, Comparison):
        say_comparison(found)
        if more := advice(found, jobs, where):
            progress.say(f"  {more}")
        written += write_comparison(found, where)
    elif compares and found:
        progress.say(f"no best: {found}")
    cells = cells_of(done, found if isinstance(found, Comparison) else None)
    written += [("picture", path) for path in pictures_of_verb(cells, where)]
    lines = [(kind, progress.shown_path(path)) for kind, path in written]
    progress.print_table(f"swept {len(done)} of {len(jobs)} jobs", lines)
    failed = [record for record in jobs if record.state == "failed"]
    if len({record.error for record in failed}) == 1 < len(failed) == len(jobs):
        return [f"all {len(jobs)} jobs: {failed[0].error}"]
    return [f"job {record.folder.name} ({words_of(record)}): {record.error}" for record in failed]


def ended(job: Path) -> Record | None:
    """The record of a job that is whole or failed; None for others, and, with a warning, where its result cannot be read."""
    record = read_record(job)
    if record is None or not (job / "summary.json").exists():
        return record if record and record.state == "failed" else None
    try:
        folder.read_summary(job)
    except UserError as error:
        progress.warn_once(str(error))
        return None
    return record._replace(state="whole")  # of a run that was to go on, its last result


def compared(jobs: Sequence[Record]) -> Comparison | str:
    """The comparison of a sweep's jobs; or why there is none."""
    verbs = {record.verb for record in jobs}
    if verbs <= set(DRAW_ALONE):
        return f"{' and '.join(sorted(verbs))} measures nothing"
    try:
        return compare(jobs)
    except UserError as error:
        return str(error)


def write_comparison(found: Comparison, where: Path) -> list[tuple[str, Path]]:
    """Write the tables and the pictures of a comparison; their paths."""
    tables = write_tables(found, where, ("md", "tex"))
    return [*(("table", path) for path in tables), *(("picture", path) for path in draw_pictures(found, where))]


def advice(comparison: Comparison, jobs: Sequence[Record], where: Path) -> str:
    """How runs are compared whose losses cannot be; '' where there is nothing to say."""
    if not any(column.name in LOSSES and column.ranks for column in comparison.columns):
        return ""
    if any(_choice(record, "objective") == "classifier" for record in jobs):
        return "classifiers are compared by the samples that they guide: diffsde sample guide="
    runs = shlex.quote(f"run=glob({glob.escape(progress.shown_path(where))}/*)")
    return f"what the runs learnt is compared by diffsde evaluate -m {runs}"


def cells_of(done: Sequence[Record], comparison: Comparison | None) -> list[tuple[str, Cell]]:
    """The jobs as (verb, cell), with the words that were typed, and the choices that tell them apart, of their runs too in the place
    of the runs' folders.
    """
    rows = comparison.rows if comparison else ()
    choices = {record.folder: row.keys for row in rows for record in row.records}
    cells = []
    for record in done:
        keys, words = choices.get(record.folder), record.words
        if keys is not None:
            words = keys | {key: value for key, value in words.items() if key not in keys and key != "run"}
        cells.append((record.verb, Cell(record.folder, words, record.config, record.summary)))
    return cells


def pictures_of_verb(cells: Sequence[tuple[str, Cell]], where: Path) -> list[Path]:
    """The pictures that the jobs' verb draws of a whole sweep, where its module has `sweep_pictures`; a failure is a warning."""
    modules = {VERBS.get(verb, "") for verb, _ in cells}
    if len(modules) != 1 or not all(modules):
        return []
    draw = getattr(importlib.import_module(*modules), "sweep_pictures", None)
    if draw is None:
        return []
    from diffsde.pictures import MISHAPS  # here: it imports matplotlib

    try:
        drawn: list[Path] = draw([cell for _, cell in cells], where)
    except MISHAPS as error:
        progress.warn(f"no picture of the sweep: {first_line(error) or type(error).__name__}")
        return []
    return drawn


def table_of(jobs: Sequence[Record]) -> list[list[Any]]:
    """sweep.csv: a row a job, with the words that were typed for it, its status, and the numbers and words of its summary."""
    numbers = [numbers_of(record.summary) for record in jobs]
    swept = list(dict.fromkeys(key for record in jobs for key in record.words))
    named = list(dict.fromkeys(key for each in numbers for key in each if key not in swept))
    rows: list[list[Any]] = [["job", *swept, "status", *named]]
    for record, each in zip(jobs, numbers, strict=True):
        status = "done" if record.state == "whole" else record.error
        words = [record.words.get(key, "") for key in swept]
        rows.append([record.folder.name, *words, status, *(_cell(each.get(key)) for key in named)])
    return rows


def numbers_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers and words of a summary by dotted names; a figure's `value` has the figure's own name."""
    pairs = flatten({key: value for key, value in summary.items() if key not in APART}).items()
    return {key.removeprefix("metrics.").removesuffix(".value"): item for key, item in pairs}


def words_of(record: Record) -> str:
    """The words that were typed for a job."""
    return " ".join(f"{key}={value}" for key, value in record.words.items())


def _choice(record: Record, group: str) -> str:
    choice = record.config.get(group)
    return str(choice.get("name", "")) if isinstance(choice, dict) else ""


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(rows)


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isascii() and path.name.isdigit() else (sys.maxsize, path.name)
