"""The loop around the compiled steps: dispatch, log, save, stop, and go on from what was saved, to the bit."""

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
from diffsde.runs import processes, progress
from diffsde.runs.run_writer import RunWriter, Schedule
from diffsde.runs.signals import stoppable
from diffsde.training import Run, TrainState

SLICE = 1.0  # seconds of steps in one dispatch, at most: how long a signal waits
EVERY = 30.0  # seconds between checkpoints, where steps are not given


def fit(
    program: Any,
    run: Run,
    state: TrainState,
    members: list[RunWriter],
    plan: Schedule,
    score: Callable[[int, TrainState], float],
    stream: Stream | None = None,
) -> TrainState:
    """Steps from the state's own to plan.steps, each member's losses logged and its state saved as it goes.

    stream: where the examples come from that are not in memory; no dispatch goes beyond one of its buffers.

    The state of several members is stacked. A dispatch is begun before the losses of the last one are read, so that
    the device never waits. Raises Stopped when asked to stop, once all is saved.
    """
    step = int(np.max(np.asarray(state.step)))
    length, saved_at = DispatchLength(plan, stream.capacity if stream else None), time.perf_counter()
    losses = WaitingLosses(members, length)
    with progress.Steps("train", plan.steps, step) as bar, stoppable() as asked:
        while step < plan.steps:
            count = length.after(step)
            if stream is not None:  # read and put while the device is at the last dispatch
                run = dataclasses.replace(run, arrays=stream.buffer(step))
            state, values = processes.one_process_at_a_time(program(run, state, np.int32(count)))
            step += count
            losses.add(Dispatch(step, count, values, checked(members, state, step, plan)))
            losses.read(bar, until=1)
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
            raise Stopped(f"at step {step} of {plan.steps}, saved; the same command goes on from there", stop)
    return state


class DispatchLength:
    """How many steps the next dispatch takes: SLICE seconds of them, and none beyond a line, a checkpoint or a buffer."""

    def __init__(self, plan: Schedule, capacity: int | None) -> None:
        self.plan = plan
        self.periods = [every for every in (plan.log_every, plan.checkpoint_every, capacity) if every]
        self.agreed = self.timed = 1  # the steps of SLICE seconds: of all processes, and as this one has timed its own
        self.restart()

    def restart(self) -> float:
        """Time the next dispatch from now, the time that is returned."""
        self.since = time.perf_counter()
        return self.since

    def after(self, step: int) -> int:
        """The steps of the dispatch that follows a step."""
        return min(self.plan.steps - step, self.agreed, *(every - step % every for every in self.periods))

    def ended(self, steps: int) -> float:
        """Take note that a dispatch of so many steps ended now, the time that is returned."""
        now = time.perf_counter()
        self.timed = max(1, min(self.plan.log_every, int(SLICE * steps / max(now - self.since, 1e-9))))
        self.since = now
        return now


class Dispatch(NamedTuple):
    """`steps` steps up to step `last`, their losses (longest,) or (members, longest), and each member's checks of the state then."""

    last: int
    steps: int
    losses: jax.Array
    checks: list[dict[str, Any] | None]


class WaitingLosses:
    """The losses of the dispatches that the log has not had yet: reading them waits for the device."""

    def __init__(self, members: list[RunWriter], length: DispatchLength) -> None:
        self.members, self.length = members, length
        self.waiting: deque[Dispatch] = deque()
        self.began = time.perf_counter(), time.process_time()
        self.before = [one.seconds() for one in members]

    def add(self, dispatch: Dispatch) -> None:
        self.waiting.append(dispatch)

    def read(self, bar: progress.Steps, until: int) -> None:
        """Pass the oldest on to the members' logs, until so many dispatches wait."""
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
    """The last losses in the logs, of several members the lowest and the highest; empty where there is none yet."""
    going_on = [one for one in members if not one.failed]
    losses = [one.losses()[-1] for one in going_on if one.losses()]
    if not losses:
        return ""
    held_out = [one.validation()[-1][0] for one in going_on if one.validation()]
    most = f" to {max(losses):.4f}" if len(members) > 1 else ""
    return f"loss {min(losses):.4f}{most}" + (f", validation {min(held_out):.4f}" if held_out else "")


def of_member(members: list[RunWriter], state: TrainState, i: int) -> TrainState:
    """The state of one member; that of a single one is not stacked."""
    return member(state, i) if len(members) > 1 else state


def checked(members: list[RunWriter], state: TrainState, step: int, plan: Schedule) -> list[dict[str, Any] | None]:
    """What each member's line of the log has of the state besides; None where there is no line, or nothing besides."""
    lined = step % plan.log_every == 0 or step == plan.steps
    return [one.check(of_member(members, state, i)) if one.check and lined else None for i, one in enumerate(members)]


def checkpoint_due(plan: Schedule, step: int, seconds: float) -> bool:
    """Whether to save at a step, `seconds` after the last time."""
    return step % plan.checkpoint_every == 0 if plan.checkpoint_every else seconds > EVERY


def save(members: list[RunWriter], state: TrainState, step: int, score: Callable[[int, TrainState], float]) -> None:
    """Begin to write each member's checkpoint of a step."""
    for i, one in enumerate(members):
        one.save(step, of_member(members, state, i), partial(score, i))
    end_where_all_failed(members)


def end_where_all_failed(members: list[RunWriter]) -> None:
    """Raise the first one's UserError where no member goes on."""
    if members[0].failed and all(one.failed for one in members):
        raise members[0].failed
