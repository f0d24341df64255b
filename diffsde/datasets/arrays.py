"""Your own arrays: .npy, .npz or .csv, one data point along the first axis."""

from __future__ import annotations

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import Examples, FiniteDataset, stamp
from diffsde.errors import UserError
from diffsde.types import choice, is_number

CHANNELS = 4  # of an image, at most: grey, grey and alpha, colour, colour and alpha


@choice
class ArrayFile(FiniteDataset):
    """array: rows of a file, drawn with replacement.

    file: .npy (n, *shape), .npz (the array named `key`, its only one, or `x`), .csv (numbers, an optional header line).
    Bytes (uint8) of shape (n, H, W) or (n, H, W, C) are images. Whole numbers `y` (n,) of an .npz are classes.
    standardise: subtract the mean and divide by the std of each coordinate (left alone where it is constant).
    """

    file: str = ""
    key: str = ""
    standardise: bool = False
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False

    def check(self) -> None:
        if not self.file:
            raise ValueError("file is not given; say dataset.file=points.npy (or .npz, .csv)")

    def load(self) -> Examples:
        path = Path(self.file)
        if not path.is_file():
            raise UserError(f"dataset.file: '{path}' is not a file; give the path of a .npy, .npz or .csv file")
        return _load(self, stamp([path]))


@lru_cache(maxsize=2)
def _load(dataset: ArrayFile, stamps: tuple[Any, ...]) -> Examples:
    values, labels = _read(Path(dataset.file), dataset.key)
    _check_shape(values, dataset.file)
    y = None if labels is None else jnp.asarray(_validated_labels(labels, len(values), dataset.file))
    if _is_images(values, dataset.file):
        if dataset.standardise:
            raise UserError(
                "dataset.standardise: images in bytes are scaled to [-1, 1]; save numbers as float32 to standardise them"
            )
        return Examples(jnp.asarray(values if values.ndim == 4 else values[..., None]), y)
    for knob, what in (("flip", "mirrored"), ("dequantise", "dequantised")):
        if getattr(dataset, knob):
            raise UserError(
                f"dataset.{knob}: '{dataset.file}' has {values.dtype} of shape {values.shape}; only images can be {what}:"
                " uint8 (n, H, W) or (n, H, W, C)"
            )
    values = _validated(values, dataset.file)
    if dataset.standardise:
        std = values.std(axis=0)
        varies = np.ptp(values, axis=0) > 0  # the std of equal numbers may be their rounding
        values = np.where(varies, (values - values.mean(axis=0)) / np.where(varies, std, 1), 0)
    return Examples(jnp.asarray(values, jnp.float32), y)


def _read(path: Path, key: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The points, and `y` of an archive that has it."""
    try:
        match path.suffix.lower():
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
        if "allow_pickle" in reason or "Object arrays" in reason:
            reason = "it holds Python objects, not numbers; save a plain numeric array"
        raise UserError(f"dataset.file: '{path}' cannot be read: {reason}") from None
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


def _validated_labels(labels: np.ndarray, count: int, file: str) -> np.ndarray:
    """(count,) int32, each in 0, ..., count - 1."""
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UserError(
            f"dataset.file: '{file}' has labels y of {labels.dtype} and shape {labels.shape}; they must be whole numbers"
            f" of shape ({count},), or the array called otherwise"
        )
    if labels.min() < 0 or labels.max() >= count:
        raise UserError(
            f"dataset.file: '{file}' has labels y from {labels.min()} to {labels.max()}; number the classes 0, 1, ..."
        )
    return labels.astype(np.int32)


def _validated(values: np.ndarray, file: str) -> np.ndarray:
    values = values.astype(np.float64)
    bad = ~(np.abs(values.reshape(len(values), -1)) <= np.finfo(np.float32).max).all(axis=1)
    if bad.any():
        raise UserError(
            f"dataset.file: '{file}' has NaN, infinity or numbers beyond float32 in {bad.sum()} of {len(values)} rows, first in row {bad.argmax()}"
        )
    return values
