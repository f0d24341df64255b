"""The error budget: by closed forms of Gaussians, where one law's exact field stands in for a network of another's."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from diffsde.datasets import DATASETS
from diffsde.evaluation import field_error
from diffsde.evaluation.budget import Budget, by_time, refined
from diffsde.evaluation.field_error import END, FieldErrors, field_errors, start_divergence
from diffsde.evaluation.metric import Drawing, Subject
from diffsde.metrics.figures import Figure
from diffsde.paths import PATHS
from diffsde.samplers import DIFFUSIONS, SAMPLERS, Sampler, prior, simulate_compiled, times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import RK4, Euler
from diffsde.types import Array

KEY = jax.random.key(0)


def gaussian(mean: float, std: float) -> object:
    return DATASETS["gaussian"](mean=(mean, 0.0), std=std)


def divergence(mean: float, std: float) -> float:
    """KL(N(0, I) | N((mean, 0), std^2 I)) in the plane."""
    return (1 / std**2 - 1) + mean**2 / (2 * std**2) + 2 * math.log(std)


@pytest.mark.parametrize(
    ("path", "mean", "std"), [("ot", 0.3, 1.2), pytest.param("vp", -0.2, 0.8, marks=pytest.mark.slow)]
)
def test_the_bound_is_the_divergence_of_two_laws(path: str, mean: float, std: float) -> None:
    """Both SDEs reverse the same forward one: KL of their paths is KL of the two laws, here at t = 0.999, and never below it."""
    data, way = gaussian(0.0, 1.0), PATHS[path]()
    found = field_errors(gaussian(mean, std).exact_field(way), data.exact_field(way), data, None, KEY).kl_bound()  # type: ignore[attr-defined]
    alpha, beta = float(way.alpha(END)), float(way.beta(END))
    true, other = alpha**2 + beta**2, (alpha * std) ** 2 + beta**2
    expected = divergence(alpha * mean / math.sqrt(true), math.sqrt(other / true))
    assert found.error is not None and abs(found.value - expected) < 4 * found.error < 0.2 * expected


def test_the_start_from_noise_alone_has_a_divergence() -> None:
    """Of N((m, 0), I) on a path whose alpha is not 0 at t = 0: KL of p_0 and N(0, beta(0)^2 I); none on the path ot."""
    way, data = PATHS["vp"](rate_min=0.5, rate_max=8.0), gaussian(3.0, 1.0)
    found = start_divergence(data.exact_field(way), data, jnp.zeros((20_000, 2)))  # type: ignore[attr-defined,arg-type]
    alpha, square = float(way.alpha(0.0)), float(way.beta(0.0)) ** 2
    ratio = (alpha**2 + square) / square
    expected = ratio - 1 - math.log(ratio) + (3 * alpha) ** 2 / (2 * square)
    assert found.error is not None and abs(found.value - expected) < 4 * found.error < 0.3 * expected
    assert start_divergence(data.exact_field(PATHS["ot"]()), data, jnp.zeros((10, 2))) == (0.0, 0.0, None, None)  # type: ignore[attr-defined,arg-type]


def test_the_field_error_is_an_integral() -> None:
    """Of N(m, I) against N(0, I) on the path ot: u_m - u = dalpha m - C'/(2 C) alpha m, whatever x."""
    data, way, m = gaussian(0.0, 1.0), PATHS["ot"](), 0.5
    found = field_errors(gaussian(m, 1.0).exact_field(way), data.exact_field(way), data, None, KEY)  # type: ignore[attr-defined]

    def square(t: float) -> float:
        c, half = t**2 + (1 - t) ** 2, t - (1 - t)
        return (m - half / c * t * m) ** 2 / 2  # of the two coordinates, one is off

    exact = integrate.quad(square, 0, END)[0] / END
    assert found.field_error().value == pytest.approx(exact, rel=2e-3)
    assert found.velocity[-1] == pytest.approx(integrate.quad(square, 0.95 * END, END)[0] / (0.05 * END), rel=0.02)


def budget_of(sampler: Sampler, steps: int, mean: float, std: float) -> dict:
    """The figures of N(0, 4 I) and the exact field of another Gaussian in the network's place."""
    data, way = gaussian(0.0, 2.0), PATHS["ot"]()
    field = gaussian(mean, std).exact_field(way)  # type: ignore[attr-defined]
    x0 = prior(way, jnp.asarray(0.0), (2,), jax.random.key(1), 4000)
    x = simulate_compiled(sampler, field, x0, times(UniformGrid(), steps, way), KEY).x
    drawing = Drawing(sampler, UniformGrid(), steps, "mean", False, x0, KEY, None)
    return Budget().measure(Subject(data, field, len(x), x, drawing=drawing), KEY).figures  # type: ignore[arg-type]


def test_the_three_gaps_are_what_they_stand_for() -> None:
    """-log p of N(m, s^2) under N(0, 2^2) exceeds the entropy by (s^2 + m^2/2)/4 - 1: the network's gap, from the same noise."""
    found = budget_of(RK4(), 100, 0.6, 2.2)
    gap, steps, chance = (found[name] for name in ("network_gap", "discretisation_gap", "sampling_gap"))
    assert abs(gap.value - ((2.2**2 + 0.6**2 / 2) / 4 - 1)) < 4 * gap.error < 0.1
    assert abs(steps.value) < 1e-4 and found["discretisation_rms"].value < 1e-3
    assert abs(chance.value) < 4 * chance.error and chance.error == pytest.approx(1 / math.sqrt(4000), rel=0.1)


def test_the_steps_gap_is_that_of_the_recursion() -> None:
    """Euler multiplies x by prod (1 + h C'/(2 C)), the exact map of N(0, 4) by 2: the std says the gap and the distance."""
    steps = 8
    found = budget_of(Euler(), steps, 0.0, 2.0)
    at = np.arange(steps) / steps
    scale = float(np.prod(1 + (4 * at - (1 - at)) / (4 * at**2 + (1 - at) ** 2) / steps))
    gap, apart = found["discretisation_gap"], found["discretisation_rms"]
    assert abs(gap.value - (scale**2 / 4 - 1)) < 4 * gap.error < 0.2 * abs(gap.value)
    assert abs(apart.value - math.sqrt(2) * abs(scale - 2)) < 4 * apart.error < 0.1
    assert apart.reference.kind == "field" and apart.reference.value == pytest.approx(apart.value, rel=1e-3)
    assert found["network_gap"].value == pytest.approx(0, abs=1e-4)


def test_a_refined_grid_keeps_its_times() -> None:
    at = np.array([0.0, 0.1, 0.5, 1.0])
    fine = np.asarray(refined(at, 4))
    assert len(fine) == 13
    np.testing.assert_allclose(fine[::4], at, atol=1e-7)
    np.testing.assert_allclose(np.diff(fine)[4:8], 0.1, atol=1e-6)


def test_every_label_is_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten labels, dealt in turn to 20 intervals of t, would leave each interval one label of its own."""
    seen = []

    def errors(field: object, exact: object, z: Array, eps: Array, t: Array, labels: Array) -> np.ndarray:
        seen.append((np.floor(20 * np.asarray(t) / END), np.asarray(z)[:, 0], np.asarray(labels)))
        return np.ones((2, len(t)))

    data = gaussian(0.0, 1.0)
    exact = data.exact_field(PATHS["ot"]())  # type: ignore[attr-defined]
    monkeypatch.setattr(field_error, "_errors", errors)
    monkeypatch.setattr(
        type(data), "true_points", lambda self, labels, key, n: np.stack([np.resize(labels, n)] * 2, 1).astype(float)
    )
    field_errors(exact, exact, data, np.arange(10), KEY, points=50)  # type: ignore[arg-type]
    ((places, points, labels),) = seen
    assert np.array_equal(points, labels) and all(len(set(labels[places == i])) == 10 for i in range(20))


def test_the_exact_field_has_no_gap_of_a_network() -> None:
    """By a sampler with noise neither, whose few steps, and whose finer ones, have an error of their own."""
    figures = budget_of(SAMPLERS["em"](DIFFUSIONS["constant"](2.0)), 5, 0.0, 2.0)
    assert figures["network_gap"].value == 0.0
    assert abs(figures["discretisation_gap"].value) > 4 * (figures["discretisation_gap"].error or 0.0)


def test_where_in_time_the_error_lies() -> None:
    """Half of it before the interval in which its sum passes half; of an exact field there is none to be somewhere."""
    t, zero = (np.arange(4) + 0.5) / 4, np.zeros(4)
    text = by_time(
        FieldErrors(t, np.array([1.0, 1.0, 5.0, 1.0]), zero, np.array([0.0, 0.0, 0.0, 1.0]), zero, Figure(0.0))
    )[0][1]
    assert "field error before t=0.62" in text and "kl bound before t=0.88" in text
    assert by_time(FieldErrors(t, zero, zero, zero, zero, Figure(0.0))) == [
        ("error by t", "none: the field is the exact one")
    ]
