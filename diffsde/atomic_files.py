"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from diffsde import system_errors


def write_atomically(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)` and move it into place; the suffix is kept for those that look at it.

    It is on the disk before it has its name, so that a power cut does not leave an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with system_errors.naming(path, partial):
            save(partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # of a disk that has gone: what is raised is said
            partial.unlink(missing_ok=True)
    return path
