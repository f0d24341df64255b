"""Objectives: the regression targets (objective), the loss of one example (losses), and the weight in t (weights)."""

from __future__ import annotations

from diffsde.objectives.between import exact_between, irreducible_between, linear_loss_between, regret_between
from diffsde.objectives.losses import irreducible, loss, root_weight, training_loss
from diffsde.objectives.objective import (
    OBJECTIVES,
    WEIGHTS,
    Classification,
    Draw,
    NoisePrediction,
    Objective,
    Problem,
    Regression,
    ScoreMatching,
    VelocityAndScore,
    VelocityMatching,
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

__all__ = [
    "OBJECTIVES",
    "WEIGHTS",
    "Classification",
    "Draw",
    "NoisePrediction",
    "Objective",
    "Problem",
    "Regression",
    "ScoreMatching",
    "VelocityAndScore",
    "VelocityMatching",
    "choose_weight",
    "exact_between",
    "has_finite_loss",
    "irreducible",
    "irreducible_between",
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
    "weighted",
]
