"""Metrics of images: exact distances of Gaussians, balls and neighbours that can be counted by hand, known averages."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from diffsde.metrics.frechet import frechet_distance, gaussian_distance
from diffsde.metrics.neighbours import nearest
from diffsde.metrics.prdc import COVERAGE, prdc

RNG = np.random.default_rng(0)


def test_gaussians_on_a_line() -> None:
    """(m - n)^2 + (s - r)^2."""
    one = np.ones(1)
    assert gaussian_distance(3 * one, np.array([[4.0]]), one, np.array([[25.0]])) == pytest.approx(4 + 9)


def test_gaussians_that_do_not_commute() -> None:
    factors = RNG.normal(size=(2, 6, 6))
    a, b = factors @ factors.transpose(0, 2, 1)
    exact = np.trace(a + b - 2 * sqrtm(sqrtm(a) @ b @ sqrtm(a)).real)
    assert gaussian_distance(np.zeros(6), a, np.zeros(6), b) == pytest.approx(exact)
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    turned = gaussian_distance(np.zeros(6), turn @ a @ turn.T, np.zeros(6), turn @ b @ turn.T)
    assert turned == pytest.approx(exact), "no direction is special"


def test_a_rank_of_less_than_all_is_no_obstacle() -> None:
    """Fewer samples than features: a moved copy is as far as it was moved."""
    x = RNG.normal(size=(10, 64))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(x, x + 0.5) == pytest.approx(64 * 0.25, rel=1e-5)


def test_samples_of_gaussians_are_as_far_as_the_gaussians() -> None:
    x, y = RNG.normal(size=(2, 200_000, 3)) * np.array([1.0, 2.0])[:, None, None]
    assert frechet_distance(x, y + 1) == pytest.approx(3 * (1 + 1), rel=0.02)


def test_balls_counted_by_hand() -> None:
    """Real points 0, 1, ..., 9 reach 2 or 3 (their third neighbour) and 3 to 5 (their fifth) to each side."""
    real = np.arange(10.0)[:, None]
    generated = np.array([4.2, 4.3, 4.4, 4.5, 4.6, 4.7, 100.0])[:, None]
    found = prdc(real, generated)
    assert found.precision == pytest.approx(6 / 7)
    # The ball of 100 reaches to 4.5, its third neighbour, and so holds 5, ..., 9; that of 4.2, to 3.9 and 4.5, holds 4
    assert found.recall == pytest.approx(6 / 10)
    assert found.coverage == pytest.approx(10 / 10)
    radii = (5, 4, 3, 3, 3, 3, 3, 3, 4, 5)
    holding = sum(abs(g - r) <= radius for g in generated[:, 0] for r, radius in enumerate(radii))
    assert found.density == pytest.approx(holding / (5 * 7))


@pytest.mark.parametrize("dimension", [2, 20])
def test_two_samples_of_one_law(dimension: int) -> None:
    """Density 1 and coverage 1 - prod (N-i)/(N+M-i) on average, whatever the law (2002.09797, lemmas 1 and 2)."""
    n, m, i = 60, 40, np.arange(1, COVERAGE + 1)
    found = [prdc(x[:n], x[n:]) for x in RNG.exponential(size=(300, n + m, dimension))]
    for values, expected in (
        ([each.density for each in found], 1.0),
        ([each.coverage for each in found], 1 - np.prod((n - i) / (n + m - i))),
    ):
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / np.sqrt(len(values))


def test_what_precision_and_recall_tell_apart() -> None:
    """Samples of one mode of two are precise and recall half; samples of both and far noise the other way round."""
    modes = np.repeat([[0.0, 0.0], [50.0, 0.0]], 500, axis=0)
    real = modes + RNG.normal(size=(1000, 2))
    dropped = prdc(real, RNG.normal(size=(1000, 2)))
    assert dropped.precision > 0.95 and dropped.recall == pytest.approx(0.5, abs=0.03)
    assert dropped.coverage == pytest.approx(0.5, abs=0.02)
    noisy = np.concatenate([real, RNG.normal((0, 1000), size=(1000, 2))])
    invented = prdc(real, noisy)
    assert invented.precision == pytest.approx(0.5, abs=0.01) and invented.recall > 0.95
    assert invented.density == pytest.approx(0.5 * (1 + 1 / 5), rel=0.05), "each of its copies counts itself once more"


def test_nearest_neighbours() -> None:
    data = RNG.integers(0, 256, size=(20_000, 5, 5, 1), dtype=np.uint8)
    copies = data[[3, 19_999, 9_000]]
    moved = copies.astype(np.float32)
    moved[1, 0, 0, 0] += 0.5
    found = nearest(moved, data)
    assert found.indices.ravel().tolist() == [3, 19_999, 9_000]
    assert found.distances.ravel() == pytest.approx([0, 0.5, 0], abs=1e-6)
    x = RNG.uniform(0, 255, size=(700, 5, 5, 1))
    brute = np.linalg.norm(x.reshape(-1, 1, 25)[:50] - data.reshape(1, -1, 25)[:, :9000], axis=2)
    part = nearest(x[:50], data[:9000], 4)
    np.testing.assert_array_equal(part.indices, brute.argsort(1)[:, :4])
    np.testing.assert_allclose(part.distances, np.sort(brute)[:, :4], rtol=1e-5)
    np.testing.assert_allclose(nearest(x, data).distances[:50], nearest(x[:50], data, 2).distances[:, :1])
