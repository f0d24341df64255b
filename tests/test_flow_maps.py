"""Flow maps: exact maps against values from elsewhere, the identities of a map, the network's parametrisation, and what a run does."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffsde
from diffsde.datasets.mixture import Ring
from diffsde.empirical import arrange
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, FlowMap, OracleField, solved
from diffsde.flow_maps import LearnedFlowMap
from diffsde.guidance import ClassifierFree
from diffsde.interpolants import Backward
from diffsde.mixtures import Mixture, with_covariances
from diffsde.nets import MLP, structure
from diffsde.nets.dit import DiT
from diffsde.nets.mixer import Mixer
from diffsde.nets.unet import UNet
from diffsde.objectives import Draw, Eulerian, Problem
from diffsde.objectives.flow_map_losses import Scales
from diffsde.objectives.flow_maps import starting_point
from diffsde.paths import PATHS, GaussianPath, coefficients
from diffsde.samplers import SAMPLERS, simulate
from diffsde.stability import UntrainedField, check_jumps, check_sampler
from diffsde.time_distributions import Uniform
from diffsde.training import Run, examples
from diffsde.types import Array, Moments

KEY = jax.random.key(0)
PUBLISHED = json.loads((Path(__file__).parent / "data" / "bridges.json").read_text())["flow_maps"]
MOMENTS = Moments(jnp.array([1.0, -0.5]), jnp.array(2.0))


def gaussian(path: GaussianPath, mean: Any, covariance: Any) -> OracleField:
    law = with_covariances(jnp.asarray([mean]), jnp.asarray([covariance]), jnp.ones(1))
    return OracleField(path, law, (len(mean),))


@jax.jit
def jumped(field: FlowMap, x: Array, s: Array, t: Array) -> Array:
    return field.jump(x, s, t)


@jax.jit
def average_velocity(field: FlowMap, x: Array, s: Array, t: Array) -> Array:
    return field.average_velocity(x, s, t)


def test_the_exact_map_of_a_gaussian_is_the_reference_s() -> None:
    assert len(PUBLISHED) == 24
    for case in PUBLISHED:
        with jax.enable_x64(True):
            covariance = np.reshape(case["covariance"], (len(case["mean"]),) * 2)
            field = gaussian(PATHS[case["path"]](), case["mean"], covariance)
            found = jumped(field, jnp.asarray(case["x"]), case["s"], case["t"])
            np.testing.assert_allclose(found, case["X_t"], rtol=0, atol=1e-10)
            back = jumped(field, found, case["t"], case["s"])
            np.testing.assert_allclose(back, case["x"], rtol=0, atol=1e-9)


def fields() -> dict[str, FlowMap]:
    ot = PATHS["ot"]()
    points = jax.random.normal(KEY, (7, 2))
    return {
        "gaussian": gaussian(PATHS["vp"](), [1.0, -2.0], [[1.0, 0.6], [0.6, 2.0]]),
        "mixture": OracleField(ot, Ring().mixture(), (2,)),
        "empirical": EmpiricalField(ot, arrange(points), 7, (2,)),
        "network": network_map(),
    }


def network_map(path: GaussianPath | None = None, gain: float = 1.0) -> LearnedFlowMap:
    """A flow map with random parameters, `gain` times as large."""
    net = MLP((16,))
    graph, shapes = structure(net, (2,), times=2)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * gain * rng.normal(size=leaf.shape)), shapes)
    return LearnedFlowMap(path or PATHS["trig"](), params, MOMENTS, graph)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "empirical", "network"])
def test_a_jump_of_no_length_stays_and_its_velocity_is_the_field_s(name: str) -> None:
    with jax.enable_x64(True):
        field, x = fields()[name], jnp.array([0.4, -1.1])
        for t in (0.2, 0.7):
            np.testing.assert_allclose(jumped(field, x, t, t), x, atol=1e-12)
            velocity = field.velocity(x, t)
            np.testing.assert_allclose(average_velocity(field, x, t, t), velocity, atol=1e-6)
            near = average_velocity(field, x, t, t + 1e-5)  # over a difference: one side of the threshold of `near`
            np.testing.assert_allclose(near, velocity, atol=1e-3)
        ends = x + 0.5 * average_velocity(field, x, 0.2, 0.7)
        np.testing.assert_allclose(ends, jumped(field, x, 0.2, 0.7), atol=1e-9)


def test_the_map_of_a_mixture_is_as_accurate_as_is_said() -> None:
    """Against eight times as many steps, of the 11 components, from noise to data and over a part of it."""
    with jax.enable_x64(True):
        field, x = fields()["mixture"], jax.random.normal(KEY, (200, 2))
        for s, t in ((0.0, 1.0), (0.1, 0.6)):
            found = jax.vmap(lambda x, s=s, t=t: field.jump(x, s, t))(x)
            fine = jax.vmap(lambda x, s=s, t=t: solved(field, x, s, t, 2048))(x)
            assert float(jnp.sqrt(jnp.mean((found - fine) ** 2))) < 2e-5


def test_the_map_of_finite_data_ends_in_its_points() -> None:
    field = fields()["empirical"]
    assert isinstance(field, EmpiricalField)
    ends = jax.vmap(lambda x: field.jump(x, 0.0, 1.0))(jax.random.normal(jax.random.key(1), (50, 2)))
    distances = jnp.linalg.norm(ends[:, None] - field.chunks.reshape(-1, 2)[None, :7], axis=-1)
    assert float(distances.min(axis=1).max()) < 1e-3 and len(set(distances.argmin(axis=1).tolist())) > 2


def test_without_an_output_the_network_s_map_is_that_of_isotropic_gaussian_data() -> None:
    with jax.enable_x64(True):
        for name in ("ot", "vp", "trig"):
            path = PATHS[name]()
            still = network_map(path, 0.0)
            exact = gaussian(path, [1.0, -0.5], [[4.0, 0.0], [0.0, 4.0]])
            x = jnp.array([0.3, 1.7])
            for s, t in ((0.0, 1.0), (0.3, 0.6), (0.9, 0.2)):
                np.testing.assert_allclose(jumped(still, x, s, t), jumped(exact, x, s, t), atol=1e-12)


IMAGE_NETS = [
    Mixer(width=8, depth=1, mix=8),
    pytest.param(DiT(width=16, depth=1), marks=pytest.mark.slow),
    pytest.param(UNet(channels=(8, 8), depth=1, heads=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("net", IMAGE_NETS)
def test_networks_of_images_read_both_times(net: Any) -> None:
    shape = (8, 8, 1)
    graph, shapes = structure(net, shape, "float32", 3, 2)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes)
    field = LearnedFlowMap(PATHS["ot"](), params, Moments(jnp.zeros(shape), jnp.ones(())), graph, 3)
    x = jax.random.normal(KEY, shape)
    network = jax.jit(lambda s, t, label: field.bind(label).network(x, s, t))  # type: ignore[attr-defined]
    asked = ((0.1, 0.5, 1), (0.1, 0.6, 1), (0.2, 0.6, 1), (0.2, 0.6, 3))
    outputs = [network(*each) for each in asked]
    for i, one in enumerate(outputs):
        for other in outputs[:i]:
            assert float(jnp.abs(one - other).max()) > 1e-4


class OfOneTime:
    def make(self, shape: tuple[int, ...], rngs: Any, compute: str, classes: int) -> Any:
        return MLP((4,)).make(shape, rngs, compute, classes)


def test_a_network_of_one_time_is_refused_for_a_flow_map() -> None:
    structure(OfOneTime(), (2,))
    with pytest.raises(UserError, match=r"OfOneTime is of one time.*times=1"):
        structure(OfOneTime(), (2,), times=2)


def problem_of(field: LearnedFlowMap, objective: Any, **more: Any) -> Problem:
    return Problem(field.path, objective, Uniform(), field.moments, field.graph, True, **more)


def test_the_gradient_of_the_eulerian_loss_is_meanflow_s() -> None:
    """2505.13447, eq. 10: that of |v_{s,t} - stop_gradient(v + (t - s) (d/ds v_{s,t} + grad v_{s,t} v))|^2, over dv/dF squared."""
    with jax.enable_x64(True):
        field = network_map(PATHS["vp"]())
        problem = problem_of(field, Eulerian(velocity="data", power=0.0))
        sample = Draw(jnp.array([0.4, -2.0]), jnp.array([1.1, 0.2]), jnp.asarray(0.3), until=jnp.asarray(0.8))
        x, velocity = starting_point(problem, field.params, sample)

        def published(params: Any) -> Array:
            def average(params: Any, x: Array, s: Array) -> Array:
                return dataclasses.replace(field, params=params).average_velocity(x, s, jnp.asarray(0.8))

            s = jnp.asarray(0.3)
            _, slope = jax.jvp(lambda x, s: average(field.params, x, s), (x, s), (velocity, jnp.ones(())))
            target = jax.lax.stop_gradient(velocity + 0.5 * slope)
            scale = Scales(PATHS["vp"](), MOMENTS).of_velocity(0.3, 0.8)
            return jnp.mean((average(params, x, s) - target) ** 2) / scale**2

        ours = jax.jit(jax.grad(lambda params: problem.objective.loss(problem, params, sample)[0]))(field.params)
        theirs = jax.jit(jax.grad(published))(field.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs)


def test_where_no_jump_is_made_the_eulerian_loss_is_that_of_flow_matching() -> None:
    field = network_map()
    problem, t = problem_of(field, Eulerian(power=0.0)), jnp.asarray(0.4)
    sample = Draw(jnp.array([0.4, -2.0]), jnp.array([1.1, 0.2]), t, until=t)
    x, velocity = starting_point(problem, field.params, sample)
    loss, _ = jax.jit(lambda params: problem.objective.loss(problem, params, sample))(field.params)
    scale = Scales(field.path, MOMENTS).of_velocity(t, t)
    np.testing.assert_allclose(loss, jnp.mean(((field.velocity(x, t) - velocity) / scale) ** 2), rtol=1e-4)


def test_the_loss_of_the_exact_map_is_zero_and_a_teacher_s_velocity_is_what_counts() -> None:
    """F = 0 is the exact map of isotropic Gaussian data: with that field as teacher every residual is 0, with another it is not."""
    with jax.enable_x64(True):
        still = network_map(PATHS["trig"](), 0.0)
        sample = Draw(jnp.array([0.4, -2.0]), jnp.array([1.1, 0.2]), jnp.asarray(0.3), until=jnp.asarray(0.9))
        exact, other = (gaussian(still.path, [1.0, -0.5], spread * np.eye(2)) for spread in (4.0, 1.0))
        right, wrong = (problem_of(still, Eulerian(), teacher=teacher) for teacher in (exact, other))
        assert float(right.objective.loss(right, still.params, sample)[0]) < 1e-20
        assert float(wrong.objective.loss(wrong, still.params, sample)[0]) > 1e-3


def test_jumps_begin_before_they_end_and_a_share_has_no_length() -> None:
    field = network_map()
    run: Any = Run(problem_of(field, Eulerian(diagonal=0.25)), Ring(), Ring().load(), None, KEY, 1, jnp.ones(1), 4000)  # type: ignore[arg-type]
    batch = examples(run, KEY, 4000)
    s, t = np.asarray(batch.t), np.asarray(batch.until)
    assert (s <= t).all() and abs((s == t).mean() - 0.25) < 0.03
    c = coefficients(field.path, 0.5)
    assert c.alpha is not None and 0.2 < np.mean(t - s) / 0.75 < 0.45  # the mean distance of two uniforms is 1/3


def test_any_number_of_jumps_of_an_exact_map_ends_at_one_point() -> None:
    field, x = fields()["gaussian"], jax.random.normal(KEY, (20, 2))
    ends = [simulate(SAMPLERS["flow_map"](), field, x, jnp.linspace(0, 1, n + 1), KEY).x for n in (1, 2, 7)]
    fine = simulate(SAMPLERS["rk4"](), field, x, jnp.linspace(0, 1, 201), KEY).x
    for end in ends:
        np.testing.assert_allclose(end, fine, atol=2e-4)


def test_consistency_sampling_keeps_the_law_of_exact_data() -> None:
    """Any number of its steps with the exact map: N(m, C), with noise that is fresh at every step but the last."""
    field, n = fields()["gaussian"], 20_000
    x = jax.random.normal(KEY, (n, 2))
    for steps in (1, 3):
        ends = simulate(SAMPLERS["consistency"](), field, x, jnp.linspace(0, 1, steps + 1), jax.random.key(1)).x
        np.testing.assert_allclose(ends.mean(axis=0), [1.0, -2.0], atol=0.05)
        np.testing.assert_allclose(jnp.cov(ends.T), [[1.0, 0.6], [0.6, 2.0]], atol=0.08)
    once = simulate(SAMPLERS["flow_map"](), field, x, jnp.linspace(0, 1, 2), KEY).x
    assert float(jnp.abs(ends - once).max()) > 1


def test_samplers_of_flow_maps_ask_for_a_flow_map() -> None:
    moments = Moments(jnp.zeros(2), jnp.ones(()))
    field = UntrainedField(PATHS["ot"](), moments, "velocity", True)
    for name in ("flow_map", "consistency"):
        with pytest.raises(UserError, match=f"sampler={name} asks a flow map.*objective=meanflow.*run=oracle"):
            check_sampler(SAMPLERS[name](), field, name)
        check_sampler(SAMPLERS[name](), network_map(), name)
        check_sampler(
            SAMPLERS[name](),
            OracleField(PATHS["ot"](), Mixture(jnp.zeros((1, 2)), jnp.ones((1, 1)), jnp.ones(1)), (2,)),
            name,
        )


@pytest.mark.parametrize("name", ["flow_map", "consistency"])
def test_what_is_made_of_a_flow_map_is_no_flow_map(name: str) -> None:
    """The refusal names what made it one: guidance, or time turned round; with both, time."""
    guided = ClassifierFree(network_map(), 2.0)
    with pytest.raises(UserError, match=rf"sampler={name} .*a guided field has none; .*objective\.guidance="):
        check_sampler(SAMPLERS[name](), guided, name)
    for field in (network_map(), guided):
        with pytest.raises(UserError, match=rf"sampler={name} .*leave out direction=backward"):
            check_sampler(SAMPLERS[name](), Backward(field), name)


def test_jumps_of_models_of_the_last_time_alone_are_refused() -> None:
    last = dataclasses.replace(network_map(), ends_only=True)
    with pytest.raises(UserError, match=r"sampler=heun asks for the velocity.*sampler=consistency.*sampler=flow_map"):
        check_sampler(SAMPLERS["heun"](), last, "heun")
    with pytest.raises(UserError, match=r"steps is 2.*t = 1 alone.*steps=1"):
        check_jumps(SAMPLERS["flow_map"](), last, jnp.array([0.0, 0.5, 1.0]))
    with pytest.raises(UserError, match=r"grid\.end is 0\.9"):
        check_jumps(SAMPLERS["flow_map"](), last, jnp.array([0.0, 0.9]))
    check_jumps(SAMPLERS["flow_map"](), last, jnp.array([0.0, 1.0]))
    check_jumps(SAMPLERS["consistency"](), last, jnp.array([0.0, 0.5, 1.0]))


def test_jumps_in_python() -> None:
    """In the data's own units, labels given or not; the inverse takes them back."""
    exact = diffsde.oracle(dataset={"name": "mixture", "means": [[3.0]], "stds": [2.0]}, path="ot")
    ends = exact.jump([[1.0], [0.0]], [0.0, 0.0], 1.0)
    np.testing.assert_allclose(ends, [[5.0], [3.0]], atol=1e-5)
    np.testing.assert_allclose(exact.jump(ends[0], 1.0, 0.0), [1.0], atol=1e-5)
    with pytest.raises(ValueError, match="jump: this field knows its velocity alone"):
        dataclasses.replace(exact, field=UntrainedField(PATHS["ot"](), MOMENTS, "velocity", True)).jump(
            [0.0, 0.0], 0, 1
        )
