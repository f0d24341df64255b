"""One process at a time in a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import portalocker  # of such libraries the one whose locks may be shared, and are given back by the system
from portalocker import AlreadyLocked, LockException, LockFlags

from diffsde.errors import UserError, first_line
from diffsde.runs import processes, progress

LOCK = ".lock"
AT_ONCE = getattr(
    os, "O_NONBLOCK", 0
)  # a pipe of that name would wait for who writes into it; Windows has none in folders


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the folder meanwhile; given back by the system however this one ends.

    By a lock on a file in it, open for writing: NFS tells the other hosts of such a lock alone, of none on a folder.
    """
    if not processes.is_main_process():
        yield
        return
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | AT_ONCE, 0o666)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written ({error.strerror}); remove it") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"'{path}' cannot be written (it is no file); remove it")
        try:
            portalocker.lock(descriptor, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except AlreadyLocked:
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
        descriptor = os.open(path, os.O_RDONLY | AT_ONCE)
    except FileNotFoundError:
        return False
    except OSError as error:
        return _left_alone(path, error.strerror or "unreadable")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _left_alone(path, "it is no file")
        portalocker.lock(descriptor, LockFlags.SHARED | LockFlags.NON_BLOCKING)
        return False
    except AlreadyLocked:
        return True
    except (OSError, LockException) as error:
        return _left_alone(path, first_line(error))
    finally:
        os.close(descriptor)


def _left_alone(path: Path, why: str) -> bool:
    progress.warn_once(f"'{path}' cannot be read ({why}); its folder is left alone")
    return True
