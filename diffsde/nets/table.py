"""The choices of net=; with them flax is imported."""

from __future__ import annotations

from diffsde.nets.auto import Auto, choose_net
from diffsde.nets.classifier import ClassifierNet
from diffsde.nets.coupling_flow import CouplingNet
from diffsde.nets.dit import DiT
from diffsde.nets.mixer import Mixer
from diffsde.nets.mlp import MLP
from diffsde.nets.net import Net
from diffsde.nets.pair import PairNet
from diffsde.nets.realnvp import RealNVP
from diffsde.nets.spline import Spline
from diffsde.nets.unet import UNet

NETS: dict[str, type[Net]] = {
    "auto": Auto,
    "mlp": MLP,
    "mixer": Mixer,
    "dit": DiT,
    "unet": UNet,
    "realnvp": RealNVP,
    "spline": Spline,
}

__all__ = [
    "MLP",
    "NETS",
    "Auto",
    "ClassifierNet",
    "CouplingNet",
    "DiT",
    "Mixer",
    "PairNet",
    "RealNVP",
    "Spline",
    "UNet",
    "choose_net",
]
