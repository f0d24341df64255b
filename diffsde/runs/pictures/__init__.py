"""Which pictures a verb draws: a small companion simulation beside the samples, ODE and SDE from the same noise."""

from __future__ import annotations

from pathlib import Path

from diffsde.runs.pictures.drawn import Drawn, on_screen, save_figure
from diffsde.runs.pictures.images import are_images, draw_images, learned
from diffsde.runs.pictures.points import draw_points

__all__ = ["Drawn", "are_images", "draw_pictures", "learned", "on_screen", "save_figure"]


def draw_pictures(drawn: Drawn, out: Path) -> list[Path]:
    """Those of points on a line or in the plane, or those of images; other shapes have none."""
    shape = drawn.field.shape
    if are_images(shape):
        return draw_images(drawn, out)
    return draw_points(drawn, out) if len(shape) == 1 and shape[0] <= 2 else []
