"""Runs of discrete flows through every verb: what is trained, drawn, measured and shown, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.datasets.fixed import FixedPoints
from diffsde.datasets.toys import Moons
from diffsde.pictures.flows import FlowScene
from diffsde.report.keys import choices_of
from diffsde.runs.records import read_record

NET = "net=spline net.layers=2 net.widths=[16] net.bins=4 objective=likelihood".split()
SMALL = [*NET, *"log_every=10 batch_size=128 threads=1 optimizer.schedule=constant".split()]


def summary(place: Path | str) -> dict[str, Any]:
    return json.loads((Path(place) / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow after 40 steps on the 11 components, in a folder called `run`."""
    place = tmp_path_factory.mktemp("flow")
    os.chdir(place)
    assert main(["train", *SMALL, "steps=40", "metric=cross_entropy", "best=true", "hydra.run.dir=run"]) == 0
    return place / "run"


@pytest.fixture
def there(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which `run` is, which the test is in."""
    monkeypatch.chdir(run.parent)
    return run.parent


def test_training_lowers_the_loss_towards_the_entropy(run: Path) -> None:
    """The loss is -log p/d in nats: at first the Gaussian's, below that later, its floor the law's entropy; the regret is
    KL/d of the same examples.
    """
    found, lines = summary(run), [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    gaussian = 0.5 * np.log(2 * np.pi * np.e * 51)  # of N(0, 51) in each coordinate
    assert gaussian + 0.05 > losses[0] > losses[-1] > found["loss"]["floor"]
    assert found["loss"]["floor"] == pytest.approx(5.222092 / 2, abs=5 * found["loss"]["floor_error"] + 1e-3)
    regrets = [line["regret"] for line in lines if "regret" in line]
    assert regrets[-1] == pytest.approx(losses[-1] - 5.222092 / 2, abs=0.06) and regrets[-1] < regrets[0]
    assert found["metric"]["name"] == "cross_entropy_gap" and found["metric"]["value"] > 0
    assert sorted(os.listdir(run / "plots")) == ["loss.png"]


def test_samples_of_a_flow_are_compared_with_the_points_that_there_are() -> None:
    """Each row of a small file once, and the number that is said is theirs; of a law as many draws as are said."""
    for dataset, said, count in (
        (FixedPoints(size=7), "all 7 training points", 7),
        (Moons(), "10,000 draws of the data", 10_000),
    ):
        job = SimpleNamespace(dataset=dataset, data_labels=None, key_true=jax.random.key(0))
        scene = FlowScene(job, np.zeros((5, 2)))  # type: ignore[arg-type]
        words, points = scene.compared
        assert words == said and len(np.unique(points, axis=0)) == len(points) == count


@pytest.mark.slow
def test_resumed_and_made_longer_in_the_bits_of_one_that_never_stopped(there: Path) -> None:
    """20 steps, then run= steps=40: every parameter is that of 40 steps at once."""
    for steps in (40, 20):
        assert main(["train", *SMALL, f"steps={steps}", "pictures=none", f"hydra.run.dir=of{steps}"]) == 0
    assert main(["train", "run=of20", "steps=40", "threads=1", "pictures=none"]) == 0
    whole, parts = (diffsde.load(name, threads=1).model for name in ("of40", "of20"))
    assert whole is not None and parts is not None
    for name, value in whole.params.items():
        np.testing.assert_array_equal(value, parts.params[name])


def test_samples_figures_and_densities_are_one_from_every_door(there: Path) -> None:
    """sample and evaluate draw what Python does; evaluate's log p is Python's, and its KL that of the law."""
    assert main(["sample", "run=run", "n=300", "seed=3", "threads=1", "hydra.run.dir=drawn"]) == 0
    flow = diffsde.load("run", threads=1)
    with np.load("drawn/samples.npz") as drawn:
        x = drawn["x"]
    np.testing.assert_array_equal(flow.sample(n=300, seed=3, threads=1).x, x)
    assert summary("drawn")["nfe"] == 1 and "cross_entropy" in summary("drawn")["metrics"]
    assert (there / "drawn/plots/samples.png").exists()
    assert main(["evaluate", "samples=drawn", "n_test=500", "threads=1", "hydra.run.dir=judged"]) == 0
    metrics = summary("judged")["metrics"]
    assert metrics["cross_entropy"] == summary("drawn")["metrics"]["cross_entropy"]
    with np.load("judged/likelihood.npz") as judged:
        log_p, points = judged["log_p"], judged["x"]
    np.testing.assert_allclose(flow.log_prob(points), log_p, rtol=1e-5)
    exact = diffsde.oracle(dataset="gmm", path="ot", threads=1).log_prob(points)
    assert metrics["kl"]["value"] == pytest.approx(np.mean(exact - log_p), abs=1e-4)
    assert metrics["nll"]["value"] == pytest.approx(-log_p.mean(), rel=1e-6)


REFUSED = {  # verb: words, and what the refusal begins with
    "train": [
        ("path=vp", "path: net=spline"),
        ("path=ot", "path: net=spline"),
        ("time=uniform", "time: "),
        ("precondition=false", "precondition: "),
        ("coupling=ot", "coupling: "),
        ("source=gaussian", "source: "),
        ("posterior_points=64", "posterior_points: "),
        ("objective.kinetic=0.1", "objective.kinetic: "),
        ("objective=cfm", "net=spline is a discrete flow, which has no velocity for objective=cfm"),
    ],
    "sample": [
        *((word, f"{word.partition('=')[0]}: ") for word in ("sampler=heun", "sampler=em", "sigma=0.5", "steps=3")),
        *((word, f"{word.partition('=')[0]}: ") for word in ("grid=uniform", "last=mean", "direction=backward")),
        *(
            (word, f"{word.partition('=')[0]}: ")
            for word in ("guidance=2", "guide=run", "save_every=2", "coupled=true")
        ),
        ("measurement=inpaint", "measurement: "),
        ("labels=[0]", "labels: this flow knows none; train with dataset.conditional=true"),
        ("pictures=[film]", "pictures: 'film' is not a picture of points in the plane of a discrete flow"),
    ],
    "evaluate": [
        ("solver=euler", "solver: "),
        ("probe=exact", "probe: "),
        ("sampler=em", "sampler: "),
        ("metrics=[budget]", "metrics: budget is not available: a discrete flow has no velocity"),
        ("metrics=[straightness]", "metrics: straightness is not available: a discrete flow"),
    ],
    "show": [
        ("what=field", "what=field: the run is a discrete flow (net=spline)"),
        ("what=path", "what=path: the run is a discrete flow"),
        ("what=density times=[0.5]", "times: net=spline"),
        ("what=density steps=9", "steps: net=spline"),
    ],
}


@pytest.mark.parametrize("verb", REFUSED)
def test_what_is_of_fields_is_refused_in_a_line(verb: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, line in REFUSED[verb]:
        own = [word for word in SMALL if not (words.startswith("objective=") and word.startswith("objective="))]
        assert main([verb, *(own if verb == "train" else ["run=run"]), *words.split()]) == 2, words
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith(f"diffsde: {line}"), (words, said)


def test_python_says_what_a_flow_is_not(there: Path) -> None:
    flow = diffsde.load("run")
    assert flow.shape == (2,) and flow.classes == 0
    for call in (flow.velocity, flow.score, flow.data, flow.divergence):
        with pytest.raises(ValueError, match="discrete flow, which has no field"):
            call([[0.0, 0.0]], 0.5)
    with pytest.raises(ValueError, match="neither times nor steps"):
        flow.log_prob([[0.0, 0.0]], 0.5)
    with pytest.raises(ValueError, match="sampler: net=spline"):
        flow.sample(sampler="em")
    with pytest.raises(ValueError, match="x0: a discrete flow"):
        flow.sample(x0=[[0.0, 0.0]])
    with pytest.raises(
        ValueError, match=r"is a discrete flow .net=spline., which has samples and a density but no velocity"
    ):
        diffsde.train(coupling={"name": "run", "run": "run"}, dataset="gmm", steps=1, log_every=1)


@pytest.mark.slow
def test_a_comparison_names_what_a_flow_has(there: Path) -> None:
    """Beside samples of an exact field there is no sampler, grid or path for the flow's."""
    assert main("sample run=run n=100 threads=1 pictures=none hydra.run.dir=one".split()) == 0
    words = "run=oracle dataset=gmm path=ot sampler=em sigma=0.5 steps=4 n=100 threads=1 pictures=none"
    assert main(["sample", *words.split(), "hydra.run.dir=two"]) == 0
    one, two, run = (read_record(Path(name)) for name in ("one", "two", "run"))
    assert one is not None and two is not None and run is not None
    flow, exact = choices_of(one, run), choices_of(two, None)
    moot = {"sampler", "grid", "path", "sigma", "steps", "direction", "source"}
    assert moot <= {*exact} and not moot & {*flow} and (flow["net"], flow["run.steps"]) == ("spline", "40")
    assert len(diffsde.compare("one", "two").rows) == 2


def test_density_is_shown_beside_the_exact_one(there: Path) -> None:
    """What show draws is what Python computes, at the places that show writes."""
    assert main("show what=density run=run of=both resolution=20 hydra.run.dir=shown".split()) == 0
    with np.load("shown/show.npz") as shown:
        x, y, exact, flow = (shown[name] for name in ("x", "y", "log_prob", "log_prob_2"))
    points = np.stack(np.meshgrid(x, y), axis=-1)
    np.testing.assert_allclose(diffsde.load("run").log_prob(points.reshape(-1, 2)).reshape(20, 20), flow[0], atol=1e-3)
    law = diffsde.oracle(dataset="gmm", path="ot").log_prob(points.reshape(-1, 2)).reshape(20, 20)
    np.testing.assert_allclose(law, exact[0], atol=1e-3)
