"""diffsde evaluate: figures that are known beforehand, what is refused, and the classifier that is kept."""

from __future__ import annotations

import csv
import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import empirical
from diffsde.cli.main import composed, main
from diffsde.datasets import DATASETS, Examples
from diffsde.errors import UserError
from diffsde.evaluation import features, references
from diffsde.evaluation.likelihood import without_density
from diffsde.evaluation.memorisation import nearby, neighbour_figures
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.table import METRICS
from diffsde.fields import EmpiricalField, OracleField
from diffsde.guidance import Autoguided
from diffsde.metrics import classifier
from diffsde.metrics.classifier import Recipe
from diffsde.paths import PATHS
from diffsde.runs import folder
from diffsde.verbs.evaluate import VERB, evaluate, prepare
from diffsde.verbs.train import train

ORACLE = ["run=oracle", "dataset=digits", "path=ot"]
QUICK = Recipe(steps=400)
SMALL = ["net=mixer", "net.patch=4", "net.overlap=0", "net.width=8", "net.mix=8", "net.depth=1"]


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, a cache of its own, and a classifier that is trained for less long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here.parent / "cache"))
    monkeypatch.setattr(features, "Recipe", lambda: QUICK)
    return here


def found(words: list[str], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of these words, and the summary that they are in."""
    evaluate(composed("evaluate", words), out)
    summary = json.loads((out / "summary.json").read_text())
    return summary["metrics"], summary


def as_samples(place: Path, x: Any, y: Any = None) -> str:
    """A sample folder of the exact field of digits that holds these images, bytes."""
    labels = {} if y is None else {"y": np.asarray(y, np.int32)}
    place.mkdir()
    folder.write_config(place, "sample", composed("sample", ORACLE))
    np.savez(place / "samples.npz", x=np.asarray(x, np.float32) / 127.5 - 1, **labels)
    return f"samples={place}"


def digits(count: int) -> tuple[Examples, Examples]:
    """Training images, and as many test images as those that figures are compared with."""
    data = DATASETS["digits"]()
    test = data.held_out()
    return data.load(), references.take(test, references.proportioned(test, count, None))


# Samples --------------------------------------------------------------------------------------------------------------


def test_images_for_tests_score_as_they_must(here: Path) -> None:
    """Real images in the place of samples: every figure is exactly that of real images."""
    _, test = digits(300)
    figures, summary = found([as_samples(here / "real", test.x, test.y)], here / "out")
    frechet = figures.pop("frechet")
    assert frechet["value"] == pytest.approx(frechet["floor"]) and frechet["floor"] > 0
    copied, ratio = figures.pop("copied"), figures.pop("nearest_ratio")
    assert copied["floor"] == pytest.approx(copied["value"], abs=0.02) and copied["value"] > 0 < copied["floor_error"]
    assert ratio["value"] == 1.0 and 0.005 < ratio["error"] < 0.1
    assert figures.keys() == {"precision", "recall", "density", "coverage", "label_accuracy"}
    for name, figure in figures.items():
        assert figure["value"] == figure["real"], name
    assert figures["label_accuracy"]["value"] > 0.85
    assert summary["n"] == 300 and summary["classifier"]["name"].startswith("digits-")


def test_training_images_are_found_out(here: Path) -> None:
    """Copies are at distance 0 from the images that they are copies of; their labels are all right or all wrong."""
    train, _ = digits(200)
    rows = np.arange(200) * 7
    wrong = (np.asarray(train.y)[rows] + 1) % 10
    figures, _ = found([as_samples(here / "copies", np.asarray(train.x)[rows], wrong)], here / "out")
    assert figures["copied"]["value"] == 1.0 and figures["nearest_ratio"]["value"] == 0.0
    assert figures["label_accuracy"]["value"] < 0.1 < 0.85 < figures["label_accuracy"]["real"]
    assert figures["frechet"]["value"] < figures["frechet"]["floor"]
    with np.load(here / "out" / "neighbours.npz") as kept:
        np.testing.assert_array_equal(np.asarray(train.x)[kept["indices"]], np.asarray(train.x)[rows])
        assert (kept["distances"] == 0).all() and (kept["test_distances"] > 0).all()


def test_noise_is_told_from_digits(here: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1))
    words = [as_samples(here / "noise", noise), "metrics=[balls,frechet,distance]"]
    figures, _ = found(words, here / "out")
    assert list(figures)[:2] == ["precision", "recall"], "the first that was asked for is what a sweep is judged by"
    assert figures["frechet"]["value"] > 5 * figures["frechet"]["floor"]
    assert figures["recall"]["value"] + figures["precision"]["value"] < 0.5
    assert figures["w2"]["value"] > 1.5 * figures["w2"]["floor"]


def test_samples_of_some_labels_are_compared_with_images_of_those(here: Path) -> None:
    data = DATASETS["digits"]()
    fours = np.asarray(data.held_out().y) == 4
    figures, _ = found(
        [
            as_samples(here / "four", np.asarray(data.held_out().x)[fours], np.full(fours.sum(), 4)),
            "metrics=[balls,neighbours]",
        ],
        here / "out",
    )
    real = references.split(data, np.array([4]))
    assert set(np.asarray(real.train.y)) == set(np.asarray(real.test.y)) == {4}
    assert figures["precision"]["value"] == figures["precision"]["real"]
    assert figures["nearest_ratio"]["value"] == 1.0


def test_real_images_have_the_samples_labels() -> None:
    """The first n of the real ones have just the labels of n samples, and all of them their proportions."""
    data = DATASETS["digits"]()
    labels = np.repeat([3, 8], [6, 20])
    real = references.real_beside(references.split(data, np.array([3, 8])), 26, labels)
    np.testing.assert_array_equal(np.sort(real.test.y), labels)
    near = np.asarray(real.train.y)[real.rows]
    np.testing.assert_array_equal(np.sort(near[:26]), labels)
    assert (near == 8).sum() == pytest.approx((near == 3).sum() * 20 / 6, abs=2) and (near == 8).sum() > 100
    assert len(set(real.rows.tolist())) == len(real.rows)
    y = np.asarray(data.held_out().y)
    able = [n for n in range(1, 100) if all((np.resize([3, 8], n) == k).sum() <= (y == k).sum() for k in (3, 8))]
    with pytest.raises(UserError, match=f"enough for n={max(able)}$"):
        references.real_beside(references.split(data, np.array([3, 8])), 99, np.resize([3, 8], 99))
    assert len(able) == max(able) < 99
    with pytest.raises(UserError, match="of 11 there is none among the training images"):
        references.split(data, np.array([3, 11]))


def test_duplicates_are_copies(here: Path) -> None:
    """Of images that are there many times over, every sample and every test image is as near as a copy."""
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    real = references.Real(Examples(images), np.arange(20), Examples(images[:10] ^ np.uint8(1)))
    found = neighbour_figures(nearby(images[5:15] ^ np.uint8(1), real, False))
    copied = found["copied"]
    assert copied.reference is not None and found["nearest_ratio"].value == 1.0
    assert copied.value == copied.reference.value == 1.0


# The likelihood -------------------------------------------------------------------------------------------------------


def test_the_exact_field_of_a_mixture_loses_nothing(here: Path) -> None:
    words = ["run=oracle", "dataset=gmm", "path=ot", "n=500", "steps=10", "n_test=500", "solver_steps=50"]
    figures, summary = found(words, here / "out")
    assert next(iter(figures)) == "cross_entropy", "what a sweep over samplers is judged by depends on them"
    assert figures["kl"]["value"] == pytest.approx(0, abs=1e-4)
    assert figures["nll"]["value"] == pytest.approx(figures["nll"]["true"], abs=1e-4)
    assert abs(figures["nll"]["value"] - 5.222092) < 4 * figures["nll"]["error"]
    assert abs(figures["cross_entropy"]["value"] - 5.222092) < 0.2
    assert 0 < abs(summary["likelihood"]["change"]) < 1e-2
    assert summary["likelihood"]["nfe"] == 200 and summary["likelihood"]["probe"] == "exact"


@pytest.mark.slow
def test_a_label_leaves_one_component(here: Path) -> None:
    """A normal law in the plane: log(2 pi e) nats, whichever the component; and no samples are drawn for it."""
    words = ["run=oracle", "dataset=gmm", "path=ot", "labels=[2,5]", "metrics=[likelihood]", "n_test=1000"]
    figures, summary = found([*words, "solver=adaptive", "tolerance=1e-5"], here / "out")
    assert abs(figures["nll"]["value"] - math.log(2 * math.pi * math.e)) < 4 * figures["nll"]["error"]
    assert abs(figures["kl"]["value"]) < 1e-3
    assert "n" not in summary and not (here / "out" / "samples.npz").exists()


@pytest.mark.parametrize("labels", [None, pytest.param("all", marks=pytest.mark.slow)])
def test_bits_of_a_network_that_has_learned_nothing(
    here: Path, labels: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh mixer gives 0, and its law is N(m, s^2) of the data's own moments: bits that are known in closed form.

    Of a run on bytes as they are they are measured where they are asked for, with a warning.
    """
    conditional = labels is not None
    words = ["dataset=digits", f"dataset.conditional={str(conditional).lower()}", "dataset.dequantise=true"]
    train(composed("train", [*words, *SMALL, "steps=1", "batch_size=10", "lr=1e-12"]), here / "run")
    data = DATASETS["digits"](dequantise=True)
    moments = data.moments(data.load(), jax.random.key(0))
    k, width = np.asarray(data.held_out().x, np.float64), 1 / 127.5
    square = (k * width - 1 - np.asarray(moments.mean)) ** 2 + width**2 / 12
    s = float(moments.std)
    nats = (square / s**2 / 2 + math.log(s * math.sqrt(2 * math.pi))).mean()
    exact = nats / math.log(2) + math.log2(127.5)
    asked = ["run=run", "metrics=[likelihood]", "n_test=360", "solver=heun", "solver_steps=24"]
    asked += [f"labels={labels or 'null'}"]
    if not conditional:
        config = here / "run" / "config.json"
        config.write_text(config.read_text().replace('"dequantise": true', '"dequantise": false'))
    capsys.readouterr()
    figures, summary = found(asked, here / "out")
    assert ("warning: likelihood: the run was trained on bytes as they are" in capsys.readouterr().err) != conditional
    assert figures["bits_per_dim"]["value"] == pytest.approx(exact, abs=2e-3)
    assert summary["likelihood"]["given_labels"] == conditional
    with np.load(here / "out" / "likelihood.npz") as kept:
        assert kept["log_p"].shape == (360,)
    asked = composed("evaluate", ["run=run", f"labels={labels or 'null'}", "steps=1"])
    with ExitStack() as held:
        job = prepare(VERB.choose(asked), asked, here / "out", held)
    names = [each.name for each in job.metrics]
    assert ("likelihood" in names) == conditional and names[0] == "frechet"
    assert ("not measured: likelihood: the run was trained on bytes" in capsys.readouterr().out) != conditional
    digits_there = np.bincount(np.asarray(data.held_out().y))
    assert job.draws.n == (min(10 * count + label for label, count in enumerate(digits_there)) if conditional else 360)


def test_what_cannot_be_had_is_left_out_or_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the other figures are kept; a metric that was named is an error."""

    def lost(*args: Any) -> None:
        raise UserError("3 of 5 values are NaN")

    monkeypatch.setattr("diffsde.evaluation.densities.likelihood_figures", lost)
    words = ["run=oracle", "dataset=gmm", "path=ot", "n=500", "steps=10", "n_test=5"]
    figures, _ = found(words, here / "out")
    assert next(iter(figures)) == "cross_entropy" and "nll" not in figures
    assert "not measured: likelihood: 3 of 5 values are NaN" in capsys.readouterr().out
    with pytest.raises(UserError, match="3 of 5 values are NaN"):
        found([*words, "metrics=[distance,likelihood]"], here / "named")
    assert not (here / "named" / "summary.json").exists()


def test_labels_of_a_guide_are_no_labels_of_the_images(here: Path) -> None:
    """Images without labels beside samples that a classifier leaned: judged beside all of them, their density not at all."""
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), dtype=np.uint8))
    data, path = DATASETS["array"](file="mine.npy"), PATHS["ot"]()
    field = EmpiricalField(path, empirical.arrange(jnp.zeros((5, 4, 4, 1))), 5, (4, 4, 1))
    for each in (field, Autoguided(field, field, 2.0), Autoguided(Autoguided(field, field, 2.0), field, 2.0)):
        assert without_density(Subject(data, each)) == "the exact field of finite data has no density"
    real = Subject(data, n=12, labels=np.arange(12) % 3).real
    assert len(real.test.x) == 12 and len(real.train.x) == 48
    gmm = DATASETS["gmm"]()
    given = np.arange(12) % 3
    assert without_density(Subject(gmm, OracleField(path, gmm.mixture(), (2,)), labels=given)) is None
    moons = DATASETS["moons"]()
    why = without_density(Subject(moons, OracleField(path, gmm.mixture(), (2,)), labels=given))
    assert why is not None and "no labels" in why


# The command line -----------------------------------------------------------------------------------------------------

GMM = "evaluate run=oracle dataset=gmm path=ot"
REFUSED = [
    ("evaluate", "no trained run"),
    (f"{GMM} metrics=[frechet]", "metrics: frechet is not available: the data are no images in bytes"),
    (f"{GMM} metrics=[fretchet]", "'fretchet' is not a metric (did you mean 'frechet'?)"),
    (
        f"{GMM} metrics=[fid]",
        f"'fid' is not a metric; choose one of {', '.join(METRICS)}\n",
    ),
    (f"{GMM} metrics=[likelihood,likelihood]", "name each that is wanted once"),
    (f"{GMM} n_test=0", "n_test is 0; it must be 1 or more"),
    (f"{GMM} solver=ddim", "solver is 'ddim'; choose one of euler, midpoint, heun, rk4, adaptive"),
    (f"{GMM} solver_grid=log_snr", "solver_grid is 'log_snr'; choose one of uniform, quadratic, cosine"),
    (f"{GMM} tolerance=1e-3", "is of solver=adaptive alone"),
    (f"{GMM} probe=sobol", "probe is 'sobol'; choose one of auto, exact"),
    (f"{GMM} coupled=true", "coupled= is a word of diffsde sample, not of evaluate"),
    (f"{GMM} sampler=hune", "did you mean 'heun'?"),
    (
        "evaluate samples=absent",
        "samples: there is no folder 'absent', and no id or name; give a sample folder, an id or a name\n",
    ),
    ("evaluate " + " ".join(ORACLE) + " n=1000", "there are 360 in all, and enough for n=360"),
    ("evaluate " + " ".join(ORACLE) + " n=1", "frechet is not available: it takes 2 or more samples; n is 1"),
    ("evaluate " + " ".join(ORACLE) + " n=3 metrics=[balls]", "it takes 6 or more samples; n is 3"),
    (f"{GMM} dequantisations=3", "dequantisations is 3, but the data are no images in bytes"),
    ("evaluate " + " ".join(ORACLE) + " n=5", "prdc is not available: it takes 6 or more samples; n is 5"),
    ("evaluate " + " ".join(ORACLE) + " metrics=[likelihood]", "the exact field of finite data has no density"),
    ("evaluate " + " ".join(ORACLE) + " metrics=[labels]", "the samples were given none; say labels=all"),
]


@pytest.mark.parametrize(("line", "says"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refused_in_one_line_with_nothing_left_behind(
    line: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "steps=2"] if "samples=" not in line else line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffsde: ") and error.count("\n") == 1, error
    assert says in error
    assert list(here.iterdir()) == []


def test_samples_that_are_there_are_not_drawn_otherwise(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = as_samples(here / "some", digits(20)[1].x)
    for word in ("steps=3", "sampler=em", "n=10", "grid.start=0.1", "guidance_interval=[0,1]"):
        assert main(["evaluate", samples, word]) == 2
        assert "judged as they were drawn; they cannot be combined with " in capsys.readouterr().err
    (here / "some" / "samples.npz").write_bytes(b"PK\x03\x04")
    assert main(["evaluate", samples]) == 2
    assert "samples.npz' cannot be read" in capsys.readouterr().err


def test_what_unlabelled_images_of_ones_own_allow(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No classifier and no test split: only their neighbours, and it is said why."""
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (60, 6, 10, 3), dtype=np.uint8))
    words = ["run=oracle", "dataset=array", "dataset.file=mine.npy", "path=ot", "steps=40", "sampler=ddim"]
    figures, _ = found(words, here / "out")
    assert figures.keys() == {"nearest_ratio", "copied"}
    assert figures["copied"]["value"] > 0.5 and figures["nearest_ratio"]["value"] < 0.1, "the exact field memorises"
    said = capsys.readouterr().out
    assert "not measured: frechet: the images have no labels" in said and "not measured: likelihood" in said


def test_a_sweep_is_a_table_of_quality_against_evaluations(here: Path) -> None:
    words = "run=oracle dataset=gmm path=ot n=300 metrics=[distance] steps=2,8 hydra.sweep.dir=swept"
    assert main(["evaluate", "-m", *words.split()]) == 0
    with open(here / "swept" / "sweep.csv") as file:
        few, many = csv.DictReader(file)
    assert (few["nfe"], many["nfe"]) == ("4", "16")
    assert float(few["cross_entropy"]) - 5.2221 > 2 * abs(float(many["cross_entropy"]) - 5.2221)


# The classifier -------------------------------------------------------------------------------------------------------


def shapes(count: int, height: int, width: int) -> Examples:
    """Images of three classes: a bright square at the left, in the middle or at the right."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (count, height, width, 3), dtype=np.uint8)
    y = rng.integers(0, 3, count)
    for image, label in zip(x, y, strict=True):
        image[height // 3 : 2 * height // 3, label * width // 3 : (label + 1) * width // 3] += 100
    return Examples(jnp.asarray(x), jnp.asarray(y, jnp.int32))


@pytest.mark.parametrize(
    ("size", "as_seen"), [((10, 27), (8, 28, 3)), pytest.param((40, 90), (16, 32, 3), marks=pytest.mark.slow)]
)
def test_images_of_any_size(size: tuple[int, int], as_seen: tuple[int, ...]) -> None:
    assert classifier.seen_shape((*size, 3)) == as_seen
    data = shapes(400, *size)
    assert classifier.seen(jnp.full((2, *size, 3), 77, jnp.uint8)).tolist() == np.full((2, *as_seen), 77).tolist()
    eye = features.judge("shapes", Examples(data.x[:300], data.y[:300]), recipe=Recipe(steps=200))
    assert (eye.look(np.asarray(data.x[300:]))[1] == data.y[300:]).mean() > 0.95


def test_a_classifier_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept under all that it depends on; a file that is not what was written is said so, and replaced."""
    data, quick = shapes(50, 8, 8), Recipe(steps=3)
    first = features.judge("shapes", data, cache=tmp_path, recipe=quick)
    (file,) = tmp_path.iterdir()
    fit = features.train

    def never(*args: Any) -> None:
        raise AssertionError("it is there")

    monkeypatch.setattr(features, "train", never)
    again = features.judge("shapes", data, cache=tmp_path, recipe=quick)
    assert all((again.params[name] == first.params[name]).all() for name in first.params)
    for other in (
        lambda: features.judge("shapes", data, cache=tmp_path, recipe=Recipe(steps=4)),
        lambda: features.judge("shapes", data, True, cache=tmp_path, recipe=quick),
        lambda: features.judge("shapes", data._replace(x=data.x.at[0, 0, 0, 0].add(1)), cache=tmp_path, recipe=quick),
        lambda: features.judge(
            "shapes", data._replace(y=data.y.at[0].set(2 - data.y[0])), cache=tmp_path, recipe=quick
        ),
    ):
        with pytest.raises(AssertionError, match="it is there"):
            other()
    monkeypatch.setattr(features, "train", fit)
    whole = file.read_bytes()
    at = len(whole) // 2
    for damaged in (whole[:100], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], b"nothing"):
        file.write_bytes(damaged)
        capsys.readouterr()
        retrained = features.judge("shapes", data, cache=tmp_path, recipe=quick)
        assert "cannot be read" in capsys.readouterr().err and file.read_bytes() == whole
        assert all((retrained.params[name] == first.params[name]).all() for name in first.params)


@pytest.mark.slow
def test_the_classifier_of_mnist(mnist: Path) -> None:
    """What the literature reaches with two convolutions."""
    data = DATASETS["mnist"]()
    eye = features.judge("mnist", data.load())
    assert (eye.look(np.asarray(data.held_out().x))[1] == np.asarray(data.held_out().y)).mean() > 0.99
