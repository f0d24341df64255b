"""The memory that a command's arrays will take at least, held against what there is before any is taken or a program compiled."""

from __future__ import annotations

import math
from typing import Any

import jax

from diffsde import memory

SAMPLES = 2  # arrays of all samples that are held at once on the host: the ends, and these in the data's own units
STEPPED = 3  # arrays of a batch: its points, its noise, and x_t
TRAINED = 2  # copies of a network's parameters beside their averages: the parameters and their gradient


def require_samples(n: int, shape: tuple[int, ...], knob: str = "n", arrays: int = SAMPLES) -> None:
    """Raise UserError where n samples of points (*shape,) are more than the memory; arrays: how many of them are held at once."""
    what = f"{knob}={n:,} points of {counted(math.prod(shape), 'number')}"
    memory.require(arrays * n * _point(shape), what, f"take a smaller {knob}=")


def require_states(states: int, keep: int, shape: tuple[int, ...]) -> None:
    """Raise UserError where the states of a trajectory are more than the memory."""
    numbers = counted(math.prod(shape), "number")
    what = f"a trajectory of {counted(states, 'state')} of {counted(keep, 'sample')} of {numbers}"
    memory.require(2 * states * keep * _point(shape), what, "take a larger save_every= or a smaller keep=")


def require_pairs(pairs: int, shape: tuple[int, ...]) -> None:
    """Raise UserError where so many pairs of points, made by steps from one end to the other, are more than the memory."""
    require_samples(pairs, shape, "coupling.pairs", arrays=2 * SAMPLES)


def require_means(batch_size: int, points: int) -> None:
    """Raise UserError where the weights of so many points for each example of a batch are more than the memory."""
    what = f"posterior_points={points:,} for each of batch_size={batch_size:,} examples"
    if _on_host():
        memory.require(4 * batch_size * points, what, "take fewer of either")


def require_batch(batch_size: int, shape: tuple[int, ...], accumulate: int) -> None:
    """Raise UserError where the examples that are computed together are more than the memory."""
    count = batch_size // accumulate
    what = f"batch_size={batch_size:,} examples of {counted(math.prod(shape), 'number')}"
    if _on_host():
        memory.require(STEPPED * count * _point(shape), what, "take a smaller batch_size=, or accumulate=")


def require_network(shapes: Any, averages: int) -> None:
    """Raise UserError where a network of parameters of these shapes cannot be trained in the memory."""
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    what = f"a network of {counted(count, 'parameter')}, trained with {counted(averages, 'average')} of them"
    if _on_host():
        memory.require(
            (TRAINED + averages) * count * 4, what, "take a smaller net (net.widths=, net.width=, net.depth=)"
        )


def counted(count: int, what: str) -> str:
    """1 number, 1,000 numbers."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _point(shape: tuple[int, ...]) -> int:
    """Bytes of one point."""
    return math.prod(shape) * jax.dtypes.canonicalize_dtype(float).itemsize


def _on_host() -> bool:
    """Whether programs run in this machine's memory alone; an accelerator's is less, and XLA says what it lacks."""
    return jax.default_backend() == "cpu" and jax.process_count() == 1
