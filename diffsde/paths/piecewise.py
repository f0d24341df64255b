"""A path repeated over consecutive intervals of t, between each two of several laws."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from diffsde.paths.path import GaussianPath
from diffsde.types import Array, Scalar, register


class Place(NamedTuple):
    """Where t is: the number () of its interval, how far it is into it, s in [0, 1], and the interval's length ()."""

    interval: Array
    s: Scalar
    length: Scalar


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Piecewise(GaussianPath):
    """The path `each` between each two neighbours of K + 1 laws, which stand at the times `knots` (K + 1,), from 0 to 1.

    Within an interval of length h, x_t = alpha(s) z + beta(s) y + gamma(s) eps with s = (t - knot)/h, y of the law at its
    beginning, z of that at its end; derivatives are in t, so 1/h times those in s. The bridge of a Brownian motion of strength
    sigma over an interval of length h has gamma sqrt(h): the same Brownian motion in every interval, whatever their lengths.
    """

    each: GaussianPath
    knots: Array

    @property
    def intervals(self) -> int:
        """Number of intervals, K."""
        return self.knots.shape[0] - 1

    def at(self, interval: Array, s: Scalar) -> Scalar:
        """The time t that is s in (0, 1) of the way through an interval (): inside it also where float32 rounds to an end."""
        begin, end = self.knots[interval], self.knots[interval + 1]
        inside = jnp.nextafter(begin, end), jnp.nextafter(end, begin)
        return jnp.clip(begin + s * (end - begin), *inside)

    @property
    def formula(self) -> tuple[str, ...]:  # type: ignore[override]  # of each interval, in s
        return self.each.formula

    @property
    def has_gamma(self) -> bool:
        return self.each.has_gamma

    @property
    def reference_sigma(self) -> Scalar | None:
        return self.each.reference_sigma

    def place(self, t: Scalar) -> Place:
        """The interval of t; a knot belongs to the interval that it begins, the last one to the last interval."""
        k = jnp.clip(jnp.searchsorted(self.knots, t, side="right") - 1, 0, self.intervals - 1)
        length = self.knots[k + 1] - self.knots[k]
        return Place(k, (t - self.knots[k]) / length, length)

    def alpha(self, t: Scalar) -> Scalar:
        return self.each.alpha(self.place(t).s)

    def beta(self, t: Scalar) -> Scalar:
        return self.each.beta(self.place(t).s)

    def variance(self, t: Scalar) -> Scalar:
        return self.each.variance(self.place(t).s)

    def gamma(self, t: Scalar) -> Scalar:
        at = self.place(t)
        return self.each.gamma(at.s) * jnp.sqrt(self._widening(at))

    def gamma_variance(self, t: Scalar) -> Scalar:
        at = self.place(t)
        return self.each.gamma_variance(at.s) * self._widening(at)

    def _widening(self, at: Place) -> Scalar:
        return jnp.ones_like(at.length) if self.reference_sigma is None else at.length
