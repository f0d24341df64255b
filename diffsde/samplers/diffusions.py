"""Diffusion coefficients sigma_t of the SDE dX = [u + sigma_t^2/2 grad log p_t] dt + sigma_t dW.

The marginals are p_t for every choice of sigma_t. sigma is never the path's noise scale, which is beta.
"""

from __future__ import annotations

import abc

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.expressions import evaluate_expression
from diffsde.paths import GaussianPath, coefficients, log_snr
from diffsde.types import Coefficients, Scalar, choice


class Diffusion(abc.ABC):
    """A diffusion coefficient: sigma_t as a function of t and the path's coefficients, times the number `sigma`."""

    sigma: float

    @abc.abstractmethod
    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        """sigma_t () at time t, c the path's coefficients at t."""


@choice
class Constant(Diffusion):
    """sigma_t = sigma, the same at all times."""

    sigma: float = 0.5

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.sigma * jnp.ones_like(c.beta)


@choice
class Vanishing(Diffusion):
    """sigma_t = sigma beta: vanishes with the path's own noise."""

    sigma: float = 1.0

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.sigma * c.beta


@choice
class SquareRoot(Diffusion):
    """sigma_t = sigma sqrt(beta)."""

    sigma: float = 1.0

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.sigma * jnp.sqrt(c.beta)


@choice
class Bump(Diffusion):
    """sigma_t = sigma sin(pi t): 0 at both ends."""

    sigma: float = 1.0

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.sigma * jnp.sin(jnp.pi * t)


@choice
class Memoryless(Diffusion):
    """sigma_t = sigma sqrt(2 eta), eta = beta^2 dalpha/alpha - beta dbeta (2409.08861); sigma = 1 reverses the forward SDE.

    Infinite at t = 0 wherever alpha(0) = 0 (ot: sigma^2 = 2(1-t)/t): start later, with grid.start.

    sigma = 1 also minimises a bound on the error. With errors e_u of the velocity and e_s of the score, Girsanov bounds
    KL(data || samples) by the integral over t of E|e_u + sigma_t^2/2 e_s|^2/(2 sigma_t^2) (2303.08797, section 2.4),
    smallest at each t for sigma_t^4 = 4 E|e_u|^2/E|e_s|^2. One field has one error: u = (dalpha/alpha) x + eta s, so that
    e_u = eta e_s, and the minimum is at sigma_t^2 = 2 eta, whatever the error is.
    """

    sigma: float = 1.0

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.sigma * jnp.sqrt(2 * (c.beta**2 * c.dalpha / c.alpha - c.beta_dbeta))


@choice
class ExpressionDiffusion(Diffusion):
    """sigma_t = sigma times an expression in t, alpha, beta and (between two laws) gamma, e.g. "beta * (1 + alpha)"."""

    sigma: float = 1.0
    sigma_t: str = "beta"

    def check(self) -> None:
        half = jnp.asarray(0.5)
        self.sigma_at(half, Coefficients(half, half, half, half, half))

    def sigma_at(self, t: Scalar, c: Coefficients) -> Scalar:
        sigma = evaluate_expression(self.sigma_t, {"t": t, "alpha": c.alpha, "beta": c.beta, "gamma": c.gamma})
        return self.sigma * sigma * jnp.ones_like(c.beta)


# Nodes (about 1/2) and weights of Gauss-Legendre on [0, 1], an open rule: sigma or 1/beta may be infinite at the ends.
NODES, WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(8))


def integrated_noise_rate(diffusion: Diffusion, path: GaussianPath, t: Scalar, h: Scalar) -> Scalar:
    """L = integral of sigma_t^2/beta_t^2 over [t, t + h], (): the old noise in x decays by the factor e^(-L/2).

    Exact for `memoryless`: sigma^2 times the change of log(alpha^2/beta^2), infinite if alpha(t) = 0 or beta(t + h) = 0.
    For the others by 8-point Gauss-Legendre quadrature, which needs no evaluation of the field.
    """
    if isinstance(diffusion, Memoryless):
        return 2 * diffusion.sigma**2 * (log_snr(path, t + h) - log_snr(path, t))

    def rate(node: Scalar) -> Scalar:
        c = coefficients(path, t + h * node)
        return (diffusion.sigma_at(t + h * node, c) / c.beta) ** 2

    return h * jnp.sum(jnp.asarray(WEIGHTS) * jax.vmap(rate)(jnp.asarray(NODES + 0.5)))


DIFFUSIONS: dict[str, type[Diffusion]] = {
    "constant": Constant,
    "vanishing": Vanishing,
    "sqrt": SquareRoot,
    "bump": Bump,
    "memoryless": Memoryless,
    "expression": ExpressionDiffusion,
}
