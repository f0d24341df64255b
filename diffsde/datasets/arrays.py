"""Your own arrays: .npy, .npz or .csv, one data point along the first axis."""

from __future__ import annotations

import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import Examples, FiniteDataset, Source, stamp
from diffsde.datasets.streaming import part
from diffsde.errors import UserError
from diffsde.types import choice, is_number

HELD_BYTES = (
    1 << 27
)  # of a file that is streamed, at most, for it to be read whole: as much as the part of a larger one
CHANNELS = 4  # of an image, at most: grey, grey and alpha, colour, colour and alpha


@choice
class ArrayFile(FiniteDataset):
    """array: rows of a file, drawn with replacement.

    file: .npy (n, *shape), .npz (the array named `key`, its only one, or `x`), .csv (numbers, an optional header line).
    Bytes (uint8) of shape (n, H, W) or (n, H, W, C) are images. labels: a .npy of whole numbers (n,), the classes 0, 1,
    ...; an .npz may have them itself, as `y`.
    standardise: subtract the mean and divide by the std of each coordinate (left alone where it is constant).
    stream: the rows of a .npy stay on the disk, and training reads each step's when it comes to them.
    """

    file: str = ""
    key: str = ""
    labels: str = ""
    standardise: bool = False
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False
    stream: bool = False

    def check(self) -> None:
        if not self.file:
            raise ValueError("file is not given; say dataset.file=points.npy (or .npz, .csv)")
        if self.labels and Path(self.labels).suffix.lower() != ".npy":
            raise ValueError(f"labels is '{self.labels}'; it must be a .npy file")
        if self.stream and Path(self.file).suffix.lower() != ".npy":
            raise ValueError(f"stream=true needs a .npy file, and file is '{self.file}'; write it with numpy.save")
        if self.stream and self.standardise:
            raise ValueError("standardise needs every row in memory; standardise the file itself, or say stream=false")

    def load(self) -> Examples:
        return _load(self, self._stamps())

    def source(self) -> Source:
        return _source(self, self._stamps())

    def _stamps(self) -> tuple[Any, ...]:
        files = [Path(name) for name in (self.file, self.labels) if name]
        for knob, path in zip(("file", "labels"), files, strict=False):
            if not path.is_file():
                kinds = "a .npy, .npz or .csv" if knob == "file" else "a .npy"
                raise UserError(f"dataset.{knob}: '{path}' is not a file; give the path of {kinds} file")
        return stamp(files)


@lru_cache(maxsize=2)
def _load(dataset: ArrayFile, stamps: tuple[Any, ...]) -> Examples:
    if dataset.stream:
        return part(_source(dataset, stamps))
    values, y = _opened(dataset)
    x = _points(values, dataset.file)
    if dataset.standardise:
        std = x.std(axis=0)
        varies = np.ptp(x, axis=0) > 0  # the std of equal numbers may be their rounding
        x = np.where(varies, (x - x.mean(axis=0)) / np.where(varies, std, 1), 0)
    return jax.tree.map(jnp.asarray, Examples(_compact(x), y))


@lru_cache(maxsize=2)
def _source(dataset: ArrayFile, stamps: tuple[Any, ...]) -> Source:
    values, y = _opened(dataset)
    assert isinstance(values, np.memmap)
    if not values.flags.c_contiguous:
        raise UserError(
            f"dataset.stream: '{dataset.file}' is in Fortran order, its rows are scattered; write it again with"
            " numpy.save(file, numpy.ascontiguousarray(x))"
        )

    whole = np.array(values) if values.nbytes <= HELD_BYTES else None  # then no call a row

    def read(rows: np.ndarray) -> Examples:
        taken = _rows(values, rows) if whole is None else whole[rows]
        return Examples(_compact(_points(taken, dataset.file, rows)), None if y is None else y[rows])

    return Source(len(values), 0 if y is None else int(y.max()) + 1, read)


def _opened(dataset: ArrayFile) -> tuple[np.ndarray, np.ndarray | None]:
    """The values, of a stream still on the disk, and the class (n,) of each; all but the values' numbers is checked."""
    values, labels = _read(Path(dataset.file), dataset.key, dataset.stream)
    _check_shape(values, dataset.file)
    named, file = ("labels", dataset.labels) if dataset.labels else ("file", dataset.file)
    if dataset.labels:
        labels, _ = _read(Path(file), "", knob=named)
    y = None if labels is None else _validated_labels(labels, len(values), file, named)
    images = _is_images(values, dataset.file)
    if images and dataset.standardise:
        raise UserError(
            "dataset.standardise: images in bytes are scaled to [-1, 1]; save numbers as float32 to standardise them"
        )
    for knob, what in (("flip", "mirrored"), ("dequantise", "dequantised")):
        if getattr(dataset, knob) and not images:
            raise UserError(
                f"dataset.{knob}: '{dataset.file}' has {values.dtype} of shape {values.shape}; only images can be {what}:"
                " uint8 (n, H, W) or (n, H, W, C)"
            )
    return values, y


def _points(values: np.ndarray, file: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Images (k, H, W, C) in bytes, other numbers in float64, finite. rows: which of the file's these are, where not all."""
    if not _is_images(values, file):
        return _validated(values, file, rows)
    return values if values.ndim == 4 else values[..., None]


def _rows(values: np.memmap, rows: np.ndarray) -> np.ndarray:
    """Rows from the disk, a call each; through the map, the system would fetch megabytes about each of them besides."""
    taken = np.empty((len(rows), *values.shape[1:]), values.dtype)
    with open(str(values.filename), "rb", buffering=0) as file:
        for row, place in zip(rows, taken.reshape(len(rows), -1).view(np.uint8), strict=True):
            if os.preadv(file.fileno(), [place.data], values.offset + int(row) * place.nbytes) < place.nbytes:
                raise UserError(f"dataset.file: '{values.filename}' has become shorter: it ends before row {row}")
    return taken


def _compact(x: np.ndarray) -> np.ndarray:
    """As it goes to the device: bytes, or float32."""
    return x if x.dtype == np.uint8 else x.astype(np.float32)


def _read(path: Path, key: str, stream: bool = False, knob: str = "file") -> tuple[np.ndarray, np.ndarray | None]:
    """The points, and `y` of an archive that has it. stream: leave those of a .npy on the disk."""
    try:
        match path.suffix.lower():
            case ".npy" if stream:
                return np.lib.format.open_memmap(path, mode="r"), None
            case ".npy":
                with open(path, "rb") as file:
                    return np.lib.format.read_array(file, allow_pickle=False), None
            case ".npz":
                with zipfile.ZipFile(path):  # whose message for what is no archive is plain, where np.load's is not
                    pass
                with np.load(path, allow_pickle=False) as archive:
                    name = _entry(path, archive.files, key)
                    return archive[name], archive["y"] if name != "y" and "y" in archive.files else None
            case ".csv":
                return _read_csv(path), None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in reason or "Object arrays" in reason or "Python objects" in reason:
            reason = "it holds Python objects, not numbers; save a plain numeric array"
        raise UserError(f"dataset.{knob}: '{path}' cannot be read: {reason}") from None
    raise UserError(f"dataset.file: '{path}' ends in '{path.suffix}'; it must be .npy, .npz or .csv")


def _entry(path: Path, names: list[str], key: str) -> str:
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


def _read_csv(path: Path) -> np.ndarray:
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if lines and not any(is_number(word) for word in lines[0].split(",")):
        lines = lines[1:]  # a header
    return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 1))


def _check_shape(values: np.ndarray, file: str) -> None:
    if values.dtype.kind not in "fiub":
        raise UserError(f"dataset.file: '{file}' has dtype {values.dtype}; it must hold real numbers")
    if values.ndim < 2:
        raise UserError(
            f"dataset.file: '{file}' has shape {values.shape}; it must be (n, ...): a point a row (1-D data is (n, 1))"
        )
    if len(values) < 2 or values[0].size == 0:
        raise UserError(f"dataset.file: '{file}' has shape {values.shape}; it must hold at least 2 points")


def _is_images(values: np.ndarray, file: str) -> bool:
    """Whether these are images in bytes, (n, H, W) or (n, H, W, C)."""
    if values.dtype != np.uint8 or values.ndim not in (3, 4):
        return False
    if values.ndim == 4 and values.shape[-1] > CHANNELS:
        raise UserError(
            f"dataset.file: '{file}' has uint8 of shape {values.shape}; images are (n, H, W, C) with at most {CHANNELS}"
            " channels, the last axis (or save numbers as float32)"
        )
    return True


def _validated_labels(labels: np.ndarray, count: int, file: str, knob: str) -> np.ndarray:
    """(count,) int32, each in 0, ..., count - 1."""
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UserError(
            f"dataset.{knob}: '{file}' has labels y of {labels.dtype} and shape {labels.shape}; they must be whole numbers"
            f" of shape ({count},){', or the array called otherwise' if knob == 'file' else ''}"
        )
    if labels.min() < 0 or len(np.unique(labels)) <= labels.max():
        raise UserError(
            f"dataset.{knob}: '{file}' has labels y from {labels.min()} to {labels.max()}; number the classes 0, 1, ..."
        )
    return labels.astype(np.int32)


def _validated(values: np.ndarray, file: str, rows: np.ndarray | None) -> np.ndarray:
    values = values.astype(np.float64)
    bad = ~(np.abs(values.reshape(len(values), -1)) <= np.finfo(np.float32).max).all(axis=1)
    if bad.any():
        first = bad.argmax() if rows is None else rows[bad].min()
        raise UserError(
            f"dataset.file: '{file}' has NaN, infinity or numbers beyond float32 in {bad.sum()} of {len(values)} rows, first in row {first}"
        )
    return values
