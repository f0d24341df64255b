"""The table and the picture of a sweep, from its jobs' folders, and the best job if the jobs' scores are comparable."""

from __future__ import annotations

import csv
import glob
import importlib
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from matplotlib.figure import Figure as Drawing
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffsde.build import table
from diffsde.cli.job import VERBS
from diffsde.datasets import Dataset, MixtureDataset
from diffsde.errors import UserError
from diffsde.knobs import is_number
from diffsde.metrics.figures import TARGETS, Figure
from diffsde.nested import flatten
from diffsde.pictures import MISHAPS, save_figure
from diffsde.plots.sweep import Point, sweep_figure
from diffsde.runs import files, folder, progress
from diffsde.runs.results import Cell, judged

# Keys that must be equal for two training losses to be comparable: they define what the loss is the mean of.
OF_LOSS = ("dataset", "path", "objective", "time", "precondition", "label_dropout")
OF_SAMPLES = ("dataset", "measurement")  # keys that must be equal for two figures of samples to be comparable


class Row(NamedTuple):
    """A job of a sweep: its overrides, its status (`done`, or why it was refused), the numbers of its summary, and its score.

    name, figure: the score's name and value. config: the job's config, as a plain dict.
    """

    job: str
    overrides: dict[str, str]
    status: str
    figures: dict[str, Any]
    name: str = ""
    figure: Figure = Figure(math.nan)
    config: dict[str, Any] = {}

    def distance_from_target(self) -> float:
        """The score's distance from its target, lower is better; infinity where it is not a number."""
        distance = self.figure.distance_from_target
        return math.inf if math.isnan(distance) else distance

    def words(self, keys: Sequence[str] | None = None) -> str:
        """The overrides as typed, key=value; keys: only these, None: all."""
        return " ".join(f"{key}={value}" for key, value in self.overrides.items() if keys is None or key in keys)


APART = ("columns", "data", "units")  # entries of a summary that are left out of the table


def summarise(where: Path) -> list[str]:
    """Write sweep.csv and sweep.png from the jobs' folders in `where`, print the table; one line per job that was refused."""
    rows = [row for row in map(row_of, sorted(where.iterdir(), key=_number)) if row]
    if not rows:
        return []
    swept = list(dict.fromkeys(key for row in rows for key in row.overrides))
    named = list(dict.fromkeys(key for row in rows for key in row.figures if key not in swept))
    table = [
        [
            row.job,
            *(row.overrides.get(key, "") for key in swept),
            row.status,
            *(cell(row.figures.get(key)) for key in named),
        ]
        for row in rows
    ]
    files.write(where / "sweep.csv", lambda path: _write_csv(path, [["job", *swept, "status", *named], *table]))
    lines = [("table", progress.shown_path(where / "sweep.csv"))]
    done = [row for row in rows if row.status == "done"]
    if figure := picture(done, swept):
        lines.append(("picture", progress.shown_path(save_figure(where / "sweep.png", figure))))
    lines += [("picture", progress.shown_path(path)) for path in pictures_of_verb(done, where)]
    if any("t_end" in row.config for row in done):
        pass  # a mean that is nearer to the exact one by chance makes no process the best
    elif done and (apart := unlike(done)):
        lines.append(("best", remedy(done, apart, where)))
    elif done and any(row.name == "cross_entropy" and row.figure.target is None for row in done):
        lines.append(
            ("best", "none: guided samples follow another law than the data's, and the least entropy is no aim")
        )
    elif done and not math.isinf((best := min(done, key=Row.distance_from_target)).distance_from_target()):
        said = f"{best.name.replace('_', ' ')} {best.figure.value:.4g}{target_of(best.figure)}, job {best.job}"
        lines.append(("best", f"{said}: {best.words(varied(done, swept) or swept)}"))
    progress.print_table(f"swept {len(done)} of {len(rows)} jobs", lines)
    return [f"job {row.job} ({row.words()}): {row.status}" for row in rows if row.status != "done"]


def pictures_of_verb(rows: list[Row], where: Path) -> list[Path]:
    """The pictures that the jobs' verb draws of a whole sweep, where its module has `sweep_pictures`; a failure is a warning."""
    jobs = [where / row.job for row in rows]
    module = {VERBS.get(verb_of(job), "") for job in jobs}
    draw = (
        getattr(importlib.import_module(*module), "sweep_pictures", None) if len(module) == 1 and all(module) else None
    )
    if draw is None:
        return []
    cells = [
        Cell(job, row.overrides, row.config, folder.read_summary(job)) for job, row in zip(jobs, rows, strict=True)
    ]
    try:
        drawn: list[Path] = draw(cells, where)
    except MISHAPS as error:
        progress.warn(f"no picture of the sweep: {' '.join(str(error).split()) or type(error).__name__}")
        return []
    return drawn


def verb_of(job: Path) -> str:
    """The verb whose job a folder holds; '' where its config.json does not say."""
    content = files.read_json(job / "config.json", neighbour=True)
    return str(content.get("verb", "")) if isinstance(content, dict) else ""


def target_of(figure: Figure) -> str:
    """The target of a figure as text, with its error if it has one; empty where the figure has no target."""
    if figure.target is None:
        return ""
    kind, value, error = figure.target
    return f" ({kind}: {value:.4g}{'' if error is None else f' +- {error:.2g}'})"


def unlike(rows: list[Row]) -> list[str]:
    """The knobs and groups that differ between the jobs and make their scores incomparable; [] where there are none."""
    if len({row.name for row in rows}) > 1:
        return ["metric"]
    keys = OF_LOSS if rows[0].name == "loss" else OF_SAMPLES

    def different(key: str) -> bool:
        first, *rest = (data_of(row.config) if key == "dataset" else row.config.get(key) for row in rows)
        return any(value != first for value in rest)

    return [key for key in keys if different(key)]


def data_of(config: dict[str, Any]) -> Any:
    """The config of a job's dataset, its own or its run's, without `stream`, which does not change the data."""
    dataset = config.get("dataset")
    if dataset is None and isinstance(config.get("run"), str):
        theirs = files.read_json(Path(config["run"]) / "config.json")
        inner = theirs.get("config") if isinstance(theirs, dict) else None
        dataset = inner.get("dataset") if isinstance(inner, dict) else None
    return {key: value for key, value in dataset.items() if key != "stream"} if isinstance(dataset, dict) else dataset


def remedy(rows: list[Row], apart: list[str], where: Path) -> str:
    """Advice on how to compare jobs whose scores are incomparable, since the keys `apart` differ."""
    given = "= and ".join(apart) + "="
    if set(apart) & {"metric", *OF_SAMPLES}:
        return f"none: {given} differ, and a figure is better or worse only where they are the same"
    why = f"none: the loss means something else with each {given}"
    if any(name_in(row.config, "objective") == "classifier" for row in rows):
        return f"{why}; compare the samples that they guide, by guide="
    kind = table(Dataset).get(name_in(rows[0].config, "dataset"))
    metric = "cross_entropy_gap" if kind and issubclass(kind, MixtureDataset) else "w2"
    runs = shlex.quote(f"run=glob({glob.escape(progress.shown_path(where))}/*)")
    return f"{why}; compare by metric={metric}, or by diffsde evaluate -m {runs}"


def name_in(config: dict[str, Any], group: str) -> str:
    """The choice of a group in a config; '' for none."""
    choice = config.get(group)
    return str(choice.get("name", "")) if isinstance(choice, dict) else ""


def cell(value: Any) -> Any:
    """A value as a cell of the table: empty where it is None or not finite."""
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isascii() and path.name.isdigit() else (sys.maxsize, path.name)


def row_of(job: Path) -> Row | None:
    """The row of a job's folder; None where the folder has no result or, with a warning, none that can be read."""
    overrides = split_words(_overrides(job))
    if os.path.exists(job / "summary.json"):
        try:
            summary = folder.read_summary(job)
        except UserError as error:
            progress.warn_once(str(error))
            return None
        name, figure = judged(summary)
        content = files.read_json(job / "config.json", neighbour=True)
        config = content.get("config") if isinstance(content, dict) else None
        figures = numbers({key: value for key, value in summary.items() if key not in APART})
        return Row(job.name, overrides, "done", figures, name, figure, config or {})
    content = files.read_json(job / "error.json", neighbour=True)
    if isinstance(content, dict) and isinstance(content.get("error"), str):
        words = content.get("overrides")
        given = split_words([str(word) for word in words]) if isinstance(words, list) and words else overrides
        return Row(job.name, given, content["error"], {})
    return None


def _overrides(job: Path) -> list[str]:
    path = job / ".hydra" / "overrides.yaml"
    try:
        content: Any = OmegaConf.load(path) if path.is_file() else []
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException):
        return []
    return [str(word) for word in content] if isinstance(content, ListConfig | list) else []


def split_words(words: Sequence[str]) -> dict[str, str]:
    """{key: value} of words key=value."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers and words of a summary by dotted names; a figure's `value` has the figure's own name."""
    pairs = flatten(summary).items()
    return {key.removeprefix("metrics.").removesuffix(".value"): item for key, item in pairs}


def varied(rows: list[Row], swept: list[str]) -> list[str]:
    """The keys that differ between the jobs."""
    return [key for key in swept if len({row.overrides.get(key) for row in rows}) > 1]


def picture(rows: list[Row], swept: list[str]) -> Drawing | None:
    """A figure of the jobs' scores against the swept key; None where no key differs, no job has a score, or their
    scores are not of one figure.
    """
    differing = varied(rows, swept)
    across = [key for key in differing if key != "seed"] or differing
    if not across or all(math.isnan(row.figure.value) for row in rows) or len({row.name for row in rows}) > 1:
        return None

    def spread(key: str) -> tuple[bool, int]:
        words = {row.overrides.get(key, "") for row in rows}
        return all(map(is_number, words)), len(words)

    x = max(across, key=spread)
    rest = [key for key in across if key != x]
    points = [
        Point(row.overrides.get(x, ""), row.figure.value, row.words(rest), row.figure.error or 0.0) for row in rows
    ]
    reference = rows[0].figure.reference
    line = None
    if reference is not None and reference.kind in (*TARGETS, "floor") and one_value(rows, reference.kind):
        line = reference.kind, float(reference.value)
    return sweep_figure(points, x, rows[0].name.replace("_", " "), line, title_of(rows, swept))


def title_of(rows: list[Row], swept: list[str]) -> str:
    """The title of the sweep's figure: the words that all jobs share, and the run where they have one of their own."""
    across = varied(rows, swept)
    words = [f"{key}={value}" for key, value in rows[0].overrides.items() if key not in across]
    config = rows[0].config
    given = {word.partition("=")[0] for word in words} | set(across)
    for key in ("dataset", "path", "sampler"):
        if key not in given and name_in(config, key) and all(row.config.get(key) == config.get(key) for row in rows):
            words.append(f"{key}={name_in(config, key)}")
    run = config.get("run")
    if run and "run" not in given and all(row.config.get("run") == run for row in rows):
        words.append(f"run={progress.shown_path(Path(run))}")
    return f"{len(rows)} jobs: {', '.join(words)}" if words else f"{len(rows)} jobs"


def one_value(rows: list[Row], kind: str) -> bool:
    """Whether all jobs' scores have a reference of the kind with the same value, to two digits."""
    references = [row.figure.reference for row in rows]
    return len({f"{each.value:.2g}" if each and each.kind == kind else "" for each in references}) == 1
