"""Continuous normalizing flows: their density, its gradients by both adjoints, their regularisers, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import likelihood, nets
from diffsde.cli.main import composed
from diffsde.errors import UserError
from diffsde.nets import MLP
from diffsde.objectives import Draw, Likelihood, Problem
from diffsde.objectives.continuous import flow_of, likelihood_losses, solve
from diffsde.paths import PATHS
from diffsde.runs.folder import read_summary
from diffsde.runs.train_config import train_choices
from diffsde.samplers import GRIDS, times
from diffsde.samplers.ode import RK4
from diffsde.time_distributions import LogNormal
from diffsde.types import Moments
from diffsde.verbs.explain import result_of as explained
from diffsde.verbs.sample import sample
from diffsde.verbs.show import show
from diffsde.verbs.train import train
from tests.conftest import double_precision

NET = MLP(widths=(8,), time_frequencies=1, space_frequencies=1)


@cache
def network() -> tuple[Any, Any]:
    """A network of two coordinates, whose flow is far from the one of a network of zeros."""
    graph, _ = nets.structure(NET, (2,))
    params = nets.initialise(NET, (2,), jax.random.key(3))
    return graph, jax.tree.map(np.asarray, params)


def problem(objective: Likelihood, std: float = 1.3) -> tuple[Problem, Any]:
    graph, params = network()
    if jax.config.read("jax_enable_x64"):
        graph, _ = nets.structure(NET, (2,), "float64")
        params = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
    moments = Moments(jnp.asarray([0.4, -0.7]), jnp.asarray(std))
    return Problem(PATHS["ot"](), objective, LogNormal(), moments, graph, True), jax.tree.map(jnp.asarray, params)


def batch(n: int = 16) -> Draw:
    z, eps = np.random.default_rng(5).normal(size=(2, n, 2))
    return Draw(jnp.asarray(2 * z), jnp.asarray(eps), jnp.zeros(n))


def test_density_integrates_to_one_and_is_that_of_evaluation() -> None:
    """On a grid in the plane, by the rule of trapezoids, which for so smooth a density errs by far less; and RK4 agrees."""
    asked, params = problem(Likelihood(solver="dopri5", steps=20))
    line = jnp.linspace(-9, 9, 91)
    z = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    flow = flow_of(asked, params)
    log_p = jax.jit(lambda z: solve(asked.objective, flow, Draw(z, z, 0)).log_p)(z)  # type: ignore[arg-type]
    cell = float(line[1] - line[0]) ** 2
    assert abs(float(jnp.exp(log_p).sum()) * cell - 1) < 1e-4
    mean = np.asarray((z * jnp.exp(log_p)[:, None]).sum(axis=0) * cell)
    zero = flow_of(asked, jax.tree.map(jnp.zeros_like, params))
    assert np.abs(mean - np.asarray(zero.moments.mean)).max() > 0.3  # not the Gaussian of a network without weights
    some = z[:: len(z) // 40]
    again = likelihood.log_likelihood_compiled(
        RK4(), flow, some, times(GRIDS["uniform"](), 40, flow.path), jax.random.key(0), probe="exact"
    )
    np.testing.assert_allclose(again.log_p, log_p[:: len(z) // 40], atol=2e-4)


@pytest.mark.parametrize("divergence", ["exact", "rademacher"])
def test_a_network_of_zeros_is_gaussian_with_known_regularisers(divergence: str) -> None:
    """u_t(x) = m + (V'/2V)(x - t m) of N(m, s^2 I), V = t^2 s^2 + (1-t)^2: both integrals by a fine rule of trapezoids."""
    asked, params = problem(Likelihood(rtol=1e-5, atol=1e-5, divergence=divergence), std=0.6)
    drawn = batch(8)
    found = solve(asked.objective, flow_of(asked, jax.tree.map(jnp.zeros_like, params)), drawn)  # type: ignore[arg-type]
    mean, z = np.array([0.4, -0.7]), np.asarray(drawn.z, np.float64)
    y = (z - mean) / 0.6
    log_p = -(y**2).sum(1) / 2 - 2 * math.log(0.6 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(found.log_p, log_p, rtol=1e-4)
    t = np.linspace(0, 1, 4001)[:, None, None]
    variance = (0.6 * t) ** 2 + (1 - t) ** 2
    slope = 0.36 * t - (1 - t)  # V'/2
    u = mean + slope / np.sqrt(variance) * y
    np.testing.assert_allclose(found.kinetic, np.trapezoid((u**2).mean(-1), dx=1 / 4000, axis=0), rtol=1e-3)
    jacobian = np.trapezoid(((slope / variance) ** 2)[:, 0, 0], dx=1 / 4000)
    np.testing.assert_allclose(found.jacobian, np.full(8, jacobian), rtol=1e-3)


def loss(objective: Likelihood, params: Any) -> jax.Array:
    asked, _ = problem(objective)
    return jnp.mean(likelihood_losses(asked, params, batch(4))[0])


def along(params: Any, gradient: Any = None) -> Any:
    """A random direction of parameters; with a gradient, its component along that direction."""
    random = np.random.default_rng(2)
    direction = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), params)
    if gradient is None:
        return direction
    return float(sum(jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)))


@pytest.mark.slow  # as the next: diffrax's loops compile for long
def test_gradient_is_that_of_finite_differences() -> None:
    """Of the loss with both regularisers, along a random direction of the parameters."""
    with double_precision():
        objective = Likelihood(solver="heun", steps=5, divergence="gaussian", kinetic=0.3, jacobian=0.2)
        params = problem(objective)[1]
        value, h = jax.jit(partial(loss, objective)), 1e-5
        ends = [jax.tree.map(lambda p, v, step=step: p + step * v, params, along(params)) for step in (h, -h)]
        wanted = float(value(ends[0]) - value(ends[1])) / (2 * h)
        found = along(params, jax.jit(jax.grad(partial(loss, objective)))(params))
        assert abs(wanted) > 0.1
        assert found == pytest.approx(wanted, rel=1e-7)


@pytest.mark.slow  # an adaptive solve within the gradient of another compiles for long
def test_both_adjoints_have_one_gradient() -> None:
    with double_precision():
        objective = Likelihood(rtol=1e-9, atol=1e-9, kinetic=0.3, jacobian=0.2)
        params = problem(objective)[1]
        found = [
            jax.jit(jax.grad(partial(loss, dataclasses.replace(objective, adjoint=adjoint))))(params)
            for adjoint in ("checkpointed", "backsolve")
        ]
        for one, other in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_regularisers_enter_the_training_loss_alone_by_their_weights() -> None:
    asked, params = problem(Likelihood(solver="heun", steps=5, kinetic=0.3, jacobian=0.2))
    against, own = likelihood_losses(asked, params, batch())
    found = solve(asked.objective, flow_of(asked, params), batch())  # type: ignore[arg-type]
    np.testing.assert_allclose(own, -found.log_p / 2, rtol=1e-6)
    np.testing.assert_allclose(against - own, 0.3 * found.kinetic + 0.2 * found.jacobian, rtol=1e-4)


SHORT = "objective=likelihood objective.solver=heun objective.steps=2 net=mlp net.widths=[4] net.space_frequencies=0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow") / "run"
    train(composed("train", f"{SHORT} steps=4 log_every=2 batch_size=32 pictures=none".split()), out)
    return out


def test_a_run_counts_its_evaluations_and_knows_its_floor(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["nfe"] for line in lines] == [4, 4]  # two steps of Heun's method
    summary = read_summary(trained)  # which refuses what has not the shape of one
    assert summary["nfe"] == {"first": 4, "mean": 4, "last": 4}
    assert summary["loss"]["floor"] == pytest.approx(5.222092 / 2, abs=0.01)  # MATHS: the entropy of the mixture
    assert lines[-1]["regret"] == pytest.approx(lines[-1]["loss"] - 5.222092 / 2, abs=0.5)


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("sample", "sampler=em", "sampler=em"),
        ("sample", "sampler=ddim", "sampler=ddim"),
        ("sample", "last=denoise", "last=denoise"),
        ("sample", "grid.start=0.1", "grid.start is 0.1"),
        ("sample", "measurement=inpaint", "measurement"),
        ("show", "what=density", "what=field of=run"),
    ],
)
def test_what_needs_more_than_a_velocity_is_refused(verb: str, words: str, said: str, trained: Path) -> None:
    more = {"sample": [*words.split(), "n=4", "steps=2", "pictures=none"], "show": words.split()}[verb]
    run = {"sample": sample, "show": show}[verb]
    with pytest.raises(UserError, match="objective=likelihood has a velocity alone") as error:
        run(composed(verb, [f"run={trained}", *more]), trained.parent / "refused")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("path=vp", "path=vp has an infinite velocity"),
        ("time=uniform", "time=uniform"),
        ("posterior_points=8", "posterior_points is 8"),
        ("objective.steps=4 objective.rtol=1e-5", "objective.steps is 4"),
        ("objective.solver=euler", "objective.solver=euler"),
        ("source=moons", "objective=likelihood is for Gaussian paths"),
    ],
)
def test_choices_that_contradict_the_likelihood(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_choices(composed("train", ["objective=likelihood", *words.split()]))


def test_explain_speaks_against_what_train_refuses() -> None:
    """With the same words, and names no time, which is not drawn."""
    words = ["objective=likelihood", "path=vp"]
    with pytest.raises(UserError) as error:
        train_choices(composed("train", words))
    lines = explained(composed("explain", words)).report().lines
    assert lines[-1] == f"  refused: {error.value}"
    assert not any("time=" in line for line in lines)
    assert "refused" not in explained(composed("explain", [*words, "precondition=false"])).report().lines[-1]


@pytest.mark.slow
def test_gaussian_data_reach_their_entropy(tmp_path: Path) -> None:
    """Of a covariance that the network's start, N(m, s^2 I), is not: from a regret of 0.3 nats per coordinate to none."""
    data = "dataset=mixture dataset.means=[[1,0]] dataset.covariances=[[[4,1.2],[1.2,0.5]]] dataset.stds=null"
    net = "net=mlp net.widths=[32] net.space_frequencies=0 net.gated_skip=2 lr=0.02"
    words = f"{data} {net} objective=likelihood steps=300 batch_size=256 log_every=100 pictures=none"
    train(composed("train", words.split()), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    covariance = np.array([[4, 1.2], [1.2, 0.5]])
    entropy = math.log(2 * math.pi * math.e) + np.log(np.linalg.det(covariance)) / 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["loss"]["floor"] == pytest.approx(entropy / 2, abs=0.01)
    assert lines[-1]["regret"] < 0.005
