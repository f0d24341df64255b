"""Clouds of points at several times, or of several sets: scattered where they are few, counted where they are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import (
    CLASSES,
    DATA,
    DENSITY,
    GREY,
    INK,
    Extent,
    HeatMap,
    at_time,
    frame,
    heat,
    new_figure,
    new_panels,
)

SCATTERED = 4000  # points above which a cloud is drawn as a histogram
BINS = 64  # along a side of that histogram
LEGEND = 12  # most classes in a legend


class Cloud(NamedTuple):
    """Points (n, d) and, where they have classes, the class (n,) of each."""

    x: np.ndarray
    y: np.ndarray | None = None


def clouds_in_time(
    rows: Mapping[str, Sequence[Cloud]],
    times: dict[str, np.ndarray],
    extent: Extent,
    names: Sequence[str] = (),
    about: str = "",
) -> Figure:
    """A row of panels for each title, a panel for each of its times (m,): points in the plane. names: of the classes."""
    figure, axes = new_panels(2.7, len(rows), len(next(iter(rows.values()))), about, 100, 1.2 if names else 0.1)
    for line, (title, clouds) in zip(axes, rows.items(), strict=True):
        for axis, t, cloud in zip(line, times[title], clouds, strict=True):
            points(axis, cloud, extent)
            axis.set_title(f"{title}, {at_time(float(t))}")
            frame(axis, extent)
            axis.label_outer()
    if names:
        legend(figure, names)
    return figure


def beside_one_another(
    panels: Mapping[str, Cloud | HeatMap], extent: Extent, names: Sequence[str] = (), about: str = ""
) -> Figure:
    """A panel for each title: points in the plane, or a density. names: of the classes."""
    figure, axes = new_panels(2.9, 1, len(panels), about, 110, 1.2 if names else 0.1)
    for axis, (title, shown) in zip(axes[0], panels.items(), strict=True):
        if isinstance(shown, Cloud):
            points(axis, shown, extent)
        else:
            heat(axis, shown, DENSITY, power=1.0)
        axis.set_title(title)
        frame(axis, extent)
        axis.label_outer()
    if names:
        legend(figure, names)
    return figure


def points(axis: Axes, cloud: Cloud, extent: Extent) -> None:
    """One cloud in the plane: scattered, in the colours of its classes, or counted where it has many points and no classes."""
    x, y = cloud
    if y is None and len(x) > SCATTERED:
        heat(axis, counted(x, extent), DENSITY, power=1.0)
        return
    colours: Any = INK if y is None else [CLASSES[int(label) % len(CLASSES)] for label in y]
    axis.scatter(x[:, 0], x[:, 1], s=2.4, c=colours, alpha=0.5, linewidth=0, rasterized=len(x) > 1000)


def counted(x: np.ndarray, extent: Extent, bins: int = BINS) -> HeatMap:
    """The histogram of points (n, 2) in the window."""
    left, right, bottom, top = extent[:4]
    counts, _, _ = np.histogram2d(x[:, 1], x[:, 0], bins=bins, range=[(bottom, top), (left, right)])
    return HeatMap(counts, extent)


def legend(figure: Figure, names: Sequence[str]) -> None:
    """The classes' names in their colours, at the right; of more than LEGEND the first."""
    shown = list(names)[:LEGEND]
    for i, name in enumerate([*shown, *(["..."] if len(names) > LEGEND else [])]):
        colour = CLASSES[i % len(CLASSES)] if i < len(shown) else GREY
        figure.text(
            1 - 1.08 / figure.get_figwidth(),
            0.86 - 0.2 * i / figure.get_figheight(),
            name if len(name) <= 14 else name[:13] + "…",
            color=colour,
            fontsize=8,
            fontweight="bold",
        )


def histograms_in_time(
    rows: Mapping[str, Sequence[np.ndarray]],
    times: dict[str, np.ndarray],
    lines: tuple[np.ndarray, np.ndarray] | None,
    extent: Extent,
    about: str = "",
) -> Figure:
    """As clouds_in_time of points on a line (n,): histograms. lines: places x (k,) and the exact p_t (m, k), drawn over all."""
    columns = len(next(iter(rows.values())))
    figure, axes = new_figure(2.7 * columns + 0.5, 2.5 * len(rows) + 0.3, len(rows), columns, about, sharex=True)
    left, right = extent[:2]
    for line, (title, each) in zip(axes, rows.items(), strict=True):
        for j, (axis, t, x) in enumerate(zip(line, times[title], each, strict=True)):
            axis.hist(x, bins=60, range=(left, right), weights=_weights(x, left, right), color=DATA, alpha=0.5)
            if lines is not None:
                axis.plot(lines[0], lines[1][j], color=INK, lw=1.2, label="exact $p_t$")
            axis.set(title=f"{title}, {at_time(float(t))}", xlim=(left, right))
    for axis in axes[:, 0]:
        axis.set_ylabel("density")
    for axis in axes[-1]:
        axis.set_xlabel(extent.names[0])
    for j in range(columns):
        highest = max(axis.get_ylim()[1] for axis in axes[:, j])
        for axis in axes[:, j]:
            axis.set_ylim(0, highest)
    if lines is not None:
        axes[0, 0].legend(frameon=False, fontsize=7, labelcolor=INK)
    return figure


def _weights(x: np.ndarray, left: float, right: float, bins: int = 60) -> np.ndarray:
    """The weights with which a histogram of all x is a density, those outside the window counted as well."""
    return np.full(len(x), bins / (right - left) / max(len(x), 1))


def data_on_a_line(
    sets: dict[str, Cloud],
    line: tuple[np.ndarray, np.ndarray] | None,
    names: Sequence[str],
    extent: Extent,
    about: str = "",
) -> Figure:
    """Histograms of each set (n, 1), a panel each, its classes on top of one another; line: places and the exact density."""
    figure, axes = new_figure(5.4 * len(sets) + 0.4, 3.8, 1, len(sets), about, sharey=True)
    left, right = extent[:2]
    for axis, (title, (x, y)) in zip(axes.flat, sets.items(), strict=True):
        kinds = [None] if y is None else list(range(len(names)))
        parts = [x[:, 0] if k is None else x[y == k, 0] for k in kinds]
        colours = [DATA] if y is None else [CLASSES[k % len(CLASSES)] for k in range(len(names))]
        weights = [_weights(x[:, 0], left, right)[: len(part)] for part in parts]
        labels = [None] if y is None else list(names)
        axis.hist(
            parts, bins=60, range=(left, right), weights=weights, color=colours, alpha=0.6, stacked=True, label=labels
        )
        if line is not None:
            axis.plot(*line, color=INK, lw=1.3, label="exact density")
        axis.set(title=title, xlabel=extent.names[0], xlim=(left, right))
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    axes[0, 0].set_ylabel("density")
    return figure


def data_in_the_plane(sets: dict[str, Cloud], names: Sequence[str], extent: Extent, about: str = "") -> Figure:
    """A row for each set: its points, in the colours of their classes, and their histogram."""
    figure, axes = new_panels(3.4, len(sets), 2, about, 100, 1.2 if names else 0.1)
    for line, (title, cloud) in zip(axes, sets.items(), strict=True):
        shown = Cloud(cloud.x[:SCATTERED], None if cloud.y is None else cloud.y[:SCATTERED])
        points(line[0], shown, extent)
        line[0].set_title(f"{title}: {len(shown.x):,} points")
        heat(line[1], counted(cloud.x, extent), DENSITY, power=1.0)
        line[1].set_title(f"{title}: histogram of {len(cloud.x):,}")
        for axis in line:
            frame(axis, extent)
            axis.label_outer()
    if names:
        legend(figure, names)
    return figure


def coordinate_pairs(
    sets: dict[str, Cloud],
    columns: Sequence[str],
    windows: Sequence[tuple[float, float]],
    classes: Sequence[str],
    about: str,
) -> Figure:
    """Pairs of coordinates of points (n, k): histograms on the diagonal, the first set's points below it; the other sets as
    outlines on the diagonal.
    """
    k = len(columns)
    figure, axes = new_panels(1.9, k, k, about, 100, 1.2 if classes else 0.1, 0.3)
    (_, first), *others = sets.items()
    for i in range(k):
        for j in range(k):
            axis = axes[i, j]
            if j > i:
                axis.set_axis_off()
                continue
            if i == j:
                axis.hist(first.x[:, i], bins=40, range=windows[i], density=True, color=DATA, alpha=0.5)
                for _, other in others:
                    axis.hist(other.x[:, i], bins=40, range=windows[i], density=True, color=INK, histtype="step")
                axis.set(xlim=windows[i], yticks=[], title=columns[i], ylabel="" if i else "density")
            else:
                extent = Extent(*windows[j], *windows[i], (columns[j], columns[i]))
                few = Cloud(first.x[:SCATTERED, [j, i]], None if first.y is None else first.y[:SCATTERED])
                points(axis, few, extent)
                frame(axis, extent)
            axis.locator_params(axis="x", nbins=4)
            if i < k - 1:
                axis.set(xlabel="", xticklabels=[])
            else:
                axis.set_xlabel(columns[j])
            if j > 0 and i != j:
                axis.set(ylabel="", yticklabels=[])
    if classes:
        legend(figure, classes)
    return figure
