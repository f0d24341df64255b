"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from diffsde.errors import UserError
from diffsde.runs import processes, progress

if TYPE_CHECKING:
    pass


LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the folder meanwhile; given back by the system however this one ends.

    By a lock on a file in it, open for writing: NFS tells the other hosts of such a lock alone, of none on a folder.
    """
    if not processes.is_main_process():
        yield
        return
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise UserError(f"'{folder / LOCK}' cannot be written ({error.strerror}); remove it") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"'{folder / LOCK}' cannot be written (it is no file); remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"'{folder}' is being written by another process; wait for it, or give another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process is writing the folder; those that ask at the same time do not take each other for it.

    Of a folder whose lock is no file, or may not be read, nobody can say: it counts as held, with a warning.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would wait for a writer
    except FileNotFoundError:
        return False
    except OSError as error:
        return _left_alone(path, error.strerror or "unreadable")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _left_alone(path, "it is no file")
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        return _left_alone(path, error.strerror or "unreadable")
    finally:
        os.close(descriptor)


def _left_alone(path: Path, why: str) -> bool:
    progress.warn_once(f"'{path}' cannot be read ({why}); its folder is left alone")
    return True
