"""The one look of all pictures. Figures are made without pyplot: no global state, no window, no leak."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

INK = "#1b1f2a"
GREY = "#8a90a0"
NOISE = "#2f6fb7"
DATA = "#c8452f"
PATHLINE = "#2b2f3a"
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#f7d9b8", "#eb9a6b", "#c8452f", "#7c1d2b"])
PRIOR = LinearSegmentedColormap.from_list("prior", ["#ffffff", "#cfe0f2", "#7fadd8", "#2f6fb7"])


class Extent(NamedTuple):
    """The window of a 2-D picture, the same in all pictures of a run."""

    left: float
    right: float
    bottom: float
    top: float
    names: tuple[str, ...] = ("", "")  # of the two coordinates


class HeatMap(NamedTuple):
    """A density on a grid: values (rows, columns), rows along y, over an extent."""

    values: np.ndarray
    extent: Extent


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(GREY)
        axis.tick_params(colors=GREY, labelsize=8)
        axis.title.set_fontsize(10)
        axis.title.set_color(INK)
    return figure, axes


def window(points: np.ndarray, margin: float = 0.12, square: bool = True) -> Extent:
    """A window about points (n, 2), robust to a few that are far away; square: as wide as it is high, in their units."""
    low, high = np.quantile(points.astype(np.float64), [0.001, 0.999], axis=0)
    sides = np.where(high > low, high - low, np.maximum(np.abs(low), 1) * 1e-6)
    centre, half = (low + high) / 2, (sides.max() if square else sides) / 2 * (1 + 2 * margin)
    (left, bottom), (right, top) = centre - half, centre + half
    return Extent(left, right, bottom, top)


def heat(axis: Axes, density: HeatMap, cmap: Colormap, power: float = 0.5, alpha: float = 1.0) -> None:
    """A density as a heat map; the power brings out its tails."""
    values = (density.values / max(density.values.max(), 1e-300)) ** power
    axis.imshow(
        values,
        extent=density.extent[:4],
        aspect="auto",
        origin="lower",
        cmap=cmap,
        vmin=0,
        vmax=1,
        alpha=alpha,
        interpolation="bilinear",
    )


def frame(axis: Axes, extent: Extent) -> None:
    """The window, its two units of one length where it is square, else as square a picture all the same."""
    ratio = (extent.right - extent.left) / (extent.top - extent.bottom)
    axis.set(xlim=extent[:2], ylim=extent[2:4], aspect=ratio, xlabel=extent.names[0], ylabel=extent.names[1])
    axis.locator_params(axis="x", nbins=5)  # numbers of many digits would run into one another
