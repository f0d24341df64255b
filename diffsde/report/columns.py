"""The figures and the costs of a job, from its summary: what each is called, its unit, and which direction is better."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from diffsde.metrics.figures import KINDS, Figure
from diffsde.runs.records import Record

LABELS = {
    "nfe": "NFE",
    "steps": "steps taken",
    "cpu_seconds": "CPU time",
    "seconds": "time",
    "parameters": "parameters",
    "run.seconds": "training time",
    "run.cpu_seconds": "training CPU time",
}
COST_UNITS = {"cpu_seconds": "s", "seconds": "s", "run.seconds": "s", "run.cpu_seconds": "s"}
COSTS = ("steps", "nfe", "seconds", "cpu_seconds", "parameters")
OF_RUN = ("seconds", "cpu_seconds")  # costs of training, beside samples of the run
TRAINING = ("loss", "validation_loss", "kl")  # figures that stand by themselves in the summary of a training run


NUMBERS = ("value", "error", "points", *(f"{kind}{end}" for kind in KINDS for end in ("", "_error")))


class Found(NamedTuple):
    """A figure of a job as its summary has it; direction: as of Column."""

    figure: Figure
    unit: str = ""
    direction: str = ""


def figures_of(record: Record) -> dict[str, Found]:
    """The figures of a job by name, first the one that it is judged by."""
    summary, found = record.summary, {}
    units, directions = summary.get("units", {}), summary.get("directions")
    for name in TRAINING:
        if is_figure(summary.get(name)):
            found[name] = Found(Figure.of_dict(finite(summary[name])), "" if name != "kl" else "nats", "lower")
    metrics = summary.get("metrics")
    for name, content in metrics.items() if isinstance(metrics, dict) else ():
        if not is_figure(content):
            continue
        direction = known_direction(name) if directions is None else str(directions.get(name, ""))
        found[name] = Found(Figure.of_dict(finite(content)), str(units.get(name, "")), direction)
    judged = judged_name(summary)
    if judged is None or (judged not in found and not is_figure(summary["metric"])):
        return found
    if judged not in found:  # of a run that keeps its best checkpoint, the distance from the target alone is written
        found[judged] = Found(Figure(finite(summary["metric"])["value"]), "", "lower")
    return {judged: found[judged]} | found


def judged_name(summary: dict[str, Any]) -> str | None:
    """The figure that a training run is judged by; None for other verbs, whose first figure it is."""
    metric = summary.get("metric")
    if not isinstance(metric, dict):
        return None
    name = str(metric.get("name", ""))
    figure = name.removesuffix("_gap")
    return figure if figure in summary.get("metrics", {}) else name


def known_direction(name: str) -> str:
    """The direction of a figure whose summary does not say it, from the table of metrics; '' for none."""
    from diffsde.evaluation.table import quantities  # here: it imports jax, which no newer summary needs

    return quantities()[name].direction if name in quantities() else ""


def costs_of(record: Record, parent: Record | None) -> dict[str, float]:
    """The costs of a job by name, and of the training of its run."""
    found = {name: record.summary.get(name) for name in COSTS}
    if parent is not None:
        found |= {f"run.{name}": parent.summary.get(name) for name in OF_RUN}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def is_figure(content: Any) -> bool:
    """Whether a part of a summary is a figure whose numbers are numbers."""
    if not isinstance(content, dict) or "value" not in content:
        return False
    known = [content.get(key) for key in NUMBERS]
    return all(value is None or isinstance(value, int | float) for value in known)


def finite(content: dict[str, Any]) -> dict[str, Any]:
    """A figure of summary.json, null as NaN."""
    return {key: math.nan if value is None else value for key, value in content.items()}


def label_of(name: str) -> str:
    """A column's label."""
    return LABELS.get(name, name.replace("_", " "))
