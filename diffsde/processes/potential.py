"""Processes that leave a density p as it is: dX = (sigma^2/2) grad log p(X) dt + sigma dW."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset
from diffsde.datasets.mixture import Gaussian
from diffsde.errors import UserError
from diffsde.processes.linear import OU
from diffsde.processes.process import Numbers, Process, Start, across, entries_of, on_host
from diffsde.types import Array, Scalar, choice, register


@choice
class DoubleWell(Process):
    """double_well: dX = theta (X - X^3) dt + sigma dW, each coordinate in a well at -1 or 1, a barrier of theta/4 between them.

    It leaves p(x) ~ exp(-theta (x^2 - 1)^2 / (2 sigma^2)) as it is.
    """

    theta: Numbers = 4.0
    sigma: Numbers = 1.0

    def check(self) -> None:
        entries_of(self.theta, self.sigma)

    @property
    def dimension(self) -> int | None:
        return entries_of(self.theta, self.sigma)

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return across(self.theta) * (x - x**3)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma)

    def landmarks(self, d: int) -> np.ndarray:
        return np.ones((1, d))

    def log_stationary(self, x: np.ndarray) -> np.ndarray | None:
        theta, sigma = on_host(self.theta), on_host(self.sigma)
        if max(theta.size, sigma.size) > 1 or theta <= 0 or sigma <= 0:
            return None
        return -theta * (x**2 - 1) ** 2 / (2 * sigma**2)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class MixtureLangevin(Process):
    """Langevin dynamics of a Gaussian mixture p in d dimensions: dX = (sigma^2/2) grad log p(X) dt + sigma dW."""

    sigma: Numbers
    mixture: mixtures.Mixture

    @property
    def dimension(self) -> int | None:
        return int(self.mixture.means.shape[1])

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return across(self.sigma) ** 2 / 2 * mixtures.score(self.mixture, x)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma)

    def landmarks(self, d: int) -> np.ndarray:
        return np.asarray(self.mixture.means)

    def stationary(self, d: int) -> mixtures.Mixture | None:
        return None if self.noiseless else self.mixture

    @property
    def as_ou(self) -> OU | None:
        """The same process as an Ornstein-Uhlenbeck process, theta = sigma^2/(2 std^2), where the law is one Gaussian; else None."""
        if self.mixture.weights.size > 1 or self.mixture.rotations is not None:
            return None
        mean, variance = (np.asarray(part, np.float64)[0] for part in self.mixture[:2])
        theta = np.broadcast_to(on_host(self.sigma) ** 2 / (2 * variance), mean.shape)
        return OU(tuple(theta.tolist()), tuple(mean.tolist()), self.sigma)

    def mean(self, t: float, start: Start) -> np.ndarray | None:
        return None if self.as_ou is None else self.as_ou.mean(t, start)

    def covariance(self, s: float, t: float, start: Start) -> np.ndarray | None:
        return None if self.as_ou is None else self.as_ou.covariance(s, t, start)

    def log_prob(self, x: np.ndarray, t: float, start: Start) -> np.ndarray | None:
        return None if self.as_ou is None or self.dimension != 1 else self.as_ou.log_prob(x, t, start)

    def autocorrelation_time(self, d: int) -> float | None:
        return None if self.as_ou is None else self.as_ou.autocorrelation_time(d)

    def log_stationary(self, x: np.ndarray) -> np.ndarray | None:
        if self.dimension != 1 or self.noiseless:
            return None
        means, variances, weights = (np.asarray(part, np.float64) for part in self.mixture[:3])
        squares = (x[:, None] - means[:, 0]) ** 2 / variances[:, 0]
        return np.logaddexp.reduce(np.log(weights / np.sqrt(variances[:, 0])) - squares / 2, axis=1)


@choice
class Langevin(Process):
    """langevin: dX = (sigma^2/2) grad log p(X) dt + sigma dW, p the exact density of a dataset, which the process leaves as it is."""

    sigma: Numbers = 1.0
    dataset: Dataset = dataclasses.field(default_factory=Gaussian)

    def resolved(self) -> MixtureLangevin:
        mixture = self.dataset.law()
        if mixture is None:
            raise UserError(
                "process=langevin needs a density that is known: dataset=gaussian, gmm, 8gaussians or mixture;"
                " a set of points, or a curve, has none"
            )
        d, given = mixture.means.shape[1], entries_of(self.sigma)
        if given not in (None, d):
            raise UserError(
                f"process.sigma has {given} entries, but the dataset {d} coordinates; give a number, or {d}"
            )
        return MixtureLangevin(self.sigma, mixture)

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return self.resolved().drift_at(x, t)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return across(self.sigma)
