"""Targets without variance: the exact E[z | x_t] and E[eps | x_t], where the law of the data is known or the data are finite.

L_CFM = E|y_hat - y|^2 = E|y_hat - E[y|x_t]|^2 + E Var(y|x_t) = L_FM + const: the loss against the mean of the target given x_t has
the gradient of the loss against the target itself in expectation (2210.02747, theorem 2), and no variance but that of x_t. Of a finite
data set the minimiser is the set's own field, whose samples are its points.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffsde import mixtures
from diffsde.datasets.finite import as_points
from diffsde.objectives import Draw, Problem
from diffsde.paths import coefficients
from diffsde.posterior_targets import Points, posterior_means
from diffsde.types import Array, Scalar

NUMBERS = 2**24  # most weights of examples times points that are in memory at once


def with_marginal_targets(problem: Problem, arrays: Any, batch: Draw, classes: int) -> Draw:
    """The batch with E[z | x_t] and E[eps | x_t] of its examples; arrays: the law, a mixture, or the finite data (Examples).

    classes: the network's, of which an example's label may be hidden: the means are then given x_t alone.
    """
    if isinstance(arrays, mixtures.Mixture):
        mean, noise = jax.vmap(partial(_of_mixture, problem, arrays))(batch.z, batch.eps, batch.t, batch.label)
        return batch._replace(mean=mean, noise=noise)
    c = jax.vmap(partial(coefficients, problem.path))(jnp.asarray(batch.t))
    points = Points(as_points(jnp.asarray(arrays.x)), arrays.y if classes else None)
    label = None if batch.label is None else jnp.where(jnp.asarray(batch.label) == classes, -1, batch.label)
    rows = batch.z, batch.eps, jnp.asarray(c.alpha / c.beta), label

    def of_rows(part: tuple[Array, Array, Array, Array | None]) -> Array:
        z, eps, ratio, label = part
        return posterior_means(z, eps, ratio, points, problem.moments, label)

    count, most = len(batch.z), max(1, NUMBERS // len(points.z))
    parts = next(n for n in range(1, count + 1) if count % n == 0 and count // n <= most)
    cut = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), rows)
    return batch._replace(mean=jax.lax.map(of_rows, cut).reshape(batch.z.shape))


def _of_mixture(
    problem: Problem, law: mixtures.Mixture, z: Array, eps: Array, t: Scalar, label: Scalar | None
) -> tuple[Array, Array]:
    c = coefficients(problem.path, t)
    x = (c.alpha * z + c.beta * eps).reshape(-1)
    found = mixtures.predict(mixtures.conditioned(law, label), x, c)
    return found.data.reshape(z.shape), found.noise.reshape(z.shape)
