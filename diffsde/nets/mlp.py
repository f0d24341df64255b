"""The multilayer perceptron for low-dimensional data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from diffsde.types import Array, Scalar, choice

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
}


@choice
class MLP:
    """Dense layers of the given widths over (x, features of x, features of t).

    time_frequencies: pairs cos(pi k t), sin(pi k t), k = 1..time_frequencies; 0 gives raw t.
    space_frequencies: pairs cos(k x_i), sin(k x_i) for each coordinate, k = 1..space_frequencies, beside x itself;
    they help a network with sharp boundaries between modes (2006.10739) where x has unit variance.
    """

    widths: tuple[int, ...] = (112, 112, 80)
    activation: str = "silu"
    time_frequencies: int = 4
    space_frequencies: int = 8

    def check(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(
                f"widths is {list(self.widths)}; give one positive width a hidden layer, e.g. [128,128,64]"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is '{self.activation}'; there are {', '.join(ACTIVATIONS)}")
        for name in ("time_frequencies", "space_frequencies"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 (none) or more")

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        return Perceptron(self, shape, rngs)


def harmonics(x: Array, count: int) -> Array:
    """cos(k x), sin(k x) for k = 1..count: from (n,) to (2 n count,)."""
    angles = jnp.outer(jnp.arange(1, count + 1, dtype=x.dtype), x).ravel()
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


class Perceptron(nnx.Module):
    """x (*shape,), t () -> (*shape,)."""

    def __init__(self, config: MLP, shape: tuple[int, ...], rngs: nnx.Rngs):
        size = math.prod(shape)
        times = 2 * config.time_frequencies or 1
        widths = [size * (1 + 2 * config.space_frequencies) + times, *config.widths, size]
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(widths)])
        self.config = config

    def __call__(self, x: Array, t: Scalar) -> Array:
        flat, time = x.reshape(-1), jnp.asarray(t, x.dtype)[None]
        if self.config.time_frequencies:
            time = harmonics(jnp.pi * time, self.config.time_frequencies)
        h = jnp.concatenate([flat, harmonics(flat, self.config.space_frequencies), time])
        for layer in self.layers[:-1]:
            h = ACTIVATIONS[self.config.activation](layer(h))
        return self.layers[-1](h).reshape(x.shape)
