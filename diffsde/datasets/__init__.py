"""Datasets: arrays held on the device, and a draw of one point from them inside the compiled program."""

from __future__ import annotations

from diffsde.datasets.array_files import are_images
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.dataset import Dataset, Examples, draw_many, point_shape
from diffsde.datasets.digits import Digits
from diffsde.datasets.drifting import Drifting
from diffsde.datasets.finite import Batch, Buffer, FiniteDataset
from diffsde.datasets.fixed import FixedPoints
from diffsde.datasets.folder import ImageFolder
from diffsde.datasets.mixture import CustomMixture, EightGaussians, Gaussian, Ring
from diffsde.datasets.mixture_law import MixtureDataset
from diffsde.datasets.mnist import MNIST, FashionMNIST
from diffsde.datasets.snapshot_files import SnapshotFiles
from diffsde.datasets.snapshots import Snapshots
from diffsde.datasets.toys import Checkerboard, Circles, Moons, Pinwheel, SCurve, Spirals, SwissRoll

DATASETS: dict[str, type[Dataset]] = {
    "gmm": Ring,
    "mixture": CustomMixture,
    "8gaussians": EightGaussians,
    "gaussian": Gaussian,
    "moons": Moons,
    "circles": Circles,
    "spirals": Spirals,
    "swiss_roll": SwissRoll,
    "pinwheel": Pinwheel,
    "scurve": SCurve,
    "checkerboard": Checkerboard,
    "fixed": FixedPoints,
    "digits": Digits,
    "mnist": MNIST,
    "fashion_mnist": FashionMNIST,
    "image_folder": ImageFolder,
    "array": ArrayFile,
    "snapshots": SnapshotFiles,
    "drifting": Drifting,
}

__all__ = [
    "DATASETS",
    "Batch",
    "Buffer",
    "Dataset",
    "Examples",
    "FiniteDataset",
    "FixedPoints",
    "MixtureDataset",
    "Snapshots",
    "are_images",
    "draw_many",
    "point_shape",
]
