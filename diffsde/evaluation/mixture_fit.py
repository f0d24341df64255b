"""The metric `mixture`: how well samples follow the known Gaussian mixture of the data."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from diffsde import mixtures
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.metrics.figures import Figure, Reference, mean_figure, root_mean_figure
from diffsde.metrics.mixture import expected_kl, kl_error, label_probabilities, mixture_fit, weight_kl
from diffsde.overlap import Estimate
from diffsde.types import Key


@dataclasses.dataclass(frozen=True)
class MixtureFit(Metric):
    """Figures of samples x under the known mixture p of the data, with posterior responsibilities r_k(x):

    cross_entropy: -mean log p(x), compared with the entropy of p; within_mode_std: sqrt(mean sum_k r_k
    |S_k^-1/2 (x - mu_k)|^2/d), compared with 1; mode_weight_kl: sum_k q_k log(q_k/w_k), q_k = mean r_k, compared with its
    expectation for as many true samples, and left out of one component. For samples with labels, p is the mixture of these labels in their proportions,
    and label_probability, the mean of P(label | x), replaces mode_weight_kl, as the proportions are prescribed.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "cross_entropy": Quantity("nats", "target"),
        "within_mode_std": Quantity("", "target"),
        "mode_weight_kl": Quantity("nats", "lower"),
        "label_probability": Quantity("", "target"),
    }
    needs: ClassVar[tuple[str, ...]] = ("samples", "law")

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is None and subject.dataset.law() is not None

    def measure(self, subject: Subject, key: Key) -> Measured:
        mixture, whole = subject.dataset.law(subject.labels), subject.dataset.law()
        assert mixture is not None and whole is not None and subject.x is not None
        x, labels = np.asarray(subject.x), subject.labels
        log_p, squares, q, covariance = mixture_fit(mixture, x)
        found = {
            "cross_entropy": mean_figure(-log_p, labels).against_estimate(mixtures.entropy(mixture)),
            "within_mode_std": root_mean_figure(squares, labels).against_exact(1.0),
        }
        if labels is not None:
            found["label_probability"] = label_probability(whole, x, labels)
        elif mixture.weights.size > 1:
            weights = np.asarray(mixture.weights, np.float64)
            kl, error = weight_kl(q, weights), kl_error(len(x), q, covariance, weights)
            found["mode_weight_kl"] = Figure(kl, error, Reference("floor", *expected_kl(mixture, len(x))))
        if subject.guided:
            found = {name: figure.alone() for name, figure in found.items()}
        return Measured(found)


def label_probability(mixture: mixtures.Mixture, x: np.ndarray, labels: np.ndarray) -> Figure:
    """The mean of P(label | x) under the mixture, compared with its expectation for true points of the same labels."""
    found = label_probabilities(mixture, x, labels)
    shares, known = (
        np.bincount(labels, minlength=mixture.weights.size) / len(labels),
        mixtures.component_overlap(mixture),
    )
    true = Estimate(float(shares @ known.own), float(np.linalg.norm(shares * known.own_error)))
    return mean_figure(found, labels).against_estimate(true)
