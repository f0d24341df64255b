"""diffsde.compare: jobs compared from their folders, as a value that a notebook shows as a table."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffsde.api.refusals import refusals
from diffsde.report.comparison import Comparison, Row
from diffsde.report.comparison import compare as comparison_of
from diffsde.report.grid import grid_of
from diffsde.report.pictures import draw_pictures
from diffsde.report.show import text_of
from diffsde.report.tables import USUAL, by_job, write_tables
from diffsde.runs.records import select


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Compared:
    """Jobs that were compared. comparison: all of it, as `diffsde compare` has it; rows, best and remarks are its own."""

    comparison: Comparison

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row for each combination of choices: keys, figures by name (mean over seeds, sd, reference), and records."""
        return self.comparison.rows

    @property
    def best(self) -> dict[str, Row]:
        """The row that leads every other by more than the errors, by figure; without the figures in which none does."""
        return {name: self.rows[i] for name, i in self.comparison.best.items()}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What leads, or why nothing does; what is not ranked and why; what was left out."""
        return self.comparison.remarks

    def table(self) -> dict[str, list[Any]]:
        """Columns of a value for each job, as compare.csv has them: pandas.DataFrame(found.table())."""
        return by_job(self.comparison)

    def __repr__(self) -> str:
        return text_of(self.comparison)

    def _repr_html_(self) -> str:
        """A notebook's table."""
        grid = grid_of(self.comparison)
        head = "".join(f"<th>{html.escape(text)}</th>" for text in grid.headings)
        rows = []
        for row in (*grid.rows, *([grid.last] if grid.last else [])):
            texts = [(html.escape(cell.plain().replace("+-", "\u00b1")), cell.bold) for cell in row]
            rows.append("".join(f"<td>{f'<b>{text}</b>' if bold else text}</td>" for text, bold in texts))
        body = "".join(f"<tr>{row}</tr>" for row in (head, *rows))
        said = "".join(f"<li>{html.escape(remark)}</li>" for remark in self.remarks)
        return f"<table><caption>{html.escape(self.comparison.title)}</caption>{body}</table><ul>{said}</ul>"


@refusals
def compare(
    *what: str | Path,
    by: Sequence[str] = (),
    where: str | Sequence[str] = (),
    x: str = "",
    y: str = "",
    folder: str | Path | None = None,
) -> Compared:
    """Compare jobs: `diffsde compare` with these words. what: folders, sweeps, ids, names or filters, "path=ot".

    by: the choices that make the rows; where: key=value that a job must have. folder: where tables and pictures, of y against x,
    are written; None: nowhere.
    """
    words = where.split() if isinstance(where, str) else list(where)
    found = comparison_of(select([str(each) for each in what]), [by] if isinstance(by, str) else list(by), words)
    if folder is not None:
        place = Path(folder).expanduser()
        write_tables(found, place, USUAL)
        draw_pictures(found, place, x, y)
    return Compared(found)
