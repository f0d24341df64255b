"""Objectives of flow maps X_{s,t}(x): identities of the exact map (flow_map_losses.py), asked of a network of two times.

Each learns from examples (x_s, u_s): u_s is a teacher's velocity (distillation), else dalpha z + dbeta eps, whose mean given
x_s is the velocity (from scratch). Examples with s = t, a share `diagonal`, are flow matching.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from diffsde.fields import Field, bound
from diffsde.flow_maps import LearnedFlowMap
from diffsde.guidance import ClassifierFree
from diffsde.objectives.flow_map_losses import (
    Scales,
    adaptive,
    eulerian_change,
    lagrangian,
    output_of,
    semigroup_target,
)
from diffsde.objectives.objective import Draw, FlowMapObjective, Problem, time_at
from diffsde.paths import coefficients
from diffsde.types import Array, Scalar, choice

hold = jax.lax.stop_gradient


def flow_map(problem: Problem, params: Any, label: Scalar | None) -> LearnedFlowMap:
    """The network's flow map with these parameters, given a label ()."""
    return LearnedFlowMap(problem.path, params, problem.moments, problem.graph, label=label)


def teacher_of(problem: Problem, guidance: Scalar | None, label: Scalar | None) -> Field | None:
    """The field that is distilled, guided, given a label (); None: from scratch."""
    if problem.teacher is None:
        return None
    return bound(problem.teacher if guidance is None else ClassifierFree(problem.teacher, guidance), label)


def starting_point(problem: Problem, params: Any, sample: Draw) -> tuple[Array, Array]:
    """x_s and the velocity there that is learnt from, (*shape,): the teacher's; from scratch dalpha z + dbeta eps, with the
    posterior mean in the place of z where the example has one (Draw.mean), moved by guidance.

    Guided from scratch (2505.13447, appendix) it is omega (dalpha z + dbeta eps) + kappa u(x|label)
    + (1 - omega - kappa) u(x), u the network's own velocity and omega = guidance (1 - kappa): the velocity that is learnt is then
    u(x) + guidance (u(x|label) - u(x)) of the unguided ones, whatever kappa is.
    """
    objective, s = problem.objective, sample.t
    assert isinstance(objective, FlowMapObjective)
    c = coefficients(problem.path, s)
    x = c.alpha * sample.z + c.beta * sample.eps
    if (teacher := teacher_of(problem, objective.guidance, sample.label)) is not None:
        return x, teacher.velocity(x, s)
    z, eps = sample.z, sample.eps
    if sample.mean is not None:
        z, eps = sample.mean, eps + c.alpha / c.beta * (z - sample.mean)
    velocity = c.dalpha * z + c.dbeta * eps
    if objective.guidance is None:
        return x, velocity
    omega = objective.guidance * (1 - objective.kappa)
    own, free = (flow_map(problem, hold(params), label).velocity(x, s) for label in (sample.label, None))
    return x, omega * velocity + objective.kappa * own + (1 - omega - objective.kappa) * free


class EulerianObjective(FlowMapObjective):
    """Of a kind with d/ds X_{s,t} + (grad X_{s,t}) u_s = 0.

    velocity: u_s in the derivative from scratch: `data`, dalpha z + dbeta eps, or `own`, the network's v_{s,s}. normalise: c, for
    the residual r as r/(|r| + c); null: r itself. tangent_warmup: share of the steps in which the part of the residual that has
    the network's own derivative comes in, from 0 to 1.
    """

    velocity: str
    normalise: float | None = None
    tangent_warmup: float | None = None

    def loss(self, problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
        s, t, scales = sample.t, sample.until, Scales(problem.path, problem.moments)
        assert t is not None
        x, velocity = starting_point(problem, params, sample)
        learnt = flow_map(problem, params, sample.label)
        if self.velocity == "own" and problem.teacher is None:
            velocity = jnp.where(s == t, velocity, hold(learnt.velocity(x, s)))
        output, fixed, own = eulerian_change(learnt.network, scales, x, s, t, velocity)
        plain = jnp.mean((fixed + own) ** 2)
        if self.tangent_warmup is not None:
            own *= jnp.minimum(1.0, problem.progress / self.tangent_warmup)
        residual = fixed + own
        if self.normalise is not None:
            residual /= jnp.linalg.norm(residual) + self.normalise
        return adaptive(output - hold(output + residual), self.power)[0], plain


@choice
class Eulerian(EulerianObjective):
    """eulerian: d/ds X_{s,t} + (grad X_{s,t}) u_s = 0 (2505.18825), u_s from scratch the network's own v_{s,s}.

    velocity: `own`, or `data` as in MeanFlow. ends_only, normalise, tangent_warmup: those of consistency models.
    """

    diagonal: float = 0.5
    power: float = 0.5
    velocity: str = "own"
    ends_only: bool = False
    normalise: float | None = None
    tangent_warmup: float | None = None
    guidance: float | None = None
    kappa: float = 0.0


@choice
class MeanFlow(EulerianObjective):
    """meanflow: v_{s,t} = u_s + (t - s) D_s v_{s,t}, D_s along u_s = dalpha z + dbeta eps, the right-hand side held fixed (2505.13447).

    As X_{s,t} = x + (t - s) v_{s,t} it is the Eulerian identity.
    """

    diagonal: float = 0.5
    power: float = 0.5
    guidance: float | None = None
    kappa: float = 0.0
    velocity = "data"


@choice
class Consistency(EulerianObjective):
    """consistency: X_{s,1} does not change along dx/ds = u_s (2303.01469), continuous in time as in 2410.11081.

    Jumps to t = 1 alone are learnt, so that the velocity is not known. normalise, tangent_warmup: 2410.11081, section 4, whose
    learned weight is left out; its warm-up also holds back a part of what does not have the network's derivative.
    """

    power: float = 0.0
    normalise: float | None = 0.1
    tangent_warmup: float | None = 0.25
    guidance: float | None = None
    kappa: float = 0.0
    diagonal = 0.0
    velocity = "data"
    ends_only = True


@choice
class Lagrangian(FlowMapObjective):
    """lagrangian: d/dt X_{s,t}(x_s) = u_t(X_{s,t}(x_s)), u_t a teacher's or the network's own v_{t,t} (2505.18825).

    The right-hand side is held fixed; the gradient goes through the derivative in t.
    """

    diagonal: float = 0.5
    power: float = 0.0
    guidance: float | None = None
    kappa: float = 0.0

    def loss(self, problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
        s, t, scales = sample.t, sample.until, Scales(problem.path, problem.moments)
        assert t is not None
        x, velocity = starting_point(problem, params, sample)
        end, slope = lagrangian(flow_map(problem, params, sample.label), x, s, t)
        field = teacher_of(problem, self.guidance, sample.label) or flow_map(problem, hold(params), sample.label)
        wanted = jnp.where(s == t, velocity, field.velocity(hold(end), t))
        return adaptive((slope - hold(wanted)) / scales.of_velocity(s, t), self.power)


class SemigroupObjective(FlowMapObjective):
    """Of a kind with X_{s,t}(x_s) = X_{r,t}(X_{s,r}(x_s)), the right-hand side held fixed.

    split: r, the `midpoint` of s and t, or `uniform` between them. finest: null: s and t are any; a power of two N: jumps are one
    of n equal ones, n = 1, 2, 4, ..., N/2, and those of 1/N go along the velocity. in_rounds: n = N/2, N/4, ..., 1 in turn, each
    for an equal share of the steps, the right-hand side by the network as it was at the end of the round before; from scratch
    after a round that learns the velocity alone.
    """

    split: str = "midpoint"
    finest: int | None
    in_rounds: bool = False

    def check(self) -> None:
        super().check()
        if self.finest is not None and (self.finest < 2 or self.finest & (self.finest - 1)):
            raise ValueError(f"objective.finest is {self.finest}; it must be a power of two, 2 or more")
        if self.finest is not None and self.split != "midpoint":
            raise ValueError("split=uniform is for jumps of any length; with finest= they are halved: split=midpoint")
        if self.in_rounds and self.finest is None:
            raise ValueError(
                "in_rounds=true halves the number of jumps in turn; give how many there are at first, finest="
            )

    @property
    def levels(self) -> int:
        """How many lengths of jumps there are."""
        assert self.finest is not None
        return self.finest.bit_length() - 1

    def round_at(self, problem: Problem) -> Array:
        """Which round it is, (), of in_rounds; 0 learns the velocity alone, and is left out with a teacher."""
        first = int(problem.teacher is not None)
        rounds = self.levels + 1 - first
        return first + jnp.clip(jnp.floor(problem.progress * rounds), 0, rounds - 1)

    def jump_times(self, problem: Problem, u: Scalar, v: Array) -> tuple[Scalar, Scalar]:
        if self.finest is None:
            return super().jump_times(problem, u, v)
        on_diagonal = v[1] < self.diagonal
        level = jnp.floor(v[0] * self.levels)
        if self.in_rounds:
            round_ = self.round_at(problem)
            level, on_diagonal = self.levels - round_, on_diagonal | (round_ == 0)
        count = 2.0**level
        begin, one = jnp.floor(u * count) / count, time_at(problem, u)
        return jnp.where(on_diagonal, one, begin), jnp.where(on_diagonal, one, begin + 1 / count)

    def loss(self, problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
        s, t, scales = sample.t, sample.until, Scales(problem.path, problem.moments)
        assert t is not None and sample.share is not None
        x, velocity = starting_point(problem, params, sample)
        output = flow_map(problem, params, sample.label).network(x, s, t)
        r = s + (sample.share if self.split == "uniform" else 0.5) * (t - s)
        first = self._half(problem, params, sample, x, s, r)
        second = self._half(problem, params, sample, scales.jump(first, x, s, r), r, t)
        target = semigroup_target(first, second, scales, s, r, t)
        wanted = jnp.where(s == t, output_of(velocity, scales, x, s), target)
        return adaptive(output - hold(wanted), self.power)

    def _half(self, problem: Problem, params: Any, sample: Draw, x: Array, s: Scalar, t: Scalar) -> Array:
        """F (*shape,) of a jump of the right-hand side; of one of length 1/finest that of the velocity at its beginning."""
        still = flow_map(problem, hold(params) if problem.frozen is None else problem.frozen, sample.label)
        if self.finest is None:
            return still.network(x, s, t)
        along = (t - s) * self.finest < 1.5  # whether it is of length 1/finest, not 2/finest or more
        if (teacher := teacher_of(problem, self.guidance, sample.label)) is None:
            return still.network(x, s, jnp.where(along, s, t))
        taught = output_of(teacher.velocity(x, s), Scales(problem.path, problem.moments), x, s)
        return jnp.where(along, taught, still.network(x, s, t))


@choice
class Semigroup(SemigroupObjective):
    """semigroup: X_{s,t}(x_s) = X_{r,t}(X_{s,r}(x_s)), the right-hand side held fixed (2505.18825, there progressive).

    split: r half way, or `uniform` between s and t. finest, in_rounds: those of shortcut and progressive.
    """

    diagonal: float = 0.5
    power: float = 0.0
    split: str = "midpoint"
    finest: int | None = None
    in_rounds: bool = False
    guidance: float | None = None
    kappa: float = 0.0


@choice
class Shortcut(SemigroupObjective):
    """shortcut: a jump of length 1, 1/2, ..., 2/finest is two of half its length; those of 1/finest go along the velocity (2410.12557)."""

    diagonal: float = 0.75
    power: float = 0.0
    finest: int | None = 128
    guidance: float | None = None
    kappa: float = 0.0


@choice
class Progressive(SemigroupObjective):
    """progressive: finest/2 jumps, then half as many in each round, one for two of the network of the round before (2202.00512)."""

    diagonal: float = 0.25
    power: float = 0.0
    finest: int | None = 64
    guidance: float | None = None
    kappa: float = 0.0
    in_rounds = True
