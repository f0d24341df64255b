"""The identities of a flow map X_{s,t}(x), and targets for a network that is to satisfy them; all for one point x (*shape,).

X_{s,t}(x) is where the ODE of velocity u takes x from time s to time t, so that (2505.18825)
    Eulerian    d/ds X_{s,t}(x) + (grad X_{s,t}(x)) u_s(x) = 0,
    Lagrangian  d/dt X_{s,t}(x) = u_t(X_{s,t}(x)),
    semigroup   X_{r,t}(X_{s,r}(x)) = X_{s,t}(x).
Targets are of the network's output F, in which X is linear (predictions.jump): nothing is divided by t - s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffsde import predictions
from diffsde.fields import FlowMap
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Scalar

OFFSET = 1e-3  # c of `adaptive` (2505.13447, section 4.3)

Network = Callable[[Array, Scalar, Scalar], Array]  # F (*shape,) at a point x (*shape,), of a jump from s to t


class Scales(NamedTuple):
    """What turns a network's output into a jump: the path, and the moments of the data."""

    path: GaussianPath
    moments: Moments

    def jump(self, output: Array, x: Array, s: Scalar, t: Scalar) -> Array:
        """X_{s,t}(x), (*shape,), from the network's output F (*shape,)."""
        return predictions.jump(output, x, coefficients(self.path, s), coefficients(self.path, t), self.moments)

    def of_jump(self, s: Scalar, t: Scalar) -> Scalar:
        """The derivative () of X_{s,t}(x) with respect to F; it vanishes like t - s."""
        return predictions.jump_scale(coefficients(self.path, s), coefficients(self.path, t), self.moments)

    def of_velocity(self, s: Scalar, t: Scalar) -> Scalar:
        """The same of the average velocity, of_jump/(t - s), (); at t = s of the velocity itself."""
        start, half = coefficients(self.path, s), coefficients(self.path, (s + t) / 2)
        near = predictions.near(s, t)
        slope = half.dalpha * start.beta - half.dbeta * start.alpha
        slope *= self.moments.std / predictions.total_std(start, self.moments)
        return jnp.where(near, slope, self.of_jump(s, t) / jnp.where(near, 1, t - s))


def eulerian(flow: FlowMap, x: Array, s: Scalar, t: Scalar, velocity: Array) -> Array:
    """d/ds X_{s,t}(x) + (grad X_{s,t}(x)) u_s(x), (*shape,), with velocity = u_s(x): 0 of the exact map."""
    s = jnp.asarray(s, x.dtype)
    return jax.jvp(lambda x, s: flow.jump(x, s, t), (x, s), (velocity, jnp.ones_like(s)))[1]


def lagrangian(flow: FlowMap, x: Array, s: Scalar, t: Scalar) -> tuple[Array, Array]:
    """X_{s,t}(x) and d/dt X_{s,t}(x), (*shape,): of the exact map the latter is u_t at the former."""
    t = jnp.asarray(t, x.dtype)
    return jax.jvp(lambda t: flow.jump(x, s, t), (t,), (jnp.ones_like(t),))


def eulerian_change(
    network: Network, scales: Scales, x: Array, s: Scalar, t: Scalar, velocity: Array
) -> tuple[Array, Array, Array]:
    """F, and `eulerian`/of_velocity in two parts (*shape,): with F held fixed, and by its own change along the ODE.

    Their sum is 0 of the exact map; F plus it is what MeanFlow has as its target (2505.13447, section 4): of the average velocity,
    u_s + (t - s) D_s v. At t = s it is the output whose velocity is u_s. No gradient flows through the two parts.
    """
    along = (x, s), (velocity, jnp.ones_like(s))
    output, change = jax.jvp(lambda x, s: network(x, s, t), *along)
    held = jax.lax.stop_gradient(output)
    _, fixed = jax.jvp(lambda x, s: scales.jump(held, x, s, t), *along)
    scale = scales.of_velocity(s, t)
    own = jax.lax.stop_gradient(change) * (scales.of_jump(s, t) / scale)
    return output, fixed / scale, own


def semigroup_target(first: Array, second: Array, scales: Scales, s: Scalar, r: Scalar, t: Scalar) -> Array:
    """The F (*shape,) of the one jump from s to t that ends where two end: from s to r with F `first`, on to t with F `second`.

    X is linear in F, so that F is (sqrt(V_t/V_r) k_{s,r} first + k_{r,t} second)/k_{s,t}, k = of_jump; s < t.
    """
    at_r, at_t = (predictions.total_std(coefficients(scales.path, time), scales.moments) for time in (r, t))
    whole = scales.of_jump(s, t)
    whole = jnp.where(whole == 0, 1, whole)
    return (at_t / at_r * scales.of_jump(s, r) / whole) * first + (scales.of_jump(r, t) / whole) * second


def output_of(velocity: Array, scales: Scales, x: Array, s: Scalar) -> Array:
    """The F (*shape,) whose velocity at (x, s) is `velocity` (*shape,)."""
    linear = predictions.from_network(jnp.zeros_like(x), x, coefficients(scales.path, s), scales.moments).velocity
    return (velocity - linear) / scales.of_velocity(s, s)


def adaptive(residual: Array, power: Scalar) -> tuple[Scalar, Scalar]:
    """(q/stop_gradient((q + OFFSET)^power), q) (), q = |residual|^2/d: MeanFlow's weight (2505.13447, section 4.3).

    power 0: the squared error; 1/2: nearly its root (pseudo-Huber); 1: examples count alike, however large their error.
    """
    q = jnp.mean(residual**2)
    return q / jax.lax.stop_gradient((q + OFFSET) ** power), q
