"""One process at a time in a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        if not _locked(descriptor):
            raise UserError(f"'{folder}' is being written by another process; wait for it, or give another folder")
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
        return not _locked(descriptor, shared=True)
    except OSError as error:
        return _left_alone(path, first_line(error))
    finally:
        os.close(descriptor)


def _locked(descriptor: int, shared: bool = False) -> bool:
    """Whether the lock was free; it is this process's until the descriptor is closed. Raises OSError where there are no locks.

    By portalocker: of such libraries the one with shared locks which the system gives back.
    """
    from portalocker import AlreadyLocked, LockException, LockFlags, lock  # here, as a refusal need not wait for it

    try:
        lock(descriptor, LockFlags.NON_BLOCKING | (LockFlags.SHARED if shared else LockFlags.EXCLUSIVE))
    except AlreadyLocked:
        return False
    except LockException as error:
        raise OSError(first_line(error)) from error
    return True


def _left_alone(path: Path, why: str) -> bool:
    progress.warn_once(f"'{path}' cannot be read ({why}); its folder is left alone")
    return True
