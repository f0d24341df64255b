"""Discrete flows: a density by an invertible network, sampled in one pass. They have no time, and so no velocity: no field."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffsde.fields import bound
from diffsde.nets import Graph, flow_backward, flow_forward
from diffsde.types import Array, Key, Moments, Scalar, register

TOGETHER = 1024  # points at once


@partial(register, static=["graph", "classes"])
@dataclasses.dataclass(frozen=True)
class DiscreteFlow:
    """x = mean + std f^-1(z), z ~ N(0, I), f a coupling flow of `classes` classes (0: unconditional), `label` () bound to it.

    log p(x) = log N(z; 0, I) + log |det dz/dx|. While f is the identity, as it is untrained, p is N(mean, std^2 I).
    """

    params: Any
    moments: Moments
    graph: Graph
    classes: int = 0
    label: Scalar | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a point."""
        return self.moments.mean.shape

    def bind(self, condition: Scalar | None) -> DiscreteFlow:
        """The flow given a label (), where `classes` and None mean no label. Raises TypeError for an unconditional flow."""
        if not self.classes:
            raise TypeError("an unconditional flow has nothing to be given")
        return dataclasses.replace(self, label=condition)

    def forward(self, x: Array) -> tuple[Array, Scalar]:
        """(z (*shape,), log |det dz/dx| ()) of one point x (*shape,)."""
        standardised = ((x - self.moments.mean) / self.moments.std).reshape(-1)
        z, log_det = flow_forward(self.graph, self.params, standardised, self.label)
        return z.reshape(self.shape), log_det - z.size * jnp.log(self.moments.std)

    def backward(self, z: Array) -> Array:
        """The point x (*shape,) of which z (*shape,) is the image."""
        x = flow_backward(self.graph, self.params, z.reshape(-1), self.label)
        return self.moments.mean + self.moments.std * x.reshape(self.shape)

    def log_prob(self, x: Array) -> Scalar:
        """log p(x) in nats, ()."""
        z, log_det = self.forward(x)
        return log_det - jnp.sum(z**2) / 2 - z.size * math.log(2 * math.pi) / 2

    def sample(self, key: Key) -> Array:
        """One sample x (*shape,)."""
        return self.backward(jax.random.normal(key, self.shape, self.moments.mean.dtype))


@partial(jax.jit, static_argnames="n")
def samples(flow: DiscreteFlow, key: Key, labels: Array | None, n: int) -> Array:
    """n samples (n, *shape), given labels (n,) or None; sample i by fold_in(key, i), so that it does not depend on n."""

    def one(given: tuple[Array, Array | None]) -> Array:
        i, label = given
        return bound(flow, label).sample(jax.random.fold_in(key, i))

    return jax.lax.map(one, (jnp.arange(n), labels), batch_size=min(n, TOGETHER))


@jax.jit
def log_probs(flow: DiscreteFlow, x: Array, labels: Array | None) -> Array:
    """log p (n,) of points x (n, *shape), given labels (n,) or None."""

    def one(given: tuple[Array, Array | None]) -> Scalar:
        point, label = given
        return bound(flow, label).log_prob(point)

    return jax.lax.map(one, (x, labels), batch_size=min(len(x), TOGETHER))
