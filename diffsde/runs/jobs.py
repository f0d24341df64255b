"""Jobs of one verb: each set up, claimed and prepared, then worked on by groups of one structure, as one program each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from diffsde import ensembles
from diffsde.errors import UserError
from diffsde.runs import clock, folder, locks, machine, processes, progress
from diffsde.runs.results import Result, deliver, judged

Config = dict[str, Any]
Outcome = float | UserError  # how far the figure that a job is judged by is off, or why there is none


class Verb(NamedTuple):
    """What is a verb's own.

    resolve: a job's config as it is kept, and as the process is set up by. choose: the choices that it stands for.
    prepare: from these, the config and the folder a job, whose `group()` is what has to be equal for jobs to be one
    program; what it holds open until all are done goes into the stack. work: the result of each job of a group, or why it comes
    to nothing; each is delivered before the next is asked for, so that no two need be in memory at once.
    """

    name: str
    resolve: Callable[[Config], tuple[Config, Config]]
    choose: Callable[[Config], Any]
    prepare: Callable[[Any, Config, Path, ExitStack], Any]
    work: Callable[[list[Any]], Iterable[Result | UserError]]


def together(verb: Verb, jobs: Sequence[tuple[Config, Path]]) -> list[Outcome]:
    """The outcome of each job, in their order; one that is finished already is not done again."""
    outcomes: dict[int, Outcome] = {}
    begun: dict[int, Any] = {}
    machines: dict[int, Config] = {}
    with ExitStack() as held:
        for i, (config, out) in enumerate(jobs):
            try:
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


def delivered(verb: Verb, job: Any, result: Result | UserError) -> Outcome:
    """The outcome of a job whose result is there: its score, or the UserError that was raised, which is no other job's concern."""
    if isinstance(result, UserError):
        return result
    try:
        return deliver(result, verb.name, job.config, job.out)
    except UserError as error:
        return error


def alone(verb: Verb, config: Config, out: Path) -> float:
    """One job. Raises UserError where it comes to nothing."""
    (outcome,) = together(verb, [(config, out)])
    if isinstance(outcome, UserError):
        raise outcome
    return outcome
