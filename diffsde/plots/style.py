"""The one look of all pictures. Figures are made without pyplot: no global state, no window, no leak."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
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
LETTERS = 16  # of the small line over a picture that fit an inch
TITLE = 28  # of a panel's title that fit over it
OUTSIDE = 1e-3  # of each set of points, at most, that may lie outside a picture's window
HELD = (0.5, 0.95)  # shares of a density that its contours hold
CONTOUR = "#7c1d2b"
CLASSES = (  # a colour for each label
    *("#2f6fb7", "#c8452f", "#2a8c6a", "#8b5bb0", "#d08a1d", "#3a3f4c", "#55a6c9", "#b04a7a", "#7f8c2d", "#8a5a3c"),
    *("#5b6ee1", "#c9a227"),
)
PATHLINE = "#2b2f3a"
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#f7d9b8", "#eb9a6b", "#c8452f", "#7c1d2b"])
PRIOR = LinearSegmentedColormap.from_list("prior", ["#ffffff", "#cfe0f2", "#7fadd8", "#2f6fb7"])
SHADE = LinearSegmentedColormap.from_list("shade", ["#ffffff", "#d8dbe2", "#b4bac7"])
ARROWS = LinearSegmentedColormap.from_list("arrows", ["#9db8d6", "#2f6fb7", "#5b2a86", "#c8452f"])
TIMES = LinearSegmentedColormap.from_list("times", [NOISE, "#7a4f9a", DATA])  # from noise, t = 0, to data, t = 1


class Extent(NamedTuple):
    """The window of a 2-D picture, the same in all pictures of a run."""

    left: float
    right: float
    bottom: float
    top: float
    names: tuple[str, ...] = ("$x_1$", "$x_2$")  # of the two coordinates


class HeatMap(NamedTuple):
    """A density on a grid: values (rows, columns), rows along y, over an extent."""

    values: np.ndarray
    extent: Extent


def wrapped(titles: Iterable[str]) -> tuple[list[str], int]:
    """Titles of panels in lines that fit over a panel, and the most lines that one has."""
    found = [textwrap.fill(title, TITLE) for title in titles]
    return found, max((title.count("\n") + 1 for title in found), default=1)


def blank_figure(width: float, height: float, dpi: float) -> Figure:
    """A figure in pixels with nothing on it."""
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def escape_formulas(text: str) -> str:
    """Text that is no formula, whatever is in it."""
    return text.replace("$", r"\$")


def in_lines(about: str, width: float) -> list[str]:
    """The small line over a picture of a width in inches, in as few lines as fit, of about one length: no word is left alone."""
    text, most = escape_formulas(about), int(LETTERS * width)
    lines = textwrap.wrap(text, most)
    for letters in range(most - 1, 0, -1):
        if len(found := textwrap.wrap(text, letters)) > len(lines):
            break
        lines = found
    return lines


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, about: str = "", dpi: float = 120, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches and its axes (rows, columns); about: what all of it is of, in a line over it."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    if about:
        figure.suptitle("\n".join(in_lines(about, width)), fontsize=8, color=GREY)
    return figure, _plain_axes(figure.subplots(rows, columns, squeeze=False, **kwargs))


def new_panels(
    side: float,
    rows: int,
    columns: int,
    about: str,
    dpi: float,
    right: float = 0.1,
    beside: float = 0.15,
    titles: int = 1,
) -> tuple[Figure, np.ndarray]:
    """A figure of square panels, their sides in inches, and its axes (rows, columns); laid out by known margins, which takes
    no time, where a layout that measures all words takes as long as drawing them. about: as of new_figure. right, beside:
    inches at the right of all panels and between two. titles: lines of the panels' titles, 0 for none.
    """
    left, bottom, title = (
        0.85,
        0.55,
        0.3 + 0.17 * (titles - 1) if titles else beside,
    )  # inches; numbers have up to seven digits
    width = left + columns * side + (columns - 1) * beside + right
    lines = in_lines(about, width)
    top = title + 0.1 + 0.16 * len(lines)
    height = bottom + rows * side + (rows - 1) * title + top
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    if lines:
        figure.suptitle("\n".join(lines), y=1 - 0.06 / height, va="top", fontsize=8, color=GREY)
    places = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(**places, wspace=beside / side, hspace=title / side)
    return figure, _plain_axes(axes)


def _plain_axes(axes: np.ndarray) -> np.ndarray:
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(GREY)
        axis.tick_params(colors=GREY, labelsize=8)
        axis.title.set_fontsize(10)
        axis.title.set_color(INK)
    return axes


def window(sets: Iterable[np.ndarray], margin: float = 0.04, square: bool = True) -> Extent:
    """A window that holds all but a thousandth of each set of points (n, 2), or of each of many sets (..., n, 2); square: as
    wide as it is high, in their units.
    """
    limits = np.concatenate([_limits(points.astype(np.float64)).reshape(2, -1, 2) for points in sets], axis=1)
    low, high = limits[0].min(axis=0), limits[1].max(axis=0)
    sides = np.where(high > low, high - low, np.maximum(np.abs(low), 1) * 1e-6)
    centre, half = (low + high) / 2, (sides.max() if square else sides) / 2 * (1 + 2 * margin)
    (left, bottom), (right, top) = centre - half, centre + half
    return Extent(left, right, bottom, top)


def _limits(points: np.ndarray) -> np.ndarray:
    """The lower and upper limits (2, ..., 2) of points (..., n, 2), a quarter of OUTSIDE beyond each of four sides."""
    out = int(OUTSIDE / 4 * points.shape[-2])
    ordered = np.partition(points, (out, -1 - out), axis=-2)
    return np.stack([ordered[..., out, :], ordered[..., -1 - out, :]])


def contours(axis: Axes, density: HeatMap) -> None:
    """The borders of the smallest regions that hold HELD of a density on pixels."""
    values = density.values
    ordered = np.sort(values, axis=None)[::-1]
    held = np.cumsum(ordered)
    levels = [float(ordered[np.searchsorted(held, share * held[-1])]) for share in HELD]
    rows, columns = values.shape
    x = np.linspace(*density.extent[:2], 2 * columns + 1)[1::2]
    y = np.linspace(*density.extent[2:4], 2 * rows + 1)[1::2]
    axis.contour(x, y, values, sorted(set(levels)), colors=CONTOUR, linewidths=0.7)


def shown_time(t: float) -> str:
    """A time as a title says it: to two decimals, and to its first digit where that would be 0 or 1."""
    if 0 < t < 0.01:
        return f"{t:.1g}"
    if 0.99 < t < 1:
        return f"1 - {1 - t:.1g}"
    return f"{t:.2f}".rstrip("0").rstrip(".")


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


def colour_bar(figure: Figure, axes: np.ndarray, drawn: Any, label: str, extend: str = "neither") -> None:
    """A colour bar at the right of all panels (rows, columns), as high as two of them at most; new_panels leaves room by `right`."""
    top, low = axes[0, -1].get_position(), axes[min(1, len(axes) - 1), -1].get_position()
    width = figure.get_figwidth()
    corner = top.x1 + 0.12 / width, low.y0, 0.13 / width, top.y1 - low.y0
    place = figure.add_axes(corner, label="<colorbar>")
    bar = figure.colorbar(drawn, cax=place, extend=extend)
    bar.set_label(label, fontsize=8, color=INK)
    bar.outline.set_visible(False)
    place.tick_params(colors=GREY, labelsize=7)
    place.yaxis.get_offset_text().set(size=7, color=GREY)


def at_time(t: float) -> str:
    """t = 0.25, for titles."""
    return "t = " + (f"{t:.2f}".rstrip("0").rstrip(".") if abs(t - round(t, 2)) < 1e-9 else f"{t:.4g}")


def frame(axis: Axes, extent: Extent) -> None:
    """The window, its two units of one length where it is square, else as square a picture all the same."""
    ratio = (extent.right - extent.left) / (extent.top - extent.bottom)
    axis.set(xlim=extent[:2], ylim=extent[2:4], aspect=ratio, xlabel=extent.names[0], ylabel=extent.names[1])
    axis.locator_params(axis="x", nbins=5)  # numbers of many digits would run into one another
