"""What every dataset is."""

from __future__ import annotations

import abc
import dataclasses
import math
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
from diffsde.types import Array, Key, Moments, Scalar

MEASURED = 65_536  # draws from which mean and std are measured: a standard error of 0.3% for the std
PART = 1 << 20  # numbers summed at a time
HALF_RANGE = 127.5  # of bytes: k becomes k/127.5 - 1


class Dataset(abc.ABC):
    """`load` brings what lives on the device, as a pytree; `draw` is `count` points (count, *shape) from it and a key.

    The arrays are an argument of the compiled program, never a constant in it. One key serves a whole batch: a key a
    point costs more than a small network's step.
    conditional: whether a network is told the class of each point. stream: whether the examples stay on the disk, and
    training reads those of each step when it comes to them (streaming.py); `load` then gives a random part of them.
    """

    FILES: ClassVar[tuple[str, ...]] = ()
    conditional: bool = False
    stream: bool = False

    @abc.abstractmethod
    def load(self) -> Any: ...

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

    def measure(self, arrays: Any, key: Key) -> Moments:
        """Mean (*shape,) and root-mean-square std () of the data: of 65,536 draws, where it has no better answer."""
        return _moments_of_draws(self, arrays, key)


class Examples(NamedTuple):
    """N points x: floats (N, *shape), or images in bytes (N, H, W, C) uint8; the class y (N,) int32 of each, or None."""

    x: Array | np.ndarray
    y: Array | np.ndarray | None = None


class Batch(NamedTuple):
    """The examples of one step, drawn already: x (B, *shape), y (B,) or None."""

    x: Array
    y: Array | None


class Buffer(NamedTuple):
    """The batches of C steps in a row, x (C, B, *shape), y (C, B) or None: that of step s lies at s mod C."""

    x: Array
    y: Array | None

    def at(self, step: Scalar) -> Batch:
        return Batch(*jax.tree.map(lambda leaf: leaf[step % len(leaf)], tuple(self)))


class Source(NamedTuple):
    """Examples that stay on the disk: how many, of how many classes (0: without labels), and those of given rows.

    read: rows (k,) to Examples of k numpy arrays' rows, safe to call from several threads. Raises UserError.
    """

    size: int
    classes: int
    read: Callable[[np.ndarray], Examples]


class FiniteDataset(Dataset):
    """A dataset of N points, drawn with replacement; of a stream, without. flip: half of the images drawn are mirrored,
    left for right.

    Images stay bytes on the device, and what is drawn of them is x/127.5 - 1, (H, W, C) in [-1, 1].
    dequantise: each byte drawn is uniform over its bin, as in the data that bits/dim are measured on.
    """

    flip: bool
    dequantise: bool

    @abc.abstractmethod
    def load(self) -> Examples: ...

    def source(self) -> Source:
        """The examples on the disk. Raises UserError for data that cannot be streamed."""
        raise UserError("dataset.stream: array (.npy) and image_folder can be streamed")

    def classes(self, arrays: Examples) -> int:
        if self.stream:  # a part may lack one
            return self.source().classes
        return 0 if arrays.y is None else int(np.asarray(arrays.y).max()) + 1

    def about(self, arrays: Examples) -> dict[str, Any]:
        points = self.source().size if self.stream else len(arrays.x)
        return {"points": points, "images": arrays.x.dtype == jnp.uint8} | super().about(arrays)

    def draw(self, arrays: Examples | Batch, key: Key, count: int) -> Array:
        return self.draw_labelled(arrays, key, count)[0]

    def draw_labelled(self, arrays: Examples | Batch, key: Key, count: int) -> tuple[Array, Array | None]:
        batch = arrays if isinstance(arrays, Batch) else drawn(arrays, key, count)
        x = dequantised(batch.x, jax.random.fold_in(key, 2)) if self.dequantise else as_points(batch.x)
        if self.flip:
            turned = jax.random.bernoulli(jax.random.fold_in(key, 1), shape=(count, 1, 1, 1))
            x = jnp.where(turned, mirrored(x), x)
        return x, batch.y

    def draw_given(self, arrays: Examples, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """`count` points (count, *shape) on the host, of these labels (k,) in turn; of any where there are no labels."""
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        every = np.arange(len(arrays.x))
        if labels is None or arrays.y is None:
            rows = random.choice(every, count)
        else:
            asked = np.resize(np.asarray(labels), count)
            of = {label: np.flatnonzero(np.asarray(arrays.y) == label) for label in np.unique(asked)}
            rows = np.empty(count, int)
            for label, able in of.items():  # a part of a stream may have none of a rare class
                mine = asked == label
                rows[mine] = random.choice(able if len(able) else every, mine.sum())
        x = np.array(as_points(jnp.asarray(arrays.x)[rows]))
        if self.flip:
            turned = random.random(count) < 0.5
            x[turned] = mirrored(x[turned])
        return x

    def points(self, arrays: Examples) -> Array:
        """Every point that can be drawn, all equally likely: (N, *shape), or (2 N, *shape) with their mirror images.

        Raises UserError for images that are dequantised, of which there is no end, and for a stream, not all in memory.
        """
        if self.dequantise:
            raise UserError("dataset.dequantise: only a finite set of points has an exact field; leave it false")
        if self.stream:
            raise UserError("dataset.stream: this needs every point in memory at once; say dataset.stream=false")
        x = as_points(arrays.x)
        return jnp.concatenate([x, mirrored(x)]) if self.flip else x

    def measure(self, arrays: Examples, key: Key) -> Moments:
        """Exactly, in float64 on the host, a part after another; about the first point, so that nothing cancels."""
        x = np.asarray(arrays.x)
        first = x[0].astype(np.float64)
        total, squares = np.zeros_like(first), 0.0
        rows = max(1, PART // first.size)
        for begin in range(0, len(x), rows):
            part = x[begin : begin + rows] - first
            total += part.sum(axis=0)
            squares += float(np.vdot(part, part))
        offset = total / len(x)
        mean, variance = first + offset, squares / x.size - np.mean(offset**2)
        if self.flip:  # the mean becomes symmetric, and its asymmetry goes into the variance
            odd = (mean - mirrored(mean)) / 2
            mean, variance = mean - odd, variance + np.mean(odd**2)
        std = np.sqrt(max(variance, 0.0))
        if x.dtype == np.uint8:
            if self.dequantise:
                std = np.hypot(std, 1 / math.sqrt(12))  # of u, independent of the byte
            mean, std = mean / HALF_RANGE - 1, std / HALF_RANGE
        return Moments(jnp.asarray(mean, float), jnp.asarray(std, float))


class MixtureDataset(Dataset):
    """A dataset whose law is a Gaussian mixture, known exactly; a point's class is its component."""

    @abc.abstractmethod
    def mixture(self) -> mixtures.Mixture: ...

    def load(self) -> mixtures.Mixture:
        return self.mixture()

    def measure(self, arrays: mixtures.Mixture, key: Key) -> Moments:
        """Exactly, from the law."""
        return mixtures.moments(arrays)

    def least_variance(self) -> float:
        return float(self.mixture().variances.min())

    def classes(self, arrays: mixtures.Mixture) -> int:
        return arrays.weights.size

    def draw(self, arrays: mixtures.Mixture, key: Key, count: int) -> Array:
        return mixtures.sample(arrays, key, count)

    def draw_labelled(self, arrays: mixtures.Mixture, key: Key, count: int) -> tuple[Array, Array | None]:
        return mixtures.sample_labelled(arrays, key, count)


@jax.jit
def _moments_of_draws(dataset: Dataset, arrays: Any, key: Key) -> Moments:
    points = dataset.draw(arrays, key, MEASURED)
    mean = jnp.mean(points, axis=0)
    return Moments(mean, jnp.sqrt(jnp.mean((points - mean) ** 2)))


def drawn(arrays: Examples, key: Key, count: int) -> Batch:
    """`count` of the examples, with replacement."""
    row = jax.random.randint(key, (count,), 0, arrays.x.shape[0])
    return Batch(arrays.x[row], None if arrays.y is None else arrays.y[row])


def as_points(x: Any) -> Any:
    """Bytes to [-1, 1], x/127.5 - 1; floats as they are. In this order 0 and 255 are -1 and 1 however it is compiled."""
    return (x.astype(float) - HALF_RANGE) / HALF_RANGE if x.dtype == jnp.uint8 else x


def dequantised(x: Array, key: Key) -> Array:
    """(k + u - 1/2)/127.5 - 1 for bytes k, u uniform on [0, 1) (1511.01844, section 3.1): floats of the same shape.

    A byte stands for the bin of width 1/127.5 about its point, so that the mean stays and the bins tile what they cover.
    """
    return (x.astype(float) + jax.random.uniform(key, x.shape) - 0.5 - HALF_RANGE) / HALF_RANGE


def mirrored(x: Any) -> Any:
    """Images (..., H, W, C), left for right."""
    return x[..., ::-1, :]


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
