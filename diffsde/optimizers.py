"""Optimizers and learning-rate schedules, from optax; the numbers are traced, so that one program serves all of them."""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, final

import jax.numpy as jnp
import optax

from diffsde.errors import UserError
from diffsde.types import Scalar, choice

DECAY = 0.2  # of the steps (2405.18392, section 3)
DECAYING = ("wsd", "wsd_linear")
# What is left of the peak rate when a share p of the run, or for those that are DECAYING of the decay, is over.
SCHEDULES: dict[str, Callable[[Scalar], Scalar]] = {
    "constant": lambda p: 1.0,
    "cosine": lambda p: (1 + jnp.cos(jnp.pi * p)) / 2,
    "wsd": lambda p: 1 - jnp.sqrt(p),
    "wsd_linear": lambda p: 1 - p,
}


def learning_rate(lr: Scalar, warmup: Scalar, schedule: str, decay: Scalar, steps: Scalar, step: Scalar) -> Scalar:
    """lr min(1, (step+1)/(warmup+1)), times (1 + cos(pi step/steps))/2, or (2405.18392) 1 until the last `decay` of the steps.

    wsd falls there as 1 - sqrt(p), wsd_linear as 1 - p, p from 0 to 1. optax's schedules want Python numbers; these are traced.
    """
    span = decay * steps if schedule in DECAYING else steps
    p = jnp.clip(1 - (steps - step) / span, 0.0, 1.0)
    return lr * jnp.minimum(1.0, (step + 1) / (warmup + 1)) * SCHEDULES[schedule](p)


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """x' = x - rate(step) (direction(clip(g)) + weight_decay x), and the numbers that all have.

    clip: the largest norm of all gradients together (1211.5063), which are scaled down to it; None: never.
    decay: the share of the steps in which wsd falls to 0; None: 0.2.
    """

    lr: float = 1e-2
    warmup: float = 100.0
    schedule: str = "cosine"
    decay: float | None = None
    clip: float | None = None

    @abc.abstractmethod
    def direction(self) -> optax.GradientTransformation:
        """From clipped gradients to the direction that the rate multiplies, the decay of weights in it."""

    @final
    def rate(self, steps: Scalar, step: Scalar) -> Scalar:
        """The learning rate of a step (0, 1, ...) of a run of so many."""
        decay = DECAY if self.decay is None else self.decay
        return learning_rate(self.lr, self.warmup, self.schedule, decay, steps, step)

    @final
    def transform(self, steps: Scalar) -> optax.GradientTransformation:
        """The optax transformation for a run of so many steps; its state has one structure, clipped or not."""
        clip = optax.identity() if self.clip is None else optax.clip_by_global_norm(self.clip)
        return optax.chain(clip, self.direction(), optax.scale_by_learning_rate(lambda step: self.rate(steps, step)))

    @final
    def check(self) -> None:
        if self.decay is not None and self.schedule not in DECAYING:
            raise ValueError(f"decay is {self.decay}; schedule={self.schedule} has none, take wsd or leave it null")


def is_kernel(name: str) -> bool:
    """Whether a parameter multiplies activations ("layers/0/kernel"); not a bias, a norm's scale, or an embedding."""
    return name.split("/")[-1] == "kernel"


def decay_kernels(weight_decay: Scalar) -> optax.GradientTransformation:
    """Adds weight_decay x, for kernels alone (1711.05101: apart from the gradient and its scaling).

    A bias multiplies no input and a norm's scale belongs at 1, so pulling them to 0 limits no gain; a row of an
    embedding would shrink in every step in which its label does not occur.
    """
    return optax.add_decayed_weights(weight_decay, lambda params: {name: is_kernel(name) for name in params})


@choice
class Adam(Optimizer):
    """Adam (1412.6980, algorithm 1): m/(sqrt(v) + eps), both averages corrected for their start at 0."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps)


@choice
class AdamW(Optimizer):
    """Adam with decoupled decay of the kernels (1711.05101, algorithm 2; the decay times the rate, as in PyTorch)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps), decay_kernels(self.weight_decay))


@choice
class Lion(Optimizer):
    """Lion (2302.06675, algorithm 2): sign(b1 m + (1 - b1) g), then m' = b2 m + (1 - b2) g, and decayed kernels.

    Every entry moves by the whole rate, so that it is a third to a tenth of Adam's, and the decay as much larger
    (section 5).
    """

    lr: float = 1e-3
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.1

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(b1=self.b1, b2=self.b2), decay_kernels(self.weight_decay))


@choice
class Muon(Optimizer):
    """Muon: hidden matrices move along U V^T of their momentum U S V^T, all else by Adam; kernels decay.

    Jordan et al., 2024 (kellerjordan.github.io/posts/muon): Nesterov's momentum, five steps of Newton and Schulz, whose
    singular values lie between 0.7 and 1.2, not at 1. Times rms sqrt(max(inputs, outputs)) (2502.16982, eq. 4), so that
    the root-mean-square entry is `rms`, about Adam's, and one rate and decay suit both. Which are hidden: `hidden`.
    """

    momentum: float = 0.95
    rms: float = 0.2
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def direction(self) -> optax.GradientTransformation:
        muon = optax.contrib.scale_by_muon(beta=self.momentum, weight_dimension_numbers=matrix_axes)
        parts = {
            "muon": optax.chain(muon, optax.stateless(lambda updates, _: equal_rms(updates, self.rms))),
            "adam": optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps),
        }
        return optax.chain(optax.partition(parts, parts_of), decay_kernels(self.weight_decay))


def hidden(names: list[str]) -> set[str]:
    """The kernels inside a network, from the parameters' names: all but those of its input and output layers.

    Those two are layers that the network itself holds ("stem/kernel", "head/kernel"; a U-Net or a transformer keeps
    the rest in blocks, "blocks/3/attention/query/kernel"), and the first and last of a plain list ("layers/0/kernel").
    What such a list holds at its ends in the middle of a network is left to Adam too, which suits every layer. Of a
    classifier ("body/...", "head/kernel") these are those of the network in its body, of a coupling flow ("couplings/3/...")
    those of the network of each layer.
    """
    within = {name: re.match(r"(body/|couplings/\d+/)?(.*)", name) for name in names if is_kernel(name)}
    inside = {name for name, found in within.items() if found and found[2].count("/") > 1}
    lists: dict[tuple[str, str], dict[int, str]] = {}
    for name in inside:
        found = within[name]
        assert found
        parts = found[2].split("/")
        if len(parts) == 3 and parts[1].isdigit():
            lists.setdefault((found[1] or "", parts[0]), {})[int(parts[1])] = name
    return inside - {layers[end] for layers in lists.values() for end in (min(layers), max(layers))}


def parts_of(params: dict[str, Any]) -> dict[str, str]:
    """Whose each parameter is, muon's or adam's. Raises UserError for a network without a hidden matrix."""
    matrices = hidden(list(params))
    if not matrices:
        raise UserError(
            "optimizer: muon needs a hidden matrix, and this net has input and output layers only;"
            " take optimizer=adamw, or two or more hidden layers"
        )
    return {name: "muon" if name in matrices else "adam" for name in params}


def matrix_axes(params: dict[str, Any]) -> dict[str, Any]:
    """The axes of each hidden kernel that are its two sides as a matrix, in the names' tree with the others masked.

    The last axis is the output's, as in flax's dense (m, n), convolutions (height, width, m, n) and attention's `out`
    (heads, m, n); attention's `query`, `key` and `value` (m, heads, n) have their inputs on the first alone.
    """

    def axes(name: str, x: Any) -> Any:
        if isinstance(x, optax.MaskedNode):
            return x
        inputs = 1 if name.split("/")[-2] in ("query", "key", "value") else x.ndim - 1
        sides = tuple(range(inputs)), tuple(range(inputs, x.ndim))
        # U V^T is the same from a matrix and its transpose; with the longer side first, optax 0.2.6 does not scale it by
        # the root of their ratio, as later versions never do.
        return optax.contrib.MuonDimensionNumbers(*sorted(sides, key=partial(extent, x), reverse=True))

    return {name: axes(name, x) for name, x in params.items()}


def extent(x: Any, axes: tuple[int, ...]) -> int:
    """The number of entries along some axes together."""
    return math.prod(x.shape[i] for i in axes)


def equal_rms(updates: dict[str, Any], rms: Scalar) -> dict[str, Any]:
    """Matrices U V^T times rms sqrt(max(inputs, outputs)): their root-mean-square entry is `rms`, whatever their shape."""
    layout = matrix_axes(updates)
    return {
        name: x if isinstance(x, optax.MaskedNode) else x * rms * math.sqrt(extent(x, layout[name].reduction_axis))
        for name, x in updates.items()
    }


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "lion": Lion, "muon": Muon}
