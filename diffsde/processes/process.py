"""The process interface: drift and diffusion of an SDE dX = b(X, t) dt + sigma(X, t) dW, and what is known of its law."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.mixtures import Mixture
from diffsde.types import Array, Scalar

Numbers = float | tuple[float, ...]  # a number for all coordinates, or one for each
TRIED = 16  # points at which the slope of a diffusion is looked at


def across(numbers: Numbers) -> Array | float:
    """A parameter as it multiplies a point: a number (), or an array (d,) of one number a coordinate."""
    return jnp.stack([jnp.asarray(each) for each in numbers]) if isinstance(numbers, tuple) else numbers


def on_host(numbers: Numbers) -> np.ndarray:
    """A parameter as an array () or (d,) in float64; not for compiled code."""
    return np.asarray(numbers, np.float64)


def entries_of(*parameters: Numbers) -> int | None:
    """How many coordinates parameters are for; None where all are numbers. Raises ValueError where two lists differ in length."""
    sizes = {len(each) for each in parameters if isinstance(each, tuple)}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            f"lists of {' and '.join(map(str, sorted(sizes)))} numbers; give a number, or one a coordinate"
        )
    return next(iter(sizes), None)


class Start(NamedTuple):
    """The law of the starting points by coordinate: mean and variance, arrays of one shape in float64."""

    mean: np.ndarray
    variance: np.ndarray


class Process(abc.ABC):
    """An SDE dX = b(X, t) dt + sigma(X, t) dW, in Ito's sense, of one point x (*shape,) and a time t ().

    The noise of a coordinate is its own: sigma is a number () or one a coordinate (*shape,). A process is a pytree, so that
    compiled programs take it as an argument and those of a sweep are vmapped.
    starts_at: the starting point, in every coordinate, where the user names none.
    """

    starts_at: ClassVar[float] = 0.0

    @abc.abstractmethod
    def drift_at(self, x: Array, t: Scalar) -> Array:
        """b(x, t) (*shape,)."""

    @abc.abstractmethod
    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        """sigma(x, t): a number (), or one a coordinate (*shape,)."""

    def at(self, x: Array, t: Scalar) -> tuple[Array, Scalar]:
        """(drift, diffusion) at (x, t), by one evaluation where they share one."""
        return self.drift_at(x, t), self.diffusion_at(x, t)

    def velocity(self, x: Array, t: Scalar) -> Array:
        """The drift, by the name under which a method for an ODE asks for it: of a process without noise it is the velocity."""
        return self.drift_at(x, t)

    def bind(self, condition: Any) -> Process:
        """Raises TypeError: a process has no condition to be given."""
        raise TypeError("a process has nothing to be given")

    def resolved(self) -> Process:
        """The process that is simulated: this one, with what has to be computed outside of compiled programs. Raises UserError."""
        return self

    @property
    def dimension(self) -> int | None:
        """Number of coordinates that the process is for; None: any."""
        return None

    @property
    def additive(self) -> bool:
        """Whether the diffusion does not depend on x, so that Ito's and Stratonovich's integrals are the same: by its slope at
        some points, where a process does not say. Not for compiled code.
        """
        at = 3.0 * jax.random.normal(jax.random.key(0), (TRIED, self.dimension or 1))
        slopes = jax.vmap(jax.jacfwd(lambda x: jnp.asarray(self.diffusion_at(x, 1.0), float)))(at)
        return not bool(jnp.any(slopes != 0))

    @property
    def noiseless(self) -> bool:
        """Whether the diffusion is 0 everywhere: the process is an ODE. Not for compiled code."""
        return not np.any(on_host(getattr(self, "sigma", 1.0)))

    def landmarks(self, d: int) -> np.ndarray:
        """Points (k, d) beside the starting points at which the drift's rates tell how short a step must be."""
        return np.zeros((0, d))

    def mean(self, t: float, start: Start) -> np.ndarray | None:
        """E X_t by coordinate, exactly; None where it is not known. Here and below in float64, not for compiled code."""
        return None

    def covariance(self, s: float, t: float, start: Start) -> np.ndarray | None:
        """Cov(X_s, X_t) of each coordinate, s <= t, exactly; None where it is not known."""
        return None

    def log_prob(self, x: np.ndarray, t: float, start: Start) -> np.ndarray | None:
        """log p_t of a coordinate at points x (m,), of a process begun at N(mean, variance), both (); None where not known."""
        return None

    def stationary(self, d: int) -> Mixture | None:
        """The law that the process leaves as it is, in d coordinates, where it is a Gaussian mixture; None for any other."""
        return None

    def log_stationary(self, x: np.ndarray) -> np.ndarray | None:
        """log of the stationary density of a coordinate at points x (m,), up to a constant; None where there is no such law, or
        the coordinates are not independent of one another.
        """
        return None

    def autocorrelation_time(self, d: int) -> float | None:
        """The integral of the slowest coordinate's autocorrelation over all lags, where the process is stationary; None where it
        is not known.
        """
        return None
