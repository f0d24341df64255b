"""What a comparison says on the terminal: its table, as wide as there is room, and its remarks."""

from __future__ import annotations

from diffsde.report.grid import Grid, grid_of
from diffsde.report.rows import Comparison
from diffsde.runs import grid_text, progress

FAR = 1.3  # times the terminal's width, from which rows are said to be too wide for it
ROWS = 60  # rows that are printed, at most


def say_comparison(comparison: Comparison) -> None:
    """Print the table and the remarks of a comparison."""
    grid = grid_of(comparison)
    fitting = fitted(grid)
    progress.say(comparison.title)
    rows = rows_of(fitting)
    grid_text.print_grid(fitting.headings, rows, len(fitting.keys), fitting.last is not None)
    if len(grid.rows) > ROWS:
        progress.say(f"  {len(grid.rows) - ROWS} more rows are in the files")
    if hidden := [heading for heading in grid.headings if heading not in fitting.headings]:
        progress.say(f"  not shown here: {', '.join(hidden)}")
    verbs = dict.fromkeys(row.keys.get("verb", "") for row in comparison.rows)
    if len(verbs) > 1 and width(grid) > FAR * grid_text.room():
        each = " or ".join(f"verb={verb}" for verb in verbs)
        progress.say(f"  for fewer columns compare one verb ({each}), or by=KEYS: rows of these choices alone")
    for remark in comparison.remarks:
        progress.say(f"  {remark}")


def rows_of(grid: Grid) -> list[list[tuple[str, bool]]]:
    """The rows that are printed, and the last: each cell's text, and whether it leads its column."""
    rows = [[(cell.plain(), cell.bold) for cell in row] for row in grid.rows[:ROWS]]
    return [*rows, *([[(cell.plain(), False) for cell in grid.last]] if grid.last else [])]


def text_of(comparison: Comparison) -> str:
    """The table and the remarks of a comparison as text."""
    grid = grid_of(comparison)
    lines = grid_text.plain_lines(grid.headings, rows_of(grid), len(grid.keys))
    return "\n".join([comparison.title, *lines, *(f"  {remark}" for remark in comparison.remarks)])


def width(grid: Grid) -> int:
    """Letters that a row takes."""
    rows = [[cell.plain("*") for cell in row] for row in (*grid.rows, grid.last or grid.rows[0])]
    return grid_text.width_of([grid.headings, *rows])


def fitted(grid: Grid) -> Grid:
    """The grid with as many of its columns as there is room for, the first at least."""
    columns = list(grid.columns)
    while len(columns) > 1:
        found = grid.kept(columns)
        if width(found) <= grid_text.room():
            break
        columns.pop()
    return grid.kept(columns)
