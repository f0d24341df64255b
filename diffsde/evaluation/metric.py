"""What a metric is, what it is measured of, and what it finds."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffsde.datasets import Dataset
from diffsde.evaluation.references import Real, real_beside, split
from diffsde.fields import Field
from diffsde.inverse.problem import InverseProblem
from diffsde.metrics.figures import Figure
from diffsde.types import Array, Key


class Quantity(NamedTuple):
    """What a figure is: its unit, '' for none, and of points whose coordinates are divided by their stds; its direction: which
    value is better, `lower`, or the nearest to its `target`, what it is held against. A figure that is better when it is higher
    has what true samples score as its target: beyond that more is no better.
    """

    unit: str
    direction: str
    scaled_unit: str | None = None


@dataclasses.dataclass
class Subject:
    """What is measured: all that a metric may need of it; None for what there is not.

    dataset: what it is compared with. n: how many samples there are, or will be; x (n, *shape): these, in the model's units;
    labels (n,): those that they were given; field_labels: which ones the field is given. guided: whether their law is another than the data's. problem: what was measured of
    points, of which they are reconstructions; whole: whether their field is that of the data's whole law. cache: the folder of
    what can be computed again. named: the metrics that the user named. kept: what one metric has computed and others need too.
    """

    dataset: Dataset
    field: Field | None = None
    n: int = 0
    x: Array | np.ndarray | None = None
    labels: np.ndarray | None = None
    field_labels: np.ndarray | None = None
    guided: bool = False
    problem: InverseProblem | None = None
    whole: bool = True
    cache: Path | None = None
    named: tuple[str, ...] = ()
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    @cached_property
    def in_bytes(self) -> bool:
        """Whether the data are images in bytes."""
        return self.dataset.in_bytes(self.dataset.load())

    @cached_property
    def classes(self) -> int:
        """How many labels the data has; 0 for none."""
        return self.dataset.classes(self.dataset.load())

    @cached_property
    def real(self) -> Real:
        """The real images beside the samples. Raises UserError for more samples than there are test images."""
        known = self.labels if self.classes else None
        return real_beside(split(self.dataset, None if known is None else np.unique(known)), self.n, known)

    @property
    def samples(self) -> np.ndarray:
        """The samples (n, *shape) on the host."""
        assert self.x is not None, "a metric of samples is measured once they are drawn"
        return np.asarray(self.x)


# What a metric may need of its subject, and why a subject has it not; None where it has.
NEEDS: dict[str, Callable[[Subject], str | None]] = {
    "field": lambda subject: None if subject.field else "there is no field",
    "samples": lambda subject: None if subject.n else "there are no samples",
    "law": lambda subject: None if subject.dataset.law() else "the exact law of the data is not known",
    "images": lambda subject: None if subject.in_bytes else "the data are no images in bytes",
    "classes": lambda subject: _without_classes(subject.classes),
    "labels": lambda subject: (
        None if subject.labels is not None else "the samples were given none; say labels=all to a conditional field"
    ),
    "measurement": lambda subject: None if subject.problem else "nothing was measured; say measurement=",
}


def _without_classes(classes: int) -> str | None:
    if classes > 1:
        return None
    reason = "there is one label alone" if classes else "the images have no labels"
    return f"{reason}, and so no classifier for its features"


class Measured(NamedTuple):
    """What a metric finds: figures by name; what else summary.json keeps, lines of the table, and arrays by their file's name."""

    figures: dict[str, Figure]
    about: dict[str, Any] = {}
    rows: tuple[tuple[str, str], ...] = ()
    arrays: dict[str, dict[str, np.ndarray]] = {}


class Metric(abc.ABC):
    """`measure` finds figures of a subject, each with its standard error and what it is held against.

    quantities: its figures by name. needs: keys of NEEDS. A metric is a frozen dataclass whose fields are its choices.
    """

    quantities: ClassVar[dict[str, Quantity]]
    needs: ClassVar[tuple[str, ...]]

    def is_default(self, subject: Subject) -> bool:
        """Whether it is measured of such a subject where nobody names it."""
        return True

    def unavailable(self, subject: Subject) -> str | None:
        """Why there is none of this subject; None where there is. Raises UserError for what the user asked for in numbers."""
        return next((why for need in self.needs if (why := NEEDS[need](subject))), None)

    def prepare(self, subject: Subject) -> None:  # noqa: B027  # most have nothing to say
        """Before anything is computed: warn, or raise UserError for a choice that this subject does not allow."""

    @abc.abstractmethod
    def measure(self, subject: Subject, key: Key) -> Measured: ...
