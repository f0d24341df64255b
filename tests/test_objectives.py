"""Objectives: published irreducible losses, the loss of the exact field, known regrets, and finiteness at both ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import mixtures, objectives, predictions
from diffsde.datasets import Ring
from diffsde.mixtures import Mixture
from diffsde.objectives import OBJECTIVES, WEIGHTS, Draw, NoisePrediction, Problem, ScoreMatching, VelocityMatching
from diffsde.optimizers import Adam
from diffsde.paths import PATHS, Coefficients, coefficients
from diffsde.time_laws import LogitNormal, Uniform
from diffsde.training import Run, examples, loss_floor
from diffsde.types import Array, Moments

NAMED = [name for name in PATHS if name != "expression"]
TO_ZERO = ["ot", "sqrt", "trig", "cosine", "vp", "subvp"]
MOMENTS = Moments(jnp.array([0.3, -0.2]), 1.9)


def problem(path: str, objective: str, weight: str | None = None, precondition: bool = True) -> Problem:
    """A problem without a network, its weight resolved."""
    made = OBJECTIVES[objective]() if weight is None else OBJECTIVES[objective](weight)  # type: ignore[call-arg]
    return objectives.resolve_weight(Problem(PATHS[path](), made, Uniform(), MOMENTS, None, precondition))


def batch(count: int, mixture: Mixture, seed: int = 0) -> Draw:
    """Examples with stratified times."""
    keys = jax.random.split(jax.random.key(seed), count)
    z = jax.vmap(mixtures.sample, in_axes=(None, 0))(mixture, keys)
    u = (jnp.arange(count) + jax.random.uniform(jax.random.key(seed + 1), (count,), minval=0.01, maxval=0.99)) / count
    return Draw(z, jax.random.normal(jax.random.key(seed + 2), z.shape), u)


FLOORS = {  # MATHS.md: path, objective, irreducible loss a coordinate, half a unit of its last digit
    "velocity-ot": ("ot", VelocityMatching("unit"), 9.841, 5e-4),
    "velocity-trig": ("trig", VelocityMatching("unit"), 15.473, 5e-4),
    "noise-ot": ("ot", NoisePrediction("unit"), 0.6825, 5e-5),
    "noise-sqrt": ("sqrt", NoisePrediction("unit"), 0.6228, 5e-5),
    "noise-trig": ("trig", NoisePrediction("unit"), 0.6865, 5e-5),
}


@pytest.mark.parametrize("name", list(FLOORS))
def test_published_floors(name: str) -> None:
    """The irreducible losses of the ring of 11, t uniform, within 4 standard errors, themselves below 0.6%."""
    path, objective, floor, rounding = FLOORS[name]
    ring = Ring()
    moments = mixtures.moments(ring.mixture())
    asked = Problem(PATHS[path](), objective, Uniform(), moments, None, True)
    run = Run(asked, ring, ring.load(), Adam(), jax.random.key(1), 1, 0.0, 1)
    value, error = (float(part) for part in loss_floor(run, ring.mixture(), jax.random.key(2), 2**17))
    assert 0 < error < 0.006 * floor
    assert abs(value - floor) < 4 * error + rounding


def exact_network(asked: Problem, mixture: Mixture, shift: Array) -> Callable[..., Array]:
    """What a network would have to answer for the field to be exact, plus a constant error."""

    def answer(graph: Any, params: Any, seen: Array, t: Array) -> Array:
        c = coefficients(asked.path, t)
        if not asked.precondition:
            exact = mixtures.predict(mixture, seen, c)
            a, b = predictions.row(asked.objective.kind, c)
            return a * exact.data + b * exact.noise + shift
        x = c.alpha * asked.moments.mean + seen * predictions.total_std(c, asked.moments)
        exact = mixtures.predict(mixture, x, c)
        return predictions.network_target(exact.data, exact.noise, c, asked.moments) + shift

    return answer


COMBINATIONS = [
    ("ot", "cfm", None, True),
    ("trig", "cfm", None, False),
    ("sqrt", "cfm", None, True),
    ("sqrt", "cfm", "beta2", False),
    ("vp", "score", None, True),
    ("cosine", "v", None, False),
    ("edm", "data", None, True),
    ("ve", "noise", "balanced", False),
    ("subvp", "noise", None, True),
]


@pytest.mark.parametrize(("path", "objective", "weight", "precondition"), COMBINATIONS)
def test_regret_of_a_wrong_field_is_its_squared_error(
    monkeypatch: pytest.MonkeyPatch, path: str, objective: str, weight: str | None, precondition: bool
) -> None:
    """The exact field's loss is the floor; a constant error delta of the network adds weight c_out^2 delta^2, never less."""
    mixture = Mixture(
        jnp.array([[2.0, 1.0], [-2.0, 0.0], [0.0, -2.0]]), jnp.array([[0.3], [0.5], [1.0]]), jnp.ones(3) / 3
    )
    asked = problem(path, objective, weight, precondition)
    delta = jnp.array([0.3, -0.4])

    @jax.jit
    @jax.vmap
    def figures(sample: Draw) -> tuple[Array, Array, Array, Array]:
        losses = []
        for shift in (jnp.zeros(2), delta):
            monkeypatch.setattr(objectives, "apply", exact_network(asked, mixture, shift))
            losses.append(objectives.loss(asked, None, sample))
        c = coefficients(asked.path, sample.t)
        scale = objectives.root_weight(asked, c)
        if precondition:
            scale = scale * predictions.output_scale(asked.objective.kind, c, asked.moments)
        return losses[0], losses[1], objectives.irreducible(asked, mixture, sample), scale**2 * jnp.mean(delta**2)

    exact, wrong, floor, regret = (np.asarray(part, np.float64) for part in figures(batch(2**14, mixture)))
    assert stats.sem(exact) < 0.03 * floor.mean()
    assert abs(np.mean(exact - floor)) < 4 * stats.sem(exact - floor)
    assert abs(np.mean(wrong - exact - regret)) < 4 * stats.sem(wrong - exact - regret) + 1e-6 * regret.mean()
    assert np.mean(wrong - exact) > 0


@pytest.mark.parametrize("precondition", [True, False])
@pytest.mark.parametrize("path", NAMED)
def test_loss_and_gradient_are_finite_at_both_ends(
    monkeypatch: pytest.MonkeyPatch, path: str, precondition: bool
) -> None:
    """At t = 2^-24 and 1 - 2^-24 in float32, every objective with its default weight has a finite loss and gradient."""
    monkeypatch.setattr(objectives, "apply", lambda graph, params, x, t: params[0] * x + params[1])

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def values(params: tuple[Array, Array], t: Array) -> dict[str, Any]:
        sample = Draw(jnp.array([5.0, -3.0]), jnp.array([-1.5, 2.0]), t)
        return {
            name: jax.value_and_grad(lambda p, asked=asked: objectives.loss(asked, p, sample))(params)
            for name, asked in asked_all.items()
        }

    asked_all = {name: problem(path, name, precondition=precondition) for name in OBJECTIVES}
    found = values((jnp.float32(0.7), jnp.float32(0.1)), jnp.array([2.0**-24, 1 - 2.0**-24], jnp.float32))
    for name, parts in found.items():
        for part in jax.tree.leaves(parts):
            assert part.dtype == jnp.float32 and np.all(np.isfinite(part)), name
    for name, (loss, _) in found.items():
        assert np.all(np.asarray(loss) >= 0), name


@pytest.mark.parametrize("path", ["ot", "sqrt", "edm"])
def test_an_objective_is_a_weight_in_time(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Preconditioned, one sample's losses under any two objectives are as weight c_out^2; balanced, they are all equal."""
    monkeypatch.setattr(objectives, "apply", lambda graph, params, x, t: jnp.sin(3 * x) + t)
    sample = batch(16, Mixture(jnp.ones((1, 2)), jnp.ones((1, 1)), jnp.ones(1)))
    c = jax.vmap(partial(coefficients, PATHS[path]()))(sample.t)
    all_of_them = [problem(path, name, weight) for name in OBJECTIVES for weight in ("unit", "beta2", "balanced")]

    @jax.jit
    @jax.vmap
    def losses(sample: Draw) -> list[Array]:
        return [objectives.loss(asked, None, sample) for asked in all_of_them]

    plain = []
    for asked, values in zip(all_of_them, losses(sample), strict=True):
        scale = predictions.output_scale(asked.objective.kind, c, MOMENTS)
        weight = {"unit": 1, "beta2": c.beta**2, "balanced": 1 / scale**2}[asked.objective.weight]
        plain.append(values / (weight * scale**2))
    assert np.min(plain) > 0
    np.testing.assert_allclose(np.stack(plain), np.broadcast_to(plain[0], (15, 16)), rtol=2e-4)


def test_beta2_turns_the_score_loss_into_the_noise_loss(x64: None) -> None:
    """beta^2 |s_hat - s|^2 = |eps_hat - eps|^2: floors and root weights times rows agree at every sample."""
    mixture = Mixture(jnp.array([[1.0], [-1.0]]), jnp.array([[0.2], [0.1]]), jnp.array([0.4, 0.6]))
    sample = batch(64, mixture)
    for path in NAMED:
        scored, noised = (
            jax.jit(jax.vmap(partial(objectives.irreducible, problem(path, name, weight), mixture)))(sample)
            for name, weight in (("score", "beta2"), ("noise", "unit"))
        )
        np.testing.assert_allclose(scored, noised, rtol=1e-10)


RESOLVED = {"ot": "unit", "trig": "unit", "ve": "unit", "edm": "unit", "subvp": "unit"} | dict.fromkeys(
    ("sqrt", "vp", "cosine"), "balanced"
)


@pytest.mark.parametrize("path", NAMED)
def test_auto_weight(path: str) -> None:
    """cfm takes weight 1 where the velocity has a second moment, and another with a finite expectation where dbeta^2 diverges."""
    resolved = problem(path, "cfm")
    assert resolved.objective.weight == RESOLVED[path]
    assert objectives.has_finite_loss(resolved)
    assert dataclasses.replace(resolved, objective=VelocityMatching()) == Problem(
        PATHS[path](), VelocityMatching(), Uniform(), MOMENTS, None, True
    )  # nothing else changed


@pytest.mark.parametrize("precondition", [True, False])
@pytest.mark.parametrize("path", NAMED)
def test_which_losses_are_finite(path: str, precondition: bool) -> None:
    """The unweighted score loss is infinite wherever beta(1) = 0; with beta^2 it is finite everywhere, as are noise and data."""
    finite = {
        (name, weight): objectives.has_finite_loss(problem(path, name, weight, precondition))
        for name, weight in (("score", "unit"), ("score", "beta2"), ("noise", "unit"), ("data", "unit"), ("v", "unit"))
    }
    assert finite.pop(("score", "unit")) == (path not in TO_ZERO)
    assert all(finite.values()), finite


def test_a_time_law_that_avoids_the_end_makes_the_score_loss_finite() -> None:
    """With logit-normal times the density of t vanishes at t = 1 faster than 1/beta^2 grows on sqrt."""
    asked = problem("sqrt", "score", "unit")
    assert not objectives.has_finite_loss(asked)
    assert objectives.has_finite_loss(dataclasses.replace(asked, time=LogitNormal(std=0.5)))


def test_draw_takes_its_time_from_u_and_its_noise_from_the_key() -> None:
    """The same key gives the same noise whatever u; t is the law's quantile of u; noise is standard normal."""
    asked = dataclasses.replace(problem("ot", "cfm"), time=LogitNormal())
    z = jnp.ones(2)
    one, other = (objectives.draw(asked, z, u, jax.random.key(3)) for u in (0.5, 0.9))
    np.testing.assert_array_equal(one.eps, other.eps)
    assert float(one.t) == pytest.approx(0.5) and float(other.t) == pytest.approx(
        1 / (1 + np.exp(-stats.norm.ppf(0.9))), rel=1e-5
    )
    many = jax.jit(jax.vmap(lambda key: objectives.draw(asked, z, 0.5, key).eps))(
        jax.random.split(jax.random.key(4), 5000)
    )
    assert stats.kstest(np.ravel(many), "norm").pvalue > 1e-3


def test_examples_are_the_datasets_and_their_times_are_stratified() -> None:
    """A training batch: z from the dataset, t one in each stratum, and nothing shared between data, noise and time."""
    ring = Ring()
    asked = Problem(PATHS["ot"](), VelocityMatching("unit"), Uniform(), MOMENTS, None, True)
    run = Run(asked, ring, ring.load(), Adam(), jax.random.key(1), 1, 0.0, 4096)
    drawn = jax.jit(partial(examples, count=4096))(run, jax.random.key(8))
    np.testing.assert_array_equal(np.floor(np.asarray(drawn.t, np.float64) * 4096), np.arange(4096))
    joint = np.corrcoef(np.column_stack([drawn.z, drawn.eps, drawn.t]).T)
    assert np.max(np.abs(joint - np.eye(5))) < 4.5 / np.sqrt(4096)
    assert abs(np.mean(np.sum(np.asarray(drawn.z) ** 2, -1)) - 102) < 4 * 20 / np.sqrt(4096)  # |mu|^2 + 2 = 102


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_checks(name: str) -> None:
    """Every weight of the table is accepted, another refused with the list of those there are."""
    for weight in WEIGHTS:
        OBJECTIVES[name](weight).check()
    with pytest.raises(ValueError, match=r"weight is 'snr'.*unit, beta2, balanced, auto"):
        OBJECTIVES[name]("snr").check()


def test_an_unresolved_weight_is_an_error() -> None:
    """`auto` has no value: it must be resolved before it is used."""
    asked = dataclasses.replace(problem("ot", "score"), objective=ScoreMatching("auto"))
    c = coefficients(asked.path, 0.5)
    with pytest.raises(ValueError, match="resolve"):
        objectives.root_weight(asked, Coefficients(*c))
