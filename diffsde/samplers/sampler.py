"""What a sampler is: one pure step. The loop that repeats it is in loop.py."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.types import Array, Key, Scalar

LAST_STEPS = {
    "step": "the sampler's own step, noise and all",
    "mean": "the sampler's own step without its noise, so that none is left in the sample",
    "denoise": "x = E[z|x] at the last time before the end",
}


class Sampler(abc.ABC):
    """`step` takes one point x (*shape,) from t to t + h > t; no sampler owns a loop.

    order: of the global error in h (weak order for an SDE). evaluations: of the field a step.
    evaluates_end: whether a step looks at the field at t + h, which may be singular at t = 1.
    stochastic: whether a step draws noise. coupled: whether all of it is one standard normal a point, the Brownian
    increment over the step divided by sqrt(h), so that it can be read off a given path.
    adaptive: whether it takes steps of its own within those of the grid, as many evaluations as these need.
    A method with memory carries it as the loop's state: `start` makes the state of a point, `point` reads it back.
    """

    order: ClassVar[int]
    evaluations: ClassVar[int]
    evaluates_end: ClassVar[bool]
    stochastic: ClassVar[bool] = False
    coupled: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False

    def start(self, x: Array) -> Any:
        """The state before the first step; the point itself for a method without memory."""
        return x

    def point(self, state: Any) -> Array:
        """The point x (*shape,) of a state."""
        return state

    @property
    def draws(self) -> int:
        """Normals of a point's shape that a step draws."""
        return int(self.stochastic)

    def nfe(self, steps: int, last: str) -> int:
        """Evaluations of the field that so many steps take, the last by this policy."""
        return (steps - 1) * self.evaluations + 1 if last == "denoise" else steps * self.evaluations

    def spent(self, state: Any) -> Array | None:
        """Evaluations of the field so far, where a method decides on them as it goes; None: `evaluations` a step."""
        return None

    @abc.abstractmethod
    def step(self, field: Field, x: Any, t: Scalar, h: Scalar, key: Noise) -> Any:
        """The state at t + h. key None: the same step without its noise."""


class Increment(NamedTuple):
    """In the place of a key: the increment of a given Brownian path over the step, divided by sqrt(h)."""

    value: Array


class Draws(NamedTuple):
    """In the place of a key: all the normals of a step, (draws, *shape), of which each use takes its own."""

    values: Array


Noise = Key | Increment | Draws | None  # where a step takes its noise from


def gaussian(key: Noise, like: Array) -> Array:
    """Standard normal noise of a point's shape; none at all without a key."""
    if isinstance(key, Increment):
        return key.value
    if isinstance(key, Draws):
        return key.values[0]
    return jnp.zeros_like(like) if key is None else jax.random.normal(key, like.shape, like.dtype)


def split_key(key: Noise, count: int) -> list[Any]:
    """Independent keys for a step that draws more than once; none from none. Raises TypeError for an increment."""
    if isinstance(key, Increment):
        raise TypeError("this sampler draws more than the increment of one Brownian path")
    if isinstance(key, Draws):
        return [Draws(key.values[i : i + 1]) for i in range(count)]
    return [None] * count if key is None else list(jax.random.split(key, count))
