"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffsde import system_errors

# The name of what is half written, by which what is left over is known: .NAME.PROCESS-MACHINE.partial.SUFFIX
PARTIAL = re.compile(r"\.(.*)\.(\d+)-([0-9a-f]{8})\.partial(\.[^.]*)?")
LEFT = 3600.0  # seconds after which what another machine has not written on is taken for left over


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8; what UTF-8 does not have, of a file's name for one, as escapes."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_atomically(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)` and move it into place; the suffix is kept for those that look at it.

    It is on the disk before it has its name, so that a power cut does not leave an empty one.
    """
    partial = path.with_name(partial_name(path.stem, path.suffix))
    try:
        with system_errors.naming(path, partial):
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear_left(path.parent)
            save(partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # of a disk that has gone: what is raised is said
            partial.unlink(missing_ok=True)
    return path


def partial_name(stem: str, suffix: str = "") -> str:
    """The name, until it is whole, of what this process writes."""
    return f".{stem}.{os.getpid()}-{_machine()}.partial{suffix}"


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder, which is given the name at the end."""
    partial = folder.with_name(partial_name(folder.name.lstrip(".")))
    try:
        with system_errors.naming(folder, partial):
            partial.mkdir()
            yield partial
            os.replace(partial, folder)
            _clear_left(folder.parent)  # of one that was killed here, whose job is finished and is not locked again
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
        if found and not (own and (int(found[2]), found[3]) != (os.getpid(), _machine())):
            _remove(entry)


def _clear_left(folder: Path) -> None:
    """Remove what processes that have ended left half written in a folder that many may write, such as a cache."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if found := PARTIAL.fullmatch(entry.name):
                here = found[3] == _machine()
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT
                if not _alive(int(found[2])) if here else old:
                    _remove(entry)


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


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
        return
    with suppress(OSError):  # no permission, or another process was quicker
        os.unlink(entry.path)
