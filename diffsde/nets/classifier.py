"""A classifier from any network: its output, an image or a vector, read by one linear layer."""

from __future__ import annotations

import dataclasses
import math

from flax import nnx

from diffsde.nets.layers import dense
from diffsde.nets.net import Net
from diffsde.types import Array, Scalar


@dataclasses.dataclass(frozen=True)
class ClassifierNet:
    """The net and a layer over its flattened output, together x (*shape,), t () -> logits (classes,)."""

    net: Net

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module:
        return Logits(self.net.make(shape, rngs, compute, 0), math.prod(shape), classes, rngs, compute)


class Logits(nnx.Module):
    """The module of a Classifier, which no label is given."""

    def __init__(self, body: nnx.Module, size: int, classes: int, rngs: nnx.Rngs, compute: str):
        self.body, self.compute = body, compute
        self.head = nnx.Linear(size, classes, rngs=rngs)

    def __call__(self, x: Array, t: Scalar, label: Scalar | None = None) -> Array:
        return dense(self.head, self.body(x, t).reshape(-1), self.compute).astype(x.dtype)
