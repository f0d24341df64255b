"""Training that goes wrong says so at once, and never costs what was right before."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import checkpoints
from diffsde.cli.main import main
from diffsde.runs import files, restore, run_log, training_loop
from diffsde.training import TrainState

SMALL = ["batch_size=32", "net.widths=[16]"]
DIVERGED = [*SMALL, "optimizer.schedule=constant", "optimizer.warmup=0"]


def no_constants(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def strict_json(path: Path) -> list[Any]:
    """The values of a file, each line of a .jsonl; NaN and Infinity are refused, as other readers do."""
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(text, parse_constant=no_constants) for text in texts]


def spoil_at(monkeypatch: pytest.MonkeyPatch, step: int, seen: list[int], parameters: bool = False) -> None:
    """The loss of a step is NaN, or the parameters after it are."""
    honest = training_loop.processes.one_process_at_a_time

    def spoiled(tree: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
        state, values = honest(tree)
        done = int(state.step)
        seen.append(done)
        if done >= step and parameters:
            state = state._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params))
        elif done >= step:
            first = seen[-2] + 1 if len(seen) > 1 else 1
            values = values.at[max(0, step - first)].set(jnp.nan)
        return state, values

    monkeypatch.setattr(training_loop.processes, "one_process_at_a_time", spoiled)


def test_a_loss_that_is_no_number_ends_the_run_at_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two lines of the log, 330 steps before the next one."""
    words = ["train", *SMALL, "steps=400", "log_every=400", "checkpoint_every=20", "hydra.run.dir=run", "lr=0.01"]
    words += ["optimizer.schedule=constant", "optimizer.warmup=0"]
    seen: list[int] = []
    spoil_at(monkeypatch, 70, seen)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the loss became nan at step 70 (lr 0.01); try a smaller lr" in error
    assert "the last finite checkpoint is of step 60" in error
    assert seen[-1] <= 100  # no more than the two dispatches under way, of 20 steps at most
    assert checkpoints.steps(here / "run" / "checkpoints") == [40, 60]
    for step in (40, 60):
        assert checkpoints.finite(checkpoints.read_checkpoint(here / "run" / "checkpoints" / str(step)))
    assert strict_json(here / "run" / "metrics.jsonl") == [{"step": 70, "loss": None}]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main(["train", "run=run"]) == 0  # what was kept can be gone on with
    assert "from step 60" in capsys.readouterr().out


def test_parameters_that_are_no_numbers_are_never_saved(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though every loss that was read is finite: those of a state are computed before it."""
    spoil_at(monkeypatch, 60, [], parameters=True)
    words = ["train", *SMALL, "steps=60", "log_every=30", "checkpoint_every=30", "hydra.run.dir=run"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "became NaN or infinite at step 60" in error and "the last finite checkpoint is of step 30" in error
    assert checkpoints.steps(here / "run" / "checkpoints") == [30]
    assert not (here / "run" / "summary.json").exists()
    assert "step 60" in strict_json(here / "run" / "error.json")[0]["error"]


def test_a_run_that_fails_before_its_first_checkpoint_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *DIVERGED, "lr=1e30", "steps=400", "hydra.run.dir=run"]) == 2
    error = capsys.readouterr().err
    assert "at step 2 (lr 1e+30)" in error and "no checkpoint had been written yet" in error
    assert checkpoints.steps(here / "run" / "checkpoints") == []


def test_finite_looks_at_every_number() -> None:
    whole = {"a": jnp.ones((3, 4)), "n": jnp.arange(3), "half": jnp.ones(2, jnp.bfloat16), "none": ()}
    assert checkpoints.finite(whole) and checkpoints.finite({})
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not checkpoints.finite(whole | {"a": whole["a"].at[2, 3].set(bad)})
        assert not checkpoints.finite(whole | {"half": whole["half"].at[1].set(bad)})


def overwrite(run: Path, step: int, value: float) -> None:
    """What the checkpoints of earlier versions could hold: a state of `value`, with its right checksum."""
    where = run / "checkpoints"
    tree = checkpoints.read_checkpoint(where / str(step))
    tree["state"] |= {name: jax.tree.map(lambda leaf: leaf * value, tree["state"][name]) for name in ("params", "ema")}
    shutil.rmtree(where / str(step))
    manager = checkpoints.CheckpointManager(where, 9, lambda saved: None)
    manager.save(step, tree)
    manager.wait()


@pytest.mark.slow
def test_an_old_checkpoint_of_no_numbers_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", *SMALL, "steps=60", "log_every=30", "checkpoint_every=20", "keep=3"]
    assert main([*words, "hydra.run.dir=run"]) == 0
    assert main([*words, "hydra.run.dir=good"]) == 0
    for step in (40, 60):
        overwrite(here / "run", step, math.nan)
    draw = ["n=9", "steps=2"]
    for asked, line in {
        "checkpoint": ["sample", "run=run", "plots=false", *draw],
        "evaluate": ["evaluate", "run=run", "metrics=[distance]", *draw],
        "guide": ["sample", "run=good", "guide=run", "guidance=2", "plots=false", *draw],
    }.items():
        capsys.readouterr()
        assert main(line) == 2
        error = capsys.readouterr().err
        knob = "guide_checkpoint" if asked == "guide" else "checkpoint"
        assert "NaN or infinite" in error and f"the newest finite one is {knob}=20" in error and error.count("\n") == 1
        assert main([*line, f"{knob}=20", f"hydra.run.dir=out-{asked}"]) == 0  # the advice
    capsys.readouterr()
    overwrite(here / "run", 20, math.inf)
    assert main(["sample", "run=run", *draw]) == 2
    assert "none before it is finite; train it again with a smaller lr" in capsys.readouterr().err


def test_training_goes_on_from_a_finite_checkpoint_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", *SMALL, "steps=60", "log_every=30", "checkpoint_every=20", "keep=3", "hydra.run.dir=run"]
    assert main(words) == 0
    wanted = checkpoints.read_checkpoint(here / "run" / "checkpoints" / "60")
    overwrite(here / "run", 60, math.nan)
    (here / "run" / "summary.json").unlink()
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr()
    assert "NaN or infinite" in said.err and "from step 40" in said.out
    found = checkpoints.read_checkpoint(here / "run" / "checkpoints" / "60")
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_samples_that_are_no_numbers_are_not_judged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = ["run=oracle", "dataset=gmm", "path=ot", "n=40", "steps=4", "plots=false"]
    assert main(["sample", *draw, "hydra.run.dir=drawn"]) == 0
    x = np.load(here / "drawn" / "samples.npz")["x"]
    for bad, why in (
        (
            np.where(np.arange(40)[:, None] < 3, np.nan, x),
            "3 of the 40 points in 'drawn/samples.npz' are NaN or infinite",
        ),
        (np.where(np.eye(40, 2) > 0, -np.inf, x), "2 of the 40 points"),
        (x.astype(str), "it must be real numbers"),
    ):
        np.savez(here / "drawn" / "samples.npz", x=bad)
        capsys.readouterr()
        assert main(["evaluate", "samples=drawn", "metrics=[distance]", "hydra.run.dir=judged"]) == 2
        error = capsys.readouterr().err
        assert why in error and error.count("\n") == 1
        assert not (here / "judged").exists()


def test_a_diverged_run_says_so_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finite to the end, at some 1e20 times what the untrained network scored."""
    assert main(["train", *DIVERGED, "lr=1e5", "steps=60", "log_every=20", "hydra.run.dir=run"]) == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("warning")]
    assert "at step 20 (lr 1e+05)" in line and "the run diverged; try a smaller lr" in line
    summary = strict_json(here / "run" / "summary.json")[0]
    value, untrained = map(float, re.findall(r"is ([\d.e+]+), where .* scored ([\d.e+]+):", summary["diverged"])[0])
    assert value == pytest.approx(summary["loss"]["value"], rel=1e-3) and value > 1e15
    assert "diverged: untrained" in said.out
    assert main(["train", *DIVERGED, "steps=1", "log_every=1", "hydra.run.dir=one"]) == 0
    assert untrained == pytest.approx(strict_json(here / "one" / "metrics.jsonl")[0]["loss"], rel=1e-3)
    assert "diverged" not in strict_json(here / "one" / "summary.json")[0]
    assert main(["train", *DIVERGED, "lr=0.01", "steps=60", "log_every=20", "hydra.run.dir=mended"]) == 0  # the advice
    assert capsys.readouterr().err == ""


def test_what_an_untrained_network_scored_survives_a_stop(here: Path) -> None:
    words = ["train", *SMALL, "steps=40", "log_every=20", "checkpoint_every=20", "hydra.run.dir=run"]
    assert main(words) == 0
    tree = checkpoints.load(here / "run" / "checkpoints", pytest.fail)[1]
    assert main([*words[:-1], "hydra.run.dir=one", "log_every=1"]) == 0
    first = json.loads((here / "one" / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert float(tree["untrained"]) == pytest.approx(first, rel=1e-6)


@pytest.mark.slow
def test_one_member_of_a_vmapped_sweep_that_fails_leaves_the_others(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "-m", *DIVERGED, "lr=0.01,1e30,1e5", "steps=40", "log_every=20", "checkpoint_every=20"]
    assert main([*words, "hydra/launcher=batch", "hydra.launcher.together=vmap", "hydra.sweep.dir=sweep"]) == 2
    error = capsys.readouterr().err
    assert "diffsde: job 1 (" in error and "lr=1e+30" in error and "the loss became nan at step 2 (lr 1e+30)" in error
    assert "job 0" not in error and error.count("the run diverged") == 1
    for job in "02":
        state = checkpoints.load(here / "sweep" / job / "checkpoints", pytest.fail)[1]
        assert checkpoints.finite(state) and int(state["state"]["step"]) == 40
    assert checkpoints.steps(here / "sweep" / "1" / "checkpoints") == []
    for path in (here / "sweep").rglob("*.json*"):
        strict_json(path)


def test_every_json_file_is_strict_and_read_back(tmp_path: Path) -> None:
    content = {"a": [1.5, math.nan, (math.inf,)], "b": {"c": -math.inf, "d": "nan", "e": True, "f": 3}}
    files.write_json(tmp_path / "x.json", content)
    assert strict_json(tmp_path / "x.json") == [
        {"a": [1.5, None, [None]], "b": {"c": None, "d": "nan", "e": True, "f": 3}}
    ]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(map(run_log.log_line, [{"step": 1, "score": math.nan}, {"step": 2, "score": 3.0}])))
    strict_json(log)
    scores = run_log.read_log(log).scores
    assert math.isnan(scores[1]) and run_log.best_step(scores, [1, 2]) == 2
    assert restore.which_step(tmp_path, "2", "run") == 2
