"""The cloud of samples at a few times, beside the true one, and its film."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.film import Film, discs, inked, pixels, strips
from diffsde.plots.style import (
    CLASSES,
    DENSITY,
    INK,
    Extent,
    HeatMap,
    contours,
    escape_formulas,
    frame,
    heat,
    new_panels,
    shown_time,
)

FILM_DPI = 90
FITTING = 320  # points of letters times their number that fit over a panel
STAMP = 9.0  # points of the letters that say a film's time


class Truth(NamedTuple):
    """The density of the data with noise at each time, how it is known, and whether contours are drawn, as of exact ones."""

    densities: list[HeatMap]
    titles: list[str]
    contours: list[bool]


class Clouds(NamedTuple):
    """Samples (n, 2) at each time; groups: which of them (n,) have each label, by its name, or None."""

    x: list[np.ndarray]
    groups: dict[str, np.ndarray] | None = None


def marginals(times: list[float], truth: Truth, clouds: Clouds, extent: Extent, about: str = "") -> Figure:
    """The true density at each time above the cloud of samples, which lies over the same density."""
    figure, axes = new_panels(2.9, 2, len(times), about, 100)
    for i, t in enumerate(times):
        for axis in axes[:, i]:
            heat(axis, truth.densities[i], DENSITY)
        if truth.contours[i]:
            contours(axes[0, i], truth.densities[i])
        title = f"{truth.titles[i]}, t = {shown_time(t)}"
        axes[0, i].set_title(title, fontsize=min(10, FITTING / len(title)))
        axes[1, i].set_title(f"{len(clouds.x[i]):,} samples, t = {shown_time(t)}")
        dots(axes[1, i], clouds.x[i], clouds.groups)
        for axis in axes[:, i]:
            frame(axis, extent)
            axis.label_outer()
    if axes[1, 0].get_legend_handles_labels()[1]:  # of one group alone the points have no label
        axes[1, 0].legend(frameon=False, fontsize=7, labelcolor=INK, loc="upper left", markerscale=3, handletextpad=0.1)
    return figure


def cloud_at_times(
    times: list[float], clouds: list[np.ndarray], density: HeatMap | None, extent: Extent, about: str = ""
) -> Figure:
    """A cloud (n, 2) at each time, over one density where there is one."""
    figure, axes = new_panels(2.9, 1, len(times), about, 100)
    for axis, t, cloud in zip(axes.flat, times, clouds, strict=True):
        if density is not None:
            heat(axis, density, DENSITY)
        dots(axis, cloud)
        axis.set_title(f"{len(cloud):,} paths, t = {shown_time(t)}")
        frame(axis, extent)
        axis.label_outer()
    return figure


def dots(axis: Axes, x: np.ndarray, groups: dict[str, np.ndarray] | None = None, size: float = 2.2) -> None:
    """Points (n, 2); groups: those that have each label, in a colour of their own, up to as many as there are colours."""
    if groups is None or not 1 < len(groups) <= len(CLASSES):
        axis.scatter(x[:, 0], x[:, 1], s=size, color=INK, alpha=0.45, linewidth=0)
        return
    for (name, mine), colour in zip(groups.items(), CLASSES, strict=False):
        mine = mine[: len(x)]
        axis.scatter(x[mine, 0], x[mine, 1], s=size, color=colour, alpha=0.6, linewidth=0, label=escape_formulas(name))


def film_of_points(
    panels: dict[str, np.ndarray], times: np.ndarray, data: HeatMap, extent: Extent, about: str = ""
) -> Film:
    """The clouds (m, n, 2) moving through `times` (m,), a panel each, over p_data."""
    figure, axes = new_panels(3.3, 1, len(panels), about, FILM_DPI)
    for axis, title in zip(axes.flat, panels, strict=True):
        heat(axis, data, DENSITY, alpha=0.75)
        axis.set_title(title)
        frame(axis, extent)
        axis.label_outer()
    drawn = pixels(figure)
    shape = drawn.shape[:2]
    background = inked(drawn, np.any([within(axis, shape) for axis in axes.flat], axis=0))
    places = np.concatenate(
        [placed(axis, paths, shape[0]) for axis, paths in zip(axes.flat, panels.values(), strict=True)], axis=1
    )
    stamps = -np.log1p(-0.999 * strips([f"t = {t:.2f}" for t in times], STAMP, FILM_DPI))
    left, _, _, top = axes[0, 0].get_window_extent().extents
    corner = (
        slice(begin := int(shape[0] - top) + 4, begin + stamps.shape[1]),
        slice(begin := int(left) + 8, begin + stamps.shape[2]),
    )
    frames = []
    for points, stamp in zip(places, stamps, strict=True):
        ink = discs(points[~np.isnan(points[:, 0])], shape)
        ink[corner] += stamp
        frames.append(background.frame(ink))
    return Film(np.stack(frames), background.palette)


def within(axis: Axes, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels of a picture of this shape (height, width) lie in the axes."""
    left, low, right, top = axis.get_window_extent().extents
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1]) + 0.5
    return (shape[0] - rows > low) & (shape[0] - rows < top) & (columns > left) & (columns < right)


def placed(axis: Axes, paths: np.ndarray, height: int) -> np.ndarray:
    """Where points (m, n, 2) lie on a picture of this height, in pixels from its upper left corner; NaN outside the axes."""
    x, y = np.moveaxis(axis.transData.transform(paths.reshape(-1, 2)).reshape(paths.shape), -1, 0)
    left, low, right, top = axis.get_window_extent().extents
    inside = (x >= left) & (x <= right) & (y >= low) & (y <= top)
    return np.where(inside[..., None], np.stack([x, height - y], axis=-1), np.nan)
