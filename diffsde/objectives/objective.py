"""What is regressed on, and with which weight in t. The loss is written for one sample and vmapped.

A preconditioned network (predictions.py) predicts the same unit-variance F* whatever the objective, and the loss
    weight(t) |y_hat - y|^2 / d = weight(t) c_out(t)^2 |F - F*|^2 / d
is computed on the right-hand side, where nothing is 0/0: an objective is then exactly a weight in t.
"""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import ClassVar, NamedTuple

from diffsde.nets import Graph
from diffsde.paths import GaussianPath
from diffsde.time_distributions import TimeDistribution
from diffsde.types import Array, Moments, PredictionType, Scalar, choice, register

WEIGHTS = {
    "unit": "1: the mean squared error of the prediction itself",
    "beta2": "beta^2: turns the score loss into the noise loss (2011.13456, eq. 7)",
    "balanced": "1/c_out^2: the same expected loss at every t for an untrained network (2206.00364, table 1)",
    "auto": "unit where its expectation is finite and c_out^2 varies along t by a factor of at most 10, else balanced",
}


class Objective(abc.ABC):  # noqa: B024  # what its two kinds have in common is the place in a config
    """What is learnt of (z, eps) or of the label, from x_t and t."""


class Regression(Objective):
    """y = a z + b eps, the row of `kind`; loss = E[weight(t) |y_hat(x_t, t) - y|^2 / d]."""

    kind: ClassVar[PredictionType]
    weight: str

    @abc.abstractmethod
    def __init__(self, weight: str) -> None: ...


@choice
class VelocityMatching(Regression):
    """cfm: y = dalpha z + dbeta eps, conditional flow matching (2210.02747, eq. 9)."""

    kind: ClassVar[PredictionType] = "velocity"
    weight: str = "auto"


@choice
class ScoreMatching(Regression):
    """score: y = -eps/beta, denoising score matching (Vincent 2011; 2011.13456, eq. 7)."""

    kind: ClassVar[PredictionType] = "score"
    weight: str = "beta2"


@choice
class NoisePrediction(Regression):
    """noise: y = eps (DDPM, 2006.11239, eq. 14)."""

    kind: ClassVar[PredictionType] = "noise"
    weight: str = "unit"


@choice
class DataPrediction(Regression):
    """data: y = z, the denoiser, with EDM's weight (2206.00364, eq. 2 and table 1)."""

    kind: ClassVar[PredictionType] = "data"
    weight: str = "balanced"


@choice
class VPrediction(Regression):
    """v: y = alpha eps - beta z (2202.00512, appendix D)."""

    kind: ClassVar[PredictionType] = "v"
    weight: str = "auto"


@choice
class Classification(Objective):
    """classifier: the cross-entropy -log p(label | x_t, t), of a classifier that can guide a field (2105.05233, section 4)."""


OBJECTIVES: dict[str, type[Objective]] = {
    "cfm": VelocityMatching,
    "score": ScoreMatching,
    "noise": NoisePrediction,
    "data": DataPrediction,
    "v": VPrediction,
    "classifier": Classification,
}


@partial(register, static=["graph", "precondition"])
@dataclasses.dataclass(frozen=True)
class Problem:
    """All that the loss needs besides the parameters and the data."""

    path: GaussianPath
    objective: Objective
    time: TimeDistribution
    moments: Moments
    graph: Graph
    precondition: bool


class Draw(NamedTuple):
    """One training example: data z and noise eps (*shape,) at time t (), and the label () of z where it is given.

    mean: E[z | x_t] over some points (*shape,), of which training makes its target (posterior_targets.py); None: z itself.
    """

    z: Array
    eps: Array
    t: Scalar
    label: Scalar | None = None
    mean: Array | None = None


def regression(problem: Problem) -> Regression:
    """Its objective. Raises TypeError where that is another than a regression."""
    if not isinstance(problem.objective, Regression):
        raise TypeError(f"{type(problem.objective).__name__} is not a regression")
    return problem.objective
