"""The pictures that verbs draw; imported when something is drawn, since matplotlib takes its time."""

from __future__ import annotations

from diffsde.runs.pictures.drawn import Drawn, described
from diffsde.runs.pictures.images import learned
from diffsde.runs.pictures.posterior import Posterior
from diffsde.runs.pictures.table import chosen_pictures, draw_pictures, others, save_figure

__all__ = ["Drawn", "Posterior", "chosen_pictures", "described", "draw_pictures", "learned", "others", "save_figure"]
