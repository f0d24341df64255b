"""N(0, I) as a dataset: the source that source=normal stands for."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.dataset import Dataset
from diffsde.types import Array, Key, Moments, register


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class StandardNormal(Dataset):
    """N(0, I) of points of a shape; no choice of dataset=, as its shape is that of the data at the other end."""

    shape: tuple[int, ...]

    def load(self) -> None:
        """There are no arrays."""

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture | None:
        return self.of_vectors() if len(self.shape) == 1 else None  # a mixture is a law of vectors

    def of_vectors(self) -> mixtures.Mixture:
        """The law of the points as vectors (d,)."""
        return mixtures.Mixture(jnp.zeros((1, math.prod(self.shape))), jnp.ones((1, 1)), jnp.ones(1))

    def least_variance(self) -> float:
        return 1.0

    def draw(self, arrays: Any, key: Key, count: int) -> Array:
        return jax.random.normal(key, (count, *self.shape))

    def moments(self, arrays: Any, key: Key) -> Moments:
        return Moments(jnp.zeros(self.shape), 1.0)


def density_of(source: Dataset) -> mixtures.Mixture | None:
    """The law of a source's points as vectors (d,); None where it is not known."""
    return source.of_vectors() if isinstance(source, StandardNormal) else source.law()
