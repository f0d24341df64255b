"""Paths x_t = alpha(t) z + beta(t) y + gamma(t) eps from a source y (t = 0), here noise, to data z (t = 1).

gamma = 0 but for the paths at the end, which lie between any two laws. A path knows no data and no network. Papers whose time runs from data (0) to noise are translated here, once.
A beta that vanishes is written in 1 - t, so that it neither cancels nor turns negative in float32.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.expressions import evaluate_expression, evaluate_square
from diffsde.types import Coefficients, Scalar, choice


class GaussianPath(abc.ABC):
    """A Gaussian path: alpha, beta and variance = beta^2 as functions of t () in [0, 1]; alpha/beta strictly increases.

    `variance` is a method of its own because dvariance stays finite where dbeta diverges; `gamma_variance` = gamma^2 likewise.
    formula: alpha and beta, and gamma where the path has one, as text, in t, the path's own numbers and (for beta) alpha: for
    display by `written` only.
    """

    formula: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def alpha(self, t: Scalar) -> Scalar:
        """The coefficient alpha(t) of the data, ()."""

    @abc.abstractmethod
    def beta(self, t: Scalar) -> Scalar:
        """The coefficient beta(t) of the noise, its std, ()."""

    @abc.abstractmethod
    def variance(self, t: Scalar) -> Scalar:
        """beta(t)^2, ()."""

    @property
    def has_gamma(self) -> bool:
        """Whether noise gamma(t) eps is added between the source and the data."""
        return False

    def gamma(self, t: Scalar) -> Scalar:
        """The coefficient gamma(t) of the noise that is added between source and data, ()."""
        return jnp.zeros_like(t)

    def gamma_variance(self, t: Scalar) -> Scalar:
        """gamma(t)^2, ()."""
        return jnp.zeros_like(t)

    @property
    def reference_sigma(self) -> Scalar | None:
        """The strength of the Brownian motion of which the path is the bridge; None: of none."""
        return None


def coefficients(path: GaussianPath, t: Scalar) -> Coefficients:
    """alpha, beta, dalpha, dbeta and beta dbeta at one time t (), and those of gamma, by forward-mode differentiation."""
    t = jnp.asarray(t, jnp.result_type(float))
    one = jnp.ones_like(t)
    alpha, dalpha = jax.jvp(lambda s: jnp.asarray(path.alpha(s), s.dtype), (t,), (one,))
    beta, dbeta = jax.jvp(lambda s: jnp.asarray(path.beta(s), s.dtype), (t,), (one,))
    _, dvariance = jax.jvp(lambda s: jnp.asarray(path.variance(s), s.dtype), (t,), (one,))
    found = Coefficients(alpha, beta, dalpha, dbeta, dvariance / 2)
    if not path.has_gamma:
        return found
    gamma, dgamma = jax.jvp(lambda s: jnp.asarray(path.gamma(s), s.dtype), (t,), (one,))
    _, dvariance = jax.jvp(lambda s: jnp.asarray(path.gamma_variance(s), s.dtype), (t,), (one,))
    return found._replace(gamma=gamma, dgamma=dgamma, gamma_dgamma=dvariance / 2)


def log_snr(path: GaussianPath, t: Scalar) -> Scalar:
    """lambda(t) = log(alpha/beta), half the log signal-to-noise ratio (2206.00927)."""
    return jnp.log(path.alpha(t)) - jnp.log(path.beta(t))


def written(path: GaussianPath) -> tuple[str, ...]:
    """alpha(t) and beta(t), and gamma(t) where the path has one, as text, with the values of the path's numbers."""
    values = {field.name: getattr(path, field.name) for field in dataclasses.fields(path)}  # type: ignore[arg-type]
    numbers = {name: f"{value:g}" for name, value in values.items() if isinstance(value, float)}
    return tuple(re.sub(r"[a-z_]+", lambda word: numbers.get(word[0], word[0]), text) for text in path.formula)


ENDS_TOLERATED = 0.01  # how far alpha and beta may be from 0 and 1 at the ends of a path between two laws


def check_ends(path: GaussianPath) -> None:
    """Raise ValueError for a path that does not lead from the source, alpha = 0 and beta = 1, to the data, alpha = 1 and beta = 0."""
    for t, wanted in ((0.0, (0, 1)), (1.0, (1, 0))):
        found = float(path.alpha(t)), float(path.beta(t))
        if any(abs(value - right) > ENDS_TOLERATED for value, right in zip(found, wanted, strict=True)):
            raise ValueError(
                f"alpha({t:g})={found[0]:.4g} and beta({t:g})={found[1]:.4g}; between two laws they must be {wanted[0]} and"
                f" {wanted[1]}: take path=ot, trig, bridge or interpolant"
            )


@choice
class OT(GaussianPath):
    """alpha = t, beta = 1 - t: straight lines (rectified flow 2209.03003; conditional OT 2210.02747)."""

    formula: ClassVar[tuple[str, ...]] = ("t", "1-t")

    def alpha(self, t: Scalar) -> Scalar:
        return t

    def beta(self, t: Scalar) -> Scalar:
        return 1 - t

    def variance(self, t: Scalar) -> Scalar:
        return (1 - t) ** 2


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


def _check_on_a_grid(path: GaussianPath) -> None:
    """Raise ValueError unless alpha, beta and gamma are finite and not negative, and alpha/beta strictly increases."""
    with jax.enable_x64(True):  # an increase as slow as t^3 near 0 is lost in float32
        times = jnp.linspace(0.0, 1.0, 1001)
        alpha, beta, gamma = (
            np.asarray(jax.vmap(f)(times) * jnp.ones(1001)) for f in (path.alpha, path.beta, path.gamma)
        )
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        bad = ~(np.isfinite(value) & (value >= -1e-6))
        if bad.any():
            raise ValueError(f"{name} is {value[bad.argmax()]:.4g} at t={times[bad.argmax()]:.3f}; it must be >= 0")
    # logarithms do not underflow however fast beta vanishes; at the ends alpha or beta may be 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(alpha[1:-1]) - np.log(beta[1:-1])
    flat = ~(np.diff(ratio) > 0)
    if flat.any():
        raise ValueError(
            f"alpha/beta does not increase at t={times[flat.argmax() + 1]:.3f}; it must increase from noise to data"
        )


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
        _check_on_a_grid(self)

    def alpha(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.alpha_t, {"t": t})

    def beta(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.beta_t, {"t": t}) if self.beta_t else jnp.sqrt(self.variance(t))

    def variance(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.variance_t, {"t": t}) if self.variance_t else self.beta(t) ** 2


class _Widened(GaussianPath):
    """A path with gamma; one of the classes below."""

    @property
    def has_gamma(self) -> bool:
        return True


class _StraightWidened(_Widened):
    """alpha = t, beta = 1 - t, and a gamma."""

    def alpha(self, t: Scalar) -> Scalar:
        return t

    def beta(self, t: Scalar) -> Scalar:
        return 1 - t

    def variance(self, t: Scalar) -> Scalar:
        return (1 - t) ** 2


@choice
class Bridge(_StraightWidened):
    """alpha = t, beta = 1 - t, gamma = sigma sqrt(t(1-t)): the bridge of the Brownian motion sigma dW (2307.03672; 2303.16852).

    dgamma diverges at both ends; (gamma^2)'/2 = sigma^2 (1/2 - t).
    """

    formula: ClassVar[tuple[str, ...]] = ("t", "1-t", "sigma*sqrt(t*(1-t))")

    sigma: float = 1.0

    def gamma(self, t: Scalar) -> Scalar:
        return self.sigma * jnp.sqrt(t * (1 - t))

    def gamma_variance(self, t: Scalar) -> Scalar:
        return self.sigma**2 * t * (1 - t)

    @property
    def reference_sigma(self) -> Scalar:
        return self.sigma


@choice
class ICFM(_StraightWidened):
    """alpha = t, beta = 1 - t, and a constant gamma = sigma (2302.00482): p_0 and p_1 are source and data, widened by noise of std sigma."""

    formula: ClassVar[tuple[str, ...]] = ("t", "1-t", "sigma")

    sigma: float = 0.1

    def gamma(self, t: Scalar) -> Scalar:
        return self.sigma * jnp.ones_like(t)

    def gamma_variance(self, t: Scalar) -> Scalar:
        return self.sigma**2 * jnp.ones_like(t)


@choice
class Interpolant(_Widened):
    """alpha, beta and gamma as expressions in t (2303.08797), differentiated automatically.

    Their squares are found in the expressions, (sqrt(a))^2 = a, so that (gamma^2)' is finite where gamma' is not. Checked on a
    grid as `expression` is; and alpha = 0, beta = 1 at t = 0, alpha = 1, beta = 0 at t = 1.
    """

    alpha_t: str = "t"
    beta_t: str = "1-t"
    gamma_t: str = "sqrt(t*(1-t))"

    @property
    def formula(self) -> tuple[str, ...]:  # type: ignore[override]  # as the user wrote them
        return self.alpha_t, self.beta_t, self.gamma_t

    def check(self) -> None:
        _check_on_a_grid(self)
        check_ends(self)

    def alpha(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.alpha_t, {"t": t})

    def beta(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.beta_t, {"t": t})

    def variance(self, t: Scalar) -> Scalar:
        return evaluate_square(self.beta_t, {"t": t})

    def gamma(self, t: Scalar) -> Scalar:
        return evaluate_expression(self.gamma_t, {"t": t})

    def gamma_variance(self, t: Scalar) -> Scalar:
        return evaluate_square(self.gamma_t, {"t": t})


PATHS: dict[str, type[GaussianPath]] = {
    "ot": OT,
    "sqrt": Sqrt,
    "trig": Trig,
    "cosine": Cosine,
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "expression": Expression,
    "bridge": Bridge,
    "icfm": ICFM,
    "interpolant": Interpolant,
}
GAUSSIAN = tuple(name for name, path in PATHS.items() if not path().has_gamma)  # those that lead from noise alone
