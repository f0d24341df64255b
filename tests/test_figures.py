"""Figures with their errors: repeated draws scatter by them, and what is printed has their digits."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import samples
from scipy import stats

from diffsde import mixtures
from diffsde.cli.main import main
from diffsde.datasets import CustomMixture, Moons, Ring
from diffsde.evaluation import densities, memorisation, references, transport
from diffsde.evaluation.image_features import Features, LabelAccuracy
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.reconstruction import calibration, reconstruction_figures
from diffsde.evaluation.shown import figure_rows
from diffsde.evaluation.table import METRICS, name_of_fit
from diffsde.evaluation.validation import said_validation
from diffsde.fields import OracleField
from diffsde.inverse.measurements import Linear
from diffsde.inverse.problem import pose
from diffsde.likelihood import choose_end
from diffsde.metrics import figure_text
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure, Reference, mean_figure, share_figure, standard_error
from diffsde.mixtures import Mixture
from diffsde.paths import OT
from diffsde.samplers.adaptive import Adaptive
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import Euler, Heun
from diffsde.samplers.sampler import Sampler
from diffsde.verbs import train_report

SETS = 40
# Of 40 standardised deviations: their std is chi-distributed, and outside of this range once in 1000 times.
WITHIN = np.sqrt(stats.chi2(SETS - 1).ppf([0.0005, 0.9995]) / (SETS - 1))


def figures(x: Any, dataset: Any, key: Any, labels: Any = None) -> dict[str, Figure]:
    """What `sample` measures of samples."""
    subject = Subject(dataset, n=len(x), x=x, labels=None if labels is None else np.asarray(labels))
    return METRICS[name_of_fit(subject)]().measure(subject, key).figures


def deviations(found: list[Figure], target: float | None = None) -> np.ndarray:
    """(value - target)/error of each figure; the target is their own mean where none is known."""
    values, stated = (np.array([getattr(figure, key) for figure in found]) for key in ("value", "error"))
    return (values - (values.mean() if target is None else target)) / stated


def covered(found: list[Figure], target: float | None = None) -> None:
    z = deviations(found, target)
    root = np.sqrt(np.sum(z**2) / (len(z) - (target is None)))
    assert WITHIN[0] < root < WITHIN[1], (root, WITHIN)


OVERLAPPING = CustomMixture(means=((0.0, 0.0), (1.5, 0.0), (0.0, 2.0)), stds=(1.0, 0.5, 0.7), weights=(0.5, 0.3, 0.2))


def test_errors_of_a_mixtures_figures_cover() -> None:
    """40 true sets of 400 points: cross-entropy and width about their exact values; true weights scatter about their floor."""
    sets = samples(OVERLAPPING.mixture(), SETS * 400).reshape(SETS, 400, 2)
    found = [figures(jnp.asarray(x), OVERLAPPING, jax.random.key(0)) for x in sets]
    covered([each["cross_entropy"] for each in found], found[0]["cross_entropy"].reference.value)
    covered([each["within_mode_std"] for each in found], 1.0)
    weights = [each["mode_weight_kl"] for each in found]
    mean, error = (
        np.mean([each.value for each in weights]),
        np.std([each.value for each in weights]) / np.sqrt(SETS),
    )
    assert abs(mean - weights[0].reference.value) < 4 * error
    assert np.mean([each.error for each in weights]) == pytest.approx(error * np.sqrt(SETS), rel=0.5)


def test_the_error_of_wrong_weights_covers() -> None:
    """Sets of other weights, whose divergence is far from 0: the slope's part of the error."""
    other = OVERLAPPING.mixture()._replace(weights=jnp.array([0.2, 0.2, 0.6]))
    sets = samples(other, SETS * 400).reshape(SETS, 400, 2)
    covered([figures(jnp.asarray(x), OVERLAPPING, jax.random.key(0))["mode_weight_kl"] for x in sets])


def test_the_error_of_label_probabilities_covers() -> None:
    """Labels dealt in turn, which do not scatter: about the true value, by their error alone."""
    mixture, labels = OVERLAPPING.mixture(), jnp.tile(jnp.arange(3), 100)
    place = jax.jit(partial(mixtures.place, mixture))
    eps = jax.random.normal(jax.random.key(1), (SETS, 300, 2))
    found = [figures(place(labels, e), OVERLAPPING, jax.random.key(0), labels) for e in eps]
    covered([each["label_probability"] for each in found], found[0]["label_probability"].reference.value)
    covered([each["cross_entropy"] for each in found])


@pytest.mark.parametrize(("count", "most"), [(100, 2.5), (400, 1.8), (1000, 1.5)])
def test_the_error_of_w2_covers(count: int, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of 100 points, so that 100 samples are in all 8 pairs, 400 in two each and 1000 in one, with other true points each
    time: the stated error is the scatter over 80 repetitions, whose std is known to 8%, or somewhat above.
    """
    monkeypatch.setattr(transport, "MOST", 100)
    data = Moons()
    draws = [data.draw(data.load(), jax.random.key(1000 + i), count) for i in range(80)]
    found = [figures(x, data, jax.random.key(i))["w2"] for i, x in enumerate(draws)]
    for each, limit in ((found, most), ([one.reference for one in found], 1.4)):
        scatter = np.std([one.value for one in each], ddof=1)
        assert 0.75 < np.sqrt(np.mean([one.error**2 for one in each])) / scatter < limit, each[0]


@pytest.mark.slow
def test_the_error_of_the_exact_posteriors_figures_covers() -> None:
    """40 problems of 24 measurements, 64 samples of each exact posterior: calibration about 1, the truth's misfit about 1."""
    data, k, each = Ring(components=3, radius=2.0), 24, 64
    measured, matrix = Linear(matrix=((1.0, 0.5),), noise=0.5), jnp.array([[1.0, 0.5]])
    found = []

    @jax.jit
    def draws(ys: Any, key: Any) -> Any:
        def of(y: Any, key: Any) -> Any:
            return mixtures.sample(mixtures.posterior(data.mixture(), matrix, y, 0.5), key, each)

        return jax.vmap(of)(ys, jax.random.split(key, k)).swapaxes(0, 1).reshape(-1, 2)

    moments = data.moments(data.load(), jax.random.key(0))
    for i in range(SETS):
        problem = pose(measured, None, k, data, moments, jax.random.key(i))
        x = draws(problem.y, jax.random.key(1000 + i))
        found.append(reconstruction_figures(problem, x, data, jax.random.key(i), exact=False))
    covered([each["calibration"] for each in found], 1.0)
    covered([each["misfit"].reference for each in found], 1.0)
    for name in ("rmse_measured", "rmse_unmeasured", "misfit"):
        covered([each[name] for each in found])


def test_calibration_of_spreads_twice_too_wide_is_2() -> None:
    """Distances of chi-square with 2 degrees, spreads 4 times their mean: 2 within its error; of one measurement it has none."""
    distances = np.random.default_rng(0).chisquare(2, 200)
    figure = calibration(np.full(200, 8.0), distances)
    assert abs(figure.value - 2) < 4 * figure.error
    assert figure.error == pytest.approx(
        2 * np.sqrt(1 / 200) / 2, rel=0.4
    )  # half the relative error of the mean square
    assert calibration(np.array([8.0]), np.array([2.0])) == Figure(2.0)


def test_shares_have_wilsons_interval() -> None:
    """Its half-width, by scipy, also where all are right."""
    z = stats.norm.cdf(1) - stats.norm.cdf(-1)
    for right in (0, 3, 20):
        ends = stats.binomtest(right, 20).proportion_ci(z, method="wilson")
        figure = share_figure(np.arange(20) < right)
        assert figure.value == right / 20 and figure.error > 0
        assert figure.error == pytest.approx((ends.high - ends.low) / 2, rel=1e-10)


def test_labels_all_right_have_an_error() -> None:
    classes = np.arange(50) % 5
    none = np.zeros(0)
    found = Features(none, none, none, classes, (classes + (np.arange(50) < 5)) % 5, {}, ("", ""))
    subject = Subject(Ring(), n=50, labels=classes)
    vars(subject)["real"] = references.Real(None, none, references.Examples(np.zeros(50), classes))  # type: ignore[arg-type]
    figure = LabelAccuracy().figures(found, subject)["label_accuracy"]
    assert figure.value == 1 and 0 < figure.error < 0.02
    assert figure.reference.value == 0.9 and figure.reference.error == pytest.approx(np.sqrt(0.9 * 0.1 / 50), rel=0.05)


def test_the_floor_of_copies_is_measured_on_other_images() -> None:
    """Over many sets it is near 1% but not always; true distances of its own scatter about it; copies stand out."""
    rng, floors, values = np.random.default_rng(0), [], []
    for _ in range(400):
        figure = memorisation.share_copied(rng.exponential(size=400), rng.exponential(size=400))
        floors.append(figure.reference.value)
        values.append(figure.value)
    assert len(set(floors)) > 3 and np.std(floors) > 0
    assert np.mean(floors) == pytest.approx(np.mean(values), abs=4 * np.std(values) / np.sqrt(400))
    assert 0.01 < np.mean(floors) < 0.02  # a quantile of 200 leaves more than a hundredth below it
    copies = memorisation.share_copied(np.zeros(10), rng.exponential(size=10))
    assert copies.value == 1 and copies.error > 0 and copies.reference.error > 0
    assert memorisation.share_copied(np.zeros(1), np.ones(1)).reference is None


def test_one_sample_has_no_error() -> None:
    for figure in figures(jnp.zeros((1, 2)), OVERLAPPING, jax.random.key(0)).values():
        assert figure.error is None
        assert "+- " not in shown_figure(figure).partition("(")[0]
    assert mean_figure(np.array([2.0])) == Figure(2.0)
    assert mean_figure(np.array([1.0, 3.0])) == Figure(2.0, 1.0)


def test_dealt_groups_scatter_about_their_own_means() -> None:
    values, groups = np.array([0.0, 2.0, 10.0, 14.0]), np.array([0, 0, 1, 1])
    assert standard_error(values, groups) == pytest.approx(np.sqrt(2 * 2 + 2 * 8) / 4)
    assert standard_error(values, np.arange(4)) == standard_error(values)


SHOWN = [
    ({"value": -1.05e-05, "error": 2.3e-06, "exact": 0.0}, "-1.05e-05 +- 2.3e-06 nats  (exact: 0)"),
    ({"value": 5.23418, "error": 0.00768, "exact": 5.222092}, "5.2342 +- 0.0077 nats  (exact: 5.2221)"),
    ({"value": 69.871, "error": 0.0718, "true": 69.8731, "true_error": 0.0104}, "69.871 +- 0.072 nats  (of the true law: 69.873 +- 0.010)"),
    ({"value": 69.871, "error": 0.0718, "true": 69.8731, "true_error": 0.0004}, "69.871 +- 0.072 nats  (of the true law: 69.873)"),
    ({"value": 0.151, "error": 0.012, "floor": 0.14812, "floor_error": 0.01, "points": 512}, "0.151 +- 0.012 nats  (512 true points: 0.148 +- 0.010)"),
    ({"value": 0.000612, "error": 0.00013, "floor": 0.00025}, "0.00061 +- 0.00013 nats  (a true sample of this size: 0.00025)"),
    ({"value": 1234.5, "error": 99.7}, "1234 +- 100 nats"),
    ({"value": 0.9, "error": 0.0999}, "0.90 +- 0.10 nats"),
    ({"value": 1.0, "exact": 1.0}, "1.0000 nats  (exact: 1.0000)"),
    ({"value": 2.0, "error": 0.0}, "2.0000 +- 0 nats"),
    ({"value": 0.99999968, "error": 1.6e-08}, "0.9999997 +- 1.6e-08 nats"),
    ({"value": math.nan, "error": math.nan}, "nan +- nan nats"),
    ({"value": math.inf}, "inf nats"),
]  # fmt: skip


@pytest.mark.parametrize(("figure", "text"), SHOWN, ids=[text for _, text in SHOWN])
def test_what_is_printed_has_the_digits_of_its_error(figure: dict[str, float], text: str) -> None:
    assert shown_figure(Figure.of_dict(figure), "nats") == text


def test_units_are_shown() -> None:
    rows = dict(figure_rows({"kl": Figure(0.5), "w2": Figure(0.5), "bits_per_dim": Figure(1.5)}))
    assert rows == {
        "kl": "0.5000 nats",
        "w2": "0.5000 in the data's units",
        "bits per dim": "1.5000 bits per dimension",
    }


GUIDED = "run=oracle dataset=gmm path=ot labels=all n=22 steps=4".split()


@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_nothing_of_the_unguided_law_is_beside_guided_samples(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = GUIDED + (["plots=false"] if verb == "sample" else ["metrics=[distance]"])
    for name, guidance in (("plain", "null"), ("one", "1"), ("guided", "2")):
        assert main([verb, *words, f"guidance={guidance}", f"hydra.run.dir={name}"]) == 0
    plain, one, guided = (
        json.loads((tmp_path / name / "summary.json").read_text())["metrics"] for name in ("plain", "one", "guided")
    )
    assert {name: found.keys() for name, found in one.items()} == {name: found.keys() for name, found in plain.items()}
    assert "exact" in plain["cross_entropy"] and "true" in plain["label_probability"]
    assert plain.keys() == guided.keys()
    assert all(figure.keys() <= {"value", "error"} for figure in guided.values())
    said = capsys.readouterr().out
    assert said.count("guided samples follow another law than the data's") == 1


def test_the_entropy_above_two_dimensions_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """With its error where that is not negligible, and as exact where it is."""
    monkeypatch.chdir(tmp_path)
    words = "sample run=oracle dataset=mixture path=ot n=50 steps=4 plots=false".split()
    for name, far, says in (("near", 1.0, "of the true law: "), ("far", 90.0, "exact: ")):
        means = [[0.0] * 4, [far] * 4]
        assert (
            main([*words, f"dataset.means={means}".replace(" ", ""), "dataset.stds=[1.0,0.5]", f"hydra.run.dir={name}"])
            == 0
        )
        line = next(line for line in capsys.readouterr().out.splitlines() if "cross entropy" in line)
        assert says in line and "nats" in line
    figure = json.loads((tmp_path / "near" / "summary.json").read_text())["metrics"]["cross_entropy"]
    assert 0 < figure["true_error"] < 0.01
    mixture = Mixture(np.array([[0.0] * 4, [1.0] * 4]), np.array([[1.0], [0.25]]), np.array([0.5, 0.5]))  # type: ignore[arg-type]
    assert figure["true"] == pytest.approx(mixtures.entropy(mixture).value, abs=1e-5)
    assert Figure(3.0, reference=Reference("true", 5.0)).distance_from_target == 2.0


ADAPTIVE = Adaptive(rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("solver", "steps"), [(Euler(), 40), (Heun(), 10), pytest.param(ADAPTIVE, 1, marks=pytest.mark.slow)]
)
def test_the_error_of_a_likelihood_holds_the_solvers(solver: Sampler, steps: int) -> None:
    """The exact field has the exact density: what its KL is off 0 is the solver's error, and the stated one covers it."""
    mixture = Ring(components=3, radius=3.0)
    field = OracleField(OT(), mixture.mixture(), (2,))
    points = densities.test_points(mixture, 100, None, jax.random.key(0))
    grid = choose_end(field, UniformGrid())
    how = densities.Solving(solver, grid, steps, "exact")
    found, told, log_p = densities.likelihood_figures(field, points, how, 1, jax.random.key(1))
    off, alone = points.exact - log_p, np.std(points.exact - log_p, ddof=1) / 10
    assert abs(found["kl"].value) < 3 * found["kl"].error
    assert found["kl"].error == pytest.approx(np.hypot(alone, told["change"]), rel=1e-6)
    assert found["kl"].value == pytest.approx(off.mean(), abs=1e-9)
    assert abs(found["nll"].value - mixtures.entropy(mixture.mixture()).value) < 4 * found["nll"].error
    if isinstance(solver, Euler):
        assert abs(found["kl"].value) > 3 * alone, "the scatter over points alone does not hold it"


def test_a_small_loss_has_digits_of_its_own() -> None:
    """Two digits of its error, where four decimals would show none."""
    loss = Figure(4.8123e-6, 1.2e-7)
    assert train_report.shown_loss(loss) == "4.81e-06 +- 1.2e-07"
    assert train_report.shown_loss(Figure(0.51234, 0.0021)) == "0.5123 +- 0.0021"
    assert said_validation(np.array([[4.8123e-6, 1.2e-7]]), 4.8e-6).startswith("4.81e-06 +- 1.2e-07, ")
    assert [figure_text.shown_loss(value) for value in (0.51234, 4.8123e-6, 0.0)] == ["0.5123", "4.81e-06", "0.0000"]
