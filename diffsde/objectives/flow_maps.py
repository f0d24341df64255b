"""Objectives of flow maps X_{s,t}(x): identities of the exact map (2505.18825), asked of a network of two times."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from diffsde import predictions
from diffsde.fields import bound
from diffsde.flow_maps import LearnedFlowMap
from diffsde.objectives.objective import Draw, FlowMapObjective, Problem
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Scalar, choice


def flow_map(problem: Problem, params: Any, label: Scalar | None) -> LearnedFlowMap:
    """The network's flow map with these parameters, given a label ()."""
    return LearnedFlowMap(problem.path, params, problem.moments, problem.graph, label=label)


def starting_point(problem: Problem, sample: Draw) -> tuple[Array, Array]:
    """(x_s, the velocity there that is learnt from) (*shape,): the teacher's, else dalpha z + dbeta eps, whose mean given x_s is
    u_s(x_s), with the posterior mean in the place of z where the example has one (Draw.mean).
    """
    c = coefficients(problem.path, sample.t)
    x = c.alpha * sample.z + c.beta * sample.eps
    if problem.teacher is not None:
        return x, bound(problem.teacher, sample.label).velocity(x, sample.t)
    if sample.mean is None:
        return x, c.dalpha * sample.z + c.dbeta * sample.eps
    eps = sample.eps + c.alpha / c.beta * (sample.z - sample.mean)
    return x, c.dalpha * sample.mean + c.dbeta * eps


def output_slope(path: GaussianPath, moments: Moments, s: Scalar, t: Scalar) -> Scalar:
    """predictions.jump_scale over t - s, (): how much the average velocity v_{s,t} changes with the network's output."""
    start, end, half = (coefficients(path, time) for time in (s, t, (s + t) / 2))
    close = predictions.near(s, t)
    slope = moments.std * (half.dalpha * start.beta - half.dbeta * start.alpha) / predictions.total_std(start, moments)
    return jnp.where(close, slope, predictions.jump_scale(start, end, moments) / jnp.where(close, 1, t - s))


@choice
class Eulerian(FlowMapObjective):
    """eulerian: d/ds X_{s,t} + (grad X_{s,t}) u_s = 0 (2505.18825; from scratch MeanFlow, 2505.13447, eq. 6).

    With r = d/ds X_{s,t}(x_s) + (grad X_{s,t}(x_s)) u_s, by one derivative along (u_s, 1), the loss is
    E|F - stop_gradient(F + r/k)|^2/d, F the network's output and k = d v_{s,t}/dF (output_slope).
    """

    diagonal: float = 0.5

    def loss(self, problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
        s, t = sample.t, sample.until
        assert t is not None
        x, velocity = starting_point(problem, sample)
        learnt = flow_map(problem, params, sample.label)
        still = flow_map(problem, jax.lax.stop_gradient(params), sample.label)
        _, residual = jax.jvp(lambda x, s: still.jump(x, s, t), (x, s), (velocity, jnp.ones_like(s)))
        output = learnt.network(x, s, t)
        target = jax.lax.stop_gradient(output + residual / output_slope(problem.path, problem.moments, s, t))
        value = jnp.mean((output - target) ** 2)
        return value, value
