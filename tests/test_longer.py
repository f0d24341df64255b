"""Runs that get more steps, runs that begin from others' parameters, and the loss of points kept from training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.cli.main import main

TRAIN = [
    "train",
    "dataset=array",
    "dataset.file=points.npy",
    "batch_size=32",
    "net=mlp",
    "net.widths=[16]",
    "threads=1",
]
SAMPLE = ["n=20", "steps=4", "plots=false", "threads=1"]


@pytest.fixture
def here(here: Path) -> Path:
    np.save("points.npy", np.random.default_rng(0).normal(3, 2, (300, 2)))
    return here


def samples(run: str, into: str) -> np.ndarray:
    assert main(["sample", f"run={run}", *SAMPLE, f"hydra.run.dir={into}"]) == 0
    with np.load(Path(into) / "samples.npz") as archive:
        return archive["x"]


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("schedule", ["constant", pytest.param("wsd", marks=pytest.mark.slow)])
def test_more_steps_are_those_of_a_longer_run(here: Path, schedule: str) -> None:
    """To the bit, where the rate of the steps so far is that of the longer run: of wsd before its last fifth."""
    words = [*TRAIN, f"optimizer.schedule={schedule}", "log_every=10", "checkpoint_every=30", "keep=9"]
    assert main([*words, "steps=60", "hydra.run.dir=long"]) == 0
    assert main([*words, "steps=40", "hydra.run.dir=short"]) == 0
    if schedule == "wsd":  # of which the last 8 steps had a falling rate: go on from before
        import shutil

        shutil.rmtree("short/checkpoints/40")
    assert main(["train", "run=short", "steps=60", "threads=1"]) == 0
    np.testing.assert_array_equal(samples("short", "a"), samples("long", "b"))
    assert [line["loss"] for line in lines("short")] == [line["loss"] for line in lines("long")]
    assert json.loads(Path("short/summary.json").read_text())["steps"] == 60
    assert main(["train", "run=short", "threads=1"]) == 0  # finished: nothing to do, under the new number of steps


def test_an_end_between_two_lines_of_the_log(here: Path) -> None:
    """The first line after it is the mean of what came after it, which for equal losses is not less than any of them."""
    words = [*TRAIN, "optimizer.schedule=constant", "log_every=10"]
    assert main([*words, "steps=80", "hydra.run.dir=long"]) == 0
    assert main([*words, "steps=45", "hydra.run.dir=short"]) == 0
    assert main(["train", "run=short", "steps=80", "threads=1"]) == 0
    np.testing.assert_array_equal(samples("short", "a"), samples("long", "b"))
    short, long = ({line["step"]: line["loss"] for line in lines(run)} for run in ("short", "long"))
    assert (5 * short[45] + 5 * short[50]) / 10 == pytest.approx(long[50], rel=1e-5)
    assert [short[step] for step in (60, 70, 80)] == [long[step] for step in (60, 70, 80)]


def test_a_finished_run_that_cannot_go_on_stays_as_it_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its data are away: refused before anything is written; back again, it gets its steps."""
    assert main([*TRAIN, "optimizer.schedule=constant", "steps=20", "hydra.run.dir=run"]) == 0
    before = {name: Path("run", name).read_text() for name in ("config.json", "summary.json", "metrics.jsonl")}
    Path("points.npy").rename("away.npy")
    capsys.readouterr()
    assert main(["train", "run=run", "steps=40", "threads=1"]) == 2
    assert "'points.npy' is not a file" in capsys.readouterr().err
    assert {name: Path("run", name).read_text() for name in before} == before
    Path("away.npy").rename("points.npy")
    assert main(["train", "run=run", "steps=1e2", "threads=1"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 100
    assert json.loads(Path("run/config.json").read_text())["config"]["run"] is None


def test_a_schedule_that_has_run_down_is_refused_and_the_advice_works(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cosine, the default: the message names init=, which begins another run from the parameters."""
    assert main([*TRAIN, "steps=40", "hydra.run.dir=short"]) == 0
    before = Path("short/config.json").read_text()
    assert main(["train", "run=short", "steps=60", "threads=1"]) == 2
    error = capsys.readouterr().err
    assert "schedule=cosine has let the learning rate fall" in error and error.count("\n") == 1
    assert Path("short/config.json").read_text() == before and Path("short/summary.json").exists()
    advice = error[error.index("init=") :].split()  # after "the same words"
    assert main([*TRAIN, *advice, "hydra.run.dir=more"]) == 0
    assert lines("more")[-1]["step"] == 20
    assert main(["train", "run=short", "steps=10", "threads=1"]) == 2
    assert "give more than these" in capsys.readouterr().err


def test_a_run_begins_with_another_s_parameters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a rate of next to nothing it stays there; on other data, in other units, they are the same network."""
    assert main([*TRAIN, "steps=40", "hydra.run.dir=first"]) == 0
    still = [*TRAIN, "steps=3", "init=first", "lr=1e-20"]
    assert main([*still, "hydra.run.dir=same"]) == 0
    np.testing.assert_allclose(samples("first", "a"), samples("same", "b"), rtol=1e-5, atol=1e-5)
    np.save("points.npy", 100 * np.load("points.npy"))
    assert main([*still, "hydra.run.dir=larger"]) == 0
    np.testing.assert_allclose(100 * samples("same", "c"), samples("larger", "d"), rtol=1e-4, atol=1e-3)
    capsys.readouterr()
    assert main([*still, "net.widths=[8]", "hydra.run.dir=other"]) == 2
    assert "init: 'first' has another net" in capsys.readouterr().err
    assert main([*TRAIN, "init=absent"]) == 2
    assert "there is no folder 'absent'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_loss_of_points_kept_from_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network of 8 points learns them by heart: its own loss falls, that of points it has not seen rises, and it is said."""
    np.save("points.npy", np.random.default_rng(0).normal(3, 2, (40, 2)))
    words = ["dataset.test=0.8", "net.widths=[64,64]", "net.space_frequencies=4", "steps=600", "log_every=50"]
    assert main([*TRAIN, *words, "hydra.run.dir=a"]) == 0
    log, said = lines("a"), capsys.readouterr().out
    assert log[-1]["loss"] < 0.8 * log[0]["loss"] and log[-1]["validation_loss"] > 1.5 * log[-1]["loss"]
    assert "of points kept from training; it was" in said and ", validation " in said
    summary = json.loads(Path("a/summary.json").read_text())["validation_loss"]
    assert summary["value"] == log[-1]["validation_loss"] and summary["error"] > 0
    # as many of the same law, a loss of its own kind: at first, before anything is learnt by heart, they agree
    np.save("points.npy", np.random.default_rng(0).normal(3, 2, (4000, 2)))
    np.save("test.npy", np.random.default_rng(1).normal(3, 2, (1000, 2)))
    assert main([*TRAIN, "dataset.test=test.npy", "steps=300", "batch_size=500", "hydra.run.dir=b"]) == 0
    last = lines("b")[-1]
    assert abs(last["loss"] - last["validation_loss"]) < 4 * last["validation_error"]
