"""What every dataset is."""

from __future__ import annotations

import abc
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffsde import mixtures
from diffsde.types import Array, Key, Moments

MEASURED = 65_536  # draws from which mean and std are measured: a standard error of 0.3% for the std


class Dataset(abc.ABC):
    """`load` brings what lives on the device, as a pytree; `draw` is `count` points (count, *shape) from it and a key.

    The arrays are an argument of the compiled program, never a constant in it. One key serves a whole batch: a key a
    point costs more than a small network's step.
    """

    @abc.abstractmethod
    def load(self) -> Any: ...

    def least_variance(self) -> float:
        """The least variance of the data about the set that it lies near; 0, the worst a sampler can meet, where unknown."""
        return 0.0

    @abc.abstractmethod
    def draw(self, arrays: Any, key: Key, count: int) -> Array: ...


class FiniteDataset(Dataset):
    """A dataset of N points (N, *shape), which are all of its arrays; drawn with replacement."""

    def draw(self, arrays: Array, key: Key, count: int) -> Array:
        return arrays[jax.random.randint(key, (count,), 0, arrays.shape[0])]


class MixtureDataset(Dataset):
    """A dataset whose law is a Gaussian mixture, known exactly."""

    @abc.abstractmethod
    def mixture(self) -> mixtures.Mixture: ...

    def load(self) -> mixtures.Mixture:
        return self.mixture()

    def least_variance(self) -> float:
        return float(self.mixture().variances.min())

    def draw(self, arrays: mixtures.Mixture, key: Key, count: int) -> Array:
        return mixtures.sample(arrays, key, count)


def point_shape(dataset: Dataset, arrays: Any) -> tuple[int, ...]:
    """The shape of one data point."""
    return jax.eval_shape(partial(dataset.draw, count=1), arrays, jax.random.key(0)).shape[1:]


@partial(jax.jit, static_argnames="count")
def draw_many(dataset: Dataset, arrays: Any, key: Key, count: int) -> Array:
    """`count` points, (count, *shape)."""
    return dataset.draw(arrays, key, count)


def measure(dataset: Dataset, arrays: Any, key: Key) -> Moments:
    """Mean (*shape,) and root-mean-square std () of the data, measured from 65,536 draws."""
    points = draw_many(dataset, arrays, key, MEASURED)
    mean = jnp.mean(points, axis=0)
    return Moments(mean, jnp.sqrt(jnp.mean((points - mean) ** 2)))
