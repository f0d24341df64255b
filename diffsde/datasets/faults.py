"""What is wrong with a table's cell, in one line: where, what is there, and what would be right."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from diffsde.datasets.delimited import Record, Sheet
from diffsde.errors import UserError

MISSING = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "?", "-", "--", ".", "missing"}
DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}.*)?"
THOUSANDS = r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?|[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?|[+-]?[1-9]\d{0,2}([ '_\u00a0\u202f]\d{3})+([.,]\d*)?"
PLAIN = r"(?!(?i:true|false|null|nan|inf|infinity)$)[A-Za-z_]\w*|0|[1-9]\d*"  # what the command line reads as it stands
SHOWN, LONGEST = 6, 40  # cells of a line, and characters of a cell, in a message


class TableLayout(NamedTuple):
    """How a table lies in its file, and what is taken of it.

    header: the record of the names. width: cells of a record, `kept` of which are columns, the others empty ends of lines.
    comma: numbers are written 1,5. first_column: what it is (headers.index_kind). notes: what to say of all this.
    chosen: the columns that are coordinates; label: that of the classes.
    """

    header: Record | None
    names: tuple[str, ...]
    width: int
    kept: int
    comma: bool
    first_column: str
    notes: tuple[str, ...]
    chosen: tuple[int, ...] = ()
    label: int | None = None


def number(cell: str, comma: bool = False) -> float | None:
    """The number that a cell is, NaN and infinity among them; None for all else, such as 1_000 and, among 1,5, 1.5."""
    if "_" in cell or not cell.isascii() or (comma and "." in cell):
        return None
    try:
        return float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return None


def is_missing(cell: str) -> bool:
    """Whether a cell stands for a value that is not there."""
    return cell.strip().lower() in MISSING


def shown_cell(cell: str) -> str:
    """A cell on one line."""
    text = " ".join(cell.split())
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def shown_cells(cells: list[str]) -> str:
    """The first cells of a line."""
    return ",".join(map(shown_cell, cells[:SHOWN])) + (",..." if len(cells) > SHOWN else "")


def column_title(layout: TableLayout, column: int) -> str:
    """column x; or its number where it has no name."""
    name = layout.names[column] if layout.names else ""
    return f"column {name}" if name else f"column {column} (from 0)"


def uneven(sheet: Sheet, layout: TableLayout, record: Record) -> UserError:
    """The fault of a record of more or fewer cells than the others."""
    many = f"{len(record.cells)} value{'' if len(record.cells) == 1 else 's'}"
    reason = f"it has {many}, the others {layout.kept}"
    if len(record.cells) == layout.width:
        reason = f"it has {layout.width} values, the others {layout.kept} and a separator at the end"
    if record.end > record.line:
        reason += f"; it goes on to line {record.end}, so a quote may be left open"
    elif len(record.cells) > layout.kept and sheet.separator == ",":
        reason += (
            "; a decimal comma or a comma within a number would make more of them (write a point, or separate by ;)"
        )
    return UserError(f"dataset.file: '{sheet.path}' line {record.line}: {reason}")


def first_fault(sheet: Sheet, layout: TableLayout) -> UserError:
    """The first fault of the columns that are taken, with how many there are of its kind; all records are read for it."""
    wanted = {*layout.chosen, *([] if layout.label is None else [layout.label])}
    first: tuple[Record, int, str] | None = None
    rows, counts, missing, words = 0, [0] * layout.kept, 0, [set[str]() for _ in range(layout.kept)]
    for record in sheet.records():
        if layout.header and record.line == layout.header.line:
            continue
        rows += 1
        for column, cell in enumerate(record.cells[: layout.kept]):
            if _is_finite(cell, layout.comma):
                continue
            counts[column] += 1
            words[column].add(cell)
            if column not in wanted or (column == layout.label and not is_missing(cell)):
                continue
            missing += is_missing(cell)
            first = first or (record, column, cell)
    assert first is not None, "the table was refused for a fault that it does not have"
    record, column, cell = first
    good = [
        i for i, count in enumerate(counts) if not count and i != layout.label and (i or layout.first_column != "index")
    ]
    others = f"'dataset.columns=[{','.join(words_for(layout, good))}]'" if good else ""
    where = f"dataset.file: '{sheet.path}' line {record.line}, {column_title(layout, column)}: "
    if is_missing(cell):
        what = "the cell is empty" if not cell else f"'{cell}' stands for a missing value"
        drop = f", or take the columns without any: {others}" if others and column != layout.label else ""
        plural = "cell is" if missing == 1 else "cells are"
        return UserError(
            f"{where}{what}; {missing:,} {plural} missing in all: fill them in, leave out their lines{drop}"
        )
    return UserError(where + _reason(sheet, layout, first, rows, counts[column], words[column], others))


def _is_finite(cell: str, comma: bool) -> bool:
    value = number(cell, comma)
    return value is not None and math.isfinite(value)


def _reason(
    sheet: Sheet,
    layout: TableLayout,
    first: tuple[Record, int, str],
    rows: int,
    count: int,
    words: set[str],
    others: str,
) -> str:
    """Why a cell is no number, and what to do."""
    record, column, cell = first
    value, cell = number(cell), shown_cell(cell)
    take = f"; take the columns of numbers: {others}" if others else ""
    if value is not None:
        return f"'{cell}' is " + (
            "no number with a decimal comma as the others have" if layout.comma else "not finite; leave out its line"
        )
    if re.fullmatch(DATE, cell):
        return f"'{cell}' is a date or a time; make it a number, e.g. days since the first{take}"
    if re.fullmatch(THOUSANDS, cell):
        return f"'{cell}' has separators between thousands; write numbers without them, e.g. 1234.5"
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return f"'{cell}' has a decimal comma, others have not; write all with a decimal point"
    if record.line == _first_line(sheet, layout) and rows > 1:
        alone = all(number(word, layout.comma) is None for word in record.cells)
        if alone and count == 1 and layout.header:
            return f"the line ({shown_cells(record.cells)}) has no numbers; if it has the columns' units, delete it"
        if not layout.header and count == 1:
            return f"'{cell}' is not a number; if the line has the columns' names, say dataset.header=true"
    if record.end > record.line:
        return f"'{cell}' is not a number; it goes on to line {record.end}, so a quote may be left open"
    if count * 2 <= rows:
        more = "" if count == 1 else f", nor are {count - 1:,} more in the column"
        return f"'{cell}' is not a number{more}; correct it{take}"
    labels = ""
    if layout.label is None and len(words) <= max(10, rows // 2) and count == rows:
        labels = f", and these as classes: dataset.labels={words_for(layout, [column])[0]}"
    return f"'{cell}' is not a number{take}{labels if take else ''}"


def _first_line(sheet: Sheet, layout: TableLayout) -> int:
    """The line of the first record below the header."""
    return next(record.line for record in sheet.records() if not layout.header or record.line > layout.header.line)


def words_for(layout: TableLayout, columns: Iterable[int]) -> list[str]:
    """How columns are called on the command line: by name where that needs no quotes in any of them, else by number."""
    columns = list(columns)
    names = [layout.names[i] if layout.names else "" for i in columns]
    plain = [bool(re.fullmatch(PLAIN, name, re.ASCII)) and layout.names.count(name) == 1 for name in names]
    if not all(plain) and not any(str(i) in layout.names for i in columns):
        return [str(i) for i in columns]
    return [name if able else str(i) for name, able, i in zip(names, plain, columns, strict=True)]
