"""The field to sample from, as a config names it: trained or exact, with guidance, labels, and the dataset to compare with."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.datasets import Dataset
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import same_scaling
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field
from diffsde.guidance import Autoguided, Classifier, ClassifierFree, ClassifierGuided
from diffsde.interpolants import OracleInterpolant
from diffsde.paths import GaussianPath
from diffsde.runs import folder, progress
from diffsde.runs.sample_config import Sampling
from diffsde.types import Array


def load_field(chosen: Sampling) -> tuple[Field, Dataset, str]:
    """The field, with guidance= applied, the dataset to compare with, and the field's origin as text. Raises UserError."""
    field, dataset, origin = load_unguided(chosen)
    if chosen.guidance is None:
        return field, dataset, origin
    start, end = chosen.guidance_interval
    how = chosen.guidance, jnp.asarray(start), jnp.asarray(end)
    if chosen.guide is None:
        if not field.classes:
            raise UserError("guidance needs a conditional field" + unlabelled(chosen))
        origin += ", guided by itself without label" if chosen.guided else ", guidance=1: not guided"
        return ClassifierFree(field, *how), dataset, origin
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
        return Autoguided(field, guide, *how), dataset, f"{origin}, guided by the worse {shown}"
    if not field.gaussian:
        raise UserError(
            "guide: a classifier guides fields of Gaussian paths; between two laws guide by a worse field, or give labels="
        )
    if chosen.labels is None:
        raise UserError("guide: a classifier leans towards labels; say which, e.g. labels=[0,1,2] or labels=all")
    known = field.classes or dataset.classes(dataset.load())
    if known not in (0, guide.classes):
        raise UserError(f"guide: '{chosen.guide}' knows {guide.classes} labels, the field {known}")
    return ClassifierGuided(field, guide, *how), dataset, f"{origin}, guided by the classifier {shown}"


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


def load_unguided(chosen: Sampling) -> tuple[Field, Dataset, str]:
    """The field without guidance, the dataset to compare with, and the field's origin as text. Raises UserError."""
    if chosen.run == "oracle":
        assert chosen.dataset is not None and chosen.path is not None
        if chosen.source is not None or chosen.path.has_gamma:
            return (
                interpolant_of(chosen.source, chosen.dataset, chosen.path),
                chosen.dataset,
                "the exact field between two laws",
            )
        exact = chosen.dataset.exact_field(chosen.path)
        assert exact is not None  # SampleConfig.check
        of = f" of {exact.count:,} points" if isinstance(exact, EmpiricalField) else ""
        return exact, chosen.dataset, f"the exact field{of}"
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
    return field, trained.dataset, f"{what} at step {step} of {progress.shown_path(where)} ({named(trained)})"


def interpolant_of(source: Dataset | None, dataset: Dataset, path: GaussianPath) -> OracleInterpolant:
    """The exact field from one mixture, or from N(0, I), to another. Raises UserError where their dimensions differ."""
    law = dataset.law()
    assert law is not None  # Sampling.check
    shape = law.means.shape[1:]
    from_law = (source or StandardNormal(shape)).law()
    assert from_law is not None
    if from_law.means.shape[1:] != shape:
        raise UserError(
            f"source: its points have {from_law.means.shape[1]} coordinates, those of the dataset {shape[0]}; take laws of"
            " one dimension"
        )
    return OracleInterpolant(path, from_law, law, shape)


def labels_of(chosen: Sampling, field: Field) -> Array | None:
    """The labels (n,) of n samples, those of labels= in turn; None: no labels. Raises UserError for a label the field lacks."""
    if chosen.labels is None:
        return None
    if not field.classes:
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
