"""The field that a flow map is distilled from (teacher=): of a trained run, or exact."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np

from diffsde import ensembles
from diffsde.build import name_of
from diffsde.datasets.scaling import same_scaling
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.runs import progress
from diffsde.runs.restore import no_field, restore_network
from diffsde.runs.run_pairs import described
from diffsde.runs.train_config import TrainConfig, in_precision, named


def teacher_field(chosen: TrainConfig, shape: tuple[int, ...], classes: int) -> Field | None:
    """The run's teacher, of whose velocity it learns; None: from scratch. shape, classes: of the run's points. Raises UserError."""
    if chosen.teacher is None:
        return None
    field = exact(chosen) if chosen.teacher == "oracle" else trained(chosen, chosen.teacher, shape)
    if classes and field.classes != classes:
        knows = f"{field.classes} labels" if field.classes else "no labels"
        raise UserError(
            f"teacher: '{chosen.teacher}' knows {knows}, and this run is given {classes}; take a teacher that was trained with"
            " dataset.conditional=true, or leave that out here"
        )
    return in_precision(chosen.precision, field)


def exact(chosen: TrainConfig) -> Field:
    """The exact field of the data. Raises UserError where it is not known."""
    field = chosen.dataset.exact_field(chosen.path)
    if field is None:
        raise UserError(
            f"teacher=oracle needs a known law or a finite set of points, and dataset={name_of(chosen.dataset)} has neither; say"
            " dataset=gmm, fixed or array, whose field is exact, take a trained run as the teacher, or train from scratch (teacher=null)"
        )
    progress.say("teacher: the exact field" + ("" if chosen.dataset.law() is not None else " of the training points"))
    return field


def trained(chosen: TrainConfig, teacher: str, shape: tuple[int, ...]) -> Field:
    """The field of a trained run, of the same path, data and scaling. Raises UserError."""
    place = Path(teacher)
    found = restore_network(place, None, "last", None, "teacher")
    if found.classifies:
        raise UserError(f"teacher: '{teacher}' is a classifier, which has no velocity; name the run of a field")
    if found.config.is_flow:
        raise UserError(no_field(place, found.config, "teacher"))
    theirs, field, step = found.config, found.field, found.step
    where = f"teacher: '{teacher}'"
    if theirs.between_laws:
        raise UserError(f"{where} is a run between two laws; flow maps are learnt on Gaussian paths, from noise")
    if not field.follows_path:
        raise UserError(
            f"{where} is a flow trained by objective=likelihood, whose velocity is of no path: a flow map learns at points x_s of its"
            " path, and there the ODE of that flow does not pass; take a run of objective=cfm"
        )
    if not field.knows_velocity:
        raise UserError(f"{where} only jumps to t = 1, and a teacher's velocity is what is learnt; take another run")
    if field.shape != shape:
        raise UserError(f"{where} is of points of shape {field.shape}, and these data are of {shape}; take another run")
    if not ensembles.equal(theirs.path, chosen.path):
        ours, its = (name_of(each) for each in (chosen.path, theirs.path))
        raise UserError(
            f"{where} was trained on path={its}, and this run is on path={ours}"
            + (" of other numbers" if ours == its else "")
            + "; take the same path here, or another run"
        )
    if described(theirs.dataset) != described(chosen.dataset):
        raise UserError(f"{where} was trained on another dataset; take the same dataset= here, or another run")
    if not same_scaling(theirs.dataset.scaling(shape), chosen.dataset.scaling(shape)):
        raise UserError(f"{where} had data of another mean and std; train a teacher on these data")
    if field.classes and theirs.label_dropout == 0 and (not chosen.dataset.conditional or chosen.label_dropout != 0):
        raise UserError(
            f"{where} was trained with label_dropout=0 and does not know how to do without a label; say"
            " dataset.conditional=true label_dropout=0, or take another run"
        )
    progress.say(f"teacher: {progress.shown_path(place)} at step {step} ({named(theirs)})")
    return field


def fingerprint(field: Field) -> str:
    """A hash of a teacher: of its parameters, or of the data whose field it is."""
    digest = hashlib.sha256(type(field).__name__.encode())
    for leaf in jax.tree.leaves(field):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
