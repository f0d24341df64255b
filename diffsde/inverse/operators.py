"""Linear operators A of y = A z + noise: masks, block means, matrices; pytrees, to be arguments of compiled programs."""

from __future__ import annotations

import abc
import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.types import Array, register


class Operator(abc.ABC):
    """A linear operator A on one point z (*shape,), and its pseudo-inverse A^+; A^+ A is the projection onto A's row space."""

    @abc.abstractmethod
    def apply(self, z: Array) -> Array:
        """y = A z."""

    @abc.abstractmethod
    def pseudo_inverse(self, y: Array) -> Array:
        """A^+ y (*shape,): the point of least norm among those with measurement y."""

    @property
    @abc.abstractmethod
    def rank(self) -> int:
        """The rank of A."""

    @property
    @abc.abstractmethod
    def gain(self) -> float:
        """The largest singular value of A."""

    @abc.abstractmethod
    def scaled(self, scale: np.ndarray) -> Operator:
        """A diag(scale): the operator for points whose coordinates are multiplied by scale (*shape,) before A."""


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Mask(Operator):
    """A z = seen z, elementwise, with seen (*shape,); where `seen` is 0 nothing is measured: y is 0 and has no noise."""

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
    """Means (H/f, W/f, C) over the f x f blocks of images (H, W, C), pixels multiplied by `weight` (*shape,) first.

    A z = sum w z/f^2 per block, and A^+ y = w y f^2/sum w^2.
    """

    factor: int
    shape: tuple[int, ...]
    weight: Array | float = 1.0

    def means(self, z: Array) -> Array:
        """The mean per block and channel of z (*shape,), without weights: (H/f, W/f, C)."""
        height, width, channels = self.shape
        f = self.factor
        return jnp.broadcast_to(z, self.shape).reshape(height // f, f, width // f, f, channels).mean(axis=(1, 3))

    def apply(self, z: Array) -> Array:
        return self.means(self.weight * z)

    def pseudo_inverse(self, y: Array) -> Array:
        weight = jnp.asarray(self.weight)
        squares = self.means(weight**2)
        y = jnp.where(squares > 0, y / jnp.where(squares > 0, squares, 1), 0)
        return weight * jnp.repeat(jnp.repeat(y, self.factor, axis=0), self.factor, axis=1)

    @property
    def rank(self) -> int:
        return int(np.count_nonzero(np.asarray(self.means(jnp.asarray(self.weight) ** 2))))

    @property
    def gain(self) -> float:
        return math.sqrt(float(jnp.max(self.means(jnp.asarray(self.weight) ** 2)))) / self.factor

    def scaled(self, scale: np.ndarray) -> BlockMean:
        return dataclasses.replace(self, weight=self.weight * jnp.broadcast_to(jnp.asarray(scale, float), self.shape))


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class Matrix(Operator):
    """A matrix (m, d) acting on points (*shape,) flattened to d numbers; `inverse` (d, m) is its pseudo-inverse."""

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
    """The operator of a matrix (m, d) on points (*shape,); the pseudo-inverse is computed in float64."""
    exact = np.asarray(matrix, np.float64)
    return Matrix(jnp.asarray(exact, float), jnp.asarray(np.linalg.pinv(exact), float), shape)


def operator_matrix(operator: Operator, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """The matrix (m, d) of an operator on points (*shape,), by applying it to the unit vectors."""
    columns = jax.vmap(operator.apply)(jnp.eye(int(np.prod(shape)), dtype=dtype).reshape(-1, *shape))
    return columns.reshape(columns.shape[0], -1).T
