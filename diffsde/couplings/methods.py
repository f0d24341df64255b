"""Couplings of a batch: exact, entropic and unbalanced optimal transport, each by a plan of its squared distances."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np

from diffsde.couplings.assignment import assign
from diffsde.couplings.coupling import BatchCoupling, Coupling, Plan
from diffsde.couplings.pairs import FilePairs, IteratedPairs, RunPairs
from diffsde.couplings.scaling import entropic
from diffsde.errors import UserError
from diffsde.paths import GaussianPath
from diffsde.paths.piecewise import Piecewise
from diffsde.types import choice

EVEN = 1e-3  # by how much intervals of one length may differ, relative to it
LEAST_MASS = 1e-100  # of an unbalanced plan from which pairs can be drawn


@choice
class Independent(Coupling):
    """independent: y and z are drawn independently of one another."""


@choice
class OptimalTransport(BatchCoupling):
    """ot: the assignment of least sum |y - z|^2 within a batch, exact (2302.00482, OT-CFM)."""

    block: int | None = None
    batch_size: int | None = None

    def pair(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        columns = assign(costs)
        return Plan(np.broadcast_to(np.arange(costs.shape[-1]), columns.shape), columns)


class EntropicCoupling(BatchCoupling):
    """A coupling whose pairs are drawn from an entropic plan, block by block; epsilon: its regularisation, null by the path."""

    epsilon: float | None

    def resolved(self, path: GaussianPath, batch_size: int) -> Coupling:
        return with_epsilon(super().resolved(path, batch_size), path)

    @abc.abstractmethod
    def of_block(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        """The plan (n,) of one block, with these squared distances (n, n)."""

    def pair(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        plans = [self.of_block(block, random) for block in costs]
        return Plan(
            np.stack([plan.i for plan in plans]),
            np.stack([plan.j for plan in plans]),
            max(plan.error for plan in plans),
        )


@choice
class Sinkhorn(EntropicCoupling):
    """sinkhorn: pairs drawn from the entropic plan, argmin <P, |y - z|^2> + epsilon KL(P | uniform) ([SF]2M, 2307.03672).

    epsilon: null is 2 sigma^2 of path=bridge, which makes the bridge Schroedinger's. Each y is taken once, and z is drawn given y.
    """

    epsilon: float | None = None
    tolerance: float = 1e-3
    iterations: int = 10_000
    block: int | None = None
    batch_size: int | None = None

    def of_block(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        assert self.epsilon is not None
        rows = np.arange(len(costs))
        found = entropic(costs, self.epsilon, None, self.tolerance, self.iterations)
        return Plan(rows, drawn_columns(found.plan, rows, random), found.error)


@choice
class Unbalanced(EntropicCoupling):
    """unbalanced: pairs drawn from an entropic plan whose marginals may differ from the two laws', at rho times their KL.

    Points that are far from all points of the other end are drawn less often: the two laws are changed. Pairs are as many as
    points, and rows of the plan are taken at even intervals of its mass.
    """

    epsilon: float | None = 0.05
    rho: float = 1.0
    tolerance: float = 1e-3
    iterations: int = 10_000
    block: int | None = None
    batch_size: int | None = None

    def of_block(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        assert self.epsilon is not None
        found = entropic(costs, self.epsilon, self.rho, self.tolerance, self.iterations)
        mass = found.plan.sum(axis=1)
        if mass.sum() < LEAST_MASS:
            raise UserError(
                f"coupling.rho is {self.rho:g}, which leaves out all points, with squared distances from {costs.min():.3g} to"
                f" {costs.max():.3g}; take a larger one"
            )
        places = (np.arange(len(costs)) + random.random()) / len(costs) * mass.sum()
        rows = np.minimum(np.searchsorted(np.cumsum(mass), places, side="right"), len(costs) - 1)
        return Plan(rows, drawn_columns(found.plan, rows, random), found.error)


COUPLINGS: dict[str, type[Coupling]] = {
    "independent": Independent,
    "ot": OptimalTransport,
    "sinkhorn": Sinkhorn,
    "unbalanced": Unbalanced,
    "pairs": FilePairs,
    "run": RunPairs,
    "iterated": IteratedPairs,
}


def with_epsilon(coupling: Any, path: GaussianPath) -> Any:
    """The coupling with its epsilon; null becomes twice the squared sigma of a bridge, times the length of an interval of snapshots.
    Raises UserError on other paths.
    """
    if coupling.epsilon is not None:
        return coupling
    sigma = path.reference_sigma
    if not sigma:
        raise UserError(
            "coupling.epsilon is null, which is 2 sigma^2 of path=bridge with sigma above 0; on another path give"
            " coupling.epsilon=, in units of the squared distance"
        )
    length = 1.0
    if isinstance(path, Piecewise):
        lengths = np.diff(np.asarray(path.knots, np.float64))
        length = float(lengths.mean())
        if np.ptp(lengths) > EVEN * length:
            raise UserError(
                "coupling.epsilon is null, which is 2 sigma^2 times the length of an interval, and the snapshots are at uneven"
                " times; give coupling.epsilon=, in units of the squared distance"
            )
    return dataclasses.replace(coupling, epsilon=2 * sigma**2 * length)


def drawn_columns(plan: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A column (k,) for each of some rows (k,), drawn from the plan (n, m) given the row."""
    below = np.cumsum(plan[rows], axis=1)
    return np.sum(below < random.random(len(rows))[:, None] * below[:, -1:], axis=1)
