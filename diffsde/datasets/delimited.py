"""Text files of separated values, as far as their characters go: encoding, separator, and records with their lines."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from diffsde.errors import UserError
from diffsde.memory import installed

SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", ",": "commas", " ": "spaces"}  # first of equals
LOOKED_AT = 1000  # records from which the layout of a table is found
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
OTHERS = {b"PK\x03\x04": "an Excel workbook or a zip archive", b"\xd0\xcf\x11\xe0": "an Excel workbook"}
COMMENT = "#"
IN_MEMORY = 10  # bytes of memory, about, for a byte of text


class Record(NamedTuple):
    """The cells of a record, and the line of the file at which it begins, as an editor counts, and that where it ends."""

    line: int
    end: int
    cells: list[str]


class Sheet(NamedTuple):
    """The lines of a file without their ends, what separates their cells, and what the user should know of both."""

    path: Path
    lines: list[str]
    separator: str
    notes: tuple[str, ...]

    def records(self) -> Iterator[Record]:
        """Every record but blank lines and comments. Raises UserError for quotes that are not closed."""
        return records(self.lines, self.separator, self.path)


def opened(path: Path) -> Sheet:
    """The text of a file. Raises UserError, in one line, for what is no text."""
    text, notes = _decoded(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    declared = re.fullmatch(r"sep=(.)", lines[0].strip("\"' "), re.IGNORECASE)  # as Excel writes it
    if declared and declared[1] in SEPARATORS:
        separator, lines[0] = declared[1], ""
    else:
        separator = _separator(lines, path)
    if separator != "," and not (separator == "\t" and path.suffix.lower() == ".tsv"):
        notes = (*notes, f"its columns are separated by {SEPARATORS[separator]}")
    return Sheet(path, lines, separator, notes)


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    where = f"dataset.file: '{path}'"
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
        raise UserError(f"{where} is no regular file")
    if (size := os.stat(path).st_size) > installed() // IN_MEMORY:
        raise UserError(f"{where} has {size / 1e9:.1f} GB of text, too much for this machine; save it as .npy")
    content = path.read_bytes()
    for mark, kind in OTHERS.items():
        if content.startswith(mark):
            raise UserError(f"{where} is {kind}, not text; save the sheet as CSV (UTF-8)")
    for mark, name in MARKS.items():
        if content.startswith(mark):
            try:
                return content.decode("utf-16"), (f"its text is {name}",)
            except UnicodeDecodeError:
                raise UserError(f"{where} begins like {name}, and is damaged; save it as UTF-8") from None
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise UserError(f"{where} line {line}: it has a zero byte, so it is no text in UTF-8; save it as CSV in UTF-8")
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        try:
            return content.decode("cp1252"), (f"line {line} is not UTF-8, its text was read as Windows-1252",)
        except UnicodeDecodeError:
            raise UserError(f"{where} line {line}: it is no text in UTF-8; save it as CSV in UTF-8") from None


def records(lines: list[str], separator: str, path: Path) -> Iterator[Record]:
    """The records, their cells stripped of blanks. Comments and blank lines count as lines, and are no records."""
    at, begin, fresh, blanks = 0, 0, True, False

    def feed() -> Iterator[str]:
        nonlocal at, begin, fresh, blanks
        for line in lines:
            at += 1
            if fresh:  # within quotes a blank line is part of a cell
                bare = line.strip()
                if not bare or bare[0] == COMMENT:
                    continue
                begin, fresh = at, False
                blanks = " " in line or "\t" in line
            yield (line.replace("\t", " ").rstrip() if separator == " " else line) + "\n"

    reader = csv.reader(feed(), delimiter=separator, skipinitialspace=True)
    while True:
        fresh = True
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"dataset.file: '{path}' line {begin}: a quote is not closed, or a cell is too long ({error})"
            ) from None
        if blanks or at > begin:
            cells = [cell.strip() for cell in cells]
        if any(cells):  # nothing but separators is as good as a blank line
            yield Record(begin, at, cells)


def comments_before(lines: list[str], line: int) -> str:
    """The last comment above a line (from 1), where numpy.savetxt writes the names of columns; '' for none."""
    above = [text.strip().lstrip(COMMENT) for text in lines[: line - 1] if text.strip().startswith(COMMENT)]
    return above[-1] if above else ""


def _separator(lines: list[str], path: Path) -> str:
    """What splits most records into as many cells, more than one, of which the most are numbers; a comma where nothing does."""
    best, best_score = ",", (0.0, 0.0)
    for separator in SEPARATORS:
        try:
            found = [record.cells for record in islice(records(lines, separator, path), LOOKED_AT)]
        except UserError:  # quotes that are none, where this separates nothing
            continue
        counts = Counter(len(cells) for cells in found)
        several = {width: count for width, count in counts.items() if width > 1}
        if not several:
            continue
        width = max(several, key=lambda width: (several[width], width))
        share = several[width] / len(found)
        cells = [cell for row in found for cell in row if cell]
        score = share, sum(map(looks_numeric, cells)) / len(cells)
        if share >= 0.5 and score > best_score:
            best, best_score = separator, score
    return best


def looks_numeric(cell: str) -> bool:
    """Whether a cell is a number, with a decimal point or a decimal comma."""
    return bool(re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", cell))
