"""What a comparison is made of: rows of jobs with equal choices, columns of figures, and which row leads."""

from __future__ import annotations

from typing import NamedTuple

from diffsde.metrics.figures import Figure
from diffsde.runs.records import Record


class Folded(NamedTuple):
    """A figure of a row, its seeds folded. figure: the mean over seeds, its standard error (metrics/differences.py), and its
    reference. sd: between the n values, None for one; values: by their seeds, `run.seed=0, seed=1`.

    own: the error of a single figure as it was measured, None where it is not known; shared: whether all values are of one noise.
    """

    figure: Figure
    sd: float | None
    n: int
    values: dict[str, float]
    own: float | None = None
    shared: bool = False


class Row(NamedTuple):
    """Jobs with equal choices: keys, the choices that differ between rows; the jobs' records; figures by column name."""

    keys: dict[str, str]
    records: tuple[Record, ...]
    figures: dict[str, Folded]

    def words(self, without: tuple[str, ...] = ()) -> str:
        """The choices as typed, key=value."""
        return " ".join(f"{key}={value}" for key, value in self.keys.items() if value and key not in without)


class Column(NamedTuple):
    """A figure or a cost. direction: `lower`, `higher`, `target` (nearer to the reference) or ''.

    ranks: '' where rows may be ranked by it, else why not. cost: seconds, steps and the like.
    """

    name: str
    label: str
    unit: str
    direction: str
    ranks: str
    cost: bool = False

    @property
    def heading(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


class Comparison(NamedTuple):
    """Jobs compared. keys: the columns of choices; columns: figures, then costs; best: column name -> row that leads every other
    by more than the errors, absent where none does; remarks: `best: ...` or `no best: why`, what is not ranked and what was
    left out.
    """

    title: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    best: dict[str, int]
    remarks: tuple[str, ...]

    def column(self, name: str) -> Column | None:
        """The column of a name; None where there is none."""
        return next((column for column in self.columns if column.name == name), None)
