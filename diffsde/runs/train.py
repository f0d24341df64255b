"""diffsde train: fit a field to a dataset along a path."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import checkpoints
from diffsde.build import name_of, positive, read, valid_seed
from diffsde.datasets import Dataset, MixtureDataset, measure, point_shape
from diffsde.errors import UserError
from diffsde.fields import LearnedField
from diffsde.nets import Net, count, initialise, structure
from diffsde.objectives import Objective, Problem, has_finite_loss, resolve_weight
from diffsde.optimizers import Optimizer
from diffsde.paths import GaussianPath
from diffsde.plots.loss import loss_curve
from diffsde.runs import folder, report, runtime
from diffsde.runs.pictures import save_figure
from diffsde.time_laws import TimeLaw
from diffsde.training import Run, TrainState, loss_floor, start, train_steps
from diffsde.types import Moments

FLOOR_EXAMPLES = 262_144


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The knobs of configs/train.yaml, which documents each."""

    dataset: Dataset
    path: GaussianPath
    objective: Objective
    time: TimeLaw
    net: Net
    optimizer: Optimizer
    steps: int
    batch_size: int
    seed: int
    lr: float | None
    ema: float
    precondition: bool
    log_every: int
    cache: bool
    cache_dir: str | None
    threads: int | None = None

    def check(self) -> None:
        positive(self, "steps", "batch_size", "log_every")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be in [0, 1)")
        valid_seed(self.seed)


def train(config: dict[str, Any], out: Path) -> float:
    """Train, write the run folder `out`, and return the final loss (averaged over the last tenth of the steps)."""
    runtime.use_threads(config)
    chosen = read(TrainConfig, config)
    folder.claim(out, "config.json")
    runtime.keep_programs(chosen.cache, chosen.cache_dir)
    run, params = prepare(chosen)
    floor = known_floor(run, chosen.dataset)
    folder.write_config(out, "train", config)

    compiler = runtime.Compiler()
    state = start(run, params)
    chunk = min(chosen.log_every, chosen.steps)
    program = compiler(train_steps, run, state, jnp.asarray(chunk), chunk=chunk)
    begin = time.perf_counter(), time.process_time()
    state, losses = fit(program, run, state, chosen.steps, chunk, out / "metrics.jsonl")
    seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]

    checkpoints.save(out / "checkpoints", chosen.steps, saved_tree(state, run.problem.moments))
    final = float(np.mean(losses[-max(1, len(losses) // 10) :]))
    summary = {
        "steps": chosen.steps,
        "parameters": count(params),
        "loss": {"value": final} | ({"floor": floor[0], "floor_error": floor[1]} if floor else {}),
        "weight": run.problem.objective.weight,
        "data_std": float(run.problem.moments.std),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_compile": compiler.seconds,
        "device": jax.devices()[0].device_kind,
    }
    names = named(chosen)
    curve = save_figure(out / "plots" / "loss.png", loss_curve(losses, chunk, chosen.steps, floor and floor[0], names))
    folder.write_json(out / "summary.json", summary)
    report.table(
        f"trained {names}",
        [
            ("parameters", f"{summary['parameters']:,}"),
            (
                "loss",
                f"{final:.4f}" + (f"  (irreducible, on average: {floor[0]:.4f} +- {floor[1]:.4f})" if floor else ""),
            ),
            ("time", f"{seconds:.1f} s + {compiler.seconds:.1f} s to compile, {chosen.steps / seconds:.0f} steps/s"),
            ("run", report.shown(out)),
            ("picture", report.shown(curve)),
            ("next", "diffsde sample sampler=em sigma=0.5" + f" run={report.shown(out)}"),
        ],
    )
    return final


def named(config: TrainConfig) -> str:
    """dataset=gmm path=ot objective=cfm and the like."""
    return f"dataset={name_of(config.dataset)} path={name_of(config.path)} objective={name_of(config.objective)}"


def prepare(chosen: TrainConfig) -> tuple[Run, Any]:
    """The run and fresh parameters, with what the user should know about the loss said."""
    arrays = chosen.dataset.load()
    key_init, key_measure, key_train = jax.random.split(jax.random.key(chosen.seed), 3)
    shape = point_shape(chosen.dataset, arrays)
    moments = measure(chosen.dataset, arrays, key_measure)
    if not moments.std > 0:
        raise UserError("dataset: all points are equal; there is nothing to learn")
    graph, _ = structure(chosen.net, shape)
    asked = Problem(chosen.path, chosen.objective, chosen.time, moments, graph, chosen.precondition)
    problem = resolve_weight(asked)
    if problem.objective.weight != asked.objective.weight and problem.objective.weight != "unit":
        report.say(
            f"objective.weight: {problem.objective.weight}, because the unweighted {problem.objective.kind} loss"
            " has no finite expectation on this path"
        )
    if not has_finite_loss(problem):
        report.warn(
            f"the {problem.objective.kind} loss with weight {problem.objective.weight} has no finite expectation here;"
            " rare examples will dominate it (precondition=true objective.weight=balanced mends that)"
        )
    run = Run(
        problem,
        chosen.dataset,
        arrays,
        chosen.optimizer,
        key_train,
        jnp.asarray(chosen.steps),
        chosen.ema,
        chosen.batch_size,
    )
    return run, initialise(chosen.net, shape, key_init)


def known_floor(run: Run, dataset: Dataset) -> tuple[float, float] | None:
    """The irreducible loss and its standard error, where the data's law is known and the loss has an expectation."""
    if not isinstance(dataset, MixtureDataset) or not has_finite_loss(run.problem):
        return None
    value, error = loss_floor(run, dataset.mixture(), jax.random.fold_in(run.key, 2**31 - 1), FLOOR_EXAMPLES)
    return float(value), float(error)


def fit(program: Any, run: Run, state: TrainState, steps: int, chunk: int, log: Path) -> tuple[TrainState, list[float]]:
    """All steps, chunk by chunk: the state, and the mean loss of each chunk, also written to `log` a line each.

    The next chunk is dispatched before the last one's losses are read, so that the device never waits.
    """
    losses: list[float] = []
    begin = time.perf_counter()
    with open(log, "w") as lines, report.Steps("train", steps) as progress:
        waiting: list[tuple[int, int, jax.Array]] = []

        def read_out(until: int) -> None:
            while len(waiting) > until:
                step, counted, values = waiting.pop(0)
                loss = float(np.mean(np.asarray(values)[:counted]))
                record = {"step": step, "loss": loss, "seconds": round(time.perf_counter() - begin, 4)}
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                losses.append(loss)
                progress.update(step, f"loss {loss:.4f}")
                if not math.isfinite(loss):
                    raise UserError(f"the loss became {loss} before step {step}; try a smaller lr, see {log}")

        for done in range(0, steps, chunk):
            counted = min(chunk, steps - done)
            state, values = program(run, state, jnp.asarray(counted))
            waiting.append((done + counted, counted, values))
            read_out(until=1)
        read_out(until=0)
    return state, losses


def saved_tree(state: TrainState, moments: Moments) -> dict[str, Any]:
    """What a checkpoint holds: the state, and the data's moments, without which the network cannot be read."""
    return {"state": state._asdict(), "moments": moments._asdict()}


def restore(run_folder: Path) -> tuple[TrainConfig, LearnedField, int]:
    """The config, the field of the averaged parameters, and its step, from a run folder. Needs no dataset."""
    config = read(TrainConfig, folder.read_config(run_folder))
    step, tree = checkpoints.load(run_folder / "checkpoints")
    moments = Moments(**tree["moments"])
    graph, shapes = structure(config.net, moments.mean.shape)
    params = tree["state"]["ema"]
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, shapes):
        raise UserError(f"run: the checkpoint in '{run_folder}' is of another net than its config.json says")
    return config, LearnedField(config.path, params, moments, graph, config.objective.kind, config.precondition), step
