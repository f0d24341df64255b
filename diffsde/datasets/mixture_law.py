"""Datasets whose law is a Gaussian mixture."""

from __future__ import annotations

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.dataset import Dataset, keys_of
from diffsde.fields import OracleField
from diffsde.paths import GaussianPath
from diffsde.types import Array, Key, Moments


class MixtureDataset(Dataset):
    """A dataset whose law is a known Gaussian mixture; a point's label is its component."""

    has_exact_field: ClassVar[bool] = True

    @abc.abstractmethod
    def mixture(self) -> mixtures.Mixture: ...

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture:
        return self.mixture() if labels is None else mixtures.only(self.mixture(), labels)

    def exact_field(self, path: GaussianPath) -> OracleField:
        mixture = self.mixture()
        return OracleField(path, mixture, mixture.means.shape[1:])

    def draw_given(
        self, arrays: mixtures.Mixture, labels: Array | np.ndarray | None, key: Key, count: int
    ) -> np.ndarray:
        if labels is None:
            return super().draw_given(arrays, None, key, count)
        asked = jnp.asarray(np.resize(np.asarray(labels), count))
        return np.asarray(_by_index(arrays, jax.random.split(key, count), asked))

    def draw_by_index(self, arrays: mixtures.Mixture, key: Key, n: int, labels: Array | None = None) -> Array:
        return _by_index(self.mixture(), keys_of(key, n), labels)

    def load(self) -> mixtures.Mixture:
        return self.mixture()

    def moments(self, arrays: mixtures.Mixture, key: Key) -> Moments:
        """The exact moments, from the law."""
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
def _by_index(mixture: mixtures.Mixture, keys: Array, labels: Array | None) -> Array:
    """Points (n, *shape), one per key; from the component `labels[i]` where labels are given."""

    def one(key: Key, label: Array | None) -> Array:
        return mixtures.sample(mixtures.conditioned(mixture, label), key, 1)[0]

    return jax.vmap(one)(keys, labels)
