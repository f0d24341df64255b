"""How wrong a field is against the exact one, by t: E|u_theta - u|^2, and what it bounds of the KL divergence of an SDE."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset
from diffsde.fields import Field, bound
from diffsde.metrics.figures import Figure
from diffsde.paths import coefficients
from diffsde.types import Array, Key, Scalar

BINS, POINTS = 20, 500  # intervals of t, and points in each
END = 0.999  # last time: the score is infinite at t = 1 where beta is 0, and a network's error of it with it


class FieldErrors(NamedTuple):
    """By the intervals of t, whose middles are t (k,): means and standard errors (k,).

    velocity: of E|u_theta - u|^2 per coordinate, which is the regret of the velocity's loss. kl_rate: of |u_theta - u + eta
    (s_theta - s)|^2/(4 eta), whose integral over t is KL(P | P_theta) of the paths of the memoryless SDE, sigma_t^2 = 2 eta,
    with the exact field and with the network (Girsanov); None between two laws, where the score may not be known. start: KL of p_t at t = 0 and the noise that sampling starts from.
    """

    t: np.ndarray
    velocity: np.ndarray
    velocity_error: np.ndarray
    kl_rate: np.ndarray | None
    kl_rate_error: np.ndarray | None
    start: Figure

    def field_error(self) -> Figure:
        """The mean over t of E|u_theta - u|^2 per coordinate."""
        return _mean(self.velocity, self.velocity_error)

    def kl_bound(self) -> Figure | None:
        """A bound on KL(p | p_theta) at t = 0.999 of the memoryless SDE with the network, solved exactly; None between two laws."""
        if self.kl_rate is None or self.kl_rate_error is None:
            return None
        found = _mean(self.kl_rate, self.kl_rate_error)
        value, error = (
            END * found.value + self.start.value,
            np.hypot(END * (found.error or 0.0), self.start.error or 0.0),
        )
        return Figure(value, float(error))


def _mean(values: np.ndarray, errors: np.ndarray) -> Figure:
    return Figure(float(values.mean()), float(np.sqrt(np.sum(errors**2)) / len(errors)))


def field_errors(
    field: Field,
    exact: Field,
    dataset: Dataset,
    labels: np.ndarray | None,
    key: Key,
    points: int = POINTS,
    source: Dataset | None = None,
) -> FieldErrors:
    """The errors of a field against the exact one at x_t of true points; labels: of the fields, in turn; None: none. source: the
    law at t = 0 between two laws; None: N(0, I).
    """
    key_data, key_noise, key_time = jax.random.split(key, 3)
    count = BINS * points
    if labels is not None:  # one after another within each interval of t, so that every interval has every label
        labels = labels[np.arange(count) // BINS % len(labels)]
    z = jnp.asarray(dataset.true_points(labels, key_data, count))
    eps = jax.random.normal(key_noise, z.shape, z.dtype)
    place = jnp.arange(count) % BINS
    t = END * (place + jax.random.uniform(key_time, (count,))) / BINS
    condition = None if labels is None else jnp.asarray(labels)
    middles = END * (np.arange(BINS) + 0.5) / BINS
    if source is not None:
        y = jnp.asarray(source.true_points(None, jax.random.fold_in(key_data, 1), count))
        each = np.asarray(_errors_between(field, exact, z, y, eps, t, condition), np.float64).reshape(points, BINS)
        means, errors = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(points)
        return FieldErrors(middles, means, errors, None, None, Figure(0.0, 0.0))
    found = np.asarray(_errors(field, exact, z, eps, t, condition), np.float64).reshape(2, points, BINS)
    means, errors = found.mean(axis=1), found.std(axis=1, ddof=1) / np.sqrt(points)
    return FieldErrors(middles, means[0], errors[0], means[1], errors[1], start_divergence(field, dataset, z))


@jax.jit
def _errors(field: Field, exact: Field, z: Array, eps: Array, t: Array, labels: Array | None) -> Array:
    def of_one(z: Array, eps: Array, t: Scalar, label: Scalar | None) -> Array:
        c = coefficients(field.path, t)
        eta = c.beta**2 * c.dalpha / c.alpha - c.beta_dbeta
        x = c.alpha * z + c.beta * eps
        mine, true = bound(field, label).output(x, t), bound(exact, label).output(x, t)
        assert mine.score is not None and true.score is not None
        velocity, score = mine.velocity - true.velocity, mine.score - true.score
        return jnp.stack([jnp.mean(velocity**2), jnp.sum((velocity + eta * score) ** 2) / (4 * eta)])

    return jax.vmap(of_one)(z, eps, t, labels).T


@jax.jit
def _errors_between(
    field: Field, exact: Field, z: Array, y: Array, eps: Array, t: Array, labels: Array | None
) -> Array:
    def of_one(z: Array, y: Array, eps: Array, t: Scalar, label: Scalar | None) -> Array:
        c = coefficients(field.path, t)
        x = c.alpha * z + c.beta * y + c.gamma * eps
        return jnp.mean((bound(field, label).velocity(x, t) - bound(exact, label).velocity(x, t)) ** 2)

    return jax.vmap(of_one)(z, y, eps, t, labels)


def start_divergence(field: Field, dataset: Dataset, z: Array) -> Figure:
    """KL(p_0 | N(0, beta(0)^2)) in nats: 0 where alpha(0) is 0, by points of p_0 elsewhere."""
    mixture, c = dataset.law(), coefficients(field.path, 0.0)
    if mixture is None or float(c.alpha) == 0:
        return Figure(0.0, 0.0)
    law = mixtures.marginal(mixture, c)
    x = mixtures.sample(law, jax.random.key(0), len(z))
    noise = -jnp.sum((x / c.beta) ** 2, axis=1) / 2 - x.shape[1] * jnp.log(c.beta * np.sqrt(2 * np.pi))
    gaps = np.asarray(jax.vmap(lambda x: mixtures.log_prob(law, x))(x) - noise, np.float64)
    return Figure(float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))))
