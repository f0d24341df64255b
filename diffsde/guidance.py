"""Guidance: fields that move a field's predictions towards a label, by another field or a classifier at the same point."""

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
    """A field guided with weight w for t in [start, end], and unguided elsewhere (2404.07724: guidance in an interval)."""

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

    @property
    def gaussian(self) -> bool:
        return self.field.gaussian

    @property
    def knows_score(self) -> bool:
        return self.field.knows_score

    @property
    def knows_velocity(self) -> bool:
        return self.field.knows_velocity

    @property
    def knows_data(self) -> bool:
        return self.field.knows_data

    @property
    def follows_path(self) -> bool:
        return self.field.follows_path

    @final
    def output(self, x: Array, t: Scalar) -> Prediction:
        inside = (self.start <= t) & (t <= self.end)
        return jax.lax.cond(inside, self.guided, self.field.output, x, jnp.asarray(t, x.dtype))

    @abc.abstractmethod
    def guided(self, x: Array, t: Scalar) -> Prediction:
        """The guided predictions at (x, t), for t inside the interval."""


def bind_label(field: Field, label: Scalar | None) -> Field:
    """The field with the label bound to it, if the field is conditional; else unchanged."""
    return field.bind(label) if field.classes else field


def extrapolated(away: Prediction, toward: Prediction, weight: Scalar) -> Prediction:
    """away + w (toward - away), equal to `toward` at w = 1. The four predictions stay consistent, as affine maps of one another."""
    return jax.tree.map(lambda a, b: a + weight * (b - a), away, toward)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class ClassifierFree(Guided):
    """Classifier-free guidance: D(x) + w (D(x|label) - D(x)), both by one conditional field (2207.12598, eq. 6, its w is w - 1)."""

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
    """Autoguidance: D_0(x) + w (D(x) - D_0(x)), D_0 by an earlier checkpoint or a smaller network (2406.02507, eq. 4).

    A label is bound to `field`, and to `worse` if it is conditional.
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
    """p(label | x_t) by a network with logits (classes,), whose inputs are predictions.linear_denoised(x) and t."""

    path: GaussianPath
    params: Any
    moments: Moments
    graph: Graph
    classes: int

    def log_probs(self, x: Array, t: Scalar) -> Array:
        """log p(label | x_t = x) for every label, (classes,)."""
        return self.of_estimate(predictions.linear_denoised(x, coefficients(self.path, t), self.moments), t)

    def of_estimate(self, estimate: Array, t: Scalar) -> Array:
        """log_probs (classes,) as a function of linear_denoised(x) (*shape,)."""
        return jax.nn.log_softmax(apply(self.graph, self.params, estimate, t))

    def likelihood_score(self, x: Array, t: Scalar, label: Scalar) -> Array:
        """grad log p(label | x_t = x)/alpha, (*shape,), finite also where alpha = 0."""
        c = coefficients(self.path, t)
        estimate = predictions.linear_denoised(x, c, self.moments)
        gradient = jax.grad(lambda estimate: self.of_estimate(estimate, t)[label])(estimate)
        return predictions.linear_gain(c, self.moments) * gradient


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class ClassifierGuided(Guided):
    """Classifier guidance: grad log p_t(x) + w grad log p(label | x_t = x) (2105.05233, eq. 14).

    Without a label it is the field itself. The label is bound to the field too, if the field is conditional.
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
