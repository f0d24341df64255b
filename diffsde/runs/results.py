"""The figure that a job is judged by, and how far it is off."""

from __future__ import annotations

import math
from typing import Any


def judged(summary: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The figure that a run or a set of samples is judged by, its name and what is known of it: `value`, `floor`, ...

    Of a run its `metric`, of samples the first of their figures.
    """
    if "metric" not in summary:  # of samples whose data is not here there are no figures
        return next(iter(summary["metrics"].items()), ("", {"value": math.nan}))
    name = summary["metric"]["name"]
    return name, summary["loss"] if name == "loss" else {"value": summary["metric"]["value"]}


def off(figure: dict[str, float]) -> float:
    """How far a figure is from its exact value, that of the true law or that of real data, where one is known, or else from 0:
    the least is the best.
    """
    target = figure.get("exact", figure.get("true", figure.get("real")))
    return figure["value"] if target is None else abs(figure["value"] - target)
