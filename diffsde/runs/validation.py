"""The loss of points that are kept from training, beside that of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Batch, FiniteDataset
from diffsde.errors import UserError
from diffsde.runs import processes
from diffsde.runs.train_setup import TrainConfig, in_precision
from diffsde.training import Run, held_out_loss

EXAMPLES = 1000  # whose loss is a line's; of fewer points each is taken several times


def validation_of(chosen: TrainConfig, run: Run) -> Callable[[Any], Any] | None:
    """Of parameters, the loss of points that are kept from training and its error; None where there are none, and where
    several processes share the parameters.
    """
    if not isinstance(chosen.dataset, FiniteDataset) or not chosen.dataset.has_test or processes.several():
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
    return lambda params: held_out_loss(alone, batch, params, key, repeats=-(-EXAMPLES // len(rows)))


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
