"""A run that is stopped, by whatever means, and goes on ends in the bits of one that never stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import portalocker
import pytest

from diffsde import checkpoints
from diffsde.cli.main import main
from diffsde.errors import UserError
from diffsde.loggers import NoLogger
from diffsde.runs import files, locks, run_log, run_writer, training_loop
from diffsde.training import TrainState
from diffsde.types import Moments

SMALL = ["batch_size=32", "net.widths=[16]", "ema=[0.9,0.99]", "threads=1"]
RUN = ["train", *SMALL, "steps=400", "log_every=30", "checkpoint_every=50"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that never stopped; in a process of its own, as those that are killed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([*DIFFSDE, *RUN, f"hydra.run.dir={out}"], check=True, stdout=subprocess.DEVNULL)
    return out


DIFFSDE = [sys.executable, "-m", "diffsde"]


def ending(run: Path) -> tuple[int, list[np.ndarray], list[Any], Any]:
    """Step and every leaf of the last checkpoint, the log but for its times, and the final loss."""
    step, tree = checkpoints.load(run / "checkpoints", pytest.fail)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]
    return (
        step,
        list(map(np.asarray, jax.tree.leaves(tree))),
        figures,
        json.loads((run / "summary.json").read_text())["loss"][
            "value"
        ],  # its floor sums in an order that the threads decide
    )


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = ending(one), ending(other)
    assert (ours[0], ours[2], ours[3]) == (theirs[0], theirs[2], theirs[3])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal once the state is at a step or beyond."""
    honest = training_loop.progress.Steps.update

    def update(self: Any, done: int, note: str = "") -> None:
        honest(self, done, note)
        if done >= step and not stop_at.sent:  # type: ignore[attr-defined]
            stop_at.sent = True  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    stop_at.sent = False  # type: ignore[attr-defined]
    monkeypatch.setattr(training_loop.progress.Steps, "update", update)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_goes_on(
    number: int,
    status: int,
    here: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the default folder, which the second command finds by its config; stopped at no multiple of anything."""
    with monkeypatch.context() as patched:
        stop_at(patched, 90, number)
        assert main(RUN) == status
    said = capsys.readouterr().err
    assert "stopped at step" in said and "the same command goes on" in said and said.count("\n") == 1
    (run,) = (here / "outputs" / "train").glob("*/*")
    stopped = checkpoints.steps(run / "checkpoints")[-1]
    assert 90 <= stopped < 400 and not (run / "summary.json").exists()
    assert main(RUN) == 0
    assert f"from step {stopped}" in capsys.readouterr().out
    assert list((here / "outputs" / "train").glob("*/*")) == [run]
    assert_same(run, whole)
    assert main(RUN) == 0  # that one is finished, and another is begun
    assert len(list((here / "outputs" / "train").glob("*/*"))) == 2


def test_run_names_the_run_to_go_on_with(
    here: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        stop_at(patched, 200, signal.SIGTERM)
        assert main([*RUN, "keep=9", "hydra.run.dir=mine"]) == 143
    assert main(["train", "run=mine", "seed=5"]) == 2
    assert "it cannot be combined with seed=5" in capsys.readouterr().err
    kept = len(checkpoints.steps(here / "mine" / "checkpoints"))
    assert kept > 2
    assert main(["train", "run=mine", "threads=1", "pictures=none"]) == 0
    assert not (here / "mine" / "plots").exists()  # pictures are no part of what is computed
    assert len(checkpoints.steps(here / "mine" / "checkpoints")) > kept  # under its own keep and checkpoint_every too
    assert_same(here / "mine", whole)
    assert main(["train", "run=mine", "threads=1"]) == 0
    assert "already finished: mine" in capsys.readouterr().out
    assert not (here / "outputs").exists()


def test_a_damaged_newest_checkpoint_costs_only_its_steps(
    here: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        stop_at(patched, 200, signal.SIGTERM)
        assert main([*RUN, "hydra.run.dir=run"]) == 143
    before, newest = checkpoints.steps(here / "run" / "checkpoints")[-2:]
    for path in (here / "run" / "checkpoints" / str(newest)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])
    capsys.readouterr()
    assert main([*RUN, "hydra.run.dir=run"]) == 0
    said = capsys.readouterr()
    assert (
        "is damaged" in said.err
        and f"taking the one of step {before}" in said.err
        and f"from step {before}" in said.out
    )
    assert_same(here / "run", whole)


@pytest.mark.slow
def test_resume_false_begins_afresh_and_another_config_is_not_gone_on_with(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_at(patched, 90, signal.SIGTERM)
        assert main(RUN) == 143
    assert main([*RUN, "seed=3"]) == 0
    assert main([*RUN, "resume=false"]) == 0
    assert len(list((here / "outputs" / "train").glob("*/*"))) == 3


def test_a_run_that_another_process_writes_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "run").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, sys, time; f = os.open('run/.lock', os.O_RDWR | os.O_CREAT);"
         " fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()
    assert locks.is_held(here / "run")
    assert main([*RUN, "hydra.run.dir=run"]) == 2
    assert "'run' is being written by another process" in capsys.readouterr().err.replace(f"{here}/", "")
    holder.kill()
    holder.wait()
    assert not locks.is_held(here / "run")


def test_the_lock_is_one_that_other_hosts_see(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS passes on an exclusive lock of a regular file that is open for writing, a shared one of any regular file."""
    honest = fcntl.flock

    def over_nfs(descriptor: int, how: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return  # kept on this host
        if how & fcntl.LOCK_EX and not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE:
            raise OSError(errno.EBADF, "not open for writing")
        honest(descriptor, how)

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", over_nfs)
    assert not locks.is_held(here)
    with locks.held(here):
        assert locks.is_held(here)
        with pytest.raises(UserError, match="is being written by another process"), locks.held(here):
            pass
    assert not locks.is_held(here)


def test_those_that_ask_who_writes_do_not_disturb_one_another(here: Path) -> None:
    """The processes of one run all look for an unfinished one as they start."""
    with locks.held(here):
        pass
    asking = os.open(here / locks.LOCK, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert not locks.is_held(here)
    os.close(asking)


def test_a_checkpoint_before_the_first_line_of_the_log_has_a_score(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss of the last tenth of the steps so far; where there are lines, of the last tenth of them, one at least."""
    every: list[float] = []
    honest = run_writer.RunWriter.take

    def take(one: run_writer.RunWriter, done: int, losses: np.ndarray, *rest: Any) -> None:
        every.extend(losses.tolist())
        honest(one, done, losses, *rest)

    monkeypatch.setattr(run_writer.RunWriter, "take", take)
    words = [*RUN, "steps=60", "checkpoint_every=20", "best=true", "keep=1", "hydra.run.dir=run"]
    assert main(words) == 0
    lines = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["score"] for line in lines if "score" in line}
    expected = {20: np.mean(every[18:20]), 40: np.mean(every[:30]), 60: np.mean(every[30:])}
    assert len(every) == 60 and scores == pytest.approx(expected, rel=1e-6)
    assert run_log.best_step({1: math.nan, 2: 3.0}, [1, 2]) == 2


def test_all_processes_take_the_strides_they_agreed_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each times its own steps, also while it saves: dispatches of different lengths would wait for each other for ever."""
    monkeypatch.setattr(training_loop.processes, "all_reduce_max", lambda *values: (*values[:2], 3)[: len(values)])
    counts: list[int] = []

    def program(run: Any, state: TrainState, count: Any) -> tuple[TrainState, Any]:
        counts.append(int(count))
        return state._replace(step=state.step + count), jnp.ones(20)

    plan = run_writer.Schedule(steps=40, log_every=20, checkpoint_every=10, keep=2, best=False)
    one = run_writer.RunWriter(here, plan, Moments(jnp.zeros(2), jnp.ones(())), 0)
    one.recorder = NoLogger().open(here, {}, 0, pytest.fail)
    nothing: dict[str, Any] = {}
    training_loop.fit(
        program, None, TrainState(jnp.asarray(0), nothing, nothing, ()), [one], plan, lambda i, state: 0.0
    )  # type: ignore[arg-type]
    assert counts == [1, 3, 3, 3] + 3 * [3, 3, 3, 1]


def test_a_power_cut_does_not_leave_an_empty_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file holds is on the disk before it has its name."""
    order: list[str] = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("on disk"), sync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("in place"), move(*paths)))
    files.write_json(here / "x.json", {"a": 1})
    assert order == ["on disk", "in place"] and json.loads((here / "x.json").read_text()) == {"a": 1}


@pytest.mark.slow
def test_the_best_checkpoint_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a rate far too large at the end the best is not the last; sample finds it, and every average."""
    words = [*RUN, "keep=1", "best=true", "metric=cross_entropy_gap", "checkpoint_every=100", "hydra.run.dir=run"]
    assert main([*words, "optimizer.schedule=constant", "lr=0.3"]) == 0
    lines = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["score"] for line in lines if "score" in line}
    assert set(scores) == {100, 200, 300, 400}
    best = min(scores, key=lambda step: math.inf if scores[step] is None else scores[step])  # null: no number
    assert checkpoints.steps(here / "run" / "checkpoints") == sorted({best, 400})
    assert json.loads((here / "run" / "summary.json").read_text())["metric"]["value"] == scores[400]
    few = ["sample", "run=run", "n=50", "steps=2", "plots=false", "threads=1"]
    capsys.readouterr()
    assert main([*few, "checkpoint=best", "hydra.run.dir=best"]) == 0
    assert f"at step {best} of" in capsys.readouterr().out
    drawn = {}
    for ema in ("null", "0.9", "0.99", "0"):
        assert main([*few, f"ema={ema}", f"hydra.run.dir=s{ema}"]) == 0
        drawn[ema] = np.load(here / f"s{ema}" / "samples.npz")["x"]
    np.testing.assert_array_equal(drawn["null"], drawn["0.9"])
    assert len({drawn[ema].tobytes() for ema in ("0.9", "0.99", "0")}) == 3
    assert main([*few, "ema=0.5"]) == 2
    assert "the run kept 0.9, 0.99, and 0 gives the parameters" in capsys.readouterr().err
    assert main([*few, "checkpoint=150"]) == 2
    assert "has none of step 150" in capsys.readouterr().err


def killed(words: list[str], run: Path, after: float) -> bool:
    """Begin a run, kill -9 it so many seconds after its first line, and say whether it was still training."""
    process = subprocess.Popen([*DIFFSDE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


@pytest.mark.slow
def test_kill_9_and_go_on(here: Path, whole: Path) -> None:
    """Killed at once and again later, then left to end."""
    words = [*RUN, "hydra.run.dir=run"]
    for after in (0.0, 0.15):
        killed(words, here / "run", after)
    subprocess.run([*DIFFSDE, *words], check=True, stdout=subprocess.DEVNULL)
    assert_same(here / "run", whole)


@pytest.mark.slow
def test_kill_9_at_20_random_moments(here: Path) -> None:
    """Each resumed run ends bit-equal to the uninterrupted one, log included."""
    words = ["train", *SMALL, "steps=4000", "log_every=70", "checkpoint_every=100"]
    begin = time.perf_counter()
    subprocess.run([*DIFFSDE, *words, "hydra.run.dir=whole"], check=True, stdout=subprocess.DEVNULL)
    seconds = json.loads((here / "whole" / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    assert time.perf_counter() - begin > seconds
    rng, in_training = random.Random(0), 0
    for i in range(20):
        run = here / str(i)
        in_training += killed([*words, f"hydra.run.dir={run}"], run, rng.uniform(0, seconds))
        subprocess.run([*DIFFSDE, *words, f"hydra.run.dir={run}"], check=True, stdout=subprocess.DEVNULL)
        assert_same(run, here / "whole")
    assert in_training >= 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def two_processes(
    words: list[str], kill_after: float | None = None, run: Path | None = None, slurm: bool = False
) -> list[int]:
    """One run of two processes, killed both so many seconds after the first checkpoint, or left to end: their exit statuses.

    slurm: they find one another by the environment that srun gives them.
    """
    port = free_port()
    both = []
    for rank in range(2):
        how, env = [f"coordinator=localhost:{port}", "processes=2", f"rank={rank}"], dict(os.environ)
        if slurm:
            how = ["coordinator=slurm"]
            env |= {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost"}
            env |= {
                "SLURM_NTASKS": "2",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_PROCID": str(rank),
                "SLURM_LOCALID": str(rank),
            }
        both.append(
            subprocess.Popen([*DIFFSDE, *words, *how], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    if kill_after is not None and run is not None:
        while not checkpoints.steps(run / "checkpoints") and both[0].poll() is None:
            time.sleep(0.02)
        time.sleep(kill_after)
        for process in both:
            process.kill()
    return [process.wait(timeout=300) for process in both]


@pytest.mark.slow
def test_two_processes_killed_and_resumed(here: Path) -> None:
    """Two real processes train one model, batch and parameters split between them; killed and begun again, they end in
    the bits of two that were not, and within rounding of one process.
    """
    words = ["train", *SMALL, "steps=600", "log_every=50", "checkpoint_every=50", "shard=true", "optimizer.warmup=10"]
    assert two_processes([*words, "hydra.run.dir=whole"]) == [0, 0]
    assert two_processes([*words, "hydra.run.dir=run"], kill_after=0.3, run=here / "run") == [-9, -9]
    assert 0 < checkpoints.steps(here / "run" / "checkpoints")[-1] < 600
    assert two_processes([*words, "hydra.run.dir=run"]) == [0, 0]
    assert_same(here / "run", here / "whole")
    alone = [word for word in words if not word.startswith("shard")]
    assert main([*alone, "hydra.run.dir=alone"]) == 0
    loss, other = ending(here / "alone")[3], ending(here / "whole")[3]
    assert loss == pytest.approx(other, rel=1e-4)


def test_signals_outside_the_main_thread_are_not_ours() -> None:
    """A launcher may run jobs in threads, which cannot be sent signals."""
    from diffsde.signals import stoppable

    seen: list[bool] = []

    def job() -> None:
        with stoppable() as asked:
            seen.append(asked == [])

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert seen == [True]
