"""Time grids: the times of a sampler's steps between start and end."""

from __future__ import annotations

import abc

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.errors import UserError
from diffsde.paths import GaussianPath, log_snr
from diffsde.time_distributions import invert_log_snr
from diffsde.types import Array, choice, on_device


class Grid(abc.ABC):
    """A time grid from `start` to `end`: `place(u, path)` gives its times (n + 1,) for u = 0, 1/n, ..., 1, ends aside."""

    start: float
    end: float

    def check(self) -> None:
        """Raise ValueError where start is not below end."""
        if not self.start < self.end:
            raise ValueError(f"start={self.start}, end={self.end}; start must be below end")

    @abc.abstractmethod
    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        """Times (n + 1,) in float64 for u (n + 1,), equally spaced in [0, 1]."""


def times(grid: Grid, steps: int, path: GaussianPath) -> Array:
    """The grid's times (steps + 1,), increasing from start to end, rounded to multiples of 2^-24.

    Multiples of 2^-24 make every t + h exact in float32, so that no step ends beyond `end` by rounding.
    Raises UserError where two times coincide.
    """
    places = np.array(grid.place(np.linspace(0.0, 1.0, steps + 1), path), np.float64)
    places[0], places[-1] = grid.start, grid.end
    places = np.round(places * 2**24) / 2**24
    stuck = np.diff(places) <= 0
    if stuck.any():
        raise UserError(
            f"grid: times {stuck.argmax()} and {stuck.argmax() + 1} of {steps + 1} do not increase"
            f" ({places[stuck.argmax()]:.6g}, {places[stuck.argmax() + 1]:.6g}); take fewer steps or another grid"
        )
    return on_device(places, float)


def _between(grid: Grid, fraction: np.ndarray) -> np.ndarray:
    return grid.start + (grid.end - grid.start) * fraction


@choice
class AutoGrid(Grid):
    """uniform wherever it suits the scale of the data, else log_snr centred on that scale (solver_error.resolve_grid)."""

    start: float = 0.0
    end: float = 1.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        raise TypeError("grid=auto has no times until it is resolved for the data")


@choice
class OptimisedGrid(Grid):
    """Times tuned for this field, sampler and number of steps: those with which a few points end nearest to a fine solution.

    Found before sampling (time_tuning.py) by least squares, with the aim of 2402.17376 and 2404.14507 but on the field's own ends, begun at
    the best of the fixed grids; half of the points are held out, and say which times are taken.
    """

    start: float = 0.0
    end: float = 1.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        raise TypeError("grid=optimised has no times until they are tuned for a field")


@choice
class UniformGrid(Grid):
    """Equal steps in t."""

    start: float = 0.0
    end: float = 1.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        return _between(self, u)


@choice
class QuadraticGrid(Grid):
    """t = 1 - (1-u)^2: steps shrink linearly towards the data (DDIM's quadratic grid, 2010.02502, appendix D.2)."""

    start: float = 0.0
    end: float = 1.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        return _between(self, 1 - (1 - u) ** 2)


@choice
class CosineGrid(Grid):
    """t = (1 - cos(pi u))/2: steps shrink towards both ends."""

    start: float = 0.0
    end: float = 1.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        return _between(self, (1 - np.cos(np.pi * u)) / 2)


@choice
class ShiftedGrid(Grid):
    """1 - t = s v/(1 + (s-1) v), v = 1 - u: more steps near the noise for s > 1 (2403.03206, eq. 23; s = 3 there)."""

    start: float = 0.0
    end: float = 1.0
    shift: float = 3.0

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        v = 1 - u
        return _between(self, 1 - self.shift * v / (1 + (self.shift - 1) * v))


def _at_log_snr(path: GaussianPath, levels: np.ndarray) -> np.ndarray:
    """Times (n,) at which log(alpha/beta) has the values `levels` (n,); padded, so that few lengths are compiled."""
    filled = np.pad(levels, (0, max(256, 2 ** (len(levels) - 1).bit_length()) - len(levels)), mode="edge")
    return np.asarray(_inverted(path, jnp.asarray(filled)))[: len(levels)]


@jax.jit
def _inverted(path: GaussianPath, levels: Array) -> Array:
    return jax.vmap(lambda level: jnp.asarray(invert_log_snr(path, level)))(levels)


@choice
class LogSNRGrid(Grid):
    """Equal steps in log(alpha/beta) from `low` to `high` (2206.00927); the first and last step extend to `start` and `end`.

    `low` and `high` are clipped to the values of log(alpha/beta) at `start` and `end`.
    """

    start: float = 0.0
    end: float = 1.0
    low: float = -4.0
    high: float = 1.0

    def check(self) -> None:
        Grid.check(self)
        if self.low >= self.high:
            raise ValueError(f"low={self.low}, high={self.high}; low must be below high")

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        low = max(self.low, float(log_snr(path, jnp.asarray(self.start))))
        high = min(self.high, float(log_snr(path, jnp.asarray(self.end))))
        return _at_log_snr(path, low + (high - low) * u)


@choice
class RhoGrid(Grid):
    """Equal steps in (beta/alpha)^(1/rho) from noise_max to noise_min (2206.00364, eq. 5).

    The first and last step extend to `start` and `end`; noise_max and noise_min are clipped to beta/alpha at these times.
    """

    start: float = 0.0
    end: float = 1.0
    noise_min: float = 0.02
    noise_max: float = 80.0
    rho: float = 7.0

    def check(self) -> None:
        Grid.check(self)
        if not self.noise_min < self.noise_max:
            raise ValueError(
                f"noise_min={self.noise_min}, noise_max={self.noise_max}; noise_min must be below noise_max"
            )

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        most = min(self.noise_max, float(jnp.exp(-log_snr(path, jnp.asarray(self.start)))))
        least = max(self.noise_min, float(jnp.exp(-log_snr(path, jnp.asarray(self.end)))))
        roots = most ** (1 / self.rho) + u * (least ** (1 / self.rho) - most ** (1 / self.rho))
        return _at_log_snr(path, -self.rho * np.log(roots))


@choice
class ListGrid(Grid):
    """Your own times, which begin with start and stop at end; `steps`, if given, must be the number of times less one."""

    start: float | None = None  # type: ignore[assignment]  # None: the first time, which it then is
    end: float | None = None  # type: ignore[assignment]
    times: tuple[float, ...] = (0.0, 0.5, 1.0)

    def __post_init__(self) -> None:
        for name, at in (("start", 0), ("end", -1)):
            if getattr(self, name) is None and self.times:
                object.__setattr__(self, name, self.times[at])

    def check(self) -> None:
        if len(self.times) < 2:
            raise ValueError(f"times is {list(self.times)}; it needs two at least, the first and the last")
        Grid.check(self)
        if (self.times[0], self.times[-1]) != (self.start, self.end):
            raise ValueError(f"times must run from start={self.start} to end={self.end}, got {list(self.times)}")

    def place(self, u: np.ndarray, path: GaussianPath) -> np.ndarray:
        if len(u) != len(self.times):
            raise UserError(f"grid.times has {len(self.times)} times, so say steps={len(self.times) - 1}")
        return np.asarray(self.times, np.float64)


GRIDS: dict[str, type[Grid]] = {
    "auto": AutoGrid,
    "uniform": UniformGrid,
    "quadratic": QuadraticGrid,
    "cosine": CosineGrid,
    "shifted": ShiftedGrid,
    "log_snr": LogSNRGrid,
    "rho": RhoGrid,
    "list": ListGrid,
    "optimised": OptimisedGrid,
}
