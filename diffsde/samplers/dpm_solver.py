"""DPM-Solver++ (2211.01095): multistep methods on E[z|x], the polynomial in lambda = log(alpha/beta)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients, log_snr
from diffsde.samplers.diffusions import Diffusion, Memoryless, integrated_noise_rate
from diffsde.samplers.multistep import Memory, Multistep, advance, first_correction, polynomial, weights
from diffsde.samplers.sampler import Noise, gaussian
from diffsde.samplers.step_moments import exponential_moments
from diffsde.types import Scalar, choice

WIDENING = 4.0  # largest ratio of the widths of two steps in log(alpha/beta) at which noisy values are extrapolated
MOST_WIDER = 3.0  # the same for values without noise, by scripts/choose_polynomials.py
DAMPING = 0.05  # of the first difference at a step of width h in log(alpha/beta): 1/(1 + DAMPING h^2)


@choice
class DPMSolverPP2M(Multistep):
    """DPM-Solver++(2M) (2211.01095, algorithm 2): D + (D - D_previous) h/(2 h_previous), constant over the step. Order 2."""

    order: ClassVar[int] = 2

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        data, place = field.data(x.x, t), log_snr(field.path, t)
        points = jnp.where(end.beta > 0, jnp.minimum(2, x.known + 1), 1)
        width = log_snr(field.path, t + h) - place
        m0 = -jnp.expm1(-width)
        integral = polynomial(x, data, place, (m0, m0 * width / 2, jnp.zeros_like(m0)), points)
        return advance(x, end.beta / c.beta * x.x + end.alpha * integral, data, place)


@choice
class DPMSolverPP3M(Multistep):
    """DPM-Solver++(3M): the quadratic through three values, its exponential integrals exact (2211.01095, appendix). Order 3.

    Over a step of width h in lambda the first difference counts 1/(1 + 0.05 h^2) of itself (DAMPING), the second one this
    divided by 1 + h, which keeps the order: the end of a wide step depends on E[z|x] at the step's end alone, so that
    differences would be extrapolated there in full. A step more than 3 times (MOST_WIDER) as wide as the last takes none.
    After the first step its error is corrected to order 2 (first_correction).
    """

    order: ClassVar[int] = 3

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        path = field.path
        c, end = coefficients(path, t), coefficients(path, t + h)
        data, place = field.data(x.x, t), log_snr(path, t)
        before, older = log_snr(path, x.places[0]), log_snr(path, x.places[1])
        late = first_correction(path, x.places[0], t, data - x.values[0])
        point = x.x + jnp.where(x.known == 1, late, 0.0)
        width = log_snr(path, t + h) - place
        usable = (end.beta > 0) & (width / (place - before) <= MOST_WIDER)
        even = (place - before) / (before - older) <= MOST_WIDER
        moments = exponential_moments(width)
        lower, upper = (weights(moments, before - place, older - place, points)[1:] for points in (2, 3))
        first = 1 / (1 + DAMPING * width**2)
        second = jnp.where((x.known >= 2) & even, first / (1 + width), 0.0)
        w1, w2 = (
            jnp.where((x.known > 0) & usable, first * a + jnp.where(second > 0, second * (b - a), 0.0), 0.0)
            for a, b in zip(lower, upper, strict=True)
        )
        integral = (moments[0] - w1 - w2) * data + w1 * x.values[0] + w2 * x.values[1]
        return advance(x, end.beta / c.beta * point + end.alpha * integral, data, t)


@choice
class DPMSolverPP2MSDE(Multistep):
    """The exponential step for any sigma_t with D extrapolated as in DPM-Solver++(2M) (SDE-DPM-Solver++, 2211.01095, eq. 18).

    x' = beta'/beta e^(-L/2) x + (alpha' - alpha beta'/beta e^(-L/2)) D + beta' sqrt(1 - e^(-L)) xi. Weak order 2, found by
    measurement on Gaussian and mixture targets; the paper states none. sigma = 0 is DPM-Solver++(2M).
    A step more than 4 times (WIDENING) as wide as the last, as a grid's last step may be, uses D without extrapolation:
    the difference of two values of D is mostly noise there, and extrapolation would amplify it.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True

    diffusion: Diffusion = dataclasses.field(default_factory=Memoryless)

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        data, place = field.data(x.x, t), log_snr(field.path, t)
        widening = (log_snr(field.path, t + h) - place) / (place - x.places[0])
        usable = (end.beta > 0) & (x.known > 0) & (widening < WIDENING)
        extrapolated = jnp.where(usable, data + widening / 2 * (data - x.values[0]), data)
        decay = jnp.exp(-integrated_noise_rate(self.diffusion, field.path, t, h) / 2)
        keep = end.beta / c.beta * decay
        noise = end.beta * jnp.sqrt(jnp.maximum(1 - decay**2, 0)) * gaussian(key, x.x)
        return advance(x, keep * x.x + (end.alpha - c.alpha * keep) * extrapolated + noise, data, place)
