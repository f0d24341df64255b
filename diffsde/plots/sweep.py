"""One figure of many runs against what was swept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from diffsde.knobs import is_number
from diffsde.plots.style import DATA, GREY, INK, NOISE, new_figure

LEGEND = 12  # series, at most, that a legend names
WIDE = 30.0  # ratio of the largest to the smallest value from which an axis is logarithmic


class Point(NamedTuple):
    """A run: the swept value as it was written, its figure, the series it belongs to ('' for the only one), and the
    figure's standard error where that is known.
    """

    x: str
    y: float
    series: str
    error: float = 0.0


def sweep_figure(points: list[Point], x: str, y: str, line: tuple[str, float] | None, about: str = "") -> Figure:
    """y against x, a dot a run and the means of equal x, joined where x is a number; words are set out evenly. line: a known value of y."""
    figure, axes = new_figure(6.4, 3.9, about=about)
    axis = axes[0, 0]
    words = list(dict.fromkeys(point.x for point in points))
    numeric = all(is_number(word) for word in words)
    at = {word: float(word) if numeric else float(i) for i, word in enumerate(words)}
    series = list(dict.fromkeys(point.series for point in points))
    colours = [INK, NOISE, DATA] if len(series) <= 3 else list(colormaps["viridis"](np.linspace(0, 0.9, len(series))))
    for name, colour in zip(series, colours, strict=False):
        mine = [point for point in points if point.series == name]
        places = sorted({at[point.x] for point in mine})
        means = [np.mean([point.y for point in mine if at[point.x] == place]) for place in places]
        style = {"ls": "-"} if numeric else {"ls": "none", "marker": "_", "ms": 16}
        axis.plot(places, means, color=colour, lw=1.3, label=name or None, **style)
        errors = [point.error for point in mine]
        axis.errorbar(
            [at[point.x] for point in mine],
            [point.y for point in mine],
            errors,
            fmt="o",
            color=colour,
            ms=4,
            elinewidth=1,
        )
    if line:
        axis.axhline(line[1], color=GREY, lw=1.2, ls="--", label=f"{line[0]}: {line[1]:.4g}")
    values = np.array([point.y for point in points])
    if values.min() > 0 and (line is None or line[1] > 0) and values.max() / values.min() > WIDE:
        axis.set_yscale("log")
    if numeric:
        places = sorted(at.values())
        positive = [place for place in places if place > 0]
        if len(positive) > 2 and positive[-1] / positive[0] > WIDE:
            axis.set_xscale("log") if len(positive) == len(places) else axis.set_xscale("symlog", linthresh=positive[0])
    else:
        axis.set_xticks(range(len(words)), words, rotation=30 if max(map(len, words)) > 8 else 0, ha="right")
        axis.margins(x=0.1)
    axis.set(xlabel=x, ylabel=y)
    axis.grid(color=GREY, alpha=0.2)
    if len(series) <= LEGEND and (series != [""] or line):
        axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure
