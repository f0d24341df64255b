"""Errors of the system, a full disk, no permission, no memory, as the one line of a UserError; the one table of what would be right."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffsde.errors import UserError, first_line

# What would be right, by the error's number:
_ROOM = "make room, or write to another disk (hydra.run.dir=FOLDER)"
REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on a file's size (ulimit -f), or write less (n=, keep=, save_every=)",
    errno.EACCES: "give a folder that you may write to, or its owner's permission",
    errno.EPERM: "give a folder that you may write to, or its owner's permission",
    errno.EROFS: "give a folder on a disk that can be written to",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine has no open files left",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "a file stands where a folder is to be; give another name, or move the file",
    errno.EISDIR: "a folder stands where a file is to be; give another name, or move the folder",
    errno.EEXIST: "a file stands where a folder is to be; give another name, or move the file",
    errno.ENOENT: "it, or its folder, is not there, or has been removed since the command began",
    errno.ELOOP: "a link leads back to itself; give the folder's own name",
    errno.EIO: "the disk cannot be read or written there: look at it, and write to another",
    errno.ESTALE: "the network's disk has lost it: mount it again",
    errno.ENOMEM: "take less at once (n=, batch_size=), or a machine with more memory",
    errno.EAGAIN: "the machine starts no more processes or threads: take fewer (threads=), or raise the limit (ulimit -u)",
}
# Of the machine, whatever the file is
OF_MACHINE = {
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.ESTALE,
    ),
    *(errno.ENOMEM, errno.EAGAIN),
}
# What a mistake of ours would raise too: a line only where the user gave the name, or something is written (`naming`).
OF_NAMES = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.EBADF, errno.EINVAL, errno.ESPIPE, errno.ENOTTY, errno.ECHILD, errno.ESRCH),
}
MEMORY = "take less at once (a smaller n=, batch_size= or net), or a machine with more memory"
# Numbers of errors in the texts of libraries that say nothing else (tensorstore, under orbax).
IN_TEXT = re.compile(
    r"\bE(?:NOSPC|DQUOT|FBIG|ACCES|PERM|ROFS|MFILE|NFILE|IO|NAMETOOLONG)\b|\[(?:OS error|Errno) (\d+)|os_error_code='(\d+)'"
)
MAPPING = re.compile(r"failed to map segment|[Cc]annot allocate memory")  # the loader's, of a library that is imported
ALLOCATING = re.compile(r"Out of memory|RESOURCE_EXHAUSTED|bad_alloc|Unable to allocate")
SIZE = re.compile(r"allocat\w+ (\d+)\s*(?:bytes|B\b)|Unable to allocate ([\d.]+ \w+)")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def line(error: BaseException, given: Iterable[Any] = ()) -> str | None:
    """What a system's error says in a line, with what would be right; None for any other error.

    given: names that the user gave. An error that a mistake of ours would raise too (OF_NAMES) counts where it is of one of these,
    or of a folder above it, or has passed `naming`.
    """
    if isinstance(error, BrokenPipeError | UserError):
        return None
    if isinstance(error, OSError) and (error.errno is not None or error.filename):
        ours = error.errno in OF_NAMES and not getattr(error, "named", False)
        return None if ours and not any(_leads_to(error.filename, name) for name in given) else _of_file(error)
    text = str(error)
    if isinstance(error, MemoryError) or (_of_library(error) and ALLOCATING.search(text)):
        return _of_memory(text)
    if isinstance(error, ImportError) and MAPPING.search(text):
        return f"memory to load {error.name or 'a library'} is not available; raise the limit (ulimit -v), or close other programs"
    if _of_library(error) and (found := _number_in(text)):
        return f"{os.strerror(found)}; {REMEDIES.get(found, _ROOM)}"
    return None


@contextmanager
def as_user_errors(*given: Any) -> Iterator[None]:
    """A context in which the system's errors are raised as a UserError of one line. given: as of `line`."""
    try:
        yield
    except Exception as error:
        if (said := line(error, given)) is None:
            raise
        raise UserError(said) from error


@contextmanager
def naming(path: os.PathLike[str] | str, under: os.PathLike[str] | str = "") -> Iterator[None]:
    """A context of work on `path`, in which an OSError of it, or of a folder above it, is the user's to mend (`line`). One that names
    no file, a write's for one, names `path`, and so does one of the name `under` which it has until it is whole, or below that.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        if name is not None and under and _leads_to(under, name):
            name = None
        if name is not None and not _leads_to(name, path):
            raise
        if error.errno is None:  # numpy: "1000 requested and 400 written"; Pillow: "encoder error -2"
            said = OSError(errno.EIO, f"{first_line(error)}: is the disk full", str(path))
        else:
            said = OSError(error.errno, error.strerror, str(path) if name is None else name)
        said.__dict__["named"] = True
        raise said from error


def _leads_to(above: Any, name: Any) -> bool:
    """Whether a path is `name`, or a folder above it; not of what is no path."""
    if not isinstance(above, str | os.PathLike) or not isinstance(name, str | os.PathLike):
        return False
    outer, inner = (Path(os.path.abspath(os.path.expanduser(each))) for each in (above, name))
    return inner.is_relative_to(outer)


def of_checkpoint(error: BaseException) -> str:
    """Why a checkpoint could not be written: the line of the system's error in it or among its causes, else its first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            cause.__dict__["named"] = True  # of a checkpoint's files, whatever they are called
        if said := line(cause):
            return said
        if found := _number_in(str(cause)):
            return f"{os.strerror(found)}; {REMEDIES.get(found, _ROOM)}"
        cause = cause.__cause__ or cause.__context__
    return first_line(error)[:160]


def of_machine(error: BaseException) -> str | None:
    """The line of an error, or of one of its causes, that is of the machine, its limits and its disks, and so says nothing against what
    was to be read; None for any other, of a file that is not there among them.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        number = cause.errno if isinstance(cause, OSError) else _number_in(text)
        if number in OF_MACHINE:
            return f"{os.strerror(number)}; {REMEDIES[number]}"
        if isinstance(cause, MemoryError) or (_of_library(cause) and ALLOCATING.search(text)):
            return _of_memory(text)
        cause = cause.__cause__ or cause.__context__
    return None


def shown_bytes(count: float) -> str:
    """A number of bytes as a person reads it: 512 bytes, 1.5 GiB."""
    i = 0
    while count >= 1024 and i < len(UNITS) - 1:
        count, i = count / 1024, i + 1
    return f"{count:.3g} {UNITS[i]}"


def _of_file(error: OSError) -> str:
    remedy = REMEDIES.get(error.errno or 0)
    names = " and ".join(
        f"'{os.fspath(name)}'" for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)
    )
    if nowhere := next((name for name in (error.filename, error.filename2) if _is_dangling(name)), None):
        remedy = f"it is a link to nothing, '{os.readlink(nowhere)}': make that, or remove the link"
    reason = error.strerror or first_line(error)
    return f"{names + ': ' if names else ''}{reason}" + (f"; {remedy}" if remedy else "")


def _is_dangling(name: object) -> bool:
    """Whether a name is of a link whose end is not there."""
    return isinstance(name, str | os.PathLike) and os.path.islink(name) and not os.path.exists(name)


def _of_memory(text: str) -> str:
    found = SIZE.search(text)
    size = "" if found is None else f" of {shown_bytes(int(found[1])) if found[1] else found[2]}"
    shape = re.search(r"with shape (\([\d, ]*\))", text)
    of = f" for an array of shape {shape[1]}" if shape else ""
    return f"memory{size}{of} is not available; {MEMORY}"


def _of_library(error: BaseException) -> bool:
    """Whether an error is of a library that says the system's in words: XLA's, tensorstore's."""
    return any(kind.__name__ in ("XlaRuntimeError", "JaxRuntimeError") for kind in type(error).__mro__)


def _number_in(text: str) -> int | None:
    """The number of a system's error that a text names; None where it names none."""
    found = IN_TEXT.search(text)
    if found is None:
        return None
    number = found[1] or found[2]
    return int(number) if number else getattr(errno, found[0])
