"""The writer of one training run: its log, its checkpoints, and the detection of divergence."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import checkpoints, system_errors
from diffsde.errors import UserError
from diffsde.loggers import Recorder
from diffsde.runs import locks, processes, progress
from diffsde.runs.run_log import RunLog, best_step
from diffsde.sharding import Sharding
from diffsde.training import TrainState
from diffsde.types import Moments, on_device

# A mean loss above the untrained network's by this factor means divergence, not fluctuation; the second factor is for a
# loss whose expectation is infinite, where one example in a million can have a million times the loss of the others.
DIVERGED, DIVERGED_RARE = 10.0, 1e6
WINDOW = 2**16  # losses for which a checkpoint has room at least


class Schedule(NamedTuple):
    """Number of steps, and how often to log and save, in steps; checkpoint_every None: every 30 seconds.

    best: whether the checkpoint with the lowest score is kept too. round_ends: the last step of each round of a run that makes its
    own pairs; else ().
    """

    steps: int
    log_every: int
    checkpoint_every: int | None
    keep: int
    best: bool
    round_ends: tuple[int, ...] = ()


class RunWriter:
    """The writer of one training run: its folder, log and checkpoints, and the losses since the last line of the log.

    rate: the learning rate of a step (0, 1, ...), for messages. untrained: the loss of the first step's batch, before any
    update. diverged_ratio: the ratio of a loss to `untrained` above which the run counts as diverged.
    """

    def __init__(
        self,
        out: Path,
        plan: Schedule,
        moments: Moments,
        classes: int,
        rate: Callable[[int], Any] | None = None,
        diverged_ratio: float = DIVERGED,
        source_moments: Moments | None = None,
    ) -> None:
        self.out, self.plan, self.about = out, plan, {"moments": moments._asdict(), "classes": on_device(classes)}
        if source_moments is not None:
            self.about["source_moments"] = source_moments._asdict()
        self.log, self.rate, self.diverged_ratio = RunLog(out / "metrics.jsonl"), rate, diverged_ratio
        self.window: list[float] = []
        self.untrained = math.nan
        self.warned = False
        self.failed: UserError | None = None
        self.check: Callable[[TrainState], dict[str, Any]] | None = None  # further entries of a line of the log
        self.recorder: Recorder
        self.manager = checkpoints.CheckpointManager(
            out / "checkpoints", plan.keep, self.best, processes.is_main_process()
        )

    def resume(self, fresh: TrainState, sharding: Sharding | None) -> TrainState:
        """The state of the newest intact checkpoint, or `fresh` where there is none; the log is cut back to it."""
        places = None
        if sharding is not None:

            def places(names: tuple[str, ...], leaf: jax.ShapeDtypeStruct) -> Any:
                return sharding.parameter(leaf.shape) if names[:1] == ("state",) else sharding.whole()

        where = self.out / "checkpoints"
        if not checkpoints.steps(where):
            self.log.cut(0)
            return fresh
        step, tree = checkpoints.load(where, progress.warn, place=places, unfit=cannot_resume)
        for later in [number for number in checkpoints.steps(where) if number > step]:
            if processes.is_main_process():
                checkpoints.set_aside(where, later, "damaged")
        self.log.cut(step)
        held = int(tree.get("held", step % self.plan.log_every))  # none after the last step: all are in the log
        self.window = np.asarray(tree["window"])[:held].tolist()
        self.untrained = float(tree.get("untrained", math.nan))
        if step == self.plan.steps:
            self.window = []
        return state_from_dict(fresh, tree["state"], self.out)

    def take(
        self, done: int, losses: np.ndarray, seconds: float, cpu_seconds: float, checked: dict[str, Any] | None = None
    ) -> None:
        """Take the losses of the steps up to `done`; write a line of the log where one is due, with the entries `checked`.

        The run fails at the first loss that is not finite.
        """
        if self.failed:
            return
        first = done - len(losses) + 1
        if first == 1:
            self.untrained = float(losses[0])
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            step, loss = first + int(bad[0]), float(losses[bad[0]])
            self._log(step, {"loss": loss})
            self.fail(step, f"the loss became {loss}")
            return
        self.window += losses.tolist()
        if done % self.plan.log_every and done != self.plan.steps:
            return
        with np.errstate(over="ignore"):
            loss = float(np.mean(np.asarray(self.window, np.float32)))
        self.window = []
        found = {name: float(value) for name, value in (checked or {}).items()}
        self._log(done, {"loss": loss} | found, {"seconds": round(seconds, 4), "cpu_seconds": round(cpu_seconds, 4)})
        if not math.isfinite(loss):  # each loss is finite, but their sum overflows float32
            self.fail(done, "the mean loss is beyond what float32 can hold")
        elif not self.warned and (why := self.diverging(loss)):
            self.warned = True
            progress.warn(f"{progress.shown_path(self.out)} at step {done}{self._lr(done)}: {why}")

    def _log(self, step: int, figures: dict[str, float], spent: dict[str, float] | None = None) -> None:
        self.recorder.log(step, figures)
        self.log.write({"step": step, **figures, **(spent or {})})

    def fail(self, step: int, why: str) -> None:
        """Mark the run as failed at a step; the newest checkpoint, of an earlier step, stays."""
        self.manager.wait()
        saved = checkpoints.steps(self.out / "checkpoints")
        kept = f"the last finite checkpoint is of step {saved[-1]}" if saved else "no checkpoint had been written yet"
        self.failed = UserError(f"{why} at step {step}{self._lr(step)}; try a smaller lr; {kept}, see {self.log.path}")

    @contextmanager
    def unwritten(self) -> Iterator[None]:
        """A context in which an OSError, a full disk's for one, is a UserError that says from where the run can go on."""
        try:
            yield
        except OSError as error:
            if (said := system_errors.line(error)) is None:
                raise
            raise UserError(f"{said}; {checkpoints.resumable(self.out / 'checkpoints')}") from error

    def _lr(self, step: int) -> str:
        return f" (lr {float(self.rate(step - 1)):.3g})" if self.rate else ""

    def diverging(self, loss: float) -> str | None:
        """A warning if the loss is above diverged_ratio times the untrained network's; else None."""
        if not loss > self.diverged_ratio * abs(self.untrained):
            return None
        scored = f"where the untrained network scored {self.untrained:.4g}"
        return f"the loss is {loss:.4g}, {scored}: the run diverged; try a smaller lr"

    def save(self, step: int, state: TrainState, score: Callable[[TrainState], float]) -> None:
        """Begin to write a checkpoint, after the log's lines up to it are on the disk.

        A state that is not finite is never written: the run fails.
        """
        if self.failed:
            return
        locks.check(self.out)
        if not checkpoints.finite(state):
            self.fail(step, "the parameters, or the optimizer's state, became NaN or infinite")
            return
        if self.plan.best:
            self.log.write({"step": step, "score": score(state)})
            self.recorder.log(step, {"score": self.log.scores[step]})
        if processes.is_main_process() and self.log.path.exists():
            with open(self.log.path) as file:
                os.fsync(file.fileno())
        room = max(WINDOW, 2 ** len(self.window).bit_length())  # of few lengths: the program that sums them is of each
        window = np.zeros(min(self.plan.log_every, self.plan.steps, room), np.float32)
        window[: len(self.window)] = self.window
        held = on_device(len(self.window), np.int32)
        losses = {"window": on_device(window), "held": held, "untrained": on_device(self.untrained, np.float32)}
        self.manager.save(step, {"state": state_to_dict(state), **self.about, **losses})

    def best(self, saved: list[int]) -> int | None:
        """The step among `saved` whose checkpoint has the lowest score; None where none has one."""
        return best_step(self.log.scores, saved)


def cannot_resume(tree: dict[str, Any]) -> str | None:
    """The reason why training cannot resume from a checkpoint; None where it can."""
    if (why := checkpoints.not_of_a_run(tree)) is not None:
        return why
    if np.ndim(tree.get("window", 0)) != 1 or not isinstance(tree["state"].get("opt_state"), dict):
        return "it has no state of an optimizer, or no losses"
    return None if checkpoints.finite(tree["state"]) else "some of its numbers are NaN or infinite"


def state_to_dict(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts with string keys, the same before and after a checkpoint."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state.opt_state)
    held = {name: part for name, part in state._asdict().items() if part is not None}
    return held | {"opt_state": {jax.tree_util.keystr(path): leaf for path, leaf in leaves}}


def state_from_dict(like: TrainState, tree: dict[str, Any], out: Path) -> TrainState:
    """The inverse of state_to_dict, in the structure of `like`. Raises UserError for the state of another net or optimizer."""
    wanted = state_to_dict(like)
    if jax.tree.map(jnp.shape, tree) != jax.tree.map(jnp.shape, wanted):
        raise UserError(f"run: the checkpoint in '{out}' is of another net or optimizer than its config.json says")
    leaves, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
    opt_state = jax.tree.unflatten(structure, [tree["opt_state"][jax.tree_util.keystr(path)] for path, _ in leaves])
    return TrainState(tree["step"], tree["params"], tree["ema"], opt_state, tree.get("frozen"))
