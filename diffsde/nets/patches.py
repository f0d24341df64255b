"""Networks of patches: an image as tokens, blocks that mix them under a condition, and tokens as an image again."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffsde.errors import UserError
from diffsde.nets.layers import Conditioned, Conditioning, dense, gelu, normalise, zeros
from diffsde.types import Array, Scalar

Shape = tuple[int, ...]


def shape_of_image(name: str, shape: Shape) -> tuple[int, int, int]:
    """The shape (H, W, C) of an image. Raises UserError for points of another shape."""
    if len(shape) != 3:
        raise UserError(f"net: {name} is for images (height, width, channels), and a point has shape {shape}; take mlp")
    return shape


class Patching(NamedTuple):
    """An image as rows x columns windows, `patch` pixels apart and reaching `overlap` beyond, of so many numbers each."""

    rows: int
    columns: int
    patch: int
    overlap: int
    window: int


def patching(shape: tuple[int, int, int], patch: int, overlap: int) -> Patching:
    """The windows of an image (H, W, C). Raises UserError for a patch that does not tile it."""
    height, width, channels = shape
    if height % patch or width % patch:
        fitting = [n for n in range(1, min(height, width) + 1) if height % n == 0 and width % n == 0]
        raise UserError(
            f"net.patch is {patch}, which does not divide an image of {height} x {width};"
            f" take one of {', '.join(map(str, fitting))}"
        )
    return Patching(height // patch, width // patch, patch, overlap, (patch + 2 * overlap) ** 2 * channels)


def check_overlap(patch: int, overlap: int) -> None:
    """Raise ValueError for windows that reach past their neighbours, or not to their own edges."""
    if not 0 <= overlap <= patch:
        raise ValueError(f"overlap is {overlap}; it must be in 0..{patch}, no more than patch")


def patchify(x: Array, patch: int, overlap: int) -> Array:
    """Windows of patch + 2 overlap pixels square, `patch` apart, zero beyond the edge: (H, W, C) -> (tokens, window).

    A token is a window's rows, its pixels, their channels, flat; tokens go row by row. overlap: 0..patch.
    """
    return (
        _windows(_windows(x, patch, overlap, 0), patch, overlap, 2)
        .transpose(0, 2, 1, 3, 4)
        .reshape(x.shape[0] // patch * (x.shape[1] // patch), -1)
    )


def _windows(x: Array, patch: int, overlap: int, axis: int) -> Array:
    """One axis (n,) as (n/patch, patch + 2 overlap)."""
    own = x.reshape(*x.shape[:axis], -1, patch, *x.shape[axis + 1 :])
    if not overlap:
        return own
    count = own.shape[axis]

    def shifted(by: int) -> Array:
        padding = [(0, 0)] * own.ndim
        padding[axis] = (max(by, 0), max(-by, 0))
        return jax.lax.slice_in_dim(jnp.pad(own, padding), max(-by, 0), max(-by, 0) + count, axis=axis)

    before = jax.lax.slice_in_dim(shifted(1), patch - overlap, patch, axis=axis + 1)
    after = jax.lax.slice_in_dim(shifted(-1), 0, overlap, axis=axis + 1)
    return jnp.concatenate([before, own, after], axis=axis + 1)


def unpatchify(tokens: Array, shape: Shape, patch: int, overlap: int) -> Array:
    """Windows laid back where `patchify` took them, overlaps added: its transpose, and for overlap = 0 its inverse."""
    like = jax.ShapeDtypeStruct(shape, tokens.dtype)
    return jax.linear_transpose(lambda x: patchify(x, patch, overlap), like)(tokens)[0]


def sincos_position_embedding(rows: int, columns: int, width: int) -> np.ndarray:
    """Fixed positions (rows columns, width) (1706.03762, section 3.5, in two dimensions as in 2212.09748): a quarter each
    sin, cos of row and sin, cos of column, at frequencies 10000^(-i/(width/4)).
    """
    rates = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    i, j = (np.outer(index.ravel(), rates) for index in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(i), np.cos(i), np.sin(j), np.cos(j)], axis=1)


class Block(nnx.Module):
    """h + g1 mix(a1 norm(h) + b1), then h + g2 dense(gelu(dense(a2 norm(h) + b2))) (2212.09748, section 3.2, adaLN-zero).

    a - 1, b, g are linear in the condition and 0 at first: a fresh block changes nothing. h (tokens, width) keeps x's type.
    """

    def __init__(self, width: int, expand: int, rngs: nnx.Rngs, compute: str):
        self.modulation = nnx.Linear(width, 6 * width, kernel_init=zeros, rngs=rngs)
        self.channels_in = nnx.Linear(width, expand * width, rngs=rngs)
        self.channels_out = nnx.Linear(expand * width, width, rngs=rngs)
        self.compute = compute

    @abc.abstractmethod
    def mix(self, y: Array) -> Array:
        """What tokens learn of each other: (tokens, width) -> (tokens, width)."""

    @final
    def __call__(self, h: Array, c: Array) -> Array:
        modulation = dense(self.modulation, c, self.compute).reshape(6, -1)
        scale, shift, gate, channel_scale, channel_shift, channel_gate = modulation
        h = h + gate * self.mix((1 + scale) * normalise(h) + shift)
        y = (1 + channel_scale) * normalise(h) + channel_shift
        return h + channel_gate * dense(self.channels_out, gelu(dense(self.channels_in, y, self.compute)), self.compute)


class PatchNet(Conditioned):
    """Patches -> tokens -> blocks -> patches. The output layer is 0 at first.

    positions: sincos, learned, or none where the blocks tell tokens apart by themselves. A token is as wide as the condition.
    """

    def __init__(
        self,
        tiles: Patching,
        blocks: Sequence[Callable[[], Block]],
        positions: str,
        conditioning: Conditioning,
        rngs: nnx.Rngs,
        compute: str,
    ):
        super().__init__(conditioning, rngs, compute)
        width = conditioning.width
        self.stem = nnx.Linear(tiles.window, width, rngs=rngs)
        if positions == "learned":
            start = 0.02 * jax.random.normal(rngs.params(), (tiles.rows * tiles.columns, width))
            self.places = nnx.Param(start)
        self.blocks = nnx.List([block() for block in blocks])
        self.modulation = nnx.Linear(width, 2 * width, kernel_init=zeros, rngs=rngs)
        self.head = nnx.Linear(width, tiles.window, kernel_init=zeros, rngs=rngs)
        self.tiles, self.positions = tiles, positions

    def __call__(self, x: Array, t: Scalar | Array, label: Scalar | None = None) -> Array:
        c = self.condition(t, label, x.dtype)
        h = dense(self.stem, patchify(x, self.tiles.patch, self.tiles.overlap), self.compute).astype(x.dtype)
        if self.positions == "sincos":
            h += jnp.asarray(sincos_position_embedding(self.tiles.rows, self.tiles.columns, h.shape[-1]), h.dtype)
        elif self.positions == "learned":
            h += self.places[...]
        for block in self.blocks:
            h = block(h, c)
        scale, shift = dense(self.modulation, c, self.compute).reshape(2, -1)
        tokens = dense(self.head, (1 + scale) * normalise(h) + shift, self.compute).astype(x.dtype)
        return unpatchify(tokens, x.shape, self.tiles.patch, self.tiles.overlap)
