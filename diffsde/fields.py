"""Fields: velocity, score, E[z|x] and E[eps|x] at (x, t), by a network, exactly, or derived from other fields."""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from diffsde import empirical, mixtures, predictions
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Moments, Prediction, PredictionType, Scalar, register


class Field(abc.ABC):
    """Velocity, score, E[z|x] and E[eps|x] as functions of one point x (*shape,) and a time t ().

    A field is a pytree, so that compiled programs take it as an argument.
    """

    path: GaussianPath
    shape: tuple[int, ...]

    @property
    def classes(self) -> int:
        """Number of classes: the labels that `bind` takes are 0, ..., classes - 1. 0 for an unconditional field."""
        return 0

    @property
    def gaussian(self) -> bool:
        """Whether the path is Gaussian and leads from N(0, I): alpha and beta are then all that there is to p_t given z."""
        return True

    @property
    def knows_score(self) -> bool:
        """Whether the score is known; between two laws the velocity alone need not give it."""
        return True

    @property
    def knows_data(self) -> bool:
        """Whether E[z|x] is known: where noise is added on the way, the velocity without the score does not give it."""
        return self.knows_score or not self.path.has_gamma

    def bind(self, condition: Any) -> Field:
        """The field given a label (), where `classes` and None mean no label. Raises TypeError for an unconditional field."""
        raise TypeError("an unconditional field has nothing to be given")

    @abc.abstractmethod
    def output(self, x: Array, t: Scalar) -> Prediction:
        """Velocity, score, data and noise at (x, t), each (*shape,), each by its least singular formula."""

    def velocity(self, x: Array, t: Scalar) -> Array:
        """u_t(x) = dalpha E[z|x] + dbeta E[eps|x]."""
        return self.output(x, t).velocity

    def score(self, x: Array, t: Scalar) -> Array:
        """grad log p_t(x), which is -E[eps|x]/beta on a Gaussian path. Raises TypeError where the field does not know it."""
        found = self.output(x, t).score
        if found is None:
            raise TypeError("this field does not know its score")
        return found

    def data(self, x: Array, t: Scalar) -> Array:
        """E[z | x_t = x]."""
        return self.output(x, t).data

    def noise(self, x: Array, t: Scalar) -> Array:
        """E[eps | x_t = x]."""
        return self.output(x, t).noise


def shaped(prediction: Prediction, shape: tuple[int, ...]) -> Prediction:
    """A prediction for vectors (d,) as one for points (*shape,)."""
    return Prediction(*(None if value is None else value.reshape(shape) for value in prediction))  # type: ignore[arg-type]


class Bindable(Protocol):
    """What a condition can be bound to: a field, or whatever else a sampler steps."""

    def bind(self, condition: Any) -> Any: ...


B = TypeVar("B", bound=Bindable)


def bound(field: B, condition: Any) -> B:
    """The field with `condition` bound to it; unchanged where `condition` is None."""
    return field if condition is None else field.bind(condition)


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class OracleField(Field):
    """The exact field of a Gaussian mixture (mixtures.predict), or of the component `label` () alone; points (*shape,)."""

    path: GaussianPath
    mixture: mixtures.Mixture
    shape: tuple[int, ...]
    label: Scalar | None = None

    @property
    def classes(self) -> int:
        return self.mixture.weights.size

    def bind(self, condition: Scalar | None) -> OracleField:
        return dataclasses.replace(self, label=condition)

    def output(self, x: Array, t: Scalar) -> Prediction:
        law = mixtures.conditioned(self.mixture, self.label)
        return shaped(mixtures.predict(law, x.reshape(-1), coefficients(self.path, t)), self.shape)

    def log_prob(self, x: Array, t: Scalar) -> Scalar:
        """log p_t(x) in nats, ()."""
        law = mixtures.marginal(mixtures.conditioned(self.mixture, self.label), coefficients(self.path, t))
        return mixtures.log_prob(law, x.reshape(-1))


@partial(register, static=["shape", "count"])
@dataclasses.dataclass(frozen=True)
class EmpiricalField(Field):
    """The exact field of a finite data set of `count` points (empirical.predict), in chunks by empirical.arrange.

    log_weights (chunks, CHUNK): log-probabilities of the points, up to a constant; None: all are equally likely.
    """

    path: GaussianPath
    chunks: Array
    count: int
    shape: tuple[int, ...]
    log_weights: Array | None = None

    def output(self, x: Array, t: Scalar) -> Prediction:
        c = coefficients(self.path, t)
        return shaped(empirical.predict(self.chunks, self.count, x.reshape(-1), c, self.log_weights), self.shape)

    def log_prob(self, x: Array, t: Scalar) -> Scalar:
        """log p_t(x) in nats, ()."""
        c = coefficients(self.path, t)
        return empirical.posterior(self.chunks, self.count, x.reshape(-1), c, self.log_weights)[1]


def divergence(field: Field, x: Array, t: Scalar) -> Scalar:
    """div u_t(x) = sum_i du_i/dx_i () at one point, exactly, by one forward-mode derivative per coordinate."""

    def along(direction: Array) -> Scalar:
        _, change = jax.jvp(lambda x: field.velocity(x, t), (x,), (direction,))
        return jnp.sum(direction * change)

    return jnp.sum(jax.vmap(along)(jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)))


class NetworkField(Field):
    """A field by a network: preconditioned (predictions.from_network), or raw, the output being the prediction `kind` itself.

    Preconditioned: data and noise are regular at both ends, and so is the velocity where dbeta is finite.
    Raw: every prediction other than `kind` is singular where `predictions.convert` says.
    """

    moments: Moments
    kind: PredictionType
    precondition: bool

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.moments.mean.shape

    @abc.abstractmethod
    def network(self, x: Array, t: Scalar) -> Array:
        """The network's output (*shape,) for its input x (*shape,) at time t ()."""

    def output(self, x: Array, t: Scalar) -> Prediction:
        c = coefficients(self.path, t)
        if not self.precondition:
            return predictions.expand(self.network(x, t), x, c, self.kind)
        seen = predictions.network_input(x, c, self.moments)
        return predictions.from_network(self.network(seen, t), x, c, self.moments)


@partial(register, static=["graph", "kind", "precondition", "classes"])
@dataclasses.dataclass(frozen=True)
class LearnedField(NetworkField):
    """The field of a trained network of `classes` classes (0: unconditional), and the bound `label` (); None: no label."""

    path: GaussianPath
    params: Any
    moments: Moments
    graph: Graph
    kind: PredictionType
    precondition: bool
    classes: int = 0
    label: Scalar | None = None

    def bind(self, condition: Scalar | None) -> Field:
        return dataclasses.replace(self, label=condition) if self.classes else super().bind(condition)

    def network(self, x: Array, t: Scalar) -> Array:
        return apply(self.graph, self.params, x, t, self.label)
