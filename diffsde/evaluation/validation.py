"""Validation at each line of a run's log: the loss on held-out points, or the regret where the law of the data is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.couplings.pairs import PairSet
from diffsde.datasets import Batch
from diffsde.errors import UserError
from diffsde.metrics.figure_text import SMALL, decimals, shown_loss, with_places
from diffsde.mixtures import Mixture
from diffsde.objectives import Classification, Likelihood
from diffsde.pairs_ahead import couple_held_out
from diffsde.runs import processes
from diffsde.runs.train_config import TrainConfig, in_precision
from diffsde.training import Pairs, Run, TrainState, at_step, evaluations, held_out_loss, learns_in_rounds, regret

EXAMPLES = 1000  # least examples of a validation loss; fewer held-out points are each used several times
SHARE = 0.1  # ... and most of them, as a share of the examples of a line's steps: their losses need no gradient
REGRET_EXAMPLES = 2048  # examples of a regret: less than 2% of the cost of the 100 steps of a line
Check = Callable[[TrainState], dict[str, Any]]  # entries of a line of the log, computed from the state


def check_of(chosen: TrainConfig, run: Run) -> Check | None:
    """The run's validation, and beside it the evaluations that a step of an ODE's training takes; None where there is neither."""
    found = validation_or_regret(chosen, run)
    if not isinstance(run.problem.objective, Likelihood) or processes.is_distributed():
        return found
    alone, key = dataclasses.replace(run, sharding=None), jax.random.fold_in(run.key, 2**31 - 8)

    def check(state: TrainState) -> dict[str, Any]:
        return {**(found(state) if found else {}), "nfe": evaluations(alone, state.params, key)}

    return check


def validation_or_regret(chosen: TrainConfig, run: Run) -> Check | None:
    """The regret where the law is known, else the validation loss; None where neither is available."""
    law = chosen.dataset.law()
    if run.pair_set is not None:
        return validation_of_pairs(run, run.pair_set)
    if run.source is None:
        return validation_of(chosen, run) if law is None else regret_of(run, run.arrays)
    source = run.source.law() if run.coupling is None else None
    if law is None or source is None:
        return validation_of(chosen, run)
    return regret_of(run, law, source)


def regret_of(run: Run, law: Mixture, source: Mixture | None = None) -> Check | None:
    """A check that gives the regret of the first parameter average; None for a classifier and for several processes.

    law, source: of the data, and between two laws of the source.
    """
    if isinstance(run.problem.objective, Classification) or processes.is_distributed():
        return None
    alone, key = dataclasses.replace(run, sharding=None), jax.random.fold_in(run.key, 2**31 - 6)

    def check(state: TrainState) -> dict[str, Any]:
        average = ensembles.member(state.ema, 0)
        return {"regret": regret(of_round(alone, state), law, average, key, REGRET_EXAMPLES, source)}

    return check


def of_round(run: Run, state: TrainState) -> Run:
    """The run with the problem of the round that the step of `state` is in, of an objective that learns in rounds; else unchanged."""
    if not learns_in_rounds(run.problem.objective):
        return run
    return dataclasses.replace(run, problem=at_step(run, run.problem, state.step, state.frozen))


def validation_of(chosen: TrainConfig, run: Run) -> Check | None:
    """A check that gives the loss on held-out points, those for validation where there are any, and its standard error.

    None where there is no test split, and for several processes. Raises UserError where held-out points lack labels.
    """
    if not chosen.dataset.has_test or processes.is_distributed():
        return None
    held_out = in_precision(chosen.precision, chosen.dataset.validated().held_out())
    if run.classes and held_out.y is None:
        raise UserError(
            "dataset.test: the test points have no labels, and the loss is of labelled ones; give theirs too"
        )
    key, key_rows = (jax.random.fold_in(run.key, 2**31 - 4 - i) for i in range(2))
    most = EXAMPLES
    if chosen.dataset.has_validation:  # a checkpoint is chosen by them: the fewer, the more by chance
        most = max(EXAMPLES, int(SHARE * chosen.batch_size * min(chosen.log_every, chosen.steps)))
    rows = np.asarray(jax.random.permutation(key_rows, len(held_out.x)))[:most]
    batch = Batch(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], tuple(held_out)))
    alone, repeats = dataclasses.replace(run, arrays=None), -(-EXAMPLES // len(rows))
    if run.coupling is not None:
        alone = dataclasses.replace(alone, pairs=couple_held_out(run, batch, key, repeats))

    def check(state: TrainState) -> dict[str, Any]:
        value, error = held_out_loss(of_round(alone, state), batch, state.params, key, repeats=repeats)
        return {"validation_loss": value, "validation_error": error}

    return check


def validation_of_pairs(run: Run, pairs: PairSet) -> Check | None:
    """A check that gives the loss on the pairs that are kept from training; None where there are none."""
    count = int(pairs.held_out)
    if not count or processes.is_distributed():
        return None
    kept = Pairs(*jax.tree.map(lambda leaf: leaf[-count:], (pairs.y, pairs.z, pairs.label)))
    alone, batch, key = (
        dataclasses.replace(run, pair_set=None),
        Batch(kept.z, kept.label),
        jax.random.fold_in(run.key, 2**31 - 4),
    )
    repeats = -(-EXAMPLES // count)
    alone = dataclasses.replace(
        alone, pairs=Pairs(*jax.tree.map(lambda leaf: jnp.tile(leaf, (repeats,) + (1,) * (leaf.ndim - 1)), tuple(kept)))
    )

    def check(state: TrainState) -> dict[str, Any]:
        value, error = held_out_loss(alone, batch, state.params, key, repeats=repeats)
        return {"validation_loss": value, "validation_error": error}

    return check


def said_validation(held_out: np.ndarray, loss: float) -> str:
    """The last of the validation losses held_out (lines, 2), each with its error, as text, with a remark where it has risen again (overfitting) or exceeds the training loss."""
    value, error = held_out[-1].tolist()
    least = int(held_out[:, 0].argmin())
    places = 4 if value >= SMALL else decimals(error)
    text = f"{with_places(value, places)} +- {with_places(error, places)}, of points kept from training"
    if value > held_out[least, 0] + 3 * error:
        text += f"; it was {shown_loss(float(held_out[least, 0]))} after {100 * (least + 1) // len(held_out)}% of the steps: fewer would do"
    elif value > loss + 3 * error:
        text += f"; above the training loss by {value - loss:.2g}"
    return text
