"""What every choice of a network is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flax import nnx


class Net(Protocol):
    """A choice of architecture: `make` builds the module(x, t, label) for points of a shape.

    compute: the type of its products. classes: how many labels there are, 0 for a network without any.
    A network of a flow map is made with times=2 too, a keyword of its own: its t (2,) is where a jump begins and ends.
    """

    def __hash__(self) -> int: ...

    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module: ...
