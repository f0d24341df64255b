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
    """What the field of a posterior is given: the measurement y, and what its prior is given, a label; None: nothing."""

    y: Array
    label: Any = None


class PosteriorField(Field):
    """The field of p(z | y), by the field `prior` of p(z). `bind` gives it the y (and the label) of another sample."""

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

    @final
    def bind(self, condition: Observed) -> Field:
        return dataclasses.replace(self, prior=bound(self.prior, condition.label), y=condition.y)  # type: ignore[type-var]  # every one is a dataclass


class ApproximateField(PosteriorField):
    """p(z | x_t) taken to be a Gaussian about D = E[z|x_t], so that y is N(A D, noise_std^2 I + A C A^T):

        grad log p(y | x_t) = J^T A^T v,   (noise_std^2 I + A C A^T) v = y - A D,   J = dD/dx.

    C is what the method says. Before `begin` the likelihood score grad log p(y | x_t)/alpha is that at `begin`: where alpha = 0, x tells
    nothing of z, J is 0, and J/alpha cannot be had from the prior's field; near there it multiplies the error of a network.
    """

    begin: Scalar

    @abc.abstractmethod
    def solve(self, residual: Array, spread: Callable[[Array], Array]) -> Array:
        """v for y - A D, both like y; spread(v) = A Cov[z|x_t] A^T v."""

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
    """C = Cov[z|x_t] = beta^2/alpha J, Tweedie's (2405.13712): exact for a Gaussian p(z)."""

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
    """C = 0: all of p(z | x_t) in its mean (2209.14687), v = scale (y - A D)/noise_std^2."""

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
    """The exact field: the posterior of a mixture is a mixture, that of finite data is the same data weighed anew."""

    prior: OracleField | EmpiricalField
    operator: Operator
    noise_std: Scalar
    y: Array

    def output(self, x: Array, t: Scalar) -> Prediction:
        return self.law().output(x, t)

    def law(self) -> OracleField | EmpiricalField:
        """The field of p(z | y), unconditional."""
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
    """v with shift v + C v = b, product(v) = C v with C >= 0, after so many steps from 0.

    It stays where a direction p has p^T C p < 0: a trained network's Jacobian is neither quite symmetric nor quite positive,
    and steps in such directions have no bound.
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
    """How a field is conditioned on a measurement."""

    @abc.abstractmethod
    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        """The field of p(z | y)."""


@choice
class MMPS(Posterior):
    """mmps: moment-matching posterior sampling: p(y | x_t) with the covariance of z given x_t, by Tweedie's formula.

    iterations: of conjugate gradients a evaluation, each a product with the field's Jacobian. begin: before it the field is
    that at `begin`.
    """

    iterations: int = 5
    begin: float = 0.001

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        return MomentMatching(prior, operator, noise_std, y, self.begin, self.iterations)


@choice
class DPS(Posterior):
    """dps: diffusion posterior sampling: y as if measured of E[z | x_t] itself, with the weight `scale`.

    As published, but that its step size, which stands for scale and depends on the number of steps, is not normalised by
    the residual. begin: before it the field is that at `begin`.
    """

    scale: float = 1.0
    begin: float = 0.001

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        return PointEstimate(prior, operator, noise_std, y, self.begin, self.scale)


@choice
class Exact(Posterior):
    """exact: the field of the posterior itself, where that of the data is exact: run=oracle."""

    def field(self, prior: Field, operator: Operator, noise_std: float, y: Array) -> PosteriorField:
        if not isinstance(prior, OracleField | EmpiricalField):
            raise UserError("posterior=exact needs run=oracle without guidance; for other fields take posterior=mmps")
        return ExactField(prior, operator, noise_std, y)
