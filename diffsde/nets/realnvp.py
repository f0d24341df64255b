"""RealNVP: couplings that scale and shift."""

from __future__ import annotations

import jax.numpy as jnp

from diffsde.nets.coupling_flow import CouplingNet
from diffsde.types import Array, Scalar, choice


@choice
class RealNVP(CouplingNet):
    """A discrete flow of affine couplings, T(b) = e^s b + m, s and m by a network of the coordinates that are kept (1605.08803).

    layers: number of couplings. widths, activation: of the network of each. scale_bound: c; s = c tanh(s'/c) lies within (-c, c), so
    that no layer can stretch by more than e^c.
    """

    layers: int = 12
    widths: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    scale_bound: float = 1.0

    @property
    def numbers(self) -> int:
        return 2

    def forward(self, b: Scalar, theta: Array) -> tuple[Scalar, Scalar]:
        s = self._log_scale(theta)
        return jnp.exp(s) * b + theta[1], s

    def backward(self, b: Scalar, theta: Array) -> Scalar:
        return (b - theta[1]) * jnp.exp(-self._log_scale(theta))

    def fits(self, size: int) -> str | None:
        if size > 1:
            return None
        return (
            "net=realnvp moves one coordinate by another, and the data have one alone; take net=spline, which bends it"
        )

    def _log_scale(self, theta: Array) -> Scalar:
        return self.scale_bound * jnp.tanh(theta[0] / self.scale_bound)
