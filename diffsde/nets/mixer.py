"""The patch mixer: tokens mixed by matrices of fixed size, which a CPU multiplies whole batches by; for images."""

from __future__ import annotations

from functools import partial

from flax import nnx

from diffsde.nets.layers import Conditioning, dense, gelu
from diffsde.nets.patches import Block, PatchNet, check_overlap, patching, shape_of_image
from diffsde.types import Array, choice


@choice
class Mixer:
    """MLP-Mixer (2105.01601) on patches, its blocks conditioned like DiT's (2212.09748).

    patch: pixels across a patch, which divides height and width. overlap: pixels that each patch also reads and writes
    beyond its edges, up to `patch`: strokes pass from one patch to the next. width: of a token. mix: of the hidden
    layer across tokens. expand: of the hidden layer in a token, in widths. time_frequencies: as in mlp.
    """

    patch: int = 4
    overlap: int = 2
    width: int = 64
    depth: int = 4
    mix: int = 128
    expand: int = 4
    time_frequencies: int = 16

    def check(self) -> None:
        check_overlap(self.patch, self.overlap)

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int = 1) -> nnx.Module:
        tiles = patching(shape_of_image("mixer", shape), self.patch, self.overlap)
        block = partial(MixerBlock, tiles.rows * tiles.columns, self.mix, self.width, self.expand, rngs, compute)
        blocks, positions = [block] * self.depth, "none"  # the matrices across tokens know them by their places
        conditioning = Conditioning(self.width, self.time_frequencies, classes, times)
        return PatchNet(tiles, blocks, positions, conditioning, rngs, compute)


class MixerBlock(Block):
    """mix(y) = (dense(gelu(dense(y^T))))^T, over the tokens in every channel alike."""

    def __init__(self, tokens: int, mix: int, width: int, expand: int, rngs: nnx.Rngs, compute: str):
        super().__init__(width, expand, rngs, compute)
        self.tokens_in = nnx.Linear(tokens, mix, rngs=rngs)
        self.tokens_out = nnx.Linear(mix, tokens, rngs=rngs)

    def mix(self, y: Array) -> Array:
        # y^T h: under vmap the batch and the channels are the rows of one product; as k^T y it would be one a point
        hidden = gelu(dense(self.tokens_in, y.T, self.compute))
        return dense(self.tokens_out, hidden, self.compute).T
