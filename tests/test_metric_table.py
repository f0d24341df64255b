"""Every metric of the table: states what its figures are, says why it is not available, and knows true samples when it sees them."""

from __future__ import annotations

import dataclasses
import re
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures, schroedinger
from diffsde.datasets import DATASETS, Dataset
from diffsde.datasets.finite import as_points
from diffsde.errors import UserError
from diffsde.evaluation import features, flow_map_error, straightness, transport
from diffsde.evaluation.bridge import gaussian
from diffsde.evaluation.in_training import GAPS, figure_words, measured_figure
from diffsde.evaluation.metric import NEEDS, Drawing, Subject
from diffsde.evaluation.references import proportioned, take
from diffsde.evaluation.table import METRICS, check_words, choose_metrics, meant
from diffsde.fields import Field
from diffsde.inverse.measurements import Linear
from diffsde.inverse.problem import pose
from diffsde.knobs import RUN_METRICS
from diffsde.metrics import discriminator
from diffsde.metrics.classifier import Recipe
from diffsde.metrics.figures import KINDS, Figure, Reference
from diffsde.paths import OT
from diffsde.samplers import LoopSettings, prior, simulate_compiled, times
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import RK4
from diffsde.samplers.sde import EulerMaruyama
from diffsde.types import Prediction, Scalar, register
from diffsde.verbs.train_report import rows_of_metric, summary_of_metric

CONFIGS = Path(__file__).parent.parent / "configs"
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "Recipe", lambda: Recipe(steps=300))
    monkeypatch.setattr(straightness, "POINTS", 2000)
    monkeypatch.setattr(straightness, "SETS", 2)
    monkeypatch.setattr(discriminator, "STEPS", 300)
    monkeypatch.setattr(transport, "SINKHORN_POINTS", 256)
    monkeypatch.setattr(flow_map_error, "POINTS", 500)
    monkeypatch.setattr(flow_map_error, "PART", 500)


def of_law(name: str, n: int = 2000) -> Subject:
    """True samples of a dataset that is drawn from, and its exact field where it has one."""
    data = DATASETS[name]()
    x = data.draw(data.load(), jax.random.key(1), n)
    field = data.exact_field(OT())
    if field is None:
        return Subject(data, n=n, x=x)
    key, x0 = jax.random.key(7), prior(field.path, jnp.asarray(0.0), field.shape, jax.random.key(8), n)
    drawing = Drawing(RK4(), UniformGrid(), 100, "mean", False, x0, key, None)
    return Subject(data, field, n, x, drawing=drawing)


@cache
def of_digits() -> Subject:
    """Test images that are not those which the metrics compare with, and their labels."""
    data = DATASETS["digits"]()
    test, n = data.held_out(), 160
    order = proportioned(test, len(test.x), None)
    mine = take(test, order[n : 2 * n])
    subject = Subject(data, n=n, x=np.asarray(as_points(mine.x)), labels=np.asarray(mine.y))
    others = take(test, order[:n])
    subject.real = subject.real._replace(test=others)  # in its place: the samples' own would be among the labels' first
    return subject


def of_posteriors() -> Subject:
    """Samples of exact posteriors of points in the plane of which a combination of the coordinates is measured."""
    data, k, each = DATASETS["gmm"](components=3, radius=2.0), 64, 64
    problem = pose(Linear(matrix=((1.0, 0.5),), noise=0.5), None, k, data, data.moments(data.load(), KEY), KEY)

    def of(y: jax.Array, key: jax.Array) -> jax.Array:
        return mixtures.sample(mixtures.posterior(data.mixture(), jnp.array([[1.0, 0.5]]), y, 0.5), key, each)

    x = jax.jit(jax.vmap(of))(problem.y, jax.random.split(KEY, k)).swapaxes(0, 1).reshape(-1, 2)
    return Subject(data, n=len(x), x=x, problem=problem)


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class Blurring(Field):
    """The field of N(mean, v_t) with v_t linear in t: u = v_t'/(2 v_t) (x - mean)."""

    mean: jax.Array
    variances: jax.Array
    shape: tuple[int, ...] = (2,)

    def velocity(self, x: jax.Array, t: Scalar) -> jax.Array:
        first, last = self.variances
        return (last - first) / 2 / ((1 - t) * first + t * last) * (x - self.mean)

    def output(self, x: jax.Array, t: Scalar) -> Prediction:
        raise NotImplementedError


@cache
def of_snapshots() -> Subject:
    """The first and the last snapshot of a Gaussian that noise blurs, its middle left out, and the field between them."""
    data = DATASETS["drifting"](components=1, snapshots=3, turn=0.0, growth=0.0, sigma=0.6, leave_out=1.0)
    first, last = data.law_at(0.0), data.law_at(2.0)
    return Subject(data, Blurring(first.means[0], jnp.stack([first.variances[0], last.variances[0]])))


def of_bridge() -> Subject:
    """Samples of the exact Schroedinger bridge between two Gaussians, by its SDE."""
    source, data, n = DATASETS["gaussian"](), DATASETS["gaussian"](mean=(2.0, 0.0), std=(0.5, 1.5)), 4000
    ends = (gaussian(law) for law in (source.law(), data.law()) if law is not None)
    field, key = schroedinger.exact_field(schroedinger.bridge(*ends, 1.0)), jax.random.key(7)
    x0 = source.draw(source.load(), jax.random.key(8), n)
    drawing = Drawing(EulerMaruyama(Constant(1.0)), UniformGrid(), 200, "step", False, x0, key, None)
    at = times(drawing.grid, drawing.steps, field.path)
    x = simulate_compiled(drawing.sampler, field, x0, at, key, settings=LoopSettings("step")).x
    return Subject(data, field, n, x, drawing=drawing, source=source)


def true_samples(name: str) -> Subject:
    """True samples of data that have what a metric needs."""
    needs = set(METRICS[name].needs)
    if name == "bridge":
        return of_bridge()
    if "snapshots" in needs:
        return of_snapshots()
    if "measurement" in needs:
        return of_posteriors()
    if needs & {"images", "classes", "labels"}:
        return of_digits()
    subject = of_law("gmm") if needs & {"law", "field", "density"} else of_law("moons", 4096)
    if subject.drawing is not None and "sampler" in needs:
        at = times(UniformGrid(), 100, OT())
        subject.x = simulate_compiled(RK4(), subject.field, subject.drawing.x0, at, subject.drawing.key).x
    return subject


# Of figures without an error of their own: how far two sets of so few true images are apart at most, a distance by a factor.
UNSTATED = {"frechet": 2.0, **dict.fromkeys(("precision", "recall", "density", "coverage"), 0.2)}
# No worse than what it is held against, within the errors: the exact posterior knows more than the measurement.
BETTER = ("rmse_unmeasured", "rmse_measured")


def unstated(figure: str, reference: Reference) -> float:
    return UNSTATED[figure] * (reference.value if figure == "frechet" else 1.0)


@pytest.mark.parametrize("name", METRICS)
def test_it_says_what_its_figures_are(name: str) -> None:
    kind = METRICS[name]
    assert kind.quantities and set(kind.needs) <= NEEDS.keys()
    for figure, (unit, direction, scaled) in kind.quantities.items():
        assert direction in ("lower", "target") and isinstance(unit, str) and scaled != ""
        assert re.search(rf"\b{figure}\b", str(kind.__doc__)), f"{figure} is not explained"
    assert name in METRICS and name.isidentifier()


def test_the_help_names_every_metric() -> None:
    """Those of samples that `evaluate` draws, and of a run, in the comments that --help shows."""
    evaluate, train = (
        re.search(rf"^{knob}: .*# (.*)$", (CONFIGS / f"{verb}.yaml").read_text(), re.M)
        for verb, knob in (("evaluate", "metrics"), ("train", "metric"))
    )
    assert evaluate and train
    measured = {name for name, kind in METRICS.items() if "measurement" not in kind.needs}
    assert measured <= set(re.findall(r"\w+", evaluate[1]))
    assert {*RUN_METRICS} - {*GAPS} <= set(re.findall(r"\w+", train[1]))


@pytest.mark.parametrize("name", METRICS)
def test_it_is_not_available_without_what_it_needs(name: str) -> None:
    """Of a subject that has nothing at all there is a reason, and a user who names the metric is told so."""
    nothing = Subject(DATASETS["moons"]())
    why = METRICS[name]().unavailable(nothing)
    assert why and why == why.strip() and not why.endswith(".")
    with pytest.raises(UserError, match=re.escape(f"metrics: {name} is not available: {why}")):
        choose_metrics([name], nothing, {})


@pytest.mark.parametrize("name", METRICS)
def test_true_samples_are_what_they_are_held_against(name: str) -> None:
    """Within five errors, its own and the reference's; and the figures are those that it stated."""
    subject, metric = true_samples(name), METRICS[name]()
    assert metric.unavailable(subject) is None
    found = metric.measure(subject, jax.random.key(3)).figures
    assert found and found.keys() <= metric.quantities.keys()
    for figure, (value, error, reference, _) in found.items():
        assert reference is not None and reference.kind in KINDS, figure
        if metric.quantities[figure].direction == "target":
            assert found[figure].target is not None, figure
        if figure in UNSTATED:
            assert abs(value - reference.value) < unstated(figure, reference), (figure, found[figure])
        else:
            assert error is not None and (error > 0 or value == reference.value), figure  # two equal fields
            both = np.hypot(error, reference.error or 0.0)
            above = value - reference.value
            assert (above if figure in BETTER else abs(above)) <= 5 * both, (figure, found[figure])


def wrong(name: str) -> Subject:
    """Samples that are not of the data's law."""
    subject = true_samples(name)
    if name == "snapshots":
        x = None
    elif name == "neighbours":
        x = np.asarray(as_points(subject.real.train.x[: subject.n]))
    elif name == "labels":
        return Subject(subject.dataset, n=subject.n, x=subject.x, labels=np.roll(subject.labels, 1))  # type: ignore[arg-type]
    elif name == "bridge":  # of the same ends, but of independent ones
        known = subject.field
        assert isinstance(known, schroedinger.CoupledGaussians)
        return dataclasses.replace(subject, field=dataclasses.replace(known, cross=0 * known.cross))
    else:
        x = np.asarray(subject.x) * 0.5
    found = dataclasses.replace(subject, x=x, kept={})
    if {"field", "density", "jumps"} & {*METRICS[name].needs}:
        found.field = DATASETS["gmm"](radius=9.0).exact_field(OT())
    return found


@pytest.mark.parametrize("name", METRICS)
def test_wrong_samples_are_told_apart(name: str) -> None:
    """Shrunk ones, training images, wrong labels, another field: some figure is far from what it is held against."""
    metric = METRICS[name]()
    found = metric.measure(wrong(name), jax.random.key(3)).figures

    def far(name: str, figure: Figure) -> bool:
        reference = figure.reference
        assert reference is not None
        limit = 5 * np.hypot(figure.error or 0.0, reference.error or 0.0)
        return abs(figure.value - reference.value) > (unstated(name, reference) if name in UNSTATED else limit)

    assert any(far(name, figure) for name, figure in found.items()), found


def test_words_of_before() -> None:
    assert meant("balls", of_law("gmm", 1)) == ("prdc", None)
    assert meant("distance", of_law("gmm", 1)) == ("mixture", None) and meant("distance", of_law("moons", 1)) == (
        "w2",
        None,
    )
    assert meant("mode_weight_kl", of_law("gmm", 1)) == ("mixture", "mode_weight_kl")
    with pytest.raises(ValueError, match="did you mean 'frechet'"):
        check_words(["fretchet"])


def test_figures_are_named_one_by_one() -> None:
    """A figure's name asks for that of its metric alone; the metric's own for all."""
    subject = of_law("gmm", 10)
    (only,) = choose_metrics(["mode_weight_kl", "cross_entropy"], subject, {})
    assert only.name == "mixture" and only.figures == {"mode_weight_kl", "cross_entropy"}
    (whole,) = choose_metrics(["mode_weight_kl", "mixture"], subject, {})
    assert whole.figures is None


@pytest.mark.parametrize(("name", "words"), [("gmm", {"cross_entropy_gap", "mode_weight_kl", "w2"}), ("moons", {"w2"})])
def test_a_run_is_judged_by_the_same_table(name: str, words: set[str]) -> None:
    """The exact field's samples are as near to the law as the solver lets them."""
    data: Dataset = DATASETS[name]()
    able = figure_words(data)
    assert words <= able.keys() and {figure for _, figure in able.values()} <= {
        figure for kind in METRICS.values() for figure in kind.quantities
    }
    if field := data.exact_field(OT()):
        assert measured_figure(field, data, "cross_entropy_gap", KEY).distance_from_target < 0.05


def test_a_figure_round_trips() -> None:
    for figure in (
        Figure(1.0),
        Figure(1.0, 0.5, Reference("exact", 2.0)),
        Figure(1.0, 0.5, Reference("floor", 2.0, 0.1), 512),
    ):
        assert Figure.of_dict(figure.as_dict()) == figure
    assert Figure(1.0, reference=Reference("real", 3.0)).distance_from_target == 2.0
    assert Figure(1.0, reference=Reference("floor", 3.0)).distance_from_target == 1.0


def test_what_a_run_is_judged_by_is_said_as_figures_are() -> None:
    """With its error, its unit and what it is held against; a gap, and the score of the best checkpoint, with its unit."""
    found = Figure(5.3, 0.02, Reference("exact", 5.2221))
    assert rows_of_metric("cross_entropy_gap", 0.0779, found, scaled=False) == [
        ("cross entropy gap", "0.0779 nats"),
        ("cross entropy", "5.300 +- 0.020 nats  (exact: 5.222)"),
    ]
    assert rows_of_metric("w2", 0.5, Figure(0.5), scaled=True) == [
        ("w2", "0.5000 with each coordinate in units of its std")
    ]
    assert rows_of_metric("mode_weight_kl", 0.01, None, scaled=False) == [("mode weight kl", "0.0100 nats")]
    assert summary_of_metric("cross_entropy_gap", found, scaled=False) == {
        "metrics": {"cross_entropy": {"value": 5.3, "error": 0.02, "exact": 5.2221}},
        "units": {"cross_entropy": "nats"},
        "directions": {"cross_entropy": "target"},
    }


def test_the_documentation_has_the_same_table() -> None:
    text = (Path(__file__).parent.parent / "docs" / "evaluating.md").read_text()
    rows = {
        name: set(re.findall(r"`(\w+)`", cells))
        for name, cells in re.findall(r"^\| `(\w+)` \|([^|]*)\|", text, flags=re.M)
    }
    assert rows == {name: set(kind.quantities) for name, kind in METRICS.items()}
