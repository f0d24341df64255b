"""Gaussian mixtures as datasets: the exact answers of mixtures.py hold for each."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import MixtureDataset
from diffsde.mixtures import Mixture
from diffsde.types import choice


def _ring(components: int, radius: float, std: float) -> Mixture:
    angles = 2 * np.pi * np.arange(components) / components
    means = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return Mixture(means, jnp.full((components, 1), std**2), jnp.full(components, 1 / components))


@choice
class Ring(MixtureDataset):
    """gmm: equal components on a ring, the first at angle 0; the published experiment has 11, radius 10, std 1."""

    components: int = 11
    radius: float = 10.0
    std: float = 1.0

    def check(self) -> None:
        if self.components < 1:
            raise ValueError(f"components is {self.components}; it must be 1 or more")
        if self.std <= 0 or self.radius < 0:
            raise ValueError(f"std={self.std}, radius={self.radius}; std must be positive and radius 0 or more")

    def mixture(self) -> Mixture:
        return _ring(self.components, self.radius, self.std)


@choice
class EightGaussians(MixtureDataset):
    """8gaussians as torchcfm draws it: radius 5, and covariance sqrt(0.1) I, so a std of 0.1^(1/4) = 0.5623."""

    radius: float = 5.0
    std: float = 0.1**0.25

    def check(self) -> None:
        if self.std <= 0 or self.radius < 0:
            raise ValueError(f"std={self.std}, radius={self.radius}; std must be positive and radius 0 or more")

    def mixture(self) -> Mixture:
        return _ring(8, self.radius, self.std)


@choice
class CustomMixture(MixtureDataset):
    """mixture: your own, of any dimension d.

    means: K lists of d numbers; stds: K numbers, or K lists of d numbers (one a coordinate);
    weights: K positive numbers, made to sum to 1; none given means equal.
    """

    means: tuple[tuple[float, ...], ...] = ((-2.0, 0.0), (2.0, 0.0))
    stds: tuple[float | tuple[float, ...], ...] = (0.5, 0.5)
    weights: tuple[float, ...] | None = None

    def check(self) -> None:
        dimensions = {len(mean) for mean in self.means}
        if len(dimensions) != 1 or 0 in dimensions:
            raise ValueError("means must be a list of equally long lists, e.g. [[-1,0],[1,0]]")
        d, k = dimensions.pop(), len(self.means)
        if len(self.stds) != k:
            raise ValueError(f"stds has {len(self.stds)} entries for {k} means; give one a component")
        sizes = {len(std) if isinstance(std, tuple) else 0 for std in self.stds}
        if len(sizes) != 1 or not sizes <= {0, d}:
            raise ValueError(f"each entry of stds must be a number, or each a list of {d} numbers")
        if min(np.ravel(self.stds)) <= 0:
            raise ValueError("every std must be positive")
        if self.weights is not None and (len(self.weights) != k or min(self.weights) <= 0):
            raise ValueError(f"weights must be {k} positive numbers, one a component")

    def mixture(self) -> Mixture:
        means = jnp.asarray(self.means, float)
        stds = jnp.asarray(self.stds, float).reshape(len(self.means), -1)
        weights = jnp.ones(len(self.means)) if self.weights is None else jnp.asarray(self.weights, float)
        return Mixture(means, stds**2, weights / weights.sum())
