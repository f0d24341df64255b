"""Points of the data for samples that start inside the path, each by its own index and label alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset
from diffsde.datasets.dataset import Batch, Examples
from diffsde.types import Array, Key

DATA = 2**31 - 1  # folded into the key for the data's draws: no sample has this index


def draw_data(dataset: Dataset, arrays: Any, key: Key, n: int, labels: Array | None = None) -> Array:
    """n points z (n, *shape) of the data, or of the data with these labels (n,), for `prior`; point i depends on its own
    index and label alone. Labels are passed over by data that has none, and by a part of a stream without that label.
    """
    key = jax.random.fold_in(key, DATA)
    if isinstance(dataset, MixtureDataset):
        return _of_mixture(dataset.mixture(), key, labels, n)
    if not isinstance(dataset, FiniteDataset):
        return _of_law(dataset, arrays, key, n)
    size = len(arrays.x)
    order, first, count = np.arange(size), np.zeros(n, int), np.full(n, size)
    if labels is not None and arrays.y is not None:
        y, asked = np.asarray(arrays.y), np.asarray(labels)
        order, counts = np.argsort(y, kind="stable"), np.bincount(y, minlength=asked.max() + 1)
        known = counts[asked] > 0
        first = np.where(known, (np.cumsum(counts) - counts)[asked], 0)
        count = np.where(known, counts[asked], size)
    return _of_rows(dataset, arrays, jnp.asarray(order), jnp.asarray(first), jnp.asarray(count), key)


def keys_of(key: Key, n: int) -> Array:
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))


@partial(jax.jit, static_argnames="n")
def _of_mixture(mixture: mixtures.Mixture, key: Key, labels: Array | None, n: int) -> Array:
    def one(key: Key, label: Array | None) -> Array:
        return mixtures.sample(mixtures.given(mixture, label), key, 1)[0]

    return jax.vmap(one)(keys_of(key, n), labels)


@partial(jax.jit, static_argnames="n")
def _of_law(dataset: Dataset, arrays: Any, key: Key, n: int) -> Array:
    return jax.vmap(lambda key: dataset.draw(arrays, key, 1)[0])(keys_of(key, n))


@jax.jit
def _of_rows(dataset: FiniteDataset, arrays: Examples, order: Array, first: Array, count: Array, key: Key) -> Array:
    """Point i is any of the `count` rows order[first], order[first + 1], ..., drawn as in training."""

    def one(key: Key, first: Array, count: Array) -> Array:
        row = order[first + jax.random.randint(key, (), 0, count)]
        return dataset.draw(Batch(arrays.x[row][None], None), jax.random.fold_in(key, 1), 1)[0]

    return jax.vmap(one)(keys_of(key, len(first)), first, count)
