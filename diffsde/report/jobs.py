"""A finished job as a comparison takes it: its record, the run that it sampled from, its choices, figures and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from diffsde.report.columns import Found, costs_of, figures_of
from diffsde.report.keys import SEEDS, choices_of
from diffsde.runs.records import Record, age

BETWEEN = ", "  # two seeds of a job
ONE = "the only one"
Parent = Callable[[Record], Record | None]


class Job(NamedTuple):
    """A job: its record and its run's; choices: as text by key; figures and costs by name."""

    record: Record
    parent: Record | None
    choices: dict[str, str]
    figures: dict[str, Found]
    costs: dict[str, float]

    def config(self, key: str) -> Any:
        """A choice of the job's config, or of its run's where it has none of its own; None where neither has."""
        own = self.record.config.get(key)
        return own if own is not None or self.parent is None else self.parent.config.get(key)

    def label(self, keys: Sequence[str]) -> str:
        """What tells the job from others of its row, as text: the values of the keys."""
        return BETWEEN.join(f"{key}={self.choices.get(key, '')}" for key in keys) or ONE

    @property
    def words(self) -> list[str]:
        """The keys that were typed for the run, then for the job."""
        return [*(self.parent.words if self.parent else ()), *self.record.words]


def jobs_of(records: Sequence[Record], trained: Parent) -> list[Job]:
    """The jobs of records that are whole, and have figures and a config that can be read, the oldest first; trained: the run that a job sampled from."""
    found = []
    for record in sorted(records, key=age):
        figures = figures_of(record) if record.state == "whole" and record.config else {}
        if not figures:
            continue
        parent = None if record.verb == "train" else trained(record)
        found.append(Job(record, parent, choices_of(record, parent), figures, costs_of(record, parent)))
    return found


def varied_seeds(jobs: Sequence[Job]) -> list[str]:
    """The seeds that differ between jobs, the outer first."""
    return [key for key in SEEDS if len({job.choices.get(key) for job in jobs if key in job.choices}) > 1]
