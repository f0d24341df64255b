"""UniPC (2302.04867): a multistep predictor, corrected by the evaluation that the next step makes anyway."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import GaussianPath, coefficients, log_snr
from diffsde.samplers.multistep import Memory, advance, empty_memory, weights
from diffsde.samplers.sampler import Noise, Sampler
from diffsde.samplers.step_moments import Moments, exponential_moments, rising_moments
from diffsde.types import Array, Scalar, choice

MOST_WIDER = 3.0  # largest ratio of the widths of two steps in lambda at which the predictor extrapolates
DAMPING = 0.2  # of its difference at a step of width h in lambda, with coefficients=t: 1/(1 + DAMPING h^2)


class Corrected(NamedTuple):
    """State of UniPC: the memory, its x predicted only; before (*shape,): the corrected point one step earlier."""

    memory: Memory
    before: Array


@choice
class UniPC(Sampler):
    """UniPC-2 (2302.04867, algorithm 2), on E[z|x]: at t, D = E[z|x] is evaluated at the predicted point; the polynomial through D
    and the two values before corrects the point, and D and one value before predict the next. Order 3.

    coefficients: vary, the polynomials in lambda = log(alpha/beta) with exact integrals (appendix B); bh1, bh2, what the paper
    takes for them where one difference is weighed: 1/2 B(h), B1 = h, B2 = 1 - e^-h; t, the polynomials in t, exact again, the
    predictor's difference times 1/(1 + 0.2 h^2) (DAMPING), h the step's width in lambda: at the end of a wide step E[z|x]
    is all that counts, and would be extrapolated in full. A step more than 3 times (MOST_WIDER) as wide in lambda as the last
    predicts from D alone, with every choice. The last point is predicted only.
    """

    order: ClassVar[int] = 3
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    coefficients: str = "t"

    def start(self, x: Array) -> Corrected:
        return Corrected(empty_memory(x), x)

    def point(self, state: Corrected) -> Array:
        return state.memory.x

    def step(self, field: Field, x: Corrected, t: Scalar, h: Scalar, key: Noise) -> Corrected:
        memory, c, end = x.memory, coefficients(field.path, t), coefficients(field.path, t + h)
        data = field.data(memory.x, t)
        corrected = self.correct(field.path, x, data, t)
        w = self.predictor(field.path, memory, t, h)
        integral = (self.moments(field.path, t, h)[0] - w) * data + w * memory.values[0]
        predicted = end.beta / c.beta * corrected + end.alpha * integral
        return Corrected(advance(memory, predicted, data, t), corrected)

    def place(self, path: GaussianPath, t: Scalar) -> Scalar:
        """The value of the polynomials' variable at t."""
        return t if self.coefficients == "t" else log_snr(path, t)

    def moments(self, path: GaussianPath, t: Scalar, h: Scalar) -> Moments:
        """Integrals of the exponential weight times powers of the variable over a step."""
        if self.coefficients == "t":
            return rising_moments(path, t, h)
        return exponential_moments(log_snr(path, t + h) - log_snr(path, t))

    def predictor(self, path: GaussianPath, memory: Memory, t: Scalar, h: Scalar) -> Scalar:
        """The weight of the value before in the next point; 0 where it is not used."""
        before = memory.places[0]
        width, last = log_snr(path, t + h) - log_snr(path, t), log_snr(path, t) - log_snr(path, before)
        moments, offset = self.moments(path, t, h), self.place(path, before) - self.place(path, t)
        weight = self.single(moments, width) * width / -last if self.published else moments[1] / offset
        damped = weight / (1 + DAMPING * width**2) if self.coefficients == "t" else weight
        return jnp.where((memory.known > 0) & (width / last <= MOST_WIDER), damped, 0.0)

    @property
    def published(self) -> bool:
        """Whether one difference is weighed by half of B(h)."""
        return self.coefficients in ("bh1", "bh2")

    def single(self, moments: Moments, width: Scalar) -> Scalar:
        """B(h)/2, h the width of the step in lambda."""
        return (width if self.coefficients == "bh1" else moments[0]) / 2

    def correct(self, path: GaussianPath, x: Corrected, data: Array, t: Scalar) -> Array:
        """The corrected point at t (*shape,), from the corrected point before and the data predictions at both ends."""
        memory, since = x.memory, x.memory.places[0]
        c, before = coefficients(path, t), coefficients(path, since)
        moments = self.moments(path, since, t - since)
        here, first, second = (self.place(path, r) for r in (t, since, memory.places[1]))
        w0, w1, w2 = weights(moments, here - first, second - first, memory.known + 1)
        if self.published:
            half = self.single(moments, here - first)
            w0, w1 = (jnp.where(memory.known == 1, a, b) for a, b in ((moments[0] - half, w0), (half, w1)))
        integral = w0 * memory.values[0] + w1 * data + w2 * memory.values[1]
        again = c.beta / before.beta * x.before + c.alpha * integral
        return jnp.where((memory.known > 0) & jnp.isfinite(again).all(), again, memory.x)
