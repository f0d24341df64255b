"""The Gaussian Schroedinger bridge: against values of 50 digits, and what must hold of it whatever its numbers."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures, schroedinger
from diffsde.evaluation.bridge import cross_figure
from diffsde.interpolants import Backward, OracleInterpolant
from diffsde.metrics.frechet import gaussian_distance
from diffsde.samplers import LoopSettings, simulate_compiled, times
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.sde import EulerMaruyama
from diffsde.schroedinger import Gaussian, GaussianBridge

CASES = json.loads((Path(__file__).parent / "data" / "bridges.json").read_text())["schroedinger_bridges"]


def known(case: dict[str, Any]) -> GaussianBridge:
    start = Gaussian(np.array(case["mean0"]), np.array(case["covariance0"]))
    end = Gaussian(np.array(case["mean1"]), np.array(case["covariance1"]))
    return schroedinger.bridge(start, end, case["sigma"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['mean0'])}d-{case['sigma']}")
def test_against_reference_values(case: dict[str, Any]) -> None:
    found = known(case)
    np.testing.assert_allclose(found.cross, case["cross_covariance"], rtol=1e-10, atol=1e-12)
    law = schroedinger.marginal(found, case["t"])
    np.testing.assert_allclose(law.mean, case["mean_t"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.covariance, case["covariance_t"], rtol=1e-10, atol=1e-12)


def test_without_noise_it_is_optimal_transport() -> None:
    """sigma = 0: E |X_1 - X_0|^2 is W2^2 between the Gaussians, the Frechet distance, found by another formula."""
    found = known(next(case for case in CASES if len(case["mean0"]) == 3))
    start, end, *_ = found
    cross = schroedinger.bridge(start, end, 0.0).cross
    cost = np.sum((start.mean - end.mean) ** 2) + np.trace(start.covariance + end.covariance - cross - cross.T)
    assert cost == pytest.approx(gaussian_distance(*start, *end), rel=1e-8)


def test_the_divergence_of_fitted_points() -> None:
    """KL(fitted || law) of n true points is d (d + 3)/(4 n) on average, and 0 of a law itself."""
    found = known(next(case for case in CASES if len(case["mean0"]) == 2))
    law = schroedinger.marginal(found, 0.3)
    assert schroedinger.kl(law, law) == pytest.approx(0, abs=1e-12)
    random = np.random.default_rng(0)
    points = random.multivariate_normal(*law, size=(500, 400))
    found_kl = [schroedinger.kl(schroedinger.fitted(each), law) for each in points]
    expected = 2 * 5 / (4 * 400)
    assert np.mean(found_kl) == pytest.approx(expected, abs=4 * np.std(found_kl) / np.sqrt(500) + 0.02 * expected)


def plane() -> GaussianBridge:
    return known(next(case for case in CASES if len(case["mean0"]) == 2 and case["sigma"] == 1.0))


@pytest.mark.usefixtures("x64")
def test_the_field_has_the_marginals_of_the_closed_form() -> None:
    """Its score is that of the marginal, its velocity moves mean and covariance as they change; at three times."""
    found, h = plane(), 1e-5
    field, x = schroedinger.exact_field(found), np.array([0.3, -1.2])
    for t in (0.0, 0.4, 1.0):
        law = schroedinger.marginal(found, t)
        score = -np.linalg.solve(law.covariance, x - law.mean)
        np.testing.assert_allclose(field.score(jnp.asarray(x), t), score, rtol=1e-10)
        ahead, behind = (schroedinger.marginal(found, t + shift) for shift in (h, -h))
        mean = (ahead.mean - behind.mean) / (2 * h)
        growth = (ahead.covariance - behind.covariance) / (2 * h)
        slope = jax.jacfwd(lambda x, t=t: field.velocity(x, t))(jnp.asarray(x))
        np.testing.assert_allclose(slope @ law.covariance + law.covariance @ slope.T, growth, atol=1e-8)
        np.testing.assert_allclose(field.velocity(jnp.asarray(law.mean), t), mean, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_without_a_coupling_the_field_is_that_between_mixtures() -> None:
    found = plane()
    field = schroedinger.exact_field(found._replace(cross=np.zeros((2, 2))))
    laws = (mixtures.with_covariances(*(jnp.asarray(part)[None] for part in law), jnp.ones(1)) for law in found[:2])
    other, x = OracleInterpolant(field.path, *laws, (2,)), jnp.array([0.3, -1.2])
    for mine, theirs in zip(field.output(x, 0.7), other.output(x, 0.7), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


@pytest.mark.parametrize("backward", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_sde_of_its_sigma_couples_the_ends_as_the_closed_form(backward: bool) -> None:
    """Cov(X_0, X_1) and the law of the end, of 20,000 points, within five errors and the 200 steps' own."""
    found, n = plane(), 20_000
    field, (begin, end) = schroedinger.exact_field(found), found[:2]
    if backward:
        field, begin, end = Backward(field), end, begin
    x = np.random.default_rng(0).multivariate_normal(*begin, size=n)
    grid = times(UniformGrid(), 200, field.path)
    settings = LoopSettings("step")
    moved = simulate_compiled(
        EulerMaruyama(Constant(found.sigma)), field, jnp.asarray(x, float), grid, jax.random.key(1), settings=settings
    ).x
    y = np.asarray(moved, np.float64)
    cross = (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)) / n
    wanted = found.cross.T if backward else found.cross
    spread = np.sqrt((np.outer(np.diag(begin.covariance), np.diag(end.covariance)) + wanted**2) / n)
    assert (np.abs(cross - wanted) < 5 * spread + 0.01).all(), (cross, wanted)
    assert schroedinger.kl(schroedinger.fitted(y), end) < 10 * 2 * 5 / (4 * n) + 1e-3


def test_the_floor_of_a_cross_covariance_is_what_true_pairs_have() -> None:
    """Of one that is not symmetric, as a bridge's between laws of other axes is."""
    cross, n, random = np.array([[0.0, 0.9], [-0.9, 0.0]]), 200, np.random.default_rng(0)
    law = Gaussian(np.zeros(2), np.eye(2))
    bridge = GaussianBridge(law, law, 1.0, cross)
    factor = np.linalg.cholesky(np.block([[np.eye(2), cross], [cross.T, np.eye(2)]]))
    found = [cross_figure(*np.split(random.normal(size=(n, 4)) @ factor.T, 2, axis=1), bridge) for _ in range(400)]
    assert found[0].reference is not None
    typical = np.sqrt(np.mean([each.value**2 for each in found]))
    assert found[0].reference.value == pytest.approx(typical, rel=0.1)
