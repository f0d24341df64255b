"""Gaussian paths x_t = alpha(t) z + beta(t) eps from noise (t = 0) to data (t = 1).

A beta that vanishes is written in 1 - t, so that it neither cancels nor turns negative in float32.
"""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from diffsde.expressions import evaluate_expression
from diffsde.paths.path import GaussianPath, StraightPath, check_on_a_grid
from diffsde.types import Scalar, choice


@choice
class OT(StraightPath):
    """alpha = t, beta = 1 - t: straight lines (rectified flow 2209.03003; conditional OT 2210.02747)."""

    formula: ClassVar[tuple[str, ...]] = ("t", "1-t")


@choice
class Sqrt(GaussianPath):
    """alpha = t, beta = sqrt(1 - t): the path of the published 11-component experiment; dbeta diverges at t = 1."""

    formula: ClassVar[tuple[str, ...]] = ("t", "sqrt(1-t)")

    def alpha(self, t: Scalar) -> Scalar:
        return t

    def beta(self, t: Scalar) -> Scalar:
        return jnp.sqrt(1 - t)

    def variance(self, t: Scalar) -> Scalar:
        return 1 - t


@choice
class Trig(GaussianPath):
    """alpha = sin(pi t/2), beta = cos(pi t/2): variance preserving ("GVP" of SiT, 2401.08740)."""

    formula: ClassVar[tuple[str, ...]] = ("sin(pi*t/2)", "cos(pi*t/2)")

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.sin(jnp.pi / 2 * t)

    def beta(self, t: Scalar) -> Scalar:
        return jnp.sin(jnp.pi / 2 * (1 - t))

    def variance(self, t: Scalar) -> Scalar:
        return jnp.sin(jnp.pi / 2 * (1 - t)) ** 2


@choice
class Cosine(GaussianPath):
    """alpha = sqrt(abar), beta = sqrt(1 - abar), abar = f(1-t)/f(0), f(v) = cos^2((v+s)/(1+s) pi/2) (2102.09672, eq. 17).

    With c = (pi/2)/(1+s): alpha = sin(c t)/cos(s c), beta^2 = sin(c(1-t)) sin(c(1-t+2s))/cos^2(s c), free of cancellation.
    """

    formula: ClassVar[tuple[str, ...]] = ("sin(pi/2*t/(1+offset))/cos(pi/2*offset/(1+offset))", "sqrt(1-alpha**2)")

    offset: float = 0.008

    def alpha(self, t: Scalar) -> Scalar:
        rate = jnp.pi / 2 / (1 + self.offset)
        return jnp.sin(rate * t) / jnp.cos(self.offset * rate)

    def beta(self, t: Scalar) -> Scalar:
        return jnp.sqrt(self.variance(t))

    def variance(self, t: Scalar) -> Scalar:
        rate = jnp.pi / 2 / (1 + self.offset)
        product = jnp.sin(rate * (1 - t)) * jnp.sin(rate * (1 - t + 2 * self.offset))
        return product / jnp.cos(self.offset * rate) ** 2


def _integrated_rate(rate_min: Scalar, rate_max: Scalar, t: Scalar) -> Scalar:
    """B(t) = integral over [0, 1-t] of rate_min + v (rate_max - rate_min) dv."""
    v = 1 - t
    return rate_min * v + (rate_max - rate_min) * v**2 / 2


def _check_rates(rate_min: float, rate_max: float) -> None:
    if not rate_min <= rate_max:
        raise ValueError(f"rate_min={rate_min} and rate_max={rate_max}; they must satisfy rate_min <= rate_max")


@choice
class VP(GaussianPath):
    """alpha = exp(-B/2), beta = sqrt(1 - exp(-B)), B = integral of a linear rate over [0, 1-t] (2011.13456, eq. 32).

    alpha(0) = 0.0066 with the published rates, not 0; the prior is N(0, beta(0)^2 I) nevertheless, as published.
    """

    formula: ClassVar[tuple[str, ...]] = ("exp(-(rate_min*(1-t)+(rate_max-rate_min)*(1-t)**2/2)/2)", "sqrt(1-alpha**2)")

    rate_min: float = 0.1
    rate_max: float = 20.0

    def check(self) -> None:
        _check_rates(self.rate_min, self.rate_max)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.exp(-_integrated_rate(self.rate_min, self.rate_max, t) / 2)

    def beta(self, t: Scalar) -> Scalar:
        return jnp.sqrt(self.variance(t))

    def variance(self, t: Scalar) -> Scalar:
        return -jnp.expm1(-_integrated_rate(self.rate_min, self.rate_max, t))


@choice
class SubVP(GaussianPath):
    """alpha = exp(-B/2), beta = 1 - exp(-B), with VP's B (2011.13456, eq. 29)."""

    formula: ClassVar[tuple[str, ...]] = ("exp(-(rate_min*(1-t)+(rate_max-rate_min)*(1-t)**2/2)/2)", "1-alpha**2")

    rate_min: float = 0.1
    rate_max: float = 20.0

    def check(self) -> None:
        _check_rates(self.rate_min, self.rate_max)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.exp(-_integrated_rate(self.rate_min, self.rate_max, t) / 2)

    def beta(self, t: Scalar) -> Scalar:
        return -jnp.expm1(-_integrated_rate(self.rate_min, self.rate_max, t))

    def variance(self, t: Scalar) -> Scalar:
        return self.beta(t) ** 2


def _check_noise_levels(noise_min: float, noise_max: float) -> None:
    if not noise_min < noise_max:
        raise ValueError(f"noise_min={noise_min} and noise_max={noise_max}; they must satisfy noise_min < noise_max")


@choice
class VE(GaussianPath):
    """alpha = 1, beta = noise_min (noise_max/noise_min)^(1-t) (2011.13456, eq. 30); beta(1) = noise_min, not 0."""

    formula: ClassVar[tuple[str, ...]] = ("1", "noise_min*(noise_max/noise_min)**(1-t)")

    noise_min: float = 0.01
    noise_max: float = 50.0

    def check(self) -> None:
        _check_noise_levels(self.noise_min, self.noise_max)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.ones_like(t)

    def beta(self, t: Scalar) -> Scalar:
        return self.noise_min * (self.noise_max / self.noise_min) ** (1 - t)

    def variance(self, t: Scalar) -> Scalar:
        return self.beta(t) ** 2


@choice
class EDM(GaussianPath):
    """alpha = 1, beta = (max^(1/rho) + t (min^(1/rho) - max^(1/rho)))^rho (2206.00364, eq. 5).

    A uniform grid in t is EDM's grid of noise levels; beta(1) = noise_min, not 0.
    """

    formula: ClassVar[tuple[str, ...]] = ("1", "(noise_max**(1/rho)+t*(noise_min**(1/rho)-noise_max**(1/rho)))**rho")

    noise_min: float = 0.002
    noise_max: float = 80.0
    rho: float = 7.0

    def check(self) -> None:
        _check_noise_levels(self.noise_min, self.noise_max)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.ones_like(t)

    def beta(self, t: Scalar) -> Scalar:
        high, low = self.noise_max ** (1 / self.rho), self.noise_min ** (1 / self.rho)
        return (high + t * (low - high)) ** self.rho

    def variance(self, t: Scalar) -> Scalar:
        return self.beta(t) ** 2


@choice
class Expression(GaussianPath):
    """alpha and beta as expressions in t, differentiated automatically.

    Give `beta`, or `variance` (= beta^2) where beta is a square root whose derivative diverges at t = 1.
    Checked on a grid: finite, alpha >= 0, beta >= 0, alpha/beta strictly increasing.
    """

    alpha_t: str = "t"
    beta_t: str = ""
    variance_t: str = ""

    @property
    def formula(self) -> tuple[str, ...]:  # type: ignore[override]  # as the user wrote them
        return self.alpha_t, self.beta_t or f"sqrt({self.variance_t})"

    def check(self) -> None:
        if bool(self.beta_t) == bool(self.variance_t):
            raise ValueError("give one of beta_t and variance_t, e.g. path.beta_t='(1-t)**2'")
        check_on_a_grid(self)

    def alpha(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.alpha_t, {"t": t})

    def beta(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.beta_t, {"t": t}) if self.beta_t else jnp.sqrt(self.variance(t))

    def variance(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.variance_t, {"t": t}) if self.variance_t else self.beta(t) ** 2
