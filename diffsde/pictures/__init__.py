"""The pictures that verbs draw; imported only when something is drawn, since importing matplotlib is slow."""

from __future__ import annotations

from diffsde.pictures.between import Between
from diffsde.pictures.drawn import Drawn, described_sampler
from diffsde.pictures.posterior import PosteriorScene
from diffsde.pictures.processes import PathScene
from diffsde.pictures.table import (
    MISHAPS,
    PATHS,
    PATHS_IN_PLANE,
    RUN,
    RUN_IN_PLANE,
    RUN_ON_IMAGES,
    check_coordinates,
    chosen_pictures,
    draw_pictures,
    kind_of,
    kind_of_flow,
    more_pictures,
    save_figure,
    scene_of,
)
from diffsde.pictures.training import TrainedRun

__all__ = [
    "MISHAPS",
    "PATHS",
    "PATHS_IN_PLANE",
    "RUN",
    "RUN_IN_PLANE",
    "RUN_ON_IMAGES",
    "Between",
    "Drawn",
    "PathScene",
    "PosteriorScene",
    "TrainedRun",
    "check_coordinates",
    "chosen_pictures",
    "described_sampler",
    "draw_pictures",
    "kind_of",
    "kind_of_flow",
    "more_pictures",
    "save_figure",
    "scene_of",
]
