"""Which sampler on which grid errs least with so many evaluations of this field: each tried on a few points, held against a fine solution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.errors import UserError
from diffsde.fields import Field, bound
from diffsde.samplers import Grid, Sampler, times
from diffsde.samplers.ode import RK4
from diffsde.types import Array, Scalar

PADDED = 64  # times that a compiled program holds, or a multiple: one serves all smaller numbers of steps
FIRST_FINE, MOST_FINE = 64, 1024  # steps of RK4 that the fine solution begins with, and takes at most
FINE_ENOUGH = 0.05  # of the least error of a candidate: what the fine solution may err by


class TrialPoints(NamedTuple):
    """What samplers are tried on: a field, points x0 (n, *shape) where the grid begins, and what each is conditioned on."""

    field: Field
    x0: Array
    condition: Any


class FineSolution(NamedTuple):
    """Where the field's ODE takes the points, (n, *shape), and by how much that may be wrong: the rms distance, by halving."""

    x: np.ndarray
    error: float


class Candidate(NamedTuple):
    """A sampler on a grid, by their names: the number of its steps, the policy of the last one, its times (steps + 1,), where it
    takes the points (n, *shape), and its rms distance from the fine solution.
    """

    sampler: str
    grid: str
    steps: int
    last: str
    times: np.ndarray
    x: np.ndarray
    rms: float = math.inf


def most_steps(sampler: Sampler, budget: int, last: str) -> int:
    """The most steps that make no more than `budget` evaluations, the last by the policy `last`; 0: not even one."""
    count = budget // sampler.evaluations + 1
    return next((steps for steps in range(count, 0, -1) if sampler.nfe(steps, last) <= budget), 0)


def ends(sampler: Sampler, on: TrialPoints, grids: Iterable[np.ndarray], last: str) -> np.ndarray:
    """Where the sampler, without noise, takes the points on each of several grids of as many times, (grids, n, *shape)."""
    at = np.stack([np.asarray(each) for each in grids])
    steps = at.shape[1] - 1
    filled = np.pad(at, ((0, 0), (0, -steps % PADDED)), mode="edge").astype(np.asarray(on.x0).dtype)
    return np.asarray(_ends(sampler, *on, filled, np.asarray(steps, np.int32), last == "denoise"), np.float64)


@partial(jax.jit, static_argnames="denoise")
def _ends(
    sampler: Sampler, field: Field, x0: Array, condition: Any, grids: Array, steps: Scalar, denoise: bool
) -> Array:
    def of_grid(at: Array) -> Array:
        def of_point(x: Array, condition: Any) -> Array:
            given = bound(field, condition)

            def body(j: Scalar, carry: tuple[Any, Array]) -> tuple[Any, Array]:
                state, _ = carry
                return sampler.step(given, state, at[j], at[j + 1] - at[j], None), sampler.point(state)

            state, before = jax.lax.fori_loop(0, steps, body, (sampler.start(x), x))
            return given.data(before, at[steps - 1]) if denoise else sampler.point(state)

        return jax.vmap(of_point)(x0, condition)

    return jax.lax.map(of_grid, grids)


def fine_solution(on: TrialPoints, grids: Iterable[Grid], steps: int = FIRST_FINE) -> FineSolution:
    """The ends by RK4 in 2 `steps` steps, on that of the grids on which they differ least from those by half as many: an error
    of order 1, or more, is no greater than the difference.
    """
    found = [FineSolution(np.full(np.shape(on.x0), np.nan), math.inf)]
    for grid in grids:
        try:
            half, whole = (np.asarray(times(grid, count, on.field.path)) for count in (steps, 2 * steps))
        except UserError:
            continue
        for last in ("step", "denoise"):
            if last == "denoise" and not on.field.knows_data:
                continue
            coarse, x = (ends(RK4(), on, [at], last)[0] for at in (half, whole))
            if np.isfinite(x).all():
                found.append(FineSolution(x, rms(coarse, x)))
                break
    return min(found, key=lambda each: each.error)


def rms(one: np.ndarray, other: np.ndarray) -> float:
    """The root-mean-square distance of points (n, *shape); infinite where one is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = float(np.sqrt(np.square(one - other).reshape(len(one), -1).sum(axis=1).mean()))
    return found if math.isfinite(found) else math.inf


def tried(
    samplers: Mapping[str, Sampler], grids: Mapping[str, Grid], on: TrialPoints, budget: int, last: str
) -> list[Candidate]:
    """Every sampler on every grid, with as many steps as the budget of evaluations allows; those that meet something infinite are
    left out. last: the last step's policy, or auto: E[z|x] where the sampler's own step is not finite.
    """
    found = []
    for name, sampler in samplers.items():
        left = dict(grids)
        for policy in policies(last, on.field):
            steps = most_steps(sampler, budget, policy)
            placed = placements(left, steps, on) if steps else {}
            if not placed:
                break
            for (grid, at), x in zip(placed.items(), ends(sampler, on, placed.values(), policy), strict=True):
                if np.isfinite(x).all():
                    found.append(Candidate(name, grid, steps, policy, at, x))
                    del left[grid]
    return found


def policies(last: str, field: Field) -> tuple[str, ...]:
    """The policies of the last step that are tried in turn."""
    if last != "auto":
        return (last,)
    return ("mean", "denoise") if field.knows_data else ("mean",)


def placements(grids: Mapping[str, Grid], steps: int, on: TrialPoints) -> dict[str, np.ndarray]:
    """The times of the grids for so many steps, (steps + 1,) each; without those whose times coincide."""
    found = {}
    for name, grid in grids.items():
        try:
            found[name] = np.asarray(times(grid, steps, on.field.path), np.float64)
        except UserError:
            continue
    return found


def ranked(candidates: list[Candidate], on: TrialPoints, grids: Iterable[Grid]) -> tuple[list[Candidate], FineSolution]:
    """The candidates by their error, the least first; and the fine solution that they are held against, taken finer until it
    errs by less than FINE_ENOUGH of the least.
    """
    steps, grids = FIRST_FINE, tuple(grids)
    while True:
        fine = fine_solution(on, grids, steps)
        found = sorted((each._replace(rms=rms(each.x, fine.x)) for each in candidates), key=lambda each: each.rms)
        if 4 * steps > MOST_FINE or not found or fine.error <= FINE_ENOUGH * found[0].rms:
            return found, fine
        steps *= 2
