"""A signal at any moment ends a command with one line and nothing half written; what a killed process left is cleared."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diffsde
from diffsde import atomic_files, signals
from diffsde.cli.main import main
from diffsde.errors import Stopped, UserError
from diffsde.runs import folder, jobs, leaving, locks, training_loop
from diffsde.state import STATE

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


def stopped_in(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, before: bool = True, strike: Callable[[], Any] = send
) -> None:
    """Send a signal, or do something else, as a function of the program is called, or as it ends."""
    honest: Callable[..., Any] = getattr(module, name)

    def struck(*args: Any, **words: Any) -> Any:
        if before:
            strike()
        found = honest(*args, **words)
        if not before:
            strike()
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


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_under_a_run_is_not_made_anew(
    replaced: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def remove() -> None:
        shutil.rmtree("mine")
        if replaced:
            Path("mine").write_text("a file")

    stopped_in(monkeypatch, jobs, "deliver", strike=remove)
    assert main([*SAMPLE, "hydra.run.dir=mine"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    there = "is no folder any more" if replaced else "was removed"
    assert said.startswith("diffsde: '") and f"mine' {there} while it was written" in said
    assert [path.name for path in here.iterdir()] == (["mine"] if replaced else [])


def test_a_folder_that_is_removed_in_training_is_not_made_anew(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "steps=20", "net.widths=[4]", "pictures=none", "checkpoint_every=10", "hydra.run.dir=mine"]
    stopped_in(monkeypatch, training_loop, "save", strike=lambda: shutil.rmtree("mine"))
    assert main(words) == 2
    assert "mine' was removed while it was written" in capsys.readouterr().err.splitlines()[-1]
    assert list(here.iterdir()) == []


FORKED = """
import os, signal, sys
from diffsde import signals
def work():
    child = os.fork()
    if child == 0:
        os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or signal.set_wakeup_fd(-1) != -1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(signals.answered(work))
"""


def test_a_forked_worker_does_not_tell_the_command_of_its_signals() -> None:
    """A pool ends its workers by SIGTERM; theirs is the pipe that the command hears of signals by."""
    assert subprocess.run([sys.executable, "-c", FORKED]).returncode == 0


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(process: int, monkeypatch: pytest.MonkeyPatch, machine: str | None = None, stem: str = "samples") -> Path:
    """A half-written file of a process, of this machine or another."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: process)
        if machine:
            patched.setattr(platform, "node", lambda: machine)
        path = Path(atomic_files.partial_name(stem, ".npz"))
    path.write_bytes(b"half")
    return path


def test_what_a_killed_process_left_is_cleared(here: Path, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next that writes the folder, which may be on another machine."""
    left_by(gone, monkeypatch)
    left_by(gone, monkeypatch, "elsewhere")
    (here / ".own.7").write_text("the user's")
    with locks.held(here):
        assert sorted(path.name for path in here.iterdir()) == [locks.LOCK, ".own.7"]


def test_what_is_left_in_a_folder_that_many_write_is_cleared(
    here: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cache: of this machine what no process writes any more, of others what has not been written on for long."""
    dead, alive = left_by(gone, monkeypatch), left_by(os.getppid(), monkeypatch)
    new, old = left_by(gone, monkeypatch, "elsewhere"), left_by(gone, monkeypatch, "there")
    os.utime(alive, (0, 0))
    os.utime(old, (0, 0))
    atomic_files.write_atomically(here / "a.npz", lambda path: path.write_bytes(b"x"))
    assert {path for path in (dead, alive, new, old) if path.exists()} == {alive, new}


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


def test_what_a_refusal_or_a_stop_removes_is_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of folders that were there before nothing goes, though they are empty; of those that a command made nothing stays."""
    monkeypatch.setattr(STATE, "made", set())
    monkeypatch.setattr(STATE, "found", set())

    def left() -> list[str]:
        return sorted(str(path.relative_to(here)) for path in here.rglob("*"))

    (here / "mine/deep/run").mkdir(parents=True)
    before = left()
    refused = [*SAMPLE, "labels=[77]"]
    for place in ("mine/deep/run1", "mine/deep/new/run", "mine/deep/run", "other/run"):
        assert main([*refused, f"hydra.run.dir={place}"]) == 2 and left() == before, place
        assert main([*SAMPLE, "chunk=x", "-m", "seed=0,1", f"hydra.sweep.dir={place}"]) == 2 and left() == before, place
        with pytest.raises(ValueError, match="77 is not a label"):
            diffsde.sample(run="oracle", dataset="gmm", path="ot", labels=[77], n=4, steps=2, folder=place)
        assert left() == before, place
    for place in ("mine/deep/run1", "mine/deep/run"):
        leaving.will_make(Path(place))
        Path(place).mkdir(exist_ok=True)
        with locks.held(Path(place)):
            pass
        leaving.remove_empty(Path(place))
        assert left() == before


def test_what_is_imported_leaves_signals_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the next Ctrl-C would end Python; so after a command that is called there."""
    import diffsde.__main__ as entry

    before = [signal.getsignal(number) for number in signals.NUMBERS]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(sys, "argv", ["diffsde", "--version"])
    importlib.reload(entry)
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before
    assert entry.main() == 0 and [signal.getsignal(number) for number in signals.NUMBERS] == before


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


def test_a_folder_that_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    """By the next that writes a folder whole there; not that of a process that lives."""
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()
    mine = atomic_files.partial_name("hydra")
    for name in (mine, mine.replace(str(os.getpid()), dead)):
        (tmp_path / name).mkdir()
    with atomic_files.whole_folder(tmp_path / "other") as partial:
        (partial / "x").touch()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([mine, "other"])
