"""The conditional path beside the marginal one: densities, arrows and trajectories, a row for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.arrows import ArrowScale, draw_curves, height, unit_of
from diffsde.plots.densities import heat_of_times
from diffsde.plots.style import (
    DATA,
    GREY,
    INK,
    NOISE,
    PATHLINE,
    SHADE,
    Extent,
    HeatMap,
    at_time,
    colour_bar,
    frame,
    heat,
    new_figure,
    new_panels,
)


class Row(NamedTuple):
    """A row of the picture: the path given z, or the marginal one.

    density: p_t (m, *grid); vectors (m, *grid, d): None where they are not known. ways: trajectories, each with title,
    times (m,) and x (m, k, d). z: the data point (d,). cloud: draws of x_t (m, n, d) where the density is not known.
    reached: the places (m, rows, columns) of the arrows that x_t reaches.
    """

    name: str
    density: np.ndarray | None = None
    vectors: np.ndarray | None = None
    ways: tuple[Any, ...] = ()
    z: np.ndarray | None = None
    cloud: np.ndarray | None = None
    reached: np.ndarray | None = None


def in_the_plane(
    rows: list[Row],
    axes_values: tuple[np.ndarray, np.ndarray],
    times: np.ndarray,
    scale: ArrowScale,
    about: str = "",
) -> Figure:
    """A column for each time, arrows over p_t, and one for each kind of trajectories."""
    kinds = max(len(row.ways) for row in rows)
    figure, axes = new_panels(2.6, len(rows), len(times) + kinds, about, 100, 1.0)
    x, y = axes_values
    extent = scale.extent
    for line, row in zip(axes, rows, strict=True):
        for j, t in enumerate(times):
            axis = line[j]
            if row.density is not None:
                heat(axis, HeatMap(row.density[j], extent), SHADE)
            elif row.cloud is not None:
                faint = 0.3 if row.vectors is None else 0.12
                axis.scatter(
                    row.cloud[j, :, 0], row.cloud[j, :, 1], s=1.2, color=INK, alpha=faint, linewidth=0, rasterized=True
                )
            if row.vectors is not None and row.reached is not None:
                scale.draw(axis, x, y, row.vectors[j], row.reached[j])
            _mark(axis, row)
            axis.set_title(f"{row.name}, {at_time(t)}", fontsize=9)
        for k, axis in enumerate(line[len(times) :]):
            _ways_in_the_plane(axis, row, k)
        for axis in line:
            frame(axis, extent)
            axis.label_outer()
    colour_bar(figure, axes, scale.colours(), scale.label(), "max")
    return figure


def _mark(axis: Axes, row: Row) -> None:
    if row.z is not None:
        axis.plot(*row.z, marker="*", ms=9, color=DATA, mec="white", mew=0.6, zorder=5)


def _ways_in_the_plane(axis: Axes, row: Row, k: int) -> None:
    if k >= len(row.ways):
        axis.set_title(f"{row.name}, trajectories", fontsize=9)
        axis.text(0.5, 0.5, "field not known exactly", ha="center", color=GREY, fontsize=8, transform=axis.transAxes)
        return
    way = row.ways[k]
    axis.plot(way.x[..., 0], way.x[..., 1], color=PATHLINE, lw=0.6, alpha=0.6)
    axis.scatter(
        way.x[0, :, 0], way.x[0, :, 1], s=8, color=NOISE, edgecolor="white", linewidth=0.4, zorder=3, label="t = 0"
    )
    axis.scatter(
        way.x[-1, :, 0], way.x[-1, :, 1], s=10, color=DATA, edgecolor="white", linewidth=0.4, zorder=4, label="t = 1"
    )
    _mark(axis, row)
    axis.set_title(f"{row.name}, {way.title}", fontsize=9)
    if row.z is not None:
        axis.legend(frameon=False, fontsize=7, loc="upper left", labelcolor=INK)


def on_a_line(
    rows: list[Row],
    x: np.ndarray,
    times: np.ndarray,
    between: np.ndarray,
    extent: Extent,
    quantity: str,
    about: str = "",
) -> Figure:
    """A heat map of p_t over t and x under the trajectories of each kind, and the field's curves at the times."""
    kinds = max(len(row.ways) for row in rows)
    figure, axes = new_figure(4.2 * (kinds + 1), 3.1 * len(rows), len(rows), kinds + 1, about)
    name = extent.names[0]
    for line, row in zip(axes, rows, strict=True):
        for k, axis in enumerate(line[:kinds]):
            if row.density is not None:
                heat_of_times(axis, between, np.log(np.maximum(row.density, 1e-300)), x)
            if k < len(row.ways):
                way = row.ways[k]
                axis.plot(way.times, way.x[..., 0], color=PATHLINE, lw=0.5, alpha=0.6)
                axis.set(xlim=(0, 1), ylim=extent[:2])
            title = row.ways[k].title if k < len(row.ways) else "field not known exactly"
            axis.set(xlabel="t", ylabel=name, title=f"$p_t$ {row.name}, {title}")
        axis = line[kinds]
        axis.set(xlabel=name, ylabel=unit_of(quantity), title=f"{quantity} {row.name}", xlim=extent[:2])
        if row.vectors is not None and row.reached is not None:
            draw_curves(axis, x, row.vectors[..., 0], row.reached, times)
            axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    known = [row for row in rows if row.vectors is not None and row.reached is not None]
    limits = height([row.vectors[..., 0] for row in known], [row.reached for row in known])  # type: ignore[index,misc]
    for axis in axes[:, kinds]:
        axis.set_ylim(*limits)
    return figure
