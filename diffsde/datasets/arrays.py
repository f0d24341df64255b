"""Your own arrays: .npy, .npz or .csv, one data point along the first axis."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import FiniteDataset
from diffsde.errors import UserError
from diffsde.types import Array, choice


@choice
class ArrayFile(FiniteDataset):
    """array: rows of a file, drawn with replacement.

    file: .npy (n, *shape), .npz (the array named `key`, or its only one), .csv (numbers, an optional header line).
    standardise: subtract the mean and divide by the std of each coordinate (left alone where it is constant).
    """

    file: str = ""
    key: str = ""
    standardise: bool = False

    def check(self) -> None:
        if not self.file:
            raise ValueError("file is not given; say dataset.file=points.npy (or .npz, .csv)")

    def load(self) -> Array:
        values = _validated(_read(Path(self.file), self.key), self.file)
        if self.standardise:
            std = values.std(axis=0)
            varies = np.ptp(values, axis=0) > 0  # the std of equal numbers may be their rounding
            values = np.where(varies, (values - values.mean(axis=0)) / np.where(varies, std, 1), 0)
        return jnp.asarray(values, jnp.float32)


def _read(path: Path, key: str) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"dataset.file: '{path}' is not a file; give the path of a .npy, .npz or .csv file")
    try:
        match path.suffix.lower():
            case ".npy":
                with open(path, "rb") as file:
                    return np.lib.format.read_array(file, allow_pickle=False)
            case ".npz":
                with zipfile.ZipFile(path):  # whose message for what is no archive is plain, where np.load's is not
                    pass
                with np.load(path, allow_pickle=False) as archive:
                    return archive[_entry(path, archive.files, key)]
            case ".csv":
                return _read_csv(path)
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
    if not names:
        raise UserError(f"dataset.file: '{path}' holds no array")
    wanted = f"has no array '{key}'" if key else "holds several arrays"
    raise UserError(f"dataset.key: '{path}' {wanted}; choose dataset.key from {', '.join(names)}")


def _read_csv(path: Path) -> np.ndarray:
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if lines and not any(_is_number(word) for word in lines[0].split(",")):
        lines = lines[1:]  # a header
    return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 1))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _validated(values: np.ndarray, file: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise UserError(f"dataset.file: '{file}' has dtype {values.dtype}; it must hold real numbers")
    if values.ndim < 2:
        raise UserError(
            f"dataset.file: '{file}' has shape {values.shape}; it must be (n, ...): a point a row (1-D data is (n, 1))"
        )
    if len(values) < 2 or values[0].size == 0:
        raise UserError(f"dataset.file: '{file}' has shape {values.shape}; it must hold at least 2 points")
    values = values.astype(np.float64)
    bad = ~(np.abs(values.reshape(len(values), -1)) <= np.finfo(np.float32).max).all(axis=1)
    if bad.any():
        raise UserError(
            f"dataset.file: '{file}' has NaN, infinity or numbers beyond float32 in {bad.sum()} of {len(values)} rows, first in row {bad.argmax()}"
        )
    return values
