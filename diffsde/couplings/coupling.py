"""The coupling interface: which point of the source goes with which point of the data, solved on the host for a batch."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple, cast

import numpy as np

from diffsde import memory
from diffsde.errors import UserError
from diffsde.paths import GaussianPath

DIRECT = 16  # coordinates up to which differences are squared; beyond, a product of matrices is faster


class Plan(NamedTuple):
    """Pairs of a batch: pair k is row i[k] of the source's points and row j[k] of the data's; error: by how much the marginals
    of an iterated plan are off, the sum of absolute differences; 0 for an exact one.
    """

    i: np.ndarray
    j: np.ndarray
    error: float = 0.0


class Coupling(abc.ABC):  # noqa: B024  # pairs that are not solved for a batch share a place in the config, no method
    """How points y of the source and z of the data are drawn together; its marginals are the two laws."""

    def resolved(self, path: GaussianPath, batch_size: int) -> Coupling:
        """The coupling with what the path and the training batch decide. Raises UserError where they do not fit."""
        return self


class BatchCoupling(Coupling):
    """A coupling of the points of a batch, by a plan that is solved on the host.

    block: number of points that one plan couples, which divides the batch; null: the whole batch. batch_size: number of points
    that are drawn and coupled together, a multiple of the training batch's, whose steps share them; null: the training batch's.
    """

    block: int | None
    batch_size: int | None

    @abc.abstractmethod
    def pair(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        """The plans (g, n) of g blocks of n points and n points, with these squared distances (g, n, n)."""

    def resolved(self, path: GaussianPath, batch_size: int) -> Coupling:
        changed: Any = self
        return cast("Coupling", dataclasses.replace(changed, batch_size=self.points(batch_size)))

    def points(self, batch_size: int) -> int:
        """Number of points that are coupled together for steps of `batch_size` examples. Raises UserError."""
        together = self.batch_size or batch_size
        if together % batch_size:
            raise UserError(
                f"coupling.batch_size is {together}; it must be a multiple of batch_size={batch_size}, whose steps share the"
                " points (coupling.block= couples fewer)"
            )
        if together % (self.block or 1):
            whole = "coupling.batch_size" if self.batch_size else "batch_size"
            raise UserError(f"coupling.block is {self.block}; it must divide {whole}={together}")
        coupled = self.block or together  # by their squared distances, in float64
        memory.require(8 * coupled**2, f"a plan of {coupled:,} points", "take a smaller coupling.block=")
        return together

    def plan(self, y: np.ndarray, z: np.ndarray, random: np.random.Generator, labels: np.ndarray | None = None) -> Plan:
        """The pairs of points y and z (n, *shape), block by block; error: the greatest of the blocks'. Each pair is of the block,
        and the label, of its row, so that what else is drawn by rows, such as stratified times, is as independent of them as before.

        labels (n,) of z: a point of the source gets the label of z in its row, and is coupled within the points of that label
        alone, so that the source's law is the same for every label.
        """
        y, z = (np.asarray(points, np.float64).reshape(len(points), -1) for points in (y, z))
        i, j, errors = np.arange(len(y)), np.arange(len(y)), []
        for rows in blocks(len(y), self.block or len(y), labels):
            found = self.pair(np.stack([squared_distances(y[block], z[block]) for block in rows]), random)
            i[rows] = np.take_along_axis(rows, found.i, axis=1)
            j[rows] = np.take_along_axis(rows, found.j, axis=1)
            errors.append(found.error)
        return Plan(i, j, max(errors))


def plan_in_batches(
    coupling: BatchCoupling,
    y: np.ndarray,
    z: np.ndarray,
    together: int,
    random: np.random.Generator,
    labels: np.ndarray | None = None,
) -> Plan:
    """The pairs of any number of points y and z (n, *shape), coupled as in training, `together` of them after another."""
    parts = [slice(begin, begin + together) for begin in range(0, len(y), together)]
    plans = [coupling.plan(y[part], z[part], random, None if labels is None else labels[part]) for part in parts]
    i, j = (
        np.concatenate([part.start + rows for part, rows in zip(parts, found, strict=True)])
        for found in ([plan.i for plan in plans], [plan.j for plan in plans])
    )
    return Plan(i, j, max(plan.error for plan in plans))


def blocks(n: int, size: int, labels: np.ndarray | None) -> list[np.ndarray]:
    """The rows of points that are coupled with one another, each array (g, k) g blocks of k rows: `size` rows after one another,
    the last block perhaps fewer; of these, where there are labels, those of each label.
    """
    whole = n - n % size
    found = [np.arange(whole).reshape(-1, size), np.arange(whole, n)[None]]
    if labels is not None:
        found = [
            rows[labels[rows] == label][None] for part in found for rows in part for label in np.unique(labels[rows])
        ]
    return [rows for rows in found if rows.size]


def squared_distances(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """|y_i - z_j|^2 (n, m) of points (n, d) and (m, d)."""
    if y.shape[1] <= DIRECT:
        return np.asarray(sum((mine[:, None] - other) ** 2 for mine, other in zip(y.T, z.T, strict=True)))
    middle = z.mean(axis=0)
    y, z = y - middle, z - middle
    return np.maximum(np.sum(y**2, axis=1)[:, None] + np.sum(z**2, axis=1) - 2 * (y @ z.T), 0)
