"""A corner plot: each coordinate of samples and of data on the diagonal, each two of them below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, DENSITY, GREY, INK, Extent, HeatMap, heat, new_panels, window

BINS = 50  # of a histogram on the diagonal
PIXELS = 60  # side of a heat map of the data
DOTS = 1500  # samples, at most, that are drawn as dots
FEW = 3000  # data up to which they are dots too


class Compared(NamedTuple):
    """Coordinates of samples x (n, k) and of data (m, k), and what each is called."""

    x: np.ndarray
    data: np.ndarray
    name: str
    data_name: str


def corner(
    shown: Compared,
    names: Sequence[str],
    densities: Sequence[Callable[[np.ndarray], np.ndarray]] | None = None,
    about: str = "",
) -> Figure:
    """Samples against data in k coordinates. densities: the exact one of each, as a function of the edges of pixels, drawn as
    a line in the place of the data's histogram.
    """
    k = len(names)
    figure, axes = new_panels(2.0 if k > 3 else 2.4, k, k, about, 110, titles=0)
    windows = [window([each[:, [i, i]] for each in (shown.x, shown.data)])[:2] for i in range(k)]
    for i in range(k):
        for j in range(k):
            axis = axes[i, j]
            if j > i:
                axis.set_axis_off()
            elif i == j:
                _along(axis, shown, i, windows[i], densities[i] if densities else None)
            else:
                _two(axis, shown, (j, i), Extent(*windows[j], *windows[i]))
            axis.set_xlim(windows[j])
            axis.locator_params(axis="x", nbins=4)
            axis.tick_params(labelsize=7, labelbottom=i == k - 1, labelleft=j == 0 and i > 0)
            if i == k - 1:
                axis.set_xlabel(names[j], fontsize=9)
            if j == 0 and i > 0:
                axis.set_ylabel(names[i], fontsize=9)
            if i > j:
                axis.locator_params(axis="y", nbins=4)
    axes[0, 0].set_ylabel("density", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=_upper(axes), frameon=False, fontsize=9, labelcolor=INK
    )
    return figure


def _upper(axes: np.ndarray) -> tuple[float, float]:
    """The corner of the figure, as shares of its sides, that no panel takes."""
    place = axes[0, -1].get_position()
    return float(place.x1), float(place.y1)


def _along(
    axis: Axes,
    shown: Compared,
    i: int,
    ends: tuple[float, float],
    density: Callable[[np.ndarray], np.ndarray] | None,
) -> None:
    """One coordinate: the histogram of the samples, all of them, and that of the data, or the exact density as a line."""
    x, data = shown.x[:, i], shown.data[:, i]
    inner = np.linspace(*ends, BINS + 1)
    bins = np.unique(np.concatenate([[min(x.min(), data.min(), ends[0])], inner, [max(x.max(), data.max(), ends[1])]]))
    axis.hist(x, bins=bins.tolist(), density=True, histtype="stepfilled", color=INK, alpha=0.25, lw=0, label=shown.name)
    if density is not None:
        edges = np.linspace(*ends, 4 * BINS + 1)
        axis.plot((edges[1:] + edges[:-1]) / 2, density(edges), color=DATA, lw=1.4, label="exact density")
        axis.plot([], [], "o", color=DENSITY(0.5), ms=5, label=shown.data_name)
    else:
        axis.hist(data, bins=bins.tolist(), density=True, histtype="step", color=DATA, lw=1.3, label=shown.data_name)
    axis.spines["left"].set_color(GREY)
    axis.set_yticks([])


def _two(axis: Axes, shown: Compared, pair: tuple[int, int], extent: Extent) -> None:
    """Two coordinates: samples as dots over the data, which are a heat map of counts, or dots where they are few."""
    x, data = shown.x[:DOTS, pair], shown.data[:, pair]
    if len(data) > FEW:
        left, right, bottom, top = extent[:4]
        counts, *_ = np.histogram2d(data[:, 1], data[:, 0], PIXELS, [[bottom, top], [left, right]])
        heat(axis, HeatMap(counts, extent), DENSITY)
    else:
        axis.scatter(data[:, 0], data[:, 1], s=4, color=DATA, alpha=0.5, linewidth=0)
    axis.scatter(x[:, 0], x[:, 1], s=2.2, color=INK, alpha=0.45, linewidth=0)
    axis.set(xlim=extent[:2], ylim=extent[2:4], aspect="auto")
