"""The Result that a verb returns for a job, and its delivery: nothing else writes a run folder's results."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffsde.metrics.figures import Figure
from diffsde.runs import clock, files, folder, locks, progress

Arrays = dict[str, dict[str, np.ndarray]]  # by the file's name, then by the array's


class Report(NamedTuple):
    """The report of a job: title and rows of its table, content of summary.json, and score (lower is better).

    arrays: arrays computed for the report, to be written. lines: the output of a verb that writes nothing.
    """

    title: str
    rows: list[tuple[str, str]]
    summary: dict[str, Any]
    score: float
    arrays: Arrays = {}
    lines: tuple[str, ...] = ()


class Result(NamedTuple):
    """The result of a job, delivered in this order.

    arrays are written; `report` is called; `figures` makes matplotlib's figures by the names of their files, which are the
    result itself and are written here; the report's summary is written and its table printed; `draw` draws and prints each
    picture beside the result; `end` is called with the report and the pictures' paths. together: a remark such as ' for 3 jobs at once'. lap: the
    activity to which the clock assigns the seconds up to the table.
    """

    report: Callable[[], Report]
    arrays: Arrays = {}
    draw: Callable[[], list[Path]] | None = None
    figures: Callable[[], dict[str, Any]] | None = None
    end: Callable[[Report, list[Path]], None] | None = None
    together: str = ""
    lap: str = "figures"


class Cell(NamedTuple):
    """A finished job of a sweep, as a verb's `sweep_pictures(cells, where)` takes it: the job's folder, its words key=value,
    its config and its summary.
    """

    job: Path
    overrides: dict[str, str]
    config: dict[str, Any]
    summary: dict[str, Any]


def deliver(result: Result, verb: str, config: dict[str, Any], out: Path) -> Report:
    """Write a job's result into its folder, print it, and return its report. Raises the UserError of report or pictures."""
    locks.check(out)
    written = write_arrays(result.arrays, verb, config, out) if result.arrays else []
    report = result.report()
    locks.check(out)
    write_arrays(report.arrays, verb, config, out)
    made = result.figures() if result.figures else {}
    drawn = [files.write(out / name, figure.savefig) for name, figure in made.items()]
    files.write_json(out / "summary.json", report.summary)  # now the job is finished
    progress.print_table(report.title, [*report.rows, *[(path.stem, progress.shown_path(path)) for path in written]])
    clock.lap(result.lap)
    for path in drawn:
        progress.say(f"  picture  {progress.shown_path(path)}")
    pictures = drawn + (result.draw() if result.draw else [])
    if result.draw or result.figures:
        clock.lap("drawing")
    if result.end:
        result.end(report, pictures)
    progress.say(f"time: {clock.said()}{result.together}")
    return report


def say_result(result: Result) -> None:
    """Print the result of a verb that writes nothing."""
    for line in result.report().lines:
        progress.say(line)


def write_arrays(arrays: Arrays, verb: str, config: dict[str, Any], out: Path) -> list[Path]:
    """Write arrays as .npz files into the job's folder, and config.json if it is absent; the files' paths."""
    if not (out / "config.json").exists():
        folder.write_config(out, verb, config)
    return [files.write(out / f"{name}.npz", partial(np.savez, **each)) for name, each in arrays.items()]  # type: ignore[arg-type]


def summary_figures(figures: dict[str, Figure]) -> dict[str, Any]:
    """Figures in the form of summary.json."""
    return {name: figure.as_dict() for name, figure in figures.items()}


def judged(summary: dict[str, Any]) -> tuple[str, Figure]:
    """(name, figure) of a finished job's score: the `metric` of a training run, the first figure of samples."""
    if "metric" not in summary:  # samples have no figures where the data could not be read
        name, found = next(iter(summary["metrics"].items()), ("", {"value": math.nan}))
        return name, Figure.of_dict(found)
    name = summary["metric"]["name"]
    return name, Figure.of_dict(summary["loss"]) if name == "loss" else Figure(summary["metric"]["value"])
