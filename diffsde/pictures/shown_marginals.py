"""`diffsde show what=marginals`: x_t of the data above, samples on their way below, at the same times."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from diffsde.datasets import are_images
from diffsde.errors import UserError
from diffsde.pictures.images import screen_of_images
from diffsde.pictures.places import densities, places, plane_of, window_of
from diffsde.pictures.subjects import Shown, ShownSubject, noised
from diffsde.plots import clouds as plots
from diffsde.plots import images as image_plots
from diffsde.plots.style import at_time
from diffsde.runs.show_config import ShowConfig
from diffsde.types import Key

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
DRAWN, IMAGES = 3000, 6  # samples: of points, and of images


class ShownStates(NamedTuple):
    """Samples on their way: x (m, n, *shape) in the data's own units at times (m,), and how they were drawn, as text.

    labels (n,): their labels, where they have several; None: none, or the picture's one.
    """

    times: np.ndarray
    x: np.ndarray
    how: str
    labels: np.ndarray | None = None


def marginals(chosen: ShowConfig, found: ShownSubject, states: ShownStates, key: Key) -> Shown:
    """The picture of samples that are there: the data with noise at the samples' own times above them."""
    times, n = states.times, states.x.shape[1]
    z = found.data(n, key)
    if states.labels is not None:
        z = np.asarray(found.dataset.draw_given(found.dataset.load(), states.labels, key, n))
    truth = found.own(noised(found, z, jax.random.fold_in(key, 1), times, states.labels))
    arrays = {"times": times, "truth": truth, "samples": states.x}
    about = f"marginals of {found.of}: data x_t{found.between.note} above, samples below by {states.how}"
    if are_images(found.shape):
        return _images(found, chosen, states, truth, arrays, about)
    plane = plane_of(found, chosen)
    rows, stamps = {"data": truth, "samples": states.x}, {"data": times, "samples": times}
    if found.d == 1:
        spots = places(found, chosen, [*truth, *states.x], np.zeros(1))
        lines = None
        if found.exact is not None and hasattr(found.exact, "mixture") and states.labels is None:
            lines = spots.points[:, 0], np.exp(densities(found, found.exact, spots, times))
            arrays |= {"density_x": lines[0], "density": lines[1]}
        each = {title: list(x[..., 0]) for title, x in rows.items()}
        return Shown(arrays, lambda: plots.histograms_in_time(each, stamps, lines, spots.extent, about), about)
    extent = window_of(chosen, found, plane, [*truth, *states.x])
    clouds = {title: [plots.Cloud(x_t[:, plane]) for x_t in x] for title, x in rows.items()}
    return Shown(arrays, lambda: plots.clouds_in_time(clouds, stamps, extent, (), about), about)


def _images(
    found: ShownSubject,
    chosen: ShowConfig,
    states: ShownStates,
    truth: np.ndarray,
    arrays: dict[str, np.ndarray],
    about: str,
) -> Shown:
    """Rows of images, data with noise above samples."""
    if chosen.window is not None or chosen.coordinates is not None:
        raise UserError("window= and coordinates= are of points; these are images")
    shown, few = screen_of_images(found.dataset, found.scaling), min(IMAGES, states.x.shape[1])
    rows = [shown(_model(found, x[:, i])) for x in (truth, states.x) for i in range(few)]
    labels = ["data"] + [""] * (few - 1) + ["samples"] + [""] * (few - 1)
    gaps = [2] * (few - 1) + [12] + [2] * few
    headings = [at_time(float(t)) for t in states.times]
    return Shown(arrays, lambda: image_plots.lines(rows, labels, headings, gaps, about), about)


def _model(found: ShownSubject, x: np.ndarray) -> np.ndarray:
    from diffsde.datasets.scaling import to_model

    return to_model(found.scaling, x)
