"""Two-sample distances against closed forms of Gaussians, their invariances, and errors that are the scatter of repetitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import mixtures
from diffsde.datasets.mixture import CustomMixture
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.modes import Modes
from diffsde.metrics import discriminator, kernels
from diffsde.metrics.discriminator import held_out_accuracy
from diffsde.metrics.figures import Figure
from diffsde.metrics.kernels import BANDWIDTHS, energy_distance, mmd_squared
from diffsde.metrics.modes import mode_errors
from diffsde.metrics.sinkhorn import sinkhorn_divergence
from diffsde.metrics.sliced import sliced

N = 400


def normals(mean: float, std: float, seed: int, d: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, d)) * std + mean


def mean_apart(mean: float, std: float) -> float:
    """E|Z| of Z ~ N(mean, std^2)."""
    return float(stats.foldnorm(abs(mean) / std, scale=std).mean())


def kernel_mean(mean: float, variance: float, width: float) -> float:
    """E exp(-Z^2/(2 b^2)) of Z ~ N(mean, variance), over the bandwidths b."""
    wide = [(width * each) ** 2 for each in BANDWIDTHS]
    return float(np.mean([math.sqrt(b / (b + variance)) * math.exp(-(mean**2) / (2 * (b + variance))) for b in wide]))


# By name: the distance of two sets on a line, and its value for N(0, 1) and N(mean, std^2).
CLOSED: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Figure], Callable[[float, float], float]]] = {
    "energy": (
        energy_distance,
        lambda mean, std: 2 * mean_apart(mean, math.hypot(1, std)) - (1 + std) * mean_apart(0, math.sqrt(2)),
    ),
    "mmd": (
        lambda x, y: mmd_squared(x, y, 1.0),
        lambda mean, std: (
            kernel_mean(0, 2, math.sqrt(2))
            + kernel_mean(0, 2 * std**2, math.sqrt(2))
            - 2 * kernel_mean(mean, 1 + std**2, math.sqrt(2))
        ),
    ),
    "sliced": (
        lambda x, y: Figure(*sliced(x, y)),
        lambda mean, std: mean**2 + (std - 1) ** 2,
    ),
}


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 1.5)])
@pytest.mark.parametrize("name", CLOSED)
def test_it_is_the_closed_form_and_scatters_by_its_error(name: str, mean: float, std: float) -> None:
    """Over 60 repetitions: the mean (but for sliced's floor), and the spread, which is no more than stated where laws are one."""
    distance, exact = CLOSED[name]
    found = [distance(normals(0, 1, 2 * i), normals(mean, std, 2 * i + 1)) for i in range(60)]
    values, errors = (np.array([each[i] for each in found], float) for i in (0, 1))
    stated, spread = np.sqrt(np.mean(errors**2)), values.std(ddof=1)
    if name == "sliced" and not mean:
        assert spread < 1.4 * stated and 0 < values.mean() < 0.02
        return
    assert abs(values.mean() - exact(mean, std)) < 4 * spread / math.sqrt(60) + (0.01 if name == "sliced" else 0)
    if not mean:  # the part that may be 0 is not taken to be negative
        assert 0.6 * stated < spread < 1.05 * stated
    else:
        assert spread == pytest.approx(stated, rel=4 / math.sqrt(2 * 60))


def test_both_ways_of_squaring_differences_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one in few coordinates, by products of matrices in many; points of any shape."""
    x, y = normals(0, 1, 0, 12).reshape(N, 3, 4), normals(0.2, 1, 1, 12).reshape(N, 3, 4)
    by_products = [energy_distance(x, y), mmd_squared(x, y, 1.0)]
    monkeypatch.setattr(kernels, "DIRECT", 99)
    kernels._rows.clear_cache()
    for one, other in zip(by_products, [energy_distance(x, y), mmd_squared(x, y, 1.0)], strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-5)
        assert one.value > 4 * (one.error or 0)


def test_the_energy_distance_does_not_see_rotations_and_scales() -> None:
    x, y = normals(0, 1, 2, 2), normals(0.3, 1.2, 3, 2)
    turn = stats.ortho_group(2, seed=1).rvs()
    one, other = energy_distance(x, y), energy_distance(5 * x @ turn + 100, 5 * y @ turn + 100)
    assert other.value == pytest.approx(5 * one.value, rel=1e-3)
    assert energy_distance(y, x).value == pytest.approx(one.value, rel=1e-4)


@pytest.mark.parametrize("d", [1, 3])
def test_sliced_is_a_share_of_a_shift(d: int) -> None:
    """Of a shift v the mean of <v, direction>^2 is |v|^2/d."""
    x = normals(0, 1, 4, d)
    assert sliced(x, x[::-1] + 2.0).cost == pytest.approx(4.0, rel=0 if d == 1 else 0.25, abs=1e-12)


def gaussian_divergence(mean: float, std: float, epsilon: float) -> float:
    """The Sinkhorn divergence of N(0, 1) and N(mean, std^2) in closed form (2006.02572, theorem 1, for epsilon = 2 sigma^2)."""
    square = epsilon / 2

    def part(a: float, b: float) -> float:
        root = math.sqrt(4 * a * b + square**2)
        return -root + square * math.log(root + square)

    a, b = 1.0, std**2
    return mean**2 + part(a, b) - part(a, a) / 2 - part(b, b) / 2 + (a + b) - (a + b)


def test_sinkhorn_is_in_closed_form_for_gaussians() -> None:
    """Of quantiles, and not of draws, which scatter."""
    at = stats.norm.ppf((np.arange(N) + 0.5) / N)[:, None]
    for mean, std, epsilon in [(0.7, 1.5, 0.5), (0.0, 2.0, 2.0)]:
        found = float(sinkhorn_divergence(jnp.asarray(at), jnp.asarray(at * std + mean), epsilon))
        assert found == pytest.approx(gaussian_divergence(mean, std, epsilon), rel=0.02)


def test_sinkhorn_is_that_of_pot() -> None:
    """Its plan P at convergence: sum P |x - y|^2 + epsilon KL(P | uniform), less half of both sets' own. And 0 for equal sets."""
    ot = pytest.importorskip("ot", reason="POT is not installed")
    x, y, epsilon = normals(0, 1, 5, 2)[:32], normals(1, 1, 6, 2)[:32], 0.5

    def entropic(one: np.ndarray, other: np.ndarray) -> float:
        each, costs = np.full(32, 1 / 32), ((one[:, None] - other) ** 2).sum(axis=-1)
        plan = ot.sinkhorn(each, each, costs, epsilon, method="sinkhorn_log", numItermax=2000, stopThr=1e-8)
        return float(np.sum(plan * costs) + epsilon * stats.entropy(plan.ravel(), np.full(32**2, 1 / 32**2)))

    expected = entropic(x, y) - (entropic(x, x) + entropic(y, y)) / 2
    found = float(sinkhorn_divergence(jnp.asarray(x), jnp.asarray(y), epsilon))
    assert found == pytest.approx(expected, rel=1e-3)
    assert abs(float(sinkhorn_divergence(jnp.asarray(x), jnp.asarray(x[::-1]), 0.1))) < 1e-4


def test_the_classifier_is_nearly_as_good_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two normals a distance m apart are told apart by at most Phi(m/2); one law by 0.5."""
    monkeypatch.setattr(discriminator, "STEPS", 300)
    x, y = (np.concatenate([normals(mean, 1, seed + i) for i in range(10)]) for mean, seed in ((0, 20), (2, 40)))
    best = float(stats.norm.cdf(1))
    found = held_out_accuracy(x, y, jax.random.key(0))
    assert found.error is not None and best - 0.02 < found.value < best + 4 * found.error
    same = held_out_accuracy(x, np.concatenate([normals(0, 1, 60 + i) for i in range(10)]), jax.random.key(0))
    assert same.error is not None and abs(same.value - 0.5) < 4 * same.error


def test_modes_have_the_errors_that_they_were_given() -> None:
    """Of three modes far apart, turned and of unequal stds, one is moved by 0.5 of its std along an axis and one is stretched 1.5 fold."""
    turn = jnp.asarray(stats.ortho_group(2, seed=2).rvs(), jnp.float32)
    means, variances = (
        jnp.array([[0.0, 0.0], [60.0, 0.0], [0.0, 60.0]]),
        jnp.array([[1.0, 4.0], [0.25, 9.0], [1.0, 1.0]]),
    )
    law = mixtures.Mixture(means, variances, jnp.array([0.5, 0.2, 0.3]), jnp.stack([turn] * 3))
    moved = means.at[0].add(0.5 * 2.0 * turn[:, 1])
    wrong = law._replace(means=moved, variances=variances.at[1].mul(1.5**2))
    found, without = mode_errors(law, np.asarray(mixtures.sample(wrong, jax.random.key(0), 6_000)))
    about = 0.5**2 / (3 * 2), (2 * 1.25**2 + 0.25**2) / (3 * 2)  # of z z^T - I: 1.25 on a diagonal; 0.25 by the shift
    for name, square in zip(("mode_mean_error", "mode_covariance_error"), about, strict=True):
        figure = found[name]
        assert (
            figure.error is not None and abs(figure.value - math.sqrt(square)) < 4 * figure.error < 0.4 * figure.value
        )
    lost = law._replace(weights=jnp.array([0.5, 0.5, 0.0]))
    assert without == 0 and mode_errors(law, np.asarray(mixtures.sample(lost, jax.random.key(1), 6_000)))[1] == 1


def test_samples_that_miss_a_mode_have_no_errors_of_the_others() -> None:
    """Which would be the better for it; with all modes the errors are of so many points, as their floor is."""
    dataset = CustomMixture(means=((0.0, 0.0), (60.0, 0.0), (0.0, 60.0)), stds=(1.0, 1.0, 2.0))
    law = dataset.law()
    assert law is not None
    x, k = map(np.asarray, mixtures.sample_labelled(law, jax.random.key(0), 2_000))
    whole, least = (
        Modes().measure(Subject(dataset, None, len(each), each), jax.random.key(1)) for each in (x, x[k != 1])
    )
    assert {figure.points for figure in whole.figures.values()} == {2_000} and len(whole.figures) == 2
    assert least.figures == {} and "1 of 3" in least.rows[0][1]
