"""What every dataset is."""

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

MEASURED = 65_536  # draws from which mean and std are measured: a standard error of 0.3% for the std


class Examples(NamedTuple):
    """N points x: floats (N, *shape), or images in bytes (N, H, W, C) uint8; the class y (N,) int32 of each, or None."""

    x: Array | np.ndarray
    y: Array | np.ndarray | None = None


class Source(NamedTuple):
    """Examples that stay on the disk: how many, of how many classes (0: without labels), and those of given rows.

    read: rows (k,) to Examples of k numpy arrays' rows, safe to call from several threads. Raises UserError.
    """

    size: int
    classes: int
    read: Callable[[np.ndarray], Examples]


class Dataset(abc.ABC):
    """`load` brings what lives on the device, as a pytree; `draw` is `count` points (count, *shape) from it and a key.

    The arrays are an argument of the compiled program, never a constant in it. One key serves a whole batch: a key per
    point costs more than a small network's step.
    has_exact_field: whether exact_field knows one. conditional: whether a network is given the class of each point. stream: whether the examples stay on the disk, and
    training reads those of each step when it comes to them (streaming.py); `load` then gives a random part of them.
    flip, dequantise: see FiniteDataset.
    """

    FILES: ClassVar[tuple[str, ...]] = ()
    has_exact_field: ClassVar[bool] = False
    conditional: bool = False
    stream: bool = False
    flip: bool = False
    dequantise: bool = False

    @abc.abstractmethod
    def load(self) -> Any: ...

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture | None:
        """The exact law of the data, or of points of these labels (n,), in their proportions; None where it is not known."""
        return None

    def exact_field(self, path: GaussianPath) -> OracleField | EmpiricalField | None:
        """The field of this data on a path, known exactly; None where it is not. Raises UserError for data without end."""
        return None

    def count_points(self, arrays: Any) -> int | None:
        """How many points there are to learn from; None: they are drawn from a law, without end."""
        return None

    def in_bytes(self, arrays: Any) -> bool:
        """Whether the points are images in bytes."""
        return False

    def source(self) -> Source:
        """The examples on the disk. Raises UserError for data that cannot be streamed."""
        raise UserError("dataset.stream: array (.npy) and image_folder can be streamed")

    @property
    def has_test(self) -> bool:
        """Whether there are points that are kept from training."""
        return False

    def held_out(self) -> Any:
        """The arrays of the points that are kept from training, as `load` gives the others. Raises UserError for none."""
        raise UserError(
            "dataset: this one has no test split; mnist, fashion_mnist and digits have one, array and image_folder by"
            " dataset.test="
        )

    def found_from(self, directory: Path) -> Dataset:
        """The same data, its files named from this folder where they lie there: FILES says which fields name any."""
        found = {}
        for name in self.FILES:
            path = directory / str(getattr(self, name))
            if getattr(self, name) and directory != Path.cwd() and path.exists():
                found[name] = str(path)
        return dataclasses.replace(self, **found) if found else self  # type: ignore[type-var]  # every one is a dataclass

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        """The affine map to the user's own units, of points of this shape, where `load` gives them in others; else None."""
        return None

    def measured_scaling(self) -> Scaling | None:
        """The affine map of the data as they are now, whatever map `scaled_by` gave; None where there is none."""
        return None

    def scaled_by(self, scaling: Scaling | None) -> Dataset:
        """The same data under this map, that of the run which was trained on it, whatever the file's moments are by now."""
        if scaling is not None:
            raise TypeError(f"{type(self).__name__} has no scaling")
        return self

    def least_variance(self) -> float:
        """The least variance of the data about the set that it lies near; 0, the worst a sampler can meet, where unknown."""
        return 0.0

    def classes(self, arrays: Any) -> int:
        """How many classes the labels tell apart: 0, 1, ..., classes - 1; 0 where there are no labels."""
        return 0

    def column_names(self) -> tuple[str, ...]:
        """The names of a point's coordinates, (d,), where the data has any; else none."""
        return ()

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers, where the data's files have names for them; else ()."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """What was decided about the data's files and the user should know, a clause each."""
        return ()

    def about(self, arrays: Any) -> dict[str, Any]:
        """How many points there are, of what shape, from where, of which classes: what a run says and records of its data."""
        found: dict[str, Any] = {"shape": list(point_shape(self, arrays)), "classes": self.classes(arrays)}
        if names := self.class_names():
            found["class_names"] = list(names)
        if notes := self.notes():
            found["notes"] = list(notes)
        return found

    @abc.abstractmethod
    def draw(self, arrays: Any, key: Key, count: int) -> Array: ...

    def draw_labelled(self, arrays: Any, key: Key, count: int) -> tuple[Array, Array | None]:
        """The points that `draw` gives for this key, and the class (count,) of each, None where there are no labels."""
        return self.draw(arrays, key, count), None

    def draw_given(self, arrays: Any, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """`count` points (count, *shape) on the host, of these labels (k,) in turn; of any where there are no labels."""
        return np.asarray(draw_many(self, arrays, key, count))

    def draw_by_index(self, arrays: Any, key: Key, n: int, labels: Array | None = None) -> Array:
        """n points (n, *shape), or of these labels (n,); point i depends on its own index and label alone.

        Labels are passed over by data that has none, and by a part of a stream without that label.
        """
        return _each_by_index(self, arrays, keys_of(key, n))

    def moments(self, arrays: Any, key: Key) -> Moments:
        """Mean (*shape,) and root-mean-square std () of the data: of 65,536 draws, where it has no better answer."""
        return _moments_of_draws(self, arrays, key)


@jax.jit
def _moments_of_draws(dataset: Dataset, arrays: Any, key: Key) -> Moments:
    points = dataset.draw(arrays, key, MEASURED)
    mean = jnp.mean(points, axis=0)
    return Moments(mean, jnp.sqrt(jnp.mean((points - mean) ** 2)))


def keys_of(key: Key, n: int) -> Array:
    """A key for each index."""
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))


@jax.jit
def _each_by_index(dataset: Dataset, arrays: Any, keys: Array) -> Array:
    return jax.vmap(lambda key: dataset.draw(arrays, key, 1)[0])(keys)


def stamp(files: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """What differs when a file has changed: what is loaded is kept under it, for the jobs of a sweep."""
    found = [(path, path.stat()) for path in files]
    return tuple((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in found)


def point_shape(dataset: Dataset, arrays: Any) -> tuple[int, ...]:
    """The shape of one data point."""
    return jax.eval_shape(partial(dataset.draw, count=1), arrays, jax.random.key(0)).shape[1:]


@partial(jax.jit, static_argnames="count")
def draw_many(dataset: Dataset, arrays: Any, key: Key, count: int) -> Array:
    """`count` points, (count, *shape)."""
    return dataset.draw(arrays, key, count)
