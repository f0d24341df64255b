"""Gaussian mixtures as datasets: the exact answers of mixtures.py hold for each."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from diffsde.datasets.mixture_law import MixtureDataset
from diffsde.mixtures import Mixture, with_covariances
from diffsde.types import choice, on_device


def _ring(components: int, radius: float, std: float) -> Mixture:
    angles = 2 * np.pi * np.arange(components) / components
    means = radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    equal = np.full((components, 1), std**2), np.full(components, 1 / components)
    return Mixture(*(on_device(each, float) for each in (means, *equal)))


@choice
class Ring(MixtureDataset):
    """gmm: equal components on a ring, the first at angle 0; the published experiment has 11, radius 10, std 1."""

    components: int = 11
    radius: float = 10.0
    std: float = 1.0
    conditional: bool = False

    def mixture(self) -> Mixture:
        return _ring(self.components, self.radius, self.std)


@choice
class EightGaussians(MixtureDataset):
    """8gaussians as torchcfm draws it: radius 5, and covariance sqrt(0.1) I, so a std of 0.1^(1/4) = 0.5623."""

    radius: float = 5.0
    std: float = 0.1**0.25
    conditional: bool = False

    def mixture(self) -> Mixture:
        return _ring(8, self.radius, self.std)


@choice
class Gaussian(MixtureDataset):
    """gaussian: N(mean, std^2), the mixture of one component; its dimension d is that of `mean`.

    std: a number, or d numbers, one a coordinate. A full covariance: dataset=mixture with one of dataset.covariances.
    """

    mean: tuple[float, ...] = (0.0, 0.0)
    std: float | tuple[float, ...] = 1.0

    def check(self) -> None:
        if not self.mean:
            raise ValueError("mean is empty; give a number a coordinate, e.g. [0,0]")
        if isinstance(self.std, tuple) and len(self.std) != len(self.mean):
            raise ValueError(f"std has {len(self.std)} entries for {len(self.mean)} of mean; give one a coordinate")

    def mixture(self) -> Mixture:
        std = np.broadcast_to(np.asarray(self.std, float).reshape(1, -1), (1, np.size(self.std)))
        return Mixture(*(on_device(each, float) for each in (np.asarray([self.mean]), std**2, np.ones(1))))


@choice
class CustomMixture(MixtureDataset):
    """mixture: your own, of any dimension d.

    means: K lists of d numbers; stds: K numbers, or K lists of d numbers (one a coordinate);
    covariances, in the place of stds: K matrices, each d lists of d numbers;
    weights: K positive numbers, made to sum to 1; none given means equal.
    """

    means: tuple[tuple[float, ...], ...] = ((-2.0, 0.0), (2.0, 0.0))
    stds: tuple[float | tuple[float, ...], ...] | None = (0.5, 0.5)
    covariances: tuple[tuple[tuple[float, ...], ...], ...] | None = None
    weights: tuple[float, ...] | None = None
    conditional: bool = False

    def check(self) -> None:
        dimensions = {len(mean) for mean in self.means}
        if len(dimensions) != 1 or 0 in dimensions:
            raise ValueError("means must be a list of equally long lists, e.g. [[-1,0],[1,0]]")
        d, k = dimensions.pop(), len(self.means)
        if (self.stds is None) == (self.covariances is None):
            raise ValueError(
                "give stds or covariances, the other null: dataset.stds=null with dataset.covariances=[...]"
            )
        if self.weights is not None and len(self.weights) != k:
            raise ValueError(f"weights has {len(self.weights)} entries for {k} means; give one a component")
        if self.covariances is not None:
            if len(self.covariances) != k:
                raise ValueError(f"covariances has {len(self.covariances)} entries for {k} means; give one a component")
            for i, rows in enumerate(self.covariances):
                square = len(rows) == d and all(len(row) == d for row in rows)
                if not square or not np.allclose(rows, np.transpose(rows)) or np.linalg.eigvalsh(rows).min() <= 0:
                    raise ValueError(f"covariances[{i}] must be a symmetric, positive definite {d} x {d} matrix")
            return
        assert self.stds is not None
        if len(self.stds) != k:
            raise ValueError(f"stds has {len(self.stds)} entries for {k} means; give one a component")
        sizes = {len(std) if isinstance(std, tuple) else 0 for std in self.stds}
        if len(sizes) != 1 or not sizes <= {0, d}:
            raise ValueError(f"each entry of stds must be a number, or each a list of {d} numbers")

    def mixture(self) -> Mixture:
        means = jnp.asarray(self.means, float)
        weights = jnp.ones(len(self.means)) if self.weights is None else jnp.asarray(self.weights, float)
        weights = weights / weights.sum()
        if self.covariances is not None:
            return with_covariances(means, jnp.asarray(self.covariances, float), weights)
        return Mixture(means, jnp.asarray(self.stds, float).reshape(len(self.means), -1) ** 2, weights)
