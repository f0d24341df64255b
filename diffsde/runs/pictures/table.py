"""The table of pictures: which there are, of what data, which are drawn unasked, and what draws each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.datasets import are_images
from diffsde.errors import UserError, suggestion
from diffsde.runs import folder, report
from diffsde.runs.pictures import images, points, posterior
from diffsde.runs.pictures.drawn import Drawn

# What a picture may meet that is no error in its code: it is said, and the others are drawn all the same.
MISHAPS = (UserError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)


class Picture(NamedTuple):
    """A picture's file, what it shows, and the function that draws it; unasked: whether it is drawn by default."""

    file: str
    shows: str
    draw: Callable[[Any], Any]
    unasked: bool = False


LINE, PLANE, IMAGES = "points on a line", "points in the plane", "images"
MEASURED_PLANE, MEASURED_IMAGES = "measured points in the plane", "measured images"
PICTURES: dict[str, dict[str, Picture]] = {
    LINE: {
        "trajectories": Picture(
            "trajectories.png", "ways by the ODE and the SDE against t", points.trajectories_1d, True
        ),
        "samples": Picture("samples.png", "histograms of samples and of the data", points.samples_1d, True),
    },
    PLANE: {
        "trajectories": Picture("trajectories.png", "ways by the ODE and the SDE", points.trajectories, True),
        "marginals": Picture("marginals.png", "data with noise over samples, at four times", points.marginals, True),
        "film": Picture("cloud.gif", "the cloud of samples from noise to data", points.film, True),
    },
    IMAGES: {
        "samples": Picture("samples.png", "samples beside data, a row for each label", images.samples, True),
        "denoising": Picture("denoising.png", "x_t and E[z|x_t] of a few samples", images.denoising, True),
        "film": Picture("forming.gif", "the same of more, as a film", images.film),
        "comparison": Picture("ode_or_sde.png", "the ODE and an SDE from the same noise", images.comparison),
        "interpolations": Picture("interpolations.png", "what lies between two starting noises", images.interpolations),
        "neighbours": Picture("neighbours.png", "samples beside the nearest training images", images.neighbours),
    },
    MEASURED_PLANE: {"posterior": Picture("posterior.png", "samples of each posterior", posterior.points, True)},
    MEASURED_IMAGES: {"posterior": Picture("posterior.png", "samples of each posterior", posterior.images, True)},
}


def kind_of(shape: tuple[int, ...], measured: bool = False) -> str | None:
    """The key of PICTURES that points of this shape have; None for those that have no pictures."""
    if are_images(shape):
        return IMAGES if not measured else MEASURED_IMAGES if shape[-1] in (1, 3) else None
    if measured:
        return MEASURED_PLANE if shape == (2,) else None
    return {1: LINE, 2: PLANE}.get(shape[0]) if len(shape) == 1 else None


def chosen_pictures(asked: str | tuple[str, ...], shape: tuple[int, ...], measured: bool = False) -> dict[str, Picture]:
    """The pictures that `pictures=` asks for of points of this shape: default, all, none, or these. Raises UserError for one
    that they do not have.
    """
    kind = kind_of(shape, measured)
    able = PICTURES[kind] if kind else {}
    if isinstance(asked, str):
        return {name: each for name, each in able.items() if asked == "all" or (asked == "default" and each.unasked)}
    for name in asked:
        if kind is None:
            raise UserError(f"pictures: there are none of points of shape {shape}; leave it out, or say pictures=none")
        if name not in able:
            raise UserError(
                f"pictures: '{name}' is not a picture of {kind}{suggestion(name, able)}; or say default, all or none"
            )
    return {name: able[name] for name in able if name in asked}


def others(chosen: dict[str, Picture], shape: tuple[int, ...], measured: bool = False) -> list[str]:
    """The names of those that points of this shape have besides."""
    kind = kind_of(shape, measured)
    return [name for name in (PICTURES[kind] if kind else {}) if name not in chosen]


def draw_pictures(subject: Drawn | posterior.Posterior, chosen: dict[str, Picture], out: Path) -> Iterator[Path]:
    """Draw these of samples, or of samples of posteriors, and write each into the folder `out`; its path when it is there.

    What cannot be drawn is said, and takes nothing else with it.
    """
    if isinstance(subject, Drawn):
        image = kind_of(subject.field.shape) == IMAGES
        scene: Any = images.Images(subject, tuple(chosen)) if image else points.Points(subject)
    else:
        scene = subject
    for picture in chosen.values():
        try:
            yield save_figure(out / picture.file, picture.draw(scene))
        except MISHAPS as error:
            report.warn(f"no {picture.file}: {' '.join(str(error).split()) or type(error).__name__}")


def save_figure(path: Path, drawing: Any) -> Path:
    """Write a matplotlib figure, or a film."""
    save = drawing.savefig if hasattr(drawing, "savefig") else drawing.save
    return folder.write(path, save)
