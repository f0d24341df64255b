"""Multistep methods: one evaluation per step, and the values of earlier steps from a memory that is the loop's state.

Each method solves y(s') = transfer(y(s)) + integral over [s, s'] of k(r) F(r) dr, where F is replaced by the polynomial
through its last values, at unequal steps:
    Adams-Bashforth (adams.py):     F = u, s = t, k = 1;
    DPM-Solver++ (dpm_solver.py):   F = E[z|x], s = lambda = log(alpha/beta), x' = beta'/beta x + integral of alpha' e^(r - lambda') F dr;
    DEIS (deis.py):                 F = E[eps|x], s = t, lambda or rho = beta/alpha, x'/alpha' = x/alpha + integral of F drho;
    UniPC (unipc.py):               F = E[z|x], s = t or lambda, corrected by the value at the step's end.
The first steps use as many values as there are. All are of Adams' type (only one old point enters), so that unequal steps
cannot make them unstable as long as the weights of the old values stay bounded: wide steps and steps much wider than the
last take fewer of them, or less of their differences.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.paths import GaussianPath, coefficients
from diffsde.samplers.sampler import Sampler
from diffsde.samplers.step_moments import Moments, rising_moments
from diffsde.types import Array, Scalar


class Memory(NamedTuple):
    """State of a multistep method.

    x (*shape,): the point; values (2, *shape): the last two values of F, newest first; places (2,): their s; known (): how
    many of the two there are.
    """

    x: Array
    values: Array
    places: Array
    known: Array


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


def first_correction(path: GaussianPath, start: Scalar, t: Scalar, change: Array) -> Array:
    """What the first step, which knows one value of E[z|x], lacks of one with E[z|x] linear in t; `change` (*shape,): E[z|x]
    at its end, t, less that at its start.

    The second step has evaluated the field there anyway. Of E[z|x] and of t, whatever the method's own polynomials are: on
    ot from t = 0.001 a polynomial of E[eps|x] in rho makes the first step's error 100 times larger, one of E[z|x] in
    lambda makes it 2 times larger than this one (scripts/choose_polynomials.py).
    """
    c = coefficients(path, t)
    added = c.alpha * rising_moments(path, start, t - start)[1] / (t - start) * change
    return jnp.where(jnp.isfinite(added).all(), added, 0.0)
