"""Paths with gamma, x_t = alpha(t) z + beta(t) y + gamma(t) eps: noise is added between the source y and the data z."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from diffsde.expressions import evaluate_expression, evaluate_square
from diffsde.paths.path import GaussianPath, StraightPath, check_ends, check_on_a_grid
from diffsde.types import Scalar, choice


class _Widened(GaussianPath):
    """A path with gamma; one of the classes below."""

    @property
    def has_gamma(self) -> bool:
        return True


@choice
class Bridge(_Widened, StraightPath):
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
class ICFM(_Widened, StraightPath):
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
        check_on_a_grid(self)
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
