"""Couplings that are pairs (y, z), made before the steps that learn them: of the user's files, by a trained run, or by the run itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.couplings.coupling import Coupling
from diffsde.types import Array, Key, choice, on_device

HELD_OUT = 0.1  # of the pairs that a run makes: kept from training, for the validation loss


class PairSet(NamedTuple):
    """n pairs in the model's units: source y (n, *shape), data z (n, *shape), labels (n,) of the z, or None.

    joint (): whether row i of y goes with row i of z. Where not, the two are drawn independently of each other. held_out (): how
    many of the last rows are kept from training.
    """

    y: Array
    z: Array
    label: Array | None
    joint: Array
    held_out: Array


def pair_set(y: Any, z: Any, label: Any = None, joint: bool = True, held_out: float = 0.0) -> PairSet:
    """A PairSet on the device; held_out: as a share."""
    on = [on_device(each) for each in (y, z)]
    return PairSet(
        *on, None if label is None else on_device(label), on_device(joint), on_device(int(held_out * len(y)))
    )  # type: ignore[call-arg]


def draw(pairs: PairSet, key: Key, count: int) -> tuple[Array, Array, Array | None]:
    """`count` pairs to train on, drawn with replacement: y, z (count, *shape) and the labels (count,)."""
    rows, others = jax.random.randint(key, (2, count), 0, len(pairs.y) - pairs.held_out)
    ends = jnp.where(pairs.joint, rows, others)
    return pairs.y[rows], pairs.z[ends], None if pairs.label is None else pairs.label[ends]


class PairCoupling(Coupling):
    """A coupling that is a set of pairs, from which each step draws."""


@choice
class FilePairs(PairCoupling):
    """pairs: row i of the source's file goes with row i of the data's; or the arrays y (source) and z (data) of an .npz `file`."""

    file: str = ""


@choice
class RunPairs(PairCoupling):
    """run: the source's points y, and where a trained run takes each of them, z (reflow: 2209.03003, section 2.2).

    run: the folder of the run. pairs: how many. steps: of Heun's method along its ODE; with sigma > 0 of Euler-Maruyama along its
    SDE of this sigma. checkpoint: of the run: last, best, or a step.
    """

    run: str = "latest"
    pairs: int = 50_000
    steps: int = 100
    sigma: float = 0.0
    checkpoint: str = "last"

    def check(self) -> None:
        if not self.run:
            raise ValueError("run is empty; name the run that makes the pairs, e.g. coupling.run=latest")


@choice
class IteratedPairs(PairCoupling):
    """iterated: independent at first, then pairs that the run makes itself, again at the end of each round.

    Without noise on the way by its ODE, from the source: rectified flow, iterated (2209.03003). On path=bridge by its SDE of
    the bridge's sigma, alternately backward from the data and forward from the source, backward before the last round, whose
    data are then true ones: iterated Markovian fitting (DSBM-IMF, 2303.16852). rounds: how many, equal shares of the run's
    steps. pairs: how many. steps: from end to end.
    """

    rounds: int = 5
    pairs: int = 20_000
    steps: int = 100

    def check(self) -> None:
        if self.rounds < 2:
            raise ValueError("rounds is 1, in which no pairs are made; say 2 or more, or coupling=independent")

    def backward(self, made: int) -> bool:
        """Whether the pairs that are made after `made` rounds, 1 to rounds - 1, come backward from the data, by an SDE."""
        return (self.rounds - 1 - made) % 2 == 0


def round_ends(coupling: IteratedPairs, steps: int) -> tuple[int, ...]:
    """The last step of each round, of `steps` in all."""
    return tuple(steps * (i + 1) // coupling.rounds for i in range(coupling.rounds))
