"""The dataset interface: arrays on the device, draws of points from them, and the law of the data where it is known."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.scaling import Scaling
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, OracleField
from diffsde.paths import GaussianPath
from diffsde.types import Array, Key, Moments

MEASURED = 65_536  # draws from which mean and std are estimated: a standard error of 0.3% for the std


class Examples(NamedTuple):
    """N data points x: floats (N, *shape), or images in bytes (N, H, W, C) uint8; their labels y (N,) int32, or None."""

    x: Array | np.ndarray
    y: Array | np.ndarray | None = None


class Source(NamedTuple):
    """Examples that stay on the disk: their number, the number of classes (0: no labels), and a function that reads rows.

    read: row numbers (k,) to Examples of k numpy rows; safe to call from several threads. Raises UserError.
    """

    size: int
    classes: int
    read: Callable[[np.ndarray], Examples]


class Dataset(abc.ABC):
    """A source of data: `load` gives its arrays on the device, a pytree; `draw` draws points (count, *shape) from the arrays.

    The arrays are an argument of compiled programs, never a constant in them. One key serves a whole batch: a key per point
    costs more than a small network's step.
    has_exact_field: whether exact_field returns a field. conditional: whether networks are conditioned on the points' labels.
    stream: whether the examples stay on the disk and are read step by step (streaming.py); `load` then gives a random subset.
    FILES: the names of the fields that are file names. flip, dequantise: see FiniteDataset.
    """

    FILES: ClassVar[tuple[str, ...]] = ()
    has_exact_field: ClassVar[bool] = False
    conditional: bool = False
    stream: bool = False
    flip: bool = False
    dequantise: bool = False

    @abc.abstractmethod
    def load(self) -> Any:
        """The dataset's arrays, a pytree on the device. Raises UserError where the data cannot be read."""

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture | None:
        """The exact law of the data, or of points with the labels (n,) in their proportions; None where it is not known."""
        return None

    def exact_field(self, path: GaussianPath) -> OracleField | EmpiricalField | None:
        """The exact field of the data on a path; None where it is not known.

        Raises UserError where the points are not a finite set in memory.
        """
        return None

    def count_points(self, arrays: Any) -> int | None:
        """Number of training points; None: points are drawn from a law, without limit."""
        return None

    def in_bytes(self, arrays: Any) -> bool:
        """Whether the points are images in bytes."""
        return False

    def source(self) -> Source:
        """The examples on the disk, for `stream`. Raises UserError for data that cannot be streamed."""
        raise UserError("dataset.stream: array (.npy) and image_folder can be streamed")

    @property
    def has_test(self) -> bool:
        """Whether there is a test split: points held out from training."""
        return False

    def held_out(self) -> Any:
        """The arrays of the test split, in the form of `load`. Raises UserError where there is no test split."""
        raise UserError(
            "dataset: this one has no test split; mnist, fashion_mnist and digits have one, array and image_folder by"
            " dataset.test="
        )

    @property
    def has_validation(self) -> bool:
        """Whether there are points by which a checkpoint is chosen, apart from those for training and those for tests."""
        return False

    def validated(self) -> Dataset:
        """The dataset by whose held-out points a checkpoint is chosen: the points for validation where there are any."""
        return self

    def true_points(self, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """`count` points (count, *shape) on the host that samples are compared with, with the labels (k,) in turn."""
        return self.draw_given(self.load(), labels, key, count)

    def found_from(self, directory: Path) -> Dataset:
        """The same dataset, with the file names of the fields FILES taken from `directory` where the files exist there."""
        found = {}
        for name in self.FILES:
            path = directory / str(getattr(self, name))
            if getattr(self, name) and directory != Path.cwd() and path.exists():
                found[name] = str(path)
        return dataclasses.replace(self, **found) if found else self  # type: ignore[type-var]  # every one is a dataclass

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        """The affine map from the model's units to the data's own, for points of this shape; None where they are the same."""
        return None

    def measured_scaling(self) -> Scaling | None:
        """The scaling measured from the data as they are now, whatever `scaled_by` set; None where there is no scaling."""
        return None

    def scaled_by(self, scaling: Scaling | None) -> Dataset:
        """The same dataset with the scaling of a trained run, even if the data's moments have changed since.

        Raises TypeError where the dataset has no scaling.
        """
        if scaling is not None:
            raise TypeError(f"{type(self).__name__} has no scaling")
        return self

    def least_variance(self) -> float:
        """The smallest variance of the data about its nearest mode or curve; 0, a sampler's worst case, where unknown."""
        return 0.0

    def classes(self, arrays: Any) -> int:
        """Number of classes: labels are 0, 1, ..., classes - 1; 0 where there are no labels."""
        return 0

    def column_names(self) -> tuple[str, ...]:
        """The names of a point's d coordinates, where the data has names; else ()."""
        return ()

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their labels, where the data's files have names; else ()."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """Decisions about the data's files that the user should know, one clause per note."""
        return ()

    def about(self, arrays: Any) -> dict[str, Any]:
        """A summary of the data that a run prints and records: number and shape of the points, source, classes."""
        found: dict[str, Any] = {"shape": list(point_shape(self, arrays)), "classes": self.classes(arrays)}
        if names := self.class_names():
            found["class_names"] = list(names)
        if notes := self.notes():
            found["notes"] = list(notes)
        return found

    @abc.abstractmethod
    def draw(self, arrays: Any, key: Key, count: int) -> Array:
        """`count` points (count, *shape), drawn from the arrays of `load` by one key."""

    def draw_labelled(self, arrays: Any, key: Key, count: int) -> tuple[Array, Array | None]:
        """The points (count, *shape) that `draw` gives for this key, and their labels (count,); None where there are no labels."""
        return self.draw(arrays, key, count), None

    def draw_given(self, arrays: Any, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """`count` points (count, *shape) on the host with the labels (k,) in turn; with any label where labels is None."""
        return np.asarray(draw_many(self, arrays, key, count))

    def draw_by_index(self, arrays: Any, key: Key, n: int, labels: Array | None = None) -> Array:
        """n points (n, *shape), with the labels (n,) if given; point i depends on the key, i and its label alone.

        Labels are ignored by data without labels, and by a loaded subset of a stream without points of the label.
        """
        return _each_by_index(self, arrays, keys_of(key, n))

    def moments(self, arrays: Any, key: Key) -> Moments:
        """Mean (*shape,) and root-mean-square std () of the data; here estimated from 65,536 draws, elsewhere exact."""
        return _moments_of_draws(self, arrays, key)


@jax.jit
def _moments_of_draws(dataset: Dataset, arrays: Any, key: Key) -> Moments:
    points = dataset.draw(arrays, key, MEASURED)
    mean = jnp.mean(points, axis=0)
    return Moments(mean, jnp.sqrt(jnp.mean((points - mean) ** 2)))


def keys_of(key: Key, n: int) -> Array:
    """Keys (n,): fold_in(key, i) per index i."""
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))


@jax.jit
def _each_by_index(dataset: Dataset, arrays: Any, keys: Array) -> Array:
    return jax.vmap(lambda key: dataset.draw(arrays, key, 1)[0])(keys)


def stamp(files: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """A value that changes when a file does (name, time, size, inode): the key of the cache of loaded files in a sweep."""
    found = [(path, path.stat()) for path in files]
    return tuple((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in found)


def point_shape(dataset: Dataset, arrays: Any) -> tuple[int, ...]:
    """The shape of one data point."""
    return jax.eval_shape(partial(dataset.draw, count=1), arrays, jax.random.key(0)).shape[1:]


@partial(jax.jit, static_argnames="count")
def draw_many(dataset: Dataset, arrays: Any, key: Key, count: int) -> Array:
    """`count` points (count, *shape): Dataset.draw, compiled."""
    return dataset.draw(arrays, key, count)
