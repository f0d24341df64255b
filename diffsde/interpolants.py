"""Fields between two laws: exact, between Gaussian mixtures; and any field with its time turned round."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from diffsde import mixtures
from diffsde.fields import Field, shaped
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Prediction, Scalar, register


def path_times(field: Field, times: Any) -> Any:
    """The path's own t, 0 at the source and 1 at the data, at times that a sampler steps through on the field."""
    return 1 - times if isinstance(field, Backward) else times


class InterpolantField(Field):
    """A field between two laws, x_t = alpha z + beta y + gamma eps: `output` gives E[y|x] too."""

    @property
    def gaussian(self) -> bool:
        return False


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class OracleInterpolant(InterpolantField):
    """The exact field between two mixtures, independent of each other (mixtures.predict_between), or to the component `label` ()
    of the data alone; points (*shape,).
    """

    path: GaussianPath
    source: mixtures.Mixture
    mixture: mixtures.Mixture
    shape: tuple[int, ...]
    label: Scalar | None = None

    @property
    def classes(self) -> int:
        return self.mixture.weights.size

    def bind(self, condition: Scalar | None) -> OracleInterpolant:
        return dataclasses.replace(self, label=condition)

    def output(self, x: Array, t: Scalar) -> Prediction:
        law = mixtures.conditioned(self.mixture, self.label)
        exact = mixtures.predict_between(self.source, law, x.reshape(-1), coefficients(self.path, t))
        return shaped(exact, self.shape)

    def log_prob(self, x: Array, t: Scalar) -> Scalar:
        """log p_t(x) in nats, ()."""
        law = mixtures.conditioned(self.mixture, self.label)
        return mixtures.log_prob_between(self.source, law, x.reshape(-1), coefficients(self.path, t))


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Reversed(GaussianPath):
    """A path with its time turned round: the source in the data's place."""

    forward: GaussianPath

    @property
    def formula(self) -> tuple[str, ...]:  # type: ignore[override]  # of the path inside
        alpha, beta, *gamma = self.forward.formula
        return beta, alpha, *gamma

    @property
    def has_gamma(self) -> bool:
        return self.forward.has_gamma

    @property
    def reference_sigma(self) -> Scalar | None:
        return self.forward.reference_sigma

    def alpha(self, t: Scalar) -> Scalar:
        return self.forward.beta(1 - t)

    def beta(self, t: Scalar) -> Scalar:
        return self.forward.alpha(1 - t)

    def variance(self, t: Scalar) -> Scalar:
        return self.forward.alpha(1 - t) ** 2

    def gamma(self, t: Scalar) -> Scalar:
        return self.forward.gamma(1 - t)

    def gamma_variance(self, t: Scalar) -> Scalar:
        return self.forward.gamma_variance(1 - t)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Backward(InterpolantField):
    """A field with its time turned round, s = 1 - t: from the data to the source, which change places.

    The velocity changes its sign, p and the score keep theirs; so every sampler runs backward unchanged. `field` may be Gaussian.
    """

    forward: Field

    @property
    def path(self) -> GaussianPath:  # type: ignore[override]  # read-only, derived
        return Reversed(self.forward.path)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.forward.shape

    @property
    def classes(self) -> int:
        return self.forward.classes

    @property
    def knows_score(self) -> bool:
        return self.forward.knows_score

    @property
    def knows_velocity(self) -> bool:
        return self.forward.knows_velocity

    @property
    def knows_data(self) -> bool:
        return self.forward.knows_data

    @property
    def follows_path(self) -> bool:
        return self.forward.follows_path

    def bind(self, condition: Any) -> Backward:
        return Backward(self.forward.bind(condition))

    def output(self, x: Array, t: Scalar) -> Prediction:
        seen = self.forward.output(x, 1 - t)
        if seen.source is None:  # on a Gaussian path the noise is the source, and none is added on the way
            return Prediction(seen.noise, 0 * seen.noise, -seen.velocity, seen.score, seen.data)
        return Prediction(seen.source, seen.noise, -seen.velocity, seen.score, seen.data)

    def log_prob(self, x: Array, t: Scalar) -> Scalar:
        """log p of the forward field at 1 - t, (), where it is known."""
        return self.forward.log_prob(x, 1 - t)  # type: ignore[attr-defined]  # of an exact field
