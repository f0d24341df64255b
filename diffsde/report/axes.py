"""The axes of a comparison's pictures: which figure against what, and the values, errors and names of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffsde.errors import UserError, suggestion
from diffsde.knobs import as_number
from diffsde.metrics.figures import KINDS
from diffsde.report.grid import references, spread_of
from diffsde.report.rows import Column, Comparison, Row


class Axes(NamedTuple):
    """What is drawn: the figure y, what it is drawn against (a key of the choices, a cost or another figure), and whether a
    person chose that.
    """

    y: Column
    x: str
    chosen: bool = False


def axes_of(comparison: Comparison, x: str = "", y: str = "") -> Axes | None:
    """The axes: of the words of x= and y=, else the first figure that may be ranked, against the choice with the most numbers,
    or else values. None where nothing can be drawn. Raises UserError for a word that is no column.
    """
    figures = [column for column in comparison.columns if not column.cost]
    able = [column for column in figures if any(map(math.isfinite, values_of(comparison, column.name)))]
    if y and comparison.column(y) is None:
        raise UserError(f"y: '{y}' is not a figure of these jobs{suggestion(y, [each.name for each in figures])}")
    found = comparison.column(y) if y else next((each for each in able if not each.ranks), able[0] if able else None)
    known = [*comparison.keys, *(column.name for column in comparison.columns)]
    if x and x not in known:
        raise UserError(f"x: '{x}' neither differs between these jobs nor is a figure{suggestion(x, known)}")
    if found is None:
        return None
    if not (x or comparison.keys):  # of one row alone its seeds
        return Axes(found, "")

    def spread(key: str) -> tuple[bool, int]:
        words = {row.keys[key] for row in comparison.rows} - {"", "null"}
        return len(words) > 1 and all(as_number(word) is not None for word in words), len(words)

    return Axes(found, x or max(comparison.keys, key=spread), bool(x))


def values_of(comparison: Comparison, name: str) -> list[float]:
    """The values of a figure or a cost, a row each; NaN where a row has none."""
    return [row.figures[name].figure.value if name in row.figures else math.nan for row in comparison.rows]


def usable(row: Row, axes: Axes) -> bool:
    """Whether a row has a finite figure y, and a value of x."""
    if axes.y.name not in row.figures or not math.isfinite(row.figures[axes.y.name].figure.value):
        return False
    if axes.x in row.keys:
        return row.keys[axes.x] not in ("", "null")
    return not axes.x or (axes.x in row.figures and math.isfinite(row.figures[axes.x].figure.value))


def x_of(row: Row, axes: Axes) -> float:
    """The value of x of a row: a number among its choices, or a figure."""
    return float(as_number(row.keys[axes.x]) or 0) if axes.x in row.keys else row.figures[axes.x].figure.value


def distance_of(row: Row, column: Column) -> tuple[float, float]:
    """How far the figure of a row is from its target, and its error; where there is no target, the figure itself."""
    value, error = y_of(row, column)
    target = row.figures[column.name].figure.target
    return (abs(value - target.value), error) if column.direction == "target" and target else (value, error)


def distance_label(column: Column) -> str:
    """The name of an axis for distances from the target."""
    unit = f" ({column.unit})" if column.unit else ""
    return f"|{column.label} - target|{unit}" if column.direction == "target" else column.heading


def y_of(row: Row, column: Column) -> tuple[float, float]:
    """The figure of a row, and what is drawn as its error: the sd between seeds, of a single one its own error."""
    folded = row.figures[column.name]
    spread = spread_of(folded)
    return folded.figure.value, spread if spread is not None and math.isfinite(spread) else 0.0


def words_of(row: Row, keys: Sequence[str]) -> str:
    """The choices of a row among keys; of one key its value alone."""
    there = [key for key in keys if row.keys[key]]
    if len(keys) == 1:
        return "".join(row.keys[key] for key in there)
    return " ".join(row.keys[key] if as_number(row.keys[key]) is None else f"{key}={row.keys[key]}" for key in there)


def label(comparison: Comparison, name: str) -> str:
    """The name of an axis."""
    column = None if name in comparison.keys else comparison.column(name)
    return name if column is None else column.heading


def known(comparison: Comparison, column: Column) -> Any:
    """The value that a figure is held against, where all rows have the same; None elsewhere."""
    from diffsde.plots.comparison import Known

    found = references(comparison, column.name)
    if not found:
        return None
    value = float(np.mean([each.value for each in found]))
    return Known(KINDS[found[0].kind], value, found[0].error or 0.0)


def about(comparison: Comparison, column: Column) -> str:
    """What a picture is of, in a line, and why a figure is not to be ranked."""
    errors = next((remark for remark in comparison.remarks if remark.startswith("+-")), "")
    words = [comparison.title, errors.partition(";")[0].replace("+- is", "bars:", 1)]
    return "; ".join(filter(None, [*words, column.ranks and f"not to be ranked: {column.ranks}"]))
