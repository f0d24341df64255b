"""Many runs of one structure as one: what differs between them is stacked and vmapped, what does not is kept once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def kind(tree: Any) -> Any:
    """What has to be equal for two trees to be members of one ensemble: structure, shapes and types, not numbers."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def grouped(kinds: dict[int, Any]) -> list[list[int]]:
    """The indices of equal kinds, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    for i, one in kinds.items():
        groups.setdefault(one, []).append(i)
    return list(groups.values())


def equal(one: Any, other: Any) -> bool:
    """Whether two trees are of one structure and hold the same numbers."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=False)
    return kind(one) == kind(other) and all(_equal(a, b) for a, b in leaves)


def stack(trees: Sequence[T]) -> tuple[T, tuple[bool, ...]]:
    """One tree of the trees' leaves, stacked (m, ...) where they differ and once where not; and which are stacked."""
    structure = jax.tree.structure(trees[0])
    columns = list(zip(*map(jax.tree.leaves, trees), strict=True))
    split = tuple(not all(_equal(column[0], leaf) for leaf in column[1:]) for column in columns)
    leaves = [
        jnp.stack([jnp.asarray(leaf) for leaf in column]) if apart else column[0]
        for column, apart in zip(columns, split, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves), split


def stack_all(trees: Sequence[T]) -> T:
    """Every leaf stacked (m, ...)."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(tree: T, i: int | slice | np.ndarray) -> T:
    """Member i, or several of them, of a tree whose leaves are all stacked."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def over_members(function: Callable[..., Any], split: tuple[bool, ...], tree: Any, *stacked: Any) -> Any:
    """function(tree_i, *stacked_i) for every member i, vmapped; `tree` and `split` as `stack` gives them."""
    leaves, structure = jax.tree.flatten(tree)

    def one(own: list[Any], *rest: Any) -> Any:
        mine = iter(own)
        whole = [next(mine) if apart else leaf for leaf, apart in zip(leaves, split, strict=True)]
        return function(jax.tree.unflatten(structure, whole), *rest)

    return jax.vmap(one)([leaf for leaf, apart in zip(leaves, split, strict=True) if apart], *stacked)


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    keys = [isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in (a, b)]
    if all(keys):
        return bool(np.array_equal(jax.random.key_data(a), jax.random.key_data(b)))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))
