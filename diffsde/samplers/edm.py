"""EDM's stochastic sampler (2206.00364, algorithm 2), on any path."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.samplers.sampler import Noise, Sampler, gaussian
from diffsde.time_distributions import invert_log_snr
from diffsde.types import Array, Scalar, choice


@choice
class EDMHeun(Sampler):
    """Noise is added (churn), then a Heun step in the noise level is taken (2206.00364, algorithm 2), on any path.

    In y = x/alpha and nu = beta/alpha, where dy/dnu = (y - D)/nu:
        nu^ = (1 + churn) nu where s_min <= nu <= s_max, y^ = y + s_noise sqrt(nu^2^ - nu^2) xi,
        then Heun from nu^ to nu', starting at y^. Order 2 with churn = 0.
    churn is EDM's gamma, S_churn/steps, at most sqrt(2) - 1. Start where alpha > 0.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 2
    evaluates_end: ClassVar[bool] = True

    churn: float = 0.0
    s_min: float = 0.0
    s_max: float = 1e9
    s_noise: float = 1.0

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        nu, nu_end = c.beta / c.alpha, end.beta / end.alpha
        gamma = jnp.where((nu >= self.s_min) & (nu <= self.s_max), self.churn, 0.0)
        nu_hat = nu * (1 + gamma)
        y = x / c.alpha + self.s_noise * jnp.sqrt(jnp.maximum(nu_hat**2 - nu**2, 0)) * gaussian(key, x)
        t_hat = jnp.where(gamma > 0, invert_log_snr(field.path, -jnp.log(nu_hat)), t)

        def slope(y: Array, t: Scalar, nu: Scalar) -> Array:
            return (y - field.data(y * coefficients(field.path, t).alpha, t)) / nu

        first = slope(y, t_hat, nu_hat)
        euler = y + (nu_end - nu_hat) * first
        heun = y + (nu_end - nu_hat) / 2 * (first + slope(euler, t + h, nu_end))
        return end.alpha * jnp.where(nu_end > 0, heun, euler)
