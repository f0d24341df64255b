"""Training on from a run: with more steps than it was begun for, or from its parameters in a new run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.couplings import IteratedPairs
from diffsde.errors import UserError
from diffsde.runs import folder, progress
from diffsde.runs.restore import restore_network
from diffsde.runs.train_config import TrainConfig, named, train_choices
from diffsde.training import learns_in_rounds


def lengthen(place: Path, chosen: TrainConfig, config: dict[str, Any], done: int) -> None:
    """Replace the config of the run in `place` by one with more steps.

    Allowed only if each of the `done` steps so far had the same learning rate as in the longer run, so that the result is
    that of a run begun with so many steps. Raises UserError otherwise, and for fewer steps than before.
    """
    begun = train_choices(folder.read_config(place))
    if chosen.steps == begun.steps:
        return
    about, optimizer = f"steps: '{place}' was begun for {begun.steps} steps", begun.optimizer
    if chosen.steps < begun.steps:
        raise UserError(f"{about}; give more than these, or begin another run")
    if isinstance(begun.coupling, IteratedPairs):
        raise UserError(
            f"{about} in {begun.coupling.rounds} rounds, equal shares of them, whose ends would move; begin another from its"
            f" parameters, with its other words too: diffsde train {named(begun)} init={place} steps={chosen.steps - done}"
        )
    if learns_in_rounds(begun.objective):
        raise UserError(
            f"{about} in rounds, equal shares of them, whose ends would move; begin another from its parameters, with its other"
            f" words too: diffsde train {named(begun)} init={place} steps={chosen.steps - done}"
        )
    at = jnp.arange(done)
    before, after = (np.asarray(jax.vmap(optimizer.rate, (None, 0))(n, at)) for n in (begun.steps, chosen.steps))
    if not np.allclose(before, after, rtol=1e-6):
        first = int(np.argmax(~np.isclose(before, after, rtol=1e-6)))
        raise UserError(
            f"{about}, and optimizer.schedule={optimizer.schedule} has let the learning rate fall for them from step {first} on"
            f" (constant would not have); begin another from its parameters, with its other words too: diffsde train {named(begun)} init={place} steps={chosen.steps - done}"
        )
    folder.replace_config(place, config | {"run": None})


def initial_params(chosen: TrainConfig, params: Any, classes: int) -> Any:
    """The parameter average of the run init=, to replace fresh `params`. Raises UserError where its net is another."""
    assert chosen.init is not None
    found = restore_network(Path(chosen.init), None, "last", chosen.precision, "init")
    if jax.tree.map(jnp.shape, found.params) != jax.tree.map(jnp.shape, params) or found.classes != classes:
        raise UserError(
            f"init: '{chosen.init}' has another net, for points of shape {found.moments.mean.shape} and {found.classes} labels;"
            " its net=, the shape of its points, and whether it is given labels, must be those of this run"
        )
    if (theirs := named(found.config)) != (mine := named(chosen)):
        progress.warn(f"init: '{chosen.init}' was trained with {theirs}, and this run has {mine}")
    return jax.tree.map(lambda leaf, fresh: jnp.asarray(leaf, fresh.dtype), found.params, params)
