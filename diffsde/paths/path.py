"""What every path is: alpha, beta and gamma, their derivatives, as text, and what must hold of them.

A path knows no data and no network. Papers whose time runs from data (0) to noise are translated in these files, once.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.types import Coefficients, Scalar


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


class StraightPath(GaussianPath):
    """alpha = t, beta = 1 - t: straight lines from y to z."""

    def alpha(self, t: Scalar) -> Scalar:
        return t

    def beta(self, t: Scalar) -> Scalar:
        return 1 - t

    def variance(self, t: Scalar) -> Scalar:
        return (1 - t) ** 2


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


def check_on_a_grid(path: GaussianPath) -> None:
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
