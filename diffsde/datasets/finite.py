"""Datasets of N points, in memory or on the disk."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import empirical
from diffsde.datasets.dataset import Dataset, Examples, keys_of
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField
from diffsde.paths import GaussianPath
from diffsde.types import Array, Key, Moments, Scalar

PART = 1 << 20  # numbers that are summed at a time
HALF_RANGE = 127.5  # half the range of bytes: k becomes k/127.5 - 1


class Batch(NamedTuple):
    """The examples of one training step, already drawn: x (B, *shape), y (B,) or None."""

    x: Array
    y: Array | None


class Buffer(NamedTuple):
    """The batches of C consecutive training steps, x (C, B, *shape), y (C, B) or None; the batch of step s is at s mod C."""

    x: Array
    y: Array | None

    def at(self, step: Scalar) -> Batch:
        """The batch of a step () that the buffer holds."""
        return Batch(*jax.tree.map(lambda leaf: leaf[step % len(leaf)], tuple(self)))


class FiniteDataset(Dataset):
    """A dataset of N points, drawn with replacement (a stream: without).

    Images stay bytes on the device; a drawn image is x/127.5 - 1, (H, W, C) in [-1, 1].
    flip: each drawn image is mirrored left-right with probability 1/2. dequantise: each drawn byte is replaced by a uniform
    number in its bin, as bits per dimension assume.
    """

    has_exact_field: ClassVar[bool] = True

    @abc.abstractmethod
    def load(self) -> Examples: ...

    def classes(self, arrays: Examples) -> int:
        if self.stream:  # a loaded subset may lack a class
            return self.source().classes
        return 0 if arrays.y is None else int(np.asarray(arrays.y).max()) + 1

    def about(self, arrays: Examples) -> dict[str, Any]:
        return {"points": self.count_points(arrays), "images": self.in_bytes(arrays)} | super().about(arrays)

    def count_points(self, arrays: Examples) -> int:
        return self.source().size if self.stream else len(arrays.x)

    def in_bytes(self, arrays: Examples) -> bool:
        return arrays.x.dtype == np.uint8

    def exact_field(self, path: GaussianPath) -> EmpiricalField:
        points = self.points(self.load())
        return EmpiricalField(path, empirical.arrange(points), len(points), points.shape[1:])

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
        """`count` points (count, *shape) on the host with the labels (k,) in turn; with any label where labels is None."""
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        every = np.arange(len(arrays.x))
        if labels is None or arrays.y is None:
            rows = random.choice(every, count)
        else:
            asked = np.resize(np.asarray(labels), count)
            of = {label: np.flatnonzero(np.asarray(arrays.y) == label) for label in np.unique(asked)}
            rows = np.empty(count, int)
            for label, able in of.items():  # the loaded subset of a stream may lack a rare class
                mine = asked == label
                rows[mine] = random.choice(able if len(able) else every, mine.sum())
        x = np.array(as_points(jnp.asarray(arrays.x)[rows]))
        if self.flip:
            turned = random.random(count) < 0.5
            x[turned] = mirrored(x[turned])
        return x

    def draw_by_index(self, arrays: Examples, key: Key, n: int, labels: Array | None = None) -> Array:
        size = len(arrays.x)
        order, first, count = np.arange(size), np.zeros(n, int), np.full(n, size)
        if labels is not None and arrays.y is not None:
            y, asked = np.asarray(arrays.y), np.asarray(labels)
            order, counts = np.argsort(y, kind="stable"), np.bincount(y, minlength=asked.max() + 1)
            known = counts[asked] > 0
            first = np.where(known, (np.cumsum(counts) - counts)[asked], 0)
            count = np.where(known, counts[asked], size)
        return _rows_by_index(self, arrays, jnp.asarray(order), jnp.asarray(first), jnp.asarray(count), key)

    def points(self, arrays: Examples) -> Array:
        """All points that can be drawn, equally likely: (N, *shape), or (2 N, *shape) with mirror images.

        Raises UserError for dequantised images, which are no finite set, and for a stream, which is not all in memory.
        """
        if self.dequantise:
            raise UserError("dataset.dequantise: only a finite set of points has an exact field; leave it false")
        if self.stream:
            raise UserError("dataset.stream: this needs every point in memory at once; say dataset.stream=false")
        x = as_points(arrays.x)
        return jnp.concatenate([x, mirrored(x)]) if self.flip else x

    def moments(self, arrays: Examples, key: Key) -> Moments:
        """The exact moments, in float64 on the host, part by part; relative to the first point, so that nothing cancels."""
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
        if self.flip:  # the mean becomes symmetric, and its antisymmetric part adds to the variance
            odd = (mean - mirrored(mean)) / 2
            mean, variance = mean - odd, variance + np.mean(odd**2)
        std = np.sqrt(max(variance, 0.0))
        if x.dtype == np.uint8:
            if self.dequantise:
                std = np.hypot(std, 1 / math.sqrt(12))  # the std of u, which is independent of the byte
            mean, std = mean / HALF_RANGE - 1, std / HALF_RANGE
        return Moments(jnp.asarray(mean, float), jnp.asarray(std, float))


@jax.jit
def _rows_by_index(
    dataset: FiniteDataset, arrays: Examples, order: Array, first: Array, count: Array, key: Key
) -> Array:
    """Points (n, *shape), as drawn in training: point i is one of the count[i] rows order[first[i]], order[first[i] + 1], ..."""

    def one(key: Key, first: Array, count: Array) -> Array:
        row = order[first + jax.random.randint(key, (), 0, count)]
        return dataset.draw(Batch(arrays.x[row][None], None), jax.random.fold_in(key, 1), 1)[0]

    return jax.vmap(one)(keys_of(key, len(first)), first, count)


def drawn(arrays: Examples, key: Key, count: int) -> Batch:
    """A batch of `count` examples, drawn with replacement."""
    row = jax.random.randint(key, (count,), 0, arrays.x.shape[0])
    return Batch(arrays.x[row], None if arrays.y is None else arrays.y[row])


def as_points(x: Any) -> Any:
    """Bytes scaled to [-1, 1], x/127.5 - 1; floats unchanged. In this order of operations 0 and 255 give exactly -1 and 1."""
    return (x.astype(float) - HALF_RANGE) / HALF_RANGE if x.dtype == jnp.uint8 else x


def dequantised(x: Array, key: Key) -> Array:
    """(k + u - 1/2)/127.5 - 1 for bytes k, u uniform on [0, 1) (1511.01844, section 3.1): floats of the same shape.

    A byte stands for the bin of width 1/127.5 about k/127.5 - 1, so that the mean stays and the bins tile an interval.
    """
    return (x.astype(float) + jax.random.uniform(key, x.shape) - 0.5 - HALF_RANGE) / HALF_RANGE


def mirrored(x: Any) -> Any:
    """Images (..., H, W, C) mirrored left-right."""
    return x[..., ::-1, :]
