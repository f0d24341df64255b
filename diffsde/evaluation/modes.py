"""The metric `modes`: the mean and the covariance of each mode of samples beside those of the known mixture."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from diffsde import mixtures
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.metrics.figures import mean_figure
from diffsde.metrics.modes import mode_errors
from diffsde.types import Key

SETS = 8  # of true points, whose own errors are the floor
MOST = 64  # coordinates: the covariances of more are many numbers from few points


@dataclasses.dataclass(frozen=True)
class Modes(Metric):
    """Errors of the samples' mean and covariance within each mode, in its own whitened coordinates, z = S_k^-1/2 (x - mu_k):

    mode_mean_error: root mean square over modes and coordinates of the weighted mean of z; mode_covariance_error: root mean
    square over modes of |mean of z z^T - I|_F/sqrt(d). Samples count for a mode by its posterior probability. Their weights are the
    metric `mixture`'s mode_weight_kl. Neither figure where a mode has fewer than two samples: the mean over the others would
    make samples that miss a mode look better than those that have it.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "mode_mean_error": Quantity("stds of the mode", "lower"),
        "mode_covariance_error": Quantity("of the mode's variances", "lower"),
    }
    needs: ClassVar[tuple[str, ...]] = ("samples", "law")

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is None and self.unavailable(subject) is None

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject):
            return why
        law = subject.dataset.law()
        assert law is not None
        d = law.means.shape[1]
        return f"it is of up to {MOST} coordinates; the points have {d}" if d > MOST else None

    def measure(self, subject: Subject, key: Key) -> Measured:
        mixture, x = subject.dataset.law(subject.labels), subject.samples
        assert mixture is not None
        found, without = mode_errors(mixture, x)
        if without:
            why = f"{without} of {len(mixture.weights)}; errors are of all modes, and are left out"
            return Measured({}, {"modes_without_samples": without}, (("modes without samples", why),))
        found = {name: figure._replace(points=len(x)) for name, figure in found.items()}
        if subject.guided:
            found = {name: figure.alone() for name, figure in found.items()}
        else:
            true = [
                mode_errors(mixture, np.asarray(self.drawn(subject, mixture, each)))[0]
                for each in jax.random.split(key, SETS)
            ]
            for name, figure in found.items():
                if floors := [each[name].value for each in true if each]:
                    found[name] = figure.against("floor", mean_figure(np.array(floors)))
        return Measured(found, {"modes_without_samples": 0})

    def drawn(self, subject: Subject, mixture: mixtures.Mixture, key: Key) -> np.ndarray:
        """As many true points as there are samples, with their labels if they have any."""
        if subject.labels is not None:
            return subject.dataset.true_points(subject.labels, key, subject.n)
        return np.asarray(mixtures.sample(mixture, key, len(subject.samples)))
