"""The Python API: the commands' bits, units, refusals, and nothing left behind."""

from __future__ import annotations

import doctest
import gc
import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.errors import InputError, UserError
from diffsde.runs import machine, progress
from diffsde.state import STATE

SMALL = {"net": {"name": "mlp", "widths": [8]}, "steps": 3, "log_every": 1, "posterior_points": 0}
MIX = {"name": "mixture", "means": [[-1.0, 0.0], [1.0, 2.0]], "stds": [0.5, 1.0], "weights": [0.3, 0.7]}


def test_import_is_free() -> None:
    """Nothing but Python's own; and no name is lost."""
    program = (
        "import sys; before = set(sys.modules); import diffsde; found = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "assert not found & {'jax', 'numpy', 'hydra', 'omegaconf', 'flax', 'matplotlib', 'yaml'}, found\n"
        "assert set(diffsde.__all__) <= set(dir(diffsde))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    for name in diffsde.__all__:
        assert getattr(diffsde, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        diffsde.trian  # noqa: B018


def test_samples_are_the_commands_bits(here: Path) -> None:
    words = ["sampler=em", "sigma=0.7", "n=50", "steps=6", "seed=3", "save_every=3", "pictures=none"]
    assert main(["sample", "run=oracle", "dataset=gmm", "path=vp", *words, "hydra.run.dir=drawn"]) == 0
    exact = diffsde.oracle(dataset="gmm", path="vp")
    drawn = exact.sample(sampler="em", sigma=0.7, n=50, steps=6, seed=3, save_every=3)
    np.testing.assert_array_equal(drawn.x, np.load("drawn/samples.npz")["x"])
    kept = np.load("drawn/trajectory.npz")
    assert drawn.trajectory is not None
    np.testing.assert_array_equal(drawn.trajectory.x, kept["x"])
    np.testing.assert_array_equal(drawn.trajectory.times, kept["times"])
    assert drawn.x.std() > 0.5 and sorted(here.iterdir()) == [here / "drawn"]


@pytest.mark.slow
def test_training_is_the_commands_bits(here: Path) -> None:
    """Parameters, losses and samples; a folder holds what the command writes; without one nothing is left."""
    words = [
        "net=mlp",
        "net.widths=[8]",
        "steps=3",
        "log_every=1",
        "posterior_points=0",
        "cache=false",
        "pictures=none",
    ]
    assert main(["train", "dataset=moons", *words, "hydra.run.dir=theirs"]) == 0
    ours = diffsde.train(dataset="moons", pictures="none", **SMALL)
    theirs = diffsde.load("theirs")
    for one, other in zip(jax.tree.leaves(ours.field), jax.tree.leaves(theirs.field), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ours.losses, theirs.losses)
    assert ours.losses.shape == (3,) and ours.summary["loss"] == theirs.summary["loss"]
    place = ours.folder
    assert place is not None and place.exists() and here not in place.parents
    del ours
    gc.collect()
    assert not place.exists()
    kept = diffsde.train(dataset="moons", folder="mine", pictures="none", **SMALL)
    written = [{path.name for path in Path(place).iterdir()} for place in ("mine", "theirs")]
    assert written[0] == written[1] - {".hydra"} and {"config.json", "metrics.jsonl", "summary.json"} < written[0]
    again = diffsde.train(dataset="moons", folder="mine", pictures="none", **SMALL)  # finished: it is read
    np.testing.assert_array_equal(again.losses, kept.losses)
    with pytest.raises(ValueError, match="already holds another run"):
        diffsde.train(dataset="moons", folder="mine", pictures="none", **SMALL | {"seed": 1})


def test_a_training_that_fails_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    with pytest.raises(ValueError, match=r"the loss became|became NaN"):
        diffsde.train(dataset="moons", **SMALL | {"lr": 1e30, "steps": 20})
    with pytest.raises(ValueError, match="a classifier guides from its folder"):
        diffsde.train(dataset="moons", objective="classifier", **SMALL)
    assert list(here.iterdir()) == []


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> diffsde.Run:
    """The exact field of 5 points of mean about 50 and std about 7, in the file's own units."""
    place = tmp_path_factory.mktemp("own") / "points.npy"
    np.save(place, 50 + 7 * np.random.default_rng(0).normal(size=(5, 2)) * [1, 3])
    return diffsde.oracle(dataset={"name": "array", "file": place}, path="ot")


def test_units_are_the_datas(own: diffsde.Run) -> None:
    """Score and divergence are derivatives of log p and the velocity in the file's units, and p_t obeys the continuity
    equation d log p/dt = -div u - u . score there.
    """
    x, t, h = np.array([[45.0, 60.0], [53.0, 35.0], [60.0, 52.0]]), 0.6, 0.05
    shifts = h * np.eye(2)
    slope = [(own.log_prob(x + d, t) - own.log_prob(x - d, t)) / (2 * h) for d in shifts]
    np.testing.assert_allclose(own.score(x, t), np.stack(slope, axis=1), atol=2e-4, rtol=1e-2)
    div = sum((own.velocity(x + d, t) - own.velocity(x - d, t))[:, i] / (2 * h) for i, d in enumerate(shifts))
    np.testing.assert_allclose(own.divergence(x, t), div, rtol=2e-2, atol=1e-3)
    change = (own.log_prob(x, t + 1e-3) - own.log_prob(x, t - 1e-3)) / 2e-3
    flow = -own.divergence(x, t) - (own.velocity(x, t) * own.score(x, t)).sum(axis=1)
    np.testing.assert_allclose(change, flow, rtol=2e-2, atol=2e-2)
    side = np.linspace(-60, 60, 101)  # about the mean, in steps of 1.2 where p_t has a std of 3 and more
    grid = np.stack(np.meshgrid(50 + side / 2, 50 + side), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(np.exp(own.log_prob(grid, t)).sum() * 0.6 * 1.2, 1, rtol=1e-2)


def test_data_and_noise_are_consistent(own: diffsde.Run) -> None:
    """x = mean + t (E[z] - mean) + (1 - t) std E[eps] on the path ot; at t near 1 E[z] is x itself."""
    x, t = np.array([[45.0, 60.0], [53.0, 35.0]]), 0.7
    assert own.scaling is not None
    mean, std = own.scaling
    np.testing.assert_allclose(mean + t * (own.data(x, t) - mean) + (1 - t) * std * own.noise(x, t), x, rtol=1e-5)
    assert 40 < own.data(x, 0.0).mean() < 60
    drawn = own.sample(n=40, steps=10, sampler="euler")
    assert abs(drawn.x.mean(axis=0) - mean).max() < 20 and drawn.summary["metrics"]


def test_log_prob_by_the_ode_is_the_closed_form() -> None:
    """A field guided with strength 1 has the law of the label, and no closed form that is used."""
    exact = diffsde.oracle(dataset=MIX, path="ot")
    guided = diffsde.oracle(dataset=MIX, path="ot", guidance=1.0, labels=[1])
    x = np.array([[0.0, 0.5], [1.0, 2.0], [2.0, 3.5]])
    np.testing.assert_allclose(guided.log_prob(x, 0.6, labels=1), exact.log_prob(x, 0.6, labels=1), atol=2e-3)
    normal = -((x - [1, 2]) ** 2).sum(axis=1) / 2 - np.log(2 * np.pi)
    np.testing.assert_allclose(exact.log_prob(x, labels=1), normal, atol=1e-5)


def test_log_prob_at_both_ends(here: Path) -> None:
    """At t = 0 the prior, with no ODE to solve; at t = 1 finite data are points, of which a NaN would say nothing."""
    np.save("points.npy", np.random.default_rng(0).normal(size=(20, 2)) * [1, 10] + [3, -5])
    data, x = {"name": "array", "file": "points.npy"}, np.array([[1.0, 2.0], [3.0, -5.0]])
    exact, run = diffsde.oracle(dataset=data, path="ot"), diffsde.train(dataset=data, path="ot", **SMALL)
    np.testing.assert_allclose(run.log_prob(x, [0.0, 0.0]), exact.log_prob(x, 0.0), rtol=1e-5)
    with pytest.raises(ValueError, match="take t below 1"):
        exact.log_prob(x)


def test_points_times_and_labels_have_their_shapes() -> None:
    exact = diffsde.oracle(dataset=MIX, path="ot")
    x = jax.numpy.array([[0.5, 0.1], [1.0, 2.0], [-1.0, 0.0]])
    together = exact.velocity(x, [0.2, 0.5, 0.9], labels=[0, 1, 0])
    for i, (t, label) in enumerate([(0.2, 0), (0.5, 1), (0.9, 0)]):
        alone = exact.velocity(x[i], t, labels=label)
        assert alone.shape == (2,) and isinstance(alone, np.ndarray)
        np.testing.assert_allclose(alone, together[i], rtol=1e-5)
    assert exact.log_prob(x[0]).shape == () and exact.divergence(x, 0.5).shape == (3,)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda run: run.velocity([1.0, 2.0, 3.0], 0.5), r"x has shape \(3,\); give \(n, 2\) or one point \(2,\)"),
        (lambda run: run.velocity([[1.0, 2.0]], 1.5), r"t is 1.5; it must be in \[0, 1\]"),
        (lambda run: run.velocity([[1.0, 2.0]], [0.1, 0.2]), r"t has shape \(2,\); give \(\) or \(1,\)"),
        (lambda run: run.score([[1.0, 2.0]], 0.5, labels=2), "labels: they are 0 to 1"),
        (lambda run: run.sample(x0=[[0.0, 0.0]], n=5), "n is 5, but x0 has 1 points"),
        (lambda run: run.sample(x0=[[0.0, np.nan], [0.0, 0.0]]), "x0: 1 of 2 points are NaN or infinite"),
        (lambda run: run.velocity([[1.0, 2.0]], "soon"), "t is 'soon'; it must be numbers"),
        (lambda run: run.sample(path="vp"), "path= would name another field than this Run's"),
        (lambda run: diffsde.evaluate(run, dataset="gmm"), "dataset= would name another field"),
        (lambda run: diffsde.show("field", {"run": run}), "run is a dict; give a Run"),
        (lambda run: diffsde.train(dataset=np.zeros((5, 2))), "dataset is a list or an array; .*'file': 'points.npy'"),
        (lambda run: run.sample(sampler=object()), "sampler is a object; give a number, text, a list, or a dict"),
        (lambda run: run.sample(sampler={"churn": 1}), "give its name too"),
        (lambda run: run.sample(grid=[0.5]), "needs two at least"),
    ],
)
def test_what_only_python_can_get_wrong_is_said(call, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        call(diffsde.oracle(dataset=MIX, path="ot"))


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ({"sigm": 1}, ["sigm=1"]),
        ({"sampler": "hein"}, ["sampler=hein"]),
        ({"steps": 0}, ["steps=0"]),
        ({"steps": "many"}, ["steps=many"]),
        ({"sampler.churn": 0.1}, ["sampler.churn=0.1"]),
        ({"sampler": "heun", "sigma": 0.5}, ["sampler=heun", "sigma=0.5"]),
        ({"lr": 0.1}, ["lr=0.1"]),
        ({"labels": [70]}, ["labels=[70]"]),
        ({"sampler": {"name": "em", "diffusion": {"name": "bump", "sigma": -1}}},
         ["sampler=em", "diffusion=bump", "sampler.diffusion.sigma=-1"]),
        ({"grid": None}, ["grid=null"]),
        ({"threads": 0}, ["threads=0"]),
    ],
)  # fmt: skip
def test_refusals_are_the_commands(
    words: dict, typed: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "run=oracle", "dataset=gmm", "path=ot", "n=4", "pictures=none", *typed]) == 2
    said = capsys.readouterr().err.strip().removeprefix("diffsde: ")
    with pytest.raises(ValueError) as error:
        diffsde.sample(run="oracle", dataset="gmm", path="ot", **{"n": 4} | words)
    assert str(error.value) == said and isinstance(error.value, UserError | InputError)


def test_dicts_and_objects_are_the_words() -> None:
    from diffsde.paths import VP
    from diffsde.samplers import SAMPLERS
    from diffsde.samplers.diffusions import Vanishing

    how = {"n": 8, "steps": 3}
    typed = diffsde.oracle(dataset="gmm", path="vp").sample(sampler="em", diffusion="vanishing", sigma=0.3, **how)
    inner = {"name": "vanishing", "sigma": np.float64(0.3)}
    as_dict = diffsde.oracle(dataset="gmm", path={"name": "vp"}).sample(
        sampler={"name": "em", "diffusion": inner}, **how
    )
    em = SAMPLERS["em"](diffusion=Vanishing(0.3))  # type: ignore[call-arg]
    as_object = diffsde.oracle(dataset="gmm", path=VP()).sample(sampler=em, **how)
    np.testing.assert_array_equal(typed.x, as_dict.x)
    np.testing.assert_array_equal(typed.x, as_object.x)


def test_starting_states_and_times_of_ones_own(own: diffsde.Run) -> None:
    """One Euler step from x0 at the grid's first time is x0 + h u(x0), in the data's own units."""
    x0 = np.array([[48.0, 40.0], [55.0, 70.0], [50.0, 50.0]])
    drawn = own.sample(x0=x0, grid=[0.25, 0.5], sampler="euler", last="step")
    assert drawn.summary["start"] == 0.25 and drawn.summary["end"] == 0.5 and drawn.summary["steps"] == 1
    np.testing.assert_allclose(drawn.x, x0 + 0.25 * own.velocity(x0, 0.25), rtol=1e-5)


def test_a_folder_is_the_commands(here: Path) -> None:
    exact = diffsde.oracle(dataset="gmm", path="ot")
    how = {"n": 20, "steps": 4}
    first = exact.sample(folder="drawn", pictures="none", **how)
    assert {path.name for path in Path("drawn").iterdir()} - {".lock"} == {
        *("config.json", "samples.npz", "summary.json")
    }
    again = exact.sample(folder="drawn", pictures="none", **how)
    np.testing.assert_array_equal(first.x, again.x)
    assert again.figures.keys() == first.figures.keys()
    judged = diffsde.evaluate(exact, samples="drawn", metrics="mixture")
    assert judged.figures["cross_entropy"].value == pytest.approx(first.figures["cross_entropy"].value, rel=1e-5)
    with pytest.raises(ValueError, match="already holds another run"):
        exact.sample(folder="drawn", pictures="none", seed=1, **how)


def test_results_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A short table; nothing is printed unless it is asked for."""
    exact, how = diffsde.oracle(dataset="gmm", path="ot"), {"n": 100, "steps": 40}
    drawn = exact.sample(**how)
    assert capsys.readouterr().out == ""
    assert re.search(r"cross entropy +\d+\.\d+ \+- \d.* nats  \(exact: 5\.222\)", repr(drawn))
    assert drawn._repr_html_().count("<tr>") == 3
    exact.sample(verbose=True, **how)
    assert "sampled 100 points" in capsys.readouterr().out
    assert "x_t = " in repr(diffsde.explain(path="ot"))


def test_a_notebook_has_one_line_of_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    with progress.quiet(True), progress.Steps("train", 10) as bar:
        bar.update(5, "loss 0.5")
        bar.update(10, "loss 0.4")
    said = capsys.readouterr().out
    assert "train 5/10  loss 0.5" in said and "train 10/10" in said and "\n" not in said
    assert said.split("\r")[-2].strip() == ""


def test_jax_is_given_back_as_it_was() -> None:
    """To a notebook that has its own precision and cache; and what XLA reads once is refused in a line."""
    before = {name: getattr(jax.config, name) for name in machine.SETTINGS}
    jax.config.update("jax_enable_x64", True)
    try:
        exact = diffsde.oracle(dataset="gmm", path="ot")
        exact.sample(n=4, steps=2)
        assert exact.velocity([0.0, 0.0], 0.5).dtype == np.float32
        assert jax.config.read("jax_enable_x64") is True
    finally:
        jax.config.update("jax_enable_x64", before["jax_enable_x64"])
    assert {name: getattr(jax.config, name) for name in machine.SETTINGS} == before
    STATE.machine = None
    with pytest.raises(ValueError, match=r"threads is 1, but JAX has begun in this process.*NPROC=1"):
        diffsde.oracle(dataset="gmm", path="ot", threads=1)


def test_a_call_without_threads_has_those_of_the_process(here: Path) -> None:
    """Also the calls that a verb makes itself, once it has begun with threads=1; others are refused."""
    STATE.machine = machine.Machine(
        None, 1, None, None, None, True, None, 1
    )  # as a first call with threads=1 leaves it
    exact = diffsde.oracle(dataset="gmm", path="ot")
    assert exact.sample(n=4, steps=2).x.shape == (4, 2)
    alike: dict[str, Any] = {"precision": None, "coordinator": None, "processes": None, "rank": None, "cache": True}
    for knob, number in (("threads", 2), ("devices", 3)):
        with pytest.raises(ValueError, match=f"{knob} is {number}"):
            diffsde.oracle(dataset="gmm", path="ot", **{knob: number})
        with pytest.raises(UserError, match=f"{knob} is {number}, but this process began with 1; it cannot be swept"):
            machine.configure_process({**alike, "cache_dir": None, "devices": None, "threads": None, knob: number})


@pytest.mark.parametrize("name", ["fields", "verbs", "registering", "conformance"])
def test_docstrings_examples_run(name: str, here: Path) -> None:
    found = doctest.testmod(importlib.import_module(f"diffsde.api.{name}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 1 and found.failed == 0


def test_pictures_come_back_without_a_file(here: Path) -> None:
    drawn = diffsde.oracle(dataset=MIX, path="ot").sample(n=50, steps=8, pictures=["marginals"])
    assert list(drawn.pictures) == ["marginals.png"] and drawn._repr_png_()[:4] == b"\x89PNG"  # type: ignore[index]
    assert list(here.iterdir()) == []


def test_show_hands_back_the_figure(here: Path) -> None:
    exact = diffsde.oracle(dataset=MIX, path="ot")
    figure = diffsde.show("field", exact, times=[0, 0.5, 0.9], resolution=8)
    assert len([axes for axes in figure.axes if axes.get_title()]) >= 3 and list(here.iterdir()) == []
    with pytest.raises(ValueError, match="feild"):
        diffsde.show("feild", exact)
    other = diffsde.oracle(dataset=MIX, path="vp")
    with pytest.raises(ValueError, match="load all of them alike"):  # not the first on the path of the second
        diffsde.show("field", [exact, other])
    for _ in range(2):  # a folder that has the picture already hands it back too
        assert diffsde.show("path", paths=["ot"], folder="there").axes


def test_simulate_is_the_commands_bits(here: Path) -> None:
    words = ["process=ou", "theta=0.7", "sigma=0.5", "x0=3.0", "n=30", "steps=10", "pictures=none"]
    assert main(["simulate", *words, "hydra.run.dir=theirs"]) == 0
    ours = diffsde.simulate(process="ou", theta=0.7, sigma=0.5, x0=3.0, n=30, steps=10)
    np.testing.assert_array_equal(ours.x, np.load("theirs/samples.npz")["x"])
    assert ours.figures


def test_a_score_that_is_infinite_is_refused(here: Path) -> None:
    """Where beta is 0 finite data have neither score nor velocity; a mixture has both."""
    np.save("points.npy", np.array([[0.0, 1.0], [2.0, 3.0]]))
    run = diffsde.oracle(dataset={"name": "array", "file": "points.npy"}, path="ot")
    with pytest.raises(ValueError, match="score: it is not a finite number at t=1"):
        run.score([[0.5, 0.5]], 1.0)
    assert np.isfinite(diffsde.oracle(dataset="gmm", path="ot").score([[0.5, 0.5]], 1.0)).all()
