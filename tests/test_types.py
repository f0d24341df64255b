"""Choices as pytrees: numbers are leaves, names are static, and no two classes share a structure."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from diffsde.datasets import DATASETS
from diffsde.objectives import OBJECTIVES
from diffsde.optimizers import OPTIMIZERS
from diffsde.paths import PATHS, VP
from diffsde.samplers import DIFFUSIONS, GRIDS, SAMPLERS
from diffsde.time_distributions import TIME_DISTRIBUTIONS, LogitNormal
from diffsde.types import choice

TABLES: dict[str, dict[str, type[Any]]] = {
    "dataset": DATASETS,
    "diffusion": DIFFUSIONS,
    "grid": GRIDS,
    "objective": OBJECTIVES,
    "optimizer": OPTIMIZERS,
    "path": PATHS,
    "sampler": SAMPLERS,
    "time": TIME_DISTRIBUTIONS,
}


def members(table: dict[str, type[Any]]) -> dict[str, Any]:
    built = {}
    for name, cls in table.items():
        try:
            built[name] = cls()
        except TypeError:  # a field without a default
            continue
    return built


@pytest.mark.parametrize("group", list(TABLES))
def test_different_classes_have_different_structures(group: str) -> None:
    """Two choices of a group are never one pytree structure: equal structures may share a compiled program, the wrong
    one.
    """
    structures = {name: jax.tree.structure(item) for name, item in members(TABLES[group]).items()}
    same = [(a, b) for a, b in itertools.combinations(structures, 2) if structures[a] == structures[b]]
    assert not same


def test_a_compiled_program_never_serves_another_class() -> None:
    """Of many classes with the same fields, each gets its own program from one jitted function."""

    def made(i: int) -> Any:
        class Shift:
            def __call__(self, x: jax.Array) -> jax.Array:
                return x + i

        return choice(Shift)()

    apply = jax.jit(lambda shift, x: shift(x))
    assert [int(apply(made(i), 0)) for i in range(40)] == list(range(40))


def test_numbers_are_leaves_and_the_rest_is_static() -> None:
    """One compiled program serves every value of a number; another switch or word is another program."""
    traced = []

    @jax.jit
    def program(path: VP, law: LogitNormal) -> jax.Array:
        traced.append(law.stratified)
        return path.alpha(0.5) * law.std

    first = program(VP(), LogitNormal())
    second = program(VP(rate_min=1.0), LogitNormal(std=2.0))
    assert traced == [True] and float(first) != float(second)
    program(VP(), LogitNormal(stratified=False))
    assert traced == [True, False]


def test_choices_round_trip_through_their_leaves() -> None:
    """Flattening and rebuilding gives an equal choice, and a vmap over its numbers gives each its own answer."""
    path = VP(rate_min=0.3, rate_max=7.0)
    leaves, structure = jax.tree.flatten(path)
    assert leaves == [0.3, 7.0] and jax.tree.unflatten(structure, leaves) == path
    many = VP(rate_min=jnp.array([0.3, 0.6]), rate_max=jnp.array([7.0, 9.0]))  # type: ignore[arg-type]
    both = jax.vmap(lambda path: path.alpha(0.5))(many)
    assert both.tolist() == pytest.approx([float(VP(*pair).alpha(0.5)) for pair in ((0.3, 7.0), (0.6, 9.0))], rel=1e-6)


def test_choices_are_frozen() -> None:
    """A choice cannot be changed after it was checked."""
    with pytest.raises(AttributeError):
        VP().rate_min = 1.0  # type: ignore[misc]
