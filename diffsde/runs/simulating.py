"""Drawing samples: one job in dispatches of about half a second, many jobs as one vmapped program."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.build import as_config
from diffsde.couplings.coupling import Coupling
from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.interpolants import path_times
from diffsde.inverse.problem import InverseProblem
from diffsde.processes import Process
from diffsde.runs import machine, processes, progress
from diffsde.runs.machine import Machine
from diffsde.runs.sample_config import SampleConfig
from diffsde.runs.sampler_search import Found
from diffsde.samplers import Grid, LoopSettings, Sampler, Saving, simulate
from diffsde.samplers.loop import (
    ChunkedLoop,
    Simulated,
    Trajectory,
    alike,
    chunked,
    loop_end_compiled,
    loop_points_compiled,
    loop_start_compiled,
    loop_steps_compiled,
    padded,
)
from diffsde.sharding import Sharding, member_sharding, replicate, shard_members
from diffsde.step_choice import StepChoice
from diffsde.types import Array, Key

SEGMENT = 0.5  # target duration of one dispatch in seconds
PATIENCE = 3.0  # seconds up to which a simulation shows no line of progress


class SimulationInputs(NamedTuple):
    """The arguments of `simulate` for a compiled program: times are padded to LENGTH + 1 or more, `steps` () are taken.

    field: a field, or a process.
    """

    sampler: Sampler
    field: Field | Process
    x: Array
    times: Array
    key: Key
    condition: Any
    steps: Array


class SteppedJob(abc.ABC):
    """A job that the loop steps: n starting points x0 (n, *shape), the times `grid`, and what is stepped, `inputs`.

    saving: which states are saved; None: none. warnings: printed when the work begins, after all jobs that are refused.
    """

    config: dict[str, Any]
    out: Path
    machine: Machine
    n: int
    x0: Array
    steps: int
    grid: Array
    last: str
    coupled: bool
    condition: Any
    saving: Saving | None
    warnings: list[str]

    @abc.abstractmethod
    def inputs(self) -> SimulationInputs:
        """The arguments of the compiled program, the times padded so that it serves other numbers of steps."""

    def settings(self) -> LoopSettings:
        """The static settings that the job's program is compiled for."""
        return LoopSettings(self.last, self.coupled, self.saving)

    def group(self) -> Any:
        """The key of jobs that can be simulated as one program: equal for jobs of one structure."""
        return ensembles.kind(self.inputs()), self.settings()


@dataclasses.dataclass
class SampleJob(SteppedJob):
    """A job of drawing samples: the config, the field, the starting points x0, how to simulate, and the folder `out`.

    placed, grid: the resolved grid, and its times. choice: how the number of steps was chosen; None: by the user. known:
    whether there are data to compare with. data: the description of the data. source: the law at t = 0; None: N(0, I), on a
    Gaussian path. coupling: how its points were paired with the data's; None: independently.
    found: how sampler=best and grid=optimised were resolved; None: the user said which.
    """

    config: dict[str, Any]
    chosen: SampleConfig
    out: Path
    field: Field
    dataset: Dataset
    origin: str
    steps: int
    choice: StepChoice | None
    placed: Grid
    grid: Array
    last: str
    x0: Array
    labels: Array | None
    key_noise: Key
    key_true: Key
    problem: InverseProblem | None
    scaling: Scaling | None
    known: bool
    data: dict[str, Any]
    source: Dataset | None = None
    coupling: Coupling | None = None
    found: Found | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)

    def inputs(self) -> SimulationInputs:
        at, steps = padded(self.grid)
        return SimulationInputs(self.chosen.sampler, self.field, self.x0, at, self.key_noise, self.condition, steps)

    @property
    def n(self) -> int:  # type: ignore[override]  # here and below read-only, from what was chosen
        return self.chosen.n

    @property
    def machine(self) -> Machine:  # type: ignore[override]
        return self.chosen.machine

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        return self.chosen.coupled

    @property
    def saving(self) -> Saving | None:  # type: ignore[override]
        every, keep = self.chosen.save_every, self.chosen.keep
        return None if every is None else Saving(every, keep, (self.steps - 1) // every)

    @property
    def condition(self) -> Any:
        """The condition of the samples, leaves (n, ...), in the form that Field.bind takes per sample."""
        return self.labels if self.problem is None else self.problem.condition(self.chosen.n, self.labels)

    @property
    def guided(self) -> bool:
        """Whether the field is guided, so that its samples follow another law than the data's."""
        return self.chosen.guided

    @property
    def data_labels(self) -> np.ndarray | None:
        """The labels (n,) of the samples; None where there are none, and backward in time, where they are of the starting points."""
        return None if self.labels is None or self.chosen.direction == "backward" else np.asarray(self.labels)

    @property
    def plain(self) -> bool:
        """Whether the samples' law (or prior) is the whole law of the data: no labels, no guidance."""
        return self.labels is None and not self.guided


class SimulationBatch(NamedTuple):
    """The simulations of a group's jobs, and the seconds of the whole group: wall, CPU, compilation."""

    found: list[Simulated]
    seconds: float
    cpu_seconds: float
    compiling: float


def simulate_jobs(group: Sequence[SteppedJob]) -> SimulationBatch:
    """Simulate jobs of one structure by one program; prints their warnings."""
    for line in dict.fromkeys(line for job in group for line in job.warnings):
        progress.warn(line)
    mesh = machine.mesh(group[0].machine.devices)
    if len(group) == 1 and mesh is None:
        return in_segments(group[0])
    with progress.working("compiling and sampling"):
        return at_once(group, mesh)


def at_once(group: Sequence[SteppedJob], mesh: Any) -> SimulationBatch:
    """Simulate many jobs vmapped, or one job sharded over devices, in one dispatch.

    Each member has its own number of steps; members that finish early wait for the others.
    """
    compiler, settings, many = machine.Compiler(), group[0].settings(), len(group) > 1
    if many:
        inputs, split = ensembles.stack([job.inputs() for job in group])
        arguments: tuple[Any, ...] = (shard_members(member_sharding(mesh, len(group)), inputs, split),)
        program = compiler(simulate_members, *arguments, settings=settings, split=split)
    else:
        arguments = (shared_out(group[0], Sharding(mesh, shard=False)),)
        program = compiler(simulate_shared, *arguments, settings=settings)
    begin = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(program(*arguments))
    seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    found = processes.all_gather(found)
    each = [first(ensembles.member(found, i) if many else found, job.n) for i, job in enumerate(group)]
    return SimulationBatch(each, seconds, cpu_seconds, compiler.seconds)


@partial(jax.jit, static_argnames=("split", "settings"))
def simulate_members(inputs: SimulationInputs, split: tuple[bool, ...], settings: LoopSettings) -> Simulated:
    """`simulate` for m jobs at once: `inputs`, `split` from ensembles.stack; results stacked (m, ...)."""
    return ensembles.over_members(lambda inputs: simulate_from(inputs, settings), split, inputs)


def simulate_from(inputs: SimulationInputs, settings: LoopSettings) -> Simulated:
    """`simulate` with its arguments from SimulationInputs."""
    return simulate(*inputs, settings)


simulate_shared = jax.jit(simulate_from, static_argnames="settings")


def in_segments(job: SteppedJob) -> SimulationBatch:
    """Simulate one job, a few steps per dispatch of one program; bit for bit the same as in a single dispatch."""
    asked, compiler, saving = job.inputs(), machine.Compiler(), job.saving
    every, keep = (None, None) if saving is None else (saving.every, saving.keep)
    loop = ChunkedLoop(chunked(asked.field, asked.x, asked.condition), job.last, job.coupled)
    none, sampler = np.asarray(0, np.int32), asked.sampler
    with progress.working("compiling"):
        inputs, state = compiler(loop_start_compiled, *asked, loop=loop)(*asked)
        advance = compiler(loop_steps_compiled, inputs, state, none, none, loop=loop)
        finish = compiler(loop_end_compiled, inputs, state, loop=loop)
    progress.begun("sampling")
    saved, loops = [], job.steps if alike(sampler, loop) else job.steps - 1
    begin = time.perf_counter(), time.process_time()
    with progress.Steps("sample", job.steps, patience=PATIENCE) as bar:
        pace = Pace(loops, bar)
        while pace.done < loops:
            count = pace.next(every)
            state, mark = advance(inputs, state, np.asarray(pace.done, np.int32), np.asarray(count, np.int32))
            pace.begun(count, mark)
            if every and pace.done % every == 0 and pace.done < job.steps:
                saved.append(loop_points_compiled(sampler, state, loop=loop, keep=keep))
        found = jax.block_until_ready(finish(inputs, state))
        bar.update(job.steps)
    seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    if every:
        places = [*range(0, len(saved) * every + 1, every), job.steps]
        ends = (end[:keep] for end in (job.x0, found.x))
        states = np.stack([np.asarray(state) for state in (next(ends), *saved, next(ends))])
        found = found._replace(trajectory=Trajectory(jnp.asarray(np.asarray(job.grid)[places]), jnp.asarray(states)))
    return SimulationBatch([found], seconds, cpu_seconds, compiler.seconds)


class Pace:
    """The number of steps per dispatch, adapted to take about SEGMENT seconds.

    A dispatch is begun before the last one has finished, whose end is then awaited, timed and shown as progress.
    """

    def __init__(self, total: int, bar: progress.Steps) -> None:
        self.total, self.bar, self.done, self.wish = total, bar, 0, 1
        self.waiting: tuple[int, int, Any] | None = (
            None  # of the dispatch under way: steps done at its end, its steps, an array to wait for
        )
        self.since = time.perf_counter()

    def next(self, every: int | None) -> int:
        """Number of steps of the next dispatch, which ends at a multiple of `every` at the latest."""
        count = min(self.wish, self.total - self.done)
        return min(count, every - self.done % every) if every else count

    def begun(self, count: int, mark: Any) -> None:
        """Record a dispatch, and wait for the one before it."""
        self.done += count
        before, self.waiting = self.waiting, (self.done, count, mark)
        if before is None:
            return
        done, steps, end = before
        jax.block_until_ready(end)
        now = time.perf_counter()
        self.wish = max(1, min(8 * max(steps, count), int(SEGMENT * steps / max(now - self.since, 1e-9))))
        self.since = now
        self.bar.update(done)


def shared_out(job: SteppedJob, sharding: Sharding) -> SimulationInputs:
    """The inputs with points sharded over all devices, padded with the first points to divide evenly; the rest replicated."""
    rows = np.arange(-(-job.n // sharding.mesh.size) * sharding.mesh.size) % job.n
    points, condition = jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(leaf)[rows], sharding.batch()), (job.x0, job.condition)
    )
    sampler, field, _, at, key, _, steps = job.inputs()
    sampler, field, at, key, steps = replicate(sharding, (sampler, field, at, key, steps))
    return SimulationInputs(sampler, field, points, at, key, condition, steps)


def first(found: Simulated, n: int) -> Simulated:
    """The simulation of the first n points."""
    x, trajectory, nfe = found
    if trajectory is not None:
        trajectory = trajectory._replace(x=trajectory.x[:, :n])
    return Simulated(x[:n], trajectory, None if nfe is None else nfe[:n])


def check_finite(x: Array, sampler: Sampler, remedy: str | None = None) -> None:
    """Raise UserError where some of the samples x (n, *shape) are not finite; remedy: what may help, None: of a field."""
    if bool(jnp.isfinite(x).all()):
        return
    bad = int((~jnp.isfinite(x.reshape(len(x), -1))).any(axis=1).sum())
    noise = " or a smaller sigma" if getattr(sampler, "diffusion", None) else ""
    mend = "a larger sampler.rtol and sampler.atol" if sampler.adaptive else f"more steps{noise}"
    raise UserError(f"{bad} of {len(x)} samples are NaN or infinite; take {remedy or mend}")


def evaluations_made(job: SteppedJob, sampler: Sampler, found: Simulated) -> dict[str, float]:
    """nfe: the evaluations for each sample; of an adaptive method their mean, and nfe_max."""
    if found.nfe is None:
        return {"nfe": sampler.nfe(job.steps, job.last)}
    return {"nfe": float(found.nfe.mean()), "nfe_max": int(found.nfe.max())}


def how_drawn(job: SampleJob, found: Simulated) -> dict[str, Any]:
    """A record of how the samples were drawn: n, nfe, steps, ... Raises UserError where some are not finite."""
    chosen, at = job.chosen, np.asarray(job.grid)
    check_finite(found.x, chosen.sampler)
    nfe = evaluations_made(job, chosen.sampler, found)
    at = path_times(job.field, at)
    ends = {"start": float(at[0]), "end": float(at[-1])}
    choice: dict[str, Any] = {} if job.choice is None else {"steps_chosen": job.choice._asdict()}
    if job.found is not None:
        choice["found"] = job.found._asdict()
    return {"n": chosen.n, **nfe, "steps": job.steps, **choice, "last": job.last, **ends, "grid": as_config(job.placed)}
