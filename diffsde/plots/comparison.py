"""Comparisons of runs: a figure against what was varied, its heat map over two choices, and cost against error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from diffsde.plots.style import CLASSES, DATA, GREY, INK, NOISE, escape_formulas, new_figure

LEGEND = 16  # series, at most, that a legend names
BESIDE = 4  # series from which the legend stands beside the picture
WIDE = 30.0  # ratio of the largest to the smallest value from which an axis is logarithmic
LETTERS = 60  # of all words on an axis from which they are slanted
NUMBERS = 8  # values of x, at most, that are all written beside their axis
SAME_PLACE = np.array([30.0, 12.0])  # pixels: points that are nearer have their labels in one line
NEAR = 0.06  # of the axis: numbers that are nearer are not both written
MARKS = "os^Dv<>pXP"
HEAT = LinearSegmentedColormap.from_list("heat", ["#1f4e79", "#7fadd8", "#f3f3f0", "#eb9a6b", "#a8321f"])
DARK = 0.25  # distance from the ends of the colours within which letters are white


class Series(NamedTuple):
    """Points of one name ('' for the only one): x, y and the errors of y, 0 where none is known; labels: a word for each."""

    name: str
    x: list[float]
    y: list[float]
    error: list[float]
    labels: list[str] = []


class Known(NamedTuple):
    """A known value of y, which is drawn as a line: its name, its value and its error."""

    name: str
    value: float
    error: float = 0.0


def curves_figure(
    series: list[Series], x: str, y: str, words: list[str] | None, known: Known | None, about: str = ""
) -> Figure:
    """y against x with error bars, joined where x is a number; words: of x = 0, 1, ... where it is none."""
    figure, axis = framed(len(series), about)
    for i, one in enumerate(series):
        colour, mark = look(i, len(series))
        shift = 0.0 if words is None else 0.5 * ((i + 0.5) / len(series) - 0.5)
        at = np.array(one.x) + shift
        line = "-" if words is None and len(one.x) > 1 else "none"
        kept: dict[str, Any] = {"color": colour, "marker": mark, "ms": 4.5, "elinewidth": 1, "capsize": 2, "lw": 1.3}
        axis.errorbar(at, one.y, one.error, ls=line, label=escape_formulas(one.name) or None, **kept)
    draw_known(axis, known)
    scale_y(axis, series, known)
    if words is None:
        scale_x(axis, series)
    else:
        slanted = sum(map(len, words)) > LETTERS or max(map(len, words)) > 16
        ticks = [escape_formulas(word) for word in words]
        axis.set_xticks(range(len(words)), ticks, rotation=30 if slanted else 0, ha="right" if slanted else "center")
        axis.set_xlim(-0.5, len(words) - 0.5)
    axis.set(xlabel=escape_formulas(x), ylabel=escape_formulas(y))
    finish(axis, series, known is not None)
    return figure


def cost_figure(
    series: list[Series], front: list[tuple[float, float]], x: str, y: str, known: Known | None, about: str = ""
) -> Figure:
    """Error y against cost x, a point a row, and as a line the front: rows that none is both cheaper and better than."""
    figure, axis = framed(BESIDE, about)
    for i, one in enumerate(series):
        colour, mark = look(i, len(series))
        axis.errorbar(one.x, one.y, one.error, ls="none", color=colour, marker=mark, ms=5, elinewidth=1, capsize=2, label=escape_formulas(one.name) or None)  # fmt: skip
    if len(front) > 1:
        axis.plot(
            *zip(*front, strict=True), color=GREY, lw=1.2, drawstyle="steps-post", zorder=0, label="not beaten in both"
        )
    draw_known(axis, known)
    scale_y(axis, series, known)
    scale_x(axis, series)
    write_labels(axis, series)
    axis.set(xlabel=escape_formulas(x), ylabel=escape_formulas(y))
    finish(axis, series, known is not None or len(front) > 1, beside=True)
    return figure


def write_labels(axis: Axes, series: list[Series]) -> None:
    """The labels of points beside them, those of points at one place in one line."""
    places: list[tuple[np.ndarray, list[str]]] = []
    for one in series:
        for x, y, label in zip(one.x, one.y, one.labels, strict=False):
            at = axis.transData.transform((x, y))
            near = next((words for place, words in places if (np.abs(at - place) < SAME_PLACE).all()), None)
            if near is None:
                places.append((at, [label]))
            elif label not in near:
                near.append(label)
    for at, words in places:
        text, place = escape_formulas(", ".join(words)), axis.transData.inverted().transform(at)
        axis.annotate(text, tuple(place), (5, 4), textcoords="offset points", fontsize=6.5, color=GREY)


class Heat(NamedTuple):
    """A panel: title, values (rows, columns) with NaN where there is none, their texts, and the cell that leads, or None."""

    title: str
    values: np.ndarray
    texts: list[list[str]]
    best: tuple[int, int] | None = None


def heat_figure(
    panels: list[Heat], rows: list[str], columns: list[str], keys: tuple[str, str], y: str, about: str = ""
) -> Figure:
    """Values over two choices, a panel for each of the others, with one scale; the cell that leads has a frame."""
    width, height = max(0.75 * len(columns), 1.6), max(0.42 * len(rows), 0.9)
    figure, axes = new_figure(len(panels) * (width + 0.4) + 1.9, height + 1.5, 1, len(panels), about, sharey=True)
    every = np.concatenate([panel.values.ravel() for panel in panels])
    there = every[np.isfinite(every)]
    wide = there.min() > 0 and there.max() / there.min() > WIDE
    scale = (LogNorm if wide else Normalize)(there.min(), there.max())
    for axis, panel in zip(axes[0], panels, strict=True):
        drawn = axis.imshow(panel.values, cmap=HEAT, norm=scale, aspect="auto")
        for (i, j), value in np.ndenumerate(panel.values):
            shade = float(scale(value)) if np.isfinite(value) else 0.5
            axis.text(j, i, panel.texts[i][j], ha="center", va="center", fontsize=8, color="white" if min(shade, 1 - shade) < DARK else INK)  # fmt: skip
        if panel.best:
            i, j = panel.best
            axis.plot([j - 0.47, j + 0.47, j + 0.47, j - 0.47, j - 0.47], [i - 0.45, i - 0.45, i + 0.45, i + 0.45, i - 0.45], color=INK, lw=2)  # fmt: skip
        axis.set_xticks(range(len(columns)), [escape_formulas(each) for each in columns])
        axis.set_yticks(range(len(rows)), [escape_formulas(each) for each in rows])
        axis.set(xlabel=escape_formulas(keys[1]), title=escape_formulas(panel.title))
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[0][0].set_ylabel(escape_formulas(keys[0]))
    bar = figure.colorbar(drawn, ax=list(axes[0]), fraction=0.06, pad=0.02)
    bar.set_label(escape_formulas(y), fontsize=8, color=INK)
    bar.ax.tick_params(colors=GREY, labelsize=7)
    bar.outline.set_visible(False)
    return figure


def framed(count: int, about: str) -> tuple[Figure, Axes]:
    """A figure for so many series, wider where the legend stands beside it."""
    figure, axes = new_figure(8.4 if count >= BESIDE else 6.4, 3.9, about=about)
    return figure, axes[0, 0]


def look(i: int, count: int) -> tuple[str | tuple[float, ...], str]:
    """Colour and mark of the i-th of so many series."""
    few = (INK, NOISE, DATA) if count <= 3 else CLASSES
    colour = few[i] if count <= len(few) else tuple(colormaps["viridis"](0.9 * i / (count - 1)))
    return colour, MARKS[i % len(MARKS)]


def draw_known(axis: Axes, known: Known | None) -> None:
    """A known value as a dashed line, with its error as a band."""
    if known is None:
        return
    axis.axhline(known.value, color=GREY, lw=1.2, ls="--", label=f"{known.name}: {known.value:.4g}")
    if known.error:
        axis.axhspan(known.value - known.error, known.value + known.error, color=GREY, alpha=0.12, lw=0)


def scale_y(axis: Axes, series: list[Series], known: Known | None) -> None:
    """A logarithmic axis where values are positive and of several sizes."""
    values = [value for one in series for value in one.y] + ([known.value] if known else [])
    if min(values) > 0 and max(values) / min(values) > WIDE:
        axis.set_yscale("log")


def scale_x(axis: Axes, series: list[Series]) -> None:
    """A logarithmic axis where numbers are of several sizes; linear near 0 where 0 is one of them."""
    places = sorted({value for one in series for value in one.x})
    positive = [place for place in places if place > 0]
    if len(positive) > 2 and positive[-1] / positive[0] > WIDE / 4:
        axis.set_xscale("log") if len(positive) == len(places) else axis.set_xscale("symlog", linthresh=positive[0])
    shown = apart(places, axis.get_xscale() == "log")
    if len(shown) <= NUMBERS:
        axis.set_xticks(shown, [f"{place:g}" for place in shown])
    elif axis.get_xscale() == "log":
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if axis.get_xscale() != "linear":
        axis.xaxis.set_minor_formatter(NullFormatter())


def apart(places: list[float], logarithmic: bool) -> list[float]:
    """The places without those that are so near to one before that their numbers would run into one another."""
    at = np.log(places) if logarithmic else np.array(places)
    least, kept = NEAR * max(at[-1] - at[0], 1e-12), [0]
    for i in range(1, len(places)):
        if at[i] - at[kept[-1]] >= least:
            kept.append(i)
    return [places[i] for i in kept]


def finish(axis: Axes, series: list[Series], more: bool, beside: bool = False) -> None:
    """Grid lines, and a legend where there is more than one thing; beside the picture where it is long."""
    axis.grid(color=GREY, alpha=0.2)
    names = [one.name for one in series]
    if len(series) > LEGEND or (names in ([""], []) and not more):
        return
    place: dict[str, Any] = (
        {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if beside or len(series) >= BESIDE else {}
    )
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, **place)
