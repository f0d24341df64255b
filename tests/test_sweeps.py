"""Sweeps: one program for all numbers, each job as if it had run alone, a table at the end, nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from diffsde import checkpoints
from diffsde.cli import composing
from diffsde.cli.main import main
from diffsde.cli.sweep_end import end_sweep, numbers_of
from diffsde.errors import UserError
from diffsde.metrics.figures import Figure, Reference
from diffsde.plots.comparison import Known, Series, curves_figure
from diffsde.runs import folder, progress
from diffsde.runs.results import Cell, judged
from diffsde.state import STATE
from diffsde.verbs import train

TRAIN = ["steps=40", "batch_size=32", "net.widths=[16]", "log_every=10"]
DRAW = ["run=oracle", "dataset=gmm", "path=ot", "n=400", "steps=8", "plots=false"]


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The programs that XLA compiles, or reads from the cache, meanwhile."""
    found: list[str] = []

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(str(about.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def table(sweep: Path) -> list[dict[str, str]]:
    with open(sweep / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def leaves(run: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoints.load(run / "checkpoints", pytest.fail)[1])]


@pytest.mark.parametrize(
    "how", [pytest.param("vmap", marks=pytest.mark.slow), pytest.param("each", marks=pytest.mark.slow)]
)
def test_each_job_of_a_batch_is_the_run_it_would_be_alone(how: str, here: Path) -> None:
    """Over the seed and four numbers of path, optimizer and average; and a job of another structure among them."""
    together = ["hydra/launcher=batch", f"hydra.launcher.together={how}"]
    numbers = [
        "seed=0,3",
        "lr=0.01,0.002",
        "path=vp",
        "path.rate_max=10,20",
        "objective.weight=unit",
        "ema=0.9",
        "optimizer=adamw",
    ]
    assert main(["train", "-m", *TRAIN, *numbers, *together, "hydra.sweep.dir=sweep"]) == 0
    rows = table(here / "sweep")
    assert len(rows) == 8 and {row["members"] for row in rows} == {"8" if how == "vmap" else "1"}
    for job in ("0", "5"):
        words = overrides(here / "sweep" / job)
        assert main(["train", *words, f"hydra.run.dir=alone{job}"]) == 0
        np.testing.assert_allclose(losses(here / "sweep" / job), losses(here / f"alone{job}"), rtol=2e-5)
        for ours, theirs in zip(leaves(here / "sweep" / job), leaves(here / f"alone{job}"), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)
        names = [{str(path.relative_to(run)) for path in run.rglob("*") if "checkpoints" not in path.parts}
                 for run in (here / "sweep" / job, here / f"alone{job}")]  # fmt: skip
        assert names[0] == names[1]
        kept = [json.loads((run / "config.json").read_text()) for run in (here / "sweep" / job, here / f"alone{job}")]
        seeds = [each.pop("provenance")["seeds"] for each in kept]  # the rest of it is of the command
        assert seeds[0] == seeds[1]
        assert kept[0] == kept[1]
    assert len({row["loss"] for row in rows}) == 8


def overrides(job: Path) -> list[str]:
    return [str(word) for word in yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text())]


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(["hydra/launcher=batch", "hydra.launcher.together=vmap"], marks=pytest.mark.slow)]
)
def test_a_sweep_over_sigma_compiles_once(launcher: list[str], here: Path, compiled: list[str]) -> None:
    """Six values, one program of the steps, whatever the launcher; the table has the six cross-entropies."""
    STATE.programs.clear()
    words = ["sample", "-m", "sigma=0,0.1,0.25,0.5,1,2", "sampler=em", *DRAW, *launcher, "hydra.sweep.dir=sweep"]
    assert main(words) == 0
    assert sum("simulate" in name or "advance" in name for name in compiled) <= 1, compiled
    assert len(STATE.programs) == (1 if launcher else 3)  # or to begin, to take steps and to end
    rows = table(here / "sweep")
    assert [row["sigma"] for row in rows] == ["0", "0.1", "0.25", "0.5", "1", "2"]
    assert len({row["cross_entropy"] for row in rows}) == 6
    assert main(["sample", "sampler=em", "sigma=0.5", *DRAW, "hydra.run.dir=alone"]) == 0
    ours, theirs = (np.load(here / name / "samples.npz")["x"] for name in ("sweep/3", "alone"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    alone = json.loads((here / "alone" / "summary.json").read_text())["metrics"]["cross_entropy"]["value"]
    assert float(rows[3]["cross_entropy"]) == pytest.approx(alone, rel=1e-5)


def test_after_the_first_job_nothing_is_compiled(here: Path, compiled: list[str]) -> None:
    """Eight seeds: what the second and later jobs compile is nothing at all."""
    assert main(["train", "-m", "seed=20", *TRAIN, "hydra.sweep.dir=first"]) == 0
    compiled.clear()
    assert main(["train", "-m", "seed=" + ",".join(map(str, range(8))), *TRAIN, "hydra.sweep.dir=sweep"]) == 0
    assert compiled == []
    assert {row["seconds_compile"] for row in table(here / "sweep")} == {"0.0"}


def stop_in_job(monkeypatch: pytest.MonkeyPatch, job: int, at: int) -> None:
    honest, begun = progress.Steps.__init__, [0]
    update = progress.Steps.update

    def count(self: Any, *args: Any) -> None:
        begun[0] += 1
        honest(self, *args)

    def stop(self: Any, done: int, note: str = "") -> None:
        update(self, done, note)
        if begun[0] == job and done >= at:
            begun[0] = 10**6  # once
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(progress.Steps, "__init__", count)
    monkeypatch.setattr(progress.Steps, "update", stop)


@pytest.mark.slow
def test_a_half_finished_sweep_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in its second of three jobs: the same command skips the first, goes on with the second, and ends in what
    the sweep would have been.
    """
    words = ["train", "seed=0,1,2", "-m", *TRAIN]  # anywhere among the words
    assert main([*words, "hydra.sweep.dir=whole"]) == 0
    stop_in_job(monkeypatch, 2, 20)
    assert main(words) == 143
    capsys.readouterr()
    (sweep,) = (here / "outputs" / "train").glob("*/*-sweep")
    assert not (sweep / "sweep.csv").exists() and (sweep / "0" / "summary.json").exists()
    finished = (sweep / "0" / "summary.json").stat().st_mtime_ns
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "resuming the sweep" in said and said.count("already finished") == 1 and "from step" in said
    assert (sweep / "0" / "summary.json").stat().st_mtime_ns == finished
    for job in "012":
        for ours, theirs in zip(leaves(sweep / job), leaves(here / "whole" / job), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [row["loss"] for row in table(sweep)] == [row["loss"] for row in table(here / "whole")]
    assert (sweep / "compare.png").stat().st_size > 5000
    assert main(words) == 0  # a finished sweep is not gone on with
    assert len(list((here / "outputs" / "train").glob("*/*-sweep"))) == 2


@pytest.mark.slow
def test_a_vmapped_group_goes_on_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "-m", "seed=0,1,2", *TRAIN, "hydra/launcher=batch", "hydra.launcher.together=vmap"]
    assert main([*words, "hydra.sweep.dir=whole"]) == 0
    stop_in_job(monkeypatch, 1, 20)
    assert main([*words, "hydra.sweep.dir=sweep"]) == 143
    stopped = [checkpoints.steps(here / "sweep" / job / "checkpoints") for job in "012"]
    assert stopped[0] == stopped[1] == stopped[2] and 20 <= stopped[0][-1] < 40
    assert main([*words, "hydra.sweep.dir=sweep"]) == 0
    for job in "012":
        for ours, theirs in zip(leaves(here / "sweep" / job), leaves(here / "whole" / job), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_signal_in_the_last_steps_of_a_job_ends_the_sweep(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "-m", "seed=0,1", *TRAIN, "hydra.sweep.dir=sweep"]
    stop_in_job(monkeypatch, 1, 40)
    assert main(words) == 143
    assert not (here / "sweep" / "1").exists()
    assert main(words) == 0
    assert [row["status"] for row in table(here / "sweep")] == ["done", "done"]


@pytest.mark.slow
@pytest.mark.parametrize("order", [("float32", "float64"), ("float64", "float32")], ids="-".join)
def test_precisions_in_one_batch(order: tuple[str, str], here: Path) -> None:
    """Each group under its own: the switch to 64 bits is of the whole process."""
    words = ["train", "-m", *TRAIN, f"precision={','.join(order)}", "hydra/launcher=batch"]
    try:
        assert main([*words, "hydra.launcher.together=vmap", "hydra.sweep.dir=sweep"]) == 0
        for i, precision in enumerate(order):
            assert main(["train", *TRAIN, f"precision={precision}", f"hydra.run.dir={precision}"]) == 0
            jax.config.update("jax_enable_x64", True)  # to read either
            for ours, theirs in zip(leaves(here / "sweep" / str(i)), leaves(here / precision), strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.slow
def test_a_group_has_its_own_time_to_compile(here: Path) -> None:
    words = ["train", "-m", "steps=30", "batch_size=16", "log_every=10", "seed=0,1", "hydra/launcher=batch"]
    words.append("hydra.launcher.together=vmap")
    assert main([*words, "net.widths=[7]", "hydra.sweep.dir=before"]) == 0
    assert main([*words, "net.widths=[9],[7]", "hydra.sweep.dir=sweep"]) == 0
    seconds = {row["net.widths"]: float(row["seconds_compile"]) for row in table(here / "sweep")}
    assert seconds["[9]"] > 0 and seconds["[7]"] == 0


def test_a_refused_job_that_is_done_later_counts_as_done(here: Path) -> None:
    words = ["sample", "-m", "run=a,b", "n=40", "steps=5", "plots=false", "hydra.sweep.dir=sweep"]
    assert main(["train", *TRAIN, "hydra.run.dir=a"]) == 0
    assert main(words) == 2
    assert main(["train", *TRAIN, "hydra.run.dir=b"]) == 0
    assert main(words) == 0
    assert [row["status"] for row in table(here / "sweep")] == ["done", "done"]


def test_the_folder_of_another_sweep_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "-m", "seed=0,1", *DRAW, "hydra.sweep.dir=sweep"]) == 0
    capsys.readouterr()
    assert main(["sample", "-m", "seed=2,3", *DRAW, "hydra.sweep.dir=sweep"]) == 2
    assert "already holds another run" in capsys.readouterr().err
    assert [row["seed"] for row in table(here / "sweep")] == ["0", "1"]


def test_a_sweep_in_a_linked_folder_is_run_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "real").mkdir()
    (here / "link").symlink_to("real")
    words = ["sample", "-m", "seed=0,1", *DRAW, "hydra/launcher=batch", "hydra.launcher.together=vmap"]
    assert main([*words, "hydra.sweep.dir=link/sweep"]) == 0
    assert "already finished" not in capsys.readouterr().out


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=batch", "hydra.launcher.together=vmap"]], ids=str)
def test_run_is_not_of_a_sweep(launcher: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "run=x", "seed=0,1", *TRAIN, *launcher, "hydra.sweep.dir=sweep"]) == 2
    assert "run= goes on with one run" in capsys.readouterr().err
    assert [row["status"] == "done" for row in table(here / "sweep")] == [False, False]


def test_more_jobs_than_anyone_waits_for_are_refused_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted, not listed: of choices, ranges up and down, the last word for a key; a constant is one."""
    words = ["sample", "-m", "run=oracle", "steps=range(0,100000)", "seed=1,2", "seed=range(1000,0,-1)", "path=ot,vp"]
    before = time.process_time()
    assert main(words) == 2
    assert time.process_time() - before < 2
    error = capsys.readouterr().err
    assert "200,000,000 jobs" in error and "steps 100,000, seed 1,000, path 2" in error and error.count("\n") == 1
    assert "10,000" in error and list(here.iterdir()) == []
    parsed = OverridesParser.create().parse_overrides(["lr=range(0,1,0.3)", "seed=shuffle(range(3))", "n=sort(2,1)"])
    assert [composing.count_of(each) for each in parsed] == [len([*each.sweep_string_iterator()]) for each in parsed]


@pytest.mark.parametrize("word", ["threads=1,2", "devices=1,null"])
def test_what_the_process_has_once_is_not_swept_over(word: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "dataset=gmm", word]) == 2
    error = capsys.readouterr().err
    assert f"{word.partition('=')[0]} cannot be swept over" in error and error.count("\n") == 1
    assert list(here.iterdir()) == []


def test_a_sample_folder_is_of_one_trajectory_and_one_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`keep` says what sample computes, unlike train's; and run=latest is what it was."""
    words = ["sample", *DRAW, "save_every=2", "hydra.run.dir=kept"]
    assert main([*words, "keep=5"]) == 0
    assert main([*words, "keep=6"]) == 2
    words = ["sample", "n=40", "steps=5", "plots=false", "hydra.run.dir=latest"]
    assert main(["train", *TRAIN]) == 0
    assert main(words) == 0
    assert main(words) == 0
    capsys.readouterr()
    assert main(["train", *TRAIN, "seed=5"]) == 0
    assert main(words) == 2
    assert "already holds another run" in capsys.readouterr().err


def test_one_member_that_diverges_does_not_stop_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "-m", "lr=0.01,1e30", "optimizer.schedule=constant", *TRAIN]
    assert main([*words, "hydra/launcher=batch", "hydra.launcher.together=vmap", "hydra.sweep.dir=sweep"]) == 2
    error = capsys.readouterr().err
    assert "job 1 (lr=1e+30" in error and "try a smaller lr" in error and error.count("\n") == 1
    assert [row["status"] == "done" for row in table(here / "sweep")] == [True, False]


@pytest.mark.slow
def test_one_group_that_cannot_be_judged_does_not_stop_the_others(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known before the first step, and found only when a checkpoint is scored."""
    words = ["train", "-m", *TRAIN, "best=true", "hydra/launcher=batch", "hydra.launcher.together=vmap"]
    early = ["objective=noise,cfm", "precondition=false", "metric=cross_entropy_gap", "hydra.sweep.dir=early"]
    assert main([*words, *early]) == 2
    assert "job 0" in (error := capsys.readouterr().err) and "grid.start" in error and error.count("\n") == 1
    assert [row["status"] == "done" for row in table(here / "early")] == [False, True]
    assert not (here / "early" / "0" / "checkpoints").exists()
    honest, asked = train.score_of, []

    def score(job: Any, state: Any) -> float:
        asked.append(job)
        if len(asked) == 1:
            raise UserError("it cannot be judged")
        return honest(job, state)

    monkeypatch.setattr(train, "score_of", score)
    assert main([*words, "path=ot,vp", "hydra.sweep.dir=late"]) == 2
    assert "it cannot be judged" in capsys.readouterr().err
    assert sorted(row["status"] == "done" for row in table(here / "late")) == [False, True]


def test_a_run_is_judged_with_what_is_known_of_its_figure(tmp_path: Path) -> None:
    """The loss by its floor, another metric by itself, samples by the first of their figures."""
    loss = {"value": 2.5, "floor": 2.0, "floor_error": 0.1}
    for content, wanted in (
        (
            {"metric": {"name": "loss", "value": 2.5}, "loss": loss},
            ("loss", Figure(2.5, reference=Reference("floor", 2.0, 0.1))),
        ),
        ({"metric": {"name": "w2", "value": 0.3}, "loss": loss}, ("w2", Figure(0.3))),
        (
            {"metrics": {"h": {"value": 5.1, "exact": 5.2}, "k": {"value": 0.0}}},
            ("h", Figure(5.1, reference=Reference("exact", 5.2))),
        ),
    ):
        (tmp_path / "summary.json").write_text(json.dumps(content))
        assert judged(folder.read_summary(tmp_path)) == wanted


def test_the_table_says_what_came_out() -> None:
    summary = {
        "loss": {"value": 1.5, "floor": 1.0},
        "metrics": {"w2": {"value": 0.2}},
        "steps": 3,
        "units": {"w2": "m"},
    }
    assert numbers_of(summary) == {"loss": 1.5, "loss.floor": 1.0, "w2": 0.2, "steps": 3}


PARALLEL = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
    "submitit": ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    "optuna": (
        "hydra_plugins.hydra_optuna_sweeper",
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.direction=minimize"],
    ),
}


@pytest.mark.parametrize(
    "extra",
    [pytest.param("joblib", marks=pytest.mark.slow), pytest.param("submitit", marks=pytest.mark.slow), "optuna"],
)
def test_launchers_and_sweepers_of_the_extras(extra: str, here: Path) -> None:
    """A real sweep in processes of their own, or over an interval; refused jobs are told from the others."""
    module, words = PARALLEL[extra]
    if find_spec("hydra_plugins") is None or find_spec(module) is None:
        pytest.skip(f"needs the extra: pip install 'diffsde[{extra}]'")
    swept = ["lr=interval(0.001,0.01)"] if extra == "optuna" else ["lr=0.01,-1"]
    command = [sys.executable, "-m", "diffsde", "train", "-m", *swept, *TRAIN, *words, "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = table(here / "sweep")
    if extra == "optuna":
        assert done.returncode == 0, done.stderr
        found = json.loads(
            json.dumps(__import__("yaml").safe_load((here / "sweep" / "optimization_results.yaml").read_text()))
        )
        assert found["best_value"] == pytest.approx(min(float(row["loss"]) for row in rows))
        assert len(rows) == 3
    else:
        assert done.returncode == 2, done.stderr
        assert "job 1" in done.stderr and "lr is -1; it must be positive" in done.stderr
        assert [row["status"] == "done" for row in rows] == [True, False]
    assert len(list((here / "sweep" / "0" / "checkpoints").iterdir())) == 1


def test_a_missing_extra_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("hydra_plugins") and find_spec(PARALLEL["optuna"][0]):
        pytest.skip("it is installed here")
    assert main(["train", "-m", "seed=0,1", "hydra/sweeper=optuna"]) == 2
    assert "needs pip install 'diffsde[optuna]'" in capsys.readouterr().err


def finished(where: Path, contents: list[dict[str, Any]], words: str = "lr=0.{}") -> Path:
    """A sweep's folder with jobs of these summaries."""
    for job, summary in enumerate(contents):
        (where / str(job) / ".hydra").mkdir(parents=True)
        (where / str(job) / "summary.json").write_text(json.dumps(summary))
        config = {"format": 4, "verb": "sample", "config": {"lr": float(f"0.{job + 1}"), "dataset": {"name": "gmm"}}}
        (where / str(job) / "config.json").write_text(json.dumps(config))
        (where / str(job) / ".hydra" / "overrides.yaml").write_text(f"- {words.format(job + 1)}\n")
    (where / "sweep.json").write_text(json.dumps({"verb": "sample", "words": []}))
    return where


@pytest.mark.slow
def test_no_best_loss_where_losses_are_of_different_things(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Across paths the lowest loss says nothing; the evaluation that is advised does, and seeds of one path have no best."""
    words = ["train", "-m", "path=ot,vp", "seed=0,1", *TRAIN]
    assert main([*words, "hydra.sweep.dir=my sweep"]) == 0
    shown = capsys.readouterr().out
    assert "no best: loss: the loss means something else with each path=" in shown and "  best: " not in shown
    (advice,) = [line for line in shown.splitlines() if "is compared by diffsde" in line]
    command = shlex.split(advice.split("compared by ")[1])[1:]
    assert main([*command, "metrics=[likelihood]", "n_test=50", "solver_steps=8", "hydra.sweep.dir=evaluated"]) == 0
    shown = capsys.readouterr().out
    assert "4 jobs of evaluate: path compared" in shown and "best: nll " in shown
    assert [row["status"] for row in table(here / "evaluated")] == ["done"] * 4
    assert main(["train", "-m", "seed=0,1", *TRAIN, "hydra.sweep.dir=seeds"]) == 0
    assert "no best: there is one row alone" in capsys.readouterr().out


def test_a_figure_that_is_no_number_is_never_the_best(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [{"value": value, "error": 0.01} for value in (None, 2.0, 1.0, None)]
    directions = {"units": {}, "directions": {"w2": "lower"}}
    end_sweep(finished(here / "sweep", [{"metrics": {"w2": figure}} | directions for figure in figures]))
    said = capsys.readouterr().out
    assert "best: w2 1.000 +- 0.010: lr=0.3 (job 2); the next is lr=0.2" in said and said.count("diverged") == 2
    assert "nan" not in (here / "sweep" / "sweep.csv").read_text()


def test_the_value_of_the_true_law_is_beside_the_figures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its error, where it has one; a summary whose reference is no number is passed over."""
    true = {"true": 69.87314, "true_error": 0.0104}
    about = {"units": {"cross_entropy": "nats"}, "directions": {"cross_entropy": "target"}}
    contents = [
        {"metrics": {"cross_entropy": {"value": value, "error": 0.07} | true}} | about for value in (69.2, 70.0, 71.0)
    ]
    end_sweep(finished(here / "sweep", contents))
    said = capsys.readouterr().out
    assert "best: cross entropy 70.000 +- 0.070 nats  (of the true law: 69.873 +- 0.010): lr=0.2 (job 1)" in said
    assert "held against" in said and "69.873 +- 0.010 (of the true law)" in said
    for key in true:
        wrong = {"metrics": {"cross_entropy": {"value": 70.0} | true | {key: "69"}}}
        (here / "sweep" / "0" / "summary.json").write_text(json.dumps(wrong))
        end_sweep(here / "sweep")
        assert "swept 2 of 2 jobs" in capsys.readouterr().out


def test_a_known_value_of_zero_is_on_the_axis() -> None:
    """Values of one sign and of several sizes are drawn on a logarithmic axis, but not where the line to be drawn is at 0."""
    series = [Series("", [1.0, 2.0], [1e-3, 1.0], [0.0, 0.0])]
    assert curves_figure(series, "sigma", "mean", None, None).axes[0].get_yscale() == "log"
    (axis,) = curves_figure(series, "sigma", "mean", None, Known("exact", 0.0)).axes
    assert axis.get_yscale() == "linear" and axis.get_ylim()[0] <= 0


def test_a_verb_draws_its_own_picture_of_a_sweep(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed each finished job; where it fails, the sweep's table stands all the same."""
    finished(here / "sweep", [{"metrics": {"w2": {"value": value}}, "n": 5} for value in (4.0, 3.0)])
    seen: list[Cell] = []

    def draw(cells: list[Cell], where: Path) -> list[Path]:
        seen.extend(cells)
        return [where / "grid.png"]

    monkeypatch.setattr("diffsde.verbs.sample.sweep_pictures", draw, raising=False)
    end_sweep(here / "sweep")
    assert [(cell.job.name, cell.overrides, cell.summary["n"]) for cell in seen] == [
        ("0", {"lr": "0.1"}, 5),
        ("1", {"lr": "0.2"}, 5),
    ]
    assert [(cell.config["lr"], cell.config["dataset"]) for cell in seen] == [
        (0.1, {"name": "gmm"}),
        (0.2, {"name": "gmm"}),
    ]
    assert "grid.png" in capsys.readouterr().out

    def fail(cells: list[Cell], where: Path) -> list[Path]:
        raise ValueError("no pixels")

    monkeypatch.setattr("diffsde.verbs.sample.sweep_pictures", fail, raising=False)
    (here / "sweep" / "sweep.csv").unlink()
    end_sweep(here / "sweep")
    said = capsys.readouterr()
    assert "no picture of the sweep: no pixels" in said.err and "swept 2 of 2 jobs" in said.out
    assert (here / "sweep" / "sweep.csv").exists()


def test_guided_samples_are_not_ranked_by_their_entropy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The more guided, the more collapsed: the least cross-entropy is not the best, and there is no exact value to be near."""
    about = {"directions": {"cross_entropy": "target"}}
    contents = [{"metrics": {"cross_entropy": {"value": value, "error": 0.1}}} | about for value in (4.0, 3.0)]
    end_sweep(finished(here / "sweep", contents))
    assert "no best: cross entropy: it is held against nothing here" in capsys.readouterr().out
