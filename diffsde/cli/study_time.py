"""How long a study takes: guessed from earlier jobs, corrected by its own as they end, and what it spent."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from diffsde.cli.study_plan import Stage
from diffsde.runs import records
from diffsde.runs.record import Record

MANY = 2000  # newest earlier jobs that are looked at


class Past(NamedTuple):
    """An earlier job: its config, seconds of wall from its beginning to its summary.json, and of its steps (of training)."""

    config: dict[str, Any]
    seconds: float
    of_steps: float
    steps: int


class Guess(NamedTuple):
    """Seconds per job of a stage; jobs: how many earlier ones it is from, 0: none; alike: whether these had the same choices."""

    seconds: float
    jobs: int
    alike: bool


# What a job's time depends on besides its steps, most of it first: earlier jobs that agree in more of it are better to go by.
DEPENDS: dict[str, tuple[str, ...]] = {
    "train": ("net", "batch_size", "posterior_points", "dataset"),
    "sample": ("n", "sampler", "steps"),
    "evaluate": ("metrics", "n", "sampler", "steps"),
}


def earlier_jobs(found: Iterable[Record]) -> dict[str, list[Past]]:
    """Finished jobs of this machine by verb, the newest first."""
    past: dict[str, list[Past]] = {verb: [] for verb in DEPENDS}
    for record in records.newest_first(found)[:MANY]:
        machine = record.provenance.get("machine") or {}
        if record.state == "whole" and record.verb in past and machine.get("host") == platform.node():
            seconds = seconds_taken(record)
            of_steps = record.summary.get("seconds")
            if seconds is not None and isinstance(of_steps, int | float | None):
                steps = int(record.summary.get("steps") or 0)
                past[record.verb].append(Past(record.config, seconds, float(of_steps or 0.0), steps))
    return past


def seconds_taken(record: Record) -> float | None:
    """Seconds of wall from when a job began, as its config.json says, until its summary was there; None where that is not known."""
    try:
        begun = datetime.fromisoformat(str(record.provenance["date"])).timestamp()
        seconds = (record.folder / "summary.json").stat().st_mtime - begun
    except (KeyError, ValueError, OSError):
        return None
    return seconds if seconds >= 0 else None


def guess(stage: Stage, past: Sequence[Past]) -> Guess:
    """The seconds of a job of a stage, the mean over its configs, from those earlier jobs that agree with each best."""
    if not past:
        return Guess(0.0, 0, False)
    found, used, alike = [], set[int](), True
    for config in stage.configs:
        kept, agreed = best_matches(stage.verb, config, past)
        found.append(seconds_of(stage.verb, config, kept))
        used |= {id(each) for each in kept}
        alike = alike and agreed
    return Guess(statistics.fmean(found), len(used), alike)


def best_matches(verb: str, config: dict[str, Any], past: Sequence[Past]) -> tuple[list[Past], bool]:
    """The earlier jobs that agree with a config in the most of what time depends on; whether in all of it."""
    keys = DEPENDS[verb]
    for many in range(len(keys), 0, -1):
        kept = [each for each in past if all(each.config.get(key) == config.get(key) for key in keys[:many])]
        if kept:
            return kept, many == len(keys)
    return list(past), False


def seconds_of(verb: str, config: dict[str, Any], kept: Sequence[Past]) -> float:
    """The seconds of a job like earlier ones: the median, in training of what is not steps, and of a step times the steps."""
    trained = [each for each in kept if each.steps and each.of_steps]
    if verb != "train" or not trained:
        return statistics.median(each.seconds for each in kept)
    overhead = statistics.median(max(0.0, each.seconds - each.of_steps) for each in trained)
    return overhead + int(float(config["steps"])) * statistics.median(each.of_steps / each.steps for each in trained)


class Timing:
    """The time of a study as its jobs end: `spent` is what study.json keeps, {stage: {jobs, first, seconds, cpu_seconds}}.

    first: the seconds of the stage's first job, which waits for imports and compilation as no other does.
    """

    def __init__(self, stages: Sequence[Stage], runs: int, spent: dict[str, dict[str, float]]) -> None:
        """runs: number of trained runs that the later stages are of. spent: of the commands before this one."""
        self.stages, self.runs, self.spent = list(stages), runs, spent
        self.guesses: dict[str, Guess] = {}
        self.mark = time.perf_counter(), cpu_seconds()

    def jobs_of(self, stage: Stage) -> int:
        return stage.jobs * (self.runs if stage.of_runs else 1)

    @property
    def jobs(self) -> int:
        """Number of jobs of the whole study."""
        return sum(map(self.jobs_of, self.stages))

    def guess_from(self, past: Callable[[], dict[str, list[Past]]]) -> None:
        """Guess the seconds of every stage from earlier jobs."""
        there = past()
        self.guesses = {stage.name: guess(stage, there[stage.verb]) for stage in self.stages}

    def begin(self) -> None:
        """The time from now on is that of the next job."""
        self.mark = time.perf_counter(), cpu_seconds()

    def ended(self, stage: Stage) -> None:
        """A job of the stage ended now; its time is that since the last one did."""
        before, (seconds, cpu) = self.mark, (time.perf_counter(), cpu_seconds())
        kept = self.spent.setdefault(
            stage.name, {"jobs": 0, "first": seconds - before[0], "seconds": 0.0, "cpu_seconds": 0.0}
        )
        kept["jobs"] += 1
        kept["seconds"] += seconds - before[0]
        kept["cpu_seconds"] += cpu - before[1]
        self.mark = seconds, cpu

    def left(self, done: dict[str, int]) -> tuple[float, str]:
        """Seconds that the jobs which are not done will take, and what that is said from; done: number of jobs by stage."""
        total, unknown, rough, own = 0.0, 0, 0, 0
        for stage in self.stages:
            jobs = max(0, self.jobs_of(stage) - done.get(stage.name, 0))
            measured, guessed = self.spent.get(stage.name, {}), self.guesses.get(stage.name, Guess(0.0, 0, False))
            if not jobs:
                continue
            if measured.get("jobs"):
                total, own = total + jobs * steady(measured), own + 1
            elif guessed.jobs:
                total, rough = total + jobs * guessed.seconds, rough + (not guessed.alike)
            else:
                unknown += jobs
        return total, self.basis(own, rough, unknown)

    def basis(self, own: int, rough: int, unknown: int) -> str:
        """What a time is said from, in words: own and rough: numbers of stages; unknown: of jobs that nothing is known of."""
        earlier = sum(each.jobs for name, each in self.guesses.items() if not self.spent.get(name, {}).get("jobs"))
        said = []
        if own:
            said.append("by the jobs that are done")
        if earlier:
            kind = "of other choices, so roughly" if rough else "of the same choices"
            said.append(
                f"by {earlier} earlier job{'s' * (earlier > 1)} of this machine under {records.OUTPUTS}/ {kind}"
            )
        if unknown:
            said.append(f"without {unknown} jobs of which nothing is known before the first is done")
        return ", ".join(said)


def steady(measured: dict[str, float]) -> float:
    """Seconds per job of a stage after its first one; where there is none but the first, those of that."""
    jobs = measured["jobs"]
    return measured["first"] if jobs == 1 else (measured["seconds"] - measured["first"]) / (jobs - 1)


def cpu_seconds() -> float:
    """User and system seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def shown(seconds: float) -> str:
    """A duration in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
