"""The field of a continuous normalizing flow: a velocity, trained by the likelihood of where its ODE leads, and nothing else."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from diffsde import predictions
from diffsde.fields import Field
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Prediction, Scalar, register


@partial(register, static=["graph", "precondition", "classes"])
@dataclasses.dataclass(frozen=True)
class ContinuousFlow(Field):
    """The velocity of a network whose ODE carries N(0, beta_0^2 I) to a law p_theta (FFJORD, 1810.01367), and the bound `label` ().

    The path is preconditioning alone: of data with mean m and std s a network whose output is 0 has the velocity that carries
    N(0, I) to N(m, s^2 I). Between the ends x_t follows no path's p_t, so that neither score nor E[z|x] is known.
    """

    path: GaussianPath
    params: Any
    moments: Moments
    graph: Graph
    precondition: bool
    classes: int = 0
    label: Scalar | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.moments.mean.shape

    @property
    def gaussian(self) -> bool:
        return False

    @property
    def knows_score(self) -> bool:
        return False

    @property
    def knows_data(self) -> bool:
        return False

    @property
    def follows_path(self) -> bool:
        return False

    def bind(self, condition: Scalar | None) -> Field:
        return dataclasses.replace(self, label=condition) if self.classes else super().bind(condition)

    def velocity(self, x: Array, t: Scalar) -> Array:
        c = coefficients(self.path, t)
        if not self.precondition:
            return apply(self.graph, self.params, x, t, self.label)
        output = apply(self.graph, self.params, predictions.network_input(x, c, self.moments), t, self.label)
        return predictions.from_network(output, x, c, self.moments).velocity

    def output(self, x: Array, t: Scalar) -> Prediction:
        return predictions.velocity_alone(self.velocity(x, t))
