"""A trained run, read back from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffsde import checkpoints
from diffsde.build import read
from diffsde.errors import UserError
from diffsde.fields import LearnedField
from diffsde.nets import settle, structure
from diffsde.runs import folder, report
from diffsde.runs.fitting import best_step, read_log
from diffsde.runs.train import TrainConfig, field_of, first
from diffsde.types import Moments


def restore(
    run_folder: Path, ema: float | None = None, which: str = "last", precision: str | None = None
) -> tuple[TrainConfig, LearnedField, int]:
    """The config, the field and its step from a run folder. Needs no dataset.

    ema: which parameter average, by its decay; 0: the parameters themselves; None: the first. which: the checkpoint:
    last, best, or its step. precision: the type of the network's products, None: the run's own.
    """
    config = read(TrainConfig, folder.read_config(run_folder))
    where = run_folder / "checkpoints"
    step, tree = checkpoints.load(where, report.warn, step=which_step(run_folder, which))
    moments = Moments(**tree["moments"])
    net = settle(config.net, moments.mean.shape, folder.read_backend(run_folder))
    graph, shapes = structure(net, moments.mean.shape, precision or config.precision)
    params = chosen_average(config, tree["state"], ema)
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, shapes):
        raise UserError(f"run: the checkpoint in '{run_folder}' is of another net than its config.json says")
    return config, field_of(config, moments, graph, params), step


def which_step(run_folder: Path, which: str) -> int | None:
    """The step of the checkpoint that is meant; None: the newest. Raises UserError for none such."""
    if which == "last":
        return None
    if which == "best":
        lines = read_log(run_folder / "metrics.jsonl") if (run_folder / "metrics.jsonl").exists() else []
        saved = checkpoints.steps(run_folder / "checkpoints")
        if (step := best_step(lines, saved)) is None:
            raise UserError("checkpoint=best needs a run that was trained with best=true")
        return step
    if not which.isdigit():
        raise UserError(f"checkpoint is '{which}'; it must be last, best, or a step")
    return int(which)


def chosen_average(config: TrainConfig, state: dict[str, Any], ema: float | None) -> Any:
    """One of the saved parameter averages, or the parameters themselves."""
    if ema is None:
        return first(state["ema"])
    if ema in config.decays:
        return jax.tree.map(lambda leaf: leaf[config.decays.index(ema)], state["ema"])
    if ema == 0:
        return state["params"]
    kept = ", ".join(f"{decay:g}" for decay in config.decays)
    raise UserError(f"ema is {ema:g}; the run kept {kept}, and 0 gives the parameters themselves")
