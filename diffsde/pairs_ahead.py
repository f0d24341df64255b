"""Pairs of the steps ahead: their points drawn on the device, coupled by threads on the host while it computes, and put there."""

from __future__ import annotations

import dataclasses
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.couplings import BatchCoupling, plan_in_batches
from diffsde.datasets import Batch
from diffsde.paths.piecewise import Piecewise
from diffsde.training import Pairs, Run, draw_ends, repeated
from diffsde.types import Array, Key

BUFFER_BYTES = 1 << 25  # of the points of a buffer, at most
BUFFER_COSTS = 1 << 23  # ... and of squared distances that its plans are made of: less than a second of one core
THREADS = 8  # that solve, at most
POLL = 0.1  # seconds between two looks at whether the run has ended, of a thread whose buffer nobody takes


class Cost(NamedTuple):
    """What coupling costs: CPU seconds of the solvers and of all else, per step; the share of the training's wall time that it
    waited for pairs; and error, the greatest that a plan's marginals were off.
    """

    solver: float
    rest: float
    waited: float
    error: float


class Spent(NamedTuple):
    """What the solvers have spent: CPU seconds, on so many steps; and the greatest error of a plan."""

    seconds: float = 0.0
    steps: int = 0
    error: float = 0.0


class PairsAhead:
    """The pairs of the steps from `first` to before `last` of runs that are trained as one program, `capacity` steps a buffer.

    What is drawn and coupled depends on the run's key and the step alone. Three buffers are in memory at most: the one that a
    program computes on, the next, and the one that is being made. longest: the most steps that a dispatch will have. put: places
    a buffer's arrays (C, B, ...), of several runs (runs, C, B, ...), on the device.
    """

    field: ClassVar[str] = "pairs"  # of the Run

    def __init__(
        self, runs: list[Run], longest: int, steps: tuple[int, int], put: Callable[[Any], Any] = jax.device_put
    ) -> None:
        self._runs, (self._first, self._last), self._put = runs, steps, put
        self._seeds = [np.asarray(jax.random.key_data(run.key)).tolist() for run in runs]
        coupling, batch = coupling_of(runs[0]), runs[0].batch_size
        self._points = coupling.points(batch)
        self._share = self._points // batch  # steps of a group, which share a draw
        self._drawn_by = [
            dataclasses.replace(run, coupling=None, pairs=None) for run in runs
        ]  # one program for all couplings
        sizes = jax.eval_shape(partial(draw_groups, groups=1, count=self._points), self._drawn_by[0], 0)
        nbytes = len(runs) * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(sizes)) // self._share
        costs = len(runs) * batch * (coupling.block or self._points)
        fitting = min(longest, BUFFER_BYTES // nbytes, BUFFER_COSTS // costs)
        self.capacity = max(1, fitting // self._share) * self._share
        self._held: tuple[int, Any] | None = None
        self._made: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._closed = Event()
        self._spent, self._waited = Spent(), 0.0
        self._began: tuple[float, float, float] | None = None  # of training: wall, CPU, and the solvers' before it
        self._pool = ThreadPoolExecutor(n_solvers())
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def empty(self) -> Any:
        """A buffer of zeros, on the device: what the program is compiled for while the first plans are solved."""
        groups = self.capacity // self._share
        like = jax.eval_shape(partial(draw_groups, groups=groups, count=self._points), self._drawn_by[0], 0)
        zeros = self._in_steps(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))
        return self._put(stacked([zeros] * len(self._runs)))

    def buffer(self, step: int) -> Any:
        """The buffer, on the device, that has a step's pairs: the last one that was asked for, or a later one."""
        number = step // self.capacity
        if self._began is None:
            self._began = time.perf_counter(), time.process_time(), self._spent.seconds
        while self._held is None or self._held[0] < number:
            began = time.perf_counter()
            made = self._made.get()
            self._waited += time.perf_counter() - began
            if isinstance(made, BaseException):
                raise made
            self._held = made[0], self._put(made[1])
        return self._held[1]

    def cost(self) -> Cost:
        """What the coupling has cost, once all steps are trained."""
        assert self._began is not None
        wall, cpu, before = self._began
        # never below 0: a thread's plan is counted once it ends, with what it took before training began
        rest = max(0.0, time.process_time() - cpu - (self._spent.seconds - before))
        steps, waited = self._last - self._first, self._waited / (time.perf_counter() - wall)
        return Cost(self._spent.seconds / self._spent.steps, rest / steps, waited, self._spent.error)

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _work(self) -> None:
        """Make one buffer after another; an error goes to whoever asks for the buffer."""
        try:
            numbers = range(self._first // self.capacity, -(-self._last // self.capacity))
            drawn = self._draw(numbers[0]) if numbers else []
            for number in numbers:
                points = [jax.tree.map(np.asarray, one) for one in drawn]
                drawn = self._draw(number + 1) if number + 1 in numbers else []  # drawn while this one is coupled
                if not self._hand_over((number, self._coupled(number, points))):
                    return
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, made: Any) -> bool:
        """Wait until there is room for what was made; False where the run has ended first."""
        while not self._closed.is_set():
            try:
                self._made.put(made, timeout=POLL)
                return True
            except queue.Full:
                pass
        return False

    def _draw(self, number: int) -> list[Pairs]:
        """Of each run the uncoupled points of a buffer's groups, which the device may still be drawing."""
        groups = self.capacity // self._share
        return [draw_groups(run, np.int32(number * groups), groups, self._points) for run in self._drawn_by]

    def _coupled(self, number: int, drawn: list[Pairs]) -> Any:
        """A buffer of pairs: each group's points in the order of its plan; those of steps outside the run as they were drawn."""
        groups = self.capacity // self._share
        first = number * groups
        within = range(max(first, self._first // self._share), min(first + groups, -(-self._last // self._share)))
        made = [jax.tree.map(np.array, one) for one in drawn]

        def solve(tasks: list[tuple[int, int]]) -> tuple[float, float]:
            began, errors = time.thread_time(), [0.0]
            for i, group in tasks:
                if self._closed.is_set():
                    break  # nobody will ask for this buffer
                y, z, label = drawn[i]
                points = Pairs(y[group - first], z[group - first], None if label is None else label[group - first])
                found, error = couple(self._runs[i], points, np.random.default_rng([*self._seeds[i], group]))
                for leaf, rows in zip(made[i], found, strict=True):
                    if leaf is not None:
                        leaf[group - first] = rows
                errors.append(error)
            return time.thread_time() - began, max(errors)

        tasks = [(i, group) for group in within for i in range(len(drawn))]
        seconds, errors = zip(*self._pool.map(solve, (tasks[k::THREADS] for k in range(THREADS))), strict=True)
        spent, steps, error = self._spent
        self._spent = Spent(spent + sum(seconds), steps + len(within) * self._share, max(error, *errors))
        return stacked([self._in_steps(one) for one in made])

    def _in_steps(self, groups: Pairs) -> Pairs:
        """Arrays (groups, points, ...) as (C, B, ...)."""
        batch = self._runs[0].batch_size
        return jax.tree.map(lambda leaf: leaf.reshape(self.capacity, batch, *leaf.shape[2:]), groups)


def stacked(buffers: list[Pairs]) -> Pairs:
    """The buffers of several runs as one; that of a single run as it is."""
    return buffers[0] if len(buffers) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *buffers)


def n_solvers() -> int:
    """Number of threads that solve: one core is left to the program."""
    return max(1, min(THREADS, (os.cpu_count() or 1) - 1))


@partial(jax.jit, static_argnames=("groups", "count"))
def draw_groups(run: Run, first: Array, groups: int, count: int) -> Pairs:
    """The uncoupled points (groups, count, *shape) of consecutive groups; where steps have groups of their own, those that an
    independent coupling draws.
    """
    return jax.vmap(lambda group: draw_ends(run, jax.random.fold_in(run.key, group), count))(first + jnp.arange(groups))


def couple(run: Run, points: Pairs, random: np.random.Generator) -> tuple[Pairs, float]:
    """The points (n, ...) on the host, paired by the run's coupling; labels travel with z, and where the network sees them, pairs
    are within a label. Also by how much the plan's marginals are off.
    """
    y, z, label = points
    seen = np.asarray(label) if is_kept_apart(run) else None
    plan = coupling_of(run).plan(np.asarray(y), np.asarray(z), random, seen)
    return Pairs(y[plan.i], z[plan.j], None if label is None else label[plan.j]), plan.error


@partial(jax.jit, static_argnames="repeats")
def draw_held_out(run: Run, held_out: Batch, key: Key, repeats: int) -> Pairs:
    """The uncoupled examples of `held_out_loss`."""
    run = dataclasses.replace(run, arrays=repeated(held_out, repeats), sharding=None)
    return draw_ends(run, key, len(held_out.x) * repeats)


def couple_held_out(run: Run, held_out: Batch, key: Key, repeats: int) -> Pairs:
    """The examples of `held_out_loss`, paired by the run's coupling, a batch after another: every z once, in its place, but where
    the coupling leaves points out.
    """
    y, z, label = jax.tree.map(np.asarray, draw_held_out(run, held_out, key, repeats))
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    coupling, seen = coupling_of(run), label if is_kept_apart(run) else None
    k, partner, _ = plan_in_batches(
        coupling, z, y, coupling.points(run.batch_size), random, seen
    )  # of z, each is taken once
    return jax.device_put(Pairs(y[partner], z[k], None if label is None else label[k]))


def is_kept_apart(run: Run) -> bool:
    """Whether pairs are within a label: one that the network sees, or the number of the interval between snapshots."""
    return bool(run.classes) or isinstance(run.problem.path, Piecewise)


def coupling_of(run: Run) -> BatchCoupling:
    """The run's coupling, of a batch."""
    assert isinstance(run.coupling, BatchCoupling)
    return run.coupling
