"""Samples of images beside real ones in a classifier's features, and by its classes."""

from __future__ import annotations

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
    """Features of the samples, of as many test images, and of real images to compare with; classes of the first two.

    about: the classifier, and how often it is right, as summary.json has it and as the table says it.
    """

    samples: np.ndarray
    test: np.ndarray
    train: np.ndarray
    sample_classes: np.ndarray
    test_classes: np.ndarray
    about: dict[str, Any]
    row: tuple[str, str]


def features_of(subject: Subject) -> Features:
    """What the dataset's classifier makes of the samples and of real images: once, for all metrics of a subject."""
    from diffsde.evaluation.features import (
        judge,
    )  # here: flax comes with it, for which samples of an exact field need not wait

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
    """All that the classifier makes of the samples (n, H, W, C), bytes, and of the real images."""
    real = subject.real
    mine, classes = eye.look(images)
    theirs, test_classes = eye.look(np.asarray(real.test.x))
    train = eye.look(np.asarray(real.train.x)[real.rows])[0]
    return Features(mine, theirs, train, classes, test_classes, {}, ("", ""))


class FeatureMetric(Metric):
    """A metric of the features of a dataset's classifier; least: samples and training images that it takes, at least."""

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
            return f"it takes {self.least} or more images for training; there are {there}"
        return None

    def measure(self, subject: Subject, key: Key) -> Measured:
        found = features_of(subject)
        return Measured(self.figures(found, subject), found.about, (found.row,))

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        """The figures of these features."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Frechet(FeatureMetric):
    """frechet: the squared Frechet distance |m - m'|^2 + tr(S + S' - 2 (S S')^1/2) of the Gaussians of two sets of features
    (1706.08500, eq. 6): of samples from real images, beside that of as many test images.
    """

    quantities: ClassVar[dict[str, Quantity]] = {"frechet": Quantity("", "lower")}
    least: ClassVar[int] = 2

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        floor = Figure(frechet_distance(found.test, found.train))
        return {"frechet": Figure(frechet_distance(found.samples, found.train)).against("floor", floor)}


@dataclasses.dataclass(frozen=True)
class PrecisionRecall(FeatureMetric):
    """precision, recall, density, coverage (2002.09797) in these features, against as many real images as there are samples;
    beside those of others of the real images.
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
    """label_accuracy: the share of samples that the classifier gives the label that they were given, beside that of test
    images. Both with the half-width of Wilson's interval, which is not 0 where all are right (share_figure).
    """

    quantities: ClassVar[dict[str, Quantity]] = {"label_accuracy": Quantity("", "target")}
    needs: ClassVar[tuple[str, ...]] = ("samples", "images", "classes", "labels")

    def figures(self, found: Features, subject: Subject) -> dict[str, Figure]:
        true = share_figure(found.test_classes == np.asarray(subject.real.test.y))
        return {"label_accuracy": share_figure(found.sample_classes == subject.labels).against("real", true)}
