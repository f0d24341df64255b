"""The loop around the compiled steps: dispatch, log, save, stop, and go on from what was saved, to the bit."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

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
    split, capacity = len(members) > 1, stream and stream.capacity
    first = step = int(np.max(np.asarray(state.step)))
    waiting: deque[tuple[int, int, jax.Array, list[Any]]] = deque()
    stride = wish = 1  # steps in a dispatch: of all processes, and as this one has timed them
    saved_at, began = time.perf_counter(), (time.perf_counter(), time.process_time())
    before = [one.seconds() for one in members]
    mark = began[0]

    def read_out(until: int) -> None:
        nonlocal mark, wish
        while len(waiting) > until:
            done, counted, values, checks = waiting.popleft()
            losses = np.atleast_2d(np.asarray(values))[:, :counted]
            now = time.perf_counter()
            wish = max(1, min(plan.log_every, int(SLICE * counted / max(now - mark, 1e-9))))
            mark = now
            spent = now - began[0], time.process_time() - began[1]
            for one, mine, (wall, cpu), check in zip(members, losses, before, checks, strict=True):
                one.take(done, mine, spent[0] + wall, spent[1] + cpu, check)
            end_where_all_failed(members)
            latest = [one.losses()[-1] for one in members if one.losses() and not one.failed]
            if latest:
                held_out = [one.validation()[-1][0] for one in members if one.validation() and not one.failed]
                note = f", validation {min(held_out):.4f}" if held_out else ""
                bar.update(done, f"loss {min(latest):.4f}" + (f" to {max(latest):.4f}" if split else "") + note)

    def save() -> None:
        nonlocal mark
        read_out(until=0)
        for i, one in enumerate(members):
            one.save(step, member(state, i) if split else state, partial(score, i))
        end_where_all_failed(members)
        mark = time.perf_counter()

    with progress.Steps("train", plan.steps, first) as bar, stoppable() as asked:
        while step < plan.steps:
            edges = [every - step % every for every in (plan.log_every, plan.checkpoint_every, capacity) if every]
            count = min(plan.steps - step, stride, *edges)
            if stream is not None:  # read and put while the device is at the last dispatch
                run = dataclasses.replace(run, arrays=stream.buffer(step))
            state, values = processes.one_process_at_a_time(program(run, state, np.int32(count)))
            step += count
            lined = step % plan.log_every == 0 or step == plan.steps
            checks = [
                one.check(member(state, i) if split else state) if one.check and lined else None
                for i, one in enumerate(members)
            ]
            waiting.append((step, count, values, checks))
            read_out(until=1)
            if plan.checkpoint_every:
                due = step % plan.checkpoint_every == 0
            else:
                due = time.perf_counter() - saved_at > EVERY
            stop, now, stride = processes.all_reduce_max(max(asked, default=0), due or step == plan.steps, wish)
            if now or stop:
                save()
                saved_at = time.perf_counter()
            if stop:
                break
        for one in members:
            one.manager.wait()
        (stop,) = processes.all_reduce_max(max(asked, default=0))
        if stop:  # at the last step too: a sweep would begin its next job
            raise Stopped(f"at step {step} of {plan.steps}, saved; the same command goes on from there", stop)
    return state


def end_where_all_failed(members: list[RunWriter]) -> None:
    """Raise the first one's UserError where no member goes on."""
    if members[0].failed and all(one.failed for one in members):
        raise members[0].failed
