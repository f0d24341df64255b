"""A trained run, read back from its folder."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import checkpoints, nets
from diffsde.build import choose, name_of
from diffsde.datasets import Snapshots
from diffsde.datasets.common_scaling import with_scaling
from diffsde.datasets.dataset import stamp
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.guidance import Classifier
from diffsde.nets import Graph, Net, structure
from diffsde.objectives import Classification, VelocityAndScore
from diffsde.runs import folder, progress
from diffsde.runs.run_log import best_step, read_log
from diffsde.runs.train_config import (
    Learned,
    TrainConfig,
    TrainedField,
    field_of,
    flow_of,
    through_snapshots,
    train_choices,
)
from diffsde.types import Moments, on_device


class Trained(NamedTuple):
    """A trained run: its config, and parameters, moments, graph and number of classes of the network at step `step`.

    source_moments: the source's, of a run between two laws.
    """

    config: TrainConfig
    params: Any
    moments: Moments
    graph: Graph
    classes: int
    step: int
    source_moments: Moments | None = None

    @property
    def field(self) -> TrainedField:
        """The network's field."""
        learned = Learned(self.moments, self.graph, self.classes, self.source_moments)
        return field_of(self.config, learned, self.params)

    @property
    def flow(self) -> DiscreteFlow:
        """The discrete flow of a coupling network."""
        return flow_of(Learned(self.moments, self.graph, self.classes), self.params)

    @property
    def classifies(self) -> bool:
        """Whether the network is a classifier."""
        return isinstance(self.config.objective, Classification)


def restore(
    run_folder: Path, ema: float | None = None, which: str = "last", precision: str | None = None
) -> tuple[TrainConfig, TrainedField, int]:
    """The config, the field and its step from a run folder; needs no dataset. Raises UserError for a classifier's folder.

    ema: the decay of the parameter average to take; 0: the parameters themselves; None: the first average. which: the
    checkpoint: last, best, or its step. precision: precision of the network's products; None: the run's own.
    """
    found = restore_network(run_folder, ema, which, precision)
    if found.classifies:
        raise UserError(
            f"run: '{run_folder}' is a classifier, which has no samples; give it as guide=, and a field as run="
        )
    if found.config.is_flow:
        raise UserError(no_field(run_folder, found.config))
    return found.config, found.field, found.step


def restore_flow(
    run_folder: Path, ema: float | None = None, which: str = "last", precision: str | None = None
) -> tuple[TrainConfig, DiscreteFlow, int]:
    """As `restore`, of a run whose network is a discrete flow (TrainConfig.is_flow)."""
    found = restore_network(run_folder, ema, which, precision)
    return found.config, found.flow, found.step


def no_field(run_folder: Path, config: TrainConfig, knob: str = "run") -> str:
    """Why a discrete flow is not for what takes a field."""
    return (
        f"{knob}: '{run_folder}' is a discrete flow (net={name_of(config.net)}), which has samples and a density but no"
        " velocity; name the run of a field"
    )


def restore_guide(
    run_folder: Path, which: str = "last", precision: str | None = None, labelled: bool = True
) -> TrainedField | Classifier:
    """The guide in a run folder: a worse field (autoguidance), or a classifier. labelled: whether the samples have labels."""
    found = restore_network(run_folder, None, which, precision, "guide")
    if found.config.is_flow:
        raise UserError(no_field(run_folder, found.config, "guide"))
    if not labelled and found.classes and found.config.label_dropout == 0 and not found.classifies:
        raise UserError(
            f"guide: '{run_folder}' was trained with label_dropout=0 and does not know how to do without a label;"
            " give labels="
        )
    if found.classifies:
        return Classifier(found.config.path, found.params, found.moments, found.graph, found.classes)
    return found.field


def restore_network(
    run_folder: Path, ema: float | None, which: str, precision: str | None, knob: str = "run"
) -> Trained:
    """The Trained run in a folder; knob: the knob that named it, for messages. Cached, so that a sweep's jobs read it once."""
    files = [run_folder / "config.json", *sorted((run_folder / "checkpoints").rglob("*"))]
    found = stamp(path for path in files if path.exists())
    trained = _restored(found, bool(jax.config.read("jax_enable_x64")), run_folder, ema, which, precision, knob)
    check_times(run_folder, trained.config)  # the data's files are no part of the stamp
    return trained


@lru_cache(maxsize=4)
def _restored(
    files: tuple[tuple[str, int, int, int], ...],
    x64: bool,
    run_folder: Path,
    ema: float | None,
    which: str,
    precision: str | None,
    knob: str,
) -> Trained:
    """`restore_network`, cached by the stamp of the run's files and by whether float64 is enabled."""
    config = read_train_config(run_folder, knob)
    where = run_folder / "checkpoints"
    step, tree = checkpoints.load(
        where,
        progress.warn,
        step=which_step(run_folder, which, knob),
        unfit=checkpoints.not_of_a_run,
        has_seal=folder.has_checksums(run_folder),
    )
    moments, classes = Moments(**tree["moments"]), int(tree.get("classes", 0))
    source_moments = Moments(**tree["source_moments"]) if "source_moments" in tree else None
    shape = moments.mean.shape
    net = recorded_net(run_folder)
    if isinstance(config.objective, Classification):
        net = nets.ClassifierNet(net)
    elif isinstance(config.objective, VelocityAndScore):
        net = nets.PairNet(net)
    graph, shapes = structure(net, shape, precision or config.precision, classes, config.objective.times)
    try:
        params = chosen_average(config, tree["state"], ema)
    except (IndexError, TypeError):  # arrays without so many averages
        params = None
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, shapes):
        raise UserError(f"{knob}: the checkpoint in '{run_folder}' is of another net than its config.json says")
    if not checkpoints.finite(params):
        raise UserError(diverged(config, where, step, ema, knob))
    return Trained(config, params, moments, graph, classes, step, source_moments)


def read_train_config(run_folder: Path, knob: str = "run") -> TrainConfig:
    """The choices of a run; its dataset and its source have the scaling that the run was trained with."""
    kept = folder.read_config(run_folder, knob)
    try:
        config = found_from(train_choices(kept), folder.read_directory(run_folder))
    except UserError as error:  # of numbers and words that are not the user's, but the folder's
        raise UserError(f"{knob}: '{run_folder / 'config.json'}': {error}") from None
    scaling = folder.read_scaling(run_folder)
    if config.source is None:
        config = through_snapshots(dataclasses.replace(config, dataset=config.dataset.scaled_by(scaling)))
        check_times(run_folder, config)
        return config
    source, dataset = with_scaling(config.source, config.dataset, scaling)
    return dataclasses.replace(config, source=source, dataset=dataset)


def check_times(place: Path, chosen: TrainConfig) -> None:
    """Raise UserError where the snapshots of the run in `place` stand at other times than when it was begun."""
    if not isinstance(chosen.dataset, Snapshots) or (then := folder.read_made_of(place).get("times")) is None:
        return
    now = chosen.dataset.trained_times
    if not np.array_equal(now, then):
        raise UserError(
            f"run: the times of the snapshots have changed since '{place}' was begun, from {listed(then)} to {listed(now)};"
            f" give it the data of then, or train another run"
        )


def listed(times: Any) -> str:
    """Times as text."""
    return f"[{', '.join(f'{time:g}' for time in times)}]"


def found_from(config: TrainConfig, directory: Path) -> TrainConfig:
    """The config with the files of its data taken from the directory that the run was begun in, where they are there."""
    source = config.source and config.source.found_from(directory)
    return dataclasses.replace(config, dataset=config.dataset.found_from(directory), source=source)


def diverged(config: TrainConfig, where: Path, step: int, ema: float | None, knob: str) -> str:
    """The message for a checkpoint with non-finite parameters: names the newest finite checkpoint before it, if any."""
    asked = "checkpoint" if knob == "run" else f"{knob}_checkpoint"
    for earlier in reversed([number for number in checkpoints.steps(where) if number < step]):
        try:
            has_seal = folder.has_checksums(where.parent)
            tree = checkpoints.read_checkpoint((where / str(earlier)).resolve(), has_seal=has_seal)
        except checkpoints.Damaged:
            continue
        if checkpoints.finite(chosen_average(config, tree["state"], ema)):
            mend = f"the newest finite one is {asked}={earlier}"
            break
    else:
        mend = "none before it is finite; train it again with a smaller lr"
    return (
        f"{knob}: the parameters in checkpoint '{where / str(step)}' are NaN or infinite: its training diverged; {mend}"
    )


def recorded_net(run_folder: Path) -> Net:
    """The net that a run was begun with, whatever net=auto would choose now. Raises UserError where it is not readable."""
    found = choose(Net, folder.read_net(run_folder), f"'{run_folder / 'config.json'}': net")  # type: ignore[type-abstract]
    if isinstance(found, nets.Auto):
        raise UserError(
            f"'{run_folder / 'config.json'}' does not say which net net=auto chose, as runs of before format 4 do not; train it again"
        )
    return found


def which_step(run_folder: Path, which: str, knob: str) -> int | None:
    """The step of the checkpoint `which` (last, best, or a step); None: the newest. Raises UserError where there is none."""
    asked = "checkpoint" if knob == "run" else f"{knob}_checkpoint"
    if which == "last":
        return None
    if which == "best":
        scores, saved = read_log(run_folder / "metrics.jsonl").scores, checkpoints.steps(run_folder / "checkpoints")
        if (step := best_step(scores, saved)) is None:
            raise UserError(f"{asked}=best needs a run that was trained with best=true")
        return step
    if not which.isdigit():
        raise UserError(f"{asked} is '{which}'; it must be last, best, or a step")
    return int(which)


def chosen_average(config: TrainConfig, state: dict[str, Any], ema: float | None) -> Any:
    """The saved parameter average of decay `ema` (None: the first), or for 0 the parameters. Raises UserError for another decay."""
    if ema is None or ema in config.decays:
        i = 0 if ema is None else config.decays.index(ema)
        return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[i]), state["ema"])  # no program for each shape
    if ema == 0:
        return state["params"]
    kept = ", ".join(f"{decay:g}" for decay in config.decays)
    raise UserError(f"ema is {ema:g}; the run kept {kept}, and 0 gives the parameters themselves")
