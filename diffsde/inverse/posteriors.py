"""Posteriors p(z | y) of a linear measurement y = A z + noise_std eps, as fields made from the field of p(z)."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from diffsde import mixtures, predictions
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field, OracleField, bound
from diffsde.inverse.operators import Operator, operator_matrix
from diffsde.paths import GaussianPath, coefficients
from diffsde.types import Array, Prediction, Scalar, choice, register


class Observed(NamedTuple):
    """The condition of a posterior's field: the measurement y, and the label of the prior p(z); None: no label."""

    y: Array
    label: Any = None


class PosteriorField(Field):
    """The field of p(z | y), made from the field `prior` of p(z); `bind` replaces y, and binds a label to the prior."""

    prior: Field
    operator: Operator
    noise_std: Scalar
    y: Array

    @property
    def path(self) -> GaussianPath:  # type: ignore[override]  # read-only, derived
        return self.prior.path

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.prior.shape

    @property
    def knows_velocity(self) -> bool:
        return self.prior.knows_velocity

    @final
    def bind(self, condition: Observed) -> Field:
        return dataclasses.replace(self, prior=bound(self.prior, condition.label), y=condition.y)  # type: ignore[type-var]  # every one is a dataclass


class ApproximateField(PosteriorField):
    """The field of p(z | y) with p(z | x_t) approximated by N(D, C), D = E[z|x_t], so that y ~ N(A D, noise_std^2 I + A C A^T):

        grad log p(y | x_t) = J^T A^T v,   (noise_std^2 I + A C A^T) v = y - A D,   J = dD/dx.

    Subclasses choose C. For t < begin the likelihood score grad log p(y | x_t)/alpha is evaluated at t = begin: where
    alpha = 0, x is independent of z and J = 0, so that J/alpha is 0/0, and nearby it amplifies the error of a network.
    """

    begin: Scalar

    @abc.abstractmethod
    def solve(self, residual: Array, spread: Callable[[Array], Array]) -> Array:
        """v from the residual y - A D, both of y's shape; spread(v) = A Cov[z|x_t] A^T v."""

    @final
    def output(self, x: Array, t: Scalar) -> Prediction:
        late = jnp.maximum(t, self.begin)
        c = coefficients(self.path, late)

        def measured(x: Array) -> tuple[Array, Prediction]:
            prediction = self.prior.output(x, late)
            return self.operator.apply(prediction.data), prediction

        expected, pullback, prediction = jax.vjp(measured, x, has_aux=True)

        def back(v: Array) -> Array:
            """J^T A^T v / alpha = Cov[z|x_t] A^T v / beta^2."""
            return pullback(v)[0] / c.alpha

        v = self.solve(self.y - expected, lambda v: c.beta**2 * self.operator.apply(back(v)))
        plain = jax.lax.cond(t < late, lambda: self.prior.output(x, t), lambda: prediction)
        return predictions.with_likelihood_score(plain, back(v), coefficients(self.path, t))


@partial(register, static=["iterations"])
@dataclasses.dataclass(frozen=True)
class MomentMatching(ApproximateField):
    """C = Cov[z|x_t] = beta^2/alpha J, by Tweedie's formula (2405.13712): exact for a Gaussian p(z)."""

    prior: Field
    operator: Operator
    noise_std: Scalar
    y: Array
    begin: Scalar
    iterations: int

    def solve(self, residual: Array, spread: Callable[[Array], Array]) -> Array:
        return conjugate_gradients(spread, self.noise_std**2, residual, self.iterations)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class PointEstimate(ApproximateField):
    """C = 0: p(z | x_t) concentrated at its mean D (2209.14687), v = scale (y - A D)/noise_std^2."""

    prior: Field
    operator: Operator
    noise_std: Scalar
    y: Array
    begin: Scalar
    scale: Scalar

    def solve(self, residual: Array, spread: Callable[[Array], Array]) -> Array:
        return self.scale * residual / self.noise_std**2


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class ExactField(PosteriorField):
    """The exact field of p(z | y): for a mixture again a mixture, for finite data the same points with new weights."""

    prior: OracleField | EmpiricalField
    operator: Operator
    noise_std: Scalar
    y: Array

    def output(self, x: Array, t: Scalar) -> Prediction:
        return self.law().output(x, t)

    def law(self) -> OracleField | EmpiricalField:
        """The field of p(z | y) for the bound y, as an unconditional field."""
        prior = self.prior
        if isinstance(prior, OracleField):
            matrix = operator_matrix(self.operator, self.shape, self.y.dtype)
            law = mixtures.posterior(
                mixtures.conditioned(prior.mixture, prior.label), matrix, self.y.reshape(-1), self.noise_std
            )
            return OracleField(self.path, law, self.shape)

        def log_likelihood(z: Array) -> Array:
            return -jnp.sum((self.y - self.operator.apply(z.reshape(self.shape))) ** 2) / (2 * self.noise_std**2)

        return dataclasses.replace(prior, log_weights=jax.vmap(jax.vmap(log_likelihood))(prior.chunks))


def conjugate_gradients(product: Callable[[Array], Array], shift: Scalar, b: Array, iterations: int) -> Array:
    """The solution v of shift v + C v = b by `iterations` conjugate-gradient steps from 0; product(v) = C v, C >= 0.

    The iteration stops at a direction p with p^T C p < 0: a trained network's Jacobian is neither exactly symmetric nor
    positive semi-definite, and a step along such a direction is unbounded.
    """

    def step(_: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        v, rest, direction, square = state
        image = product(direction)
        curvature, own = jnp.vdot(direction, image), shift * jnp.vdot(direction, direction)
        going = (curvature >= 0) & (own > 0)
        length = jnp.where(going, square / jnp.where(going, own + curvature, 1), 0)
        rest = rest - length * (shift * direction + image)
        after = jnp.where(going, jnp.vdot(rest, rest), square)
        turn = jnp.where(going & (square > 0), after / jnp.where(square > 0, square, 1), 0)
        return v + length * direction, rest, jnp.where(going, rest + turn * direction, direction), after

    return jax.lax.fori_loop(0, iterations, step, (jnp.zeros_like(b), b, b, jnp.vdot(b, b)))[0]


class Posterior(abc.ABC):
    """A method of conditioning a field on a measurement."""

    @abc.abstractmethod
    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        """The field of p(z | y)."""


@choice
class MMPS(Posterior):
    """mmps: moment-matching posterior sampling (2405.13712): p(y | x_t) with Cov[z|x_t] by Tweedie's formula.

    iterations: conjugate-gradient steps per evaluation, each a product with the field's Jacobian. begin: for t < begin the
    likelihood score at `begin` is used.
    """

    iterations: int = 5
    begin: float = 0.001

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        return MomentMatching(prior, operator, noise_std, y, self.begin, self.iterations)


@choice
class DPS(Posterior):
    """dps: diffusion posterior sampling (2209.14687): y as if it were measured of E[z | x_t], with the weight `scale`.

    As published, except that the step size (which depends on the number of steps; here `scale`) is not normalised by the
    norm of the residual. begin: for t < begin the likelihood score at `begin` is used.
    """

    scale: float = 1.0
    begin: float = 0.001

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        return PointEstimate(prior, operator, noise_std, y, self.begin, self.scale)


@choice
class Exact(Posterior):
    """exact: the exact field of the posterior, available where the field of the data is exact: run=oracle."""

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        if not isinstance(prior, OracleField | EmpiricalField):
            raise UserError("posterior=exact needs run=oracle without guidance; for other fields take posterior=mmps")
        return ExactField(prior, operator, noise_std, y)
