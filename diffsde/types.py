"""The words shared by every module: arrays, choices, coefficients, predictions."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal, NamedTuple, TypeVar

import jax

Array = jax.Array
Scalar = jax.Array | float
Key = jax.Array
Kind = Literal["data", "noise", "velocity", "score", "v"]

T = TypeVar("T")


class Coefficients(NamedTuple):
    """A path at one time t: x_t = alpha z + beta eps; `d` marks the derivative in t.

    `beta_dbeta` = (beta^2)'/2 has a derivation of its own, because on several paths (sqrt, vp, cosine)
    it stays finite at t = 1 where dbeta diverges.
    """

    alpha: Scalar
    beta: Scalar
    dalpha: Scalar
    dbeta: Scalar
    beta_dbeta: Scalar


class Prediction(NamedTuple):
    """All that is known of (z, eps) at (x, t), each of shape (*shape,): E[z|x], E[eps|x], u_t(x), grad log p_t(x).

    The four are affine images of one another; a field gives each by its own regular route, and a compiled
    program computes only those that are read.
    """

    data: Array
    noise: Array
    velocity: Array
    score: Array


class Moments(NamedTuple):
    """Mean (*shape,) and root-mean-square standard deviation () of the data, measured from it."""

    mean: Array
    std: Scalar


@typing.dataclass_transform(frozen_default=True)
def choice(cls: type[T]) -> type[T]:
    """A frozen dataclass read from a config, registered as a pytree.

    Numbers (`float`) and nested choices are leaves, so that a compiled program serves every value of them and
    they can be vmapped; names, counts and switches are static.
    """
    frozen = dataclasses.dataclass(frozen=True)(cls)
    hints = typing.get_type_hints(frozen)
    fields = [f.name for f in dataclasses.fields(frozen)]  # type: ignore[arg-type]
    static = [name for name in fields if not _is_leaf(hints[name])]
    leaves = [name for name in fields if name not in static]
    return jax.tree_util.register_dataclass(frozen, data_fields=leaves, meta_fields=static)


def _is_leaf(hint: Any) -> bool:
    if hint is float:
        return True
    members = typing.get_args(hint)
    if type(None) in members:
        return any(_is_leaf(member) for member in members if member is not type(None))
    return isinstance(hint, type) and hint not in (int, str, bool, tuple, list)
