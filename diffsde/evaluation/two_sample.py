"""The metrics `energy_distance`, `mmd` and `c2st`: unbiased tests of samples against as many true points."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.metrics import kernels
from diffsde.metrics.discriminator import held_out_accuracy
from diffsde.metrics.figures import Figure
from diffsde.types import Key

MOST = 10_000  # samples, and true points, that are compared: the cost is of every pair of them


def fits(subject: Subject) -> bool:
    """Whether two-sample tests are measured of the subject by default: samples of points whose law is not known."""
    return subject.problem is None and not subject.in_bytes and subject.dataset.law() is None


def sets(subject: Subject, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Up to 10,000 samples, and as many true points."""
    x = subject.samples[:MOST]
    return x, subject.dataset.true_points(subject.labels, key, len(x))


def too_few(subject: Subject) -> str | None:
    return None if subject.n >= 4 else f"it takes 4 or more samples; n is {subject.n}"


def too_narrow(subject: Subject) -> str | None:
    """Where all points are equal, so that there is no width to measure a distance in."""
    return None if data_std(subject) > 0 else "all points of the data are equal"


def data_std(subject: Subject) -> float:
    """The root-mean-square std of a coordinate of the data, in the model's units."""
    dataset = subject.dataset
    return float(dataset.moments(dataset.load(), jax.random.key(0)).std)


def held(figure: Figure, exact: float, subject: Subject) -> Figure:
    """The figure, held against what samples of the data's law have on average; alone, where they are guided."""
    return figure.alone() if subject.guided else figure.against_exact(exact)


@dataclasses.dataclass(frozen=True)
class EnergyDistance(Metric):
    """energy_distance: 2 E|x - y| - E|x - x'| - E|y - y'| of samples x and as many true points y (Szekely and Rizzo 2013).

    0 on average for true samples, whatever their number: unbiased, so that it may be negative.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "energy_distance": Quantity("in the data's units", "lower", "with each coordinate in units of its std")
    }
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    def is_default(self, subject: Subject) -> bool:
        return False

    def unavailable(self, subject: Subject) -> str | None:
        return super().unavailable(subject) or too_few(subject)

    def measure(self, subject: Subject, key: Key) -> Measured:
        return Measured({"energy_distance": held(kernels.energy_distance(*sets(subject, key)), 0.0, subject)})


@dataclasses.dataclass(frozen=True)
class MMD(Metric):
    """mmd_squared: the squared maximum mean discrepancy between samples and as many true points (Gretton et al. 2012).

    For the mean of the kernels exp(-r^2/(2 b^2)) of b = 1, 1/2, 1/4, 1/8 and 1/16 of the root-mean-square distance of two points of the
    data, which does not depend on the samples. 0 on average for true samples: unbiased, so that it may be negative.
    """

    quantities: ClassVar[dict[str, Quantity]] = {"mmd_squared": Quantity("", "lower")}
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    def is_default(self, subject: Subject) -> bool:
        return fits(subject)

    def unavailable(self, subject: Subject) -> str | None:
        return super().unavailable(subject) or too_few(subject) or too_narrow(subject)

    def measure(self, subject: Subject, key: Key) -> Measured:
        std, (x, y) = data_std(subject), sets(subject, key)
        widths = [float(each * std * np.sqrt(2 * x[0].size)) for each in kernels.BANDWIDTHS]
        said = ", ".join(f"{each:.3g}" for each in widths)
        figure = held(kernels.mmd_squared(x, y, std), 0.0, subject)
        return Measured({"mmd_squared": figure}, {"bandwidths": widths}, (("kernels of mmd", f"Gaussian, b = {said}"),))


@dataclasses.dataclass(frozen=True)
class C2ST(Metric):
    """c2st: the share of held-out points, half of them samples, half true, that a small network tells right (1610.06545).

    0.5 for true samples. The network is trained on the other half of both.
    """

    quantities: ClassVar[dict[str, Quantity]] = {"c2st": Quantity("", "target")}
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    def is_default(self, subject: Subject) -> bool:
        return fits(subject)

    def unavailable(self, subject: Subject) -> str | None:
        return super().unavailable(subject) or too_few(subject)

    def measure(self, subject: Subject, key: Key) -> Measured:
        key_true, key_fit = jax.random.split(key)
        x, y = sets(subject, key_true)
        figure = held_out_accuracy(x, y, key_fit)
        return Measured({"c2st": held(figure, 0.5, subject)})
