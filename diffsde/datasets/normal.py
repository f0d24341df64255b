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

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture:
        return mixtures.Mixture(jnp.zeros((1, math.prod(self.shape))), jnp.ones((1, 1)), jnp.ones(1))

    def least_variance(self) -> float:
        return 1.0

    def draw(self, arrays: Any, key: Key, count: int) -> Array:
        return jax.random.normal(key, (count, *self.shape))

    def moments(self, arrays: Any, key: Key) -> Moments:
        return Moments(jnp.zeros(self.shape), 1.0)
