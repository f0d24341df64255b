"""Solvers of an SDE: of a field the generative one, dX = [u + sigma_t^2/2 s] dt + sigma_t dW, or any process's."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.processes import Process
from diffsde.samplers.diffusions import Constant, Diffusion
from diffsde.samplers.generative import process_of
from diffsde.samplers.sampler import Noise, Sampler, gaussian
from diffsde.types import Array, Scalar, choice


@choice
class EulerMaruyama(Sampler):
    """x' = x + h b + sigma_t sqrt(h) xi, b the drift at (x, t): of a field u + sigma_t^2/2 s. Weak order 1.

    With sigma = 0 it equals Euler bit for bit.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False
    needs_field: ClassVar[bool] = False

    diffusion: Diffusion = dataclasses.field(default_factory=Constant)

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        drift, sigma = process_of(field, self.diffusion).at(x, t)
        return x + h * drift + sigma * jnp.sqrt(h) * gaussian(key, x)


@choice
class StochasticHeun(Sampler):
    """x~ = x + h a + sigma sqrt(h) xi, x' = x + h/2 (a(x, t) + a(x~, t + h)) + (sigma + sigma')/2 sqrt(h) xi, a = u + sigma^2/2 s.

    Weak order 2, since the noise is additive (Kloeden & Platen 1992, section 15.1); sigma = 0 is Heun. Where a process's
    diffusion depends on x the step would converge to Stratonovich's solution, not to Ito's: `simulate` refuses that.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True
    evaluations: ClassVar[int] = 2
    evaluates_end: ClassVar[bool] = True
    needs_field: ClassVar[bool] = False

    diffusion: Diffusion = dataclasses.field(default_factory=Constant)

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        process, noise = process_of(field, self.diffusion), jnp.sqrt(h) * gaussian(key, x)
        a, sigma = process.at(x, t)
        a_end, sigma_end = process.at(x + h * a + sigma * noise, t + h)
        return x + h / 2 * (a + a_end) + (sigma + sigma_end) / 2 * noise


@choice
class ReverseDiffusion(Sampler):
    """x' = (2 - a) x + b^2 s + b xi: the reverse of the discrete forward chain x_t = a x_t' + b xi (2011.13456, eq. 46).

    a = alpha/alpha', b^2 = beta^2 - a^2 beta'^2. Weak order 1; it discretises the SDE with memoryless sigma.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        a = c.alpha / end.alpha
        b2 = c.beta**2 - (a * end.beta) ** 2
        return (2 - a) * x + b2 * field.score(x, t) + jnp.sqrt(jnp.maximum(b2, 0)) * gaussian(key, x)
