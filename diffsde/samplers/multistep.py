"""Multistep methods: one evaluation per step, and the values of earlier steps from a memory that is the loop's state.

Each method solves y(s') = transfer(y(s)) + integral over [s, s'] of k(r) F(r) dr, where F is replaced by the polynomial
through its last values, at unequal steps:
    Adams-Bashforth:   F = u, s = t, k = 1;
    DPM-Solver++:      F = E[z|x], s = lambda = log(alpha/beta), x' = beta'/beta x + integral of alpha' e^(r - lambda') F dr;
    DEIS (rho-AB):     F = E[eps|x], s = rho = beta/alpha, x'/alpha' = x/alpha + integral of F drho.
The first steps use as many values as there are. A step to beta = 0, where lambda is infinite, takes F constant.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients, log_snr
from diffsde.processes import Process
from diffsde.samplers.diffusions import Diffusion, Memoryless, integrated_noise_rate
from diffsde.samplers.sampler import Noise, Sampler, gaussian
from diffsde.types import Array, Scalar, choice

WIDENING = 4.0  # largest ratio of the widths of two steps in log(alpha/beta) at which noisy values are extrapolated


class Memory(NamedTuple):
    """State of a multistep method.

    x (*shape,): the point; values (2, *shape): the last two values of F, newest first; places (2,): their s; known (): how
    many of the two there are.
    """

    x: Array
    values: Array
    places: Array
    known: Array


Moments = tuple[Scalar, Scalar, Scalar]  # integrals of k(r) (r - s)^i over the step, i = 0, 1, 2


def empty_memory(x: Array) -> Memory:
    """The memory before the first step."""
    return Memory(x, jnp.zeros((2, *x.shape), x.dtype), jnp.zeros(2, x.dtype), jnp.zeros((), jnp.int32))


class Multistep(Sampler):
    """Base of the multistep methods: its state is a Memory."""

    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    def start(self, x: Array) -> Memory:
        return empty_memory(x)

    def point(self, state: Memory) -> Array:
        return state.x


def advance(state: Memory, x: Array, value: Array, place: Scalar) -> Memory:
    """The memory with a new point, and a new value of F, at `place`, in front."""
    places = jnp.stack([jnp.asarray(place, state.places.dtype), state.places[0]])
    return Memory(x, jnp.stack([value, state.values[0]]), places, jnp.minimum(state.known + 1, 2))


def weights(moments: Moments, first: Scalar, second: Scalar, points: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Weights of F at s, s + first, s + second that integrate the polynomial through the first `points` of these values."""
    m0, m1, m2 = moments
    p = (m2 - m1 * first) / (second - first)  # the third weight times its offset
    three = (m1 - p) / first, p / second
    two = m1 / first, jnp.zeros_like(m0)
    w1, w2 = (jnp.where(points >= 3, a, jnp.where(points >= 2, b, 0.0)) for a, b in zip(three, two, strict=True))
    return m0 - w1 - w2, w1, w2


def polynomial(state: Memory, value: Array, place: Scalar, moments: Moments, points: Scalar) -> Array:
    """The integral of k F over the step (*shape,), F the polynomial through the new value and the remembered ones."""
    w0, w1, w2 = weights(moments, state.places[0] - place, state.places[1] - place, points)
    return w0 * value + w1 * state.values[0] + w2 * state.values[1]


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


def exponential_moments(h: Scalar) -> Moments:
    """Integrals over [0, h] of e^(r - h) r^i dr, i = 0, 1, 2: by series for h < 0.7, where the closed form cancels."""
    closed = -jnp.expm1(-h), h + jnp.expm1(-h), h**2 - 2 * (h + jnp.expm1(-h))
    small = jnp.minimum(h, 0.7)
    series = []
    for i in range(3):
        term, total = small ** (i + 1) / (i + 1), jnp.zeros_like(small)
        for j in range(12):
            total = total + term
            term = -term * small / (i + j + 2)
        series.append(total)
    m0, m1, m2 = (jnp.where(h < 0.7, a, b) for a, b in zip(series, closed, strict=True))
    return m0, m1, m2


class DPMSolver(Multistep):
    """x' = beta'/beta x + alpha' integral of e^(r - lambda') D(r) dr, D the polynomial in lambda through the last E[z|x]."""

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        data, place = field.data(x.x, t), log_snr(field.path, t)
        points = jnp.where(end.beta > 0, jnp.minimum(self.order, x.known + 1), 1)
        integral = polynomial(x, data, place, self.moments(log_snr(field.path, t + h) - place), points)
        width = place - x.places[0]
        point = started(x, c.alpha * self.moments(width)[1] / width * (data - x.values[0]), self.order)
        return advance(x, end.beta / c.beta * point + end.alpha * integral, data, place)

    def moments(self, h: Scalar) -> Moments:
        return exponential_moments(h)


@choice
class DPMSolverPP2M(DPMSolver):
    """DPM-Solver++(2M) (2211.01095, algorithm 2): D + (D - D_previous) h/(2 h_previous), constant over the step. Order 2."""

    order: ClassVar[int] = 2

    def moments(self, h: Scalar) -> Moments:
        m0 = -jnp.expm1(-h)
        return m0, m0 * h / 2, jnp.zeros_like(m0)


@choice
class DPMSolverPP3M(DPMSolver):
    """DPM-Solver++(3M): the quadratic through three values, its exponential integrals exact (2211.01095, appendix). Order 3."""

    order: ClassVar[int] = 3


@choice
class DPMSolverPP2MSDE(Multistep):
    """The exponential step for any sigma_t with D extrapolated as in DPM-Solver++(2M) (SDE-DPM-Solver++, 2211.01095, eq. 18).

    x' = beta'/beta e^(-L/2) x + (alpha' - alpha beta'/beta e^(-L/2)) D + beta' sqrt(1 - e^(-L)) xi. Weak order 2, found by
    measurement on Gaussian and mixture targets; the paper states none. sigma = 0 is DPM-Solver++(2M).
    A step more than 4 times (WIDENING) as wide as the last, as a grid's last step may be, uses D without extrapolation:
    the difference of two values of D is mostly noise there, and extrapolation would amplify it.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True

    diffusion: Diffusion = dataclasses.field(default_factory=Memoryless)

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        data, place = field.data(x.x, t), log_snr(field.path, t)
        widening = (log_snr(field.path, t + h) - place) / (place - x.places[0])
        usable = (end.beta > 0) & (x.known > 0) & (widening < WIDENING)
        extrapolated = jnp.where(usable, data + widening / 2 * (data - x.values[0]), data)
        decay = jnp.exp(-integrated_noise_rate(self.diffusion, field.path, t, h) / 2)
        keep = end.beta / c.beta * decay
        noise = end.beta * jnp.sqrt(jnp.maximum(1 - decay**2, 0)) * gaussian(key, x.x)
        return advance(x, keep * x.x + (end.alpha - c.alpha * keep) * extrapolated + noise, data, place)


class NoisePolynomial(Multistep):
    """x' = alpha' D + beta' eps + alpha' (integral of the polynomial of eps in rho, less the integral of constant eps).

    rho = beta/alpha is infinite where alpha = 0: a first step from there takes eps constant.
    """

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        known = field.output(x.x, t)
        place = c.beta / c.alpha
        d = jnp.where(x.known > 0, end.beta / end.alpha - place, 0.0)
        change = self.change(x, known.noise, place, d, jnp.minimum(self.order, x.known + 1))
        late = started(x, c.alpha * (place - x.places[0]) / 2 * (known.noise - x.values[0]), self.order) - x.x
        known_end = (
            end.alpha * (known.data + change + jnp.where(x.known > 0, late / c.alpha, 0.0)) + end.beta * known.noise
        )
        return advance(x, known_end, known.noise, place)

    def change(self, x: Memory, noise: Array, place: Scalar, d: Scalar, points: Scalar) -> Array:
        """The integral of the polynomial over [rho, rho + d], less d times its value at rho."""
        place = jnp.where(x.known > 0, place, 0.0)
        return polynomial(x, noise, place, (d, d**2 / 2, d**3 / 3), points) - d * noise


@choice
class DEIS2(NoisePolynomial):
    """DEIS, rho-AB of order 2 (2204.13902, section 3.3): eps linear in rho = beta/alpha. Order 2."""

    order: ClassVar[int] = 2


@choice
class DEIS3(NoisePolynomial):
    """DEIS, rho-AB of order 3 (2204.13902): eps quadratic in rho. Order 3."""

    order: ClassVar[int] = 3


@choice
class IPNDM(NoisePolynomial):
    """iPNDM (2202.09778; 2204.13902, section 4): the DDIM step with eps from the classical Adams-Bashforth weights 23/12, -4/3, 5/12.

    The weights are those for equal steps in rho, whatever the steps are. Order 2 on grids whose steps vary smoothly.
    """

    order: ClassVar[int] = 2

    def change(self, x: Memory, noise: Array, place: Scalar, d: Scalar, points: Scalar) -> Array:
        points = jnp.minimum(3, x.known + 1)
        two, three = (0.5, 0.0), (4 / 3 - 5 / 12, -5 / 12)
        first, second = (
            jnp.where(points >= 3, b, jnp.where(points >= 2, a, 0.0)) for a, b in zip(two, three, strict=True)
        )
        newer, older = noise - x.values[0], x.values[0] - x.values[1]
        return d * (first * newer + second * older)
