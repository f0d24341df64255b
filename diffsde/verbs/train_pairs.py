"""The coupled pairs of training jobs: made ahead for the program of a group, and what they cost, in the report."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import jax

from diffsde.build import name_of
from diffsde.couplings import BatchCoupling, Coupling, Sinkhorn, Unbalanced
from diffsde.pairs_ahead import Cost, PairsAhead, n_solvers
from diffsde.runs import machine, progress
from diffsde.runs.run_writer import Schedule
from diffsde.sharding import Sharding, member_sharding, shard_buffer, shard_members
from diffsde.training import Pairs, Run

WAITED = 0.5  # share of the training's time: where it waited longer for its coupling, something faster is named
BLOCK = 64  # points of the blocks that are then named


def pairs_of(runs: list[Run], first: int, plan: Schedule, devices: int | None, held: ExitStack) -> PairsAhead | None:
    """The coupled pairs of all steps from `first` on of runs that are one program, whose threads end with `held`; None where the
    runs have no coupling that is solved ahead.
    """
    if not isinstance(runs[0].coupling, BatchCoupling):
        return None
    put = partial(shard_buffer, runs[0].sharding)
    if len(runs) > 1:
        put = partial(put_members, member_sharding(machine.mesh(devices), len(runs)))
    alone = [dataclasses.replace(run, sharding=None) for run in runs]
    return held.enter_context(closing(PairsAhead(alone, plan.log_every, (first, plan.steps), put)))


def put_members(sharding: Sharding | None, tree: Any) -> Any:
    """Stacked arrays (members, ...) on the devices, those of a member where it is trained."""
    return shard_members(sharding, jax.device_put(tree), (True,) * len(jax.tree.leaves(tree)))


def with_pairs(run: Run, apart: tuple[bool, ...], pairs: Pairs) -> tuple[Run, tuple[bool, ...]]:
    """The run of a group with a buffer of pairs, and which of its leaves are stacked: of the buffer all. () for one job."""
    filled = dataclasses.replace(run, pairs=pairs)
    if not apart:
        return filled, apart
    marks = jax.tree.unflatten(jax.tree.structure(run), apart)
    return filled, tuple(jax.tree.leaves(dataclasses.replace(marks, pairs=jax.tree.map(lambda _: True, pairs))))


def summary_of_cost(coupling: Coupling, cost: Cost) -> dict[str, Any]:
    """What the coupling of a group of jobs cost, for the summary."""
    return {
        "name": name_of(coupling),
        "solver_ms": {"value": 1000 * cost.solver, "unit": "CPU ms per step"},
        "step_ms": {"value": 1000 * cost.rest, "unit": "CPU ms per step"},
        "waited": {"value": cost.waited, "unit": "share of the training's wall time"},
        "marginal_error": {"value": cost.error, "unit": "sum of absolute differences, the greatest of all plans"},
    }


def row_of_cost(coupling: Any, summary: dict[str, Any], others: str, batch: int) -> tuple[str, str]:
    """The same as a row of the report, `others` saying of how many runs at once; warns where an iterated plan ended before its tolerance."""
    solver, step, waited, error = (
        summary[key]["value"] for key in ("solver_ms", "step_ms", "waited", "marginal_error")
    )
    iterated = isinstance(coupling, Sinkhorn | Unbalanced)
    if iterated and error > 1.001 * coupling.tolerance:
        progress.warn(
            f"coupling.iterations={coupling.iterations} ended with marginals off by {error:.2g}, above"
            f" coupling.tolerance={float(coupling.tolerance):g}; take more, or a larger coupling.epsilon"
        )
    cores = f"{n_solvers()} other core" + ("s" if n_solvers() > 1 else "")
    off = f"; marginals off by {error:.1g} at most" if iterated else ""
    beside = f", beside {step:.2g} ms of the rest" if step else ""
    return (
        "coupling",
        f"{summary['name']}, {solver:.2g} ms a step{others} on {cores}{beside}; training waited for it {waited:.0%} of the"
        f" time{off}{advice(coupling, waited, coupling.points(batch))}",
    )


def advice(coupling: BatchCoupling, waited: float, points: int) -> str:
    """What would be faster, where training waited for plans of `points` points for most of the time."""
    if waited <= WAITED:
        return ""
    if coupling.block is None and points > BLOCK and points % BLOCK == 0:
        return f"; faster: coupling.block={BLOCK}"
    return "; faster: fewer points a plan (batch_size, coupling.batch_size or coupling.block)"
