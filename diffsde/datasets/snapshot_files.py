"""Snapshots from files: one with a time for each point, or one file for each time."""

from __future__ import annotations

import dataclasses
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffsde.array_archives import read_npz
from diffsde.datasets.array_files import check_shape, is_table, read_arrays, validated
from diffsde.datasets.dataset import stamp
from diffsde.datasets.scaling import Scaling
from diffsde.datasets.snapshots import Series, Snapshots, check_series
from diffsde.datasets.tables import ENDINGS, read_table
from diffsde.errors import Unreadable, UserError
from diffsde.types import choice


@choice
class SnapshotFiles(Snapshots):
    """snapshots: points of your own at several times, from one file with a time for each point, or from a file for each time.

    file: .npz with the points x (n, d) and their times (n,), the array named by `time`; or a table (.csv, .tsv, .txt), whose
    column `time`, by name or by number from 0, has the times. files: a file (n_k, d) for each time, .npy, .npz or a table, and
    times: their times, increasing; none given means 0, 1, ...
    key: the array of an .npz that has the points. columns: of tables, the coordinates, by name or by number; (): all others.
    leave_out: the time whose snapshot is kept from training, and which trajectories are held against.
    standardise: the model sees (x - mean)/std of each coordinate over all that is trained on; mean, std: where others are wanted.
    """

    FILES: ClassVar[tuple[str, ...]] = ("file",)

    file: str = ""
    time: str = "time"
    files: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    key: str = "x"
    columns: tuple[str, ...] = ()
    leave_out: float | None = None
    standardise: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def check(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        if bool(self.file) == bool(self.files):
            raise ValueError(
                "give one file with a time for each point, file=cells.npz (or .csv), or a file for each time,"
                " files=[day0.npy,day1.npy]"
            )
        if self.file and self.times:
            raise ValueError(
                "times is of files=; the points of one file have theirs in it, under the name that time= gives"
            )
        if self.files and len(self.files) < 2:
            raise ValueError(f"files is [{self.files[0]}]; snapshots are of two times at least, a file each")
        if self.times and len(self.times) != len(self.files):
            raise ValueError(f"times has {len(self.times)} numbers for {len(self.files)} files; give one for each")
        if any(b <= a for a, b in pairwise(self.times)):
            raise ValueError(
                f"times is {list(self.times)}; the files must be in the order of their times, which increase"
            )
        for name in (self.file, *self.files):
            if name and Path(name).suffix.lower() not in (".npz", *([".npy"] if self.files else []), *ENDINGS):
                rest = "of one file with times; an .npy has none" if name == self.file else "of points"
                raise ValueError(f"'{name}' must be a .npz, {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} {rest}")
        if self.columns and not all(is_table(name) for name in (self.file, *self.files) if name):
            raise ValueError(f"columns is of tables in text ({', '.join(ENDINGS)})")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std go together, a number for each coordinate, e.g. mean=[5,0] std=[1,0.1]")
        if self.mean is not None and not self.standardise:
            raise ValueError("standardise=false takes nothing off and divides by nothing; leave out mean and std")

    def series(self) -> Series:
        return self._read().series

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        if not self.standardise:
            return None
        if self.mean is None or self.std is None:
            return self.measured_scaling()
        if len(self.mean) != shape[0]:
            raise UserError(f"dataset.mean has {len(self.mean)} numbers; the points have {shape[0]}")
        return Scaling(np.array(self.mean, np.float64), np.array(self.std, np.float64))

    def scaled_by(self, scaling: Scaling | None) -> SnapshotFiles:
        if scaling is None:
            return dataclasses.replace(self, standardise=False)
        mean, std = (tuple(each.ravel().tolist()) for each in scaling)
        return dataclasses.replace(self, mean=mean, std=std)

    def found_from(self, directory: Path) -> SnapshotFiles:
        found = super().found_from(directory)
        assert isinstance(found, SnapshotFiles)
        moved = tuple(str(directory / name) if (directory / name).exists() else name for name in self.files)
        return dataclasses.replace(found, files=moved) if directory != Path.cwd() else found

    def column_names(self) -> tuple[str, ...]:
        return self._read().names

    def notes(self) -> tuple[str, ...]:
        return self._read().notes

    def about(self, arrays: Any) -> dict[str, Any]:
        return super().about(arrays) | {"from": self.file or ", ".join(self.files)}

    def _read(self) -> Points:
        for knob, name in (("file", self.file), *((f"files[{i}]", name) for i, name in enumerate(self.files))):
            if name and not Path(name).is_file():
                raise UserError(f"dataset.{knob}: '{name}' is not a file; give the path of one with points")
        # what the points are does not depend on the scale, nor on what is left out
        plain = dataclasses.replace(self, leave_out=None, standardise=True, mean=None, std=None)
        return _series(plain, stamp(Path(name) for name in (self.file, *self.files) if name))


class Points(NamedTuple):
    """Snapshots as files have them; the columns' names, () where there are none; what was decided about the files."""

    series: Series
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=4)
def _series(dataset: SnapshotFiles, stamps: Any) -> Points:
    return _of_files(dataset) if dataset.files else _of_one(dataset)


def _of_one(dataset: SnapshotFiles) -> Points:
    """The points of one file, cut by their times."""
    x, times, names, notes = _table(dataset) if is_table(dataset.file) else _archive(dataset)
    where = f"dataset.time: '{dataset.time}' of '{dataset.file}'"
    if times.dtype.kind not in "fiu" or times.shape != x.shape[:1]:
        raise UserError(
            f"{where} has {times.dtype} of shape {times.shape}; it must be {len(x)} numbers, one for each point"
        )
    if not np.isfinite(times).all():
        raise UserError(f"{where} has NaN or infinity, first in row {int((~np.isfinite(times)).argmax())}")
    own, which = np.unique(times.astype(np.float64), return_inverse=True)
    series = Series(own, tuple(x[which == i] for i in range(len(own))))
    return Points(check_series(series, where), names, notes)


def _archive(dataset: SnapshotFiles) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    x = _numbers(read_arrays(Path(dataset.file), dataset.key)[0], dataset.file)

    def times_alone(names: list[str]) -> list[str]:
        if dataset.time not in names or dataset.time == dataset.key:
            there = ", ".join(name for name in names if name != dataset.key) or f"{dataset.key} alone"
            raise UserError(
                f"dataset.time: '{dataset.file}' has no array '{dataset.time}' with the times; it has {there};"
                " numpy.savez(file, x=points, time=times)"
            )
        return [dataset.time]

    try:
        return x, read_npz(Path(dataset.file), times_alone)[dataset.time], (), ()
    except Unreadable as error:
        raise UserError(f"dataset.file: '{dataset.file}' cannot be read: {error}") from None


def _table(dataset: SnapshotFiles) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The coordinates, the times, the coordinates' names, and notes, of a table with a column of times."""
    path = Path(dataset.file)
    try:
        times = read_table(path, (dataset.time,)).values[:, 0]
    except UserError as error:
        said = str(error).replace("dataset.columns: ", "dataset.time: ")
        example = re.search(r"choose one of ([^,]+)", said)
        raise UserError(said + (f"; say e.g. dataset.time={example[1]}" if example else "")) from None
    if dataset.columns:
        table = read_table(path, dataset.columns)
        return table.values, times, table.names, table.notes
    table = read_table(path)
    names = table.names or tuple(map(str, range(table.values.shape[1])))
    kept = [i for i, name in enumerate(names) if name != dataset.time]
    if len(kept) == len(names):  # the time was asked for by number, in a file with names
        kept = [i for i in kept if not np.array_equal(table.values[:, i], times)]
    if not kept:
        raise UserError(f"dataset.file: '{path}' has no column of numbers besides the time, '{dataset.time}'")
    return table.values[:, kept], times, tuple(names[i] for i in kept) if table.names else (), table.notes


def _of_files(dataset: SnapshotFiles) -> Points:
    """A snapshot a file, in the order of the files."""
    found, names, notes = [], [], []
    for name in dataset.files:
        if is_table(name):
            table = read_table(Path(name), dataset.columns)
            values, columns = table.values, table.names
            notes += [f"{name}: {note}" for note in table.notes]
        else:
            key = dataset.key if Path(name).suffix.lower() == ".npz" else ""
            values, columns = read_arrays(Path(name), key)[0], ()
        found.append(_numbers(values, name))
        names.append(columns)
        if found[-1].shape[1] != found[0].shape[1] or (columns and names[0] and columns != names[0]):
            raise UserError(
                f"dataset.files: '{name}' has {_described(found[-1], columns)}, '{dataset.files[0]}' has"
                f" {_described(found[0], names[0])}; all must have the same, in the same order"
            )
    times = np.array(dataset.times or range(len(found)), np.float64)
    return Points(check_series(Series(times, tuple(found)), "dataset.files"), names[0], tuple(notes))


def _numbers(values: np.ndarray, file: str) -> np.ndarray:
    """(n, d) in float64, finite."""
    check_shape(values, file)
    if values.ndim != 2:
        raise UserError(
            f"dataset.file: '{file}' has points of shape {values.shape[1:]}; snapshots are of points (n, d)"
        )
    return validated(values, file, None)


def _described(x: np.ndarray, names: tuple[str, ...]) -> str:
    return f"columns {', '.join(names)}" if names else f"{x.shape[1]} columns"
