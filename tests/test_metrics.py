"""Metrics: exact values for true samples within their errors, known answers for wrong ones, and the axioms of a
distance.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import samples
from scipy import stats

from diffsde import mixtures
from diffsde.datasets import Ring
from diffsde.metrics.distances import w2
from diffsde.metrics.mixture import label_probabilities, mixture_figures, mixture_fit, mixture_values
from diffsde.mixtures import Mixture

COUNT = 20_000


def skew() -> Mixture:
    """Three overlapping components of unequal weight, with full covariances."""
    covariances = jnp.array([[[1.0, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.8, 0.0], [0.0, 0.1]]])
    means = jnp.array([[0.0, 0.0], [1.0, 1.0], [-1.5, 0.5]])
    return mixtures.with_covariances(means, covariances, jnp.array([0.5, 0.2, 0.3]))


def far(weights: list[float]) -> Mixture:
    """Components that share nothing, of std 0.5 and 2."""
    means = jnp.array([[0.0, 0.0], [60.0, 0.0], [0.0, 60.0]])
    return Mixture(means, jnp.array([[0.25], [4.0], [1.0]]), jnp.array(weights))


@pytest.mark.parametrize("name", ["ring", "skew", "far"])
def test_true_samples_have_the_exact_figures(name: str) -> None:
    """cross_entropy is the entropy, within_mode_std 1 and mode_weight_kl about (K-1)/(2n), though
    components overlap.
    """
    mixture = {"ring": Ring().mixture, "skew": skew, "far": partial(far, [0.5, 0.3, 0.2])}[name]()
    x = samples(mixture)
    figures = mixture_figures(mixture, x)
    error = float(figures.cross_entropy_error)
    assert abs(float(figures.cross_entropy) - mixtures.entropy(mixture).value) < 4 * error
    assert abs(float(figures.within_mode_std) - 1) < 4 / np.sqrt(4 * COUNT)  # the squares are chi-square with 2 degrees
    k = len(mixture.weights)
    assert 0 <= 2 * COUNT * float(figures.mode_weight_kl) + 0.01 < stats.chi2(k - 1).isf(1e-4)


def test_the_standard_error_is_that_of_the_mean() -> None:
    """Repeated over 200 samples of 100 points, the cross entropy scatters by its stated standard error."""
    mixture = skew()
    figures = jax.vmap(partial(mixture_figures, mixture))(samples(mixture).reshape(200, 100, 2))
    stated = np.sqrt(np.mean(np.asarray(figures.cross_entropy_error) ** 2))
    assert np.std(figures.cross_entropy) == pytest.approx(stated, rel=4 / np.sqrt(2 * 200))


@pytest.mark.parametrize("stretch", [0.7, 0.95, 1.1])
def test_broader_modes_are_measured_in_units_of_their_std(stretch: float) -> None:
    """Modes stretched by s about their means have within_mode_std s, and the cross entropy grows by d (s^2 - 1)/2
    nats.
    """
    mixture = far([0.5, 0.3, 0.2])
    x = samples(mixture._replace(variances=mixture.variances * stretch**2))
    figures = mixture_figures(mixture, x)
    assert abs(float(figures.within_mode_std) / stretch - 1) < 4 / np.sqrt(4 * COUNT)
    excess = float(figures.cross_entropy) - mixtures.entropy(mixture).value
    assert abs(excess - (stretch**2 - 1)) < 4 * float(figures.cross_entropy_error)


@pytest.mark.parametrize("stretch", [0.9, 1.1])
def test_small_stretches_are_seen_on_the_ring(stretch: float) -> None:
    """On the published ring, whose modes overlap a little, a 10% wrong std is found to 2%."""
    x = samples(Ring(std=stretch).mixture())
    assert float(mixture_figures(Ring().mixture(), x).within_mode_std) == pytest.approx(stretch, rel=0.02)


def test_full_covariances_are_whitened() -> None:
    """within_mode_std uses each component's own covariance: stretched along one of two axes by s, it is sqrt((s^2 +
    1)/2).
    """
    turn = stats.ortho_group(2, seed=1).rvs()
    spread = turn @ np.diag([4.0, 0.01]) @ turn.T
    mixture = mixtures.with_covariances(jnp.zeros((1, 2)), jnp.asarray(spread[None], jnp.float32), jnp.ones(1))
    wide = turn @ np.diag([4.0, 0.01 * 9]) @ turn.T
    x = samples(mixtures.with_covariances(jnp.zeros((1, 2)), jnp.asarray(wide[None], jnp.float32), jnp.ones(1)))
    assert float(mixture_figures(mixture, x).within_mode_std) == pytest.approx(np.sqrt(5), rel=0.03)


def test_wrong_weights_have_their_divergence() -> None:
    """Samples of other weights have mode_weight_kl = KL(q | w), a lost mode included."""
    for weights in ([0.2, 0.3, 0.5], [0.7, 0.3, 0.0]):
        x = samples(far(weights))
        found = float(mixture_figures(far([0.5, 0.3, 0.2]), x).mode_weight_kl)
        assert found == pytest.approx(stats.entropy(weights, [0.5, 0.3, 0.2]), abs=0.02)


def test_points_of_any_shape_are_flattened() -> None:
    """Image-shaped samples have the figures of their flat ones."""
    mixture = Mixture(jnp.array([[0.0, 1.0, 2.0, 3.0]]), jnp.ones((1, 1)), jnp.ones(1))
    x = samples(mixture)
    for one, other in zip(mixture_figures(mixture, x), mixture_figures(mixture, x.reshape(COUNT, 2, 2)), strict=True):
        assert float(one) == float(other)


def test_many_samples_are_measured_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples once, by blocks whose last begins in the one before; never more numbers at a time than a block has."""
    mixture, n = skew(), 1000
    x = samples(mixture)[:n]
    values = mixture_values(mixture, jnp.asarray(x))
    held = []
    monkeypatch.setattr("diffsde.metrics.mixture.BLOCK", 300 * x.shape[1] * len(mixture.weights))
    monkeypatch.setattr(
        "diffsde.metrics.mixture.mixture_values", lambda law, part: held.append(len(part)) or mixture_values(law, part)
    )
    found, r = mixture_fit(mixture, x), np.asarray(values.responsibilities, np.float64)
    assert held == [300] * 4
    np.testing.assert_allclose(found.log_p, values.log_p, rtol=1e-6)
    np.testing.assert_allclose(found.squares, values.squares, rtol=1e-5)
    np.testing.assert_allclose(found.mean, r.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(r, rowvar=False), atol=1e-7)
    labels = np.arange(n) % len(mixture.weights)
    np.testing.assert_allclose(label_probabilities(mixture, x, labels), r[np.arange(n), labels], atol=1e-6)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(200, 1), (200, 2), (100, 3, 4)])
def test_w2_of_a_shifted_copy_is_the_shift(shape: tuple[int, ...]) -> None:
    """W2(x, x + v) = |v| whatever the order of the points, 0 for v = 0, and symmetric."""
    x = RNG.normal(size=shape)
    shift = RNG.normal(size=shape[1:])
    y = RNG.permutation(x + shift)
    assert w2(x, y) == pytest.approx(np.sqrt(np.sum(shift**2)), rel=1e-10)
    assert w2(y, x) == pytest.approx(w2(x, y), rel=1e-12)
    assert w2(x, RNG.permutation(x)) == 0


def test_w2_is_the_least_over_all_pairings() -> None:
    """All 120 of two sets of five points in the plane, tried one by one."""
    for x, y in RNG.normal(size=(10, 2, 5, 2)):
        costs = [np.mean(np.sum((x - y[list(order)]) ** 2, axis=1)) for order in itertools.permutations(range(5))]
        assert w2(x, y) == pytest.approx(np.sqrt(min(costs)), rel=1e-12)


def test_w2_on_a_line_is_that_of_the_quantiles() -> None:
    """In one dimension the optimal plan is sorted: W2^2 = mean (x_(i) - y_(i))^2."""
    x, y = RNG.normal(size=(2, 300, 1)) * [[[1.0]], [[3.0]]] + [[[0.0]], [[1.0]]]
    expected = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    assert w2(x, y) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(np.sqrt(1 + (3 - 1) ** 2), rel=0.2)  # W2 of the two normals


def test_w2_is_a_distance() -> None:
    """Triangle inequality, scaling, and invariance under rotations."""
    x, y, z = (RNG.normal(size=(100, 2)) + centre for centre in ([0, 0], [1, 2], [-3, 0]))
    assert w2(x, z) <= w2(x, y) + w2(y, z)
    turn = stats.ortho_group(2, seed=2).rvs()
    assert w2(x @ turn, y @ turn) == pytest.approx(w2(x, y), rel=1e-10)
    assert w2(5 * x, 5 * y) == pytest.approx(5 * w2(x, y), rel=1e-10)


def test_w2_compares_equally_many() -> None:
    """Of unequal samples, and of more than 512, only as many are compared as both have, up to 512."""
    x = RNG.normal(size=(600, 2))
    assert w2(x, np.vstack([x[:50], x[:50] + 100])[:50]) == 0
    assert w2(x, np.vstack([x[:512], 100 + x[512:]])) == 0


def test_w2_between_true_samples_is_the_published_floor() -> None:
    """Two true samples of the ring are some 1.1 +- 0.2 apart by 1000 points, and farther by 512, never near 0."""
    both = samples(Ring().mixture()).reshape(-1, 1000, 2)
    floors = [w2(both[i], both[i + 3]) for i in range(3)]
    assert 0.8 < np.mean(floors) < 2.2
