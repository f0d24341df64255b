"""Trajectories from noise to data, beside one another, over the densities at both ends."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from diffsde.plots.style import (
    DATA,
    DENSITY,
    INK,
    NOISE,
    PATHLINE,
    PRIOR,
    Extent,
    HeatMap,
    frame,
    heat,
    new_panels,
)


def trajectories(
    panels: dict[str, np.ndarray],
    ends: tuple[float, float],
    prior: HeatMap,
    data: HeatMap,
    extent: Extent,
    about: str = "",
) -> Figure:
    """A panel for each title, paths (m, k, 2) of k samples from one end in time to the other, over p_init (blue) and p_data
    (red).
    """
    figure, axes = new_panels(4.8, 1, len(panels), about, 100)
    for axis, (title, paths) in zip(axes.flat, panels.items(), strict=True):
        heat(axis, data, DENSITY, alpha=0.9)
        heat(axis, prior, _fading(PRIOR), alpha=0.9)
        for k in range(paths.shape[1]):
            axis.plot(paths[:, k, 0], paths[:, k, 1], color=PATHLINE, lw=0.55, alpha=0.55)
        axis.scatter(
            *paths[0].T, s=9, color=NOISE, edgecolor="white", linewidth=0.4, zorder=3, label=f"t = {ends[0]:.3g}"
        )
        axis.scatter(
            *paths[-1].T, s=11, color=DATA, edgecolor="white", linewidth=0.4, zorder=4, label=f"t = {ends[1]:.3g}"
        )
        axis.set_title(title)
        frame(axis, extent)
        axis.label_outer()
    axes.flat[0].legend(frameon=False, fontsize=8, loc="upper left", labelcolor=INK)
    return figure


def _fading(cmap: Colormap) -> ListedColormap:
    """The colormap with its low end transparent, to lie over another heat map."""
    colours = cmap(np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(0, 1, 256) ** 0.7
    return ListedColormap(colours)
