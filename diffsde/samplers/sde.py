"""Solvers of the SDE dX = [u + sigma_t^2/2 s] dt + sigma_t dW, whose marginals are those of the ODE for every sigma_t."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.samplers.diffusions import Constant, Diffusion
from diffsde.samplers.sampler import Sampler, gaussian
from diffsde.types import Array, Key, Scalar, choice


@choice
class EulerMaruyama(Sampler):
    """x' = x + h (u + sigma_t^2/2 s) + sigma_t sqrt(h) xi, u and s the velocity and score at (x, t). Weak order 1.

    With sigma = 0 it is Euler to the bit.
    """

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    diffusion: Diffusion = dataclasses.field(default_factory=Constant)

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Key | None) -> Array:
        sigma = self.diffusion.sigma(t, coefficients(field.path, t))
        known = field.output(x, t)
        drift = known.velocity + sigma**2 / 2 * known.score
        return x + h * drift + sigma * jnp.sqrt(h) * gaussian(key, x)
