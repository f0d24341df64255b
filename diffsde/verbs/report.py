"""diffsde report: one HTML page of one or many runs, that opens from the disk and holds all it shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from diffsde import signals
from diffsde.errors import UserError
from diffsde.runs import progress, records
from diffsde.runs.leaving import left_by_files, will_make
from diffsde.runs.plain_words import parted
from diffsde.runs.record import Record, new_folder

MACHINE = {"precision": None, "devices": None, "coordinator": None, "processes": None, "rank": None}


def main(words: list[str]) -> None:
    """Write the page of the runs that the words choose. Raises UserError for a word that matches nothing."""
    own, rest = parted(words, ("out",))
    chosen = records.select(rest or ["latest"])
    where = Path(own["out"]).expanduser() if "out" in own else folder_of(chosen)
    if where.exists() and not where.is_dir():
        raise UserError(f"out: '{where}' is a file; give a folder")
    from diffsde.report.comparison import compare
    from diffsde.report.page import write_page

    found = compare(chosen)
    configure()
    will_make(where)
    try:
        with signals.leaving(partial(left_by_files, where, "the same command writes the page")):
            page = write_page(found, where)
    except OSError as error:
        raise UserError(f"out: '{where}' cannot be written: {error.strerror}") from None
    progress.say(f"{progress.shown_path(page)}  ({page.stat().st_size / 1e6:.1f} MB; open it in a browser)")


def configure() -> None:
    """Configure this process for the simulations of a page: float32, and compiled programs kept for the next page."""
    from diffsde.runs.machine import configure_process  # here: it imports jax

    configure_process({**MACHINE, "cache": True, "cache_dir": None, "threads": None})


def folder_of(chosen: Sequence[Record]) -> Path:
    """Where the page of records is written: a job's own folder, a sweep's, else outputs/report/DAY/TIME."""
    if len(chosen) == 1:
        return chosen[0].folder
    sweeps = {record.sweep for record in chosen}
    if len(sweeps) == 1 and (sweep := sweeps.pop()) is not None:
        return sweep
    return new_folder("report")
