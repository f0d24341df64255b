"""Exponential integrators: the SDE's linear part solved exactly, E[z|x] constant over the step. DDIM, DDPM, and all between.

With D = E[z|x_t] the SDE reads dX = [dbeta/beta - sigma^2/(2 beta^2)] X dt + [...] D dt + sigma dW, and for constant D
the exact solution over a step is
    x' = alpha' D + beta' (e^(-L/2) eps_hat + sqrt(1 - e^(-L)) xi),   L = integral of sigma_t^2/beta_t^2 dt.
L = 0 is DDIM; memoryless sigma, L = change of log(alpha^2/beta^2), is DDPM's ancestral sampling; as L -> infinity x' depends
on x through D alone.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.samplers.diffusions import Diffusion, Memoryless, integrated_noise_rate
from diffsde.samplers.sampler import Noise, Sampler, gaussian
from diffsde.types import Array, Scalar, choice


@choice
class Exponential(Sampler):
    """x' = alpha' D + beta' (e^(-L/2) eps_hat + sqrt(1 - e^(-L)) xi). Weak order 1.

    sigma = 0: DDIM (2010.02502, eq. 12), which is Euler in (x/alpha, beta/alpha). `memoryless` with sigma = eta: DDIM
    with this eta in continuous time; eta = 1 is DDPM's ancestral step (2006.11239, algorithm 2).
    Regular also at t = 0 if alpha(0) = 0, and at t = 1 if beta(1) = 0.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    diffusion: Diffusion = dataclasses.field(default_factory=Memoryless)

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c = coefficients(field.path, t + h)
        decay = jnp.exp(-integrated_noise_rate(self.diffusion, field.path, t, h) / 2)
        known = field.output(x, t)
        noise = decay * known.noise + jnp.sqrt(jnp.maximum(1 - decay**2, 0)) * gaussian(key, x)
        return c.alpha * known.data + c.beta * noise


@choice
class DDIM(Sampler):
    """x' = alpha' D + beta' eps_hat: the exponential step without noise (2010.02502, eq. 12). Order 1."""

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c, known = coefficients(field.path, t + h), field.output(x, t)
        return c.alpha * known.data + c.beta * known.noise
