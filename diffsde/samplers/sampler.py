"""The sampler interface: one pure step from t to t + h. The loop that repeats it is in loop.py."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.types import Array, Key, Scalar

LAST_STEPS = {
    "step": "the sampler's own step, noise and all",
    "mean": "the sampler's own step without its noise, so that none is left in the sample",
    "denoise": "x = E[z|x] at the last time before the end",
}


class Sampler(abc.ABC):
    """A method for the ODE or the SDE: `step` takes one point x (*shape,) from t to t + h > t; no sampler owns a loop.

    order: of the global error in h (weak order for an SDE). evaluations: of the field, per step.
    evaluates_end: whether a step evaluates the field at t + h, which may be singular at t = 1.
    stochastic: whether a step draws noise. coupled: whether a step's noise is one standard normal (*shape,), so that it can
    be the increment of a given Brownian path over the step, divided by sqrt(h).
    needs_field: whether a step asks for what only a field on a path has: alpha and beta, the score, E[z|x]. Where not, it takes
    any process (processes/) too, of which it asks the velocity alone, or the drift and the diffusion.
    jumps: whether a step asks for the field's jump, which flow maps alone know. usual_steps: how many steps are taken where
    `steps` is null; None: as many as a trial on the field says.
    adaptive: whether the method takes steps of its own within each step of the grid, with as many evaluations as needed.
    A method with memory carries the memory as the loop's state: `start` makes the state of a point, `point` reads the point.
    """

    order: ClassVar[int]
    evaluations: ClassVar[int]
    evaluates_end: ClassVar[bool]
    stochastic: ClassVar[bool] = False
    coupled: ClassVar[bool] = False
    needs_field: ClassVar[bool] = True
    adaptive: ClassVar[bool] = False
    jumps: ClassVar[bool] = False
    usual_steps: ClassVar[int | None] = None

    @property
    def needs(self) -> str:
        """What of a field between two laws a step asks for: its `velocity`, its `score` too, or that its path is `gaussian`."""
        return "gaussian" if self.needs_field else "score" if self.stochastic else "velocity"

    def start(self, x: Array) -> Any:
        """The state before the first step; the point itself for a method without memory."""
        return x

    def point(self, state: Any) -> Array:
        """The point x (*shape,) of a state."""
        return state

    @property
    def draws(self) -> int:
        """Number of standard normals (*shape,) that a step draws."""
        return int(self.stochastic)

    def nfe(self, steps: int, last: str) -> int:
        """Evaluations of the field in `steps` steps, the last by the policy `last` (LAST_STEPS)."""
        return (steps - 1) * self.evaluations + 1 if last == "denoise" else steps * self.evaluations

    def spent(self, state: Any) -> Array | None:
        """Evaluations of the field so far, for an adaptive method; None: `evaluations` per step."""
        return None

    @abc.abstractmethod
    def step(self, field: Any, x: Any, t: Scalar, h: Scalar, key: Noise) -> Any:
        """The state at t + h, from the state x at t. field: a Field, or a Process where `needs_field` is False. key None: the
        same step without its noise.
        """


class Increment(NamedTuple):
    """Noise in place of a key: the increment (*shape,) of a given Brownian path over the step, divided by sqrt(h)."""

    value: Array


class Draws(NamedTuple):
    """Noise in place of a key: all standard normals of a step, (draws, *shape), one per draw."""

    values: Array


Noise = Key | Increment | Draws | None  # the source of a step's noise; None: no noise


def gaussian(key: Noise, like: Array) -> Array:
    """Standard normal noise of the shape of `like`; 0 where the key is None."""
    if isinstance(key, Increment):
        return key.value
    if isinstance(key, Draws):
        return key.values[0]
    return jnp.zeros_like(like) if key is None else jax.random.normal(key, like.shape, like.dtype)


def split_key(key: Noise, count: int) -> list[Any]:
    """`count` independent sources of noise for a step that draws more than once. Raises TypeError for an Increment."""
    if isinstance(key, Increment):
        raise TypeError("this sampler draws more than the increment of one Brownian path")
    if isinstance(key, Draws):
        return [Draws(key.values[i : i + 1]) for i in range(count)]
    return [None] * count if key is None else list(jax.random.split(key, count))
