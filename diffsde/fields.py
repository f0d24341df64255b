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

FINE_STEPS = 256  # of RK4, for maps without a closed form; on the 11-component mixture (ot) they err by 1e-5 rms
ARRIVAL = (
    2.0**-12
)  # time before t = 1 from which a finite data set's map goes to E[z|x], which is by then the nearest point
VELOCITY_ALONE = (
    "a flow trained by objective=likelihood has a velocity alone: no score, no E[z|x], and no p_t of its path"
)
ENDS_ALONE = "this model has learnt jumps to t = 1 alone, and neither a velocity nor a score"


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
    def jumps(self) -> bool:
        """Whether the field is a flow map (FlowMap), which knows where its ODE leads."""
        return False

    @property
    def knows_velocity(self) -> bool:
        """Whether the velocity is known, which of a flow map that only jumps to t = 1 it is not."""
        return True

    @property
    def knows_data(self) -> bool:
        """Whether E[z|x] is known: where noise is added on the way, the velocity without the score does not give it."""
        return self.knows_score or not self.path.has_gamma

    @property
    def follows_path(self) -> bool:
        """Whether its ODE goes through the laws p_t of its path; of a flow trained by likelihood only the ends are known."""
        return True

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


class FlowMap(Field):
    """A field that also jumps: X_{s,t}(x), where its ODE dx/dt = u_t(x) takes x from time s to time t, by one evaluation."""

    @property
    def jumps(self) -> bool:
        return True

    @abc.abstractmethod
    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        """X_{s,t}(x), (*shape,); X_{t,t}(x) = x. t may be before s."""

    def average_velocity(self, x: Array, s: Scalar, t: Scalar) -> Array:
        """v_{s,t}(x) = (X_{s,t}(x) - x)/(t - s), (*shape,), the velocity on the average over the jump; v_{t,t} = u_t.

        Between times that are near, d/dr X_{s,r}(x) half way: it errs by (t - s)^2, where a difference would by rounding.
        """
        s, t = jnp.asarray(s, jnp.result_type(float)), jnp.asarray(t, jnp.result_type(float))
        close, half = predictions.near(s, t), (s + t) / 2
        _, slope = jax.jvp(lambda r: self.jump(x, s, r), (half,), (jnp.ones_like(half),))
        return jnp.where(close, slope, (self.jump(x, s, t) - x) / jnp.where(close, 1, t - s))


def solved(field: Field, x: Array, s: Scalar, t: Scalar, steps: int) -> Array:
    """X_{s,t}(x) (*shape,) of a field whose map has no closed form: RK4 in `steps` steps that are equal in a coordinate in which
    they grow short towards both ends of [0, 1], where a law of narrow components, or of points, changes fastest.
    """
    s, t = jnp.asarray(s, jnp.result_type(float)), jnp.asarray(t, jnp.result_type(float))
    first, last = (jnp.arccos(1 - 2 * jnp.clip(each, 0, 1)) for each in (s, t))

    def time(i: Scalar) -> Scalar:
        return (1 - jnp.cos(first + (last - first) * i / steps)) / 2

    def step(i: Scalar, x: Array) -> Array:
        begin = jnp.where(i == 0, s, time(i))
        end = jnp.where(i == steps - 1, t, time(i + 1))
        h = end - begin
        k1 = field.velocity(x, begin)
        k2 = field.velocity(x + h / 2 * k1, begin + h / 2)
        k3 = field.velocity(x + h / 2 * k2, begin + h / 2)
        k4 = field.velocity(x + h * k3, end)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return jax.lax.fori_loop(0, steps, step, x)


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
class OracleField(FlowMap):
    """The exact field of a Gaussian mixture (mixtures.predict), or of the component `label` () alone; points (*shape,).

    Its map is exact for one component; of several RK4's in FINE_STEPS steps.
    """

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

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        law = mixtures.conditioned(self.mixture, self.label)
        if law.weights.size > 1:
            return solved(self, x, s, t, FINE_STEPS)
        c = coefficients(self.path, s), coefficients(self.path, t)
        return mixtures.gaussian_map(law, x.reshape(-1), *c).reshape(self.shape)

    def log_prob(self, x: Array, t: Scalar) -> Scalar:
        """log p_t(x) in nats, ()."""
        law = mixtures.marginal(mixtures.conditioned(self.mixture, self.label), coefficients(self.path, t))
        return mixtures.log_prob(law, x.reshape(-1))


@partial(register, static=["shape", "count"])
@dataclasses.dataclass(frozen=True)
class EmpiricalField(FlowMap):
    """The exact field of a finite data set of `count` points (empirical.predict), in chunks by empirical.arrange; it jumps by RK4.

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

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        c = coefficients(self.path, t)
        arrives = c.beta == 0  # at a point itself, where the velocity is infinite
        found = solved(self, x, s, jnp.where(arrives, 1 - ARRIVAL, t), FINE_STEPS)
        found = jnp.where(arrives, c.alpha * self.data(found, 1 - ARRIVAL), found)
        return jnp.where(arrives & (jnp.asarray(s) == t), x, found)  # a point that is there already

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
