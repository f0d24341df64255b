"""The network that suits the points and the machine."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from flax import nnx

from diffsde.nets.mixer import Mixer
from diffsde.nets.mlp import MLP
from diffsde.nets.net import Net
from diffsde.nets.unet import UNet
from diffsde.types import choice

# Up to so many coordinates the mlp sees harmonics of x, beyond it has a gated skip: of four components in 5 dimensions the
# latter's KL divergence is 0.018 where the former's is 0.023, in half the time.
HARMONIC_DIMENSION = 4
SKIP_RANK = 256  # of the gated skip, at most: its cost grows with rank times dimension
# Hidden widths beyond that dimension: a unit for so many points, since more would learn the points by heart. Of 2000 rows
# of 100 correlated columns (floor of the law 1.075) widths of 32 leave held-out rows a loss of 1.076, widths of 128 1.125.
POINTS_PER_UNIT = 64
WIDTHS = (32, 128)  # the least and the most


@choice
class Auto:
    """For points an mlp, by their dimension and number; for images a mixer on CPU, where its products are cheap, else a unet.

    Up to 4 coordinates that is the default mlp; of more, one without harmonics of x, which would swamp the coordinates
    themselves, with a gated skip of rank min(d, 256) instead, and two layers of 128, fewer than 8192 points less, down to
    32. It stands for one of them until `choose_net` has said which.
    widths, activation, time_frequencies, space_frequencies, gated_skip: as in mlp; null: what suits. Given one, images get
    an mlp too.
    """

    widths: tuple[int, ...] | None = None
    activation: str | None = None
    time_frequencies: int | None = None
    space_frequencies: int | None = None
    gated_skip: int | None = None

    def check(self) -> None:
        MLP(**set_fields(self)).check()

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int, times: int = 1) -> nnx.Module:
        raise TypeError("net=auto has to be chosen before it is made")


def set_fields(net: Auto) -> dict[str, Any]:
    """The fields that are not left to be chosen."""
    return {name: value for name, value in vars(net).items() if value is not None}


def choose_net(net: Net, shape: tuple[int, ...], points: int | None, backend: str) -> Net:
    """The net itself, or what `auto` means for so many points (None: without end) of this shape on this backend.

    backend: jax.default_backend(). Once a run has begun, its folder records the net that was chosen.
    """
    if not isinstance(net, Auto):
        return net
    words = set_fields(net)
    if len(shape) != 3 or words:
        return dataclasses.replace(fitting_mlp(math.prod(shape), points), **words)
    return fitting_mixer(shape) if backend == "cpu" else fitting_unet(shape)


def fitting_mlp(dimension: int, points: int | None) -> MLP:
    """The default mlp for few coordinates, one with a gated skip for many."""
    if dimension <= HARMONIC_DIMENSION:
        return MLP()
    least, most = WIDTHS
    width = most if points is None else min(most, max(least, points // POINTS_PER_UNIT))
    return MLP(widths=(width, width), space_frequencies=0, gated_skip=min(dimension, SKIP_RANK))


def fitting_mixer(shape: tuple[int, ...]) -> Mixer:
    """The default mixer; its patch the largest that divides the image, up to a quarter of it, and overlap half of that."""
    most = max(1, min(Mixer.patch, *(side // 4 for side in shape[:2])))
    patch = next(n for n in range(most, 0, -1) if shape[0] % n == 0 and shape[1] % n == 0)
    return Mixer(patch=patch, overlap=(patch + 1) // 2)


def fitting_unet(shape: tuple[int, ...]) -> UNet:
    """The default U-Net, with as many of its levels as height and width can be halved for."""
    levels = next(
        n for n in range(len(UNet.channels), 0, -1) if shape[0] % 2 ** (n - 1) == 0 and shape[1] % 2 ** (n - 1) == 0
    )
    return UNet(channels=UNet.channels[:levels])
