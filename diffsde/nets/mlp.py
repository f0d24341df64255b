"""The multilayer perceptron for low-dimensional data."""

from __future__ import annotations

import itertools
import math

import jax.numpy as jnp
from flax import nnx

from diffsde.nets.layers import (
    ACTIVATIONS,
    dense,
    embedded,
    embedding,
    fourier_features,
    identity,
    time_features,
    zeros,
)
from diffsde.types import Array, Scalar, choice


@choice
class MLP:
    """Dense layers of the given widths over (x, features of x, features of t).

    time_frequencies: pairs cos(pi k t), sin(pi k t), k = 1..time_frequencies; 0 gives raw t.
    space_frequencies: pairs cos(k x_i), sin(k x_i) for each coordinate, k = 1..space_frequencies, beside x itself;
    they help a network with sharp boundaries between modes (2006.10739) where x has unit variance.
    gated_skip: r, 0 for none: adds U (g * V x) to the output, V (r, d), U (d, r), and g (r,) linear in the last hidden layer,
    0 at first. Of data of covariance A diag(l) A^T the exact output is A diag(f_t) A^T x, and of a mixture a sum of such,
    each times the probability of its component: what dense layers alone would make of many small bends. With r >= d, U
    and V are identities at first.
    """

    widths: tuple[int, ...] = (112, 112, 80)
    activation: str = "gelu"
    time_frequencies: int = 4
    space_frequencies: int = 4
    gated_skip: int = 0

    def check(self) -> None:
        if not self.widths:
            raise ValueError("widths is []; give one width per hidden layer, e.g. [128,128,64]")

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int = 1) -> nnx.Module:
        return Perceptron(self, shape, rngs, compute, classes, times)


class Perceptron(nnx.Module):
    """x (*shape,), t () or (2,), label () -> (*shape,). The products are made in the type `compute`, features and output in x's own.

    Where there are classes, the label's vector is added to the first layer, before its activation.
    """

    def __init__(self, config: MLP, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int):
        size = math.prod(shape)
        features = times * (2 * config.time_frequencies or 1)
        widths = [size * (1 + 2 * config.space_frequencies) + features, *config.widths, size]
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(widths)])
        if config.gated_skip:
            rank = config.gated_skip
            start = identity if rank >= size else nnx.initializers.lecun_normal()  # flax's own
            self.skip_in = nnx.Linear(size, rank, kernel_init=start, rngs=rngs)
            self.skip_out = nnx.Linear(rank, size, kernel_init=start, rngs=rngs)
            self.gate = nnx.Linear(widths[-2], rank, kernel_init=zeros, rngs=rngs)
        if classes:
            self.labels = embedding(classes, widths[1], rngs)
        self.config, self.compute, self.classes = config, compute, classes

    def __call__(self, x: Array, t: Scalar | Array, label: Scalar | None = None) -> Array:
        flat, time = x.reshape(-1), time_features(t, self.config.time_frequencies, x.dtype)
        h = jnp.concatenate([flat, fourier_features(flat, self.config.space_frequencies), time])
        *inner, last = self.layers
        for i, layer in enumerate(inner):
            h = dense(layer, h, self.compute)
            if self.classes and not i:
                h += embedded(self.labels, label, self.classes).astype(self.compute)
            h = ACTIVATIONS[self.config.activation](h)
        out = dense(last, h, self.compute)
        if self.config.gated_skip:
            gated = dense(self.gate, h, self.compute) * dense(self.skip_in, flat, self.compute)
            out += dense(self.skip_out, gated, self.compute)
        return out.reshape(x.shape).astype(x.dtype)
