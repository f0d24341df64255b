"""Figures as rows of a table, with their units; and the units and directions that a summary has of them."""

from __future__ import annotations

from collections.abc import Iterable

from diffsde.evaluation.table import quantities
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure


def units(figures: Iterable[str], scaled: bool) -> dict[str, str]:
    """The unit of each figure that has one; scaled: for points whose coordinates are divided by their stds."""
    found, known = {}, quantities()
    for name in figures:
        quantity = known[name]
        if unit := (scaled and quantity.scaled_unit) or quantity.unit:
            found[name] = unit
    return found


def directions(figures: Iterable[str]) -> dict[str, str]:
    """The direction of each figure, which says whether jobs rank by it (evaluation/metric.py: Quantity)."""
    known = quantities()
    return {name: known[name].direction for name in figures}


def figure_rows(figures: dict[str, Figure], guided: bool = False, scaled: bool = False) -> list[tuple[str, str]]:
    """The rows of a table for figures, with units; guided: with a remark that guided samples have no reference."""
    of = units(figures, scaled)
    rows = [(name.replace("_", " "), shown_figure(figure, of.get(name, ""))) for name, figure in figures.items()]
    note = "guided samples follow another law than the data's, whose exact values and floors are left out"
    return rows + ([("", note)] if guided else [])
