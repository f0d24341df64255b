"""Locks: one process at a time writes a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from diffsde import system_errors
from diffsde.atomic_files import clear_partial
from diffsde.errors import UserError, first_line
from diffsde.runs import processes, progress

LOCK = ".lock"
# Opening a pipe of that name would block, and of a link would write to where it leads; Windows has neither.
AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

_held: ContextVar[tuple[Path, ...]] = ContextVar("held", default=())  # folders that this process has locked


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes; the system releases the lock however this process ends. Raises UserError.

    What a process that was killed left half written there is removed. The lock is on a file in the folder, opened for writing: over NFS, other hosts see only such locks.
    """
    if not processes.is_main_process():
        yield
        return
    path = folder / LOCK
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | AT_ONCE, 0o666)
        except OSError as error:
            raise UserError(f"'{path}' cannot be written ({error.strerror}); remove it") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"'{path}' cannot be written (it is no file); remove it")
            if not _locked(descriptor):
                raise UserError(f"'{folder}' is being written by another process; wait for it, or give another folder")
            if not _is_at(descriptor, path):  # whoever held it before has removed the empty folder
                with system_errors.naming(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                continue
            clear_partial(folder)
            with _noted(folder):
                yield
            return
        finally:
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process holds the folder's lock; processes that only ask do not see each other.

    A folder whose lock is not a file, or cannot be read, counts as held, with a warning.
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


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def check(folder: Path) -> None:
    """Raise UserError where a folder that this process has locked is gone: writing would make half of a new one."""
    if folder in _held.get() and not os.path.isfile(folder / LOCK):
        there = "is no folder any more" if os.path.lexists(folder) and not os.path.isdir(folder) else "was removed"
        raise UserError(
            f"'{folder}' {there} while it was written; what it held is lost, and the command has to begin again"
        )


@contextmanager
def _noted(folder: Path) -> Iterator[None]:
    _held.set((*_held.get(), folder))
    try:
        yield
    finally:
        _held.set(tuple(other for other in _held.get() if other != folder))


def _locked(descriptor: int, shared: bool = False) -> bool:
    """Try to take the lock, until the descriptor is closed; whether it was free. Raises OSError where locks are not supported.

    By portalocker: it has shared locks which the system releases.
    """
    from portalocker import AlreadyLocked, LockException, LockFlags, lock  # here: early errors need not wait for it

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
