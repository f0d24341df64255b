"""Samplers of flow maps: few steps, each a jump that the field knows."""

from __future__ import annotations

from typing import ClassVar

from diffsde.fields import FlowMap
from diffsde.paths import coefficients
from diffsde.samplers.sampler import Noise, Sampler, gaussian
from diffsde.types import Array, Scalar, choice


@choice
class FlowMapJumps(Sampler):
    """x' = X_{t,t+h}(x), the flow map's jump (2505.18825): of an exact map any number of steps ends at the same point."""

    order: ClassVar[int] = 0
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False
    jumps: ClassVar[bool] = True
    usual_steps: ClassVar[int | None] = 1

    def step(self, field: FlowMap, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        return field.jump(x, t, t + h)


@choice
class Consistency(Sampler):
    """x' = alpha(t+h) X_{t,1}(x) + beta(t+h) eps: to the data and back by fresh noise (2303.01469, algorithm 1)."""

    order: ClassVar[int] = 0
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True
    jumps: ClassVar[bool] = True
    usual_steps: ClassVar[int | None] = 2

    def step(self, field: FlowMap, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c = coefficients(field.path, t + h)
        return c.alpha * field.jump(x, t, 1.0) + c.beta * gaussian(key, x)
