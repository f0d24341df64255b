"""Objectives: the regression targets (objective), the loss of one example (losses), and the weight in t (weights)."""

from __future__ import annotations

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
    VelocityMatching,
    regression,
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
    "VelocityMatching",
    "choose_weight",
    "has_finite_loss",
    "irreducible",
    "linear_loss",
    "loss",
    "objection",
    "regression",
    "resolve_weight",
    "root_weight",
    "scale_spread",
    "training_loss",
    "weighted",
]
