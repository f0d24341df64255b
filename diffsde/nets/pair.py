"""Two networks as one, of one architecture and without shared parameters: one learns the drift, the other the score."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import nnx

from diffsde.nets.net import Net
from diffsde.types import Array, Scalar


@dataclasses.dataclass(frozen=True)
class PairNet:
    """Two of the net, together x (*shape,), t () -> (2, *shape)."""

    net: Net

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module:
        return Pair(*(self.net.make(shape, rngs, compute, classes) for _ in range(2)))


class Pair(nnx.Module):
    """The module of a PairNet."""

    def __init__(self, first: nnx.Module, second: nnx.Module):
        self.first, self.second = first, second

    def __call__(self, x: Array, t: Scalar, label: Scalar | None = None) -> Array:
        return jnp.stack([self.first(x, t, label), self.second(x, t, label)])
