"""The multilayer perceptron for low-dimensional data."""

from __future__ import annotations

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
    """Dense layers of the given widths over (x, features of t).

    widths: one per hidden layer. frequencies: pairs cos(pi k t), sin(pi k t), k = 1..frequencies; 0 gives raw t.
    """

    widths: tuple[int, ...] = (128, 128, 64)
    activation: str = "silu"
    frequencies: int = 4

    def check(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths is {list(self.widths)}; give one positive width a hidden layer, e.g. [128,128,64]")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is '{self.activation}'; there are {', '.join(ACTIVATIONS)}")
        if self.frequencies < 0:
            raise ValueError(f"frequencies is {self.frequencies}; it must be 0 (raw t) or more")

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        return Perceptron(self, shape, rngs)


class Perceptron(nnx.Module):
    """x (*shape,), t () -> (*shape,)."""

    def __init__(self, config: MLP, shape: tuple[int, ...], rngs: nnx.Rngs):
        size = 1
        for side in shape:
            size *= side
        features = 2 * config.frequencies or 1
        widths = [size + features, *config.widths, size]
        self.layers = nnx.List(
            [nnx.Linear(m, n, rngs=rngs) for m, n in zip(widths[:-1], widths[1:], strict=True)]
        )
        self.activation = config.activation
        self.frequencies = config.frequencies

    def __call__(self, x: Array, t: Scalar) -> Array:
        t = jnp.asarray(t, x.dtype)
        if self.frequencies:
            angles = jnp.pi * t * jnp.arange(1, self.frequencies + 1)
            features = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        else:
            features = t[None]
        h = jnp.concatenate([x.reshape(-1), features.astype(x.dtype)])
        for layer in self.layers[:-1]:
            h = ACTIVATIONS[self.activation](layer(h))
        return self.layers[-1](h).reshape(x.shape)
