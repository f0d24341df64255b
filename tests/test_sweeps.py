"""Sweeps: one program for all numbers, each job as if it had run alone, a table at the end, nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from diffsde import checkpoints
from diffsde.cli import sweep_table
from diffsde.cli.main import main
from diffsde.errors import UserError
from diffsde.metrics.figures import Figure, Reference
from diffsde.plots.sweep import Point, sweep_figure
from diffsde.runs import progress
from diffsde.runs.results import Cell
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
    assert (sweep / "sweep.png").stat().st_size > 5000
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
        row = sweep_table.row_of(tmp_path)
        assert row is not None and (row.name, row.figure) == wanted


def test_the_table_says_what_was_swept_and_what_came_out() -> None:
    summary = {"loss": {"value": 1.5, "floor": 1.0}, "metrics": {"w2": {"value": 0.2}}, "steps": 3}
    assert sweep_table.numbers(summary) == {"loss": 1.5, "loss.floor": 1.0, "w2": 0.2, "steps": 3}
    rows = [
        sweep_table.Row("0", {"a": "1", "b": "2"}, "done", {}),
        sweep_table.Row("1", {"a": "1", "b": "3"}, "done", {}),
    ]
    assert sweep_table.varied(rows, ["a", "b"]) == ["b"]
    exact = Reference("exact", 5.2)
    collapsed, good = (sweep_table.Row("", {}, "done", {}, "h", Figure(value, reference=exact)) for value in (4.9, 5.3))
    assert min(collapsed, good, key=sweep_table.Row.distance_from_target) is good


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


@pytest.mark.slow
def test_no_best_loss_where_losses_are_of_different_things(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Across paths the lowest loss says nothing; the metric and the evaluation that are advised do."""
    words = ["train", "-m", "path=ot,vp", *TRAIN]
    assert main([*words, "hydra.sweep.dir=my sweep"]) == 0
    shown = capsys.readouterr().out
    assert "none: the loss means something else with each path=" in shown and ", job " not in shown
    (advice,) = [line for line in shown.splitlines() if "compare by metric=" in line]
    metric, command = advice.split("; compare by ")[1].split(", or by ")
    assert metric == "metric=cross_entropy_gap"
    assert main([*words, metric, "hydra.sweep.dir=by-metric"]) == 0
    assert ", job " in capsys.readouterr().out
    assert main([*shlex.split(command)[1:], "metrics=[distance]", "n=50", "steps=4", "hydra.sweep.dir=evaluated"]) == 0
    assert ", job " in capsys.readouterr().out
    assert [row["status"] for row in table(here / "evaluated")] == ["done", "done"]
    assert main(["train", "-m", "seed=0,1", *TRAIN, "hydra.sweep.dir=seeds"]) == 0
    assert ", job " in capsys.readouterr().out


def test_what_makes_figures_unlike(tmp_path: Path) -> None:
    """Whatever changes what the loss is a mean of, and for samples the data alone, of their runs too."""
    base = {"dataset": {"name": "gmm"}, "path": {"name": "ot"}, "objective": {"name": "cfm", "weight": "auto"},
            "time": {"name": "uniform"}, "precondition": True, "label_dropout": None, "seed": 0, "lr": None}  # fmt: skip

    def unlike(name: str, *configs: dict[str, Any]) -> list[str]:
        return sweep_table.unlike(
            [sweep_table.Row("", {}, "done", {}, name, Figure(1.0), config) for config in configs]
        )

    for key, value in {
        "path": {"name": "vp"}, "time": {"name": "log_normal"}, "objective": {"name": "cfm", "weight": "unit"},
        "dataset": {"name": "moons"}, "precondition": False, "label_dropout": 0.2,
    }.items():  # fmt: skip
        assert unlike("loss", base, base | {key: value}) == [key]
        assert unlike("w2", base, base | {key: value}) == (["dataset"] if key == "dataset" else [])
    assert unlike("loss", base, base | {"seed": 1, "lr": 0.1}) == []
    for name, data in (("a", "gmm"), ("b", "moons"), ("c", "gmm")):
        (tmp_path / name).mkdir()
        content = {"config": base | {"dataset": {"name": data, "stream": name == "c"}}}
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    runs = [{"run": str(tmp_path / name), "dataset": None} for name in "abc"]
    assert unlike("w2", *runs[:2]) == ["dataset"] and unlike("w2", runs[0], runs[2]) == []
    rows = [sweep_table.Row("", {}, "done", {}, name, Figure(1.0), base) for name in ("w2", "loss")]
    assert sweep_table.unlike(rows) == ["metric"]
    moons, judge = base | {"dataset": {"name": "moons"}}, base | {"objective": {"name": "classifier"}}
    for config, says in ((base, "metric=cross_entropy_gap"), (moons, "metric=w2"), (judge, "guide=")):
        rows = [sweep_table.Row("", {}, "done", {}, "loss", Figure(1.0), config)]
        assert says in sweep_table.remedy(rows, ["path"], tmp_path)


def test_a_figure_that_is_no_number_is_never_the_best(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for job, value in enumerate((None, 2.0, 1.0, None)):
        (here / "sweep" / str(job)).mkdir(parents=True)
        summary = {"metric": {"name": "w2", "value": value}, "loss": {"value": 1.0}}
        (here / "sweep" / str(job) / "summary.json").write_text(json.dumps(summary))
    sweep_table.summarise(here / "sweep")
    assert "w2 1, job 2" in capsys.readouterr().out
    assert "nan" not in (here / "sweep" / "sweep.csv").read_text()


def test_the_value_of_the_true_law_is_beside_the_best(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its error, where it has one, in the line and as the line of the picture; one that is no number is no summary."""
    true = {"true": 69.87314, "true_error": 0.0104}
    for job, value in enumerate((69.2, 70.0, 71.0)):
        (here / "sweep" / str(job)).mkdir(parents=True)
        figure = {"value": value, "error": 0.07} | true
        (here / "sweep" / str(job) / "summary.json").write_text(json.dumps({"metrics": {"cross_entropy": figure}}))
    sweep_table.summarise(here / "sweep")
    assert "cross entropy 70 (true: 69.87 +- 0.01), job 1" in capsys.readouterr().out
    rows = [
        sweep_table.Row("", {"steps": n}, "done", {}, "cross_entropy", Figure.of_dict({"value": 70.0} | true))
        for n in ("10", "20")
    ]
    figure = sweep_table.picture(rows, ["steps"])
    assert figure is not None
    (text,) = figure.axes[0].get_legend().get_texts()
    assert text.get_text() == "true: 69.87"
    other = sweep_table.Row("", {"steps": "30"}, "done", {}, "w2", Figure.of_dict({"value": 1.0}))
    assert sweep_table.picture([*rows, other], ["steps"]) is None  # one axis cannot have two names
    for key in true:
        wrong = {"metrics": {"cross_entropy": {"value": 70.0} | true | {key: "69"}}}
        (here / "sweep" / "0" / "summary.json").write_text(json.dumps(wrong))
        assert sweep_table.row_of(here / "sweep" / "0") is None


def test_a_known_value_of_zero_is_on_the_axis() -> None:
    """Values of one sign and of several sizes are drawn on a logarithmic axis, but not where the line to be drawn is at 0."""
    points = [Point("1", 1e-3, ""), Point("2", 1.0, "")]
    assert sweep_figure(points, "sigma", "mean", None).axes[0].get_yscale() == "log"
    (axis,) = sweep_figure(points, "sigma", "mean", ("exact", 0.0)).axes
    assert axis.get_yscale() == "linear" and axis.get_ylim()[0] <= 0


def test_a_verb_draws_its_own_picture_of_a_sweep(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed each finished job; where it fails, the sweep's table stands all the same."""
    for job, value in enumerate((4.0, 3.0)):
        (here / "sweep" / str(job) / ".hydra").mkdir(parents=True)
        contents = {
            "summary.json": {"metrics": {"w2": {"value": value}}, "n": 5},
            "config.json": {"verb": "sample", "config": {"seed": job}},
        }
        for name, content in contents.items():
            (here / "sweep" / str(job) / name).write_text(json.dumps(content))
        (here / "sweep" / str(job) / ".hydra" / "overrides.yaml").write_text(f"[seed={job}]")
    seen: list[Cell] = []

    def draw(cells: list[Cell], where: Path) -> list[Path]:
        seen.extend(cells)
        return [where / "grid.png"]

    monkeypatch.setattr("diffsde.verbs.sample.sweep_pictures", draw, raising=False)
    sweep_table.summarise(here / "sweep")
    assert [(cell.job.name, cell.overrides, cell.config, cell.summary["n"]) for cell in seen] == [
        ("0", {"seed": "0"}, {"seed": 0}, 5),
        ("1", {"seed": "1"}, {"seed": 1}, 5),
    ]
    assert "grid.png" in capsys.readouterr().out

    def fail(cells: list[Cell], where: Path) -> list[Path]:
        raise ValueError("no pixels")

    monkeypatch.setattr("diffsde.verbs.sample.sweep_pictures", fail, raising=False)
    (here / "sweep" / "sweep.csv").unlink()
    sweep_table.summarise(here / "sweep")
    said = capsys.readouterr()
    assert "no picture of the sweep: no pixels" in said.err and "swept 2 of 2 jobs" in said.out
    assert (here / "sweep" / "sweep.csv").exists()


def test_guided_samples_are_not_ranked_by_their_entropy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The more guided, the more collapsed: the least cross-entropy is not the best, and there is no exact value to be near."""
    for job, value in enumerate((4.0, 3.0)):
        (here / "sweep" / str(job)).mkdir(parents=True)
        (here / "sweep" / str(job) / "summary.json").write_text(
            json.dumps({"metrics": {"cross_entropy": {"value": value, "error": 0.1}}})
        )
    sweep_table.summarise(here / "sweep")
    assert "none: guided samples follow another law" in capsys.readouterr().out
