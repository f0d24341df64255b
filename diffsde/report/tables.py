"""The tables of a comparison as files: a row a job (csv, parquet), and seeds folded, for a page (md) and a paper (tex)."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsde import extras
from diffsde.atomic_files import write_text
from diffsde.report.columns import costs_of, figures_of
from diffsde.report.grid import Cell, Grid, grid_of
from diffsde.report.keys import SEEDS, choices_of
from diffsde.report.rows import Comparison
from diffsde.runs import files, records

ESCAPED = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "*": "{*}"},  # after \\ a bracket or a star is an argument
}


def write_tables(comparison: Comparison, where: Path, words: tuple[str, ...], name: str = "compare") -> list[Path]:
    """Write the tables named by the words, csv, md, tex or parquet, into a folder; their paths."""
    return [files.write(where / f"{name}.{word}", WRITERS[word](comparison)) for word in words]


def check_tables(words: tuple[str, ...]) -> None:
    """Raise UserError for a table that needs a package that is not there."""
    if "parquet" in words:
        extras.require("pyarrow", "parquet", "tables=[parquet]")


def by_job(comparison: Comparison) -> dict[str, list[Any]]:
    """A column of values for each key, figure and cost; None where a job has none."""
    trained = records.remembered(records.trained)
    table: list[dict[str, Any]] = []
    for row in comparison.rows:
        for record in row.records:
            parent = None if record.verb == "train" else trained(record)
            choices = choices_of(record, parent)
            cells: dict[str, Any] = {
                "id": record.id,
                "job": str(record.folder),
                "verb": record.verb,
                "date": record.date,
            }
            cells |= row.keys | {key: choices[key] for key in SEEDS if key in choices}
            for name, found in figures_of(record).items():
                said = found.figure.as_dict()
                cells[name] = number(said.pop("value"))
                cells |= {f"{name}.{key}": number(value) for key, value in said.items()}
            table.append(cells | costs_of(record, parent))
    columns = dict.fromkeys(key for cells in table for key in cells)
    return {key: [cells.get(key) for cells in table] for key in columns}


def number(value: Any) -> Any:
    """A number, None where it is not finite."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def write_csv(comparison: Comparison) -> Callable[[Path], None]:
    """What writes a row a job, as csv."""

    def write(path: Path) -> None:
        table = by_job(comparison)
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))

    return write


def write_parquet(comparison: Comparison) -> Callable[[Path], None]:
    """What writes a row a job, as parquet."""

    def write(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(by_job(comparison)), path)

    return write


def markdown(comparison: Comparison) -> str:
    """The table with its seeds folded, its title above and its remarks below."""
    grid = grid_of(comparison)
    lines = [f"**{escape_markdown(comparison.title)}**", ""]
    lines += [markdown_row([escape_markdown(text) for text in grid.headings])]
    lines += [markdown_row(["---"] * len(grid.keys) + ["---:"] * len(grid.columns))]
    for row in rows_of(grid):
        lines.append(markdown_row([markdown_cell(cell) for cell in row]))
    remarks = [f"- {escape_markdown(remark)}" for remark in comparison.remarks]
    return "\n".join([*lines, "", *remarks]) + "\n"


def rows_of(grid: Grid) -> list[tuple[Cell, ...]]:
    """The rows, and the last one."""
    return [*grid.rows, *([grid.last] if grid.last else [])]


def markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.plain().replace("+-", "±"))
    return f"**{text}**" if cell.bold else text


def escape_markdown(text: str) -> str:
    """Text that is text in Markdown, in a table too, and no HTML."""
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(comparison: Comparison) -> str:
    """The table with its seeds folded, for \\usepackage{booktabs}; title and remarks are comments above it."""
    grid = grid_of(comparison)
    said = [comparison.title, *comparison.remarks, r"needs \usepackage{booktabs}"]
    lines = [f"% {' '.join(text.split())}" for text in said]
    lines += [rf"\begin{{tabular}}{{{'l' * len(grid.keys)}{'r' * len(grid.columns)}}}", r"\toprule"]
    lines += [latex_row([escape_latex(text) for text in grid.headings]), r"\midrule"]
    lines += [latex_row([latex_cell(cell) for cell in row]) for row in grid.rows]
    if grid.last:
        lines += [r"\midrule", latex_row([latex_cell(cell) for cell in grid.last])]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex_cell(cell: Cell) -> str:
    """A cell: a number with its spread in mathematics, bold where it leads; else text."""
    note = f" ({escape_latex(cell.note)})" if cell.note else ""
    if not re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", cell.text):
        return escape_latex(cell.text) + note
    text = latex_number(cell.text) + (rf" \pm {latex_number(cell.spread)}" if cell.spread else "")
    return (rf"$\mathbf{{{text}}}$" if cell.bold else f"${text}$") + note


def latex_number(text: str) -> str:
    """A number, its power of ten written out."""
    digits, _, power = text.partition("e")
    return rf"{digits} \cdot 10^{{{int(power)}}}" if power else digits


def escape_latex(text: str) -> str:
    """Text that is text in LaTeX."""
    return "".join(ESCAPED.get(sign, sign) for sign in " ".join(text.split()))


def text_writer(make: Callable[[Comparison], str]) -> Callable[[Comparison], Callable[[Path], object]]:
    """What writes the text of a comparison."""
    return lambda comparison: lambda path: write_text(path, make(comparison))


WRITERS: dict[str, Callable[[Comparison], Callable[[Path], object]]] = {
    "csv": write_csv,
    "md": text_writer(markdown),
    "tex": text_writer(latex),
    "parquet": write_parquet,
}
USUAL = ("csv", "md", "tex")
