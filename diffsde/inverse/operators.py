"""Linear operators A of y = A z + noise, as arrays that a compiled program takes."""

from __future__ import annotations

import abc
import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.types import Array, register


class Operator(abc.ABC):
    """A, of one point z (*shape,), and A^+, of one measurement y; both linear. A^+ A projects onto what A sees."""

    @abc.abstractmethod
    def apply(self, z: Array) -> Array:
        """y = A z."""

    @abc.abstractmethod
    def pseudo_inverse(self, y: Array) -> Array:
        """A^+ y (*shape,): of all points with this measurement the smallest."""

    @property
    @abc.abstractmethod
    def rank(self) -> int:
        """How many numbers of z are known from A z."""

    @property
    @abc.abstractmethod
    def gain(self) -> float:
        """The largest singular value of A."""

    @abc.abstractmethod
    def scaled(self, scale: np.ndarray) -> Operator:
        """A diag(scale), of points whose coordinates are multiplied by scale (*shape,) before they are measured."""


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Mask(Operator):
    """What `seen` (*shape,) lets through, multiplied by it; where it is 0, y is 0 and has no noise."""

    seen: Array

    def apply(self, z: Array) -> Array:
        return self.seen * z

    def pseudo_inverse(self, y: Array) -> Array:
        measured = self.seen != 0
        return jnp.where(measured, y / jnp.where(measured, self.seen, 1), 0)

    @property
    def rank(self) -> int:
        return int(np.count_nonzero(np.asarray(self.seen)))

    @property
    def gain(self) -> float:
        return float(np.abs(np.asarray(self.seen)).max())

    def scaled(self, scale: np.ndarray) -> Mask:
        return Mask(self.seen * jnp.asarray(scale, self.seen.dtype))


@partial(register, static=["factor", "shape"])
@dataclasses.dataclass(frozen=True)
class BlockMean(Operator):
    """Images (H, W, C) to the means (H/f, W/f, C) of their f x f blocks, each channel multiplied by `weight` (C,)."""

    factor: int
    shape: tuple[int, ...]
    weight: Array

    def apply(self, z: Array) -> Array:
        height, width, channels = self.shape
        f = self.factor
        return (self.weight * z).reshape(height // f, f, width // f, f, channels).mean(axis=(1, 3))

    def pseudo_inverse(self, y: Array) -> Array:
        y = jnp.where(self.weight != 0, y / jnp.where(self.weight != 0, self.weight, 1), 0)
        return jnp.repeat(jnp.repeat(y, self.factor, axis=0), self.factor, axis=1)

    @property
    def rank(self) -> int:
        height, width, channels = self.shape
        return (height // self.factor) * (width // self.factor) * channels

    @property
    def gain(self) -> float:
        return float(np.abs(np.asarray(self.weight)).max()) / self.factor

    def scaled(self, scale: np.ndarray) -> Operator:
        each = np.broadcast_to(scale, self.shape)
        if (each == each[0, 0]).all():
            return dataclasses.replace(self, weight=self.weight * jnp.asarray(each[0, 0], self.weight.dtype))
        return from_matrix(np.asarray(dense(self, self.shape, self.weight.dtype)) * each.ravel(), self.shape)


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class Matrix(Operator):
    """A matrix (m, d), of points (*shape,) laid out as d numbers; `inverse` (d, m) is its pseudo-inverse."""

    matrix: Array
    inverse: Array
    shape: tuple[int, ...]

    def apply(self, z: Array) -> Array:
        return self.matrix @ z.reshape(-1)

    def pseudo_inverse(self, y: Array) -> Array:
        return (self.inverse @ y).reshape(self.shape)

    @property
    def rank(self) -> int:
        return int(np.linalg.matrix_rank(np.asarray(self.matrix)))

    @property
    def gain(self) -> float:
        return float(np.linalg.norm(np.asarray(self.matrix), 2))

    def scaled(self, scale: np.ndarray) -> Matrix:
        return from_matrix(np.asarray(self.matrix) * np.broadcast_to(scale, self.shape).ravel(), self.shape)


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...]) -> Matrix:
    """The operator of a matrix (m, d)."""
    exact = np.asarray(matrix, np.float64)
    return Matrix(jnp.asarray(exact, float), jnp.asarray(np.linalg.pinv(exact), float), shape)


def dense(operator: Operator, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """The matrix (m, d) of an operator, a column at a time."""
    columns = jax.vmap(operator.apply)(jnp.eye(int(np.prod(shape)), dtype=dtype).reshape(-1, *shape))
    return columns.reshape(columns.shape[0], -1).T
