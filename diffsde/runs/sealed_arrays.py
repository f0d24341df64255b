"""Named arrays in a file with a hash of them: written whole or not at all, and refused where they are not what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.array_archives import read_npz
from diffsde.errors import Unreadable, first_line
from diffsde.runs import files

HASH = "hash"  # its name in the file


class Damaged(Exception):
    """Raised for a file that cannot be read, or does not hold what was written."""


def write_sealed(file: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write the arrays and their hash as an .npz. Raises OSError."""
    values: dict[str, Any] = arrays | {HASH: np.asarray(hashed(arrays))}
    return files.write(file, lambda path: np.savez(path, **values))


def read_sealed(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of `write_sealed`. Raises Damaged, and FileNotFoundError."""
    try:
        arrays = read_npz(file, texts=True)
        kept = str(arrays.pop(HASH))
    except (Unreadable, KeyError) as error:
        raise Damaged(first_line(error)) from None
    if kept != hashed(arrays):
        raise Damaged("it is not what was written")
    return arrays


def hashed(arrays: dict[str, np.ndarray]) -> str:
    """A hash of named arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
