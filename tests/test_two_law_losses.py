"""Losses between two laws: what no linear function explains, the field that is exact for Gaussians, floors and regrets."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import mixtures, objectives
from diffsde.datasets import CustomMixture, Gaussian, Ring
from diffsde.datasets.normal import StandardNormal
from diffsde.interpolants import OracleInterpolant
from diffsde.learned_interpolant import LearnedInterpolant
from diffsde.nets import MLP, PairNet, initialise, structure
from diffsde.objectives import Problem, VelocityAndScore, VelocityMatching, between
from diffsde.optimizers import Adam
from diffsde.paths import ICFM, OT, Bridge, GaussianPath, Interpolant, Trig, coefficients
from diffsde.preconditioning import (
    Ends,
    drift_from,
    drift_scale,
    network_input,
    score_from,
    unexplained,
    variance,
    velocity_from,
    velocity_spread,
)
from diffsde.time_distributions import Uniform
from diffsde.training import Run, examples, loss_floor
from diffsde.types import Array, Moments

TIMES = np.array([0.003, 0.2, 0.5, 0.85, 0.997])
ENDS = Ends(Moments(jnp.array([1.0, -2.0]), 0.7), Moments(jnp.array([-0.5, 3.0]), 2.0))
PATHS: dict[str, GaussianPath] = {
    "ot": OT(),
    "trig": Trig(),
    "bridge": Bridge(sigma=1.5),
    "icfm": ICFM(sigma=0.3),
    "interpolant": Interpolant(alpha_t="t**2", beta_t="1-t", gamma_t="sqrt(2*t*(1-t))"),
}
DATA = Gaussian(mean=(1.0, -2.0), std=0.7)
SOURCE = Gaussian(mean=(-0.5, 3.0), std=2.0)


@pytest.mark.parametrize("name", list(PATHS))
@pytest.mark.usefixtures("x64")
def test_residuals_are_what_linear_functions_leave(name: str) -> None:
    """Each residual is its target minus the estimate of a network that answers 0; and by the covariances of (z, y, eps), it is
    uncorrelated with x_t and has the stated variance.
    """
    z, y, eps = np.random.default_rng(0).normal(size=(3, 2)) * 3
    for t in TIMES:
        c = coefficients(PATHS[name], t)
        x = c.alpha * z + c.beta * y + c.gamma * eps
        left = unexplained(z, y, eps, c, ENDS)
        target = c.dalpha * z + c.dbeta * y
        zero = jnp.zeros(2)
        np.testing.assert_allclose(left.drift, target - drift_from(zero, x, c, ENDS), atol=1e-9)
        np.testing.assert_allclose(left.velocity, target + c.dgamma * eps - velocity_from(zero, x, c, ENDS), atol=1e-8)
        np.testing.assert_allclose(left.noise, eps + c.gamma * score_from(zero, x, c, ENDS), atol=1e-9)
        covariance = np.diag([ENDS.data.std**2, ENDS.source.std**2, 1.0])
        seen = np.array([c.alpha, c.beta, c.gamma])
        assert seen @ covariance @ seen == pytest.approx(float(variance(c, ENDS)), rel=1e-12)
        rows = {  # the coefficients of z, y and eps in a residual: its values at the unit vectors less that at the means
            field: np.array([at(field, unit, c) for unit in np.eye(3)]) - at(field, np.zeros(3), c)
            for field in left._fields
        }
        for field, scale in (("drift", drift_scale(c, ENDS)), ("velocity", velocity_spread(c, ENDS)), ("noise", None)):
            assert rows[field] @ covariance @ seen == pytest.approx(0, abs=1e-9)
            if scale is not None:
                assert rows[field] @ covariance @ rows[field] == pytest.approx(float(scale) ** 2, rel=1e-9)


def at(field: str, values: np.ndarray, c: Any) -> float:
    """The first coordinate of a residual where those of z, y and eps have these values."""
    return float(getattr(unexplained(*(jnp.full(2, value) for value in values), c, ENDS), field)[0])


@pytest.mark.parametrize("name", list(PATHS))
@pytest.mark.usefixtures("x64")
def test_a_network_that_answers_nothing_is_exact_between_gaussians(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every prediction, of drift and score, of the velocity alone, and of the velocity from N(0, I): the exact field's."""
    path, random = PATHS[name], np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(len(TIMES), 2)) * 3)
    for both, source in ((True, SOURCE), (False, SOURCE), (False, StandardNormal((2,)))):
        if both and not path.has_gamma:
            continue
        noise = isinstance(source, StandardNormal)
        monkeypatch.setattr("diffsde.learned_interpolant.apply", lambda *_, both=both: jnp.zeros((2, 2) if both else 2))
        moments = [each.moments(each.load(), jax.random.key(0)) for each in (DATA, source)]
        learned = LearnedInterpolant(path, None, *moments, None, both, noise, True)
        exact = OracleInterpolant(path, source.law(), DATA.law(), (2,))
        found, wanted = (jax.vmap(field.output)(x, jnp.asarray(TIMES)) for field in (learned, exact))
        assert learned.knows_score == (found.score is not None) == (both or noise)
        for part in found._fields if both or noise or not path.has_gamma else ("velocity",):
            if getattr(found, part) is not None:
                np.testing.assert_allclose(getattr(found, part), getattr(wanted, part), atol=1e-7, err_msg=part)


def made(
    path: GaussianPath, objective: Any, source: Any, data: Any, precondition: bool = True, graph: Any = None
) -> Run:
    """A run between two laws with a resolved weight."""
    laws = data.moments(data.load(), jax.random.key(0)), source.moments(source.load(), jax.random.key(0))
    asked = Problem(path, objective, Uniform(), laws[0], graph, precondition, laws[1], False)
    asked = objectives.resolve_weight(asked)
    key = jax.random.key(0)
    return Run(asked, data, data.load(), Adam(), key, 1, 0.0, 1, source=source, source_arrays=source.load())


FLOORS = {
    "ot": (OT(), VelocityMatching("unit")),
    "bridge": (Bridge(sigma=1.5), VelocityMatching("balanced")),
    "bridge, both": (Bridge(sigma=1.5), VelocityAndScore("balanced")),
    "icfm, both": (ICFM(sigma=0.3), VelocityAndScore("unit")),
}


@pytest.mark.parametrize("name", list(FLOORS))
def test_floor_of_gaussians_is_the_best_linear_loss(name: str) -> None:
    """The exact field's mean loss over draws, and the Gaussians' conditional variance in closed form, of covariances that do
    not commute.
    """
    data = CustomMixture(means=((1.0, 0.0),), stds=None, covariances=(((2.0, 0.8), (0.8, 0.5)),))
    source = CustomMixture(means=((0.0, -1.0),), stds=((0.4, 1.7),))
    run = made(*FLOORS[name], source, data)
    value, error = map(float, loss_floor(run, data.law(), jax.random.key(3), 2**17, source.law()))
    spread = (np.asarray(mixtures.covariances(each.law())[0], np.float64) for each in (data, source))
    linear = objectives.linear_loss_between(run.problem, *spread)
    assert error < 0.01 * value
    assert abs(value - linear) < 4 * error + 1e-3 * linear


def test_floor_from_noise_is_that_of_the_gaussian_path() -> None:
    """The published 9.841 of the ring of 11 on ot, with N(0, I) as any other source."""
    ring, source = Ring(), Gaussian()
    run = made(OT(), VelocityMatching("unit"), source, ring)
    value, error = map(float, loss_floor(run, ring.law(), jax.random.key(4), 2**17, source.law()))
    assert abs(value - 9.841) < 4 * error + 5e-4 and error < 0.006 * value


@pytest.mark.parametrize(("name", "precondition"), [("ot", False), ("bridge", True), ("icfm, both", True)])
def test_loss_less_floor_is_the_regret(name: str, precondition: bool) -> None:
    """Of an untrained network, on the same examples: E|u_hat - target|^2 = E|u_hat - u|^2 + E|target - u|^2. So the gradient of
    the loss is that of the regret: the network learns the exact field.
    """
    path, objective = FLOORS[name]
    data, source = CustomMixture(means=((2.0, 1.0), (-1.0, 0.0)), stds=(0.6, 0.3)), CustomMixture(conditional=True)
    net = PairNet(MLP(widths=(8,))) if isinstance(objective, VelocityAndScore) else MLP(widths=(8,))
    graph, params = structure(net, (2,))[0], initialise(net, (2,), jax.random.key(5))
    run = made(path, objective, source, data, precondition, graph)
    laws = source.law(), data.law()

    def losses(params: Any, sample: Any) -> tuple[Array, Array, Array]:
        exact = objectives.exact_between(run.problem, *laws, sample)
        regret = objectives.regret_between(run.problem, params, sample, exact)
        return (
            objectives.loss(run.problem, params, sample),
            regret,
            objectives.irreducible_between(run.problem, sample, exact),
        )

    @jax.jit
    @jax.vmap
    def figures(sample: Any) -> Any:
        scaled = partial(losses, sample=sample)
        return jax.jvp(lambda scale: scaled(jax.tree.map(lambda p: scale * p, params)), (1.0,), (1.0,))

    found = figures(examples(run, jax.random.key(6), 2**14))
    (loss, regret, floor), (slope, slope_of_regret, _) = jax.tree.map(lambda part: np.asarray(part, np.float64), found)
    assert abs(np.mean(loss - regret - floor)) < 4 * stats.sem(loss - regret - floor)
    assert abs(np.mean(slope - slope_of_regret)) < 4 * stats.sem(slope - slope_of_regret)
    assert np.mean(regret) > 4 * stats.sem(loss)  # which the test could tell from none


def test_auto_weight_between_two_laws() -> None:
    """The velocity's target has a finite variance without noise, none that is finite on the bridge, where dgamma diverges."""
    for path, weight in ((OT(), "unit"), (ICFM(sigma=0.3), "unit"), (Bridge(), "balanced")):
        assert made(path, VelocityMatching("auto"), SOURCE, Gaussian(std=1.5)).problem.objective.weight == weight
    unit = made(Bridge(), VelocityMatching("unit"), SOURCE, DATA).problem
    assert not objectives.has_finite_loss(unit)
    assert objectives.has_finite_loss(made(Bridge(), VelocityAndScore("unit"), SOURCE, DATA).problem)
    assert between.learns_score(dataclasses.replace(unit, objective=VelocityAndScore()))


def test_losses_are_finite_next_to_both_ends() -> None:
    """In float32 at t = 2^-23 and 1 - 2^-24, where dgamma is a thousand and more; and as in float64 to 1%."""
    z, y, eps = (np.random.default_rng(2).normal(size=(3, 2)) * 3).astype(np.float32)
    for t in (2.0**-23, 1 - 2.0**-24):
        found = []
        for x64 in (False, True):
            with jax.enable_x64(x64):
                c = coefficients(Bridge(sigma=1.5), t)
                left = unexplained(*map(jnp.asarray, (z, y, eps)), c, ENDS)
                found.append([np.asarray(left.velocity / velocity_spread(c, ENDS)), np.asarray(left.drift)])
                assert np.isfinite(np.asarray(network_input(jnp.asarray(y), c, ENDS))).all()
        np.testing.assert_allclose(*found, rtol=0.01, atol=1e-3)
