"""An inverse problem: true points, their measurements, and the exact posterior where it is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset, draw_many
from diffsde.datasets.finite import as_points
from diffsde.datasets.scaling import Scaling, to_model, to_own
from diffsde.errors import UserError
from diffsde.inverse import Measurement, Observed, Operator, measure
from diffsde.inverse.measurements import NOISE, read_array
from diffsde.inverse.operators import operator_matrix
from diffsde.mixtures import Mixture
from diffsde.types import Array, Key, Moments

DENSE = 1024  # most coordinates of a point for which an operator is written out as a matrix


class InverseProblem(NamedTuple):
    """k true points truth (k, *shape), their measurements y (k, ...), the operator and noise, and the moments of the data.

    Sample i belongs to measurement i mod k. truth, y and moments are in the data's own units less the data's mean, so that
    float32 can represent data of any offset: with a scaling, truth = std z for z in the model's units, y = A truth + noise eps.
    """

    truth: Array
    y: Array
    operator: Operator
    noise: float
    moments: Moments
    scaling: Scaling | None = None

    def model_operator(self) -> Operator:
        """The operator of the same measurement y for points in the model's units."""
        return self.operator if self.scaling is None else self.operator.scaled(self.scaling.std)

    def about_mean(self, z: Array) -> Array:
        """Points z (n, *shape) in the model's units, converted to the units of `truth`."""
        return z if self.scaling is None else jnp.asarray(self.scaling.std, z.dtype) * z

    def own_truth(self) -> np.ndarray:
        """The true points (k, *shape) in the data's own units, mean included."""
        return to_own(self.scaling, self.model_truth)

    @property
    def model_truth(self) -> np.ndarray:
        """The true points (k, *shape) in the model's units."""
        return np.asarray(self.truth) if self.scaling is None else np.asarray(self.truth) / self.scaling.divisor

    def own_measured(self) -> np.ndarray:
        """The measurements (k, ...) of the points in the data's own units, mean included: y + A mean."""
        if self.scaling is None:
            return np.asarray(self.y)
        mean = np.broadcast_to(self.scaling.mean, self.truth.shape[1:])
        return np.asarray(self.y) + applied_exactly(self.operator, mean)

    def condition(self, n: int, labels: Any = None) -> Observed:
        """The condition of n samples, leaves (n, ...): measurement i mod k for sample i, and its label."""
        return Observed(self.y[jnp.arange(n) % len(self.y)], labels)


def applied_exactly(operator: Operator, z: np.ndarray) -> np.ndarray:
    """A z for one point z (*shape,), in float64 whatever the precision of the process."""
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), operator)
        return np.asarray(exact.apply(jnp.asarray(z, jnp.float64)))


def pose(
    measurement: Measurement,
    file: str | None,
    count: int,
    dataset: Dataset,
    moments: Moments,
    key: Key,
    scaling: Scaling | None = None,
) -> InverseProblem:
    """The inverse problem of `count` points: the first of `file`, else of the test split, else draws of the data's law.

    Raises UserError where there are no such points, or they have another shape.
    """
    shape = moments.mean.shape
    operator = measurement.operator(shape)
    key_truth, key_noise = jax.random.split(key)
    if file is not None:
        truth = jnp.asarray(read_points(file, shape, scaling)[:count])
    elif dataset.count_points(dataset.load()) is not None:
        try:
            truth = as_points(dataset.held_out().x[:count])
        except UserError as error:
            raise UserError(f"{error}; or give truth=<file.npy>, the points to be measured") from None
    else:
        truth = draw_many(dataset, dataset.load(), key_truth, count)
    noise = measurement.noise or NOISE
    if measurement.noise is None and scaling is not None:
        noise = NOISE * typical_std(operator.scaled(scaling.std), shape)
    posed = InverseProblem(truth, truth, operator, noise, moments, scaling)
    truth = posed.about_mean(truth)
    y = measure(operator, noise, truth, key_noise)
    return posed._replace(truth=truth, y=y, moments=moments._replace(mean=posed.about_mean(moments.mean)))


def typical_std(operator: Operator, shape: tuple[int, ...]) -> float:
    """The typical std of a measured number for independent coordinates of std 1: |A|_F/sqrt(rank), a root mean square.

    Above DENSE coordinates |A|_F^2 = E |A eps|^2 is estimated from 256 draws of eps.
    """
    if int(np.prod(shape)) <= DENSE:
        squares = jnp.sum(operator_matrix(operator, shape, jnp.result_type(float)) ** 2)
    else:
        eps = jax.random.normal(jax.random.key(0), (256, *shape))
        squares = jnp.sum(applied(operator, eps) ** 2) / len(eps)
    return float(jnp.sqrt(squares / operator.rank))


def read_points(file: str, shape: tuple[int, ...], scaling: Scaling | None) -> np.ndarray:
    """Points (k, *shape) from a .npy file, in the model's units; images in bytes are scaled to [-1, 1]. Raises UserError."""
    values = read_array(file, "truth")
    if values.dtype == np.uint8 and len(shape) == 3 and values.ndim == 3:
        values = values[..., None]
    if values.shape[1:] != shape or not len(values):
        raise UserError(f"truth: '{file}' has shape {values.shape}; it must be (k, {', '.join(map(str, shape))})")
    if not np.isfinite(values).all():
        raise UserError(f"truth: '{file}' has NaN or infinity")
    if values.dtype == np.uint8 and scaling is None:
        return np.asarray(as_points(jnp.asarray(values)))
    return to_model(scaling, values)


def law(problem: InverseProblem, dataset: Dataset, i: int) -> Mixture | None:
    """The exact posterior p(z | y_i), if the data's law is a mixture; else None."""
    mixture = dataset.law()
    if mixture is None:
        return None
    matrix = operator_matrix(problem.operator, problem.truth.shape[1:], problem.truth.dtype)
    return posterior_of(mixture, matrix, problem.y[i].reshape(-1), problem.noise)


posterior_of = jax.jit(mixtures.posterior)


@jax.jit
def applied(operator: Operator, z: Array) -> Array:
    """A z for points z (n, *shape)."""
    return jax.vmap(operator.apply)(z)
