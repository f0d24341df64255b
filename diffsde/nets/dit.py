"""The diffusion transformer: attention across patches; for images on an accelerator."""

from __future__ import annotations

from functools import partial

from flax import nnx

from diffsde.nets.layers import Conditioning, attention, dense
from diffsde.nets.patches import Block, PatchNet, check_overlap, patching, shape_of_image
from diffsde.types import Array, choice

POSITIONS = {
    "sincos": "fixed sines and cosines of row and column (2212.09748)",
    "learned": "a trained vector a place",
    "none": "the blocks do not know where a patch lies",
}


@choice
class DiT:
    """DiT with adaLN-zero (2212.09748, section 3.2).

    patch: pixels across a patch, which divides height and width. overlap: pixels that each patch also reads and writes
    beyond its edges, up to `patch`. width: of a token. heads: of the attention, which divide the width. expand: of the
    hidden layer in a token, in widths. positions: what tells the patches apart (POSITIONS). time_frequencies: as in mlp.
    """

    patch: int = 2
    overlap: int = 0
    width: int = 256
    depth: int = 6
    heads: int = 4
    expand: int = 4
    positions: str = "sincos"
    time_frequencies: int = 16

    def check(self) -> None:
        check_overlap(self.patch, self.overlap)
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide width={self.width}")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"width is {self.width}; positions=sincos needs a multiple of 4")

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int = 1) -> nnx.Module:
        tiles = patching(shape_of_image("dit", shape), self.patch, self.overlap)
        block = partial(TransformerBlock, self.heads, self.width, self.expand, rngs, compute)
        blocks = [block] * self.depth
        conditioning = Conditioning(self.width, self.time_frequencies, classes, times)
        return PatchNet(tiles, blocks, self.positions, conditioning, rngs, compute)


class TransformerBlock(Block):
    """mix: multi-head self-attention (1706.03762, section 3.2)."""

    def __init__(self, heads: int, width: int, expand: int, rngs: nnx.Rngs, compute: str):
        super().__init__(width, expand, rngs, compute)
        self.query, self.key, self.value, self.out = (nnx.Linear(width, width, rngs=rngs) for _ in range(4))
        self.heads = heads

    def mix(self, y: Array) -> Array:
        query, key, value = (dense(layer, y, self.compute) for layer in (self.query, self.key, self.value))
        return dense(self.out, attention(query, key, value, self.heads), self.compute)
