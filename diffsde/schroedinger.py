"""The Schroedinger bridge between two Gaussians, in closed form (2202.05722), and its field: what a learned bridge is held against.

Of all processes from N(m0, S0) at t = 0 to N(m1, S1) at t = 1 it is the nearest, in KL divergence, to the Brownian motion sigma W.
The closed form is found on the host, in float64.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.fields import shaped
from diffsde.interpolants import InterpolantField
from diffsde.paths import Bridge, GaussianPath, coefficients
from diffsde.types import Array, Prediction, Scalar, register


class Gaussian(NamedTuple):
    """N(mean, covariance): mean (d,), covariance (d, d)."""

    mean: np.ndarray
    covariance: np.ndarray


class GaussianBridge(NamedTuple):
    """The bridge between two Gaussians: its ends, sigma of the reference sigma W, and cross = Cov(X_0, X_1) (d, d)."""

    start: Gaussian
    end: Gaussian
    sigma: float
    cross: np.ndarray


def bridge(start: Gaussian, end: Gaussian, sigma: float) -> GaussianBridge:
    """The bridge: Cov(X_0, X_1) = (S0^1/2 D S0^-1/2 - sigma^2 I)/2, D = (4 S0^1/2 S1 S0^1/2 + sigma^4 I)^1/2.

    The law of (X_0, X_1) is the entropic coupling of regularisation 2 sigma^2 for the squared distance; for sigma = 0 the
    optimal transport. S0 must be invertible.
    """
    root, inverse = power(start.covariance, 0.5), power(start.covariance, -0.5)
    identity = np.eye(len(root))
    middle = power(4 * root @ end.covariance @ root + sigma**4 * identity, 0.5)
    return GaussianBridge(start, end, sigma, (root @ middle @ inverse - sigma**2 * identity) / 2)


def marginal(known: GaussianBridge, t: float) -> Gaussian:
    """The law of X_t: given its ends it is a Brownian bridge, N((1 - t) X_0 + t X_1, sigma^2 t (1 - t) I)."""
    ahead, behind = t, 1 - t
    mean = behind * known.start.mean + ahead * known.end.mean
    ends = behind**2 * known.start.covariance + ahead**2 * known.end.covariance
    between = ahead * behind * (known.cross + known.cross.T + known.sigma**2 * np.eye(len(mean)))
    return Gaussian(mean, ends + between)


def kl(p: Gaussian, q: Gaussian) -> float:
    """KL(p || q) in nats."""
    shift, inverse = q.mean - p.mean, np.linalg.inv(q.covariance)
    logs = np.linalg.slogdet(q.covariance)[1] - np.linalg.slogdet(p.covariance)[1]
    return float((np.trace(inverse @ p.covariance) - len(shift) + shift @ inverse @ shift + logs) / 2)


def fitted(points: np.ndarray) -> Gaussian:
    """The Gaussian with the mean and the covariance of points (n, d)."""
    return Gaussian(points.mean(axis=0), np.cov(points.T).reshape(points.shape[1], -1))


def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a symmetric positive matrix."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * values**exponent) @ axes.T


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class CoupledGaussians(InterpolantField):
    """The exact field of x_t = alpha z + beta y + gamma eps, (y, z) jointly Gaussian: means (d,), covariances (d, d), cross = Cov(y, z).

    On path=bridge with the cross-covariance of `bridge` it is the Schroedinger bridge's.
    """

    path: GaussianPath
    source_mean: Array
    source_covariance: Array
    mean: Array
    covariance: Array
    cross: Array
    shape: tuple[int, ...]

    def output(self, x: Array, t: Scalar) -> Prediction:
        """By linear regression on x: E[v|x] = E v + Cov(v, x) g, g = C^-1 (x - m), of v = z, y and eps."""
        c = coefficients(self.path, t)
        of_data = c.alpha * self.covariance + c.beta * self.cross.T
        of_source = c.beta * self.source_covariance + c.alpha * self.cross
        spread = c.alpha * of_data + c.beta * of_source + c.gamma**2 * jnp.eye(x.size)
        centred = x.reshape(-1) - c.alpha * self.mean - c.beta * self.source_mean
        g = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(spread), True), centred)
        data, source = self.mean + of_data @ g, self.source_mean + of_source @ g
        velocity = c.dalpha * data + c.dbeta * source + c.gamma_dgamma * g
        return shaped(Prediction(data, c.gamma * g, velocity, -g, source), self.shape)


def exact_field(known: GaussianBridge) -> CoupledGaussians:
    """The field of a bridge; its path is that of the reference sigma."""
    (mean0, covariance0), (mean1, covariance1), sigma, cross = jax.tree.map(
        lambda part: jnp.asarray(part, float), known
    )
    return CoupledGaussians(Bridge(sigma), mean0, covariance0, mean1, covariance1, cross, known.start.mean.shape)
