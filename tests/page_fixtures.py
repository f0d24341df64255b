"""A comparison made by hand, with markup wherever text may come from, and its page: for the tests of pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffsde.metrics.figures import Figure, Reference
from diffsde.report.comparison import Column, Comparison, Folded, Row
from diffsde.runs.records import Record

# What would run, load or end something, were it ever read as markup; and letters that are not ASCII.
EVIL = "</script><script>window.hit=1</script><img src=x onerror='window.hit=1'>{{data}}\"&amp; é 日本 \u2028 <b>"
EXACT = {
    "run": "oracle",
    "dataset": {"name": "gmm"},
    "path": {"name": "ot"},
    "sampler": {"name": "em", "diffusion": {"name": "constant", "sigma": 0.5}},
    "note": EVIL,
}


def record(folder: Path, verb: str = "sample", config: dict[str, Any] | None = None, **others: Any) -> Record:
    """The record of a job, whole, in a folder that is made with samples in it."""
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).normal(size=(40, 2))
    np.savez(folder / "samples.npz", x=x)
    usual: dict[str, Any] = {
        **{"folder": folder, "id": "bcd1234", "verb": verb, "date": "2026-11-26T10:00:00", "state": "whole"},
        **{"words": {"path": "ot"}, "config": EXACT if config is None else config, "summary": {"value": float("nan")}},
        **{"error": "", "name": "", "tags": (), "sweep": None, "provenance": {"directory": str(folder)}},
    }
    return Record(**{**usual, **others})


def comparison(where: Path, rows: int = 60) -> Comparison:
    """So many rows of one job each: path ot or EVIL, steps 5, 10, ..., with a figure that falls with the number of the row."""
    found = []
    for i in range(rows):
        job = record(
            where / f"{i} <i>{'x' if i else 'é'}",
            words={"note": EVIL, "steps": str(5 * i + 5)},
            name=EVIL,
            tags=(EVIL,),
        )
        figure = Figure(10.0 - i / 10, 0.05, Reference("floor", 1.0, 0.1))
        figures = {"w2": Folded(figure, None, 1, {"0": figure.value})}
        if i:
            figures["seconds"] = Folded(Figure(float(i)), None, 1, {"0": float(i)})
        keys = {"path": "ot" if i % 2 else EVIL, "steps": str(5 * i + 5)}
        found.append(Row(keys, (job,), figures))
    columns = (Column("w2", f"W2 {EVIL}", "nats", "lower", ""), Column("seconds", "time", "s", "lower", "", True))
    return Comparison(EVIL, ("path", "steps"), columns, tuple(found), {"w2": rows - 1}, (f"best: {EVIL}",))
