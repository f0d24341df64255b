"""Pictures of images: samples, their denoising, ODE against SDE, interpolations, and nearest training images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diffsde.datasets import Dataset, Examples
from diffsde.datasets.finite import HALF_RANGE, as_points, mirrored
from diffsde.datasets.scaling import Scaling
from diffsde.errors import UserError
from diffsde.guidance import Guided
from diffsde.metrics.neighbours import nearest
from diffsde.pictures.comparison_simulations import (
    DEGREES,
    ComparisonSimulations,
    DenoisedTrajectory,
    comparison_simulations,
)
from diffsde.pictures.drawn import Drawn, labels_given, names_of, on_screen
from diffsde.plots import images as plots
from diffsde.plots.film import Film

SIDE = 10  # images along a side of the grid of samples
CLASSES = 20  # most rows of the grid where each row is a class
COMPARED = 6  # images along a side of each of the two grids of `comparison`
FILMED = 4  # images along a side of the film's grids
STRIPS = 5  # samples in `denoising`
TIMES = 10  # times in `denoising`
SEEN = 1000  # images that set black and white where the data are not bytes
NEIGHBOURS = 6  # samples in `neighbours`, and training images per sample


@dataclasses.dataclass(frozen=True)
class ImageScene:
    """The inputs of pictures of images, each computed when first used. names: the pictures that will be drawn."""

    drawn: Drawn
    names: tuple[str, ...]

    @cached_property
    def x(self) -> np.ndarray:
        """The samples (n, H, W, C)."""
        return np.asarray(self.drawn.x)

    @cached_property
    def shown(self) -> Callable[[Any], np.ndarray]:
        """The map from images in the model's units to [-1, 1] (screen_of_images)."""
        return screen_of_images(self.drawn.dataset, self.drawn.scaling)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The labels (n,) of the samples, or None."""
        return labels_given(self.drawn)

    @cached_property
    def beside(self) -> ComparisonSimulations:
        """The simulations for all pictures in `names`."""
        field, n = self.drawn.field, len(self.x)
        followed = plots.fitting_columns(field.shape, FILMED, 2) ** 2 if {"denoising", "film"} & {*self.names} else 0
        compared = plots.fitting_columns(field.shape, COMPARED, 2) ** 2 if "comparison" in self.names else 0
        return comparison_simulations(
            self.drawn,
            min(n, followed) if field.knows_data else 0,
            min(n, compared) if field.knows_score else 0,
            "interpolations" in self.names and not self.drawn.between.two_laws,
        )

    @cached_property
    def way(self) -> DenoisedTrajectory:
        """The trajectories of the first samples, with E[z|x_t]. Raises UserError where the field does not know it."""
        if not self.drawn.field.knows_data:
            raise UserError("the field does not know E[z|x_t]; train with objective=cfm+score")
        assert self.beside.way is not None
        return self.beside.way

    @cached_property
    def examples(self) -> Examples | None:
        """The data's examples, where they are finite and can be read; else None."""
        dataset = self.drawn.dataset
        arrays = dataset.load() if self.drawn.known else None
        return arrays if isinstance(arrays, Examples) else None


def image_samples(images: ImageScene) -> Figure:
    """Data and the first samples side by side, with labels one row per label; samples alone where there are no data."""
    drawn, examples, labels = images.drawn, images.examples, images.labels
    rows = first_of(labels) if labels is not None else np.arange(min(len(images.x), SIDE**2))
    given_labels = None if labels is None else labels[rows]
    panels = {"samples": images.shown(images.x[rows])}
    if examples is not None:
        panels = {"data": images.shown(drawn.dataset.draw_given(examples, given_labels, drawn.key, len(rows)))} | panels
    return image_overview(panels, given_labels, drawn.about, names_of(drawn.dataset))


def first_of(labels: np.ndarray) -> np.ndarray:
    """Indices of the first SIDE samples per label, of labels (n,), in increasing order."""
    each = [np.flatnonzero(labels == label)[:SIDE] for label in np.unique(labels)[:CLASSES]]
    return np.sort(np.concatenate(each))


def image_denoising(images: ImageScene) -> Figure:
    """x_t and the field's data prediction of a few samples, at a few times."""
    way, shown = images.way, images.shown
    at = np.unique(np.linspace(0, len(way.times) - 1, TIMES).round().astype(int))
    return plots.denoising(
        images.drawn.path_times(way.times[at]),
        shown(way.x[at, :STRIPS]),
        shown(way.data[at, :STRIPS]),
        prediction(images.drawn),
        images.drawn.about,
    )


def image_film(images: ImageScene) -> Film:
    """A film of x_t and of the field's data prediction."""
    way, shown = images.way, images.shown
    titles = {"$x_t$": shown(way.x), prediction(images.drawn): shown(way.data)}
    return plots.film_of_images(titles, images.drawn.path_times(way.times), square(way.x[0]), images.drawn.about)


def image_comparison(images: ImageScene) -> Figure:
    """The ODE's samples and the SDE's from the same start, side by side. Raises UserError where the field knows no score."""
    if not images.drawn.field.knows_score:
        raise UserError("an SDE needs the score, which the field does not know; train with objective=cfm+score")
    panels = {title: images.shown(each) for title, each in images.beside.panels.items()}
    return plots.grids(panels, square(next(iter(panels.values()))), images.drawn.about)


def image_interpolations(images: ImageScene) -> Figure:
    """Spherical interpolations between pairs of samples. Raises UserError where no two samples have the same condition."""
    if images.drawn.between.two_laws:
        raise UserError("what lies between two points of a source is no point of it; they are of noise")
    found, labels = images.beside.slerp, images.labels
    assert found is not None
    if not len(found.ends):
        raise UserError("there are no two samples from noise that are given the same")
    names = (
        [""] * len(found.ends)
        if labels is None
        else [names_of(images.drawn.dataset)(int(labels[i])) for i in found.ends[:, 0]]
    )
    return plots.interpolations(images.shown(found.x), DEGREES, names, images.drawn.about)


def image_neighbours(images: ImageScene) -> Figure:
    """The nearest training images of the first few samples. Raises UserError where the training images are not all in memory."""
    dataset = images.drawn.dataset
    arrays = dataset.load()
    if not isinstance(arrays, Examples):
        raise UserError("the data have no end")
    if dataset.stream:
        raise UserError("they are of all data, of which dataset.stream=true holds only a part")
    few = images.x[:NEIGHBOURS]
    near, distances = learnt_from(few, np.asarray(arrays.x), dataset.flip)
    return plots.neighbours(images.shown(few), images.shown(near), distances, images.drawn.about)


def prediction(drawn: Drawn) -> str:
    """The symbol of the field's data prediction: E[z|x_t] or E[z|x_t, y]; D_w for a guided field, which is no expectation."""
    if isinstance(drawn.field, Guided):
        return "$D_w(x_t, y)$" if labels_given(drawn) is not None else "$D_w(x_t)$"
    return r"$\mathrm{E}[z\,|\,x_t, y]$" if labels_given(drawn) is not None else r"$\mathrm{E}[z\,|\,x_t]$"


def screen_of_images(dataset: Dataset, scaling: Scaling | None) -> Callable[[Any], np.ndarray]:
    """The map from a dataset's images in the model's units to [-1, 1], black to white (on_screen)."""
    arrays = dataset.load() if scaling is not None else None
    return on_screen(scaling, np.asarray(arrays.x)[:SEEN]) if isinstance(arrays, Examples) else np.asarray


def square(images: np.ndarray) -> int:
    """Number of columns of a nearly square grid of images."""
    return math.isqrt(len(images) - 1) + 1


def image_overview(
    panels: dict[str, np.ndarray], labels: np.ndarray | None, about: str = "", names: Callable[[int], str] = str
) -> Figure:
    """The first images (n, H, W, C) of each panel in a square grid; with labels (n,), in one row per label, by its name."""
    shape = next(iter(panels.values())).shape[1:]
    columns = plots.fitting_columns(shape, SIDE, len(panels))
    if labels is None:
        few = {title: x[: columns**2] for title, x in panels.items()}
        return plots.grids(few, square(next(iter(few.values()))), about)
    kinds = np.unique(labels)[:CLASSES]
    return plots.by_class(
        {
            title: {names(int(kind)).removeprefix("label "): x[labels == kind][:columns] for kind in kinds}
            for title, x in panels.items()
        },
        about,
    )


def learnt_from(x: np.ndarray, data: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The training images (n, k, H, W, C) nearest to x (n, H, W, C), nearest first, and their distances (n, k).

    data (N, H, W, C): training images, bytes or floats, as from Dataset.load; flip: mirror images are included.
    """
    data = np.concatenate([data, mirrored(data)]) if flip else data
    bytes_ = data.dtype == np.uint8
    found = nearest(x * HALF_RANGE + HALF_RANGE if bytes_ else x, data, NEIGHBOURS)
    return np.asarray(as_points(data[found.indices])), found.distances / (HALF_RANGE if bytes_ else 1)
