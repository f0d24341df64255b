"""The cloud of samples at a few times, beside the true one, and its film."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.film import Film, discs, inked, pixels, strips
from diffsde.plots.style import DATA, DENSITY, INK, Extent, HeatMap, frame, heat, new_figure, new_panels

FILM_DPI = 90
STAMP = 9.0  # points of the letters that say a film's time


def marginals(
    times: list[float],
    rows: dict[str, list[np.ndarray]],
    densities: list[HeatMap] | None,
    extent: Extent,
    about: str = "",
) -> Figure:
    """A row of clouds (n, 2), one at each time, for each title; over the exact p_t where it is known."""
    figure, axes = new_panels(2.9, len(rows), len(times), about, 100)
    for line, (title, clouds) in zip(axes, rows.items(), strict=True):
        for i, (axis, t, cloud) in enumerate(zip(line, times, clouds, strict=True)):
            if densities is not None:
                heat(axis, densities[i], DENSITY)
            axis.scatter(cloud[:, 0], cloud[:, 1], s=2.2, color=INK, alpha=0.45, linewidth=0)
            axis.set_title(f"{title}, t = " + f"{t:.2f}".rstrip("0").rstrip("."))
            frame(axis, extent)
            axis.label_outer()
    return figure


def samples_1d(samples: np.ndarray, truth: np.ndarray, name: str = "$x$", about: str = "") -> Figure:
    """Histograms of samples (n,) and of true data (m,)."""
    figure, axes = new_figure(6, 3.8, about=about)
    bins = np.histogram_bin_edges(np.concatenate([samples, truth]), bins=80)
    axes[0, 0].hist(truth, bins=bins.tolist(), density=True, color=DATA, alpha=0.45, label="data")
    axes[0, 0].hist(samples, bins=bins.tolist(), density=True, histtype="step", color=INK, lw=1.2, label="samples")
    axes[0, 0].legend(frameon=False, fontsize=8, labelcolor=INK)
    axes[0, 0].set(xlabel=name, ylabel="density", title="samples against data")
    return figure


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
