"""Metrics that compare sampled images with real images by the features and the classes of a classifier."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from diffsde.build import name_of
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.evaluation.references import as_bytes, split
from diffsde.metrics.figures import Figure, share_figure
from diffsde.metrics.frechet import frechet_distance
from diffsde.metrics.prdc import COVERAGE, prdc
from diffsde.types import Key

if TYPE_CHECKING:
    from diffsde.evaluation.features import Judge


class Features(NamedTuple):
    """Features (n, features) of the samples, of as many test images, and of the training images; classes (n,) of the first two.

    about, row: the classifier and its accuracy, for summary.json and for the table.
    """

    samples: np.ndarray
    test: np.ndarray
    train: np.ndarray
    sample_classes: np.ndarray
    test_classes: np.ndarray
    about: dict[str, Any]
    row: tuple[str, str]


def features_of(subject: Subject) -> Features:
    """Features and classes of a subject's samples and real images, by the dataset's classifier; computed once per subject."""
    from diffsde.evaluation.features import (
        judge,  # here: flax comes with it, which samples of an exact field need not wait for
    )

    if "features" not in subject.kept:
        whole, dataset = split(subject.dataset, None), subject.dataset
        eye = judge(name_of(dataset), whole.train, dataset.flip, subject.cache and subject.cache / "classifiers")
        right = float((eye.look(np.asarray(whole.test.x))[1] == np.asarray(whole.test.y)).mean())
        about = {"classifier": {"name": eye.name, "accuracy": right, "judged_on": whole.provenance}}
        row = "features", f"of classifier {eye.name}, right on {right:.2%} of {whole.provenance}"
        subject.kept["features"] = features_by(eye, as_bytes(subject.samples), subject)._replace(about=about, row=row)
    found: Features = subject.kept["features"]
    return found


def features_by(eye: Judge, images: np.ndarray, subject: Subject) -> Features:
    """Features and classes of the samples (n, H, W, C), bytes, and of the subject's real images, without `about` and `row`."""
    real = subject.real
    mine, classes = eye.look(images)
    theirs, test_classes = eye.look(np.asarray(real.test.x))
    train = eye.look(np.asarray(real.train.x)[real.rows])[0]
    return Features(mine, theirs, train, classes, test_classes, {}, ("", ""))


class FeatureMetric(Metric):
    """A metric of the features of a dataset's classifier; least: the least number of samples and of training images."""

    needs: ClassVar[tuple[str, ...]] = ("samples", "images", "classes")
    least: ClassVar[int] = 1

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is None and subject.in_bytes

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject):
            return why
        if subject.n < self.least:
            return f"it takes {self.least} or more samples; n is {subject.n}"
        if (there := len(subject.real.rows)) < self.least:
            return f"it takes {self.least} or more training images; there are {there}"
        return None

    def measure(self, subject: Subject, key: Key) -> Measured:
        found = features_of(subject)
        return Measured(self.figures(found, subject), found.about, (found.row,))

    @abc.abstractmethod
    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        """The metric's figures, from the features."""


@dataclasses.dataclass(frozen=True)
class Frechet(FeatureMetric):
    """frechet: the squared Frechet distance |m - m'|^2 + tr(S + S' - 2 (S S')^1/2) between Gaussians fitted to the features of
    samples and of training images (1706.08500, eq. 6), compared with the distance of as many test images.
    """

    quantities: ClassVar[dict[str, Quantity]] = {"frechet": Quantity("", "lower")}
    least: ClassVar[int] = 2

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        floor = Figure(frechet_distance(found.test, found.train))
        return {"frechet": Figure(frechet_distance(found.samples, found.train)).against("floor", floor)}


@dataclasses.dataclass(frozen=True)
class PrecisionRecall(FeatureMetric):
    """precision, recall, density, coverage (2002.09797) of the samples' features against as many training images, compared
    with the values of as many test images.
    """

    quantities: ClassVar[dict[str, Quantity]] = dict.fromkeys(
        ("precision", "recall", "density", "coverage"), Quantity("", "target")
    )
    least: ClassVar[int] = COVERAGE + 1

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        train = found.train[: len(found.samples)]
        mine, real = prdc(train, found.samples), prdc(train, found.test)
        return {
            name: Figure(float(value)).against("real", Figure(float(one)))
            for name, value, one in zip(mine._fields, mine, real, strict=True)
        }


@dataclasses.dataclass(frozen=True)
class LabelAccuracy(FeatureMetric):
    """label_accuracy: the share of samples that the classifier assigns to the sample's own label, compared with the share of
    test images. Errors: half-widths of Wilson's interval, not 0 even where all are right (share_figure).
    """

    quantities: ClassVar[dict[str, Quantity]] = {"label_accuracy": Quantity("", "target")}
    needs: ClassVar[tuple[str, ...]] = ("samples", "images", "classes", "labels")

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        true = share_figure(found.test_classes == np.asarray(subject.real.test.y))
        return {"label_accuracy": share_figure(found.sample_classes == subject.labels).against("real", true)}
