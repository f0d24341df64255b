"""Named arrays in a file with a hash of them: written whole or not at all, and refused where they are not what was written."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.errors import first_line
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
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        kept = str(arrays.pop(HASH))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
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
