"""The choices of net=; with them flax is imported."""

from __future__ import annotations

from diffsde.nets.auto import Auto, choose_net
from diffsde.nets.classifier import ClassifierNet
from diffsde.nets.dit import DiT
from diffsde.nets.mixer import Mixer
from diffsde.nets.mlp import MLP
from diffsde.nets.net import Net
from diffsde.nets.pair import PairNet
from diffsde.nets.unet import UNet

NETS: dict[str, type[Net]] = {"auto": Auto, "mlp": MLP, "mixer": Mixer, "dit": DiT, "unet": UNet}

__all__ = ["MLP", "NETS", "Auto", "ClassifierNet", "DiT", "Mixer", "PairNet", "UNet", "choose_net"]
