"""Arrays of .npy and .npz files of anyone: sizes are read and bounded before memory is taken, and Python objects are never loaded."""

from __future__ import annotations

import io
import math
import os
import stat
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffsde.errors import Unreadable, first_line
from diffsde.memory import installed
from diffsde.system_errors import shown_bytes

DIRECTORY = 4 * 2**20  # most bytes of an archive's list of members: some 40,000 of them
MEMBERS = 1000  # most that are read of them
NUMBERS = "biufc"  # kinds of dtypes that are numbers
LETTERS = 4096  # most bytes of a text in an array of texts
AXES = 32
MOST = 2**70  # bytes that are said; floating point does not hold every number of a header
DEFLATED = 1033  # what deflate makes smaller at most, by its format
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Chooser = Callable[[list[str]], Iterable[str]]


def read_npy(path: Path, texts: bool = False) -> np.ndarray:
    """The array of a .npy file. texts: as of read_npz. Raises Unreadable."""
    with _readable(), _regular(path) as file:
        _check_header(file, os.fstat(file.fileno()).st_size, texts)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def map_npy(path: Path) -> np.memmap:
    """The array of a .npy file, left on the disk. Raises Unreadable."""
    with _readable(), _regular(path) as file:
        _check_header(file, os.fstat(file.fileno()).st_size, held=False)
        return np.lib.format.open_memmap(path, mode="r")


def read_npz(path: Path, choose: Chooser | None = None, texts: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by their names: those that `choose` picks of the names there are, else all.

    texts: whether arrays of short texts, and dates, may be among them. Raises Unreadable; KeyError for a name that is not there.
    """
    with ExitStack() as held:
        with _readable():
            file = held.enter_context(_regular(path))
            archive = held.enter_context(_archive(file))
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        names = list(members if choose is None else choose(list(members)))
        for name in names:
            if name not in members:
                raise KeyError(name)
        if len(names) > MEMBERS:
            raise Unreadable(f"it has {len(names):,} arrays; at most {MEMBERS:,} are read")
        with _readable():
            _check_sizes([members[name] for name in names], os.fstat(file.fileno()).st_size)
            return {name: _member(archive, members[name], texts) for name in names}


def names_in(path: Path) -> list[str]:
    """The names of the arrays in an .npz file. Raises Unreadable."""
    with _readable(), _regular(path) as file, _archive(file) as archive:
        return [member.filename.removesuffix(".npy") for member in archive.infolist()]


@contextmanager
def _readable() -> Iterator[None]:
    """A context in which what numpy, zipfile and the system raise of a file is Unreadable; a missing file stays FileNotFoundError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of headers as Python 2 wrote them
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(error.strerror or first_line(error)) from None
    except (
        ValueError,
        TypeError,
        EOFError,
        SyntaxError,
        tokenize.TokenError,  # of such a header
        MemoryError,
        OverflowError,
        RecursionError,
        NotImplementedError,  # of zipfile: a compression, or a version, that it does not know
        RuntimeError,  # of zipfile: a member that is encrypted
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise Unreadable(first_line(error)[:160]) from None


@contextmanager
def _regular(path: Path) -> Iterator[IO[bytes]]:
    """The file at a path, opened, which is no pipe and no device: those would be waited for, or end nowhere."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Unreadable("it is no regular file")
    with open(path, "rb") as file:
        yield file


class _Bounded(io.BufferedReader):
    """A file of which no more is read at once than an archive's list of members may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has {size / 2**20:.0f} MB, more than {DIRECTORY // 2**20}")
        return super().read(size)


@contextmanager
def _archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """The archive in an open file, whose list of members is not too long."""
    bounded = _Bounded(io.FileIO(os.dup(file.fileno())))
    with bounded, zipfile.ZipFile(bounded) as archive:
        yield archive


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Raise Unreadable for members that would take more memory than there is, or are compressed beyond what deflate can."""
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(
                "it is compressed in another way than numpy does; write it again by numpy.savez_compressed"
            )
        packed = member.compress_size if member.compress_type == zipfile.ZIP_STORED else member.compress_size * DEFLATED
        if member.compress_size > size or member.file_size > packed + DEFLATED:
            raise Unreadable(
                f"its list of members is wrong: {shown_bytes(member.file_size)} in a file of {shown_bytes(size)}"
            )
    _check_memory(sum(member.file_size for member in members))


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, texts: bool) -> np.ndarray:
    with archive.open(member) as opened:
        _check_header(opened, member.file_size, texts)
    with archive.open(member) as opened:
        found = np.lib.format.read_array(opened, allow_pickle=False)
        if opened.read(1):  # its sum is checked where a member ends
            raise Unreadable("there is more in it than its header says")
        return found


def _check_header(file: Any, size: int, texts: bool = False, held: bool = True) -> None:
    """Raise Unreadable unless the header is of numbers (or short texts), as many as `size` bytes have. held: in memory."""
    try:
        version = np.lib.format.read_magic(file)
    except ValueError as error:
        if "not correct" not in str(error):  # it ends before
            raise
        raise Unreadable(
            "it is not a .npy file, by its first bytes; a table in text has a name that ends in .csv"
        ) from None
    if version not in READERS:
        raise Unreadable(
            f"it is of version {version[0]}.{version[1]} of numpy's format, which arrays of numbers do not have"
        )
    shape, _, dtype = READERS[version](file)
    if dtype.hasobject:
        raise Unreadable("it holds Python objects, not numbers; save a plain numeric array")
    if dtype.kind not in NUMBERS and not (texts and dtype.kind in "SUMm" and 0 < dtype.itemsize <= LETTERS):
        raise Unreadable(f"it holds {str(dtype)[:60]}, not numbers")
    if len(shape) > AXES or any(length < 0 for length in shape):
        raise Unreadable(f"its header says the shape {str(shape)[:60]}")
    wanted, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted > there:
        raise Unreadable(
            f"it is cut short: its header says {shown_bytes(min(wanted, MOST))} of numbers, and there are {shown_bytes(there)}"
        )
    if held:
        _check_memory(wanted)


def _check_memory(size: int) -> None:
    if size > installed():
        raise Unreadable(f"it takes {shown_bytes(size)} of memory, and this machine has {shown_bytes(installed())}")
