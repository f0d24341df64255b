"""The three identities of a flow map: they hold on exact maps to rounding, and each is violated by a planted error; and the
objectives that ask for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.datasets import Gaussian
from diffsde.fields import FlowMap, OracleField
from diffsde.flow_maps import LearnedFlowMap
from diffsde.mixtures import with_covariances
from diffsde.nets import MLP, structure
from diffsde.objectives import Draw, Eulerian, FlowMapObjective, Lagrangian, Problem, Semigroup, flow_map_losses
from diffsde.objectives.flow_map_losses import Scales
from diffsde.objectives.flow_maps import starting_point
from diffsde.optimizers import Adam
from diffsde.paths import PATHS
from diffsde.time_distributions import Uniform
from diffsde.training import Run, start, train_step
from diffsde.types import Array, Moments, Prediction, Scalar, register

TIMES = np.array([[0.02, 0.3, 0.9], [0.2, 0.2, 0.75], [0.4, 0.6, 0.97], [0.5, 0.5, 0.5]])  # s <= r <= t
X = np.array([1.5, -0.7])


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class Planted(FlowMap):
    """The exact flow map of a field, but for an error of a part `size` (t - s) of every jump; its velocity is the exact one."""

    exact: OracleField
    size: Scalar
    shape: tuple[int, ...] = (2,)

    @property
    def path(self) -> Any:  # type: ignore[override]  # read-only, derived
        return self.exact.path

    def output(self, x: Array, t: Scalar) -> Prediction:
        return self.exact.output(x, t)

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        return self.exact.jump(x, s, t) * (1 + self.size * (t - s))


def eulerian(flow: FlowMap, x: Array, s: Scalar, r: Scalar, t: Scalar) -> Array:
    return flow_map_losses.eulerian(flow, x, s, t, flow.velocity(x, s))


def lagrangian(flow: FlowMap, x: Array, s: Scalar, r: Scalar, t: Scalar) -> Array:
    end, slope = flow_map_losses.lagrangian(flow, x, s, t)
    return slope - flow.velocity(end, t)


def semigroup(flow: FlowMap, x: Array, s: Scalar, r: Scalar, t: Scalar) -> Array:
    return flow.jump(flow.jump(x, s, r), r, t) - flow.jump(x, s, t)


IDENTITIES: dict[str, Callable[..., Array]] = {"eulerian": eulerian, "lagrangian": lagrangian, "semigroup": semigroup}


@partial(jax.jit, static_argnames="name")
def residuals(name: str, flow: FlowMap, times: Array) -> Array:
    """The residual (n, 2) of an identity at X, for n triples of times."""
    return jax.vmap(partial(IDENTITIES[name], flow, jnp.asarray(X)))(*times.T)


def tilted(path: str) -> OracleField:
    law = with_covariances(jnp.array([[2.0, -1.0]]), jnp.array([[[1.3, 0.8], [0.8, 0.9]]]), jnp.ones(1))
    return OracleField(PATHS[path](), law, (2,))


@pytest.mark.parametrize("name", list(IDENTITIES))
def test_an_exact_map_satisfies_each_identity_and_a_wrong_one_none(name: str) -> None:
    with jax.enable_x64(True):
        for path in ("ot", "vp"):
            flow = tilted(path)
            np.testing.assert_allclose(residuals(name, Planted(flow, 0.0), jnp.asarray(TIMES)), 0, atol=1e-12)
            found = residuals(name, Planted(flow, 0.01), jnp.asarray(TIMES[[0, 2]]))
            assert np.abs(found).max() > 1e-3


def network_map(path: str = "ot", gain: float = 1.0, seed: int = 0) -> LearnedFlowMap:
    """A network's map; with gain 0 that of isotropic Gaussian data, F = 0."""
    graph, shapes = structure(MLP(widths=(8,)), (2,), "float64", 0, 2)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(gain * rng.normal(size=leaf.shape) / 2), shapes)
    return LearnedFlowMap(PATHS[path](), params, Moments(jnp.array([1.0, -0.5]), jnp.array(2.0)), graph)


def problem_of(field: LearnedFlowMap, objective: FlowMapObjective, **more: Any) -> Problem:
    return Problem(field.path, objective, Uniform(), field.moments, field.graph, True, **more)


def sample_at(s: float, t: float) -> Draw:
    return Draw(
        jnp.array([0.4, -2.0]), jnp.array([1.1, 0.2]), jnp.asarray(s), until=jnp.asarray(t), share=jnp.asarray(0.3)
    )


EVERY: list[FlowMapObjective] = [
    Eulerian(),
    Eulerian(velocity="data"),
    Eulerian(velocity="data", diagonal=0.0, ends_only=True, normalise=0.1, tangent_warmup=0.5),
    Lagrangian(),
    Semigroup(split="uniform"),
    Semigroup(finest=8),
]


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_a_loss_is_zero_at_the_exact_map_of_its_teacher_alone(objective: FlowMapObjective) -> None:
    """F = 0 is the exact map of isotropic Gaussian data of the moments, and solves each identity with that field as teacher."""
    with jax.enable_x64(True):
        still, sample = network_map("trig", 0.0), sample_at(0.25, 0.5)
        for variance, right in ((4.0, True), (1.0, False)):
            law = with_covariances(still.moments.mean[None], variance * jnp.eye(2)[None], jnp.ones(1))
            teacher = OracleField(still.path, law, (2,))
            problem = problem_of(still, objective, teacher=teacher, progress=0.9)
            for each in (sample, sample_at(0.3, 0.3)):
                found = float(jax.jit(objective.loss)(problem, still.params, each)[1])
                # jumps that are learnt of jumps alone see the teacher on the diagonal, and in those of length 1/finest
                blind = isinstance(objective, Semigroup) and objective.finest != 8 and each is sample
                assert found < 1e-20 if right or blind else found > 1e-3


def test_the_semigroup_s_target_is_the_output_of_two_jumps() -> None:
    with jax.enable_x64(True):
        field, (s, r, t) = network_map("vp"), TIMES[0]
        x, scales = jnp.asarray(X), Scales(field.path, field.moments)
        first = field.network(x, s, r)
        middle = field.jump(x, s, r)
        target = flow_map_losses.semigroup_target(first, field.network(middle, r, t), scales, s, r, t)
        np.testing.assert_allclose(scales.jump(target, x, s, t), field.jump(middle, r, t), rtol=1e-12)


def test_parts_of_the_eulerian_change_are_its_residual_and_the_output_of_a_velocity_has_it() -> None:
    with jax.enable_x64(True):
        field, (s, _, t) = network_map("vp"), TIMES[0]
        x, u, scales = jnp.asarray(X), jnp.array([0.3, -1.2]), Scales(field.path, field.moments)
        _, fixed, own = flow_map_losses.eulerian_change(field.network, scales, x, s, t, u)
        whole = flow_map_losses.eulerian(field, x, s, t, u)
        np.testing.assert_allclose((fixed + own) * scales.of_velocity(s, t), whole, rtol=1e-10)
        still = dataclasses.replace(field, params=jax.tree.map(jnp.zeros_like, field.params))
        output = flow_map_losses.output_of(u, scales, x, s)
        linear = still.velocity(x, s)
        np.testing.assert_allclose(linear + scales.of_velocity(s, s) * output, u, rtol=1e-12)


def test_guidance_from_scratch_has_the_guided_velocity_as_its_mean_whatever_kappa_is() -> None:
    """Where the network's own velocity is u(x) without a label and u(x) + w (v - u(x)) with it, v the data's, that is the target."""
    with jax.enable_x64(True):
        graph, shapes = structure(MLP(widths=(8,)), (2,), "float64", 3, 2)
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
        field = LearnedFlowMap(PATHS["ot"](), params, Moments(jnp.zeros(2), jnp.array(2.0)), graph, 3)
        s, label, w = jnp.asarray(0.4), jnp.asarray(1), 2.5
        plain = sample_at(0.4, 0.9)._replace(label=label)
        x, velocity = starting_point(problem_of(field, Lagrangian()), params, plain)
        free, own = field.bind(None).velocity(x, s), field.bind(label).velocity(x, s)
        for kappa in (0.0, 0.6):
            guided = starting_point(problem_of(field, Lagrangian(guidance=w, kappa=kappa)), params, plain)[1]
            # at the fixed point own = guided, so that guided = free + w (velocity - free)
            fixed = (guided - kappa * own) / (1 - kappa)
            np.testing.assert_allclose(fixed, free + w * (velocity - free), rtol=1e-10)


def test_rounds_halve_the_jumps_and_freeze_what_the_round_before_has_learnt() -> None:
    objective = Semigroup(finest=4, in_rounds=True, diagonal=0.0)
    field = network_map()
    steps, run = 6, None
    run = Run(
        problem_of(field, objective),
        Gaussian(),
        Gaussian().load(),
        Adam(),
        jax.random.key(0),
        jnp.asarray(steps),
        jnp.array([0.5]),
        8,
    )
    state = start(run, jax.tree.map(jnp.float32, field.params))
    one = jax.jit(train_step)
    lengths, frozen = [], []
    for _ in range(steps):
        problem = dataclasses.replace(run.problem, progress=state.step / steps)
        u, v = jnp.linspace(0.1, 0.9, 5), jnp.full((5, 2), 0.5)
        s, t = jax.vmap(partial(objective.jump_times, problem))(u, v)
        lengths.append(float(jnp.max(t - s)))
        state = one(run, state)[0]
        frozen.append(
            all(map(np.array_equal, *(map(jax.tree.leaves, (state.frozen, jax.tree.map(lambda a: a[0], state.ema))))))
        )
    assert lengths == [0, 0, 0.5, 0.5, 1, 1]  # the velocity, then two jumps, then one
    assert frozen == [False, True, False, True, False, False]


def test_what_contradicts_itself_is_refused() -> None:
    for objective, message in (
        (Semigroup(finest=6), "power of two"),
        (Semigroup(in_rounds=True), "give how many"),
        (Semigroup(finest=4, split="uniform"), "split=midpoint"),
        (Eulerian(ends_only=True), "diagonal=0"),
        (Lagrangian(kappa=0.5), "give guidance="),
    ):
        with pytest.raises(ValueError, match=message):
            objective.check()
