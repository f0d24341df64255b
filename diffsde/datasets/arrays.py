"""Your own arrays: .npy, .npz or a table in text, one data point along the first axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets.array_files import (
    are_images,
    as_numbers,
    block_of,
    check_shape,
    is_array,
    is_images,
    is_table,
    label_fault,
    read_arrays,
    rows_on_disk,
    taken_rows,
    validated_labels,
)
from diffsde.datasets.dataset import Examples, Source, stamp
from diffsde.datasets.finite import PART, FiniteDataset
from diffsde.datasets.held_out import split_rows
from diffsde.datasets.scaling import Scaling, check_resolution, check_scale, sample_moments, to_model
from diffsde.datasets.streaming import PART_EXAMPLES, part
from diffsde.datasets.tables import ENDINGS, Table, read_table
from diffsde.errors import UserError
from diffsde.knobs import is_number
from diffsde.types import Key, Moments, choice

HELD_BYTES = 1 << 27  # of a file that is streamed, at most, for it to be read whole


@choice
class ArrayFile(FiniteDataset):
    """array: rows of a file, drawn with replacement.

    file: .npy (n, *shape), .npz (the array named `key`, its only one, or `x`), .csv, .tsv, .txt (a table, tables.py).
    Bytes (uint8) of shape (n, H, W) or (n, H, W, C) are images. labels: a .npy of whole numbers (n,), the classes 0, 1,
    ...; or of a table the column that names the classes; an .npz may have them itself, as `y`.
    columns: of a table, the coordinates, by name or by number from 0. header: whether its first line has the names.
    standardise: the model sees (x - mean)/std of each coordinate (of each channel of images in floats, a coordinate that is
    constant being centred alone), and everything comes back in the file's own units; images in bytes have a scale already.
    mean, std: of each coordinate, where other numbers than the measured ones are to be taken off and divided by.
    test: points that are kept from training, a file like `file`, or the share of its rows that is set apart at random.
    stream: the rows of a .npy stay on the disk, and training reads each step's when it comes to them.
    """

    FILES: ClassVar[tuple[str, ...]] = ("file", "labels", "test")

    file: str = ""
    key: str = ""
    labels: str = ""
    columns: tuple[str, ...] = ()
    header: str = "auto"
    standardise: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    test: str = ""
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False
    stream: bool = False

    def check(self) -> None:
        if not self.file:
            raise ValueError("file is not given; say dataset.file=points.npy (or .npz, .csv)")
        self._check_table()
        if self.stream and Path(self.file).suffix.lower() != ".npy":
            raise ValueError(f"stream=true needs a .npy file, and file is '{self.file}'; write it with numpy.save")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std go together, a number for each coordinate, e.g. mean=[5,0] std=[1,0.1]")
        if self.mean is not None and not self.standardise:
            raise ValueError("standardise=false takes nothing off and divides by nothing; leave out mean and std")

    def _check_table(self) -> None:
        if self.header.lower() not in ("auto", "true", "false"):
            raise ValueError(f"header is '{self.header}'; it must be auto, true or false")
        if is_table(self.file):
            return
        if self.labels and not is_array(self.labels):
            raise ValueError(
                f"labels is '{self.labels}'; it must be a .npy file, or a column of a table in text (.csv)"
                + "; the array y of a .npz is taken without it" * (Path(self.file).suffix.lower() == ".npz")
            )
        for knob, given in (("columns", self.columns), ("header", self.header.lower() != "auto")):
            if given:
                raise ValueError(f"{knob} is of tables in text ({', '.join(ENDINGS)}), and file is '{self.file}'")

    def load(self) -> Examples:
        if self.test:
            self.held_out()  # a file that does not fit is said before anything is trained
        return _load(self, self._stamps(), _float())

    def source(self) -> Source:
        return _source(self, self._stamps(), _float())

    @property
    def has_test(self) -> bool:
        return bool(self.test)

    def held_out(self) -> Examples:
        if not self.test:
            raise UserError("dataset=array has no test split; say dataset.test=0.1 (the share of the rows) or =FILE")
        return _held_out(self, self._stamps(), _float())

    def classes(self, arrays: Examples) -> int:
        """Counted over the whole file: a class may be among the test points alone."""
        return _classes(self, self._stamps())

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        if not self.standardise:
            return None
        if self.mean is None or self.std is None:
            return _scaling(self, self._stamps(), _float())
        if len(self.mean) not in (math.prod(shape), *(shape[-1:] if len(shape) == 3 else ())):
            raise UserError(
                f"dataset.mean has {len(self.mean)} numbers; the points of '{self.file}' have shape {shape}"
            )
        each = shape if len(self.mean) == math.prod(shape) else shape[-1:]
        mean, std = (np.array(numbers, np.float64).reshape(each) for numbers in (self.mean, self.std))
        return Scaling(mean, std)

    def measured_scaling(self) -> Scaling | None:
        return _scaling(dataclasses.replace(self, mean=None, std=None), self._stamps(), _float())

    def scaled_by(self, scaling: Scaling | None) -> ArrayFile:
        if scaling is None:
            return dataclasses.replace(self, standardise=False)
        mean, std = (tuple(each.ravel().tolist()) for each in scaling)
        return dataclasses.replace(self, mean=mean, std=std)

    def moments(self, arrays: Examples, key: Key) -> Moments:
        shape = np.shape(arrays.x)[1:]
        scaling = self.scaling(shape)
        if scaling is None or self.mean is not None or scaling.mean.shape != shape:
            return super().moments(arrays, key)
        varying = float(np.mean(scaling.std > 0))  # by construction, of all rows, also where `arrays` is a part of them
        return Moments(jnp.zeros(shape), jnp.sqrt(varying))

    def table(self) -> Table | None:
        """The table that the file is, of which the names and the notes are said; None for arrays."""
        if not is_table(self.file):
            return None
        labels = "" if is_array(self.labels) else self.labels
        return _table(self.file, self.columns, labels, self.header.lower(), (), stamp([Path(self.file)]))

    def class_names(self) -> tuple[str, ...]:
        table = self.table()
        return () if table is None else table.classes

    def notes(self) -> tuple[str, ...]:
        table = self.table()
        if table is not None:
            return table.notes
        values, labels = read_arrays(Path(self.file), self.key, is_array(self.file))  # a map: its numbers are not read
        if values.ndim == 3 and values.dtype.kind == "f":
            return ("each number is a coordinate of its own (grey images are (n, H, W, 1))",)
        if Path(self.file).suffix.lower() != ".npz" or self.labels:
            return ()
        reason = None if labels is None else label_fault(labels, len(values))
        return () if reason is None else (f"its array y was left alone, as labels it does not fit: {reason}",)

    def column_names(self) -> tuple[str, ...]:
        table = self.table()
        return () if table is None else table.names

    def about(self, arrays: Examples) -> dict[str, Any]:
        names = {"columns": list(columns)} if (columns := self.column_names()) else {}
        return super().about(arrays) | {"from": self.file} | names

    def _stamps(self) -> tuple[Any, ...]:
        labels = self.labels if is_array(self.labels) else ""
        named = {"file": self.file, "labels": labels, "test": "" if is_number(self.test) else self.test}
        files = {knob: Path(name) for knob, name in named.items() if name}
        for knob, path in files.items():
            if not path.is_file():
                kinds = "a .npy" if knob == "labels" else f"a .npy, .npz, {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
                raise UserError(f"dataset.{knob}: '{path}' is not a file; give the path of {kinds} file")
        return stamp(files.values())


def _float() -> type:
    """What points are held in: float64 where the process computes in it."""
    return np.float64 if jax.config.read("jax_enable_x64") else np.float32


@lru_cache(maxsize=2)
def _load(dataset: ArrayFile, stamps: tuple[Any, ...], dtype: type) -> Examples:
    if dataset.stream:
        return part(_source(dataset, stamps, dtype))
    values, y = _opened(dataset)
    rows = split_rows(dataset.test, len(values))[0]
    return jax.tree.map(jnp.asarray, _examples(dataset, values[rows], y, rows, _scaling(dataset, stamps, dtype)))


@lru_cache(maxsize=2)
def _classes(dataset: ArrayFile, stamps: tuple[Any, ...]) -> int:
    y = _opened(dataclasses.replace(dataset, stream=is_array(dataset.file)))[1]  # a map: its numbers are not read
    return 0 if y is None else int(y.max()) + 1


@lru_cache(maxsize=2)
def _held_out(dataset: ArrayFile, stamps: tuple[Any, ...], dtype: type) -> Examples:
    values, y = _opened(dataset)
    rows: Any = split_rows(dataset.test, len(values))[1]
    if not is_number(dataset.test):
        shape, bytes_ = values.shape[1:], is_images(values, dataset.file)
        if Path(dataset.test).samefile(dataset.file):
            raise UserError(
                f"dataset.test: '{dataset.test}' is the file that is trained on; give another, or a share, e.g. 0.1"
            )
        values, y = _opened_for_tests(dataset)
        rows = slice(None)
        if values.shape[1:] != shape or is_images(values, dataset.test) != bytes_:
            raise UserError(
                f"dataset.test: '{dataset.test}' has {values.dtype} of shape {values.shape}; its points must be like those"
                f" of '{dataset.file}', of shape {shape}"
            )
        _check_classes(dataset, y, _classes(dataset, stamps))
    elif dataset.stream and len(rows) > PART_EXAMPLES:  # what is in memory is a part, as of the others
        rows = np.sort(np.random.default_rng(1).choice(rows, PART_EXAMPLES, replace=False))
    taken = values[rows] if isinstance(rows, slice) else taken_rows(values, rows)
    return jax.tree.map(jnp.asarray, _examples(dataset, taken, y, rows, _scaling(dataset, stamps, dtype)))


def _check_classes(dataset: ArrayFile, y: np.ndarray | None, classes: int) -> None:
    """Raise UserError for a file of test points whose labels are not those of the points for training."""
    if y is None and classes and dataset.conditional:
        raise UserError(
            f"dataset.test: '{dataset.test}' has no labels, which dataset.conditional=true needs; give a .npz with y beside x, a"
            " table with the same column, or a share of the rows, e.g. dataset.test=0.1"
        )
    if y is not None and int(y.max()) >= classes:
        raise UserError(
            f"dataset.test: '{dataset.test}' has labels up to {int(y.max())}; those of '{dataset.file}' are"
            + (f" 0 to {classes - 1}" if classes else " none")
        )


@lru_cache(maxsize=2)
def _source(dataset: ArrayFile, stamps: tuple[Any, ...], dtype: type) -> Source:
    values, y = _opened(dataset)
    assert isinstance(values, np.memmap)
    if not values.flags.c_contiguous:
        raise UserError(
            f"dataset.stream: '{dataset.file}' is in Fortran order, its rows are scattered; write it again with"
            " numpy.save(file, numpy.ascontiguousarray(x))"
        )
    kept, scaling = split_rows(dataset.test, len(values))[0], _scaling(dataset, stamps, dtype)
    size = len(values) if isinstance(kept, slice) else len(kept)
    whole = np.array(values) if values.nbytes <= HELD_BYTES else None  # then no call a row

    def read(rows: np.ndarray) -> Examples:
        rows = rows if isinstance(kept, slice) else kept[rows]
        taken = rows_on_disk(values, rows) if whole is None else whole[rows]
        return _examples(dataset, taken, y, rows, scaling)

    return Source(size, 0 if y is None else int(y.max()) + 1, read)


@lru_cache(maxsize=4)
def _scaling(dataset: ArrayFile, stamps: tuple[Any, ...], dtype: type) -> Scaling | None:
    """The affine map of the rows that are trained on. Raises UserError for numbers that the types cannot tell apart."""
    values, _ = _opened(dataset)
    if is_images(values, dataset.file):
        if dataset.mean is not None:
            raise UserError("dataset.mean, dataset.std: images in bytes have a scale of their own; leave both out")
        return None
    shape = values.shape[1:]
    if dataset.mean is not None:
        return dataset.scaling(shape)
    found = sample_moments(
        _blocks(values, split_rows(dataset.test, len(values))[0], dataset.file),
        per_channel=dataset.standardise and are_images(shape),
    )
    where = f"dataset.file: '{dataset.file}'"
    if not dataset.standardise:
        mend = "say dataset.standardise=true" + ("" if dtype is np.float64 else ", or precision=float64")
        check_resolution(found, dtype, where, mend, dataset.column_names())
        check_scale(float(np.sqrt(np.mean(found.std**2))), where, "say dataset.standardise=true")
        return None
    names = dataset.column_names()
    check_resolution(found, np.float64, where, "take an offset off in the file itself, in whole numbers", names)
    return Scaling(np.where(found.most > found.least, found.mean, found.least), found.std)


def _blocks(values: np.ndarray, rows: Any, file: str) -> Iterator[np.ndarray]:
    """The points of these rows (a slice for all), in float64, a few at a time; of a file on the disk by one read each."""
    size = max(1, PART // math.prod(values.shape[1:]))
    kept = np.ones(len(values), bool) if isinstance(rows, slice) else np.isin(np.arange(len(values)), rows)
    for begin in range(0, len(values), size):
        block = slice(begin, begin + size)
        here = np.flatnonzero(kept[block])
        if len(here):
            yield as_numbers(block_of(values, block)[here], file, begin + here)


def _examples(
    dataset: ArrayFile, values: np.ndarray, y: np.ndarray | None, rows: Any, scaling: Scaling | None
) -> Examples:
    """Rows of the file as they go to the device: bytes, or numbers in the model's units."""
    x = as_numbers(values, dataset.file, None if isinstance(rows, slice) else rows)
    return Examples(x if x.dtype == np.uint8 else to_model(scaling, x), None if y is None else y[rows])


def _opened(dataset: ArrayFile) -> tuple[np.ndarray, np.ndarray | None]:
    """The values, of a stream still on the disk, and the class (n,) of each; all but the values' numbers is checked."""
    table = dataset.table()
    values, labels = (
        read_arrays(Path(dataset.file), dataset.key, dataset.stream) if table is None else (table.values, None)
    )
    check_shape(values, dataset.file)
    y = None if table is None else table.y
    if is_array(dataset.labels):
        labels, _ = read_arrays(Path(dataset.labels), "", knob="labels")
        y = validated_labels(labels, len(values), dataset.labels, "labels")
    elif labels is not None and (dataset.conditional or label_fault(labels, len(values)) is None):
        y = validated_labels(labels, len(values), dataset.file, "file")
    images = is_images(values, dataset.file)
    for knob, what in (("flip", "mirrored"), ("dequantise", "dequantised")):
        if getattr(dataset, knob) and not images:
            raise UserError(
                f"dataset.{knob}: '{dataset.file}' has {values.dtype} of shape {values.shape}; only images can be {what}:"
                " uint8 (n, H, W) or (n, H, W, C)"
            )
    return values, y


def _opened_for_tests(dataset: ArrayFile) -> tuple[np.ndarray, np.ndarray | None]:
    """What `_opened` gives, of the file of test points: of a table the same columns, its classes by the same numbers."""
    table = dataset.table()
    if table is None or not is_table(dataset.test):
        return _opened(
            dataclasses.replace(dataset, file=dataset.test, labels="", columns=(), header="auto", stream=False)
        )
    labels = "" if is_array(dataset.labels) else dataset.labels
    test = _table(
        dataset.test, dataset.columns, labels, dataset.header.lower(), table.classes, stamp([Path(dataset.test)])
    )
    if table.names and test.names and table.names != test.names:
        raise UserError(
            f"dataset.test: '{dataset.test}' has columns {', '.join(test.names)}, '{dataset.file}' has"
            f" {', '.join(table.names)}; they must be the same in the same order"
        )
    check_shape(test.values, dataset.test)
    return test.values, test.y


@lru_cache(maxsize=2)
def _table(
    file: str, columns: tuple[str, ...], labels: str, header: str, classes: tuple[str, ...], stamps: Any
) -> Table:
    try:
        return read_table(Path(file), columns, labels, header, classes)
    except OSError as error:
        raise UserError(f"dataset.file: '{file}' cannot be read: {error}") from None
