"""Samples of several jobs side by side: clouds or trajectories in the plane, histograms on a line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from diffsde.plots.lines import histogram
from diffsde.plots.marginals import dots
from diffsde.plots.style import (
    DATA,
    DENSITY,
    GREY,
    INK,
    NOISE,
    PATHLINE,
    Extent,
    HeatMap,
    frame,
    heat,
    new_panels,
    wrapped,
)


class Panel(NamedTuple):
    """Samples x (n, 2) of a job, under a title; groups: which have each label; way: trajectories (m, k, 2), or None."""

    title: str
    x: np.ndarray
    groups: dict[str, np.ndarray] | None = None
    way: np.ndarray | None = None


def clouds_grid(panels: list[Panel], columns: int, density: HeatMap | None, extent: Extent, about: str = "") -> Figure:
    """A panel for each job: its trajectories where there are any, else its samples, over the density of the data."""
    rows = -(-len(panels) // columns)
    titles, lines = wrapped(panel.title for panel in panels)
    figure, axes = new_panels(2.7, rows, columns, about, 100, titles=lines)
    for axis, panel, title in zip(axes.flat, panels, titles, strict=False):
        if density is not None:
            heat(axis, density, DENSITY)
        if panel.way is None:
            dots(axis, panel.x, panel.groups, 2.6)
        else:
            axis.plot(panel.way[..., 0], panel.way[..., 1], color=PATHLINE, lw=0.55, alpha=0.55)
            axis.scatter(*panel.way[0].T, s=7, color=NOISE, edgecolor="white", linewidth=0.3, zorder=3)
            axis.scatter(*panel.way[-1].T, s=9, color=DATA, edgecolor="white", linewidth=0.3, zorder=4)
        axis.set_title(title)
        frame(axis, extent)
    _outer(axes, len(panels))
    grouped = next((i for i, panel in enumerate(panels) if panel.groups and panel.way is None), None)
    handles, labels = axes.flat[grouped or 0].get_legend_handles_labels()
    if labels:
        axes.flat[grouped or 0].legend(
            handles,
            labels,
            frameon=False,
            fontsize=7,
            labelcolor=INK,
            loc="upper left",
            markerscale=3,
            handletextpad=0.1,
        )
    return figure


def lines_grid(
    titles: list[str],
    samples: list[np.ndarray],
    edges: np.ndarray,
    density: np.ndarray | None,
    name: str,
    about: str = "",
) -> Figure:
    """A panel for each job: the histogram of its samples (n,), and the density of the data on pixels as a line."""
    columns = min(4, len(samples))
    rows = -(-len(samples) // columns)
    titles, lines = wrapped(titles)
    figure, axes = new_panels(2.7, rows, columns, about, 100, titles=lines)
    high = 0.0
    for axis, title, x in zip(axes.flat, titles, samples, strict=False):
        histogram(axis, x, edges, "samples")
        if density is not None:
            axis.plot((edges[1:] + edges[:-1]) / 2, density, color=DATA, lw=1.4, label="data")
        axis.set(title=title, xlabel=name, ylabel="density", xlim=(edges[0], edges[-1]))
        high = max(high, axis.get_ylim()[1])
    for axis in axes.flat:
        axis.set_ylim(0, high)
    axes.flat[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    _outer(axes, len(samples))
    return figure


def _outer(axes: np.ndarray, used: int) -> None:
    """Names and numbers at the left and at the bottom alone, of the panels that are used."""
    columns = axes.shape[1]
    for i, axis in enumerate(axes.flat):
        if i >= used:
            axis.set_axis_off()
            continue
        axis.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= used, colors=GREY)
        if i % columns:
            axis.set_ylabel("")
        if i + columns < used:
            axis.set_xlabel("")
