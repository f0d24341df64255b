"""The pieces of every network, for one point: products, activations, norms, features of t, and what conditions on it."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from flax import nnx
from jax.custom_derivatives import SymbolicZero

from diffsde.types import Array, Key, Scalar

EPSILON = 1e-6  # under the root of a variance

zeros = nnx.initializers.zeros_init()


def identity(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32, **_: Any) -> Array:
    """An initial kernel (m, n) that changes nothing where m = n, and leaves the others 0."""
    return jnp.eye(shape[0], shape[1], dtype=dtype)


def silu(x: Array) -> Array:
    """x sigmoid(x), by the tanh: on CPU half the time of an exponential and a division."""
    return x * (0.5 + 0.5 * jnp.tanh(0.5 * x))


def gelu(x: Array) -> Array:
    """x Phi(x), nearly: x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))/2 (1606.08415, section 2)."""
    return jax.nn.gelu(x, approximate=True)


def fourier_features(x: Array, count: int) -> Array:
    """cos(k x), sin(k x) for k = 1..count: from (n,) to (2 n count,)."""
    if not count:
        return x[:0]
    first = jnp.cos(x), jnp.sin(x)
    pairs = [first]
    for _ in range(count - 1):  # by the sum of angles: a cosine costs as much as ten products
        cos, sin = pairs[-1]
        pairs.append((cos * first[0] - sin * first[1], sin * first[0] + cos * first[1]))
    return jnp.concatenate([*(cos for cos, _ in pairs), *(sin for _, sin in pairs)])


@jax.custom_jvp
def product(h: Array, kernel: Array) -> Array:
    """h @ kernel for one point, h (in,) or (tokens, in), kernel (in, out).

    Its gradient in the kernel is made as (out, in) and turned over at the end, behind barriers, since XLA would undo it:
    left alone, XLA on CPU contracts both factors over the batch, their slow axis, and a whole training step takes
    1.05 to 1.15 times as long (3 layers of 64 to 256, batches of 256 to 4096).
    """
    return h @ kernel


@partial(product.defjvp, symbolic_zeros=True)
def _product_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (h, kernel), (dh, dkernel) = primals, tangents
    value = h @ kernel
    tangent = jnp.zeros_like(value)
    if not isinstance(dh, SymbolicZero):
        tangent += dh @ kernel
    if not isinstance(dkernel, SymbolicZero):
        hold = jax.lax.optimization_barrier
        tangent += (hold(hold(dkernel.T)) @ h.T).T
    return value, tangent


def dense(layer: nnx.Linear, h: Array, compute: str) -> Array:
    """h kernel + bias over the last axis, in the type `compute`, which the result keeps."""
    assert layer.bias is not None  # nnx.Linear has one by default
    kernel, bias = layer.kernel[...].astype(compute), layer.bias[...].astype(compute)
    return product(h.astype(compute), kernel) + bias


def normalise(h: Array) -> Array:
    """LayerNorm without a scale or shift of its own (1607.06450): mean 0 and variance 1 over the last axis."""
    centred = h - jnp.mean(h, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + EPSILON)


def attention(query: Array, key: Array, value: Array, heads: int) -> Array:
    """softmax(q k^T/sqrt(d)) v in each head (1706.03762, eq. 1): three (tokens, heads d) -> (tokens, heads d)."""
    q, k, v = (each.reshape(len(each), heads, -1) for each in (query, key, value))
    logits = jnp.einsum("qhd,khd->hqk", q, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))
    weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1).astype(v.dtype)
    return jnp.einsum("hqk,khd->qhd", weights, v).reshape(query.shape)


class Conditioning(NamedTuple):
    """The size of a condition c (width,), of so many frequencies of t, and of a label 0..classes-1 where there are classes.

    times: how many times there are, 2 for a flow map.
    """

    width: int
    frequencies: int
    classes: int
    times: int = 1


class Conditioned(nnx.Module):
    """A network of x (*shape,), t () or (2,), label (): its condition is a vector c (width,) of t and the label.

    Input and output layers are attributes of the network itself, all hidden ones lie in lists of blocks, so that an
    optimizer can tell them apart (optimizers.hidden).
    """

    def __init__(self, conditioning: Conditioning, rngs: nnx.Rngs, compute: str):
        width, frequencies, classes, times = conditioning
        self.time_in = nnx.Linear(times * (2 * frequencies or 1), width, rngs=rngs)
        self.time_out = nnx.Linear(width, width, rngs=rngs)
        if classes:
            self.labels = embedding(classes, width, rngs)
        self.frequencies, self.classes, self.compute = frequencies, classes, compute

    @abc.abstractmethod
    def __call__(self, x: Array, t: Scalar | Array, label: Scalar | None = None) -> Array: ...

    @final
    def condition(self, t: Scalar | Array, label: Scalar | None, dtype: Any) -> Array:
        """silu(W silu(V features(t)) + embedding of the label), features cos(pi k t), sin(pi k t)."""
        c = dense(self.time_in, time_features(t, self.frequencies, dtype), self.compute)
        c = dense(self.time_out, silu(c), self.compute)
        if self.classes:
            c += embedded(self.labels, label, self.classes).astype(self.compute)
        return silu(c)


def time_features(t: Scalar | Array, frequencies: int, dtype: Any) -> Array:
    """cos(pi k t), sin(pi k t) for k = 1..frequencies, (2 frequencies,); (t,) itself for 0.

    Of two times t = (s, t) those of s and of t - s, twice as many: a flow map's output changes as fast with the length of the
    jump as with the time where it begins.
    """
    time = jnp.asarray(t, dtype)
    time = time[None] if time.ndim == 0 else jnp.stack([time[0], time[1] - time[0]])
    return fourier_features(jnp.pi * time, frequencies) if frequencies else time


def embedding(classes: int, width: int, rngs: nnx.Rngs) -> nnx.Embed:
    """A vector for each label 0..classes-1, and one for `classes`, "no label" (2207.12598, section 3)."""
    return nnx.Embed(classes + 1, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)


def embedded(table: nnx.Embed, label: Scalar | None, classes: int) -> Array:
    """The label's vector; None is "no label"."""
    return table.embedding[...][classes if label is None else label]


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": silu,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
}
