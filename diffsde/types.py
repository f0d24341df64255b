"""The words shared by every module: arrays, choices, coefficients, predictions."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

Array = jax.Array
Scalar = jax.Array | float
Key = jax.Array
PredictionType = Literal["data", "noise", "velocity", "score", "v"]

T = TypeVar("T")


class Coefficients(NamedTuple):
    """A path at one time t: x_t = alpha z + beta y + gamma eps; `d` marks the derivative in t.

    On a Gaussian path gamma = 0 and y, the source, is the noise. `beta_dbeta` = (beta^2)'/2 and `gamma_dgamma` = (gamma^2)'/2
    have derivations of their own, because on several paths (sqrt, vp, cosine; bridge) they stay finite at an end where dbeta
    or dgamma diverges.
    """

    alpha: Scalar
    beta: Scalar
    dalpha: Scalar
    dbeta: Scalar
    beta_dbeta: Scalar
    gamma: Scalar = 0.0
    dgamma: Scalar = 0.0
    gamma_dgamma: Scalar = 0.0


class Prediction(NamedTuple):
    """All that is known at (x, t), each of shape (*shape,): E[z|x], E[eps|x], u_t(x), grad log p_t(x), E[y|x].

    On a Gaussian path, x_t = alpha z + beta eps, the first four are affine images of one another and `source` is None. Between
    two laws, x_t = alpha z + beta y + gamma eps, `source` is E[y|x]; `score` is None where the field does not know it. A
    field gives each by its own regular route, and a compiled program computes only those that are read.
    """

    data: Array
    noise: Array
    velocity: Array
    score: Array | None
    source: Array | None = None


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
    return register(frozen, [name for name in _names(frozen) if not _is_leaf(hints[name])])


def register(cls: type[T], static: list[str]) -> type[T]:
    """Make a dataclass a pytree; its fields are leaves but for the `static` ones.

    The class itself is part of the structure. jax.tree_util.register_dataclass leaves it out of the comparison
    (jax 0.10.2), so that two samplers without numbers could share one compiled program, the wrong one.
    """
    leaves = [name for name in _names(cls) if name not in static]

    def flatten(instance: T) -> tuple[list[Any], Any]:
        return [getattr(instance, name) for name in leaves], (cls, tuple(getattr(instance, name) for name in static))

    def flatten_with_keys(instance: T) -> tuple[list[Any], Any]:
        values, structure = flatten(instance)
        return [(jax.tree_util.GetAttrKey(name), value) for name, value in zip(leaves, values, strict=True)], structure

    def unflatten(structure: Any, values: Any) -> T:
        instance = object.__new__(cls)
        for name, value in [*zip(static, structure[1], strict=True), *zip(leaves, values, strict=True)]:
            object.__setattr__(instance, name, value)
        return instance

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _is_leaf(hint: Any) -> bool:
    if hint is float:
        return True
    members = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and float in members:
        return True  # a number, or a list of numbers, each of them a leaf
    if type(None) in members:
        return any(_is_leaf(member) for member in members if member is not type(None))
    return isinstance(hint, type) and hint not in (int, str, bool, tuple, list)


def on_device(values: Any, dtype: Any = None) -> Array:
    """The values as an array on the device, without the program that jnp.asarray compiles for every new shape.

    dtype: float for the widest that is in use; None: that of the values, Python's numbers being float32 and int32 unless
    the widest are in use.
    """
    found = np.asarray(values, None if dtype is None else jax.dtypes.canonicalize_dtype(dtype))
    return jax.device_put(found.astype(jax.dtypes.canonicalize_dtype(found.dtype), copy=False))
