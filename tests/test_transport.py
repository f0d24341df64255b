"""Optimal transport: exact by two solvers and by quantiles, errors that cover, and the energy of trajectories in closed form."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import integrate

from diffsde.cli.main import main
from diffsde.datasets import DATASETS
from diffsde.evaluation import straightness
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.straightness import Straightness
from diffsde.evaluation.transport import W2
from diffsde.metrics import distances
from diffsde.metrics.distances import transport
from diffsde.paths import PATHS

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("power", [1, 2])
def test_pot_and_scipy_agree(power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ot", reason="POT is not installed")
    x, y = RNG.normal(size=(2, 200, 2)) * [[[1.0]], [[3.0]]]
    by_scipy = transport(x, y, power)
    monkeypatch.setattr(distances, "MOST", 1)
    by_pot = transport(x, y, power)
    assert by_pot.cost == pytest.approx(by_scipy.cost, rel=1e-9)
    assert by_scipy.error is None and by_pot.error is not None and by_pot.error > 0


def test_a_large_set_on_a_line_is_sorted() -> None:
    """Of 1,500 points a side, by POT: W1 and W2 of the order statistics."""
    pytest.importorskip("ot", reason="POT is not installed")
    x, y = RNG.normal(size=(2, 1500, 1)) * [[[1.0]], [[0.5]]] + [[[0.0]], [[2.0]]]
    apart = np.abs(np.sort(x[:, 0]) - np.sort(y[:, 0]))
    for power in (1, 2):
        assert transport(x, y, power).cost == pytest.approx(np.mean(apart**power), rel=1e-9)


def test_the_potentials_error_is_the_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 40 repetitions W2^2 of N(0, 1) and N(1, 2^2) on a line scatters about its own mean by the stated error."""
    pytest.importorskip("ot", reason="POT is not installed")
    monkeypatch.setattr(distances, "MOST", 1)
    found = [transport(*(RNG.normal(size=(2, 200, 1)) * [[[1.0]], [[2.0]]] + [[[0.0]], [[1.0]]])) for _ in range(40)]
    stated = np.sqrt(np.mean([float(each.error or 0) ** 2 for each in found]))
    assert np.std([each.cost for each in found], ddof=1) == pytest.approx(stated, rel=4 / np.sqrt(2 * 40))


@pytest.mark.parametrize(("path", "std", "mean"), [("ot", 0.5, (2.0, 1.0)), ("trig", 2.0, (0.0, 0.0))])
def test_the_energy_of_a_gaussian_is_in_closed_form(
    path: str, std: float, mean: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X_t = alpha m + sqrt(C_t/C_0) X_0, C = alpha^2 std^2 + beta^2: the energy is an integral over t, W2^2 = |m|^2 + d (std - 1)^2."""
    monkeypatch.setattr(straightness, "POINTS", 4000)
    data, way = DATASETS["gaussian"](mean=mean, std=std), PATHS[path]()
    subject = Subject(data, data.exact_field(way))
    found = Straightness().measure(subject, jax.random.key(1))

    def spread(t: float) -> float:
        return float(np.hypot(np.asarray(way.alpha(t)) * std, np.asarray(way.beta(t))))

    def rate(t: float, h: float = 1e-3) -> tuple[float, float]:
        a, b = max(t - h, 0.0), min(t + h, 1.0)
        return (float(way.alpha(b)) - float(way.alpha(a))) / (b - a), (spread(b) - spread(a)) / (b - a)

    square, d = float(np.sum(np.square(mean))), len(mean)
    at = np.linspace(0, 1, 401)
    rates = np.array([rate(t) for t in at])
    energy = integrate.simpson(rates[:, 0] ** 2 * square + d * rates[:, 1] ** 2, x=at)
    least = square + d * (std - 1) ** 2
    for name, true in (("path_energy", energy), ("straightness", energy - least), ("npe", energy / least - 1)):
        figure = found.figures[name]
        assert figure.error is not None and abs(figure.value - true) < 4 * figure.error + 2e-3 * energy, (name, true)
        assert figure.error < 0.1 * energy
    end = {"ot": np.sqrt(d) * std, "trig": np.sqrt(d) * abs(std - 1)}[
        path
    ]  # u_0(x) = dalpha m + dbeta x: one step ends at m, at x
    once = found.figures["one_step_error"]
    assert once.error is not None and abs(once.value - end) < 4 * once.error < 0.1 * end
    squared = found.about["straightness"]["w2_squared"]
    assert abs(squared["value"] - least) < 2 * squared["error"] < 0.2 * least


def test_w2_of_one_pair_of_larger_sets() -> None:
    """Shrunk samples are at the distance of their quantiles, nearer to it than sets of 512, and both floors are measured."""
    pytest.importorskip("ot", reason="POT is not installed")
    data = DATASETS["gaussian"](mean=(0.0, 0.0), std=1.0)
    x = np.random.default_rng(5).normal(size=(2000, 2)) * 0.5
    figure = W2(points=2000).measure(Subject(data, n=2000, x=x), jax.random.key(0)).figures["w2"]
    assert figure.points == 2000 and figure.reference is not None and figure.reference.kind == "floor"
    assert figure.error is not None and abs(figure.value - np.sqrt(2) / 2) < 4 * figure.error < 0.1
    assert 0 < figure.reference.value < 0.15 and figure.reference.error is not None


def test_large_sets_need_pot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ot" else real(name, *rest))
    words = ["evaluate", "run=oracle", "dataset=gmm", "path=ot", "transport_points=600"]
    assert main(words) == 2
    assert "transport_points=600, above 512, needs POT: pip install 'diffsde[ot]'" in capsys.readouterr().err
