"""What diffsde takes under load: seconds and memory of many points, long logs, many run folders, many jobs, and many calls of one process.

    python scripts/load_trials.py points [--count 10000000]     samples: time, peak memory, disk
    python scripts/load_trials.py log [--count 10000000]        lines of metrics.jsonl: read, cut, compared, drawn, and a run that goes on after them
    python scripts/load_trials.py folders [--count 10000]       run folders: runs, latest, completion, compare, beside a tenth of them
    python scripts/load_trials.py sweep [--count 1000]          jobs of a sweep, beside a tenth of them, and the sweep resumed
    python scripts/load_trials.py soak [--count 200]            calls of train and sample in one process: memory, programs, threads, open files

Each part works in a temporary folder and prints a row a trial; CPU seconds are user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
ON_GMM = ("run=oracle", "dataset=gmm", "path=ot", "threads=1")


def command(*words: str, env: dict[str, str] | None = None, status: int = 0) -> str:
    """Run one command in a process of its own, print what it took, and return what it said; an end of the trials where it fails."""
    begin = time.perf_counter()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "diffsde", *words], env=os.environ | (env or {}), **pipes)
    assert process.stdout is not None
    said = process.stdout.read()
    _, ended, used = os.wait4(process.pid, 0)
    wall, cpu, peak = time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss * UNIT
    shown = " ".join([*(f"{key}='{value}'" for key, value in (env or {}).items()), *words])[:90]
    print(f"{wall:7.1f} s {cpu:7.1f} CPU s {peak / 1e6:7.0f} MB  {shown}", flush=True)
    if (code := os.waitstatus_to_exitcode(ended)) != status:
        sys.exit(f"{shown}: status {code}\n{said}")
    return said


def timed(name: str, work: Callable[[], Any]) -> None:
    """Do a piece of work in a process of its own, and print what it took and the memory beyond that before it."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        more = (after.ru_maxrss - before.ru_maxrss) * UNIT
        print(f"{time.perf_counter() - begin:7.1f} s {cpu:7.1f} CPU s {more / 1e6:+7.0f} MB  {name}", flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name}: it failed")


def points(count: int) -> None:
    """Samples of a known mixture without pictures and with them, and of a run on data of no known law."""
    for n in (count // 100, count // 10, count):
        command("sample", *ON_GMM, "sampler=heun", "steps=4", f"n={n}", "pictures=none", f"hydra.run.dir=gmm-{n}")
        print(f"{'':34}{Path(f'gmm-{n}/samples.npz').stat().st_size / 1e6:7.1f} MB on the disk")
    command("sample", *ON_GMM, "sampler=heun", "steps=10", f"n={count}", "hydra.run.dir=drawn")
    command("train", "dataset=moons", "net.widths=[16]", "steps=200", "threads=1", "pictures=none", "hydra.run.dir=run")
    command("sample", "run=run", "sampler=heun", "steps=4", "threads=1", f"n={count}", "hydra.run.dir=moons")


def log(count: int) -> None:
    """A log of so many lines, of a run that goes on by 20 steps."""
    from diffsde.plots.loss import loss_curve
    from diffsde.runs import repeat, run_log

    words = (
        "dataset=moons",
        "net.widths=[8]",
        "batch_size=16",
        "posterior_points=0",
        "log_every=10",
        "threads=1",
        "optimizer.schedule=constant",
    )
    command("train", *words, "steps=20", "hydra.run.dir=run", "pictures=none")
    path, before = Path("run/metrics.jsonl"), Path("run/metrics.jsonl").read_text()
    with open(path, "w") as file:
        for i in range(count):
            file.write(
                f'{{"step": {(i + 1) * 20 / (count + 1):.9f}, "loss": 1.0, "seconds": {i / 10}, "cpu_seconds": {i / 5}}}\n'
            )
        file.write(before)
    print(f"{count:,} lines, {path.stat().st_size / 1e6:.0f} MB")
    timed("read", lambda: run_log.read_log(path).column("loss"))
    timed("compared, to the bit", lambda: repeat.numbers_logged(path))
    losses = run_log.read_log(path).column("loss")
    timed(
        "drawn",
        lambda: loss_curve(losses, 10, 10 * len(losses), None, "a run", losses[:0], losses[:0]).savefig("loss.png"),
    )
    for verb in (("compare", "run", "out=table"), ("runs", "run"), ("report", "run", "out=page")):
        command(*verb)
    command("train", "run=run", "steps=40")
    command("rerun", "run")


def folders(count: int) -> None:
    """Run folders that other commands left, and jobs that are compared."""
    import bench_compare
    import bench_runs

    for number in (count // 10, count):
        print(f"{number:,} folders")
        Path(str(number)).mkdir()
        os.chdir(str(number))
        bench_runs.make(number)
        command("runs")
        command("runs", "--json")
        command("sample", "n=10", status=2)  # run=latest, which is not there: every folder is looked at
        command("runs", env={"COMP_LINE": "diffsde sample run="})
        bench_compare.make(number, False)
        command("compare", "jobs", "pictures=false")
        command("compare", "jobs")
        os.chdir("..")


def sweep(count: int) -> None:
    """Jobs of one sweep, each by a few steps of a few points; and once more, all of them done."""
    for number in (count // 10, count):
        words = (*ON_GMM, "sampler=heun", "steps=2", "n=10", f"seed=range(0,{number})", f"hydra.sweep.dir={number}")
        command("sample", "-m", *words)
        command("sample", "-m", *words)


def soak(count: int) -> None:
    """Train and sample in one process, again and again, and what it holds after a tenth of the calls and after all of them."""
    import jax

    import diffsde
    from diffsde.state import STATE

    compiled = 0

    def heard(event: str, *_: Any, **__: Any) -> None:
        nonlocal compiled
        compiled += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(heard)
    words: dict[str, Any] = {"dataset": "moons", "net.widths": [8], "batch_size": 16, "steps": 4, "log_every": 2}
    begin, pairs = time.process_time(), count // 2
    for i in range(pairs):
        with tempfile.TemporaryDirectory() as place:
            run = diffsde.train(**words, seed=i, posterior_points=0, folder=f"{place}/run")
            run.sample(sampler="em", n=20, steps=4, seed=i)
        if i + 1 in (1, pairs // 10, pairs // 4, pairs // 2, pairs):
            statm = Path("/proc/self/statm").read_text().split()
            held = {
                "MB": int(statm[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6,
                "programs": len(STATE.programs),
                "compilations": compiled,
                "threads": len(list(Path("/proc/self/task").iterdir())),
                "Python threads": threading.active_count(),
                "open files": len(list(Path("/proc/self/fd").iterdir())),
                "CPU s": round(time.process_time() - begin, 1),
            }
            print(f"after {i + 1:>4} of train and of sample: {json.dumps(held)}", flush=True)


PARTS = {
    "points": (points, 10**7),
    "log": (log, 10**7),
    "folders": (folders, 10**4),
    "sweep": (sweep, 1000),
    "soak": (soak, 200),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int)
    asked = parser.parse_args()
    work, usual = PARTS[asked.part]
    with tempfile.TemporaryDirectory() as where, contextlib.chdir(where):
        work(asked.count or usual)
