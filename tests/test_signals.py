"""A signal at any moment ends a command with one line and nothing half written; what a killed process left is cleared."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffsde import atomic_files, signals
from diffsde.cli.main import main
from diffsde.errors import Stopped, UserError
from diffsde.runs import folder, leaving, locks

SCRIPT = Path(__file__).parent.parent / "scripts" / "kill_trials.py"
SAMPLE = ["sample", "run=oracle", "dataset=gmm", "path=ot", "n=20", "steps=2", "pictures=none"]


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def swallowed() -> None:
    """What an import or a C callback may do with the exception of a signal."""
    with contextlib.suppress(BaseException):
        send()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_the_status_and_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(each) for each in signals.NUMBERS], threading.active_count(), sys.unraisablehook

    def work() -> int:
        with signals.leaving(lambda: "x is kept; the same command goes on"):
            send(number)
            time.sleep(10)
        return 0

    assert signals.answered(work) == 128 + number
    assert capsys.readouterr().err == "diffsde: stopped: x is kept; the same command goes on\n"
    after = [signal.getsignal(each) for each in signals.NUMBERS], threading.active_count(), sys.unraisablehook
    assert before == after


def test_a_signal_that_is_swallowed_is_raised_again() -> None:
    def work() -> int:
        swallowed()
        time.sleep(10)
        return 0

    began = time.monotonic()
    assert signals.answered(work) == 143 and time.monotonic() - began < 5


def test_a_signal_that_was_made_into_another_error_is_still_one(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        try:
            send()
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error
        return 0

    assert signals.answered(work) == 143
    assert capsys.readouterr().err == "diffsde: stopped before anything was written\n"


def test_what_tidies_up_is_not_interrupted() -> None:
    """However long it takes, it is asked for nothing more."""
    tidied = []

    def work() -> int:
        try:
            send()
        finally:
            time.sleep(3 * signals.AGAIN)
            tidied.append(True)
        return 0

    assert signals.answered(work) == 143 and tidied == [True]


def test_errors_without_a_signal_are_their_own() -> None:
    with pytest.raises(ZeroDivisionError):
        signals.answered(lambda: 1 // 0)
    assert signals.answered(lambda: 2) == 2


def test_work_that_is_done_all_the_same_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert signals.answered(lambda: swallowed() or 0) == 143  # type: ignore[func-returns-value]
    assert "at its very end; everything is written" in capsys.readouterr().err


def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signals.answered(lambda: send(signal.SIGHUP) or 0) == 0  # type: ignore[func-returns-value]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_who_asks_is_not_interrupted() -> None:
    seen: list[Any] = []

    def work() -> int:
        with signals.stoppable() as asked:
            send()
            time.sleep(2 * signals.AGAIN)
            seen.append(list(asked))
        seen.append("not reached")
        return 0

    assert signals.answered(work) == 143 and seen == [[signal.SIGTERM]]


IN_C = """
import hashlib, sys, threading
from diffsde import signals
def work():
    with signals.leaving(lambda: "tidied"):
        threading.Timer(0.5, print, ["begun"], {"flush": True}).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # C, for an hour
    return 0
sys.exit(signals.answered(work))
"""


def test_a_second_signal_ends_it_even_in_c() -> None:
    """As XLA compiles: the first cannot be answered; two at once are one."""
    process = subprocess.Popen([sys.executable, "-c", IN_C], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2 * signals.BURST)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (143, "diffsde: stopped at once; tidied\n")


def stopped_in(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, before: bool = True) -> None:
    """Send a signal as a function of the program is called, or as it ends."""
    honest: Callable[..., Any] = getattr(module, name)

    def struck(*args: Any, **words: Any) -> Any:
        if before:
            send()
        found = honest(*args, **words)
        if not before:
            send()
        return found

    monkeypatch.setattr(module, name, struck)


@pytest.mark.parametrize(
    ("module", "name", "before", "words"),
    [
        (folder, "claim", False, SAMPLE),
        (folder, "write_config", True, SAMPLE),
        (locks, "clear_partial", True, ["train", "steps=2", "net.widths=[4]", "pictures=none"]),
        (locks, "clear_partial", True, [*SAMPLE, "-m", "seed=0,1"]),
        (folder, "claim", True, ["study", "train=steps=2 seed=0,1"]),
    ],
)
def test_nothing_is_left_where_nothing_is_kept(
    module: Any, name: str, before: bool, words: list[str], here: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stopped_in(monkeypatch, module, name, before)
    assert main(words) == 143
    (said,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    if words[0] == "study":
        assert "0 of 2 jobs are done" in said and not list(here.rglob("train/0"))
    else:
        assert said == "diffsde: stopped: nothing is kept; the same command begins again"
        assert list(here.iterdir()) == []


def test_a_half_done_job_says_how_it_is_done_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        stopped_in(patched, folder, "write_config", before=False)
        assert main([*SAMPLE, "hydra.run.dir=mine"]) == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "diffsde: stopped: mine is half done; with hydra.run.dir=mine the same command does it again"
    assert main([*SAMPLE, "hydra.run.dir=mine"]) == 0


def test_what_a_killed_process_left_is_cleared(here: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = here / f".samples.{gone.pid}.partial.npz"
    left.write_bytes(b"half")
    (here / ".own.7").write_text("the user's")
    with locks.held(here):
        assert sorted(path.name for path in here.iterdir()) == [locks.LOCK, ".own.7"]
        assert atomic_files.write_atomically(here / "x.npz", lambda path: path.write_bytes(b"x")).read_bytes() == b"x"


def test_what_dead_processes_left_of_a_file_that_many_write_is_cleared(tmp_path: Path) -> None:
    """In a cache: only once it is old, since a process of another machine may be writing it; never that of one that lives."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, new, alive, other = (
        tmp_path / f".{name}.partial.npz"
        for name in (f"a.{gone.pid}", f"a.{gone.pid}9999999", f"a.{os.getppid()}", f"b.{gone.pid}")
    )
    for path in (old, new, alive, other):
        path.write_bytes(b"half")
    for path in (old, alive, other):
        os.utime(path, (0, 0))
    atomic_files.write_atomically(tmp_path / "a.npz", lambda path: path.write_bytes(b"x"))
    assert {path for path in (old, new, alive, other) if path.exists()} == {new, alive, other}


def test_a_folder_that_was_removed_under_the_lock_is_locked_anew(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process ends, and removes its empty folder, between this one's opening of the lock and its taking it."""
    run, honest, times = here / "run", locks._locked, [0]
    run.mkdir()

    def locked(descriptor: int, shared: bool = False) -> bool:
        times[0] += 1
        if times[0] == 1:
            leaving.remove_empty(run)
        return honest(descriptor, shared)

    monkeypatch.setattr(locks, "_locked", locked)
    with locks.held(run):
        monkeypatch.undo()
        assert locks.is_held(run)
        with pytest.raises(UserError, match="written by another process"), locks.held(run):
            pass


def test_stopped_says_all_that_the_way_out_knows() -> None:
    stop = Stopped("at step 3 of 9", 15)
    stop.add("")
    stop.add("kept")
    assert str(stop) == "at step 3 of 9; kept" and signals.shown(str(stop)) == "stopped at step 3 of 9; kept"


def struck(*words: str) -> int:
    """How many commands the script struck before their end, all of which went well."""
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return sum(map(int, re.findall(r"(\d+) before its end", done.stdout)))


def test_kill_9_before_changes_of_files() -> None:
    """No half-written file is taken for a whole one, and the same command ends in the same bits."""
    assert struck("--cases", "simulate", "--at", "change", "--trials", "2") == 2


@pytest.mark.slow
def test_kill_9_at_random_moments_of_four_verbs() -> None:
    """Of 140; the last moments may find a command that has ended."""
    assert struck("--cases", "train,sample,evaluate,compare", "--trials", "35") >= 100


@pytest.mark.slow
@pytest.mark.parametrize("number", ["KILL", "TERM", "INT"])
def test_signals_before_changes_of_files(number: str) -> None:
    assert struck("--at", "change", "--signal", number, "--trials", "12") >= 60
