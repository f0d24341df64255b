"""Optimizers and learning-rate schedules, from optax; the numbers are traced, so that one program serves all of them."""

from __future__ import annotations

import abc

import jax.numpy as jnp
import optax

from diffsde.types import Scalar, choice

SCHEDULES = ("constant", "cosine")


class Optimizer(abc.ABC):
    """`transform(steps)`: the optax transformation for a run of that many steps."""

    @abc.abstractmethod
    def transform(self, steps: Scalar) -> optax.GradientTransformation: ...


def learning_rate(lr: Scalar, warmup: Scalar, schedule: str, steps: Scalar, step: Scalar) -> Scalar:
    """lr min(1, (step+1)/(warmup+1)), times (1 + cos(pi step/steps))/2 for `cosine`.

    optax's schedules want Python numbers; these are traced.
    """
    rate = lr * jnp.minimum(1.0, (step + 1) / (warmup + 1))
    return rate * (1 + jnp.cos(jnp.pi * jnp.minimum(step / steps, 1.0))) / 2 if schedule == "cosine" else rate


@choice
class Adam(Optimizer):
    """Adam (1412.6980) with linear warm-up over `warmup` steps, then a constant rate or a cosine to 0."""

    lr: float = 1e-2
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    warmup: float = 100.0
    schedule: str = "cosine"

    def check(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}; it must be positive")
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise ValueError(f"b1={self.b1}, b2={self.b2}; both must be in [0, 1)")
        if self.warmup < 0 or self.eps <= 0:
            raise ValueError(f"warmup={self.warmup}, eps={self.eps}; warmup must be 0 or more, eps positive")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is '{self.schedule}'; there are {', '.join(SCHEDULES)}")

    def transform(self, steps: Scalar) -> optax.GradientTransformation:
        def rate(step: Scalar) -> Scalar:
            return learning_rate(self.lr, self.warmup, self.schedule, steps, step)

        return optax.adam(rate, b1=self.b1, b2=self.b2, eps=self.eps)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam}
