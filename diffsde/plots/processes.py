"""Paths of a process: against t, in the plane, their law at the end, and their autocorrelation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    new_figure,
    new_panels,
)

SEVERAL = 2  # starting points, at most, whose stds are drawn too
LEGEND = {"frameon": False, "fontsize": 8, "labelcolor": INK}


class Panel(NamedTuple):
    """Paths x (m, k) at times (m,) against t; known: the exact mean and std (m,) at them, one pair for each starting point;
    limit: mean and std of the stationary law. Empty and None where they are not known.
    """

    times: np.ndarray
    x: np.ndarray
    known: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    limit: tuple[float, float] | None = None
    title: str = ""


def path_lines(axis: Axes, panel: Panel, width: float = 0.5) -> None:
    """A panel's paths, exact mean and std, and stationary band on axes."""
    axis.plot(panel.times, panel.x, color=PATHLINE, lw=width, alpha=0.45)
    if panel.limit is not None:
        centre, half = panel.limit
        axis.axhspan(centre - half, centre + half, color=DATA, alpha=0.16, lw=0, label="stationary mean $\\pm$ std")
    many = len(panel.known) > SEVERAL
    for i, (middle, std) in enumerate(panel.known):
        label = ("exact mean" if many else r"exact mean $\pm$ std") if i == 0 else None
        axis.plot(panel.times, middle, color=NOISE, lw=0.9 if many else 1.4, label=label)
        for side in () if many else (middle - std, middle + std):
            axis.plot(panel.times, side, color=NOISE, lw=1.1, ls="--")
    axis.set_xlim(panel.times[0], panel.times[-1])


def paths_against_t(panel: Panel, name: str, about: str) -> Figure:
    """Paths against t, with what is known of their law."""
    figure, axes = new_figure(6.4, 4.0, about=about)
    path_lines(axes[0, 0], panel)
    axes[0, 0].set(xlabel="t", ylabel=name, title=panel.title)
    if panel.known or panel.limit is not None:
        axes[0, 0].legend(**LEGEND)
    return figure


def paths_in_plane(
    x: np.ndarray, end: float, density: HeatMap | None, extent: Extent, title: str, about: str
) -> Figure:
    """Paths x (m, k, 2) in the plane, their first and last points, over the stationary density."""
    figure, axes = new_panels(4.6, 1, 1, about, 100)
    axis = axes[0, 0]
    if density is not None:
        heat(axis, density, DENSITY, alpha=0.8)
    for k in range(x.shape[1]):
        axis.plot(x[:, k, 0], x[:, k, 1], color=PATHLINE, lw=0.4, alpha=0.4)
    axis.scatter(*x[0].T, s=12, color=NOISE, edgecolor="white", linewidth=0.4, zorder=3, label="t = 0")
    axis.scatter(*x[-1].T, s=12, color=DATA, edgecolor="white", linewidth=0.4, zorder=4, label=f"t = {end:.3g}")
    axis.set_title(title)
    frame(axis, extent)
    axis.legend(loc="upper left", **LEGEND)
    return figure


def law_at_end(
    x: np.ndarray, curves: dict[str, tuple[np.ndarray, np.ndarray]], name: str, title: str, about: str
) -> Figure:
    """A histogram of the last states x (n,), and known densities (points, values) by name."""
    figure, axes = new_figure(6, 3.8, about=about)
    axis = axes[0, 0]
    low, high = map(float, np.quantile(x, [0.001, 0.999]))
    margin: float = 0.05 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, 61)
    counts, _ = np.histogram(x, edges)
    axis.stairs(counts / (len(x) * np.diff(edges)), edges, fill=True, color=GREY, alpha=0.45, label="paths")
    for (label, (at, density)), colour, style in zip(curves.items(), (NOISE, DATA), ("-", "--"), strict=False):
        shown = (at >= edges[0]) & (at <= edges[-1])
        axis.plot(at[shown], density[shown], color=colour, lw=1.4, ls=style, label=label)
    axis.set(xlabel=name, ylabel="density", title=title)
    axis.legend(**LEGEND)
    return figure


def autocorrelation_figure(
    lags: np.ndarray, rho: np.ndarray, exact: np.ndarray | None, time: float, title: str, about: str
) -> Figure:
    """rho (m,) against the lag, with the exact one, and the integrated autocorrelation time."""
    figure, axes = new_figure(6, 3.8, about=about)
    axis = axes[0, 0]
    axis.axhline(0, color=GREY, lw=0.8)
    axis.plot(lags, rho, color=INK, lw=1.3, label="paths")
    if exact is not None:
        axis.plot(lags, exact, color=NOISE, lw=1.4, ls="--", label="exact")
    if np.isfinite(time) and time <= lags[-1]:
        axis.axvline(time, color=DATA, lw=1.1, ls=":", label=f"autocorrelation time {time:.3g}")
    axis.set(xlabel="lag, in units of t", ylabel=r"$\rho$", title=title, xlim=(0, lags[-1]))
    axis.legend(**LEGEND)
    return figure


def small_multiples(panels: list[list[Panel | None]], name: str, about: str) -> Figure:
    """A grid of panels of paths against t, all with the same axes; None: an empty place."""
    rows, columns = len(panels), len(panels[0])
    figure, axes = new_figure(
        max(2.6 * columns, 4.2) + 0.8, 2.1 * rows + 0.9, rows, columns, about, sharex=True, sharey=True
    )
    for line, places in zip(axes, panels, strict=True):
        for axis, panel in zip(line, places, strict=True):
            if panel is None:
                axis.set_visible(False)
                continue
            path_lines(axis, panel, 0.4)
            axis.set_title(panel.title, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("t")
    for axis in axes[:, 0]:
        axis.set_ylabel(name)
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), **LEGEND)
    return figure
