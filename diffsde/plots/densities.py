"""Densities p_t at several times: heat maps, contours, and lines where the data are on a line."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from diffsde.plots.style import (
    DENSITY,
    GREY,
    INK,
    TIMES,
    Extent,
    at_time,
    colour_bar,
    frame,
    new_figure,
    new_panels,
)

DEPTH = 15.0  # nats below the highest density that a logarithmic scale shows
LEVELS = 10  # contours
DASHES = ("-", "--", ":", "-.")  # of densities on a line, by their titles


def densities(
    rows: dict[str, np.ndarray],
    times: np.ndarray | None,
    extent: Extent,
    style: str = "heat",
    scale: str = "linear",
    about: str = "",
) -> Figure:
    """A row of panels for each title: log p (m, rows, columns) in nats, a panel for each time; times None: one law alone.

    style: heat, contours, or both, contours over the heat map. scale: linear, each time to its own highest density, or log,
    one scale for all, DEPTH nats deep.
    """
    columns = len(next(iter(rows.values())))
    log = scale == "log"
    figure, axes = new_panels(2.9, len(rows), columns, about, 100, 1.0, 0.15 if log else 0.85)
    top = max(float(np.nanmax(each)) for each in rows.values())
    shared = Normalize(top - DEPTH, top)
    tops = np.max([np.nanmax(np.exp(each), axis=(1, 2)) for each in rows.values()], axis=0)
    for line, (title, values) in zip(axes, rows.items(), strict=True):
        for j, axis in enumerate(line):
            shown = values[j] if log else np.exp(values[j])
            norm = shared if log else Normalize(0, float(tops[j]))
            drawn = _panel(axis, shown, extent, style, norm)
            stamp = "" if times is None else at_time(times[j])
            axis.set_title(", ".join(part for part in (title, stamp) if part))
            frame(axis, extent)
            axis.label_outer()
            if not log:
                label = "density p" if j == columns - 1 else ""
                colour_bar(figure, np.array([[axis]]), drawn, label)
    if log:
        colour_bar(figure, axes, ScalarMappable(shared, DENSITY), "log p (nats)", "min")
    return figure


def _panel(axis: Axes, values: np.ndarray, extent: Extent, style: str, norm: Normalize) -> Any:
    """One panel; what its colours stand for."""
    assert norm.vmin is not None and norm.vmax is not None
    if style != "contours":
        image = axis.imshow(
            values,
            extent=extent[:4],
            origin="lower",
            aspect="auto",
            cmap=DENSITY,
            norm=norm,
            interpolation="bilinear",
        )
        if style == "heat":
            return image
    levels = np.linspace(norm.vmin, norm.vmax, LEVELS + 2)[1:-1]
    x, y = np.linspace(*extent[:2], values.shape[1]), np.linspace(*extent[2:4], values.shape[0])
    colours: dict[str, Any] = {"colors": INK} if style == "both" else {"cmap": DENSITY, "norm": norm}
    width = 0.6 if style == "both" else 1.0
    axis.contour(x, y, values, levels=levels, linewidths=width, linestyles="solid", **colours)
    return ScalarMappable(norm, DENSITY)


def lines_of_densities(
    rows: dict[str, np.ndarray],
    times: np.ndarray | None,
    x: np.ndarray,
    between: tuple[np.ndarray, np.ndarray] | None,
    name: str,
    scale: str = "linear",
    about: str = "",
) -> Figure:
    """Densities on a line: log p (m, n) at the times as lines, solid for the first title and in DASHES for others; beside
    them, where there are times, p_t as a heat map over t and x: between, times (k,) and log p (k, n).
    """
    figure, axes = new_figure(6.0 * (1 if between is None else 2), 4.2, 1, 1 if between is None else 2, about)
    axis, log = axes[0, 0], scale == "log"
    top = max(float(np.nanmax(each)) for each in rows.values())
    for (title, values), dash in zip(rows.items(), cycle(DASHES), strict=False):  # strict: the dashes have no end
        for j, each in enumerate(values):
            label = title if times is None else ", ".join(part for part in (title, at_time(times[j])) if part)
            colour = INK if times is None else TIMES(times[j])
            axis.plot(x, each if log else np.exp(each), dash, color=colour, lw=1.4, label=label or None)
    axis.set(xlabel=name, ylabel="log density (nats)" if log else "density", xlim=(x[0], x[-1]))
    axis.set_title("density" if times is None else "$p_t$")
    axis.set_ylim(*((top - DEPTH, top + 0.5) if log else (0, None)))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    if between is not None:
        heat_of_times(axes[0, 1], *between, x, scale)
        axes[0, 1].set(xlabel="t", ylabel=name, title="$p_t$ from noise to data")
        bar = figure.colorbar(axes[0, 1].images[0], ax=axes[0, 1], extend="min" if log else "max")
        bar.set_label("log p (nats)" if log else "density p", fontsize=8, color=INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=GREY, labelsize=7)
    return figure


def heat_of_times(axis: Axes, times: np.ndarray, values: np.ndarray, x: np.ndarray, scale: str = "linear") -> None:
    """log p (k, n) at times (k,) and places x (n,) as a heat map, t to the right; linear: up to the 99% quantile of p."""
    shown = values if scale == "log" else np.exp(values)
    top = float(np.nanmax(shown)) if scale == "log" else float(np.nanquantile(shown.max(axis=1), 0.9))
    axis.imshow(
        shown.T,
        extent=(times[0], times[-1], x[0], x[-1]),
        origin="lower",
        aspect="auto",
        cmap=DENSITY,
        vmin=top - DEPTH if scale == "log" else 0,
        vmax=top,
        interpolation="bilinear",
    )
