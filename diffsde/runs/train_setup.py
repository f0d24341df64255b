"""What a training config stands for: its knobs, and from them the Run that is trained and the field that it makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from diffsde.build import name_of, valid_seed
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset, point_shape
from diffsde.errors import UserError
from diffsde.fields import LearnedField
from diffsde.loggers import Logger, NoLogger
from diffsde.nets import Classifier, Graph, Net, initialise, settle, structure
from diffsde.objectives import (
    Classification,
    Objective,
    Problem,
    Regression,
    has_finite_loss,
    regression,
    resolve_weight,
)
from diffsde.optimizers import Optimizer
from diffsde.paths import GaussianPath
from diffsde.runs import report
from diffsde.runs.quality import check_metric
from diffsde.time_laws import TimeLaw
from diffsde.training import Run, loss_floor
from diffsde.types import Moments, positive

FLOOR_EXAMPLES = 262_144
LABEL_DROPOUT = 0.1  # of a conditional network, where none is asked for (2207.12598, section 4)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The knobs of configs/train.yaml, which documents each."""

    dataset: Dataset
    path: GaussianPath
    objective: Objective
    time: TimeLaw
    net: Net
    optimizer: Optimizer
    steps: int
    batch_size: int
    accumulate: int | None
    seed: int
    lr: float | None
    ema: float | tuple[float, ...]
    label_dropout: float | None
    precondition: bool
    metric: str
    log_every: int
    checkpoint_every: int | None
    keep: int
    best: bool
    run: str | None
    init: str | None
    resume: bool
    precision: str
    devices: int | None
    shard: bool
    coordinator: str | None
    processes: int | None
    process: int | None
    cache: bool
    cache_dir: str | None
    threads: int | None
    logger: Logger = dataclasses.field(default_factory=NoLogger)

    @property
    def decays(self) -> tuple[float, ...]:
        """The decay of each parameter average."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)

    def check(self) -> None:
        positive(self, "steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep")
        if not self.decays:
            raise ValueError("ema is empty; give a decay, or a list of them, e.g. ema=[0.99,0.999]")
        for decay in self.decays:
            if not 0 <= decay < 1:
                raise ValueError(f"ema is {decay}; it must be in [0, 1)")
        if len(set(self.decays)) < len(self.decays):
            raise ValueError(f"ema is {list(self.decays)}; it has the same decay twice")
        if self.batch_size % (self.accumulate or 1):
            raise ValueError(f"accumulate is {self.accumulate}; it must divide batch_size={self.batch_size}")
        valid_seed(self.seed)
        self._check_labels()
        check_metric(self.metric, self.dataset)

    def _check_labels(self) -> None:
        if isinstance(self.objective, Classification):
            if self.metric != "loss":
                raise ValueError(f"metric is '{self.metric}', which is of samples; a classifier is judged by its loss")
            if not self.precondition:
                raise ValueError("precondition=false is for fields; a classifier always sees scaled numbers")
            if self.dataset.conditional:
                raise ValueError("dataset.conditional=true tells the label, which objective=classifier is to find")
        if self.label_dropout is not None:
            if not self.dataset.conditional:
                raise ValueError("label_dropout hides labels from a conditional network; say dataset.conditional=true")
            if not 0 <= self.label_dropout < 1:
                raise ValueError(f"label_dropout is {self.label_dropout}; it must be in [0, 1)")
            if not self.label_dropout and self.metric != "loss":
                raise ValueError(
                    f"metric={self.metric} is of samples without labels, which label_dropout=0 never teaches"
                )


def prepare(chosen: TrainConfig, backend: str | None = None) -> tuple[Run, Any]:
    """The run and fresh parameters, with what the user should know about the loss said.

    backend: the kind of device that net=auto is for; None: this one.
    """
    arrays = in_precision(chosen.precision, chosen.dataset.load())
    if isinstance(chosen.dataset, FiniteDataset) and chosen.dataset.stream:
        report.streamed(chosen.dataset, arrays)
    classifies = isinstance(chosen.objective, Classification)
    classes = told_classes(chosen, arrays)
    key_init, key_measure, key_train = jax.random.split(jax.random.key(chosen.seed), 3)
    shape = point_shape(chosen.dataset, arrays)
    moments = chosen.dataset.measure(arrays, key_measure)
    if not moments.std > 0:
        raise UserError("dataset: all points are equal; there is nothing to learn")
    net = settle(chosen.net, shape, backend or jax.default_backend())
    if net is not chosen.net:
        report.say(f"net: {name_of(net)}, for points of shape {shape} on {backend or jax.default_backend()}")
    if classifies:
        net = Classifier(net)
    graph, _ = structure(net, shape, chosen.precision, classes)
    problem = settled_loss(Problem(chosen.path, chosen.objective, chosen.time, moments, graph, chosen.precondition))
    hidden = 0.0 if classifies else chosen.label_dropout
    run = Run(
        problem,
        chosen.dataset,
        None if chosen.dataset.stream else arrays,
        chosen.optimizer,
        key_train,
        jnp.asarray(chosen.steps),
        jnp.asarray(chosen.decays),
        chosen.batch_size,
        classes,
        jnp.asarray(LABEL_DROPOUT if hidden is None else hidden),
        chosen.accumulate,
    )
    return run, in_precision(chosen.precision, initialise(net, shape, key_init, classes))


def settled_loss(problem: Problem) -> Problem:
    """The problem with its weight resolved, what the user should know of it said."""
    if not isinstance(problem.objective, Regression):
        return problem
    kind, asked = problem.objective.kind, problem.objective.weight
    problem = resolve_weight(problem)
    weight = regression(problem).weight
    if weight not in (asked, "unit"):
        report.say(
            f"objective.weight: {weight}, because the unweighted {kind} loss has no finite expectation on this path"
        )
    if not has_finite_loss(problem):
        report.warn(
            f"the {kind} loss with weight {weight} has no finite expectation here;"
            " rare examples will dominate it (precondition=true objective.weight=balanced mends that)"
        )
    return problem


def told_classes(chosen: TrainConfig, arrays: Any) -> int:
    """Of how many classes labels are drawn in training; 0: none are. Raises UserError where there are none to draw."""
    classifies = isinstance(chosen.objective, Classification)
    if not (classifies or chosen.dataset.conditional):
        return 0
    classes = chosen.dataset.classes(arrays)
    if not classes:
        asked = "objective=classifier" if classifies else "dataset.conditional=true"
        raise UserError(
            f"{asked} needs labels, and this data has none: the array y of an .npz file, dataset.labels= (a .npy, or a"
            " column of a table), a subfolder a class of an image_folder, or the components of a mixture"
            + "".join(f"; {note}" for note in chosen.dataset.notes())
        )
    return classes


def in_precision(precision: str, tree: Any) -> Any:
    """Floating-point arrays in float64 where that is asked for; else as they are, float32."""
    if precision != "float64":
        return tree
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf, tree
    )


def known_floor(run: Run, dataset: Dataset) -> tuple[float, float] | None:
    """The irreducible loss and its standard error, where the data's law is known and the loss has an expectation."""
    if not isinstance(dataset, MixtureDataset) or not isinstance(run.problem.objective, Regression):
        return None
    if not has_finite_loss(run.problem):
        return None
    value, error = loss_floor(run, run.arrays, jax.random.fold_in(run.key, 2**31 - 1), FLOOR_EXAMPLES)
    return float(value), float(error)


def field_of(config: TrainConfig, moments: Moments, graph: Graph, params: Any, classes: int) -> LearnedField:
    """The field of these parameters."""
    assert isinstance(config.objective, Regression)
    return LearnedField(config.path, params, moments, graph, config.objective.kind, config.precondition, classes)


def named(config: TrainConfig) -> str:
    """dataset=gmm path=ot objective=cfm and the like."""
    return f"dataset={name_of(config.dataset)} path={name_of(config.path)} objective={name_of(config.objective)}"
