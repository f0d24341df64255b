"""Samples of tabular data compared with the data column by column, for summary.json and for the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling, to_own
from diffsde.metrics.columns import Column, columns
from diffsde.types import Array, Key

SHOWN = 8  # up to this number of columns, all are listed
WORST = 4  # beyond it, the columns with the largest Kolmogorov-Smirnov distances are
MOST = 100_000  # most points of the data that are compared with, a random subset if there are more


def column_figures(
    x: Array | np.ndarray, dataset: Dataset, scaling: Scaling | None, labels: np.ndarray | None, key: Key
) -> dict[str, Column]:
    """Statistics of each column of samples x (n, d), in the model's units, by the column's name.

    Empty for points that are not rows of numbers, and for data that are not a finite set. labels (n,): the samples are
    compared with data of the same labels.
    """
    arrays = dataset.load()
    if dataset.count_points(arrays) is None or x.ndim != 2:
        return {}
    if labels is not None or len(arrays.x) > MOST:
        data = dataset.draw_given(arrays, labels, key, min(len(arrays.x), MOST))
    else:
        data = np.asarray(arrays.x)
    found = columns(to_own(scaling, x), to_own(scaling, data))
    names = dataset.column_names()
    names = names if len(set(names)) == len(found) else tuple(map(str, range(len(found))))
    return dict(zip(names, found, strict=True))


def column_rows(found: dict[str, Column], labelled: bool = False, end: str = "data") -> list[tuple[str, str]]:
    """The table's rows about the columns: all, if there are few; else the worst, and a summary over all.

    labelled: whether the samples have labels, and are compared with data of the same labels in the same proportions. end:
    what the samples are compared with, the data or the source.
    """
    if not found:
        return []
    names = list(found)
    if len(names) > SHOWN:
        names = sorted(names, key=lambda name: -found[name].ks)[:WORST]
    rows = [(f"column {name}", _said(found[name], end)) for name in names]
    if labelled:
        rows.insert(0, ("", "columns beside data of the same labels, as often as the samples have them"))
    if len(found) > SHOWN:
        ks = np.array([each.ks for each in found.values()])
        floor = next(iter(found.values())).ks_floor
        about = f"KS median {np.median(ks):.3f}, largest {ks.max():.3f}, shown above (two true sets: {floor:.3f})"
        rows.append((f"all {len(found)} columns", about))
    return rows


def _said(column: Column, end: str) -> str:
    """One column as text; means have the decimals of a hundredth of the std, whatever the offset."""
    places = max(0, 2 - math.floor(math.log10(column.data_std))) if column.data_std > 0 else 6
    mean, true = (f"{each:.{min(places, 12)}f}" for each in (column.mean, column.data_mean))
    return (
        f"mean {mean} ({end} {true}), std {column.std:.4g} ({end} {column.data_std:.4g}),"
        f" KS {column.ks:.3f} (two true sets: {column.ks_floor:.3f})"
    )


def column_summary(found: dict[str, Column]) -> dict[str, Any]:
    """The columns as summary.json keeps them."""
    return {"columns": {name: column._asdict() for name, column in found.items()}} if found else {}
