"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffsde import system_errors

PARTIAL = re.compile(r"\.(.*)\.(\d+)\.partial(\.[^.]*)?")  # by which what is left over is known
LEFT = 3600.0  # seconds after which a file beside one that is being written, of no process here, is taken for left over


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8; what UTF-8 does not have, of a file's name for one, as escapes."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_atomically(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)` and move it into place; the suffix is kept for those that look at it.

    It is on the disk before it has its name, so that a power cut does not leave an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_left(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with system_errors.naming(path, partial):
            save(partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(OSError):  # of a disk that has gone: what is raised is said
            partial.unlink(missing_ok=True)
    return path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder, which is given the name at the end."""
    partial = folder.with_name(f".{folder.name.lstrip('.')}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_partial(folder: Path, own: bool = False) -> None:
    """Remove what was half written in a folder: called by its only writer, who writes nothing now. own: only what this process did,
    in a folder that others may write too.
    """
    try:
        there = list(os.scandir(folder))
    except OSError:
        return
    for entry in there:
        found = PARTIAL.fullmatch(entry.name)
        if found and not (own and int(found[2]) != os.getpid()):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                _remove(entry.path)


def _clear_left(path: Path) -> None:
    """Remove what dead processes left of this file, in a folder that many may write, such as a cache."""
    for entry in os.scandir(path.parent):
        found = PARTIAL.fullmatch(entry.name)
        if found and found[1] == path.stem and (found[3] or "") == path.suffix:
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT
            if old and not _alive(int(found[2])):
                _remove(entry.path)


def _alive(process: int) -> bool:
    """Whether there is such a process on this machine, as far as that can be asked: on Windows the question would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _remove(path: str) -> None:
    with suppress(OSError):  # no permission, or another process was quicker
        os.unlink(path)
