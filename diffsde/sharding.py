"""Where arrays lie when a run takes several devices."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")


class Sharding(NamedTuple):
    """The batch is split over the mesh's one axis, `batch`; parameters are whole on every device or, with `shard`, split
    too (fully sharded data parallelism, 2304.11277), so that a model larger than one device fits.
    """

    mesh: Mesh
    shard: bool

    def process(self) -> tuple[int, int]:
        """Which process this is, and of how many; their devices follow one another in the mesh."""
        return jax.process_index(), jax.process_count()

    def batch(self) -> NamedSharding:
        """Split along the first axis."""
        return NamedSharding(self.mesh, PartitionSpec("batch"))

    def buffer(self) -> NamedSharding:
        """Split along the second axis: the batches of several steps, one after another."""
        return NamedSharding(self.mesh, PartitionSpec(None, "batch"))

    def whole(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def parameter(self, shape: tuple[int, ...]) -> NamedSharding:
        """Of a parameter, its average or its optimizer state: split along its longest axis that divides evenly."""
        able = [axis for axis, size in enumerate(shape) if size and size % self.mesh.size == 0]
        if not self.shard or not able:
            return self.whole()
        longest = max(able, key=lambda axis: shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*(["batch" if axis == longest else None for axis in range(len(shape))]))
        )


def constrain_batch(sharding: Sharding | None, tree: T) -> T:
    """Inside a program: split every leaf along its first axis."""
    return tree if sharding is None else jax.lax.with_sharding_constraint(tree, sharding.batch())


def constrain_parameters(sharding: Sharding | None, tree: T) -> T:
    """Inside a program: every leaf where `parameter` says."""
    if sharding is None:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding.parameter(leaf.shape)), tree)


def replicate(sharding: Sharding | None, tree: T) -> T:
    """Copy every array to all devices; equal on every process. Keys and Python numbers as well as arrays."""
    return tree if sharding is None else jax.tree.map(lambda leaf: _put(leaf, sharding.whole()), tree)


def shard_buffer(sharding: Sharding | None, tree: T) -> T:
    """Of numpy arrays (C, share, ...), each process's share of C batches, the device arrays (C, B, ...) of them all."""
    if sharding is None:
        return jax.device_put(tree)
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding.buffer()), tree)


def shard_parameters(sharding: Sharding | None, tree: T) -> T:
    """Put every array where `parameter` says."""
    return tree if sharding is None else jax.tree.map(lambda leaf: _put(leaf, sharding.parameter(leaf.shape)), tree)


def member_sharding(mesh: Mesh | None, members: int) -> Sharding | None:
    """The members of an ensemble divided among as many of the devices as divide them evenly."""
    if mesh is None:
        return None
    count = max(size for size in range(1, mesh.size + 1) if members % size == 0)
    return Sharding(Mesh(mesh.devices[:count], mesh.axis_names), shard=False)


def shard_members(sharding: Sharding | None, tree: T, split: tuple[bool, ...]) -> T:
    """Of an ensemble the stacked leaves divided among the devices, the common ones on all of them."""
    if sharding is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    places = [sharding.batch() if apart else sharding.whole() for apart in split]
    return jax.tree.unflatten(structure, [_put(leaf, place) for leaf, place in zip(leaves, places, strict=True)])


def _put(leaf: Any, where: NamedSharding) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), where), impl=str(jax.random.key_impl(leaf)))
    return jax.device_put(np.asarray(leaf) if jax.process_count() > 1 else leaf, where)
