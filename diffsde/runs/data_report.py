"""A description of the data in a line or two: number of points, shape, source, classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.runs import progress

SHOWN = 12  # names of columns or classes in a line


def say_data(dataset: Dataset, end: str = "data") -> dict[str, Any]:
    """Print a description of the data, or of the source (`end`), and return it for summary.json."""
    found = {"dataset": name_of(dataset)} | dataset.about(dataset.load())
    progress.say(f"{end}: {described(found)}")
    if notes := found.get("notes"):
        progress.say(f"{end}: {'; '.join(notes)}")
    return found


def described(found: dict[str, Any]) -> str:
    """The description as text, e.g. 200 points of 2 coordinates (x, y) from points.csv; 2 classes: 0 (red), 1 (blue)."""
    shape, classes, names = found["shape"], found["classes"], found.get("class_names", [])
    many = f"{found['points']:,} " if "points" in found else ""
    if found.get("images"):
        what = f"images of {shape[1]} x {shape[0]} in {_colours(shape[2])}"
    elif len(shape) == 1:
        what = f"points of {_count(shape[0], 'coordinate')}"
    else:
        what = f"points of shape ({', '.join(map(str, shape))}), {_count(math.prod(shape), 'number')} each"
    if columns := found.get("columns"):
        what += f" ({_some(columns)})"
    what += (
        f" from {progress.shown_path(Path(found['from']).expanduser())}"
        if "from" in found
        else f" of {found['dataset']}"
    )
    if "points" not in found:
        what += ", drawn anew for each step"
    if classes:
        what += f"; {classes} class{'es' if classes > 1 else ''}" + (f": {_some(numbered(names))}" if names else "")
    return many + what + _snapshots(found)


def _snapshots(found: dict[str, Any]) -> str:
    """The times of snapshots with the number of points of each, and which is left out; empty for other data."""
    if "snapshots" not in found:
        return ""
    each = [f"{time:g} ({n:,})" for time, n in zip(found["times"], found["snapshots"], strict=True)]
    left = f"; left out: {', '.join(f'{time:g}' for time in found['left_out'])}" if "left_out" in found else ""
    return f"; {len(each)} snapshots, at times (points) {_some(each)}{left}"


def numbered(names: list[str]) -> list[str]:
    """Class names with the numbers that labels= takes, e.g. 0 (setosa)."""
    return [f"{i} ({name})" for i, name in enumerate(names)]


def _colours(channels: int) -> str:
    return {1: "grey", 3: "colour", 4: "colour with alpha"}.get(channels, f"{channels} channels")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _some(names: list[str]) -> str:
    shown = [name or "(no name)" for name in names]
    return ", ".join(shown[:SHOWN]) + (f", ... ({len(shown)} in all)" if len(shown) > SHOWN else "")
