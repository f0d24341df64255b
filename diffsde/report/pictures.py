"""The pictures of a comparison: a figure against what was varied, over two choices, and against its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.errors import first_line
from diffsde.knobs import as_number
from diffsde.metrics.figure_text import with_places
from diffsde.report.axes import (
    Axes,
    about,
    axes_of,
    distance_label,
    distance_of,
    known,
    label,
    usable,
    values_of,
    words_of,
    x_of,
    y_of,
)
from diffsde.report.grid import places_of
from diffsde.report.rows import Column, Comparison
from diffsde.runs import progress
from diffsde.runs.results import Cell

PANELS = 6  # heat maps side by side, at most
NUMBERED = 16  # points, at most, that have their choices beside them
COSTS = ("nfe", "cpu_seconds", "seconds", "run.cpu_seconds")  # in the order in which a cost is chosen that differs


def draw_pictures(comparison: Comparison, where: Path, x: str = "", y: str = "") -> list[Path]:
    """Draw the pictures of a comparison into a folder; their paths."""
    axes = axes_of(comparison, x, y)
    if axes is None:
        return []
    from diffsde.pictures.table import save_figure  # here: matplotlib takes a while

    makers: dict[str, Callable[[Comparison, Axes], Any]] = {
        "compare": curves,
        "compare_heat": heat,
        "compare_cost": cost,
    }
    drawn = {name: make(comparison, axes) for name, make in makers.items()}
    return [save_figure(where / f"{name}.png", figure) for name, figure in drawn.items() if figure is not None]


def curves(comparison: Comparison, axes: Axes) -> Any:
    """The figure against x, a series for each combination of the other choices; None where it has no two points."""
    from diffsde.plots.comparison import Series, curves_figure

    if not axes.x:
        return seeds(comparison, axes.y)
    is_key = axes.x in comparison.keys
    rest = [key for key in comparison.keys if key != axes.x]
    rows = [row for row in comparison.rows if usable(row, axes)]
    words = [row.keys[axes.x] for row in rows] if is_key else []
    numeric = not is_key or all(as_number(word) is not None for word in words)
    if len(rows) < 2:
        return None
    places = list(dict.fromkeys(words))
    series: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        at = x_of(row, axes) if numeric else float(places.index(row.keys[axes.x]))
        series.setdefault(words_of(row, rest), []).append((at, *y_of(row, axes.y)))
    found = [Series(name, *map(list, zip(*sorted(points), strict=True))) for name, points in series.items()]
    return curves_figure(found, label(comparison, axes.x), axes.y.heading, None if numeric else places, known(comparison, axes.y), about(comparison, axes.y))  # fmt: skip


def seeds(comparison: Comparison, column: Column) -> Any:
    """The values of a single row by seed; None for one."""
    from diffsde.plots.comparison import Series, curves_figure

    values = comparison.rows[0].figures[column.name].values
    if len(values) < 2:
        return None
    points = Series("", list(map(float, range(len(values)))), list(values.values()), [0.0] * len(values))
    return curves_figure([points], "", column.heading, list(values), known(comparison, column), comparison.title)


def cost(comparison: Comparison, axes: Axes) -> Any:
    """The figure against a cost, and the front; of a figure with a target its distance from that. None where no cost differs."""
    from diffsde.plots.comparison import Series, cost_figure

    names = [axes.x] if axes.chosen and (column := comparison.column(axes.x)) and column.cost else list(COSTS)
    name = next((name for name in names if len({v for v in values_of(comparison, name) if v > 0}) > 1), None)
    rows = [row for row in comparison.rows if name in row.figures and usable(row, Axes(axes.y, str(name)))]
    if name is None or len(rows) < 3 or axes.y.ranks:
        return None
    along = axes.x if axes.x in comparison.keys and not axes.chosen else ""
    rest = [key for key in comparison.keys if key != along]
    if len({words_of(row, rest) for row in rows}) in (1, len(rows)):
        along, rest = "", [comparison.keys[0]]
    series: dict[str, list[tuple[float, float, float, str]]] = {}
    for row in rows:
        others = words_of(row, [key for key in comparison.keys if key not in rest])
        series.setdefault(words_of(row, rest), []).append(
            (row.figures[name].figure.value, *distance_of(row, axes.y), others)
        )
    found = []
    for word, points in series.items():
        x, y, error, labels = map(list, zip(*sorted(points), strict=True))
        found.append(Series(word, x, y, error, labels if len(rows) <= NUMBERED else []))
    heading = comparison.column(name)
    assert heading is not None
    aim = None if axes.y.direction == "target" else known(comparison, axes.y)
    ends = [(x, y) for one in found for x, y in zip(one.x, one.y, strict=True)]
    return cost_figure(
        found, front(ends, axes.y.direction), heading.heading, distance_label(axes.y), aim, about(comparison, axes.y)
    )


def front(points: Sequence[tuple[float, float]], direction: str) -> list[tuple[float, float]]:
    """The points (cost, figure) that none is cheaper than and as good."""
    sign, found, least = (-1.0 if direction == "higher" else 1.0), [], math.inf
    for x, y in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if sign * y < least:
            found.append((x, y))
            least = sign * y
    return found


def heat(comparison: Comparison, axes: Axes) -> Any:
    """The figure over two choices, a panel for each combination of the others; None for fewer choices, or too many panels."""
    from diffsde.plots.comparison import Heat, heat_figure

    able = [(i, row) for i, row in enumerate(comparison.rows) if usable(row, Axes(axes.y, ""))]
    words = {key: {row.keys[key] for _, row in able} for key in comparison.keys}
    counts = {key: sum(placed(word, found) for word in found) for key, found in words.items()}
    keys = sorted(counts, key=lambda key: (key == axes.x, counts[key]))[-2:]
    able = [(i, row) for i, row in able if all(placed(row.keys[key], words[key]) for key in keys)]
    rest = [key for key in comparison.keys if key not in keys]
    if len(keys) < 2 or min(counts[key] for key in keys) < 2 or len(able) < 4:
        return None
    down, right = (list(dict.fromkeys(row.keys[key] for _, row in able)) for key in keys)
    names = list(dict.fromkeys(words_of(row, rest) for _, row in able))
    if len(names) > PANELS or max(len(down), len(right)) > 24:
        return None
    places = places_of([row.figures[axes.y.name] for _, row in able])
    values = {name: np.full((len(down), len(right)), np.nan) for name in names}
    texts = {name: [[""] * len(right) for _ in down] for name in names}
    best: dict[str, tuple[int, int]] = {}
    for i, row in able:
        name, at = words_of(row, rest), (down.index(row.keys[keys[0]]), right.index(row.keys[keys[1]]))
        values[name][at] = distance_of(row, axes.y)[0]
        texts[name][at[0]][at[1]] = with_places(float(values[name][at]), places)
        if comparison.best.get(axes.y.name) == i:
            best[name] = at
    panels = [Heat(name, values[name], texts[name], best.get(name)) for name in names]
    return heat_figure(panels, down, right, (keys[0], keys[1]), distance_label(axes.y), comparison.title)


def placed(word: str, words: set[str]) -> bool:
    """Whether a heat map has a place for a value of a key: not where a row has none, nor for `null` among numbers."""
    others = words - {"", "null"}
    return word != "" and (word != "null" or any(as_number(other) is None for other in others))


def grid_picture(comparison: Comparison, where: Path) -> list[Path]:
    """Draw the samples of all rows side by side, or their trajectories where these were saved; its path, or [] where there are
    no samples of one kind.
    """
    cells = [
        Cell(record.folder, row.keys, record.config, record.summary)
        for row in comparison.rows
        for record in row.records[:1]
        if record.verb in ("sample", "evaluate") and (record.folder / "samples.npz").exists()
    ]
    if len(cells) < 2:
        return []
    from diffsde.pictures.sweep_grid import draw_grid  # here: it imports jax and matplotlib
    from diffsde.pictures.table import MISHAPS

    try:
        return draw_grid(cells, where)
    except MISHAPS as error:
        progress.warn(f"no picture of the samples: {first_line(error)}")
        return []
