"""Objectives: the regression targets (objective), the loss of one example (losses), and the weight in t (weights)."""

from __future__ import annotations

from diffsde.objectives.between import exact_between, irreducible_between, linear_loss_between, regret_between
from diffsde.objectives.continuous import likelihood_nfe
from diffsde.objectives.discrete import DiscreteLikelihood
from diffsde.objectives.flow_maps import Eulerian, Lagrangian, Semigroup
from diffsde.objectives.likelihood import ADJOINTS, Likelihood
from diffsde.objectives.losses import irreducible, loss, root_weight, training_loss, training_losses
from diffsde.objectives.objective import (
    TARGETS,
    WEIGHTS,
    Classification,
    DataPrediction,
    Draw,
    FlowMapObjective,
    NoisePrediction,
    Objective,
    PathRegression,
    Problem,
    Regression,
    ScoreMatching,
    VelocityAndScore,
    VelocityMatching,
    VPrediction,
    regression,
    time_at,
    time_within,
)
from diffsde.objectives.weights import (
    choose_weight,
    has_finite_loss,
    linear_loss,
    objection,
    resolve_weight,
    scale_spread,
    weighted,
)

OBJECTIVES: dict[str, type[Objective]] = {
    "cfm": VelocityMatching,
    "cfm+score": VelocityAndScore,
    "score": ScoreMatching,
    "noise": NoisePrediction,
    "data": DataPrediction,
    "v": VPrediction,
    "classifier": Classification,
    "eulerian": Eulerian,
    "lagrangian": Lagrangian,
    "semigroup": Semigroup,
    "likelihood": Likelihood,
}

__all__ = [
    "ADJOINTS",
    "OBJECTIVES",
    "TARGETS",
    "WEIGHTS",
    "Classification",
    "DataPrediction",
    "DiscreteLikelihood",
    "Draw",
    "Eulerian",
    "FlowMapObjective",
    "Lagrangian",
    "Likelihood",
    "NoisePrediction",
    "Objective",
    "PathRegression",
    "Problem",
    "Regression",
    "ScoreMatching",
    "Semigroup",
    "VPrediction",
    "VelocityAndScore",
    "VelocityMatching",
    "choose_weight",
    "exact_between",
    "has_finite_loss",
    "irreducible",
    "irreducible_between",
    "likelihood_nfe",
    "linear_loss",
    "linear_loss_between",
    "loss",
    "objection",
    "regression",
    "regret_between",
    "resolve_weight",
    "root_weight",
    "scale_spread",
    "time_at",
    "time_within",
    "training_loss",
    "training_losses",
    "weighted",
]
