"""diffsde study: trains a sweep, samples every trained run and judges, by one command that goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffsde import plugins, signals, system_errors
from diffsde.atomic_files import write_text
from diffsde.cli import study_words
from diffsde.cli.job import Jobs
from diffsde.cli.study_words import Asked
from diffsde.errors import AND, UserError
from diffsde.runs import files, folder, leaving, locks, progress, records, shapes
from diffsde.runs.record import new_folder

if TYPE_CHECKING:  # its module imports hydra's parser and composes; help and refusals need not wait
    from diffsde.cli.study_plan import Stage
    from diffsde.runs.records import Record

FORMAT = 1  # version of study.json
SPENT = {"jobs", "first", "seconds", "cpu_seconds"}  # what is kept of a stage's time


def main(words: list[str]) -> None:
    """Run a study, or go on with it. Raises UserError for what is refused, before any job; at the end for jobs that failed."""
    asked = study_words.asked(words)
    plugins.load(list(asked.plugins))
    from diffsde.cli.study_plan import planned

    stages = planned(asked)
    where = place_of(asked)
    folder.check_links(where)
    study = Study(asked, stages, where)
    with signals.leaving(study.stopped):
        begins = not (where / "study.json").exists()
        if begins:
            leaving.will_make(where)
        with system_errors.naming(where):
            where.mkdir(parents=True, exist_ok=True)
        if begins:  # before the lock's file, by which another command would take it for a job's
            study.save()
        with locks.held(where):
            study = Study(asked, stages, where)
            study.save()
            study.say()
            try:
                failed = study.run()
            except Exception:
                progress.say(f"study: stopped; the same command goes on in {progress.shown_path(where)}")
                raise
            study.finish()
    if failed:
        raise UserError(AND.join(failed))


def place_of(asked: Asked) -> Path:
    """The study's folder: out=, else that of an unfinished study of the same words, else a new one. Raises UserError."""
    if asked.out is not None:
        there = files.parsed_of_user(asked.out / "study.json", shapes.STUDY)
        if there is not None and (there.get("asked") != asked.kept() or not asked.resume):
            raise UserError(f"out: '{asked.out}' holds another study; nothing is overwritten, give another folder")
        if there is None and next(records.folders(asked.out), None) is not None:
            raise UserError(f"out: '{asked.out}' holds jobs of no study; nothing is overwritten, give another folder")
        return asked.out
    found = unfinished(asked) if asked.resume else None
    if found is not None:
        progress.say(f"resuming the study in {progress.shown_path(found)} (resume=false begins afresh)")
        return found
    return new_folder("study")


def unfinished(asked: Asked) -> Path | None:
    """The newest study under outputs/ of the same words that is neither finished nor being run."""

    def fits(path: Path) -> bool:
        there = files.read_json(path, neighbour=True, shape=shapes.STUDY)
        same = there is not None and there.get("asked") == asked.kept() and not there.get("finished")
        return same and not locks.is_held(path.parent)

    return folder.newest(path for path in (folder.OUTPUTS / "study").glob("*/*/study.json") if fits(path))


class Study:
    """A study in its folder `where`: its stages are sweeps in folders there, its state is in study.json."""

    def __init__(self, asked: Asked, stages: Sequence[Stage], where: Path) -> None:
        from diffsde.cli.study_time import Timing

        self.asked, self.stages, self.where = asked, list(stages), where
        there = files.parsed_of_user(where / "study.json", shapes.STUDY) or {}
        spent = {name: each for name, each in there.get("spent", {}).items() if each.keys() >= SPENT}
        runs = sum(stage.jobs for stage in stages if stage.verb == "train")
        self.timing = Timing(stages, runs, spent)
        self.finished = bool(there.get("finished"))
        self.runs: dict[str, list[str]] = there.get("runs", {})
        self.done = {stage.name: len(self.whole(stage)) for stage in stages}

    def stopped(self) -> str:
        """What is kept of a study that a signal ended."""
        if not (self.where / "study.json").exists():
            return leaving.left_by_files(self.where, "the same command begins again")
        done = sum(len(self.whole(stage)) for stage in self.stages)
        how = "the same command goes on" + ("" if self.asked.resume else ", without resume=false")
        return f"{done} of {self.timing.jobs} jobs are done, in {progress.shown_path(self.where)}; {how}"

    def whole(self, stage: Stage) -> set[str]:
        """The names of the folders of a stage's finished jobs."""
        return {record.folder.name for record in self.records(stage) if record.state == "whole"}

    def records(self, stage: Stage) -> list[Record]:
        """The records of a stage's jobs, in their order."""
        there = self.where / stage.name
        jobs = [record for record in records.every(there) if record.folder.name.isdecimal()] if there.is_dir() else []
        return sorted(jobs, key=lambda record: int(record.folder.name))

    def save(self) -> None:
        """Write study.json."""
        about = {
            "format": FORMAT,
            "asked": self.asked.kept(),
            "stages": [{"name": each.name, "verb": each.verb, "words": list(each.words)} for each in self.stages],
            "runs": self.runs,
            "spent": self.timing.spent,
            "finished": self.finished,
        }
        files.write_json(self.where / "study.json", about)

    def say(self) -> None:
        """Say how many jobs there are, and about how long the rest takes."""
        from diffsde.cli import study_time

        of_verb: dict[str, int] = {}
        for stage in self.stages:
            of_verb[stage.verb] = of_verb.get(stage.verb, 0) + self.timing.jobs_of(stage)
        parts = [f"{number} of {verb}" for verb, number in of_verb.items()]
        done = sum(self.done.values())
        so_far = f", {done} done" if done else ""
        progress.say(
            f"study: {self.timing.jobs} jobs ({', '.join(parts)}){so_far}, in {progress.shown_path(self.where)}"
        )
        if done < self.timing.jobs:
            self.timing.guess_from(lambda: study_time.earlier_jobs(records.every()))
            progress.say(f"study: {self.time_left()}")

    def time_left(self) -> str:
        """How long the rest takes, and what that is said from."""
        from diffsde.cli import study_time

        seconds, basis = self.timing.left(self.done)
        if not seconds:
            return "how long it takes is not known before the first job is done: none like it has been run here"
        return f"about {study_time.shown(seconds)} left, {basis}"

    def run(self) -> list[str]:
        """Run every job that is not done; a line for each reason why jobs failed."""
        failed: list[str] = []
        for stage in self.stages:
            words = list(stage.words)
            if stage.of_runs:
                runs = self.runs_of(stage)
                if not runs:
                    return [*failed, f"study: no run was trained, so there is nothing to {stage.verb}"]
                words = [f"run={','.join(quoted(self.where / run) for run in runs)}", *words]
                self.timing.runs = len(runs)
            if (
                self.done[stage.name] < self.timing.jobs_of(stage)
                or not (self.where / stage.name / "sweep.csv").exists()
            ):
                failed += self.run_stage(stage, words)
        return failed

    def runs_of(self, stage: Stage) -> list[str]:
        """The runs that a stage is of, as folders in the study's: those it began with first, so that its jobs keep their numbers."""
        before = self.runs.get(stage.name, [])
        self.runs[stage.name] = [*before, *(run for run in self.trained() if run not in before)]
        return self.runs[stage.name]

    def run_stage(self, stage: Stage, words: list[str]) -> list[str]:
        """Run the sweep of one stage; a line for each reason why jobs failed. Raises UserError where it cannot begin."""
        from diffsde.cli.main import run_hydra

        ended = partial(self.one_ended, stage, self.whole(stage))
        jobs = Jobs(plugins=list(self.asked.plugins), ended=ended, compares=False)
        out = f"hydra.sweep.dir={quoted(self.where / stage.name)}"
        self.save()
        self.timing.begin()
        try:
            run_hydra(stage.verb, ["--multirun", *words, out], jobs)
        except UserError:
            if not jobs.begun:
                raise
        reasons: dict[str, list[str]] = {}
        for record in self.records(stage):
            if record.state == "failed":
                reasons.setdefault(record.error, []).append(record.folder.name)
        return [f"{stage.name}: {jobs_named(names)}: {error}" for error, names in reasons.items()]

    def one_ended(self, stage: Stage, before: set[str], out: Path) -> None:
        """A job of a stage has ended; those that were whole `before` are neither counted nor timed again."""
        if out.name in before:
            self.timing.begin()
            return
        self.timing.ended(stage)
        self.done[stage.name] += (out / "summary.json").exists()
        self.save()
        if (done := sum(self.done.values())) < self.timing.jobs:
            progress.say(f"study: {done} of {self.timing.jobs} jobs; {self.time_left()}")

    def trained(self) -> list[str]:
        """The fields that this study trained, as folders in its own."""
        places = [record.folder for stage in self.stages if stage.verb == "train" for record in self.records(stage)]
        return [f"{place.parent.name}/{place.name}" for place in places if folder.is_field(place)]

    def finish(self) -> None:
        """Mark the study as finished where every job is, and say what it found and what it cost."""
        from diffsde.cli import study_time

        done = sum(self.done.values())
        self.finished = done >= self.timing.jobs
        self.save()
        spent = self.timing.spent.values()
        seconds, cpu = (sum(each[key] for each in spent) for key in ("seconds", "cpu_seconds"))
        many = f"{done} jobs" if self.finished else f"{done} of {self.timing.jobs} jobs"
        self.compare()
        if self.asked.published:
            self.hold_against_published()
        progress.say(f"study: {many} in {study_time.shown(seconds)} of wall, {study_time.shown(cpu)} of CPU")

    def compare(self) -> None:
        """Compare what was judged: the jobs of the last verb, into the study's folder compare/."""
        from diffsde.verbs import compare

        last = self.stages[-1].verb
        judged = [self.where / stage.name for stage in self.stages if stage.verb == last]
        if not any(
            record.state == "whole" for stage in self.stages if stage.verb == last for record in self.records(stage)
        ):
            progress.say("study: there is nothing to compare")
            return
        there = [str(place) for place in judged if place.is_dir()]
        compare.main([*there, f"out={self.where / 'compare'}"])

    def hold_against_published(self) -> None:
        """Print the experiment's published figures beside those measured here, and write them to published.md."""
        from diffsde.report import published

        rows = published.table(self.asked.published, [each for stage in self.stages for each in self.records(stage)])
        path = self.where / "published.md"
        files.write(path, lambda partial: write_text(partial, published.markdown(self.asked.published, rows)))
        lines = [(f"{what}, {figure}", f"{said}; measured {own}; agrees: {so}") for what, figure, said, own, so in rows]
        progress.print_table(
            f"published ({self.asked.published['source']})", [*lines, ("table", progress.shown_path(path))]
        )


def jobs_named(names: Sequence[str]) -> str:
    """Jobs by their numbers, e.g. job 3, or 16 jobs (0, 1, 2, ...)."""
    if len(names) == 1:
        return f"job {names[0]}"
    return f"{len(names)} jobs ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def quoted(place: Path) -> str:
    """A folder as a value of a sweep: commas, brackets and spaces in it are text."""
    text = os.fspath(place)
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
