"""diffsde runs: what has been run, newest first: ids, choices that differ, figures beside their references, and how each ended."""

from __future__ import annotations

import heapq
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from diffsde import terminal
from diffsde.errors import UserError
from diffsde.runs import files, records
from diffsde.runs.folder import MACHINE
from diffsde.runs.plain_words import parted
from diffsde.runs.records import Record

LISTED = 30  # rows of the table, unless n= says how many
SILENT = (*MACHINE, "resume", "seed", "steps", "name", "tag", "pictures", "plots", "keep", "checkpoint_every", "logger")
REFERENCES = ("exact", "true", "real", "measurement", "truth", "floor")  # the keys of a reference in summary.json
NARROWEST = 40  # letters that the choices need beside the other columns; else they stand on lines of their own


class Row(NamedTuple):
    """A run as the table shows it: cells by column, its choices as words, and why it failed."""

    cells: dict[str, str]
    choices: tuple[str, ...]
    error: str


def main(words: list[str]) -> None:
    """List the runs that the words choose. Raises UserError for a word that matches nothing."""
    own, rest = parted([word for word in words if word != "--json"], ("n",))
    as_json = "--json" in words
    most = count_of(own.get("n", "all" if as_json else str(LISTED)))
    found: Sequence[Record] | Iterator[Record] = records.select(rest) if rest else records.every()
    shown, total = newest(found, most)
    if as_json:
        print_json(shown)
    elif not total and os.path.lexists(records.OUTPUTS) and not records.OUTPUTS.is_dir():
        what = "a file" if records.OUTPUTS.exists() else "a link to nothing"
        raise UserError(
            f"'{records.OUTPUTS}' is {what}, where the folder of runs is to be; move it, or give it another name"
        )
    elif not total:
        print(f"no runs under '{records.OUTPUTS}' yet; diffsde train begins one")
    else:
        print("\n".join(table(shown, width())))
        if total > len(shown):
            print(f"{total - len(shown):,} older ones are not listed; n=all lists them, filters such as path=ot choose")


def count_of(value: str) -> float:
    """The number that n= says; infinity for all."""
    if value == "all":
        return math.inf
    if not value.isdecimal() or not int(value):
        raise UserError(f"n is '{value}'; it must be a number of runs from 1, or all")
    return int(value)


def newest(found: Any, most: float) -> tuple[list[Record], int]:
    """The newest `most` of the records, and how many there are; no more of them are kept at once."""
    count = 0

    def counted() -> Iterator[Record]:
        nonlocal count
        for record in found:
            count += 1
            yield record

    if math.isinf(most):
        return records.newest_first(counted()), count
    return heapq.nlargest(int(most), counted(), key=records.age), count


def width() -> float:
    """Letters a line: of the terminal, or $COLUMNS; without bound where the output goes elsewhere."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return math.inf


def print_json(shown: Sequence[Record]) -> None:
    """Print the records as one JSON list, one at a time."""
    print("[", end="")
    for i, record in enumerate(shown):
        text = json.dumps(files.strict(as_json(record)), indent=1, allow_nan=False)
        print(("," if i else "") + "\n" + text, end="")
    print("\n]" if shown else "]")


def as_json(record: Record) -> dict[str, Any]:
    """A record as a dict of JSON, with the id of the run it sampled from."""
    theirs = records.trained(record)
    return record._asdict() | {
        "folder": str(record.folder),
        "tags": list(record.tags),
        "sweep": record.sweep and str(record.sweep),
        "run": theirs.id if theirs else record.config.get("run"),
    }


def table(shown: Sequence[Record], letters: float) -> list[str]:
    """The lines of the table: what all runs share once, then a row each, its choices beside it or below, as there is room."""
    trained_once = records.remembered(records.trained)
    choices = [choices_of(record, trained_once) for record in shown]
    shared = set(choices[0]).intersection(*choices[1:]) if len(shown) > 1 else set()
    rows = [
        row_of(record, [word for word in each if word not in shared])
        for record, each in zip(shown, choices, strict=True)
    ]
    columns = [name for name in rows[0].cells if any(row.cells[name] for row in rows)]
    wide = {name: max(len(name), *(len(row.cells[name]) for row in rows)) for name in columns}
    below: list[str] = []  # columns without room of their own
    while sum(wide[name] + 2 for name in columns) > letters + 2:
        widest = "metric" if "metric" in columns else columns[-1]
        columns.remove(widest)
        below.insert(0, widest)
    left = sum(wide[name] + 2 for name in columns)
    beside = left + NARROWEST <= letters and not below
    indent = left if beside else wide["id"] + 2
    common = " ".join(word for word in choices[0] if word in shared)
    lines = folded(terminal.printable(f"all: {common}"), letters) if common else []
    lines.append(("  ".join(f"{name:<{wide[name]}}" for name in columns) + "  choices" * beside).rstrip())
    for row in rows:
        first = "  ".join(f"{row.cells[name]:<{wide[name]}}" for name in columns)
        words = [*(f"{name}={row.cells[name]}" for name in below if row.cells[name] and name != "metric"), *row.choices]
        figure = row.cells["metric"] if "metric" in below else ""
        rest = [each for text in (figure, " ".join(words), row.error) for each in folded(text, letters - indent)]
        if beside and rest:
            first += f"  {rest.pop(0)}"
        lines += [first.rstrip(), *(" " * indent + each for each in rest)]
    return lines


def folded(text: str, letters: float) -> list[str]:
    """The text in lines of so many letters, folded at spaces where it has them."""
    return textwrap.wrap(text, int(letters)) if math.isfinite(letters) else [text] if text else []


def row_of(record: Record, choices: Sequence[str]) -> Row:
    """The row of a record with its choices."""
    seed = record.config.get("seed")
    cells = {
        "id": record.id,
        "date": record.date[5:16].replace("T", " "),
        "verb": record.verb,
        "state": record.state,
        "metric": metric_of(record.summary),
        "steps": number(record.summary.get("steps", record.config.get("steps"))),
        "seconds": number(record.summary.get("seconds")),
        "seed": number(seed),
        "name": " ".join([record.name, *(f"#{tag}" for tag in record.tags)]).strip(),
    }
    safe = {name: terminal.printable(cell) for name, cell in cells.items()}
    return Row(safe, tuple(map(terminal.printable, choices)), terminal.printable(record.error))


def choices_of(record: Record, trained_once: records.Trained) -> list[str]:
    """The words that were typed for a job and choose something, and those of the run it sampled from."""
    own = {key: value for key, value in record.words.items() if is_choice(key)}
    theirs = trained_once(record)
    if theirs is not None:
        own["run"] = theirs.id if theirs.sweep else theirs.name or theirs.id  # the jobs of a sweep share its name
        inner = {key: value for key, value in theirs.words.items() if is_choice(key) and key != "init"}
        own |= {f"run.{key}" if record.config.get(key) is not None else key: value for key, value in inner.items()}
    return [f"{key}={value}" for key, value in own.items()]


def is_choice(key: str) -> bool:
    """Whether a word says what a run computes."""
    return key not in SILENT and not key.startswith("hydra")


def metric_of(summary: dict[str, Any]) -> str:
    """The score of a finished run as text, with its error and reference: the metric of training, or the first of samples."""
    metric, figures = summary.get("metric"), summary.get("metrics")
    if isinstance(metric, dict) and metric.get("name"):
        name = str(metric["name"])
        return f"{name} {figure_text(summary.get('loss') if name == 'loss' else metric)}"
    if isinstance(figures, dict) and figures:
        name, figure = next(iter(figures.items()))
        return f"{name} {figure_text(figure)}"
    return ""


def figure_text(figure: Any) -> str:
    """value +- error (reference), with two digits of the error."""
    if not isinstance(figure, dict) or not isinstance(figure.get("value"), int | float):
        return "is no number"
    value, error = float(figure["value"]), float(figure.get("error") or 0)
    size = error if error > 0 else abs(value) / 100 or 1.0
    places = min(8, max(0, 1 - math.floor(math.log10(size))))
    text = f"{value:.{places}f}" + (f" +- {error:.{places}f}" if error > 0 else "")
    kind = next((kind for kind in REFERENCES if isinstance(figure.get(kind), int | float)), None)
    return text if kind is None else f"{text} ({kind} {figure[kind]:.{places}f})"


def number(value: Any) -> str:
    """A number as short text; empty for what is none."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return str(value)
