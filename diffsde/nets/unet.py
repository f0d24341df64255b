"""The U-Net: convolutions at several resolutions, attention at the lowest; for images on an accelerator."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from diffsde.errors import UserError
from diffsde.nets.layers import Conditioned, Conditioning, attention, dense, normalise, silu, zeros
from diffsde.nets.patches import shape_of_image
from diffsde.types import Array, Scalar, choice

GROUPS = 8  # of channels with a common mean and variance; fewer where that leaves less than 4 to a group


@choice
class UNet:
    """Residual blocks on the way down and up, joined by skips (2006.11239, appendix B; scale and shift as in 2105.05233).

    channels: a level each, of half the height and width of the one before. depth: blocks a level, each way.
    heads: of the attention at the last level and between the ways. time_frequencies: as in mlp.
    """

    channels: tuple[int, ...] = (32, 64, 64)
    depth: int = 2
    heads: int = 4
    time_frequencies: int = 16

    def check(self) -> None:
        if not self.channels:
            raise ValueError("channels is []; give one number per level, e.g. [32,64,64]")
        if self.channels[-1] % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide the last level's {self.channels[-1]} channels")

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int = 1) -> nnx.Module:
        height, width, _ = size = shape_of_image("unet", shape)
        factor = 2 ** (len(self.channels) - 1)
        if height % factor or width % factor:
            raise UserError(
                f"net.channels has {len(self.channels)} levels, which want height and width to be multiples of {factor},"
                f" and an image is {height} x {width}; give fewer levels"
            )
        return Convolutional(self, size, rngs, compute, classes, times)


def convolve(layer: nnx.Conv, h: Array, compute: str) -> Array:
    """Over a 3 x 3 neighbourhood, 0 beyond the edges: (H, W, m) -> (H, W, n), in the type `compute`."""
    assert layer.bias is not None
    kernel, bias = layer.kernel[...].astype(compute), layer.bias[...].astype(compute)
    numbers = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(h[None].astype(compute), kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return out[0] + bias


def group_normalise(h: Array) -> Array:
    """GroupNorm without a scale or shift of its own (1803.08494): over pixels and the channels of a group together."""
    height, width, channels = h.shape
    groups = max(1, math.gcd(4 * GROUPS, channels) // 4)
    apart = jnp.moveaxis(h.reshape(height, width, groups, -1), 2, 0)
    return jnp.moveaxis(normalise(apart.reshape(groups, -1)).reshape(apart.shape), 0, 2).reshape(h.shape)


def halve(h: Array) -> Array:
    """The mean of every 2 x 2 pixels."""
    return h.reshape(h.shape[0] // 2, 2, h.shape[1] // 2, 2, -1).mean((1, 3))


def double(h: Array) -> Array:
    """Every pixel four times."""
    return jnp.repeat(jnp.repeat(h, 2, axis=0), 2, axis=1)


class Convolutional(Conditioned):
    """The network of a UNet. The output layer is 0 at first."""

    def __init__(
        self, config: UNet, shape: tuple[int, int, int], rngs: nnx.Rngs, compute: str, classes: int, times: int
    ):
        first, last = config.channels[0], config.channels[-1]
        width = 4 * first
        super().__init__(Conditioning(width, config.time_frequencies, classes, times), rngs, compute)
        self.stem = nnx.Conv(shape[2], first, (3, 3), rngs=rngs)
        levels = [c for c in config.channels for _ in range(config.depth)]
        heads = [config.heads if i >= len(levels) - config.depth else 0 for i in range(len(levels))]

        def residual(inputs: int, outputs: int, heads: int) -> Residual:
            return Residual(inputs, outputs, width, heads, rngs, compute)

        self.down = nnx.List(map(residual, [first, *levels[:-1]], levels, heads))
        self.middle = nnx.List([residual(last, last, config.heads)])
        below = [last, *levels[:0:-1]]
        skips = [a + b for a, b in zip(below, levels[::-1], strict=True)]
        self.up = nnx.List(map(residual, skips, levels[::-1], heads[::-1]))
        self.modulation = nnx.Linear(width, 2 * first, kernel_init=zeros, rngs=rngs)
        self.head = nnx.Conv(first, shape[2], (3, 3), kernel_init=zeros, rngs=rngs)
        self.depth = config.depth

    def __call__(self, x: Array, t: Scalar | Array, label: Scalar | None = None) -> Array:
        c = self.condition(t, label, x.dtype)
        h, kept = convolve(self.stem, x, self.compute).astype(x.dtype), []
        for i, block in enumerate(self.down):
            h = block(halve(h) if i and i % self.depth == 0 else h, c)
            kept.append(h)
        h = self.middle[0](h, c)
        for i, block in enumerate(self.up):
            h = double(h) if i and i % self.depth == 0 else h
            h = block(jnp.concatenate([h, kept.pop()], axis=-1), c)
        scale, shift = dense(self.modulation, c, self.compute).reshape(2, -1)
        return convolve(self.head, silu((1 + scale) * group_normalise(h) + shift), self.compute).astype(x.dtype)


class Residual(nnx.Module):
    """skip(h) + conv(silu(norm(conv(silu(norm(h)))))), then, given heads, h + attention(norm(h)).

    The norms' scales and shifts are linear in the condition; the last layer of each sum is 0 at first.
    """

    def __init__(self, inputs: int, outputs: int, width: int, heads: int, rngs: nnx.Rngs, compute: str):
        self.modulation = nnx.Linear(width, 2 * (inputs + outputs), kernel_init=zeros, rngs=rngs)
        self.first = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.second = nnx.Conv(outputs, outputs, (3, 3), kernel_init=zeros, rngs=rngs)
        if inputs != outputs:
            self.skip = nnx.Linear(inputs, outputs, rngs=rngs)
        if heads:
            self.query, self.key, self.value = (nnx.Linear(outputs, outputs, rngs=rngs) for _ in range(3))
            self.out = nnx.Linear(outputs, outputs, kernel_init=zeros, rngs=rngs)
        self.inputs, self.outputs, self.heads, self.compute = inputs, outputs, heads, compute

    def __call__(self, h: Array, c: Array) -> Array:
        modulation = dense(self.modulation, c, self.compute)
        before, after = modulation[: 2 * self.inputs].reshape(2, -1), modulation[2 * self.inputs :].reshape(2, -1)
        y = convolve(self.first, silu((1 + before[0]) * group_normalise(h) + before[1]), self.compute)
        y = convolve(self.second, silu((1 + after[0]) * group_normalise(y.astype(h.dtype)) + after[1]), self.compute)
        if self.inputs != self.outputs:
            pixels = dense(self.skip, h.reshape(-1, self.inputs), self.compute)
            h = pixels.reshape(y.shape).astype(h.dtype)
        h = h + y
        return h + self.attention(h) if self.heads else h

    def attention(self, h: Array) -> Array:
        """Self-attention over the pixels."""
        pixels = group_normalise(h).reshape(-1, self.outputs)
        query, key, value = (dense(layer, pixels, self.compute) for layer in (self.query, self.key, self.value))
        return dense(self.out, attention(query, key, value, self.heads), self.compute).reshape(h.shape)
