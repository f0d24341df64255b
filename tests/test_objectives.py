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
from conftest import double_precision, known, samples
from scipy import stats

from diffsde import mixtures, objectives, predictions
from diffsde.build import check
from diffsde.datasets import Ring
from diffsde.errors import UserError
from diffsde.mixtures import Mixture
from diffsde.objectives import (
    OBJECTIVES,
    WEIGHTS,
    Draw,
    NoisePrediction,
    Problem,
    Regression,
    ScoreMatching,
    VelocityMatching,
    weights,
)
from diffsde.objectives import losses as example_losses
from diffsde.optimizers import Adam
from diffsde.paths import GAUSSIAN, PATHS, coefficients
from diffsde.time_distributions import LogitNormal, Uniform
from diffsde.training import Run, examples, loss_floor
from diffsde.types import Array, Coefficients, Moments

REGRESSIONS = [name for name, kind in OBJECTIVES.items() if issubclass(kind, Regression)]
NAMED = [name for name in GAUSSIAN if name != "expression"]
TO_ZERO = ["ot", "sqrt", "trig", "cosine", "vp", "subvp"]
MOMENTS = Moments(np.array([0.3, -0.2], np.float32), np.float32(1.9))  # type: ignore[arg-type]


def problem(path: str, objective: str, weight: str | None = None, precondition: bool = True) -> Problem:
    """A problem without a network, its weight resolved."""
    made = OBJECTIVES[objective]() if weight is None else OBJECTIVES[objective](weight)  # type: ignore[call-arg]
    return objectives.resolve_weight(Problem(PATHS[path](), made, Uniform(), MOMENTS, None, precondition))


def batch(mixture: Mixture) -> Draw:
    """20,000 examples with stratified times."""
    z, random = samples(mixture), np.random.default_rng(0)
    t = (np.arange(len(z)) + random.uniform(0.01, 0.99, len(z))) / len(z)
    return Draw(jnp.asarray(z), jnp.asarray(random.normal(size=z.shape), jnp.float32), jnp.asarray(t, jnp.float32))


FLOORS = {  # MATHS.md: path, objective, irreducible loss a coordinate, half a unit of its last digit
    "velocity-ot": ("ot", VelocityMatching("unit"), 9.841, 5e-4),
    "velocity-trig": ("trig", VelocityMatching("unit"), 15.473, 5e-4),
    "noise-ot": ("ot", NoisePrediction("unit"), 0.6825, 5e-5),
    "noise-sqrt": ("sqrt", NoisePrediction("unit"), 0.6228, 5e-5),
    "noise-trig": ("trig", NoisePrediction("unit"), 0.6865, 5e-5),
}


@pytest.fixture(scope="module")
def floors() -> dict[str, tuple[float, float]]:
    """training.loss_floor of each, in one compiled program."""
    ring = Ring()
    law = ring.mixture()
    runs = {}
    for name, (path, objective, _, _) in FLOORS.items():
        asked = Problem(PATHS[path](), objective, Uniform(), mixtures.moments(law), None, True)
        runs[name] = Run(asked, ring, law, Adam(), jax.random.key(1), 1, 0.0, 1)
    found = jax.jit(lambda runs: {n: loss_floor(run, law, jax.random.key(2), 2**17) for n, run in runs.items()})(runs)
    return jax.tree.map(float, found)


@pytest.mark.parametrize("name", list(FLOORS))
def test_published_floors(floors: dict[str, tuple[float, float]], name: str) -> None:
    """The irreducible losses of the ring of 11, t uniform, within 4 standard errors, themselves below 0.6%."""
    _, _, floor, rounding = FLOORS[name]
    value, error = floors[name]
    assert 0 < error < 0.006 * floor
    assert abs(value - floor) < 4 * error + rounding


def exact_network(asked: Problem, mixture: Mixture, shift: Array) -> Callable[..., Array]:
    """What a network would have to answer for the field to be exact, plus a constant error."""

    def answer(graph: Any, params: Any, seen: Array, t: Array, label: Array | None) -> Array:
        c = coefficients(asked.path, t)
        if not asked.precondition:
            exact = mixtures.predict(mixture, seen, c)
            a, b = predictions.row(objectives.regression(asked).kind, c)
            return a * exact.data + b * exact.noise + shift
        x = c.alpha * asked.moments.mean + seen * predictions.total_std(c, asked.moments)
        exact = mixtures.predict(mixture, x, c)
        return predictions.network_target(exact.data, exact.noise, c, asked.moments) + shift

    return answer


COMBINATIONS = [
    ("ot", "cfm", None, True),
    ("sqrt", "cfm", "beta2", False),
    ("vp", "score", None, True),
    ("trig", "v", None, False),
    ("edm", "data", None, True),
    ("ve", "noise", "balanced", False),
]


@pytest.mark.parametrize(("path", "objective", "weight", "precondition"), COMBINATIONS)
def test_regret_of_a_wrong_field_is_its_squared_error(
    monkeypatch: pytest.MonkeyPatch, path: str, objective: str, weight: str | None, precondition: bool
) -> None:
    """The exact field's loss is the floor; a constant error delta of the network adds weight c_out^2 delta^2, never
    less.
    """
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
            monkeypatch.setattr(example_losses, "apply", exact_network(asked, mixture, shift))
            losses.append(objectives.loss(asked, None, sample))
        c = coefficients(asked.path, sample.t)
        scale = objectives.root_weight(asked, c)
        if precondition:
            scale = scale * predictions.output_scale(asked.objective.kind, c, asked.moments)
        return losses[0], losses[1], objectives.irreducible(asked, mixture, sample), scale**2 * jnp.mean(delta**2)

    exact, wrong, floor, regret = (np.asarray(part, np.float64) for part in figures(batch(mixture)))
    assert stats.sem(exact) < 0.03 * floor.mean()
    assert abs(np.mean(exact - floor)) < 4 * stats.sem(exact - floor)
    assert abs(np.mean(wrong - exact - regret)) < 4 * stats.sem(wrong - exact - regret) + 1e-6 * regret.mean()
    assert np.mean(wrong - exact) > 0


EVERY_LOSS = {
    (name, weight, precondition): problem("ot", name, weight, precondition)
    for name in REGRESSIONS
    for weight in ("unit", "beta2", "balanced")
    for precondition in (True, False)
}


TIMES = np.array([2.0**-24, 1 - 2.0**-24, 0.05, 0.3, 0.7, 0.95])


Losses = dict[str, dict[Any, tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def every_loss() -> tuple[dict[str, Coefficients], Losses, Losses]:
    """By path: its coefficients at TIMES, and loss and gradient of every objective, weight and preconditioning, in float32 and
    in float64.

    The path enters a loss through its coefficients alone, which are given here: one program serves all paths.
    """

    @jax.jit
    @jax.vmap
    def program(c: Coefficients, z: Array, eps: Array) -> dict[Any, tuple[Array, Array]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(example_losses, "apply", lambda graph, params, x, t, label: params[0] * x + params[1])
            patch.setattr(example_losses, "coefficients", lambda path, t: c)
            sample, params = Draw(z, eps, jnp.float32(0.3)), jnp.array([0.7, 0.1])
            return {
                name: jax.value_and_grad(lambda params, asked=asked: objectives.loss(asked, params, sample))(params)
                for name, asked in EVERY_LOSS.items()
            }

    z, eps = (np.random.default_rng(0).normal(size=(2, len(TIMES), 2)) * 4).astype(np.float32)

    def losses(dtype: type) -> tuple[dict[str, Coefficients], Losses]:
        by_path = {path: known(PATHS[path](), TIMES)[0] for path in NAMED}
        draws = jnp.asarray(z, dtype), jnp.asarray(eps, dtype)
        return by_path, {path: jax.tree.map(np.asarray, program(c, *draws)) for path, c in by_path.items()}

    single = losses(np.float32)
    with double_precision():
        return *single, losses(np.float64)[1]


@pytest.mark.parametrize("path", NAMED)
def test_loss_and_gradient_keep_their_digits_at_both_ends(every_loss: Any, path: str) -> None:
    """At t = 2^-24 and 1 - 2^-24, and between, every objective with its default weight has in float32 the loss and the gradient
    that it has in float64.
    """
    for name in REGRESSIONS:
        for precondition in (True, False):
            weight = problem(path, name, precondition=precondition).objective.weight
            both = (found[path][name, weight, precondition] for found in every_loss[1:])
            for part, exact in zip(*both, strict=True):
                assert part.dtype == np.float32 and exact.dtype == np.float64
                size = np.abs(exact) + 1e-3 * np.abs(exact).max(axis=-1, keepdims=True) * (exact.ndim > 1)
                off = np.abs(part - exact) / size
                assert np.max(off) < 1e-3, (name, weight, precondition, off)


@pytest.mark.parametrize("path", NAMED)
def test_an_objective_is_a_weight_in_time(every_loss: Any, path: str) -> None:
    """Preconditioned, one sample's losses under any two objectives are as weight c_out^2; balanced, they are all
    equal.
    """
    c, found = every_loss[0][path], every_loss[1][path]
    plain = found["noise", "balanced", True][0][2:]
    assert np.min(plain) > 0
    for (name, weight, precondition), (loss, _) in found.items():
        if precondition:
            scale = predictions.output_scale(OBJECTIVES[name].kind, c, MOMENTS)
            factor = {"unit": 1, "beta2": c.beta**2, "balanced": 1 / scale**2}[weight] * scale**2
            np.testing.assert_allclose(loss[2:], (factor * jnp.ones(len(TIMES)))[2:] * plain, rtol=2e-4)


def test_beta2_turns_the_score_loss_into_the_noise_loss() -> None:
    """beta^2 |s_hat - s|^2 = |eps_hat - eps|^2: the two have one floor at every sample."""
    mixture = Mixture(
        jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]), jnp.array([[0.2], [0.1], [0.5]]), jnp.ones(3) / 3
    )
    both = problem("sqrt", "score", "beta2"), problem("sqrt", "noise", "unit")
    floors = jax.jit(jax.vmap(lambda sample: [objectives.irreducible(asked, mixture, sample) for asked in both]))
    scored, noised = floors(batch(mixture))
    np.testing.assert_allclose(scored, noised, rtol=1e-4)


RESOLVED = {  # by path: cfm, v. MOMENTS' std^2 of 3.6 alone lets c_out^2 vary by 4.6 at most; dbeta and ve's beta do the rest
    "ot": ("unit", "unit"),
    "trig": ("unit", "unit"),
    "sqrt": ("balanced", "unit"),
    "cosine": ("balanced", "unit"),
    "vp": ("balanced", "unit"),
    "subvp": ("balanced", "unit"),
    "ve": ("balanced", "balanced"),
    "edm": ("balanced", "balanced"),
}


@pytest.mark.parametrize("path", NAMED)
def test_auto_weight(path: str) -> None:
    """cfm and v take weight 1 where it has a finite expectation and no time outweighs another by more than 10."""
    for name, weight in zip(("cfm", "v"), RESOLVED[path], strict=True):
        resolved = problem(path, name)
        assert resolved.objective.weight == weight
        assert objectives.has_finite_loss(resolved) and objectives.objection(resolved) is None
        assert dataclasses.replace(resolved, objective=OBJECTIVES[name]()) == Problem(
            PATHS[path](), OBJECTIVES[name](), Uniform(), MOMENTS, None, True
        )  # nothing else changed


def with_std(asked: Problem, std: float) -> Problem:
    return dataclasses.replace(asked, moments=Moments(MOMENTS.mean, np.float32(std)))  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [0.5, 2.0, 7.0])
def test_spread_of_the_unit_weight(std: float) -> None:
    """c_out^2 = s^2/V for the velocity of ot, V = t^2 s^2 + (1 - t)^2 from s^2/(1 + s^2) to max(1, s^2); for v on trig V goes
    from 1 to s^2; balanced there is no spread.
    """
    square = std**2
    ot, trig = with_std(problem("ot", "cfm", "unit"), std), with_std(problem("trig", "v", "unit"), std)
    assert objectives.scale_spread(ot) == pytest.approx((1 + square) / min(1, square), rel=0.02)
    assert objectives.scale_spread(trig) == pytest.approx(max(square, 1 / square), rel=1e-3)
    assert objectives.scale_spread(with_std(problem("ve", "cfm", "balanced"), std)) == pytest.approx(1, rel=1e-5)


def test_auto_weight_changes_at_the_stated_spread() -> None:
    """v on trig, whose spread is s^2: unit up to 10, balanced beyond, both said with the two numbers; raw, unit at any."""
    below, above = (with_std(problem("trig", "v", "auto"), std) for std in (9.9**0.5, 10.1**0.5))
    below, above = (dataclasses.replace(asked, objective=OBJECTIVES["v"]()) for asked in (below, above))  # type: ignore[call-arg]
    assert weights.UNIT_SPREAD == 10
    assert objectives.choose_weight(below) == ("unit", "c_out^2 varies along t by a factor of 9.9, not more than 10")
    assert objectives.choose_weight(above) == ("balanced", "c_out^2 varies along t by a factor of 10.1, more than 10")
    raw = dataclasses.replace(above, precondition=False)
    assert objectives.choose_weight(raw).weight == "unit"
    assert objectives.objection(objectives.weighted(below, "unit")) is None
    against = objectives.objection(objectives.weighted(above, "unit"))
    assert against is not None and "10.1 times" in against and "objective.weight=auto" in against
    assert objectives.objection(objectives.resolve_weight(above)) is None  # the advice


def test_linear_loss() -> None:
    """v on trig, unit weight: the mean over t of l/(l sin^2 + cos^2) is sqrt(l), and the loss its mean over coordinates; for
    balanced noise of equal variances what a network that answers 0 has, 1.
    """
    asked = problem("trig", "v", "unit")
    assert objectives.linear_loss(asked, np.array([0.25, 1.0, 4.0, 9.0])) == pytest.approx(
        (0.5 + 1 + 2 + 3) / 4, rel=1e-4
    )
    even = np.full(3, float(MOMENTS.std) ** 2)
    assert objectives.linear_loss(problem("ve", "noise", "balanced"), even) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("path", NAMED)
def test_the_unweighted_score_loss_is_infinite_where_beta_vanishes(path: str) -> None:
    """E[1/beta^2] diverges on every path with beta(1) = 0, and on no other."""
    assert objectives.has_finite_loss(problem(path, "score", "unit")) == (path not in TO_ZERO)


@pytest.mark.parametrize("precondition", [True, False])
@pytest.mark.parametrize("path", ["sqrt", "vp"])
def test_other_losses_are_finite_where_dbeta_diverges(path: str, precondition: bool) -> None:
    """The score with beta^2, noise, data and v have finite losses; the unweighted velocity has none, nor the score."""
    cases = {("score", "beta2"): True, ("noise", "unit"): True, ("data", "unit"): True, ("v", "unit"): True}
    cases |= {("cfm", "unit"): False, ("score", "unit"): False}
    found = {case: objectives.has_finite_loss(problem(path, *case, precondition)) for case in cases}
    assert found == cases


def test_a_time_law_that_avoids_the_end_makes_the_score_loss_finite() -> None:
    """With logit-normal times the density of t vanishes at t = 1 faster than 1/beta^2 grows on sqrt."""
    asked = problem("sqrt", "score", "unit")
    assert not objectives.has_finite_loss(asked)
    assert objectives.has_finite_loss(dataclasses.replace(asked, time=LogitNormal(std=0.5)))


def test_examples_are_the_datasets_and_their_times_are_stratified() -> None:
    """A training batch: z from the dataset, normal noise, t one in each stratum, and nothing shared among the three."""
    ring = Ring()
    asked = Problem(PATHS["ot"](), VelocityMatching("unit"), Uniform(), MOMENTS, None, True)
    run = Run(asked, ring, ring.load(), Adam(), jax.random.key(1), 1, 0.0, 4096)
    drawn = jax.jit(partial(examples, count=4096))(run, jax.random.key(8))
    np.testing.assert_array_equal(np.floor(np.asarray(drawn.t, np.float64) * 4096), np.arange(4096))
    assert stats.kstest(np.ravel(drawn.eps), "norm").pvalue > 1e-3
    joint = np.corrcoef(np.column_stack([drawn.z, drawn.eps, drawn.t]).T)
    assert np.max(np.abs(joint - np.eye(5))) < 4.5 / np.sqrt(4096)
    assert abs(np.mean(np.sum(np.asarray(drawn.z) ** 2, -1)) - 102) < 4 * 20 / np.sqrt(4096)  # |mu|^2 + 2 = 102


@pytest.mark.parametrize("name", list(REGRESSIONS))
def test_checks(name: str) -> None:
    """Every weight of the table is accepted, another refused with the list of those there are."""
    for weight in WEIGHTS:
        check(OBJECTIVES[name](weight))
    with pytest.raises(UserError, match=r"weight is 'snr'.*unit, beta2, balanced, auto"):
        check(OBJECTIVES[name]("snr"))


def test_an_unresolved_weight_is_an_error() -> None:
    """`auto` has no value: it must be resolved before it is used."""
    asked = dataclasses.replace(problem("ot", "score"), objective=ScoreMatching("auto"))
    c = coefficients(asked.path, 0.5)
    with pytest.raises(ValueError, match="resolve"):
        objectives.root_weight(asked, Coefficients(*c))


def test_examples_take_their_times_from_the_law() -> None:
    """t is the law's quantile of the stratified uniforms."""
    asked = dataclasses.replace(problem("ot", "cfm"), time=LogitNormal(mean=0.5))
    run = Run(asked, Ring(), Ring().load(), Adam(), jax.random.key(1), 1, 0.0, 256)
    t = np.asarray(jax.jit(partial(examples, count=256))(run, jax.random.key(8)).t, np.float64)
    u = stats.norm.cdf(np.log(t / (1 - t)) - 0.5)
    np.testing.assert_array_equal(np.floor(u * 256 + 1e-3 * (np.arange(256) < 255)).astype(int), np.arange(256))
