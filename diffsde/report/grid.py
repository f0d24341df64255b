"""The table of a comparison as cells, before it is written as Markdown or LaTeX or printed: numbers rounded by their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from diffsde.metrics.figure_text import decimals, with_places
from diffsde.metrics.figures import KINDS, Reference
from diffsde.report.keys import SAMPLING
from diffsde.report.rows import Column, Comparison, Folded, Row

SHOWN_COSTS = ("steps", "nfe", "cpu_seconds", "seconds")  # of which the first of two times alone
TIMES = ("cpu_seconds", "seconds")
FIELD = "(field)"
MOST = 6  # decimals of a number


class Cell(NamedTuple):
    """A cell: text, the spread after +- ('' for none), a note in brackets, and whether it leads its column."""

    text: str
    spread: str = ""
    note: str = ""
    bold: bool = False

    def plain(self, mark: str = "") -> str:
        """The cell as plain text; mark: what follows a number that leads."""
        words = [self.text + (f" +- {self.spread}" if self.spread else ""), f"({self.note})" if self.note else ""]
        return " ".join(filter(None, words)) + (mark if self.bold else "")


class Grid(NamedTuple):
    """A table of cells: headings of keys, then of figures and costs; columns: the names of these; rows; and the last row, what
    the figures are held against, None where that is nothing or differs from row to row.
    """

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    last: tuple[Cell, ...] | None

    def kept(self, columns: Sequence[str]) -> Grid:
        """The grid with these columns alone."""
        at = [*range(len(self.keys)), *(len(self.keys) + self.columns.index(name) for name in columns)]
        rows = [tuple(row[i] for i in at) for row in (*self.rows, *([self.last] if self.last else []))]
        headings = tuple(self.headings[i] for i in at)
        last = rows.pop() if self.last else None
        return Grid(self.keys, tuple(columns), headings, tuple(rows), last)


def grid_of(comparison: Comparison) -> Grid:
    """The table of a comparison: its keys, its figures, and the costs that differ."""
    columns = shown_columns(comparison)
    counted = len({folded.n for row in comparison.rows for folded in row.figures.values() if folded.values}) > 1
    cells = [column_of(comparison, column, counted) for column in columns]
    rows = [
        (*(Cell(word) for word in key_words(row, comparison.keys)), *(column[i] for column in cells))
        for i, row in enumerate(comparison.rows)
    ]
    headings = (*comparison.keys, *(column.heading for column in columns))
    names = tuple(column.name for column in columns)
    return Grid(comparison.keys, names, headings, tuple(rows), last_row(comparison, columns))


def key_words(row: Row, keys: Sequence[str]) -> list[str]:
    """The choices of a row as its cells have them: of figures of the field alone `(field)` in place of the first that draws samples."""
    words = [row.keys[key] for key in keys]
    drawing = [i for i, key in enumerate(keys) if key.partition(".")[0] in SAMPLING]
    if drawing and not any(words[i] for i in drawing) and all(record.verb == "evaluate" for record in row.records):
        words[drawing[0]] = FIELD
    return words


def shown_columns(comparison: Comparison) -> list[Column]:
    """The figures, and of the costs those that differ between rows, and one time."""
    found = [column for column in comparison.columns if not column.cost]
    costs = {column.name: column for column in comparison.columns if column.cost}
    for name in SHOWN_COSTS:
        values = {row.figures[name].figure.value for row in comparison.rows if name in row.figures}
        timed = any(column.name in TIMES for column in found)
        if name in costs and (not timed if name in TIMES else len(values) > 1):
            found.append(costs[name])
    return found


def spread_of(folded: Folded) -> float | None:
    """What is said after +-: the sd between seeds, and the error of a single one."""
    return folded.figure.error if folded.sd is None else folded.sd


def column_of(comparison: Comparison, column: Column, counted: bool) -> list[Cell]:
    """The cells of a column, with equal decimals. counted: whether numbers of seeds differ, and so stand in each cell."""
    folded = [row.figures.get(column.name) for row in comparison.rows]
    places = None if column.cost else places_of([each for each in folded if each])
    shown = references(comparison, column.name)
    cells = []
    for i, each in enumerate(folded):
        if each is None or not math.isfinite(each.figure.value):
            cells.append(Cell("-" if each is None else "diverged"))
            continue
        if places is None:
            cells.append(Cell(cost_text(each.figure.value)))
            continue
        spread, reference, notes = spread_of(each), each.figure.reference, []
        if counted and each.n > 1:
            notes.append(f"n={each.n}")
        if shown is None and reference is not None:
            notes.append(f"{reference.kind} {with_places(reference.value, places)}")
        text = with_places(each.figure.value, places)
        said = "" if spread is None or not math.isfinite(spread) else with_places(spread, places)
        cells.append(Cell(text, said, ", ".join(notes), comparison.best.get(column.name) == i))
    return cells


def places_of(folded: Sequence[Folded]) -> int:
    """Decimals that show two digits of the middle one of the spreads; without spreads four digits of the smallest value."""
    spreads = sorted(spread for each in folded if (spread := spread_of(each)) and math.isfinite(spread))
    if spreads:
        return min(MOST, decimals(spreads[(len(spreads) - 1) // 2]))
    sizes = [abs(each.figure.value) for each in folded if each.figure.value and math.isfinite(each.figure.value)]
    return min(MOST, max(0, 3 - math.floor(math.log10(min(sizes))))) if sizes else 0


def cost_text(value: float) -> str:
    """A cost with three digits, and whole where it is."""
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


def references(comparison: Comparison, name: str) -> list[Reference] | None:
    """The references of a column, [] where there are none; None where they differ from row to row by more than their errors."""
    found = [row.figures[name].figure.reference for row in comparison.rows if name in row.figures]
    there = [each for each in found if each is not None]
    if not there:
        return []
    low, high = min(there, key=lambda each: each.value), max(there, key=lambda each: each.value)
    near = high.value - low.value <= 2 * math.hypot(low.error or 0.0, high.error or 0.0)
    return there if near and len(there) == len(found) and len({each.kind for each in there}) == 1 else None


def last_row(comparison: Comparison, columns: Sequence[Column]) -> tuple[Cell, ...] | None:
    """The row of what the figures are held against: exact values, and what true samples score."""
    cells, any_there = [], False
    for column in columns:
        found = [] if column.cost else references(comparison, column.name)
        if not found:
            cells.append(Cell(""))
            continue
        any_there = True
        first = next(row.figures[column.name] for row in comparison.rows if column.name in row.figures)
        places = places_of([row.figures[column.name] for row in comparison.rows if column.name in row.figures])
        value, error = found[0].value, found[0].error
        spread = with_places(error, places) if error and error >= 0.5 * 10.0**-places else ""
        cells.append(Cell(with_places(value, places), spread, called(found[0].kind, first.figure.points)))
    if not any_there:
        return None
    return (*(Cell("held against" if i == 0 else "") for i in range(len(comparison.keys))), *cells)


def called(kind: str, points: int | None) -> str:
    """What a reference is, in a word or two."""
    return f"{points} true points" if kind == "floor" and points is not None else KINDS[kind]
