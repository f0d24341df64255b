"""The choices of a training run, and the field of its parameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.build import name_of, read_parts
from diffsde.continuous_flow import ContinuousFlow
from diffsde.couplings import Coupling, Independent, IteratedPairs, PairCoupling
from diffsde.datasets import Dataset, FiniteDataset, Snapshots
from diffsde.discrete_flow import DiscreteFlow
from diffsde.fields import LearnedField
from diffsde.flow_maps import LearnedFlowMap
from diffsde.knobs import as_words
from diffsde.learned_interpolant import LearnedInterpolant
from diffsde.loggers import Logger, NoLogger
from diffsde.nets import Graph, Net
from diffsde.objectives import (
    Classification,
    Eulerian,
    FlowMapObjective,
    Likelihood,
    Objective,
    Regression,
    VelocityAndScore,
    VelocityMatching,
)
from diffsde.optimizers import Optimizer
from diffsde.paths import GaussianPath, check_ends, coefficients
from diffsde.paths.piecewise import Piecewise
from diffsde.runs.machine import Machine
from diffsde.runs.outputs import Outputs
from diffsde.time_distributions import LogNormal, TimeDistribution
from diffsde.types import Moments, on_device


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The knobs of configs/train.yaml, which documents each, and those of the machine."""

    dataset: Dataset
    path: GaussianPath
    objective: Objective
    time: TimeDistribution
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
    shard: bool
    machine: Machine
    logger: Logger = dataclasses.field(default_factory=NoLogger)
    pictures: str | tuple[str, ...] = "default"
    source: Dataset | None = None
    coupling: Coupling = dataclasses.field(default_factory=Independent)
    posterior_points: int | None = 0  # the meaning of an older config.json without this knob
    teacher: str | None = None

    @property
    def decays(self) -> tuple[float, ...]:
        """The decay of each parameter average."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float64."""
        assert self.machine.precision is not None
        return self.machine.precision

    def check(self) -> None:
        """Raise ValueError for knobs that contradict one another."""
        if self.machine.precision is None:
            raise ValueError("precision is null, which is of a trained run's own; give float32, bfloat16 or float64")
        if not self.decays:
            raise ValueError("ema is empty; give a decay, or a list of them, e.g. ema=[0.99,0.999]")
        if len(set(self.decays)) < len(self.decays):
            raise ValueError(f"ema is {list(self.decays)}; it has the same decay twice")
        if self.batch_size % (self.accumulate or 1):
            raise ValueError(f"accumulate is {self.accumulate}; it must divide batch_size={self.batch_size}")
        as_words(self.pictures)
        if isinstance(self.dataset, Snapshots) and self.source is not None:
            raise ValueError("source: snapshots begin at the first of them; leave it out")
        self._check_labels()
        self._check_flow_map()
        if self.is_flow:
            self._check_flow()
        elif isinstance(self.objective, Likelihood):
            self._check_likelihood()
        if isinstance(self.objective, Regression) and self.objective.marginal:
            self._check_marginal()
        if self.between_laws:
            self._check_two_laws()
        elif isinstance(self.objective, VelocityAndScore):
            raise ValueError(
                "objective=cfm+score is for paths with noise between two laws (bridge, icfm, interpolant); on a Gaussian path the"
                " velocity gives the score: objective=cfm"
            )

    @property
    def between_laws(self) -> bool:
        """Whether the run is between two laws; else from noise, by a Gaussian path."""
        coupled = not isinstance(self.coupling, Independent)
        return self.source is not None or self.path.has_gamma or coupled or isinstance(self.dataset, Snapshots)

    @property
    def is_flow(self) -> bool:
        """Whether the network is a discrete flow, which is no field."""
        from diffsde.nets import CouplingNet  # here: flax takes a while, and `explain` imports this module

        return isinstance(self.net, CouplingNet)

    @property
    def source_is_noise(self) -> bool:
        """Whether the source is N(0, I), independent of the data: the velocity then gives the score."""
        return self.source is None and isinstance(self.coupling, Independent)

    @property
    def pairing(self) -> Coupling | None:
        """How points of the two laws are paired, with what the path and the batch decide; None: independently."""
        return None if isinstance(self.coupling, Independent) else self.coupling.resolved(self.path, self.batch_size)

    def _check_flow_map(self) -> None:
        objective, own = self.objective, self.teacher is None
        if not isinstance(objective, FlowMapObjective):
            if not own:
                raise ValueError(
                    f"teacher is '{self.teacher}', of which flow maps learn; objective={name_of(objective)} learns from data"
                    " alone: take objective=lagrangian, meanflow, consistency, shortcut or progressive, or leave teacher out"
                )
            return
        if not self.precondition:
            raise ValueError("precondition=false is for fields; a flow map's network always sees scaled numbers")
        if objective.guidance is not None and not self.dataset.conditional:
            raise ValueError(
                f"objective.guidance is {objective.guidance:g}, towards a label; say dataset.conditional=true too"
            )
        if objective.guidance is not None and self.label_dropout == 0:
            raise ValueError("objective.guidance is away from no label, which label_dropout=0 never teaches")
        own_velocity = isinstance(objective, Eulerian) and objective.velocity == "own"
        if own and objective.ends_only and (objective.guidance is not None or own_velocity):
            wanted = "guidance" if objective.guidance is not None else "velocity=own"
            raise ValueError(
                f"objective.{wanted} needs a velocity, which a network that only jumps to t = 1 does not have; give teacher="
            )
        if not own and self.posterior_points:
            raise ValueError(
                f"posterior_points is {self.posterior_points}; with teacher= the targets are the teacher's, leave it out"
            )
        if not own and objective.kappa:
            raise ValueError(
                f"objective.kappa is {objective.kappa:g}, which is of guidance from scratch; leave teacher out"
            )

    def _check_two_laws(self) -> None:
        check_between(self.path, self.objective)
        self.coupling.resolved(self.path, self.batch_size)
        if isinstance(self.coupling, PairCoupling) and isinstance(self.dataset, Snapshots):
            raise ValueError(
                f"coupling={name_of(self.coupling)} is of pairs of two laws; between snapshots take independent, or one within a"
                " batch (ot, sinkhorn, unbalanced)"
            )
        if isinstance(self.coupling, IteratedPairs):
            self._check_rounds(self.coupling)
        if self.posterior_points:
            raise ValueError(
                f"posterior_points is {self.posterior_points}; targets are averaged on Gaussian paths only, leave it out"
            )
        for end, law in (("dataset", self.dataset), ("source", self.source)):
            if law is not None and law.stream:
                raise ValueError(f"{end}.stream=true: between two laws both are read whole; say {end}.stream=false")
        if self.source is not None and self.source.conditional:
            raise ValueError("source.conditional=true: a label is of the data at t = 1; say dataset.conditional=true")

    def _check_rounds(self, coupling: IteratedPairs) -> None:
        if coupling.rounds > self.steps:
            raise ValueError(f"coupling.rounds is {coupling.rounds}, of steps={self.steps}; a round has a step or more")
        if self.path.reference_sigma and not isinstance(self.objective, VelocityAndScore):
            raise ValueError(
                f"coupling=iterated on path={name_of(self.path)} makes its pairs by an SDE, which needs the score: take"
                " objective=cfm+score, or path=ot, on which they are made by the ODE (rectified flow)"
            )

    def _check_flow(self) -> None:
        net = name_of(self.net)
        if not isinstance(self.objective, Likelihood):
            raise ValueError(
                f"net={net} is a discrete flow, which has no velocity for objective={name_of(self.objective)} to train; say"
                " objective=likelihood, or take another net"
            )
        if isinstance(self.dataset, Snapshots):
            raise ValueError(
                f"net={net} is a discrete flow, a density of one law; snapshots are many, take a net of a field"
            )

    def _check_likelihood(self) -> None:
        if self.posterior_points:
            raise ValueError(
                f"posterior_points is {self.posterior_points}; objective=likelihood regresses on no target, leave it out"
            )
        if self.time != LogNormal():
            raise ValueError(
                f"time={name_of(self.time)} is of objectives that draw t; objective=likelihood solves an ODE over all t, leave it out"
            )
        if self.precondition and not self.between_laws and (why := infinite_end(self.path)):
            raise ValueError(why)

    def _check_marginal(self) -> None:
        if self.between_laws:
            raise ValueError(
                "objective.target=marginal is of Gaussian paths; between two laws say objective.target=conditional"
            )
        if self.posterior_points:
            raise ValueError(
                f"posterior_points is {self.posterior_points}; objective.target=marginal averages over all of the law, leave it out"
            )
        if self.dataset.law() is None and not isinstance(self.dataset, FiniteDataset):
            raise ValueError(
                f"objective.target=marginal needs the exact E[z | x_t], and of dataset={name_of(self.dataset)} it is not known; it is of"
                " mixtures (gmm, gaussian, 8gaussians, mixture) and of finite data. posterior_points= averages over drawn points"
            )
        for switch in ("stream", "flip", "dequantise"):
            if getattr(self.dataset, switch, False):
                raise ValueError(
                    f"objective.target=marginal averages over the data's own points; say dataset.{switch}=false"
                )

    def _check_labels(self) -> None:
        if isinstance(self.objective, Classification):
            if self.metric != "loss":
                raise ValueError(f"metric is '{self.metric}', which is of samples; a classifier is judged by its loss")
            if not self.precondition:
                raise ValueError("precondition=false is for fields; a classifier always sees scaled numbers")
            if self.posterior_points:
                raise ValueError(
                    f"posterior_points is {self.posterior_points}; objective=classifier learns labels, which have no mean"
                )
            if self.dataset.conditional:
                raise ValueError("dataset.conditional=true tells the label, which objective=classifier is to find")
        if self.label_dropout is not None:
            if not self.dataset.conditional:
                raise ValueError("label_dropout hides labels from a conditional network; say dataset.conditional=true")
            if not self.label_dropout and self.metric != "loss":
                raise ValueError(
                    f"metric={self.metric} is of samples without labels, which label_dropout=0 never teaches"
                )


MORE_NOISE = {  # for each path with gamma, what makes it more than 0
    "bridge": "give path.sigma= above 0",
    "icfm": "give path.sigma= above 0",
    "interpolant": "give path.gamma_t= above 0 between the ends, e.g. path.gamma_t=sqrt(t*(1-t))",
}


def finite_ends(path: GaussianPath) -> bool:
    """Whether a preconditioned network has a finite velocity at t = 0 and t = 1: dalpha and dbeta are finite there."""
    ends = [coefficients(path, jnp.asarray(t, float)) for t in (0, 1)]
    return all(math.isfinite(float(slope)) for c in ends for slope in (c.dalpha, c.dbeta))


def infinite_end(path: GaussianPath) -> str:
    """Why a preconditioned network on this path is no velocity of objective=likelihood; empty where it is one."""
    if finite_ends(path):
        return ""
    return (
        f"path={name_of(path)} has an infinite velocity at an end of the ODE that objective=likelihood solves; take path=ot or trig,"
        " or precondition=false"
    )


def check_between(path: GaussianPath, objective: Objective) -> None:
    """Raise ValueError for a path or an objective that is not for two laws."""
    check_ends(path)
    if not isinstance(objective, VelocityMatching | VelocityAndScore):
        raise ValueError(
            f"objective={name_of(objective)} is for Gaussian paths; between two laws take objective=cfm or cfm+score"
        )
    if isinstance(objective, VelocityAndScore) and not float(path.gamma(0.5)) > 0:
        raise ValueError(
            f"objective=cfm+score learns the score from noise between the two laws, and path={name_of(path)} has none"
            f" (gamma = 0); {MORE_NOISE.get(name_of(path), 'take path=bridge, icfm or interpolant')}"
        )
    if objective.weight == "beta2":
        raise ValueError("objective.weight=beta2 is for Gaussian paths; between two laws take auto, unit or balanced")


def train_choices(config: dict[str, Any]) -> TrainConfig:
    """The choices of a training config, composed or read from a run folder. Raises UserError."""
    _, _, chosen = read_parts(config, Machine, Outputs, TrainConfig)
    assert isinstance(chosen, TrainConfig)
    return chosen


def through_snapshots(config: TrainConfig) -> TrainConfig:
    """The config with what snapshots imply: the first is the source, and the path goes from each to the next. Raises UserError."""
    dataset = config.dataset
    if not isinstance(dataset, Snapshots) or isinstance(config.path, Piecewise):
        return config
    path = Piecewise(config.path, on_device(dataset.knots, float))
    return dataclasses.replace(config, source=dataset.first, path=path)


def in_precision(precision: str, tree: Any) -> Any:
    """The tree with floating-point arrays in float64 if `precision` is float64; else unchanged (float32)."""
    if precision != "float64":
        return tree
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf, tree
    )


TrainedField = LearnedField | LearnedInterpolant | LearnedFlowMap | ContinuousFlow


class Learned(NamedTuple):
    """What a field is made of beside its config and parameters: moments of the data, graph and number of classes of the network,
    and between two laws the source's moments.
    """

    moments: Moments
    graph: Graph
    classes: int
    source_moments: Moments | None = None


def field_of(config: TrainConfig, learned: Learned, params: Any) -> TrainedField:
    """The field of a network with these parameters."""
    moments, graph, classes, source_moments = learned
    if isinstance(objective := config.objective, FlowMapObjective):
        return LearnedFlowMap(config.path, params, moments, graph, classes, ends_only=objective.ends_only)
    if isinstance(objective, Likelihood):
        return ContinuousFlow(config.path, params, moments, graph, config.precondition, classes)
    assert isinstance(objective, Regression)
    if source_moments is not None:
        both = isinstance(config.objective, VelocityAndScore)
        kind = both, config.source_is_noise, config.precondition
        return LearnedInterpolant(config.path, params, moments, source_moments, graph, *kind, classes)
    return LearnedField(config.path, params, moments, graph, objective.kind, config.precondition, classes)


def flow_of(learned: Learned, params: Any) -> DiscreteFlow:
    """The discrete flow of a coupling network with these parameters."""
    return DiscreteFlow(params, learned.moments, learned.graph, learned.classes)


def named(config: TrainConfig) -> str:
    """A config's main choices as text, e.g. dataset=gmm path=ot objective=cfm."""
    implied = config.source is None or isinstance(config.dataset, Snapshots)
    source = "" if implied else f"source={name_of(config.source)} "
    data = f"{source}dataset={name_of(config.dataset)}"
    if config.is_flow:
        return f"{data} net={name_of(config.net)} objective={name_of(config.objective)}"
    coupling = "" if isinstance(config.coupling, Independent) else f" coupling={name_of(config.coupling)}"
    return f"{data} path={name_of(config.path)}{coupling} objective={name_of(config.objective)}"
