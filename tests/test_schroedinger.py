"""The Gaussian Schroedinger bridge: against values of 50 digits, and what must hold of it whatever its numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde import schroedinger
from diffsde.metrics.frechet import gaussian_distance
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
