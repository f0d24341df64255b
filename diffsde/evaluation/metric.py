"""The metric interface: the Metric, the Subject that it is measured on, and what it returns."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffsde.couplings.coupling import Coupling
from diffsde.datasets import Dataset, Snapshots
from diffsde.discrete_flow import DiscreteFlow
from diffsde.evaluation.references import Real, real_beside, split
from diffsde.fields import Field, OracleField
from diffsde.interpolants import OracleInterpolant
from diffsde.inverse.problem import InverseProblem
from diffsde.metrics.figures import Figure
from diffsde.samplers import Grid, Sampler
from diffsde.types import Array, Key


class Quantity(NamedTuple):
    """Unit and direction of a figure.

    unit: '' for none; scaled_unit: the unit for points whose coordinates are divided by their stds, if it is another.
    direction: `lower` or `higher`, lower or higher values are better; `target`, values nearer to the figure's reference are
    better; '' for a figure that describes and by which jobs are never ranked (report/ranking.py). A figure
    of which true samples score high (e.g. precision) has their score as its target: higher is not better.
    """

    unit: str
    direction: str
    scaled_unit: str | None = None


class Drawing(NamedTuple):
    """How samples were drawn, to be repeated with other steps: the loop's arguments, and the starting points x0 (n, *shape)."""

    sampler: Sampler
    grid: Grid
    steps: int
    last: str
    coupled: bool
    x0: Array
    key: Key
    condition: Any


@dataclasses.dataclass
class Subject:
    """Everything a metric may need of a field and its samples; None for what is absent.

    dataset: the data to compare with. n: number of samples, drawn or to be drawn; x (n, *shape): the samples, in the model's
    units; labels (n,): their labels. field_labels: the distinct labels that the field is evaluated with. guided: whether the
    field is guided, so that its law is not the data's. problem: the inverse problem that the samples are reconstructions of.
    whole: whether the prior of `problem` is the law of all the data (no label, no guidance). cache: the folder for
    recomputable files. drawing: how the samples were drawn; None: not here. named: names of the metrics that the user asked for. kept: intermediate results shared by metrics.
    source: the law at t = 0; None: N(0, I), on a Gaussian path. coupling: how its points were paired with the data's; None:
    independently. model: the discrete flow that the samples are of, in the place of a field.
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
    drawing: Drawing | None = None
    named: tuple[str, ...] = ()
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: Dataset | None = None
    coupling: Coupling | None = None
    model: DiscreteFlow | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a point, as the field or the model has it."""
        either = self.model or self.field
        assert either is not None
        return either.shape

    @cached_property
    def in_bytes(self) -> bool:
        """Whether the data are images in bytes."""
        return self.dataset.in_bytes(self.dataset.load())

    @cached_property
    def classes(self) -> int:
        """Number of classes of the data; 0 where there are no labels."""
        return self.dataset.classes(self.dataset.load())

    @cached_property
    def exact(self) -> OracleField | OracleInterpolant | None:
        """The exact field of the data's law, from that of the source; None where one of them is not known, the two were not
        coupled independently, the samples follow another law, or the field's ODE another way than the path's p_t.
        """
        if (
            self.field is None
            or not self.field.follows_path
            or self.guided
            or self.coupling is not None
            or (law := self.dataset.law()) is None
        ):
            return None
        if self.source is None:
            exact = self.dataset.exact_field(self.field.path)
            return exact if isinstance(exact, OracleField) else None
        first = self.source.law()
        return None if first is None else OracleInterpolant(self.field.path, first, law, law.means.shape[1:])

    @cached_property
    def real(self) -> Real:
        """The real images that the samples are compared with. Raises UserError for more samples than test images."""
        known = self.labels if self.classes else None
        return real_beside(split(self.dataset, None if known is None else np.unique(known)), self.n, known)

    @property
    def samples(self) -> np.ndarray:
        """The samples (n, *shape) on the host."""
        assert self.x is not None, "a metric of samples is measured once they are drawn"
        return np.asarray(self.x)


FLOW = "a discrete flow has no velocity, and is no field"

# For each thing that a metric may need of its subject: the reason why a subject lacks it, or None where the subject has it.
NEEDS: dict[str, Callable[[Subject], str | None]] = {
    "field": lambda subject: _without_field(subject),
    "density": lambda subject: _without_density(subject),
    "jumps": lambda subject: (
        None if subject.field and subject.field.jumps else "the field is no flow map, such as objective=meanflow trains"
    ),
    "samples": lambda subject: None if subject.n else "there are no samples",
    "sampler": lambda subject: None if subject.drawing else "how the samples were drawn is not known here",
    "law": lambda subject: None if subject.dataset.law() else "the exact law of the data is not known",
    "snapshots": lambda subject: (
        None if isinstance(subject.dataset, Snapshots) else "the data are not of several times, as dataset=snapshots"
    ),
    "images": lambda subject: None if subject.in_bytes else "the data are no images in bytes",
    "classes": lambda subject: _without_classes(subject.classes),
    "labels": lambda subject: (
        None if subject.labels is not None else "the samples were given none; say labels=all to a conditional field"
    ),
    "measurement": lambda subject: (
        None
        if subject.problem
        else "nothing was measured of these samples; diffsde sample measurement=... scores reconstructions"
    ),
}


def _without_field(subject: Subject) -> str | None:
    if subject.field is None:
        return FLOW if subject.model else "there is no field"
    return None if subject.field.knows_velocity else "this model jumps to t = 1 alone, and its velocity is not known"


def _without_density(subject: Subject) -> str | None:
    if subject.field is None:
        return None if subject.model else "there is neither field nor flow"
    return _without_field(subject)


def _without_classes(classes: int) -> str | None:
    if classes > 1:
        return None
    reason = "there is one label alone" if classes else "the images have no labels"
    return f"{reason}, and so no classifier for its features"


class Measured(NamedTuple):
    """The result of a metric: figures by name; about: more entries of summary.json; rows of the table; arrays by file name."""

    figures: dict[str, Figure]
    about: dict[str, Any] = {}
    rows: tuple[tuple[str, str], ...] = ()
    arrays: dict[str, dict[str, np.ndarray]] = {}


class Metric(abc.ABC):
    """A metric: `measure` computes figures of a subject, each with its standard error and its reference.

    quantities: unit and direction of each figure, by name. needs: keys of NEEDS. A metric is a frozen dataclass whose fields
    are its settings.
    """

    quantities: ClassVar[dict[str, Quantity]]
    needs: ClassVar[tuple[str, ...]]

    def is_default(self, subject: Subject) -> bool:
        """Whether the metric is measured on the subject when the user names no metrics."""
        return True

    def unavailable(self, subject: Subject) -> str | None:
        """The reason why the metric is not available for the subject; None where it is. Raises UserError for wrong settings."""
        return next((why for need in self.needs if (why := NEEDS[need](subject))), None)

    def prepare(self, subject: Subject) -> None:  # noqa: B027  # most have nothing to say
        """Called before anything is computed: may warn, or raise UserError for a setting that the subject does not allow."""

    @abc.abstractmethod
    def measure(self, subject: Subject, key: Key) -> Measured:
        """The figures of a subject; the key is for true samples and other random draws."""
