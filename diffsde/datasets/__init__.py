"""Datasets: arrays held on the device, and a draw of one point from them inside the compiled program."""

from __future__ import annotations

from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.dataset import Dataset, FiniteDataset, MixtureDataset, draw_many, measure, point_shape
from diffsde.datasets.mixture import CustomMixture, EightGaussians, Ring
from diffsde.datasets.toys import Checkerboard, Moons, SCurve

DATASETS: dict[str, type[Dataset]] = {
    "gmm": Ring,
    "mixture": CustomMixture,
    "8gaussians": EightGaussians,
    "moons": Moons,
    "scurve": SCurve,
    "checkerboard": Checkerboard,
    "array": ArrayFile,
}

__all__ = ["DATASETS", "Dataset", "FiniteDataset", "MixtureDataset", "draw_many", "measure", "point_shape"]
