"""Reading and writing files: writes are atomic; JSON is read from folders that other commands may have left in any state."""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsde.atomic_files import write_atomically
from diffsde.errors import Unreadable, UserError, first_line
from diffsde.runs import processes, progress
from diffsde.runs.shapes import fault

LARGEST = 16 * 2**20  # bytes of a JSON file that a command reads
DEEPEST = 64  # lists and objects inside one another


def parsed(path: Path | str, shape: Any = None) -> Any:
    """The value of a JSON file; None where there is no file. Raises Unreadable.

    shape: as of shapes.fault, or a function that says of a value what is wrong with it.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            raise Unreadable("it is no file")
        if about.st_size > LARGEST:
            raise Unreadable(f"it has {about.st_size / 2**20:.0f} MB")
        with open(path, encoding="utf-8") as file:
            found = decoded(file.read(LARGEST + 1))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise Unreadable("it is a link to nothing") from None
        return None
    except OSError as error:
        raise Unreadable(error.strerror or "it cannot be opened") from None
    except ValueError as error:
        raise Unreadable(f"it is no JSON of ours: {first_line(error)[:80]}") from None
    if shape is not None and (why := shape(found) if callable(shape) else fault(found, shape)):
        raise Unreadable(f"it is no JSON of ours: {why}")
    return found


def parsed_of_user(path: Path | str, shape: Any = None, knob: str = "") -> Any:
    """What `parsed` gives of a file in a folder that the user named, by a knob. Raises UserError."""
    try:
        return parsed(path, shape)
    except Unreadable as error:
        raise UserError(f"{f'{knob}: ' if knob else ''}'{path}' cannot be read: {error}") from None


def decoded(text: str) -> Any:
    """The value of JSON text: its numbers finite, its keys once in an object, and not too deep. Raises ValueError."""
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("too many brackets inside one another") from None
    if text.count("[") + text.count("{") > DEEPEST and _depth(found) > DEEPEST:
        raise ValueError(f"more than {DEEPEST} brackets inside one another")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)  # by one look at each key: a stranger's object may have a million
        twice = next(key for key, count in times.items() if count > 1)
        raise ValueError(f"'{twice[:40]}' stands twice in it")
    return found


def _depth(value: Any) -> int:
    """How many lists and objects are inside one another, the value's own included."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
    return depth


def read_json(path: Path | str, neighbour: bool = False, shape: Any = None) -> Any:
    """The value of a JSON file; None where it cannot be read, or has not the shape (shapes.fault).

    neighbour: the file belongs to another folder that the command only looks through: warn that it is left out.
    """
    try:
        return parsed(path, shape)
    except Unreadable as error:
        if neighbour:
            progress.warn_once(f"'{path}' is left out: {error}")
        return None


def write(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)`, whole or not at all; of several processes only the first writes."""
    return write_atomically(path, save) if processes.is_main_process() else path


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON (see strict), whole or not at all; the path."""
    text = json.dumps(strict(value), indent=2, allow_nan=False) + "\n"
    return write(path, lambda partial: partial.write_text(text))


def strict(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
