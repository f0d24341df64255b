"""Commands struck by a signal at many moments: whether what is on disk is whole, and the next command ends in the same bits.

    python scripts/kill_trials.py --trials 100                      kill -9 at random moments
    python scripts/kill_trials.py --at change --signal TERM         SIGTERM before each change of a file, one after another

A trial is a process that is forked from one that has imported everything, so that hundreds take minutes; a strike is at a random
moment of its work, or before the k-th time that Python changes a file. After kill -9, every file that has its name must
be whole. After another signal, the status must be 128 + its number with one line that says so, and nothing half written may be
left. In both cases the same command must end in the bits of a run that was never struck. Prints a line a case, exits with 1
where a trial failed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.atomic_files import PARTIAL
from diffsde.cli.job import VERBS
from diffsde.cli.main import main as diffsde

SMALL = ["batch_size=32", "net.widths=[16]", "threads=1", "pictures=none"]
CASES = {
    "train": ["train", *SMALL, "steps=200", "log_every=30", "checkpoint_every=40"],
    "sample": ["sample", "run={trained}", "n=100", "steps=5", "threads=1", "pictures=none"],
    "evaluate": ["evaluate", "run={trained}", "n=100", "steps=5", "metrics=[w2]", "threads=1"],
    "simulate": ["simulate", "process=ou", "n=100", "steps=20", "threads=1", "pictures=none"],
    "sweep": ["sample", "-m", "run={trained}", "n=50", "steps=3", "seed=0,1", "threads=1"],
    "compare": ["compare", "{trained}", "{other}", "pictures=false"],
}
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
LONGEST = 120.0  # seconds after which a process hangs


class Ended(NamedTuple):
    """How a process ended: its exit status, negative for a signal; what it said on stderr; its seconds; changes of files."""

    status: int
    said: str
    seconds: float
    changes: int


def process(work: Callable[[], int], strike: Callable[[int], None] = lambda child: None) -> Ended:
    """Run the work in a forked process, which `strike` is given the number of."""
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as counted:
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            status = 70
            try:
                status = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os.pwrite(counted.fileno(), str(changes_so_far()).encode(), 0)
                os._exit(status)
        strike(child)
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            time.sleep(0.002)
            if time.perf_counter() - began > LONGEST:
                os.kill(child, signal.SIGKILL)
        errors.seek(0)
        counted.seek(0)
        seconds = time.perf_counter() - began
        return Ended(os.waitstatus_to_exitcode(ended[1]), errors.read(), seconds, int(counted.read() or 0))


_count = [0]  # of this process, which is one trial


def changes_so_far() -> int:
    """How often this process has changed a file below its scratch folder."""
    return _count[0]


def count_changes(below: Path, at: int, number: int) -> None:
    """Count the changes of files below a folder, and send this process a signal before the one numbered `at`."""
    place = str(below)

    def seen(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            named, mode, flags = args
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if mode is None else set(mode) & set("wax+")
        elif event in CHANGES:
            named, changes = args[0], True
        else:
            return
        if changes and not isinstance(named, int) and os.path.abspath(os.fsdecode(named)).startswith(place):
            _count[0] += 1
            if _count[0] == at:
                os.kill(os.getpid(), number)

    sys.addaudithook(seen)


def words_of(case: str, out: Path, scratch: Path) -> list[str]:
    """The command line of a case that writes into `out`."""
    words = [word.format(trained=scratch / "trained", other=scratch / "other") for word in CASES[case]]
    return [*words, f"out={out}" if case == "compare" else f"hydra.{'sweep' if '-m' in words else 'run'}.dir={out}"]


def wrong_files(out: Path) -> list[str]:
    """Files below a folder that have a name and are not whole."""
    wrong = []
    for path in out.rglob("*"):
        if any(PARTIAL.fullmatch(part) or "orbax-checkpoint-tmp" in part for part in path.relative_to(out).parts):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz" and zipfile.ZipFile(path).testzip() is not None:
                wrong.append(f"{path} is damaged")
            elif path.suffix in (".csv", ".md", ".tex") and not path.read_text().endswith("\n"):
                wrong.append(f"{path} is cut short")
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            wrong.append(f"{path}: {error}")
    return wrong


def leftovers(out: Path) -> list[str]:
    """What a command that could tidy should not have left below a folder."""
    if not out.exists():
        return []
    found = [str(path) for path in out.rglob("*") if PARTIAL.fullmatch(path.name) or "-tmp" in path.name]
    jobs = [out] if not (out / "sweep.json").exists() else [entry for entry in out.iterdir() if entry.is_dir()]
    whole = ("config.json", "error.json", "compare.csv")
    return found + [f"{job} is no run" for job in jobs if not any((job / name).exists() for name in whole)]


def finished(words: list[str], out: Path, whole: Path) -> int:
    """Run the command again, and hold its result against one that was never struck; 0 where every bit is the same."""
    from diffsde.runs.repeat import compared

    if (status := diffsde(words)) != 0:
        return status
    jobs = [""] if (whole / "config.json").exists() else [entry.name for entry in whole.iterdir() if entry.is_dir()]
    differ = [
        f"{job} {part.name} {part.said}" for job in jobs for part in compared(whole / job, out / job) if not part.same
    ]
    names = {path.name for path in whole.iterdir()} ^ {path.name for path in out.iterdir()}
    text = "compare.csv"
    if (whole / text).exists() and (whole / text).read_text() != (out / text).read_text():
        differ.append(text)
    for line in [*differ, *names, *leftovers(out), *wrong_files(out)]:
        print(line, file=sys.stderr)
    return 1 if differ or names or leftovers(out) or wrong_files(out) else 0


def faults_of_stop(ended: Ended, out: Path, number: int) -> list[str]:
    """What is wrong with how a command ended that a signal could stop."""
    lines = [line for line in ended.said.strip().splitlines() if not line.startswith("warning: ")]
    if ended.status == 0:
        return []
    if ended.status != 128 + number or len(lines) != 1 or not lines[0].startswith("diffsde: stopped"):
        return [f"status {ended.status}: {ended.said.strip()[-2000:]}"]
    return leftovers(out)


def trial(case: str, scratch: Path, number: int, at: int, after: float) -> tuple[bool, list[str]]:
    """Strike one command, before its change numbered `at`, or, where that is 0, after so many seconds; run it again. (whether it
    was struck before its end, what was wrong).
    """
    out, whole = scratch / "out", scratch / f"whole-{case}"
    words = words_of(case, out, scratch)

    def struck() -> int:
        count_changes(out, at, number)
        return diffsde(words)

    def strike(child: int) -> None:
        if not at:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    first = process(struck, strike)
    wrong = wrong_files(out) if number == signal.SIGKILL else faults_of_stop(first, out, number)
    again = process(lambda: finished(words, out, whole))
    if again.status:
        wrong.append(f"the same command again: status {again.status}: {again.said.strip()[-3000:]}")
    shutil.rmtree(out, ignore_errors=True)
    return first.status != 0, wrong


def prepared(cases: list[str], scratch: Path, timed: bool) -> dict[str, Ended]:
    """The result of each case that is never struck, in scratch/whole-CASE; its seconds, and its changes of files."""
    for name, seed in (("trained", 0), ("other", 1)):
        if any(f"{{{name}}}" in word for case in cases for word in CASES[case]):
            words = ["train", *SMALL, "steps=20", f"seed={seed}", f"hydra.run.dir={scratch / name}"]
            if (ended := process(partial(diffsde, words))).status:
                raise SystemExit(ended.said)
    return {case: unstruck(case, scratch, timed) for case in cases}


def unstruck(case: str, scratch: Path, timed: bool) -> Ended:
    """Run a case without a strike, into scratch/whole-CASE; where it is timed, once before to compile."""

    def work() -> int:
        count_changes(whole, 0, 0)
        return diffsde(words_of(case, whole, scratch))

    whole = scratch / f"whole-{case}"
    if timed:
        process(work)
        shutil.rmtree(whole)
    ended = process(work)
    if ended.status:
        raise SystemExit(f"{case}: {ended.said}")
    return ended


def run(cases: list[str], trials: int, number: int, at: str, seed: int) -> bool:
    """Strike each case so many times; whether all went well."""
    rng, well = random.Random(seed), True
    with tempfile.TemporaryDirectory(prefix="kill-trials-") as place:
        scratch = Path(place).resolve()
        os.environ["XDG_CACHE_HOME"] = os.environ["JAX_COMPILATION_CACHE_DIR"] = str(scratch / "cache")
        os.chdir(scratch)
        for case, ended in prepared(cases, scratch, at == "moment").items():
            moments = [(0, rng.uniform(0, ended.seconds)) for _ in range(trials)]
            if at == "change":
                every = range(1, ended.changes + 1)
                moments = [(k, 0.0) for k in sorted(rng.sample(every, min(trials, len(every))))]
            results = [(moment, *trial(case, scratch, number, *moment)) for moment in moments]
            faults = [(moment, line) for moment, _, wrong in results for line in wrong]
            failed = sum(bool(wrong) for _, _, wrong in results)
            print(
                f"{case}: {ended.seconds:.2f} s and {ended.changes} changes of files unstruck; {len(results)} strikes,"
                f" {sum(hit for _, hit, _ in results)} before its end; {len(results) - failed} of them well",
                flush=True,
            )
            for moment, line in faults:
                print(f"  {moment}: {line}", flush=True)
            well = well and not failed
    return well


def main(argv: list[str] | None = None) -> int:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="which commands, comma-separated")
    parser.add_argument(
        "--trials", type=int, default=20, help="strikes of each case; at changes, at most one for each change"
    )
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM", "INT", "HUP"])
    parser.add_argument("--at", default="moment", choices=["moment", "change"])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    for verb in [*VERBS.values(), "hydra", "diffsde.cli.sweeps", "diffsde.verbs.compare", "orbax.checkpoint"]:
        with contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(verb)
    print(f"seed {asked.seed}, SIG{asked.signal} at each {asked.at}", flush=True)
    cases = asked.cases.split(",")
    return 0 if run(cases, asked.trials, int(getattr(signal, f"SIG{asked.signal}")), asked.at, asked.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
