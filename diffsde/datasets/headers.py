"""Whether a first line of numbers is data or names, and whether a first column counts the rows."""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np

from diffsde.datasets.delimited import looks_numeric

INDEX_NAMES = (
    "index",
    "unnamed: 0",
    "level_0",
    "rownames",
    "row.names",
    "row_number",
)  # as data frames call their index
CERTAIN = 3  # columns: that a point is k, k + 1, k + 2 by chance is unlikely, k, k + 1 is not
ROWS = 10  # from which on a pattern without a name is worth a word


def is_whole(cell: str) -> bool:
    """Whether a cell is written as a whole number."""
    return bool(re.fullmatch(r"[+-]?\d{1,18}", cell))  # more digits are no name, and no number of a row


def is_finite(cell: str) -> bool:
    """Whether a cell is a number that floating point holds."""
    return looks_numeric(cell) and math.isfinite(float(cell.replace(",", ".")))


def index_kind(name: str | None, cells: list[str]) -> Literal["index", "doubt", ""]:
    """Whether a first column counts the rows. name: None where the file has no names, '' where this column has none.

    index: it has no name where others have, and whole numbers alone, or a name that data frames give their index, and
    numbers that increase by one. doubt: they increase by one from 0 or 1 under another name.
    """
    if not cells or not all(map(is_whole, cells)):
        return ""
    values = np.array([int(cell) for cell in cells], object)
    counts = bool(np.all(values[1:] - values[:-1] == 1))
    if name == "" or (counts and name is not None and name.lower() in INDEX_NAMES):
        return "index"
    return "doubt" if counts and values[0] in (0, 1) and len(values) >= ROWS else ""


def numbers_as_header(head: list[str], rows: list[list[str]]) -> Literal["header", "doubt", ""]:
    """Whether a first line of numbers names the columns, as 0,1 or 2019,2020 do; doubt: it might, and is taken for a point.

    Names are whole numbers, all different. They are taken for names where they increase by one as no other line does, and
    the other lines have decimals, lie elsewhere in every column, or there are 3 columns or more; and where they lie far
    from all numbers below and those have decimals. A line that goes on a sequence below it (0,1 before 0.1,0.9) is not.
    """
    if head and not head[0] and len(head) > 1 and index_kind("", [row[0] for row in rows]):
        return "header" if all(map(is_whole, head[1:])) else ""  # a data frame's: no name above its index
    body = [row for row in rows if len(row) == len(head) and all(map(is_finite, row))]
    if not head or not all(map(is_whole, head)) or len(set(head)) < len(head) or len(body) < 2:
        return ""
    names = np.array([float(cell) for cell in head])
    values = np.array([[float(cell.replace(",", ".")) for cell in row] for row in body])
    whole = np.array([all(map(is_whole, row)) for row in body])
    counted = whole & np.all(np.diff(values, axis=1) == 1, axis=1) if len(head) > 1 else whole & (values[:, 0] == 0)
    counts = bool(np.all(np.diff(names) == 1)) and (len(head) > 1 or names[0] == 0)
    other_kind = whole.mean() < 0.01
    low, high = values.min(axis=0), values.max(axis=0)
    width = high - low
    outside = bool(np.all((names < low) | (names > high)))
    far = bool(np.all((names < low - width) | (names > high + width)))
    if _continues(names, values):
        sure = False
    elif counts and not counted.any():
        sure = other_kind or outside or len(head) >= CERTAIN
    else:
        sure = other_kind and far
    if sure:
        return "header"
    return "doubt" if len(body) >= ROWS and not counted.any() and (counts or not whole.any()) else ""


def _continues(names: np.ndarray, values: np.ndarray) -> bool:
    """Whether every column is a sequence, up or down, that begins with its name, in a step like the others."""
    first, others = values[0] - names, np.diff(values, axis=0)
    one_way = np.where(first >= 0, (others >= 0).all(axis=0), (others <= 0).all(axis=0))
    return bool(np.all(one_way & (np.abs(first) <= 2 * np.abs(others).max(axis=0))))
