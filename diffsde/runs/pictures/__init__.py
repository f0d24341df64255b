"""The pictures that verbs draw; imported when something is drawn, since matplotlib takes its time."""

from __future__ import annotations

from diffsde.runs.pictures.drawn import Drawn, described
from diffsde.runs.pictures.posterior import Posterior
from diffsde.runs.pictures.table import (
    RUN,
    RUN_ON_IMAGES,
    chosen_pictures,
    draw_pictures,
    kind_of,
    more_pictures,
    save_figure,
    scene_of,
)
from diffsde.runs.pictures.training import TrainedRun

__all__ = [
    "RUN",
    "RUN_ON_IMAGES",
    "Drawn",
    "Posterior",
    "TrainedRun",
    "chosen_pictures",
    "described",
    "draw_pictures",
    "kind_of",
    "more_pictures",
    "save_figure",
    "scene_of",
]
