"""A table of many columns on the terminal: as rich draws it, and as plain lines elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from diffsde import terminal
from diffsde.runs import progress

BETWEEN = 2  # letters between two columns
PLAIN = 10_000  # letters of a line where there is no terminal


def room() -> int:
    """Letters that a row has."""
    return shutil.get_terminal_size().columns if progress.on_terminal() else PLAIN


def width_of(rows: Sequence[Sequence[str]]) -> int:
    """Letters that a row takes."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(wide) + (3 if progress.on_terminal() else BETWEEN) * len(wide)


def print_grid(headings: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]], words: int, last: bool) -> None:
    """Print a table. rows: of cells (text, whether it is bold; elsewhere than on a terminal with a star); words: the number of
    columns that are words, and stand at the left; last: whether the last row is apart from the others.
    """
    headings = list(map(terminal.printable, headings))
    rows = [[(terminal.printable(text), bold) for text, bold in row] for row in rows]
    if progress.on_terminal():
        _draw(headings, rows, words, last)
        return
    for line in plain_lines(headings, rows, words):
        progress.say(line)


def plain_lines(headings: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]], words: int) -> list[str]:
    """The lines of a table where there is no terminal; what is bold has a star."""
    marked = any(bold for row in rows for _, bold in row)
    texts = [list(headings), *([text + ("*" if bold else " " * marked) for text, bold in row] for row in rows)]
    wide = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = [
            f"{text:<{w}}" if i < words else f"{text:>{w}}" for i, (text, w) in enumerate(zip(row, wide, strict=True))
        ]
        lines.append("  " + (" " * BETWEEN).join(cells).rstrip())
    return lines


def _draw(headings: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]], words: int, last: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for i, heading in enumerate(headings):
        grid.add_column(Text(heading), justify="left" if i < words else "right", overflow="fold")
    for i, row in enumerate(rows):
        dim = last and i == len(rows) - 1
        grid.add_row(*(Text(text, "bold" if bold else "") for text, bold in row), style="dim" if dim else "")
        if last and i == len(rows) - 2:
            grid.add_section()
    Console().print(grid)
