"""The network that suits the points and the machine."""

from __future__ import annotations

from flax import nnx

from diffsde.nets.mixer import Mixer
from diffsde.nets.mlp import MLP
from diffsde.nets.net import Net
from diffsde.nets.unet import UNet
from diffsde.types import choice


@choice
class Auto:
    """An mlp for points that are no images; for images a mixer on CPU, where its products are cheap, else a unet.

    It stands for one of them until `settle` has said which.
    """

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module:
        raise TypeError("net=auto has to be settled before it is made")


def settle(net: Net, shape: tuple[int, ...], backend: str) -> Net:
    """The net itself, or what `auto` means for points of this shape on this backend (jax.default_backend())."""
    if not isinstance(net, Auto):
        return net
    if len(shape) != 3:
        return MLP()
    return fitting_mixer(shape) if backend == "cpu" else fitting_unet(shape)


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
