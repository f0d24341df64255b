"""Load: what is done for each of many folders, jobs and calls, counted; work that grows faster than they do would fail here."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import jax
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.runs.folder import latest
from diffsde.state import STATE

CALLS = ((os, "scandir"), (os, "stat"), (builtins, "open"))
FEW = 1.15  # above what is made once, and for twice as many twice as often
COUNT = 60


def counted(work: Callable[[], Any]) -> int:
    """How often a piece of work lists a folder, asks of a file or opens one."""
    calls = 0

    def heard(honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            nonlocal calls
            calls += 1
            return honest(*args, **words)

        return call

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
        for module, name in CALLS:
            patch.setattr(module, name, heard(getattr(module, name)))
        work()
    return calls


def make(count: int, first: int = 0) -> None:
    """Folders of training and of samples of it, a day for each COUNT; a tenth of them jobs of sweeps."""
    for i in range(first, first + count):
        verb, place = ("train", "sample")[i % 2], f"2026-01-{1 + i // COUNT:02}/10-{i // 60 % 60:02}-{i % 60:02}-{i:06}"
        folder = Path("outputs", verb, place + ("-sweep/0" if i % 10 == 0 else ""))
        folder.mkdir(parents=True)
        if i % 10 == 0:
            (folder.parent / "sweep.json").write_text(json.dumps({"verb": verb, "words": ["seed=1"]}))
        config: dict[str, Any] = {"seed": i, "path": {"name": ("ot", "vp")[i // 2 % 2]}, "objective": {"name": "cfm"}}
        about = {"id": f"t{i}", "date": f"2026-01-01T00:00:{i:09}", "words": []}
        if verb == "sample":  # of the run before, which every other is to look for by its id
            before = f"outputs/train/2026-01-{1 + (i - 1) // COUNT:02}/10-{(i - 1) // 60 % 60:02}-{(i - 1) % 60:02}-{i - 1:06}"
            config = {"seed": i, "run": before if i % 4 else "moved", "sampler": {"name": ("heun", "em")[i // 2 % 2]}}
            about["used"] = {"run": f"t{i - 1}"}
        else:
            (folder / "checkpoints").mkdir()
        figure = {"value": 0.5, "error": 0.01}
        found = (
            {"metric": {"name": "loss", "value": 0.5}, "loss": figure}
            if verb == "train"
            else {"metrics": {"w2": figure}}
        )
        kept = {"format": 4, "verb": verb, "config": config, "directory": str(Path.cwd()), "provenance": about}
        (folder / "config.json").write_text(json.dumps(kept))
        (folder / "summary.json").write_text(json.dumps(found | {"steps": 10, "seconds": 1.0}))


QUESTIONS = {
    "runs": lambda: main(["runs", "n=all"]),
    "filter": lambda: main(["runs", "path=ot", "run.seed=4"]),
    "compare": lambda: main(["compare", "verb=sample", "pictures=false", "out=table"]),
    "latest": latest,
    "completion": lambda: main([]),
}


def test_what_looks_through_folders_looks_once_at_each(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twice as many it asks twice as often."""
    found: dict[str, list[int]] = {name: [] for name in QUESTIONS}
    monkeypatch.setattr("diffsde.runs.progress.warn_once", lambda line: None)
    for first in (0, COUNT):
        make(COUNT, first)
        for name, work in QUESTIONS.items():
            with pytest.MonkeyPatch.context() as patch:
                if name == "completion":
                    patch.setenv("COMP_LINE", "diffsde sample run=")
                found[name].append(counted(work))
    for name, (one, two) in found.items():
        assert two < 2 * FEW * one and one < 30 * COUNT, (name, one, two)


@pytest.mark.slow
def test_a_job_of_a_sweep_costs_the_same_in_a_longer_one(here: Path) -> None:
    words = ["sample", "-m", "run=oracle", "dataset=gmm", "path=ot", "sampler=heun", "steps=2", "n=10"]
    main([*words, "seed=100,101", "hydra.sweep.dir=first"])  # what is imported and compiled once
    one, two = (counted(lambda k=k: main([*words, f"seed=range(0,{k})", f"hydra.sweep.dir=of{k}"])) for k in (10, 20))
    assert len(list(Path("of20").glob("*/summary.json"))) == 20 and two < 2 * FEW * one, (one, two)
    one, two = (counted(lambda k=k: main([*words, f"seed=range(0,{k})", f"hydra.sweep.dir=of{k}"])) for k in (10, 20))
    assert two < 2 * FEW * one, (one, two)  # all of them done before


@pytest.mark.slow
def test_calls_of_one_process_leave_nothing_behind(here: Path) -> None:
    """No program is compiled again, and no file, thread or program is kept, for another seed, name or folder."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    words: dict[str, Any] = {"dataset": "moons", "net.widths": [8], "batch_size": 16, "steps": 4, "log_every": 2}

    def held() -> tuple[int, ...]:
        backend = sum(event.endswith("backend_compile_duration") for event in compiled)
        there = (
            [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")] if os.path.isdir("/proc/self") else [0]
        )
        return backend, len(STATE.programs), len(STATE.parts), *there

    def once(i: int) -> None:
        run = diffsde.train(**words, seed=i, posterior_points=0, folder=f"run{i}")
        run.sample(sampler="em", n=20, steps=4, seed=i)
        diffsde.evaluate(run=f"run{i}", metrics=["w2"], n=20, steps=4)

    for i in range(2):
        once(i)
    before = held()
    for i in range(2, 6):
        once(i)
    *after, threads = held()
    assert tuple(after) == before[:-1]
    assert threads <= before[-1] + 3  # pools of libraries still grow by some; one a call would be twelve
