"""Reading and writing files: writes are atomic; JSON is read from folders that other commands may have left in any state."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsde.atomic_files import write_atomically
from diffsde.runs import processes, progress

LARGEST = 16 * 2**20  # bytes of a JSON file that a command reads


class Unreadable(Exception):
    """Raised for a file that exists and is not JSON that diffsde could have written."""


def parsed(path: Path | str) -> Any:
    """The value of a JSON file; None where there is no file. Raises Unreadable."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            raise Unreadable("it is no file")
        if about.st_size > LARGEST:
            raise Unreadable(f"it has {about.st_size / 2**20:.0f} MB")
        with open(path) as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise Unreadable("it is a link to nothing") from None
        return None
    except OSError as error:
        raise Unreadable(error.strerror or "it cannot be opened") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON of ours: {str(error)[:80]}") from None


def read_json(path: Path | str, neighbour: bool = False) -> Any:
    """The value of a JSON file; None where it cannot be read.

    neighbour: the file belongs to another folder that the command only looks through: warn that it is left out.
    """
    try:
        return parsed(path)
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
