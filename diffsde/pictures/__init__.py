"""The pictures that verbs draw; imported when something is drawn, since matplotlib takes its time."""

from __future__ import annotations

from diffsde.pictures.drawn import Drawn, described
from diffsde.pictures.posterior import Posterior
from diffsde.pictures.table import (
    RUN,
    RUN_ON_IMAGES,
    chosen_pictures,
    draw_pictures,
    kind_of,
    more_pictures,
    save_figure,
    scene_of,
)
from diffsde.pictures.training import TrainedRun

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
