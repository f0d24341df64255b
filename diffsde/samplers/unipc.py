"""UniPC (2302.04867): a multistep predictor, corrected by the evaluation that the next step makes anyway."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients, log_snr
from diffsde.samplers.multistep import Memory, advance, empty_memory, exponential_moments, polynomial, weights
from diffsde.samplers.sampler import Noise, Sampler
from diffsde.types import Array, Scalar, choice


class Corrected(NamedTuple):
    """State of UniPC: the memory, its x predicted only; before (*shape,): the corrected point one step earlier; its time ()."""

    memory: Memory
    before: Array
    t_before: Array


@choice
class UniPC(Sampler):
    """UniPC-2 with varying coefficients (2302.04867, algorithm 2 and appendix B), on E[z|x].

    At t, D = E[z|x] is evaluated at the predicted point; the polynomial through D and the two values before corrects the
    point, and the polynomial through D and one value before predicts the next. The last point is predicted only. Order 3.
    """

    order: ClassVar[int] = 3
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    def start(self, x: Array) -> Corrected:
        return Corrected(empty_memory(x), x, jnp.zeros((), x.dtype))

    def point(self, state: Corrected) -> Array:
        return state.memory.x

    def step(self, field: Field, x: Corrected, t: Scalar, h: Scalar, key: Noise) -> Corrected:
        memory, c, end = x.memory, coefficients(field.path, t), coefficients(field.path, t + h)
        data, place = field.data(memory.x, t), log_snr(field.path, t)
        corrected = self.correct(field, x, data, place, t)
        points = jnp.where(end.beta > 0, jnp.minimum(2, memory.known + 1), 1)
        integral = polynomial(memory, data, place, exponential_moments(log_snr(field.path, t + h) - place), points)
        predicted = end.beta / c.beta * corrected + end.alpha * integral
        return Corrected(advance(memory, predicted, data, place), corrected, jnp.asarray(t, x.t_before.dtype))

    def correct(self, field: Field, x: Corrected, data: Array, place: Scalar, t: Scalar) -> Array:
        """The corrected point at t (*shape,), from the corrected point before and the data predictions at both ends."""
        memory, c, before = x.memory, coefficients(field.path, t), coefficients(field.path, x.t_before)
        width = place - memory.places[0]
        w0, w1, w2 = weights(exponential_moments(width), width, memory.places[1] - memory.places[0], memory.known + 1)
        integral = w0 * memory.values[0] + w1 * data + w2 * memory.values[1]
        again = c.beta / before.beta * x.before + c.alpha * integral
        return jnp.where((memory.known > 0) & jnp.isfinite(width), again, memory.x)
