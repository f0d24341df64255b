"""The sampler that is found by trials on the field before it samples: a choice that is resolved, and takes no step itself."""

from __future__ import annotations

from typing import Any, ClassVar

from diffsde.samplers.sampler import Noise, Sampler
from diffsde.types import Array, Scalar, choice


@choice
class Best(Sampler):
    """That of the candidates which, on its best grid, ends nearest to a fine solution with `steps` evaluations of the field.

    Tried on points of their own from the same start, without noise; grid=auto has the grid found too, any other is kept. It is
    resolved before sampling (runs/sampler_search.py), so that the samples are those of the sampler found.
    """

    order: ClassVar[int] = 0
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    candidates: tuple[str, ...] = ("ipndm", "ab2", "ab3", "unipc", "deis3", "rk4")

    @property
    def needs(self) -> str:
        """Between two laws the candidates are those that need a velocity alone."""
        return "velocity"

    def step(self, field: Any, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        raise TypeError("sampler=best takes no step until it is resolved for a field")
