"""The field of a trained network between two laws."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from diffsde import predictions
from diffsde.interpolants import InterpolantField
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.preconditioning import Ends, drift_scale, estimates, network_input
from diffsde.types import Array, Coefficients, Moments, Prediction, Scalar, register


@partial(register, static=["graph", "both", "gaussian_source", "precondition", "classes"])
@dataclasses.dataclass(frozen=True)
class LearnedInterpolant(InterpolantField):
    """The field of a network of the velocity, or of drift and score (`both`), and the bound `label` (); None: no label.

    moments, source_moments: of data and source. gaussian_source: whether the source is N(0, I) and independent of the data, so
    that the velocity alone gives all the rest. classes: the network's, 0 where it is unconditional.
    """

    path: GaussianPath
    params: Any
    moments: Moments
    source_moments: Moments
    graph: Graph
    both: bool
    gaussian_source: bool
    precondition: bool
    classes: int = 0
    label: Scalar | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.moments.mean.shape

    @property
    def knows_score(self) -> bool:
        return self.both or self.gaussian_source

    def bind(self, condition: Scalar | None) -> LearnedInterpolant:
        if not self.classes:
            super().bind(condition)
        return dataclasses.replace(self, label=condition)

    def output(self, x: Array, t: Scalar) -> Prediction:
        c, ends = coefficients(self.path, t), Ends(self.moments, self.source_moments)
        seen = network_input(x, c, ends) if self.precondition else x
        output = apply(self.graph, self.params, seen, t, self.label)
        found = estimates(output, x, c, ends if self.precondition else None, self.both)
        if self.both:
            return predictions.between(found.flow, found.score, x, c)
        if self.gaussian_source:
            return self._from_noise(output, found.flow, x, c, ends)
        return (
            predictions.velocity_alone(found.flow)
            if self.path.has_gamma
            else predictions.between(found.flow, None, x, c)
        )

    def _from_noise(self, output: Array, velocity: Array, x: Array, c: Coefficients, ends: Ends) -> Prediction:
        """All predictions from the velocity, for a source N(0, I): those of the Gaussian path with beta^2 + gamma^2."""
        whole = predictions.effective(c)
        if self.precondition:
            residual = drift_scale(c, ends) / predictions.output_scale("velocity", whole, ends.data) * output
            found = predictions.from_network(residual, x, whole, ends.data)
        else:
            found = predictions.expand(velocity, x, whole, "velocity")
        of_noise, of_source = c.gamma / whole.beta, c.beta / whole.beta
        return Prediction(found.data, of_noise * found.noise, velocity, found.score, of_source * found.noise)
