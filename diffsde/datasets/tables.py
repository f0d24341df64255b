"""Tables of numbers in text (.csv, .tsv, .txt) as people have them: header, index, columns and labels found and said."""

from __future__ import annotations

import re
from array import array
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffsde.datasets import delimited
from diffsde.datasets.delimited import LOOKED_AT, Record, Sheet
from diffsde.datasets.faults import (
    TableLayout,
    column_title,
    first_fault,
    is_missing,
    number,
    shown_cells,
    uneven,
    words_for,
)
from diffsde.datasets.headers import index_kind, numbers_as_header
from diffsde.datasets.natural_order import naturally
from diffsde.errors import UserError, suggestion

ENDINGS = (".csv", ".tsv", ".txt")
UNNAMED = "index"  # what an index without a name is called
CLASSES = 10  # of labels, that may be as many as half of the rows


class Table(NamedTuple):
    """A table of numbers: values (n, d) float64, finite; the names of its columns, () where the file has none.

    y: the class (n,) int32 of each row, an index into `classes`, their names in natural order; None without labels.
    notes: what was decided about the file and the user should know, a clause each.
    """

    values: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...]
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()


def read_table(
    path: Path,
    columns: tuple[str, ...] = (),
    labels: str = "",
    header: str = "auto",
    classes: tuple[str, ...] = (),
) -> Table:
    """The table in a text file.

    columns: which to take, by name, or by number from 0; (): all but an index and the labels. labels: the column of
    classes. header: auto, true or false, whether the first line has the names. classes: those that the labels must be
    among, in the order of their numbers; (): those that there are.
    Raises UserError, one line with the file, the line as an editor counts, the column, and what would be right.
    """
    sheet = delimited.opened(path)
    layout = _layout(sheet, header)
    chosen, label, notes = _chosen(layout, columns, labels)
    layout = layout._replace(chosen=tuple(chosen), label=label)
    values = None if label is not None else _at_once(sheet, layout)
    words: list[str] = []
    if values is None:
        values, words = _one_by_one(sheet, layout)
    names = tuple(layout.names[i] for i in chosen) if layout.names else ()
    table = Table(values, names, (*sheet.notes, *layout.notes, *notes))
    return table if label is None else _labelled(path, table, column_title(layout, label), words, classes)


def _layout(sheet: Sheet, header: str) -> TableLayout:
    """What the first lines are, and how many columns the others have."""
    found = list(islice(sheet.records(), LOOKED_AT + 1))
    if not found:
        raise UserError(f"dataset.file: '{sheet.path}' has no rows of numbers")
    first, body = found[0], found[1:]
    widths = [len(record.cells) for record in body] or [len(first.cells)]
    width = max(set(widths), key=widths.count)
    rows = [record.cells for record in body if len(record.cells) == width]
    head = first.cells
    empty = 0  # columns at the end that are there only because every line ends in a separator
    while width - empty > 1 and all(not row[width - empty - 1] for row in rows) and rows:
        if len(head) >= width - empty and head[width - empty - 1]:
            break
        empty += 1
    has_header, notes = _has_header(sheet, first, rows, width - empty, header)
    names: tuple[str, ...] = ()
    if has_header:
        names = _names(sheet, first, body, width, width - empty)
    else:
        above = delimited.comments_before(sheet.lines, first.line)
        words = next(delimited.records([above], sheet.separator, sheet.path), Record(0, 0, [])).cells
        if len(words) == width - empty and not any(number(word) is not None or is_missing(word) for word in words):
            names = tuple(words)
    if empty:
        notes += ("its lines end in a separator",)
    comma = _decimal_comma(sheet, rows)
    if comma:
        notes += ("its numbers have decimal commas",)
    counted = index_kind(names[0] if names else None, [row[0] for row in rows]) if width - empty > 1 else ""
    if counted == "index" and not names[0] and UNNAMED not in names:
        names = (UNNAMED, *names[1:])  # by which it can be asked for
    return TableLayout(first if has_header else None, names, width, width - empty, comma, counted, notes)


def _has_header(
    sheet: Sheet, first: Record, rows: list[list[str]], width: int, header: str
) -> tuple[bool, tuple[str, ...]]:
    """Whether the first record is the columns' names, and what is to be said of it."""
    if header != "auto":
        return header == "true", ()
    head = first.cells
    words = [number(cell) is None and not is_missing(cell) and not delimited.looks_numeric(cell) for cell in head]
    numbers = [delimited.looks_numeric(cell) for cell in head]
    named = f"line {first.line} ({shown_cells(head)})"
    if any(words):
        if not any(numbers):
            return True, ()
        columns = list(zip(*rows, strict=True)) if rows else []
        over_numbers = any(
            word and np.mean([delimited.looks_numeric(cell) for cell in column]) > 0.5
            for word, column in zip(words, columns, strict=False)
        )
        numeric = [i for i, column in enumerate(columns) if all(map(delimited.looks_numeric, column))]
        there = [head[i] for i in numeric if i < len(head)]
        if not over_numbers and numbers_as_header(there, [[row[i] for i in numeric] for row in rows]) != "header":
            return False, ()
        return True, (
            f"{named} was read as the columns' names, though it has numbers (dataset.header=false: as a point)",
        )
    decided = numbers_as_header(head, [row[:width] for row in rows])
    if decided == "header":
        return True, (f"{named} was read as the columns' names, not as a point (dataset.header=false: as a point)",)
    if decided == "doubt":
        return False, (f"{named} was read as a point (dataset.header=true: as the columns' names)",)
    return False, ()


def _names(sheet: Sheet, first: Record, body: list[Record], width: int, kept: int) -> tuple[str, ...]:
    """The columns' names, one for each of `kept`. Raises UserError where there are more or fewer."""
    names = [" ".join(cell.split()) for cell in first.cells]
    while len(names) > kept and not names[-1]:
        names.pop()
    if len(names) == kept - 1 and sheet.separator in " \t" and index_kind("", [record.cells[0] for record in body]):
        names.insert(0, "")  # R leaves out the name of the row names
    if len(names) != kept:
        line = next((record.line for record in body if len(record.cells) == width), first.line)
        raise UserError(
            f"dataset.file: '{sheet.path}' line {first.line}: the names of columns there are {len(names)}, the values in"
            f" line {line} are {kept}; give each column one name (lines above them begin with #, or are deleted)"
        )
    return tuple(names)


def _decimal_comma(sheet: Sheet, rows: list[list[str]]) -> bool:
    """Whether numbers are written like 1,5. Raises UserError where 1,234 might be 1.234 and 1234."""
    if sheet.separator == ",":
        return False
    cells = [cell for row in rows for cell in row if "," in cell and delimited.looks_numeric(cell)]
    if not cells or any("." in cell and delimited.looks_numeric(cell) for row in rows for cell in row):
        return False
    if all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell) for cell in cells):
        raise UserError(
            f"dataset.file: '{sheet.path}' has cells like '{cells[0]}', which may be {cells[0].replace(',', '.')} or"
            f" {cells[0].replace(',', '')}; write them with a decimal point"
        )
    return True


def _chosen(
    layout: TableLayout, columns: tuple[str, ...], labels: str
) -> tuple[list[int], int | None, tuple[str, ...]]:
    """The columns that are the coordinates, in order, the one of labels, and what is to be said of the index."""
    label = _column(layout, labels, "labels") if labels else None
    if columns:
        chosen = [_column(layout, name, "columns") for name in columns]
        if len(set(chosen)) < len(chosen) or label in chosen:
            raise UserError(
                f"dataset.columns is [{','.join(columns)}]; a column can be taken once, and not as labels too"
            )
        return chosen, label, ()
    every = [i for i in range(layout.kept) if i != label]
    if not every:
        raise UserError(f"dataset.labels: '{labels}' is the only column; there must be one of numbers besides")
    if layout.first_column == "doubt" and layout.kept > 1 and 0 in every:
        return every, label, ("its first column counts the rows, and was kept (dataset.columns= says which to take)",)
    if layout.first_column == "index" and every != [0] and 0 in every:
        keep = f"'dataset.columns=[{','.join(words_for(layout, every))}]' keeps it"
        note = f"its first column ({layout.names[0]}) has row numbers and was left out ({keep})"
        return [i for i in every if i], label, (note,)
    return every, label, ()


def _column(layout: TableLayout, name: str, knob: str) -> int:
    """The column of this name, or of this number."""
    if layout.names.count(name) == 1:
        return layout.names.index(name)
    if layout.names.count(name) > 1:
        raise UserError(
            f"dataset.{knob}: {layout.names.count(name)} columns are called '{name}'; give a number, from 0"
        )
    if re.fullmatch(r"\d{1,9}", name) and int(name) < layout.kept:
        return int(name)
    if not layout.names:
        raise UserError(
            f"dataset.{knob}: '{name}' is not a column; the file has no names, give a number, 0 to {layout.kept - 1}"
        )
    raise UserError(
        f"dataset.{knob}: '{name}' is not a column{suggestion(name, [name for name in layout.names if name])}"
    )


def _at_once(sheet: Sheet, layout: TableLayout) -> np.ndarray | None:
    """The chosen columns, if the file is nothing but finite numbers below its header; else None."""
    skipped = layout.header.end if layout.header else 0
    if layout.comma or layout.width != layout.kept:
        return None
    delimiter = None if sheet.separator == " " else sheet.separator
    try:
        lines = sheet.lines[skipped:]
        if not any(map(str.strip, lines)):
            return None
        values = np.loadtxt(lines, delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
    except ValueError:
        return None
    if values.shape[1] != layout.width or not np.isfinite(values).all():
        return None
    return values if len(layout.chosen) == layout.width else values[:, list(layout.chosen)]


def _one_by_one(sheet: Sheet, layout: TableLayout) -> tuple[np.ndarray, list[str]]:
    """The chosen columns (n, d), and the cells of the labels. Raises UserError for the first fault."""
    numbers, words = array("d"), []
    rest = layout.width - layout.kept
    strict = layout.comma or any("_" in line for line in sheet.lines)  # 1_000 is a number in Python alone
    for record in sheet.records():
        if layout.header and record.line == layout.header.line:
            continue
        cells = record.cells
        if (len(cells) != layout.width and not (rest and len(cells) == layout.kept)) or any(cells[layout.kept :]):
            raise uneven(sheet, layout, record)
        try:
            if strict:
                numbers.extend([_strictly(cells[i], layout.comma) for i in layout.chosen])
            else:
                numbers.extend([float(cells[i]) for i in layout.chosen])
        except ValueError:
            raise first_fault(sheet, layout) from None
        if layout.label is not None:
            words.append(cells[layout.label])
    values = np.array(numbers).reshape(-1, len(layout.chosen))
    if not np.isfinite(values).all() or any(map(is_missing, words)):
        raise first_fault(sheet, layout)
    return values, words


def _strictly(cell: str, comma: bool) -> float:
    value = number(cell, comma)
    if value is None:
        raise ValueError
    return value


def _labelled(path: Path, table: Table, name: str, words: list[str], classes: tuple[str, ...]) -> Table:
    """The table with the classes that the cells name."""
    there = tuple(naturally(set(words)))
    if len(there) > max(CLASSES, len(words) // 2):
        raise UserError(
            f"dataset.labels: '{path}' has {len(there):,} different values in {len(words):,} rows of {name}; classes are"
            " far fewer"
        )
    known = {word: i for i, word in enumerate(classes or there)}
    for word in there:
        if word not in known:
            raise UserError(f"dataset.labels: '{path}' has '{word}' in {name}; the classes are {', '.join(classes)}")
    y = np.array([known[word] for word in words], np.int32)
    return table._replace(y=y, classes=classes or there)
