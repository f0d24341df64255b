"""What is measured of a run at each line of its log: the loss of points kept from training, or the regret where the law is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.datasets import Batch
from diffsde.errors import UserError
from diffsde.objectives import Regression
from diffsde.runs import processes
from diffsde.runs.train_config import TrainConfig, in_precision
from diffsde.training import Run, TrainState, held_out_loss, regret

EXAMPLES = 1000  # whose loss is a line's; of fewer points each is taken several times
REGRET_EXAMPLES = 2048  # of a line: less than 2% of the cost of its 100 steps
Check = Callable[[TrainState], dict[str, Any]]  # the figures of a state that stand in a line of the log


def check_of(chosen: TrainConfig, run: Run) -> Check | None:
    """What is measured at each line; None where there is nothing, and where several processes share the parameters."""
    if chosen.dataset.law() is not None:
        return regret_of(run)
    return validation_of(chosen, run)


def regret_of(run: Run) -> Check | None:
    """Of a state the regret of its first parameter average, on the same examples each time; None for a classifier."""
    if not isinstance(run.problem.objective, Regression) or processes.is_distributed():
        return None
    alone, key = dataclasses.replace(run, sharding=None), jax.random.fold_in(run.key, 2**31 - 6)

    def check(state: TrainState) -> dict[str, Any]:
        return {"regret": regret(alone, run.arrays, ensembles.member(state.ema, 0), key, REGRET_EXAMPLES)}

    return check


def validation_of(chosen: TrainConfig, run: Run) -> Check | None:
    """Of a state, the loss of points that are kept from training and its error; None where there are none, and where
    several processes share the parameters.
    """
    if not chosen.dataset.has_test or processes.is_distributed():
        return None
    held_out = in_precision(chosen.precision, chosen.dataset.held_out())
    if run.classes and held_out.y is None:
        raise UserError(
            "dataset.test: the test points have no labels, and the loss is of labelled ones; give theirs too"
        )
    key, key_rows = (jax.random.fold_in(run.key, 2**31 - 4 - i) for i in range(2))
    rows = np.asarray(jax.random.permutation(key_rows, len(held_out.x)))[:EXAMPLES]
    batch = Batch(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], tuple(held_out)))
    alone = dataclasses.replace(run, arrays=None)

    def check(state: TrainState) -> dict[str, Any]:
        value, error = held_out_loss(alone, batch, state.params, key, repeats=-(-EXAMPLES // len(rows)))
        return {"validation_loss": value, "validation_error": error}

    return check


def said_validation(held_out: list[tuple[float, float]], loss: float) -> str:
    """The last loss of points kept from training, and where the network has begun to learn the others by heart."""
    value, error = held_out[-1]
    least = min(range(len(held_out)), key=lambda i: held_out[i][0])
    text = f"{value:.4f} +- {error:.4f}, of points kept from training"
    if value > held_out[least][0] + 3 * error:
        text += f"; it was {held_out[least][0]:.4f} after {100 * (least + 1) // len(held_out)}% of the steps: fewer would do"
    elif value > loss + 3 * error:
        text += f"; above the training loss by {value - loss:.2g}"
    return text
