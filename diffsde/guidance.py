"""Guidance: fields that lean a field towards a label, by what another field or a classifier says at the same point."""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp

from diffsde import predictions
from diffsde.fields import Field
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Prediction, Scalar, register


class Guided(Field):
    """A field within [start, end] in t guided with a weight w, elsewhere as it is (2404.07724: guidance helps in between)."""

    field: Field
    weight: Scalar
    start: Scalar
    end: Scalar

    @property
    def path(self) -> GaussianPath:  # type: ignore[override]  # read-only, derived
        return self.field.path

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.field.shape

    @property
    def classes(self) -> int:
        return self.field.classes

    @final
    def output(self, x: Array, t: Scalar) -> Prediction:
        inside = (self.start <= t) & (t <= self.end)
        return jax.lax.cond(inside, self.guided, self.field.output, x, jnp.asarray(t, x.dtype))

    @abc.abstractmethod
    def guided(self, x: Array, t: Scalar) -> Prediction:
        """What is predicted at (x, t) inside the interval."""


def bind_label(field: Field, label: Scalar | None) -> Field:
    """The field given the label, where it is conditional; else as it is."""
    return field.bind(label) if field.classes else field


def extrapolated(away: Prediction, toward: Prediction, weight: Scalar) -> Prediction:
    """away + w (toward - away), which w = 1 leaves as `toward`. All four are affine in one another, and stay consistent."""
    return jax.tree.map(lambda a, b: a + weight * (b - a), away, toward)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class ClassifierFree(Guided):
    """D(x) + w (D(x|label) - D(x)), both of one conditional field (2207.12598, eq. 6, whose w is w - 1 here)."""

    field: Field
    weight: Scalar
    start: Scalar = 0.0
    end: Scalar = 1.0

    def bind(self, condition: Any) -> Field:
        return dataclasses.replace(self, field=self.field.bind(condition))

    def guided(self, x: Array, t: Scalar) -> Prediction:
        return extrapolated(self.field.bind(None).output(x, t), self.field.output(x, t), self.weight)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Autoguided(Guided):
    """D_0(x) + w (D(x) - D_0(x)), D_0 a worse version of D, of an earlier checkpoint or a smaller net (2406.02507, eq. 4).

    A label is bound to both, where they are conditional.
    """

    field: Field
    worse: Field
    weight: Scalar
    start: Scalar = 0.0
    end: Scalar = 1.0

    def bind(self, condition: Any) -> Field:
        return dataclasses.replace(self, field=self.field.bind(condition), worse=bind_label(self.worse, condition))

    def guided(self, x: Array, t: Scalar) -> Prediction:
        return extrapolated(self.worse.output(x, t), self.field.output(x, t), self.weight)


@partial(register, static=["graph", "classes"])
@dataclasses.dataclass(frozen=True)
class Classifier:
    """p(label | x_t), from a network with logits (classes,) that sees the best linear estimate of the data."""

    path: GaussianPath
    params: Any
    moments: Moments
    graph: Graph
    classes: int

    def log_probs(self, x: Array, t: Scalar) -> Array:
        """log p(label | x_t = x) of every label, (classes,)."""
        return self.of_estimate(predictions.linear_denoised(x, coefficients(self.path, t), self.moments), t)

    def of_estimate(self, estimate: Array, t: Scalar) -> Array:
        """log_probs as a function of linear_denoised(x) (*shape,)."""
        return jax.nn.log_softmax(apply(self.graph, self.params, estimate, t))

    def likelihood_score(self, x: Array, t: Scalar, label: Scalar) -> Array:
        """grad log p(label | x_t = x)/alpha, (*shape,), regular also where alpha = 0."""
        c = coefficients(self.path, t)
        estimate = predictions.linear_denoised(x, c, self.moments)
        gradient = jax.grad(lambda estimate: self.of_estimate(estimate, t)[label])(estimate)
        return predictions.linear_gain(c, self.moments) * gradient


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class ClassifierGuided(Guided):
    """grad log p_t(x) + w grad log p(label | x_t = x) (2105.05233, eq. 14); without a label, the field itself.

    The label is bound to the field too, where it is conditional.
    """

    field: Field
    classifier: Classifier
    weight: Scalar
    start: Scalar = 0.0
    end: Scalar = 1.0
    label: Scalar | None = None

    @property
    def classes(self) -> int:
        return self.classifier.classes

    def bind(self, condition: Scalar | None) -> Field:
        return dataclasses.replace(self, field=bind_label(self.field, condition), label=condition)

    def guided(self, x: Array, t: Scalar) -> Prediction:
        plain = self.field.output(x, t)
        if self.label is None:
            return plain
        likelihood_score = self.weight * self.classifier.likelihood_score(x, t, self.label)
        return predictions.with_likelihood_score(plain, likelihood_score, coefficients(self.path, t))
