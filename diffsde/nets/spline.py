"""Neural spline flows: couplings by monotonic rational-quadratic splines."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffsde.nets.coupling_flow import CouplingNet
from diffsde.types import Array, Scalar, choice

LEAST = 1e-3  # width and height of a bin, as a share of the interval, and the least slope at a knot


@choice
class Spline(CouplingNet):
    """A discrete flow of spline couplings: T is a monotonic rational-quadratic spline on [-bound, bound], and the identity beyond
    (1906.04032).

    layers: number of couplings. widths, activation: of the network of each. bins: pieces of T. bound: in stds of the data, since
    x is standardised; points beyond it are not moved.
    """

    layers: int = 6
    widths: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    bins: int = 8
    bound: float = 4.0

    @property
    def numbers(self) -> int:
        return 3 * self.bins - 1

    def forward(self, b: Scalar, theta: Array) -> tuple[Scalar, Scalar]:
        inside, knots = jnp.abs(b) < self.bound, knots_of(theta, self.bins, self.bound)
        at = bin_at(knots, jnp.where(inside, b, 0), knots.x)
        share = (jnp.where(inside, b, 0) - at.x) / at.width
        value, log_slope = rational_quadratic(at, share)
        return jnp.where(inside, value, b), jnp.where(inside, log_slope, 0)

    def backward(self, b: Scalar, theta: Array) -> Scalar:
        inside, knots = jnp.abs(b) < self.bound, knots_of(theta, self.bins, self.bound)
        y = jnp.where(inside, b, 0)
        at = bin_at(knots, y, knots.y)
        return jnp.where(inside, at.x + at.width * share_at(at, y), b)


class Knots(NamedTuple):
    """The knots (x_k, y_k) of a spline and its slopes there, each (bins + 1,)."""

    x: Array
    y: Array
    slope: Array


class Bin(NamedTuple):
    """One bin: its lower left knot, width and height, and the slopes at its ends, each ()."""

    x: Scalar
    y: Scalar
    width: Scalar
    height: Scalar
    low: Scalar
    high: Scalar


def knots_of(theta: Array, bins: int, bound: float) -> Knots:
    """The spline of numbers theta (3 bins - 1,): widths, heights, and slopes at the inner knots; those at the ends are 1.

    theta = 0 is the identity.
    """
    x, y = (edges(part, bound) for part in (theta[:bins], theta[bins : 2 * bins]))
    one = math.log(math.expm1(1 - LEAST))  # softplus(one) = 1 - LEAST
    inner = LEAST + jax.nn.softplus(theta[2 * bins :] + one)
    return Knots(x, y, jnp.pad(inner, 1, constant_values=1.0))


def edges(raw: Array, bound: float) -> Array:
    """Edges (bins + 1,) from -bound to bound, each bin a share LEAST of the interval or more."""
    bins = len(raw)
    share = jnp.cumsum(LEAST + (1 - LEAST * bins) * jax.nn.softmax(raw))[:-1]
    return jnp.concatenate([jnp.array([-1.0], raw.dtype), 2 * share - 1, jnp.array([1.0], raw.dtype)]) * bound


def bin_at(knots: Knots, value: Scalar, along: Array) -> Bin:
    """The bin in which a value lies, by its place among the knots' x or y."""
    which = jnp.sum(value >= along[1:-1])
    chosen = jnp.arange(len(along) - 1) == which  # a sum over few bins: on a CPU faster than a gather for each point

    def pick(values: Array) -> Scalar:
        return jnp.sum(jnp.where(chosen, values, 0))

    x, y, low, high = (pick(each) for each in (knots.x[:-1], knots.y[:-1], knots.slope[:-1], knots.slope[1:]))
    return Bin(x, y, pick(jnp.diff(knots.x)), pick(jnp.diff(knots.y)), low, high)


def rational_quadratic(at: Bin, share: Scalar) -> tuple[Scalar, Scalar]:
    """(the spline, the log of its slope) in a bin, at a share () in [0, 1] of its width (1906.04032, eq. 4 and 5)."""
    mean, rest = at.height / at.width, 1 - share
    below = mean + (at.high + at.low - 2 * mean) * share * rest
    value = at.y + at.height * (mean * share**2 + at.low * share * rest) / below
    slope = at.high * share**2 + 2 * mean * share * rest + at.low * rest**2
    return value, 2 * jnp.log(mean) + jnp.log(slope) - 2 * jnp.log(below)


def share_at(at: Bin, y: Scalar) -> Scalar:
    """The share of a bin's width at which the spline is y (1906.04032, eq. 6 to 8)."""
    mean, up = at.height / at.width, y - at.y
    bend = up * (at.high + at.low - 2 * mean)
    a, b, c = at.height * (mean - at.low) + bend, at.height * at.low - bend, -mean * up
    root = jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0))
    falls = b < 0  # there -b - root would cancel; a is positive, since c is not
    return jnp.where(falls, (root - b) / jnp.where(falls, 2 * a, 1), 2 * c / jnp.where(falls, 1, -b - root))
