"""diffsde compare: a table and pictures of many runs, from their folders: seeds folded, and ranked only by more than the errors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from diffsde import signals
from diffsde.errors import UserError, suggestion
from diffsde.report.axes import axes_of
from diffsde.report.comparison import Comparison, compare
from diffsde.report.pictures import draw_pictures, grid_picture
from diffsde.report.show import say_comparison
from diffsde.report.tables import USUAL, WRITERS, check_tables, write_tables
from diffsde.runs import files, progress
from diffsde.runs.leaving import left_by_files, will_make
from diffsde.runs.plain_words import parted
from diffsde.runs.record import new_folder
from diffsde.runs.records import select

KNOBS = ("x", "y", "by", "where", "out", "tables", "pictures", "report")


def main(words: list[str]) -> None:
    """Compare the runs that the words choose, print the table and write the files. Raises UserError."""
    own, rest = parted(words, KNOBS)
    if not rest:
        raise UserError(
            "compare: which runs? Give folders, sweeps, ids or filters, as in: diffsde compare outputs/sample path=ot"
        )
    tables_of(own.get("tables"))
    for key in ("pictures", "report"):
        switch(own, key, False)
    where = folder_of(own.get("out"))
    found = compare(select(rest), listed(own.get("by", "")), own.get("where", "").split())
    axes_of(found, own.get("x", ""), own.get("y", ""))  # a wrong word is refused before anything is written
    say_comparison(found)
    again = "" if "out" in own else f"with {progress.word('out', where)} "
    will_make(where)
    with signals.leaving(partial(left_by_files, where, f"{again}the same command writes them all")):
        write(found, words, own, where)


def write(found: Comparison, words: list[str], own: dict[str, str], where: Path) -> None:
    """Write the tables, pictures and the page of a comparison, and say where they are."""
    written = write_tables(found, where, tables_of(own.get("tables")))
    files.write_json(where / "compare.json", {"words": words, "title": found.title, "remarks": found.remarks})
    if switch(own, "pictures", True):
        with progress.working("drawing"):
            written += draw_pictures(found, where, own.get("x", ""), own.get("y", "")) + grid_picture(found, where)
    if switch(own, "report", False):
        written.append(page_of(found, where))
    for path in written:
        progress.say(f"  {path.suffix[1:]:<5} {progress.shown_path(path)}")


def page_of(found: Comparison, where: Path) -> Path:
    """Write the page of a comparison; its path."""
    from diffsde.report.page import write_page  # here: it imports jax
    from diffsde.verbs.report import configure

    configure()
    with progress.working("writing the page"):
        return write_page(found, where)


def listed(value: str) -> list[str]:
    """The words of a list, with brackets or without."""
    return [word.strip() for word in value.removeprefix("[").removesuffix("]").split(",") if word.strip()]


def tables_of(value: str | None) -> tuple[str, ...]:
    """The tables to be written. Raises UserError for a word that is none, and for one whose package is not there."""
    words = USUAL if value is None else tuple(listed(value))
    for word in words:
        if word not in WRITERS:
            raise UserError(f"tables: '{word}' is not a table{suggestion(word, WRITERS)}")
    check_tables(words)
    return words


def switch(own: dict[str, str], key: str, usual: bool) -> bool:
    """A knob that is true or false."""
    value = own.get(key, str(usual).lower())
    if value not in ("true", "false"):
        raise UserError(f"{key} is '{value}'; it must be true or false")
    return value == "true"


def folder_of(out: str | None) -> Path:
    """The folder for the files: out=, or a new one under outputs/compare. Raises UserError for the folder of a run."""
    if out is None:
        return new_folder("compare")
    folder = Path(out).expanduser()
    if (folder / "config.json").exists():
        raise UserError(f"out: '{out}' is the folder of a run; give another")
    return folder
