"""The field to sample from, as a config names it: trained or exact, with guidance, labels, and the dataset to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.build import name_of
from diffsde.couplings.coupling import Coupling
from diffsde.datasets import Dataset, point_shape
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import same_scaling
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.fields import ENDS_ALONE, VELOCITY_ALONE, EmpiricalField, Field
from diffsde.guidance import Autoguided, Classifier, ClassifierFree, ClassifierGuided
from diffsde.interpolants import Backward, OracleInterpolant
from diffsde.paths import GaussianPath, check_ends
from diffsde.runs import folder, progress
from diffsde.runs.sample_config import Sampling
from diffsde.types import Array


class Loaded(NamedTuple):
    """A field, the dataset to compare its samples with, and the field's origin as text.

    source: the law at t = 0, in the model's units; None: N(0, I), on a Gaussian path. coupling: how its points were paired with
    the data's in training; None: independently.
    """

    field: Field
    dataset: Dataset
    origin: str
    source: Dataset | None = None
    coupling: Coupling | None = None


def load_field(chosen: Sampling) -> Loaded:
    """The field that a config names, with guidance= applied, and direction=. Raises UserError."""
    found = load_guided(chosen)
    if chosen.direction == "forward":
        return found
    if not found.field.knows_velocity:
        raise UserError(f"direction=backward: {ENDS_ALONE} that could be followed back; leave it out")
    check_ends_of(found.field)
    turned, start = Backward(found.field), found.source or StandardNormal(found.field.shape)
    return Loaded(turned, start, f"{found.origin}, backward in time", found.dataset, found.coupling)


def check_ends_of(field: Field) -> None:
    """Raise UserError for a path that does not begin in the source and end in the data, and so cannot be run backward."""
    try:
        check_ends(field.path)
    except ValueError as error:
        raise UserError(f"direction=backward: {error}") from None


def load_guided(chosen: Sampling) -> Loaded:
    """The field forward in time, with guidance= applied. Raises UserError."""
    found = load_unguided(chosen)
    field, dataset, origin, *_ = found
    if chosen.guidance is None:
        return found
    if not field.follows_path:
        raise UserError(f"guidance: {VELOCITY_ALONE}, and it is scores of p_t that guidance adds up; leave it out")
    if not field.knows_velocity:
        raise UserError(f"guidance: {ENDS_ALONE}, which guidance adds up; leave it out")
    start, end = chosen.guidance_interval
    how = chosen.guidance, jnp.asarray(start), jnp.asarray(end)
    if chosen.guide is None:
        if not field.classes:
            raise UserError("guidance needs a conditional field" + unlabelled(chosen))
        origin += ", guided by itself without label" if chosen.guided else ", guidance=1: not guided"
        return found._replace(field=ClassifierFree(field, *how), origin=origin)
    from diffsde.runs.restore import restore_guide

    guide = restore_guide(
        Path(chosen.guide), chosen.guide_checkpoint, chosen.machine.precision, chosen.labels is not None
    )
    shape = guide.moments.mean.shape
    if shape != field.shape:
        raise UserError(f"guide: '{chosen.guide}' is of points of shape {shape}, the field of {field.shape}")
    if not ensembles.equal(guide.path, field.path):
        raise UserError(f"guide: '{chosen.guide}' was trained on another path than the field; train it on the same")
    if not isinstance(guide, Classifier):
        check_same_source(chosen)
    theirs = folder.read_scaling(Path(chosen.guide))
    if not same_scaling(theirs, dataset.scaling(field.shape)):
        raise UserError(f"guide: '{chosen.guide}' was trained on data of another mean and std than the field's")
    shown = progress.shown_path(Path(chosen.guide))
    if chosen.guide_checkpoint != "last":
        shown += f" at checkpoint {chosen.guide_checkpoint}"
    if not isinstance(guide, Classifier):
        if guide.classes not in (0, field.classes):
            raise UserError(f"guide: '{chosen.guide}' knows {guide.classes} labels, the field {field.classes}")
        check_alike(chosen.guide, guide, field)
        return found._replace(field=Autoguided(field, guide, *how), origin=f"{origin}, guided by the worse {shown}")
    if not field.gaussian:
        raise UserError(
            "guide: a classifier guides fields of Gaussian paths; between two laws guide by a worse field, or give labels="
        )
    if chosen.labels is None:
        raise UserError("guide: a classifier leans towards labels; say which, e.g. labels=[0,1,2] or labels=all")
    known = field.classes or dataset.classes(dataset.load())
    if known not in (0, guide.classes):
        raise UserError(f"guide: '{chosen.guide}' knows {guide.classes} labels, the field {known}")
    return found._replace(
        field=ClassifierGuided(field, guide, *how), origin=f"{origin}, guided by the classifier {shown}"
    )


def check_alike(name: str, guide: Field, field: Field) -> None:
    """Raise UserError where a field that guides does not know what the guided one does: a score, or noise as the source."""
    if (guide.knows_score, guide.gaussian) != (field.knows_score, field.gaussian):
        raise UserError(
            f"guide: '{name}' was trained with another objective or coupling than the field, and of one alone is the score known;"
            " train both with the same objective= and coupling="
        )


def check_same_source(chosen: Sampling) -> None:
    """Raise UserError where the field that guides was trained from another source than the field it guides."""
    from diffsde.runs.restore import read_train_config

    assert chosen.guide is not None
    theirs = read_train_config(Path(chosen.guide), "guide")
    ours = chosen.source if chosen.run == "oracle" else read_train_config(Path(chosen.run)).source
    if not ensembles.equal(theirs.source, ours):
        raise UserError(
            f"guide: '{chosen.guide}' was trained from another source than the field; train it from the same"
        )


def load_unguided(chosen: Sampling) -> Loaded:
    """The field without guidance, forward in time. Raises UserError."""
    if chosen.run == "oracle":
        assert chosen.dataset is not None and chosen.path is not None
        if chosen.source is not None or chosen.path.has_gamma:
            source = chosen.source or StandardNormal(point_shape(chosen.dataset, chosen.dataset.load()))
            between = interpolant_of(source, chosen.dataset, chosen.path)
            return Loaded(between, chosen.dataset, f"the exact field from source={name_of(source)}", source)
        exact = chosen.dataset.exact_field(chosen.path)
        assert exact is not None  # SampleConfig.check
        of = f" of {exact.count:,} points" if isinstance(exact, EmpiricalField) else ""
        return Loaded(exact, chosen.dataset, f"the exact field{of}")
    from diffsde.runs.restore import restore
    from diffsde.runs.train_config import named  # here: these import flax and optax

    where = Path(chosen.run)
    trained, field, step = restore(where, chosen.ema, chosen.checkpoint, chosen.machine.precision)
    if trained.dataset.stream:
        progress.streamed(trained.dataset, trained.dataset.load())
    if trained.label_dropout == 0 and (chosen.labels is None or (chosen.guidance is not None and chosen.guide is None)):
        raise UserError(
            "labels: this run was trained with label_dropout=0 and does not know how to do without a label; give labels=,"
            " and guide= with guidance="
        )
    what = "the parameters" if chosen.ema == 0 else "the parameter average"
    begin = (trained.source or StandardNormal(field.shape)) if trained.between_laws else None
    origin = f"{what} at step {step} of {progress.shown_path(where)} ({named(trained)})"
    return Loaded(field, trained.dataset, origin, begin, trained.pairing)


def interpolant_of(source: Dataset | None, dataset: Dataset, path: GaussianPath) -> OracleInterpolant:
    """The exact field from one mixture, or from N(0, I), to another. Raises UserError where their dimensions differ."""
    last = dataset.law()
    assert last is not None  # Sampling.check
    first = (source or StandardNormal(last.means.shape[1:])).law()
    assert first is not None
    if first.means.shape[1] != last.means.shape[1]:
        raise UserError(
            f"source: its points have {first.means.shape[1]} coordinates, those of the dataset {last.means.shape[1]}; take"
            " laws of one dimension"
        )
    return OracleInterpolant(path, first, last, last.means.shape[1:])


def labels_of(chosen: Sampling, field: Field | DiscreteFlow) -> Array | None:
    """The labels (n,) of n samples, those of labels= in turn; None: no labels. Raises UserError for a label the field lacks."""
    if chosen.labels is None:
        return None
    if not field.classes:
        if isinstance(field, DiscreteFlow):
            raise UserError("labels: this flow knows none; train with dataset.conditional=true")
        raise UserError("labels: this field knows none" + unlabelled(chosen))
    labels = range(field.classes) if chosen.labels == "all" else chosen.labels
    for label in labels:
        if not 0 <= int(label) < field.classes:
            raise UserError(f"labels: {label} is not a label of this field; they are 0 to {field.classes - 1}")
    return jnp.asarray(np.resize(np.asarray(labels, np.int32), chosen.n))


def unlabelled(chosen: Sampling) -> str:
    """Advice, for messages, on how to get a field with labels."""
    how = (
        "the exact field knows those of mixtures only"
        if chosen.run == "oracle"
        else "train with dataset.conditional=true"
    )
    return f"; {how}, or give guide=<a classifier>"
