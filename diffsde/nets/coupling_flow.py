"""Coupling flows: invertible networks whose log-determinant costs nothing extra, since each layer moves some coordinates by the others.

z = f_L(... f_1(x)), and of each layer x = (a, b) -> (a, T(b; theta(a))), T increasing in each coordinate of b, so that
    log |det dz/dx| = sum over layers and coordinates of log dT/db,
and x is found from z by the inverse of each T. theta is any network of a (and of a label). Our own and not flowjax's, whose
parameters are leaves of equinox modules without the flat names that checkpoints, optimizers and stacked sweeps here go by.
"""

from __future__ import annotations

import abc
import itertools
import math
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffsde.errors import UserError
from diffsde.nets.layers import ACTIVATIONS, dense, embedded, embedding, zeros
from diffsde.types import Array, Scalar


class CouplingNet(abc.ABC):
    """A choice of a coupling flow: how many layers, the networks that condition them, and the map T of one coordinate."""

    layers: int
    widths: tuple[int, ...]
    activation: str

    @property
    @abc.abstractmethod
    def numbers(self) -> int:
        """How many numbers say what T is, for one coordinate."""

    @abc.abstractmethod
    def forward(self, b: Scalar, theta: Array) -> tuple[Scalar, Scalar]:
        """(T(b), log dT/db) of one coordinate (), theta (numbers,); at theta = 0 the identity."""

    @abc.abstractmethod
    def backward(self, b: Scalar, theta: Array) -> Scalar:
        """The b of which T(b) is given."""

    @final
    def check(self) -> None:
        if not self.widths:
            raise ValueError("widths is []; give one width per hidden layer, e.g. [64,64]")

    def fits(self, size: int) -> str | None:
        """Why points of `size` coordinates are not for this flow; None where they are."""
        return None

    @final
    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module:
        if why := self.fits(math.prod(shape)):
            raise UserError(why)
        return CouplingFlow(self, math.prod(shape), rngs, compute, classes)


class CouplingFlow(nnx.Module):
    """f of x (d,), label (): `forward` gives (z (d,), log |det dz/dx| ()), `backward` x (d,) of z.

    The first layer moves one half of the coordinates by the other half, the second the other way round; every two layers the
    halves are others, drawn once with a fixed seed. The networks' last layers begin at 0, and so f at the identity.
    """

    def __init__(self, config: CouplingNet, size: int, rngs: nnx.Rngs, compute: str, classes: int):
        self.couplings = nnx.List(
            [Conditioner(config, *count, rngs, compute, classes) for count in counts(config.layers, size)]
        )
        self.config, self.size = config, size

    def forward(self, x: Array, label: Scalar | None = None) -> tuple[Array, Scalar]:
        total = jnp.zeros((), x.dtype)
        for i, coupling in enumerate(self.couplings):
            kept, moved = halves(i, self.size)
            b, log_slope = jax.vmap(self.config.forward)(x[moved], coupling(x[kept], label))
            x = jnp.concatenate([x[kept], b])[places(kept, moved)]
            total += jnp.sum(log_slope)
        return x, total

    def backward(self, z: Array, label: Scalar | None = None) -> Array:
        for i, coupling in reversed(list(enumerate(self.couplings))):
            kept, moved = halves(i, self.size)
            b = jax.vmap(self.config.backward)(z[moved], coupling(z[kept], label))
            z = jnp.concatenate([z[kept], b])[places(kept, moved)]
        return z


class Conditioner(nnx.Module):
    """The network theta of one layer: a (kept,), label () -> (moved, numbers). Of one coordinate, where nothing is kept, it sees 1.

    Its output is divided by the root of its width (as 1906.04032's code does), so that the same learning rate suits every width.
    """

    def __init__(self, config: CouplingNet, kept: int, moved: int, rngs: nnx.Rngs, compute: str, classes: int):
        widths, out = [max(kept, 1), *config.widths], moved * config.numbers
        inner = [nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(widths)]
        self.layers = nnx.List([*inner, nnx.Linear(widths[-1], out, kernel_init=zeros, rngs=rngs)])
        if classes:
            self.labels = embedding(classes, widths[1], rngs)
        self.activation, self.numbers, self.compute, self.classes = config.activation, config.numbers, compute, classes

    def __call__(self, kept: Array, label: Scalar | None) -> Array:
        h = kept if kept.size else jnp.ones(1, kept.dtype)
        *inner, last = self.layers
        for i, layer in enumerate(inner):
            h = dense(layer, h, self.compute)
            if self.classes and not i:
                h += embedded(self.labels, label, self.classes).astype(self.compute)
            h = ACTIVATIONS[self.activation](h)
        theta = dense(last, h, self.compute).astype(kept.dtype) / math.sqrt(h.size)
        return theta.reshape(-1, self.numbers)


def halves(layer: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the coordinates that a layer keeps, and of those that it moves."""
    order = np.arange(size) if size == 2 else np.random.default_rng(layer // 2).permutation(size)
    first, second = np.sort(order[: size // 2]), np.sort(order[size // 2 :])
    return (first, second) if layer % 2 == 0 or size == 1 else (second, first)


def counts(layers: int, size: int) -> list[tuple[int, int]]:
    """(how many coordinates are kept, how many are moved) of each layer."""
    return [(len(kept), len(moved)) for kept, moved in (halves(i, size) for i in range(layers))]


def places(kept: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Where each coordinate stands in (kept, moved)."""
    return np.argsort(np.concatenate([kept, moved]))
