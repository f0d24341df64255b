"""The entropy of mixtures, by quadrature and by Monte Carlo, and how sure their components are: known values, scipy's
integrals, closed forms and simulations.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import rel_entr

from diffsde import mixtures, overlap
from diffsde.datasets import Ring
from diffsde.mixtures import Mixture
from diffsde.overlap import Law


def equal(means: Any, stds: list[float]) -> Mixture:
    """Isotropic components of equal weights, in numpy: float64 whatever jax is set to."""
    k = len(means)
    return Mixture(np.array(means, float), np.array(stds)[:, None] ** 2, np.full(k, 1 / k))


KNOWN = {
    "stds 2 and 0.02": (equal([[0.0], [1.0]], [2.0, 0.02]), 0.454834),
    "stds 1 and 0.05": (equal([[0.0], [0.3]], [1.0, 0.05]), 0.4533),
    "stds 1 and 0.1": (equal([[0.0], [0.3]], [1.0, 0.1]), 0.7082),
    "concentric in the plane": (equal([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.1]), 1.1404),
    "ring": (Ring().mixture(), 5.222092),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_entropies(name: str) -> None:
    """To the last digit of the values known, with an error far below it."""
    mixture, known = KNOWN[name]
    found = mixtures.entropy(mixture)
    digits = len(str(known).partition(".")[2])
    assert abs(found.value - known) < 0.51 * 10**-digits and 0 <= found.error < 1e-6


@pytest.mark.parametrize("narrow", [1e-4, 1e-2, 0.3])
def test_narrow_components_are_found_wherever_they_are(narrow: float) -> None:
    """On a line beside scipy's quad with break points, in the plane beside its integral over rings about the narrow one."""
    centres, stds = [[0.0], [1.7], [-0.4]], [1.0, narrow, 0.5]
    mixture = equal(centres, stds)
    laws = [stats.norm(m, s) for (m,), s in zip(centres, stds, strict=True)]

    def minus_p_log_p(x: float) -> float:
        logs = np.logaddexp.reduce([law.logpdf(x) for law in laws]) - np.log(3)
        return float(-np.exp(logs) * logs)

    near = [1.7 + at * narrow for at in (-12, -6, -3, 0, 3, 6, 12)]
    cuts = sorted([-12.0, -2.0, 0.0, *near, 12.0])
    pieces = [integrate.quad(minus_p_log_p, a, b, epsabs=1e-12, limit=200)[0] for a, b in pairwise(cuts)]
    assert mixtures.entropy(mixture).value == pytest.approx(sum(pieces), abs=1e-7)

    def over_a_ring(r: float) -> float:
        logs = [-(r**2) / 2 - np.log(2 * np.pi), -(r**2) / (2 * narrow**2) - np.log(2 * np.pi * narrow**2)]
        log_p = np.logaddexp.reduce(logs) - np.log(2)
        return float(-2 * np.pi * r * np.exp(log_p) * log_p)

    cuts = [0.0, narrow, 3 * narrow, 6 * narrow, 12 * narrow, 12.0 + 12 * narrow]
    pieces = [integrate.quad(over_a_ring, a, b, epsabs=1e-12, limit=200)[0] for a, b in pairwise(cuts)]
    found = mixtures.entropy(equal([[3.0, -1.0], [3.0, -1.0]], [1.0, narrow]))
    assert found.value == pytest.approx(sum(pieces), abs=1e-7) and found.error < 1e-6


def law_of(mixture: Mixture) -> Law:
    means, variances, weights = (np.asarray(part, np.float64) for part in mixture[:3])
    return Law(means, np.sqrt(np.broadcast_to(variances, means.shape)), weights)


@pytest.mark.parametrize("name", KNOWN)
def test_monte_carlo_agrees_with_the_quadrature_within_its_error(name: str) -> None:
    law = law_of(KNOWN[name][0])
    drawn, _, _ = overlap.by_monte_carlo(law)
    exact = overlap.by_quadrature(law)
    assert 0 < drawn.error < 2e-3 and abs(drawn.value - exact.value) < 4 * drawn.error


def test_entropy_above_two_dimensions() -> None:
    """One Gaussian in closed form; a mixture that varies in the plane alone adds its other coordinates' entropy; components
    that share nothing add that of their weights.
    """
    one = mixtures.entropy(equal([[1.0] * 5], [0.3]))
    assert one.value == pytest.approx(2.5 * np.log(2 * np.pi * np.e * 0.09), rel=1e-12) and one.error == 0
    plane = equal([[0.0, 0.0], [1.0, 0.5]], [1.0, 0.4])
    more = Mixture(
        np.pad(plane.means, ((0, 0), (0, 3))),
        np.hstack([np.repeat(plane.variances, 2, axis=1), np.ones((2, 3))]),
        plane.weights,
    )
    known, found = mixtures.entropy(plane).value + 1.5 * np.log(2 * np.pi * np.e), mixtures.entropy(more)
    assert 1e-5 < found.error < 2e-3 and abs(found.value - known) < 4 * found.error
    turn = stats.ortho_group(5, seed=1).rvs()
    turned = Mixture(more.means @ turn.T, more.variances, more.weights, np.broadcast_to(turn, (2, 5, 5)))
    found = mixtures.entropy(turned)
    assert abs(found.value - known) < 4 * found.error
    far = mixtures.entropy(Mixture(100 * np.eye(3), np.ones((3, 1)), np.array([0.2, 0.3, 0.5])))
    assert far.value == pytest.approx(1.5 * np.log(2 * np.pi * np.e) + stats.entropy([0.2, 0.3, 0.5]), rel=1e-12)
    assert far.error < 1e-6


def test_what_no_draw_shows_is_in_the_error() -> None:
    """Two components that overlap once in millions of draws: the error is not 0, and covers what quadrature finds."""
    law = law_of(equal([[0.0], [11.0]], [1.0, 1.0]))
    drawn, _, _ = overlap.by_monte_carlo(law)
    exact = overlap.by_quadrature(law)
    assert exact.value > 10 * exact.error and abs(drawn.value - exact.value) < 4 * drawn.error


def test_a_quadrature_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    law = law_of(KNOWN["ring"][0])
    exact = overlap.by_quadrature(law)
    monkeypatch.setattr(overlap, "WORK", 1e5)
    short = overlap.by_quadrature(law)
    assert short.error > 100 * exact.error and abs(short.value - exact.value) <= short.error


def test_components_of_no_weight_and_other_arrays_of_the_same_numbers() -> None:
    plain = equal([[0.0], [1.0]], [1.0, 0.5])
    more = Mixture(np.array([[0.0], [5.0], [1.0]]), np.array([[1.0], [1.0], [0.25]]), np.array([0.5, 0.0, 0.5]))
    assert mixtures.entropy(more) == mixtures.entropy(plain)
    assert mixtures.component_overlap(plain) is mixtures.component_overlap(equal([[0.0], [1.0]], [1.0, 0.5])), (
        "it is computed once"
    )
    assert mixtures.component_overlap(more).own[1] == 1


OVERLAPPING = {
    "two": Mixture(np.array([[0.0], [1.0]]), np.array([[1.0], [1.0]]), np.array([0.5, 0.5])),
    "three in the plane": Mixture(
        np.array([[0.0, 0.0], [1.0, 1.0], [-1.5, 0.5]]), np.array([[1.0], [0.1], [0.5]]), np.array([0.6, 0.1, 0.3])
    ),
    "apart": equal([[0.0], [100.0], [200.0]], [1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_how_far_weights_of_true_samples_are_off(name: str) -> None:
    """(sum_k E_k[r_k] - 1)/(2 n) is the mean of KL(mean r | w) over 4000 sets of n = 500 true points, simulated."""
    mixture, n, sets = OVERLAPPING[name], 500, 4000
    rng, k = np.random.default_rng(1), len(mixture.weights)
    found, expected = [], (mixtures.component_overlap(mixture).own.sum() - 1) / (2 * n)
    for _ in range(sets):
        which = rng.choice(k, n, p=mixture.weights)
        x = mixture.means[which] + np.sqrt(mixture.variances[which]) * rng.normal(size=(n, mixture.means.shape[1]))
        squares = ((x[:, None] - mixture.means) ** 2).sum(axis=2) / mixture.variances[:, 0]
        p = mixture.weights * np.exp(-squares / 2) / mixture.variances[:, 0] ** (mixture.means.shape[1] / 2)
        found.append(rel_entr((p / p.sum(axis=1, keepdims=True)).mean(axis=0), mixture.weights).sum())
    error = np.std(found, ddof=1) / np.sqrt(sets)
    assert abs(np.mean(found) - expected) < 4 * error + 0.01 * expected  # the next order in 1/n
    if name != "apart":
        assert expected < 0.8 * (k - 1) / (2 * n)
    else:
        assert expected == pytest.approx((k - 1) / (2 * n), rel=1e-6)


def test_jax_mixtures_are_taken_too() -> None:
    covariances = jnp.asarray([[[1.0, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]]])
    mixture = mixtures.with_covariances(jnp.asarray([[0.0, 0.0], [60.0, 0.0]]), covariances, jnp.asarray([0.3, 0.7]))
    inside = sum(w * stats.multivariate_normal(cov=c).entropy() for w, c in zip([0.3, 0.7], covariances, strict=True))
    assert mixtures.entropy(mixture).value == pytest.approx(inside + stats.entropy([0.3, 0.7]), abs=1e-5)
