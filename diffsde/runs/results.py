"""What a verb makes of a job, and the engine that writes and says it: nothing else writes a run folder's results."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffsde.metrics.figures import Figure
from diffsde.runs import clock, files, folder, progress

Arrays = dict[str, dict[str, np.ndarray]]  # by the file's name, then by the array's


class Report(NamedTuple):
    """What is said and kept of a job: the table's title and rows, what summary.json holds, and the score, of which the least is
    the best; arrays that were found on the way. lines: of a verb that only says something.
    """

    title: str
    rows: list[tuple[str, str]]
    summary: dict[str, Any]
    score: float
    arrays: Arrays = {}
    lines: tuple[str, ...] = ()


class Result(NamedTuple):
    """What becomes of a job. arrays: written at once, before anything is made of them; then `report` measures, its summary is
    written and its table said, and then `draw` draws and says each picture. end: called with the report and the pictures.
    together: ' for 3 jobs at once' where that is so. lap: what the seconds up to the table went into.
    """

    report: Callable[[], Report]
    arrays: Arrays = {}
    draw: Callable[[], list[Path]] | None = None
    end: Callable[[Report, list[Path]], None] | None = None
    together: str = ""
    lap: str = "figures"


def deliver(result: Result, verb: str, config: dict[str, Any], out: Path) -> float:
    """Write a job's result into its folder, say it, and return its score. Raises UserError where it comes to nothing."""
    written = write_arrays(result.arrays, verb, config, out) if result.arrays else []
    report = result.report()
    write_arrays(report.arrays, verb, config, out)
    files.write_json(out / "summary.json", report.summary)
    progress.print_table(report.title, [*report.rows, *[(path.stem, progress.shown_path(path)) for path in written]])
    clock.lap(result.lap)
    pictures = result.draw() if result.draw else []
    if result.draw:
        clock.lap("drawing")
    if result.end:
        result.end(report, pictures)
    progress.say(f"time: {clock.said()}{result.together}")
    return report.score


def say_result(result: Result) -> None:
    """Say the result of a verb that writes nothing."""
    for line in result.report().lines:
        progress.say(line)


def write_arrays(arrays: Arrays, verb: str, config: dict[str, Any], out: Path) -> list[Path]:
    """The .npz files, beside the config.json that says what they are of."""
    if not (out / "config.json").exists():
        folder.write_config(out, verb, config)
    return [files.write(out / f"{name}.npz", partial(np.savez, **each)) for name, each in arrays.items()]  # type: ignore[arg-type]


def summary_figures(figures: dict[str, Figure]) -> dict[str, Any]:
    """The figures as summary.json has them."""
    return {name: figure.as_dict() for name, figure in figures.items()}


def judged(summary: dict[str, Any]) -> tuple[str, Figure]:
    """The figure that a finished job is judged by, and its name: of a run its `metric`, of samples the first of their figures."""
    if "metric" not in summary:  # of samples whose data is not here there are no figures
        name, found = next(iter(summary["metrics"].items()), ("", {"value": math.nan}))
        return name, Figure.of_dict(found)
    name = summary["metric"]["name"]
    return name, Figure.of_dict(summary["loss"]) if name == "loss" else Figure(summary["metric"]["value"])
