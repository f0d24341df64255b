"""sigma_t of the sampling SDE dX = [u + sigma_t^2/2 grad log p_t] dt + sigma_t dW: the marginals are p_t for every choice.

sigma is never the path's noise scale, which is beta.
"""

from __future__ import annotations

import abc

import jax.numpy as jnp

from diffsde.types import Coefficients, Scalar, choice


class Diffusion(abc.ABC):
    """sigma_t from t and the path's coefficients, times `scale`."""

    scale: float

    def check(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"scale (sigma) is {self.scale}; it must be 0 or more")

    @abc.abstractmethod
    def sigma(self, t: Scalar, c: Coefficients) -> Scalar: ...


@choice
class Constant(Diffusion):
    """sigma_t = scale."""

    scale: float = 0.5

    def sigma(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.scale * jnp.ones_like(c.beta)


@choice
class Vanishing(Diffusion):
    """sigma_t = scale beta: the noise dies with the path's own."""

    scale: float = 1.0

    def sigma(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.scale * c.beta


@choice
class SquareRoot(Diffusion):
    """sigma_t = scale sqrt(beta)."""

    scale: float = 1.0

    def sigma(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.scale * jnp.sqrt(c.beta)


@choice
class Bump(Diffusion):
    """sigma_t = scale sin(pi t): none at either end."""

    scale: float = 1.0

    def sigma(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.scale * jnp.sin(jnp.pi * t)


@choice
class Memoryless(Diffusion):
    """sigma_t = scale sqrt(2 eta), eta = beta^2 dalpha/alpha - beta dbeta (2409.08861); scale = 1 reverses the forward SDE.

    Infinite at t = 0 wherever alpha(0) = 0 (ot: sigma^2 = 2(1-t)/t): start later, with grid.start.
    """

    scale: float = 1.0

    def sigma(self, t: Scalar, c: Coefficients) -> Scalar:
        return self.scale * jnp.sqrt(2 * (c.beta**2 * c.dalpha / c.alpha - c.beta_dbeta))


DIFFUSIONS: dict[str, type[Diffusion]] = {
    "constant": Constant,
    "vanishing": Vanishing,
    "sqrt": SquareRoot,
    "bump": Bump,
    "memoryless": Memoryless,
}
