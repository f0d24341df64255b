"""The coupling interface: which source point y goes with which data point z."""

from __future__ import annotations

import abc
from typing import ClassVar

from diffsde.types import Array, Key


class Coupling(abc.ABC):
    """A coupling of source and data: `plan` says which rows of a batch of each are paired.

    on_host: whether plans are solved on the host, ahead of the steps, and not in the compiled program.
    """

    on_host: ClassVar[bool] = False

    @abc.abstractmethod
    def plan(self, y: Array, z: Array, key: Key, label: Array | None = None) -> tuple[Array, Array]:
        """Row numbers (i, j), each (count,): y[i[k]] goes with z[j[k]]. label (count,): of the z, which travels with them."""
