"""Adams-Bashforth: multistep methods on the velocity, which ask for no path."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.processes import Process
from diffsde.samplers.multistep import Memory, Multistep, advance, polynomial
from diffsde.samplers.sampler import Noise
from diffsde.types import Array, Scalar, choice


def started(state: Memory, correction: Array, order: int) -> Array:
    """The point; for a method of order 3, after its first step, with that step's error corrected to order 2.

    The first step knows one value only and has an error of h^2, which would limit the whole method to order 2. The second
    value is evaluated anyway: `correction` is what the line through both values adds to the constant first value.
    """
    usable = (state.known == 1) & jnp.isfinite(correction).all()
    return state.x + jnp.where(usable, correction, 0.0) if order >= 3 else state.x


class AdamsBashforth(Multistep):
    """x' = x + integral of the polynomial through the last velocities (explicit Adams, at unequal steps)."""

    needs_field: ClassVar[bool] = False

    def step(self, field: Field | Process, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        u = field.velocity(x.x, t)
        points = jnp.minimum(self.order, x.known + 1)
        point = started(x, (t - x.places[0]) / 2 * (u - x.values[0]), self.order)
        return advance(x, point + polynomial(x, u, t, (h + 0 * t, h**2 / 2, h**3 / 3), points), u, t)


@choice
class AB2(AdamsBashforth):
    """Two-step Adams-Bashforth on the velocity. Order 2."""

    order: ClassVar[int] = 2


@choice
class AB3(AdamsBashforth):
    """Three-step Adams-Bashforth on the velocity. Order 3."""

    order: ClassVar[int] = 3
