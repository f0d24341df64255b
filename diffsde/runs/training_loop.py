"""The training loop around the compiled steps: dispatch, log, save, stop; a resumed run is the same bit for bit."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.datasets.streaming import Stream
from diffsde.ensembles import member
from diffsde.errors import Stopped
from diffsde.metrics.figure_text import shown_loss
from diffsde.pairs_ahead import PairsAhead
from diffsde.runs import processes, progress
from diffsde.runs.run_writer import RunWriter, Schedule
from diffsde.signals import stoppable
from diffsde.training import Run, TrainState

SLICE = 1.0  # most seconds of one dispatch: how long a signal waits
EVERY = 30.0  # seconds between checkpoints where checkpoint_every is null


def fit(
    program: Any,
    run: Run,
    state: TrainState,
    members: list[RunWriter],
    plan: Schedule,
    score: Callable[[int, TrainState], float],
    stream: Stream | PairsAhead | None = None,
    next_round: Callable[[int, Run, TrainState], Run] | None = None,
) -> TrainState:
    """Train from the state's step to plan.steps, logging losses and saving checkpoints of each member; the final state.

    stream: the source of examples that are not in memory, or of pairs that are coupled on the host; a dispatch stays within one of
    its buffers. next_round: called at the last step of each of plan.round_ends; the Run with which the steps after it go on.

    The states of several members are stacked. A dispatch is begun before the losses of the last one are read, so that
    the device never waits. After a signal, saves and raises Stopped.
    """
    step = int(np.max(np.asarray(state.step)))
    length, saved_at = DispatchLength(plan, stream.capacity if stream else None), time.perf_counter()
    losses = WaitingLosses(members, length)
    with progress.Steps("train", plan.steps, step) as bar, stoppable() as asked, members[0].unwritten():
        while step < plan.steps:
            count = length.after(step)
            if stream is not None:  # read or coupled, and transferred, while the device works on the last dispatch
                given: dict[str, Any] = {stream.field: stream.buffer(step)}
                run = dataclasses.replace(run, **given)
            state, values = processes.one_process_at_a_time(program(run, state, np.int32(count)))
            step += count
            losses.add(Dispatch(step, count, values, checked(members, state, step, plan)))
            losses.read(bar, until=1)
            if next_round is not None and step in plan.round_ends:
                losses.read(bar, until=0)
                run = next_round(step, run, state)
                length.restart()
            due = step == plan.steps or checkpoint_due(plan, step, time.perf_counter() - saved_at)
            stop, due_anywhere, length.agreed = processes.all_reduce_max(max(asked, default=0), due, length.timed)
            if due_anywhere or stop:
                losses.read(bar, until=0)
                save(members, state, step, score)
                saved_at = length.restart()
            if stop:
                break
        for one in members:
            one.manager.wait()
        (stop,) = processes.all_reduce_max(max(asked, default=0))
        if stop:  # at the last step too: a sweep would begin its next job
            raise Stopped(f"at step {step} of {plan.steps}", stop)
    return state


class DispatchLength:
    """The number of steps per dispatch: about SLICE seconds, ending at the next log line, checkpoint, buffer or round's end at the
    latest.
    """

    def __init__(self, plan: Schedule, capacity: int | None) -> None:
        self.plan = plan
        self.periods = [every for every in (plan.log_every, plan.checkpoint_every, capacity) if every]
        self.agreed = self.timed = 1  # steps per SLICE: agreed among all processes, and timed by this one
        self.restart()

    def restart(self) -> float:
        """Time the next dispatch from now; returns the time now."""
        self.since = time.perf_counter()
        return self.since

    def after(self, step: int) -> int:
        """Number of steps of the dispatch after `step`."""
        ends = [end - step for end in self.plan.round_ends if end > step]
        return min(self.plan.steps - step, self.agreed, *(every - step % every for every in self.periods), *ends)

    def ended(self, steps: int) -> float:
        """Record that a dispatch of `steps` steps ended now; returns the time now."""
        now = time.perf_counter()
        self.timed = max(1, min(self.plan.log_every, int(SLICE * steps / max(now - self.since, 1e-9))))
        self.since = now
        return now


class Dispatch(NamedTuple):
    """A dispatch of `steps` steps up to step `last`: losses (chunk,) or (members, chunk), and each member's log entries."""

    last: int
    steps: int
    losses: jax.Array
    checks: list[dict[str, Any] | None]


class WaitingLosses:
    """A queue of dispatches whose losses are not in the log yet: reading them waits for the device."""

    def __init__(self, members: list[RunWriter], length: DispatchLength) -> None:
        self.members, self.length = members, length
        self.waiting: deque[Dispatch] = deque()
        self.began = time.perf_counter(), time.process_time()
        self.before = [one.log.seconds for one in members]

    def add(self, dispatch: Dispatch) -> None:
        """Add a dispatch to the queue."""
        self.waiting.append(dispatch)

    def read(self, bar: progress.Steps, until: int) -> None:
        """Pass the oldest dispatches to the members' logs, until `until` of them are left."""
        while len(self.waiting) > until:
            last, steps, values, checks = self.waiting.popleft()
            losses = np.atleast_2d(np.asarray(values))[:, :steps]
            spent = self.length.ended(steps) - self.began[0], time.process_time() - self.began[1]
            for one, mine, (wall, cpu), check in zip(self.members, losses, self.before, checks, strict=True):
                one.take(last, mine, spent[0] + wall, spent[1] + cpu, check)
            end_where_all_failed(self.members)
            if note := latest_losses(self.members):
                bar.update(last, note)


def latest_losses(members: list[RunWriter]) -> str:
    """The last losses in the logs as text, for several members the lowest and the highest; empty where there is none yet."""
    going_on = [one.log for one in members if not one.failed]

    def last(name: str) -> list[float]:
        return [value for log in going_on if (value := log.last(name)) is not None]

    if not (losses := last("loss")):
        return ""
    most = f" to {shown_loss(max(losses))}" if len(members) > 1 else ""
    held = f", validation {shown_loss(min(held_out))}" if (held_out := last("validation_loss")) else ""
    return f"loss {shown_loss(min(losses))}{most}{held}" + (f", NFE {max(nfe):.0f}" if (nfe := last("nfe")) else "")


def of_member(members: list[RunWriter], state: TrainState, i: int) -> TrainState:
    """The state of member i; the state of a single member is not stacked."""
    return member(state, i) if len(members) > 1 else state


def checked(members: list[RunWriter], state: TrainState, step: int, plan: Schedule) -> list[dict[str, Any] | None]:
    """Each member's further log entries at a step; None where no line is due or the member has no check."""
    lined = step % plan.log_every == 0 or step == plan.steps
    return [one.check(of_member(members, state, i)) if one.check and lined else None for i, one in enumerate(members)]


def checkpoint_due(plan: Schedule, step: int, seconds: float) -> bool:
    """Whether to save at a step, `seconds` after the last checkpoint."""
    return step % plan.checkpoint_every == 0 if plan.checkpoint_every else seconds > EVERY


def save(members: list[RunWriter], state: TrainState, step: int, score: Callable[[int, TrainState], float]) -> None:
    """Begin to write each member's checkpoint at a step."""
    for i, one in enumerate(members):
        one.save(step, of_member(members, state, i), partial(score, i))
    end_where_all_failed(members)


def end_where_all_failed(members: list[RunWriter]) -> None:
    """Raise the first member's UserError where all members have failed."""
    if members[0].failed and all(one.failed for one in members):
        raise members[0].failed
