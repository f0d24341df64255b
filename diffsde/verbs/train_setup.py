"""Set-up of a training run: from its choices to the Run that is trained, and the losses that its loss is compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.build import name_of
from diffsde.datasets import Dataset, draw_many, point_shape
from diffsde.datasets.finite import as_points
from diffsde.errors import UserError
from diffsde.nets import MLP, ClassifierNet, Net, choose_net, initialise, structure
from diffsde.objectives import (
    Classification,
    Problem,
    Regression,
    choose_weight,
    has_finite_loss,
    linear_loss,
    objection,
    weighted,
)
from diffsde.posterior_targets import default_points
from diffsde.runs import progress
from diffsde.runs.train_config import TrainConfig, in_precision
from diffsde.solver_error import mixture_covariance
from diffsde.training import Run, loss_floor
from diffsde.types import on_device

FLOOR_EXAMPLES = 262_144
LINEAR_NUMBERS = 2**24  # most numbers in the points (at most 65,536) whose covariance gives the linear predictor's loss
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
    classifies = isinstance(chosen.objective, Classification)
    classes = n_classes(chosen, arrays)
    key_init, key_measure, key_train = jax.random.split(jax.random.key(chosen.seed), 3)
    shape = point_shape(chosen.dataset, arrays)
    moments = chosen.dataset.moments(arrays, key_measure)
    if not moments.std > 0:
        raise UserError("dataset: all points are equal; there is nothing to learn")
    body = chosen_net(chosen, shape, chosen.dataset.count_points(arrays)) if net is None else net
    made = ClassifierNet(body) if classifies else body
    graph, _ = structure(made, shape, chosen.precision, classes)
    problem = with_weight(Problem(chosen.path, chosen.objective, chosen.time, moments, graph, chosen.precondition))
    hidden = 0.0 if classifies else chosen.label_dropout
    averaged = 0 if classifies else points_of(chosen, moments.mean.size)
    if averaged:
        progress.say(
            f"targets: each is E[z | x_t] over {averaged} points of the data, of less variance than its own z and the same mean"
            " (posterior_points=0: its own)"
        )
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
    )
    return Prepared(run, in_precision(chosen.precision, initialise(made, shape, key_init, classes)), body)


def points_of(chosen: TrainConfig, size: int) -> int:
    """Number of points that a target is averaged over, for points of `size` coordinates; for a stream, at most the batch."""
    points = default_points(size) if chosen.posterior_points is None else chosen.posterior_points
    return min(points, chosen.batch_size) if chosen.dataset.stream else points


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
    if dataset.law() is None or not isinstance(run.problem.objective, Regression):
        return None
    if not has_finite_loss(run.problem):
        return None
    value, error = loss_floor(run, run.arrays, jax.random.fold_in(run.key, 2**31 - 1), FLOOR_EXAMPLES)
    return float(value), float(error)


def linear_baseline(run: Run) -> float | None:
    """The loss of the best linear predictor, from the covariance of the data; None where the expected loss is infinite.

    For a stream, several processes, or more than 1024 coordinates, an upper bound from the mean variance alone.
    """
    if not isinstance(run.problem.objective, Regression) or not has_finite_loss(run.problem):
        return None
    moments = run.problem.moments
    size = moments.mean.size
    if run.arrays is None or jax.process_count() > 1 or size > LINEAR_DIMENSION:
        return linear_loss(run.problem, np.full(1, float(moments.std) ** 2))
    if (law := run.dataset.law()) is not None:
        return linear_loss(run.problem, np.linalg.eigvalsh(mixture_covariance(law)))
    most = min(65_536, LINEAR_NUMBERS // size)
    if run.dataset.count_points(run.arrays) is not None:
        points = as_points(np.asarray(run.arrays.x[:: -(-len(run.arrays.x) // most)]))
    else:
        points = draw_many(run.dataset, run.arrays, jax.random.fold_in(run.key, 2**31 - 4), most)
    rows = np.asarray(points, np.float64).reshape(len(points), size)
    return linear_loss(run.problem, np.linalg.eigvalsh(np.cov(rows.T).reshape(size, size)).clip(0))


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
