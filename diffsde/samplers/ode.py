"""Solvers of an ODE dX = u_t(X) dt: a field's probability flow, or a process without noise."""

from __future__ import annotations

from typing import ClassVar

from diffsde.fields import Field
from diffsde.processes import Process
from diffsde.samplers.sampler import Noise, Sampler
from diffsde.types import Array, Scalar, choice


@choice
class Euler(Sampler):
    """x' = x + h u(x, t). Order 1."""

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False
    needs_field: ClassVar[bool] = False

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        return x + h * field.velocity(x, t)


@choice
class Heun(Sampler):
    """x~ = x + h u(x, t), x' = x + h/2 (u(x, t) + u(x~, t + h)): the explicit trapezoidal rule. Order 2."""

    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    evaluates_end: ClassVar[bool] = True
    needs_field: ClassVar[bool] = False

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        u = field.velocity(x, t)
        return x + h / 2 * (u + field.velocity(x + h * u, t + h))


@choice
class Midpoint(Sampler):
    """x' = x + h u(x + h/2 u(x, t), t + h/2). Order 2."""

    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    evaluates_end: ClassVar[bool] = False
    needs_field: ClassVar[bool] = False

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        return x + h * field.velocity(x + h / 2 * field.velocity(x, t), t + h / 2)


@choice
class RK4(Sampler):
    """The classical Runge-Kutta method. Order 4."""

    order: ClassVar[int] = 4
    evaluations: ClassVar[int] = 4
    evaluates_end: ClassVar[bool] = True
    needs_field: ClassVar[bool] = False

    def step(self, field: Field | Process, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        k1 = field.velocity(x, t)
        k2 = field.velocity(x + h / 2 * k1, t + h / 2)
        k3 = field.velocity(x + h / 2 * k2, t + h / 2)
        k4 = field.velocity(x + h * k3, t + h)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
