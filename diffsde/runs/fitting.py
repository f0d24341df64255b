"""The loop around the compiled steps: dispatch, log, save, stop, and go on from what was saved, to the bit."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import checkpoints
from diffsde.datasets.streaming import Stream
from diffsde.ensembles import member
from diffsde.errors import Stopped, UserError
from diffsde.layouts import Layout
from diffsde.loggers import Recorder
from diffsde.runs import folder, processes, report
from diffsde.runs.stopping import stoppable
from diffsde.training import Run, TrainState
from diffsde.types import Moments

SLICE = 1.0  # seconds of steps in one dispatch, at most: how long a signal waits
EVERY = 30.0  # seconds between checkpoints, where steps are not given


class Plan(NamedTuple):
    """How often to log and save, in steps; checkpoint_every None: every 30 seconds."""

    steps: int
    log_every: int
    checkpoint_every: int | None
    keep: int
    best: bool  # whether the checkpoint with the lowest score is kept besides


class Member:
    """One run: its folder, its log and checkpoints, and the losses since the last line of the log."""

    def __init__(self, out: Path, plan: Plan, moments: Moments, classes: int) -> None:
        self.out, self.plan, self.about = out, plan, {"moments": moments._asdict(), "classes": jnp.asarray(classes)}
        self.log = out / "metrics.jsonl"
        self.lines: list[dict[str, float]] = []
        self.window: list[float] = []
        self.failed: UserError | None = None
        self.recorder: Recorder
        self.keeper = checkpoints.Keeper(out / "checkpoints", plan.keep, self.best, processes.leads())

    def resume(self, fresh: TrainState, layout: Layout | None) -> TrainState:
        """The state of the newest whole checkpoint, and the log cut back to it; the fresh state where there is none."""
        places = None
        if layout is not None:

            def places(names: tuple[str, ...], leaf: jax.ShapeDtypeStruct) -> Any:
                return layout.parameter(leaf.shape) if names[:1] == ("state",) else layout.whole()

        where = self.out / "checkpoints"
        if not checkpoints.steps(where):
            self._cut(0)
            return fresh
        step, tree = checkpoints.load(where, report.warn, place=places)
        for later in [number for number in checkpoints.steps(where) if number > step]:
            if processes.leads():
                checkpoints.set_aside(where, later, "damaged")
        self._cut(step)
        self.window = np.asarray(tree["window"])[: step % self.plan.log_every].tolist()
        if step == self.plan.steps:
            self.window = []
        return unnamed(fresh, tree["state"], self.out)

    def _cut(self, step: int) -> None:
        """Keep the lines up to a step: those after it will be written again."""
        if not self.log.exists():
            return
        self.lines = [line for line in read_log(self.log) if line["step"] <= step]
        folder.write(self.log, lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in self.lines)))

    def seconds(self) -> tuple[float, float]:
        """Wall and CPU seconds spent so far."""
        last = next((line for line in reversed(self.lines) if "seconds" in line), {})
        return last.get("seconds", 0.0), last.get("cpu_seconds", 0.0)

    def write(self, line: dict[str, float]) -> None:
        self.lines.append(line)
        if processes.leads():
            with open(self.log, "a") as file:
                file.write(json.dumps(line) + "\n")

    def save(self, step: int, state: TrainState, score: Callable[[TrainState], float]) -> None:
        """Begin to write a checkpoint, the lines that belong to it being on the disk before."""
        if self.failed:
            return
        if self.plan.best:
            self.write({"step": step, "score": score(state)})
            self.recorder.log(step, {"score": self.lines[-1]["score"]})
        if processes.leads() and self.log.exists():
            with open(self.log) as file:
                os.fsync(file.fileno())
        window = np.zeros(self.plan.log_every, np.float32)
        window[: len(self.window)] = self.window
        self.keeper.save(step, {"state": named(state), **self.about, "window": jnp.asarray(window)})

    def best(self, saved: list[int]) -> int | None:
        return best_step(self.lines, saved)

    def score(self, step: int) -> float:
        """The score that the log has of a step's checkpoint."""
        return next(line["score"] for line in reversed(self.lines) if line["step"] == step and "score" in line)

    def losses(self) -> list[float]:
        """The mean losses of the log, a line each."""
        return [line["loss"] for line in self.lines if "loss" in line]


def fit(
    program: Any,
    run: Run,
    state: TrainState,
    members: list[Member],
    plan: Plan,
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
    waiting: deque[tuple[int, int, jax.Array]] = deque()
    stride = wish = 1  # steps in a dispatch: of all processes, and as this one has timed them
    saved_at, began = time.perf_counter(), (time.perf_counter(), time.process_time())
    before = [one.seconds() for one in members]
    mark = began[0]

    def read_out(until: int) -> None:
        nonlocal mark, wish
        while len(waiting) > until:
            done, counted, values = waiting.popleft()
            losses = np.atleast_2d(np.asarray(values))[:, :counted]
            now = time.perf_counter()
            wish = max(1, min(plan.log_every, int(SLICE * counted / max(now - mark, 1e-9))))
            mark = now
            for i, (one, mine) in enumerate(zip(members, losses, strict=True)):
                if one.failed:
                    continue
                one.window += mine.tolist()
                if done % plan.log_every and done != plan.steps:
                    continue
                loss = float(np.mean(np.asarray(one.window, np.float32)))
                one.window = []
                spent = now - began[0] + before[i][0], time.process_time() - began[1] + before[i][1]
                one.recorder.log(done, {"loss": loss})
                one.write(
                    {"step": done, "loss": loss, "seconds": round(spent[0], 4), "cpu_seconds": round(spent[1], 4)}
                )
                if not math.isfinite(loss):
                    one.failed = UserError(
                        f"the loss became {loss} before step {done}; try a smaller lr, see {one.log}"
                    )
            if all(one.failed for one in members):
                for one in members:
                    one.keeper.wait()
                raise members[0].failed or AssertionError
            latest = [one.losses()[-1] for one in members if one.losses()]
            if latest:
                progress.update(done, f"loss {min(latest):.4f}" + (f" to {max(latest):.4f}" if split else ""))

    def save() -> None:
        nonlocal mark
        read_out(until=0)
        for i, one in enumerate(members):
            one.save(step, member(state, i) if split else state, partial(score, i))
        mark = time.perf_counter()

    with report.Steps("train", plan.steps, first) as progress, stoppable() as asked:
        while step < plan.steps:
            edges = [every - step % every for every in (plan.log_every, plan.checkpoint_every, capacity) if every]
            count = min(plan.steps - step, stride, *edges)
            if stream is not None:  # read and put while the device is at the last dispatch
                run = dataclasses.replace(run, arrays=stream.buffer(step))
            state, values = processes.in_turn(program(run, state, np.int32(count)))
            step += count
            waiting.append((step, count, values))
            read_out(until=1)
            if plan.checkpoint_every:
                due = step % plan.checkpoint_every == 0
            else:
                due = time.perf_counter() - saved_at > EVERY
            stop, now, stride = processes.agree(max(asked, default=0), due or step == plan.steps, wish)
            if now or stop:
                save()
                saved_at = time.perf_counter()
            if stop:
                break
        for one in members:
            one.keeper.wait()
        (stop,) = processes.agree(max(asked, default=0))
        if stop:  # at the last step too: a sweep would begin its next job
            raise Stopped(f"at step {step} of {plan.steps}, saved; the same command goes on from there", stop)
    return state


def best_step(lines: list[dict[str, float]], saved: list[int]) -> int | None:
    """Of these steps the one whose score in the log is lowest; None where none has one that is a number."""
    scores = {
        int(line["step"]): line["score"]
        for line in lines
        if line["step"] in saved and math.isfinite(line.get("score", math.nan))
    }
    return min(scores, key=lambda step: scores[step]) if scores else None


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; one cut short by a crash is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def named(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts with string keys, the same before and after a checkpoint."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state.opt_state)
    return state._asdict() | {"opt_state": {jax.tree_util.keystr(path): leaf for path, leaf in leaves}}


def unnamed(like: TrainState, tree: dict[str, Any], out: Path) -> TrainState:
    """The inverse of `named`, in the structure of `like`. Raises UserError for the state of another net or optimizer."""
    wanted = named(like)
    if jax.tree.map(jnp.shape, tree) != jax.tree.map(jnp.shape, wanted):
        raise UserError(f"run: the checkpoint in '{out}' is of another net or optimizer than its config.json says")
    leaves, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
    opt_state = jax.tree.unflatten(structure, [tree["opt_state"][jax.tree_util.keystr(path)] for path, _ in leaves])
    return TrainState(tree["step"], tree["params"], tree["ema"], opt_state)
