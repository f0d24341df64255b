"""Jobs of one verb: each is resolved, claimed and prepared, then jobs of one structure are computed as one program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from diffsde import ensembles, knobs, plugins, system_errors
from diffsde.errors import UserError
from diffsde.runs import clock, folder, locks, machine, processes, progress
from diffsde.runs.results import Report, Result, deliver, judged

Config = dict[str, Any]
Outcome = float | UserError  # the distance of a job's score from its target, or the error that stopped the job


class Verb(NamedTuple):
    """A verb's name and its four functions.

    resolve: config -> (the config to be kept in the folder, the config to configure the process by).
    choose: config -> dataclasses of choices. prepare: (choices, config, folder, stack) -> a job; jobs whose `group()` is
    equal are computed as one program; resources that stay open until all jobs are done go onto the stack.
    work: a group of jobs -> the result of each, or its UserError;
    each is delivered before the next is asked for, so that no two need be in memory at once.
    """

    name: str
    resolve: Callable[[Config], tuple[Config, Config]]
    choose: Callable[[Config], Any]
    prepare: Callable[[Any, Config, Path, ExitStack], Any]
    work: Callable[[list[Any]], Iterable[Result | UserError]]


def together(verb: Verb, jobs: Sequence[tuple[Config, Path]]) -> list[Outcome]:
    """Run the jobs and return the outcome of each, in order; a job that is already finished is not run again."""
    outcomes: dict[int, Outcome] = {}
    begun: dict[int, Any] = {}
    machines: dict[int, Config] = {}
    with ExitStack() as held:
        for i, (config, out) in enumerate(jobs):
            try:
                with system_errors.as_user_errors(*knobs.texts(config), out), plugins.as_user_errors():
                    config, machines[i] = verb.resolve(config)
                    machine.configure_process(machines[i])
                    chosen = verb.choose(config)
                    out = processes.broadcast_path(out)
                    if folder.claim(out, verb.name, config):
                        progress.say(f"already finished: {progress.shown_path(out)}")
                        outcomes[i] = judged(folder.read_summary(out))[1].distance_from_target
                    else:
                        held.enter_context(locks.held(out))
                        begun[i] = verb.prepare(chosen, config, out, held)
            except UserError as error:
                outcomes[i] = error
        clock.lap("starting")
        for indices in ensembles.grouped({i: (job.group(), machines[i]["precision"]) for i, job in begun.items()}):
            machine.configure_process(
                machines[indices[0]]
            )  # the last job to be prepared may have had another precision
            for i, result in zip(indices, verb.work([begun[i] for i in indices]), strict=True):
                outcomes[i] = delivered(verb, begun[i], result)
    return [outcomes[i] for i in range(len(jobs))]


class Done(NamedTuple):
    """One job that is done: its config, the job itself, its result and the report of it."""

    config: Config
    job: Any
    result: Result
    report: Report


def single(
    verb: Verb, config: Config, out: Path, written: bool, adjust: Callable[[Any], object] = lambda job: None
) -> Done | None:
    """Run one job from Python; None where its folder holds the finished job already. Raises UserError.

    written: whether the result is delivered into the folder `out`, as a command's; else nothing is written but what the
    work itself writes there. adjust: called with the job before the work begins.
    """
    config, settings = verb.resolve(config)
    machine.configure_process(settings)
    chosen = verb.choose(config)
    with ExitStack() as held:
        if written:
            if folder.claim(out, verb.name, config):
                return None
            held.enter_context(locks.held(out))
        job = verb.prepare(chosen, config, out, held)
        adjust(job)
        (result,) = verb.work([job])
        if isinstance(result, UserError):
            raise result
        if written:
            report = deliver(result, verb.name, job.config, out)
        else:
            report = result.report()
            progress.print_table(report.title, report.rows)
    return Done(config, job, result, report)


def delivered(verb: Verb, job: Any, result: Result | UserError) -> Outcome:
    """Deliver a job's result: its score, or its UserError, which does not stop the other jobs."""
    if isinstance(result, UserError):
        return result
    try:
        with system_errors.as_user_errors(job.out), plugins.as_user_errors():
            return deliver(result, verb.name, job.config, job.out).score
    except UserError as error:
        return error


def alone(verb: Verb, config: Config, out: Path) -> float:
    """Run one job and return its score. Raises the job's UserError."""
    (outcome,) = together(verb, [(config, out)])
    if isinstance(outcome, UserError):
        raise outcome
    return outcome
