"""Set-up of a training run: from its choices to the Run that is trained, and the losses that its loss is compared with."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde import knobs
from diffsde.build import name_of
from diffsde.consecutive import in_one
from diffsde.datasets import Dataset, Snapshots, draw_many, point_shape
from diffsde.datasets.finite import as_points
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import check_scale
from diffsde.errors import UserError
from diffsde.mixtures import Mixture
from diffsde.nets import MLP, ClassifierNet, CouplingNet, Net, PairNet, choose_net, initialise, structure
from diffsde.objectives import (
    Classification,
    DiscreteLikelihood,
    FlowMapObjective,
    Likelihood,
    Objective,
    Problem,
    Regression,
    VelocityAndScore,
    choose_weight,
    has_finite_loss,
    linear_loss,
    linear_loss_between,
    objection,
    weighted,
)
from diffsde.paths.piecewise import Piecewise
from diffsde.posterior_targets import default_points
from diffsde.runs import progress, sizes
from diffsde.runs.teachers import teacher_field
from diffsde.runs.train_config import Learned, TrainConfig, in_precision
from diffsde.solver_error import mixture_covariance
from diffsde.training import Run, loss_floor
from diffsde.types import Key, Moments, on_device

FLOOR_EXAMPLES = 262_144
LINEAR_NUMBERS = 2**24  # most numbers in the points (at most 65,536) whose covariance gives the linear predictor's loss
LINEAR_BETWEEN = 64  # the same between two laws, where each of 256 times has a matrix of its own
LINEAR_DIMENSION = 1024  # most coordinates for which the full covariance is used
UNLEARNT = 0.02  # share of the learnable part of the loss that may remain at the end without a remark
NOISE = 0.003  # relative accuracy of a loss's mean over the last tenth of the steps
LABEL_DROPOUT = 0.1  # default of label_dropout for a conditional network (2207.12598, section 4)


class Prepared(NamedTuple):
    """A run before its first step: the Run, fresh parameters, and their net."""

    run: Run
    params: Any
    net: Net


def prepare(chosen: TrainConfig) -> tuple[Run, Any]:
    """The run and fresh parameters; prints the choice of net and weight, and warnings about the loss."""
    run, params, _ = prepare_with(chosen, None)
    return run, params


def prepare_with(chosen: TrainConfig, net: Net | None) -> Prepared:
    """`prepare` with the net that a begun run recorded; None: the config's net, chosen for these points and this machine."""
    arrays = in_precision(chosen.precision, chosen.dataset.load())
    if chosen.dataset.stream:
        progress.streamed(chosen.dataset, arrays)
    if isinstance(chosen.objective, Likelihood) and chosen.dataset.in_bytes(arrays) and not chosen.dataset.dequantise:
        raise UserError(
            "dataset.dequantise: the density of bytes as they are has no bound, and objective=likelihood would grow spikes on"
            " them; say dataset.dequantise=true"
        )
    classes = n_classes(chosen, arrays)
    key_init, key_measure, key_train = jax.random.split(jax.random.key(chosen.seed), 3)
    shape = point_shape(chosen.dataset, arrays)
    moments = chosen.dataset.moments(arrays, key_measure)
    if not moments.std > 0:
        raise UserError("dataset: all points are equal; there is nothing to learn")
    check_scale(float(moments.std), "dataset")
    source, source_arrays, source_moments = source_of(chosen, shape, jax.random.fold_in(key_measure, 1))
    body = chosen_net(chosen, shape, chosen.dataset.count_points(arrays)) if net is None else net
    made = network_of(chosen.objective, body)
    times = chosen.objective.times
    sizes.require_batch(chosen.batch_size, shape, chosen.accumulate or 1)
    graph, shapes = structure(made, shape, chosen.precision, classes, times)
    sizes.require_network(shapes, len(chosen.decays))
    ends = source_moments, source is not None and chosen.source_is_noise
    objective = DiscreteLikelihood() if isinstance(body, CouplingNet) else chosen.objective
    law = chosen.path, objective, chosen.time
    teacher = teacher_field(chosen, shape, classes)
    problem = with_weight(Problem(*law, moments, graph, chosen.precondition, *ends, teacher))
    classifies = isinstance(chosen.objective, Classification)
    hidden = 0.0 if classifies else chosen.label_dropout
    from_data = isinstance(chosen.objective, Regression | FlowMapObjective) and source is None and teacher is None
    marginal = isinstance(chosen.objective, Regression) and chosen.objective.marginal
    if net is None and (share := share_of_rate(chosen)) is not None:
        progress.say(
            f"lr: {float(chosen.optimizer.lr):g}, {share:g} of the optimizer's own, since the target of"
            f" objective={name_of(chosen.objective)} has the network's own derivative (lr= says another)"
        )
    averaged = points_of(chosen, moments.mean.size) if from_data and not marginal else 0
    if averaged:
        sizes.require_means(chosen.batch_size // (chosen.accumulate or 1), averaged)
        progress.say(
            f"targets: each is E[z | x_t] over {averaged} points of the data, of less variance than its own z and the same mean"
            " (posterior_points=0: its own)"
        )
    if marginal:
        progress.say("targets: each is the exact E[y | x_t]; the loss that is logged is against y itself")
    run = Run(
        problem,
        chosen.dataset,
        None if chosen.dataset.stream else arrays,
        chosen.optimizer,
        key_train,
        on_device(chosen.steps),
        on_device(chosen.decays),
        chosen.batch_size,
        classes,
        on_device(LABEL_DROPOUT if hidden is None else hidden),
        chosen.accumulate,
        points=averaged,
        source=source,
        source_arrays=source_arrays,
        coupling=chosen.pairing,
    )
    return Prepared(run, in_precision(chosen.precision, initialise(made, shape, key_init, classes, times)), body)


def source_of(chosen: TrainConfig, shape: tuple[int, ...], key: Key) -> tuple[Dataset | None, Any, Moments | None]:
    """The source of a run between two laws, its arrays and its moments; (None, None, None) on a Gaussian path."""
    if not chosen.between_laws:
        return None, None, None
    source = StandardNormal(shape) if chosen.source is None else chosen.source
    arrays: Any = source.load()
    if isinstance(chosen.dataset, Snapshots):  # the first is not the only one that a step draws from
        arrays = in_one(chosen.dataset.trained())
    arrays = in_precision(chosen.precision, arrays)
    moments = source.moments(arrays, key)
    if not moments.std > 0:
        raise UserError(
            "source: seen in the scale of the data all its points are equal; a network between two laws needs a source of some width"
        )
    check_scale(float(moments.std), "source", "scale the source, which is seen in the units of the data")
    return source, arrays, in_precision(chosen.precision, Moments(moments.mean, on_device(moments.std, float)))


def network_of(objective: Objective, net: Net) -> Net:
    """The net as it is trained: with a layer for classes, or two of it, where the objective asks for that."""
    if isinstance(objective, Classification):
        return ClassifierNet(net)
    return PairNet(net) if isinstance(objective, VelocityAndScore) else net


def share_of_rate(chosen: TrainConfig) -> float | None:
    """The share of the optimizer's own learning rate that the run has by its objective's default; None: it has what was said."""
    share = knobs.RATES.get(name_of(chosen.objective))
    if share is None or chosen.lr is not None:
        return None
    return share if math.isclose(float(chosen.optimizer.lr), share * type(chosen.optimizer).lr) else None


def points_of(chosen: TrainConfig, size: int) -> int:
    """Number of points that a target is averaged over, for points of `size` coordinates; for a stream, at most the batch."""
    points = default_points(size) if chosen.posterior_points is None else chosen.posterior_points
    return min(points, chosen.batch_size) if chosen.dataset.stream else points


def learned(run: Run) -> Learned:
    """What the run's field is made of beside its parameters."""
    return Learned(run.problem.moments, run.problem.graph, run.classes, run.problem.source_moments)


def chosen_net(chosen: TrainConfig, shape: tuple[int, ...], points: int | None) -> Net:
    """The config's net; net=auto is resolved for points (`points` of them, of shape `shape`) and machine, and printed."""
    net = choose_net(chosen.net, shape, points, jax.default_backend())
    if net is not chosen.net:
        numbers = ", ".join(f"{name} {shown(value)}" for name, value in vars(net).items())
        many = "" if points is None else f"{points:,} "
        machine = f" on {jax.default_backend()}" if len(shape) == 3 else ""
        progress.say(f"net: {name_of(net)} ({numbers}), for {many}points of shape {shape}{machine}")
    return net


def shown(value: object) -> str:
    """A net's field as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(list(value) if isinstance(value, tuple) else value)


def with_weight(problem: Problem) -> Problem:
    """The problem with its weight resolved; prints the weight that auto chose, and warnings about it."""
    if not isinstance(problem.objective, Regression):
        return problem
    if problem.objective.weight == "auto":
        weight, because = choose_weight(problem)
        progress.say(f"objective.weight: {weight}, because {because}")
        problem = weighted(problem, weight)
    if against := objection(problem):
        progress.warn(against)
    return problem


def n_classes(chosen: TrainConfig, arrays: Any) -> int:
    """Number of classes that the network is trained on; 0: unconditional. Raises UserError where needed labels are absent."""
    classifies = isinstance(chosen.objective, Classification)
    if not (classifies or chosen.dataset.conditional):
        return 0
    classes = chosen.dataset.classes(arrays)
    if not classes:
        asked = "objective=classifier" if classifies else "dataset.conditional=true"
        raise UserError(
            f"{asked} needs labels, and this data has none: the array y of an .npz file, dataset.labels= (a .npy, or a"
            " column of a table), a subfolder per class of an image_folder, or the components of a mixture"
            + "".join(f"; {note}" for note in chosen.dataset.notes())
        )
    return classes


def known_floor(run: Run, dataset: Dataset) -> tuple[float, float] | None:
    """The irreducible loss and its standard error; None where the data's law is unknown or the expected loss is infinite."""
    if dataset.law() is None or not isinstance(run.problem.objective, Regression | Likelihood | DiscreteLikelihood):
        return None
    if not has_finite_loss(run.problem):
        return None
    mixture, source = run.arrays, None
    if run.source is not None:
        mixture, source = dataset.law(), independent_source(run)
        if source is None:
            return None
    value, error = loss_floor(run, mixture, jax.random.fold_in(run.key, 2**31 - 1), FLOOR_EXAMPLES, source)
    return float(value), float(error)


def independent_source(run: Run) -> Mixture | None:
    """The source's law, where it is a mixture and independent of the data: the exact field is then known; else None."""
    return None if run.source is None or run.coupling is not None else run.source.law()


def linear_baseline(run: Run) -> float | None:
    """The loss of the best linear predictor, from the covariance of the data; None where the expected loss is infinite.

    For a stream, several processes, or more than 1024 coordinates, an upper bound from the mean variance alone.
    """
    if not isinstance(run.problem.objective, Regression) or not has_finite_loss(run.problem):
        return None
    moments = run.problem.moments
    size = moments.mean.size
    if run.source is not None:
        if run.coupling is not None or isinstance(run.problem.path, Piecewise):
            return None
        return linear_baseline_between(run)
    if run.arrays is None or jax.process_count() > 1 or size > LINEAR_DIMENSION:
        return linear_loss(run.problem, np.full(1, float(moments.std) ** 2))
    if (law := run.dataset.law()) is not None:
        return linear_loss(run.problem, np.linalg.eigvalsh(mixture_covariance(law)))
    covariance = measured_covariance(run.dataset, run.arrays, size, jax.random.fold_in(run.key, 2**31 - 4))
    return linear_loss(run.problem, np.linalg.eigvalsh(covariance).clip(0))


def measured_covariance(dataset: Dataset, arrays: Any, size: int, key: Key) -> np.ndarray:
    """The covariance (size, size) of at most 65,536 of the points, or of as many draws."""
    most = min(65_536, LINEAR_NUMBERS // size)
    if dataset.count_points(arrays) is not None:
        points = as_points(np.asarray(arrays.x[:: -(-len(arrays.x) // most)]))
    else:
        points = draw_many(dataset, arrays, key, most)
    rows = np.asarray(points, np.float64).reshape(len(points), size)
    return np.cov(rows.T).reshape(size, size)


def linear_baseline_between(run: Run) -> float:
    """The same between two laws that are independent; of more than 64 coordinates from the mean variances alone."""
    size = run.problem.moments.mean.size
    if size > LINEAR_BETWEEN or jax.process_count() > 1:
        stds = run.problem.ends.data.std, run.problem.ends.source.std
        data, source = (np.full((1, 1), float(std) ** 2) for std in stds)
    else:
        assert run.source is not None
        key = jax.random.fold_in(run.key, 2**31 - 4)
        data = measured_covariance(run.dataset, run.arrays, size, key)
        source = measured_covariance(run.source, run.source_arrays, size, jax.random.fold_in(key, 1))
    return linear_loss_between(run.problem, data, source)


def unlearnt(loss: float, floor: float | None, linear: float | None, net: Net) -> str | None:
    """A remark that the network has learnt too little, with advice; None: it has learnt enough.

    With a floor (the irreducible loss): given if more than UNLEARNT of the difference between the linear predictor's loss
    and the floor remains. Without: given if the network is not better than the linear predictor, which is optimal for
    Gaussian data.
    """
    if linear is None:
        return None
    wider = (
        f"net.widths={[2 * width for width in net.widths]}".replace(" ", "") if isinstance(net, MLP) else "a wider net"
    )
    advice = f"train longer (steps=) or with {wider}"
    if floor is not None:
        learnable, above = linear - floor, loss - floor
        if above <= max(UNLEARNT * learnable, NOISE * floor):
            return None
        left = ""
        if learnable > NOISE * floor:
            left = f"; {above / learnable:.0%} of what a linear predictor (loss {linear:.4g}) leaves to learn is not learnt"
        return f"the loss {loss:.4g} is above its floor {floor:.4g}{left}; {advice}"
    if loss > linear * (1 + UNLEARNT):
        return f"the loss {loss:.4g} is worse than that of the best linear predictor, {linear:.4g}; {advice}"
    if loss > linear * (1 - UNLEARNT):
        return (
            f"the loss {loss:.4g} is that of the best linear predictor, {linear:.4g}: nothing beyond the data's mean and"
            f" covariance has been learnt; that is right for Gaussian data alone, else {advice}"
        )
    return None
