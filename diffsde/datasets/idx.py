"""IDX files, MNIST's format: two zero bytes, the type, the number of axes, each length in four bytes, then the numbers."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffsde.errors import first_line

BYTES = 8  # the type of unsigned bytes


class IdxFile(NamedTuple):
    """A published file of bytes: its name, the shape of what is in it, and the sha256 of the file uncompressed."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Bytes of the file uncompressed."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


def read_idx(path: Path, file: IdxFile, known: Mapping[str, str]) -> np.ndarray:
    """What the file at `path`, gzipped or not, holds: uint8 of file.shape. Raises ValueError, why, where it is not `file`.

    known: what other files are called, by their sha256: one in the other's place is the likely mistake.
    """
    try:
        content = _uncompressed(path, file.size)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot be read: {_reason(error)}") from None
    if wrong := _flaw(content, file, known):
        raise ValueError(f"is not {file.name} as published: {wrong}")
    return np.frombuffer(content, np.uint8, offset=file.size - math.prod(file.shape)).reshape(file.shape)


def _uncompressed(path: Path, size: int) -> bytes:
    """At most one byte more than there should be."""
    with open(path, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if gzipped else open(path, "rb") as opened:
        content = opened.read(size)
        return content + opened.read(1)


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it is cut short"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"it is damaged ({first_line(error)})"
    return getattr(error, "strerror", None) or str(error)


def _flaw(content: bytes, file: IdxFile, known: Mapping[str, str]) -> str:
    """What is wrong with it in a few words; none where nothing is."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return ""
    if digest in known:
        return f"it holds {known[digest]}"
    axes = content[3] if len(content) > 3 else 0
    begin = 4 + 4 * axes
    if content[:2] != b"\0\0" or len(content) < begin:
        return "it is no IDX file"
    shape = tuple(int(length) for length in np.frombuffer(content[4:begin], ">u4"))
    if content[2] != BYTES or shape != file.shape:
        return f"it holds type {content[2]} of shape {shape}, not bytes (type {BYTES}) of shape {file.shape}"
    if len(content) != file.size:
        return f"it is {'cut short' if len(content) < file.size else 'longer'}: not {file.size} bytes"
    return f"its sha256 is {digest[:12]}..., not {file.sha256[:12]}..."
