"""The flow map of a trained network of two times."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp

from diffsde import predictions
from diffsde.fields import Field, FlowMap
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Prediction, Scalar, register


@partial(register, static=["graph", "classes", "ends_only"])
@dataclasses.dataclass(frozen=True)
class LearnedFlowMap(FlowMap):
    """The flow map of a trained network of (s, t) (predictions.jump), and the bound `label` (); None: no label.

    Where both times are one it is the network of a field. ends_only: only jumps to t = 1 are learnt, as by consistency models: the
    velocity is not known.
    """

    path: GaussianPath
    params: Any
    moments: Moments
    graph: Graph
    classes: int = 0
    label: Scalar | None = None
    ends_only: bool = False

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.moments.mean.shape

    @property
    def knows_velocity(self) -> bool:
        return not self.ends_only

    @property
    def knows_score(self) -> bool:
        return not self.ends_only

    @property
    def knows_data(self) -> bool:
        return not self.ends_only

    def bind(self, condition: Scalar | None) -> Field:
        return dataclasses.replace(self, label=condition) if self.classes else super().bind(condition)

    def network(self, x: Array, s: Scalar, t: Scalar) -> Array:
        """The network's output F (*shape,) at x (*shape,), of a jump from s to t, ()."""
        seen = predictions.network_input(x, coefficients(self.path, s), self.moments)
        return apply(
            self.graph, self.params, seen, jnp.stack([jnp.asarray(s, x.dtype), jnp.asarray(t, x.dtype)]), self.label
        )

    def output(self, x: Array, t: Scalar) -> Prediction:
        return predictions.from_network(self.network(x, t, t), x, coefficients(self.path, t), self.moments)

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        c = coefficients(self.path, s), coefficients(self.path, t)
        return predictions.jump(self.network(x, s, t), x, *c, self.moments)
