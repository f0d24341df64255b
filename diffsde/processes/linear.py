"""Linear processes, whose mean, covariance and density are known in closed form: Brownian motion, Ornstein-Uhlenbeck, geometric Brownian motion."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from diffsde.mixtures import Mixture
from diffsde.processes.process import Numbers, Process, Start, across, entries_of, on_host
from diffsde.types import Array, Scalar, choice, on_device


def normal_log_prob(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """log N(x; mean, variance)."""
    return -((x - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2


def over_length(theta: np.ndarray, length: float) -> np.ndarray:
    """(1 - e^(-theta length))/theta, which is `length` at theta = 0."""
    safe = np.where(theta == 0, 1.0, theta)
    return np.where(theta == 0, length, -np.expm1(-safe * length) / safe)


class GaussianProcess(Process):
    """A process whose X_t is Gaussian where X_0 is."""

    mean: Callable[[float, Start], np.ndarray]  # type: ignore[assignment]  # both are known
    covariance: Callable[[float, float, Start], np.ndarray]  # type: ignore[assignment]

    def log_prob(self, x: np.ndarray, t: float, start: Start) -> np.ndarray | None:
        return normal_log_prob(x, self.mean(t, start), self.covariance(t, t, start))


@choice
class Brownian(GaussianProcess):
    """brownian: dX = mu dt + sigma dW. X_t ~ N(x0 + mu t, sigma^2 t), Cov(X_s, X_t) = sigma^2 min(s, t)."""

    sigma: Numbers = 1.0
    mu: Numbers = 0.0

    def check(self) -> None:
        entries_of(self.sigma, self.mu)

    @property
    def dimension(self) -> int | None:
        return entries_of(self.sigma, self.mu)

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return across(self.mu) * jnp.ones_like(x)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma)

    def mean(self, t: float, start: Start) -> np.ndarray:
        return start.mean + on_host(self.mu) * t

    def covariance(self, s: float, t: float, start: Start) -> np.ndarray:
        return start.variance + on_host(self.sigma) ** 2 * s


@choice
class OU(GaussianProcess):
    """ou: dX = theta (mu - X) dt + sigma dW (Ornstein-Uhlenbeck).

    Its mean goes to mu as e^(-theta t); its variance to sigma^2/(2 theta), where it is stationary with
    Cov(X_s, X_t) = sigma^2/(2 theta) e^(-theta |t - s|). It is Langevin dynamics of N(mu, sigma^2/(2 theta)).
    """

    theta: Numbers = 0.5
    mu: Numbers = 0.0
    sigma: Numbers = 1.0

    def check(self) -> None:
        entries_of(self.theta, self.mu, self.sigma)

    @property
    def dimension(self) -> int | None:
        return entries_of(self.theta, self.mu, self.sigma)

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return across(self.theta) * (across(self.mu) - x)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma)

    def mean(self, t: float, start: Start) -> np.ndarray:
        mu = on_host(self.mu)
        return mu + (start.mean - mu) * np.exp(-on_host(self.theta) * t)

    def covariance(self, s: float, t: float, start: Start) -> np.ndarray:
        theta, sigma = on_host(self.theta), on_host(self.sigma)
        own = sigma**2 * np.exp(-theta * (t - s)) * over_length(2 * theta, s)
        return start.variance * np.exp(-theta * (s + t)) + own

    def stationary(self, d: int) -> Mixture | None:
        theta, sigma = on_host(self.theta), on_host(self.sigma)
        if theta.min() <= 0 or sigma.min() <= 0:
            return None
        mean, variance = (np.broadcast_to(each, (1, d)) for each in (on_host(self.mu), sigma**2 / (2 * theta)))
        return Mixture(*(on_device(each, float) for each in (mean, variance, np.ones(1))))

    def autocorrelation_time(self, d: int) -> float | None:
        return None if self.stationary(d) is None else float(2 / on_host(self.theta).min())

    def log_stationary(self, x: np.ndarray) -> np.ndarray | None:
        theta, sigma, mu = on_host(self.theta), on_host(self.sigma), on_host(self.mu)
        if max(theta.size, sigma.size, mu.size) > 1 or theta <= 0 or sigma <= 0:
            return None
        return -theta * (x - mu) ** 2 / sigma**2


@choice
class GeometricBrownian(Process):
    """geometric_brownian: dX = mu X dt + sigma X dW. log X_t ~ N(log x0 + (mu - sigma^2/2) t, sigma^2 t), E X_t = x0 e^(mu t)."""

    starts_at = 1.0

    mu: Numbers = 0.1
    sigma: Numbers = 0.5

    def check(self) -> None:
        entries_of(self.mu, self.sigma)

    @property
    def dimension(self) -> int | None:
        return entries_of(self.mu, self.sigma)

    @property
    def additive(self) -> bool:
        return self.noiseless

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return across(self.mu) * x

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma) * x

    def mean(self, t: float, start: Start) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinite where it grows beyond all numbers
            return start.mean * np.exp(on_host(self.mu) * t)

    def covariance(self, s: float, t: float, start: Start) -> np.ndarray:
        square = start.variance + start.mean**2
        with np.errstate(over="ignore", invalid="ignore"):
            growth = np.exp(on_host(self.mu) * (s + t))
            return growth * (square * np.exp(on_host(self.sigma) ** 2 * s) - start.mean**2)

    def log_prob(self, x: np.ndarray, t: float, start: Start) -> np.ndarray | None:
        if start.variance > 0 or start.mean == 0:
            return None
        ratio, variance = x / start.mean, on_host(self.sigma) ** 2 * t
        inside = np.log(np.where(ratio > 0, ratio, 1.0))
        found = normal_log_prob(inside, on_host(self.mu) * t - variance / 2, variance) - np.log(np.abs(x) + (x == 0))
        return np.where(ratio > 0, found, -np.inf)
