"""Files of arrays: what is read of a .npy or .npz, and what must hold of its shape, its numbers and its labels."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from diffsde.array_archives import map_npy, read_npy, read_npz
from diffsde.datasets.scaling import LARGEST
from diffsde.datasets.tables import ENDINGS
from diffsde.errors import Unreadable, UserError, first_line

CHANNELS = 4  # of an image, at most: grey, grey and alpha, colour, colour and alpha


def are_images(shape: tuple[int, ...]) -> bool:
    """Whether points of this shape are images (H, W, C)."""
    return len(shape) == 3 and shape[-1] <= CHANNELS


def block_of(values: np.ndarray, block: slice) -> np.ndarray:
    """Rows of an array; of a map by reading, since through it the pages would count as this process's memory."""
    if not isinstance(values, np.memmap) or not values.flags.c_contiguous:
        return values[block]
    count = len(range(*block.indices(len(values)))) * math.prod(values.shape[1:])
    offset = values.offset + block.start * values[0].nbytes
    return np.fromfile(str(values.filename), values.dtype, count, offset=offset).reshape(-1, *values.shape[1:])


def taken_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows_on_disk(values, rows) if isinstance(values, np.memmap) else values[rows]


def as_numbers(values: np.ndarray, file: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Images (k, H, W, C) in bytes, other numbers in float64, finite. rows: which of the file's these are, where not all."""
    if not is_images(values, file):
        return validated(values, file, rows)
    return values if values.ndim == 4 else values[..., None]


def rows_on_disk(values: np.memmap, rows: np.ndarray) -> np.ndarray:
    """Rows from the disk, a call each; through the map, the system would fetch megabytes about each of them besides."""
    taken = np.empty((len(rows), *values.shape[1:]), values.dtype)
    with open(str(values.filename), "rb", buffering=0) as file:
        for row, place in zip(rows, taken.reshape(len(rows), -1).view(np.uint8), strict=True):
            if os.preadv(file.fileno(), [place.data], values.offset + int(row) * place.nbytes) < place.nbytes:
                raise UserError(f"dataset.file: '{values.filename}' has become shorter: it ends before row {row}")
    return taken


def read_arrays(path: Path, key: str, stream: bool = False, knob: str = "file") -> tuple[np.ndarray, np.ndarray | None]:
    """The points, and `y` of an archive that has it. stream: leave those of a .npy on the disk."""
    try:
        match path.suffix.lower():
            case ".npy":
                return map_npy(path) if stream else read_npy(path, texts=True), None
            case ".npz":
                found = read_npz(
                    path, lambda names: {entry(path, names, key): 0} | ({"y": 0} if "y" in names else {}), texts=True
                )
                first = next(iter(found))
                return found[first], found["y"] if first != "y" and "y" in found else None
    except (Unreadable, OSError) as error:
        raise UserError(f"dataset.{knob}: '{path}' cannot be read: {first_line(error)}") from None
    raise UserError(
        f"dataset.file: '{path}' ends in '{path.suffix}'; it must be .npy, .npz, {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
    )


def entry(path: Path, names: list[str], key: str) -> str:
    if key in names:
        return key
    if not key and len(names) == 1:
        return names[0]
    if not key and "x" in names:
        return "x"
    if not names:
        raise UserError(f"dataset.file: '{path}' holds no array")
    wanted = f"has no array '{key}'" if key else "holds several arrays"
    raise UserError(f"dataset.key: '{path}' {wanted}; choose dataset.key from {', '.join(names)}")


def is_table(file: str) -> bool:
    return Path(file).suffix.lower() in ENDINGS


def is_array(file: str) -> bool:
    return Path(file).suffix.lower() == ".npy"


def check_shape(values: np.ndarray, file: str) -> None:
    if values.dtype.kind not in "fiub":
        raise UserError(f"dataset.file: '{file}' has dtype {values.dtype}; it must hold real numbers")
    if values.ndim < 2:
        raise UserError(
            f"dataset.file: '{file}' has shape {values.shape}; it must be (n, ...): one point per row (1-D data is (n, 1))"
        )
    if len(values) < 2 or values[0].size == 0:
        raise UserError(f"dataset.file: '{file}' has shape {values.shape}; it must hold at least 2 points")


def is_images(values: np.ndarray, file: str) -> bool:
    """Whether these are images in bytes, (n, H, W) or (n, H, W, C)."""
    if values.dtype != np.uint8 or values.ndim not in (3, 4):
        return False
    if values.ndim == 4 and values.shape[-1] > CHANNELS:
        raise UserError(
            f"dataset.file: '{file}' has uint8 of shape {values.shape}; images are (n, H, W, C) with at most {CHANNELS}"
            " channels, the last axis (or save numbers as float32)"
        )
    return True


def validated_labels(labels: np.ndarray, count: int, file: str, knob: str) -> np.ndarray:
    """(count,) int32, each in 0, ..., count - 1."""
    if reason := label_fault(labels, count):
        other = ", or the array called otherwise" if knob == "file" and "whole numbers" in reason else ""
        raise UserError(f"dataset.{knob}: '{file}' has labels y {reason}{other}")
    return labels.astype(np.int32)


def label_fault(labels: np.ndarray, count: int) -> str | None:
    """Why these are no labels of `count` points, where they are not."""
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        return f"of {labels.dtype} and shape {labels.shape}; they must be whole numbers of shape ({count},)"
    if labels.min() < 0 or len(np.unique(labels)) <= labels.max():
        return f"from {labels.min()} to {labels.max()}; number the classes 0, 1, ..."
    return None


def validated(values: np.ndarray, file: str, rows: np.ndarray | None) -> np.ndarray:
    values = values.astype(np.float64)
    bad = ~(np.abs(values.reshape(len(values), -1)) <= LARGEST).all(axis=1)
    if bad.any():
        first = bad.argmax() if rows is None else rows[bad].min()
        raise UserError(
            f"dataset.file: '{file}' has NaN, infinity or numbers beyond {LARGEST:g} in {bad.sum()} of {len(values)} rows, first in row {first}"
        )
    return values
