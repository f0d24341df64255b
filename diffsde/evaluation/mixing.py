"""How fast paths forget where they were: autocorrelation time, effective sample size, and changes of mode."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from diffsde import mixtures
from diffsde.metrics.autocorrelation import Autocorrelation, autocorrelation
from diffsde.metrics.figures import Figure, mean_figure

LONG = 4.0  # autocorrelation times that a path must last to have forgotten its start: an exponential falls to e^-8 then
COORDINATES = 8  # at most, whose autocorrelation is computed


class Mixing(NamedTuple):
    """Of the second half of paths: the autocorrelation of the slowest coordinate (its index), in states `every` apart."""

    slowest: int
    found: Autocorrelation
    every: float
    length: float

    @property
    def time(self) -> Figure:
        """The integrated autocorrelation time, the integral of rho over all lags, in units of t."""
        return Figure(self.found.time * self.every, self.found.error * self.every)

    @property
    def ess(self) -> Figure:
        """The effective sample size of half a path: its length over the autocorrelation time."""
        value = self.length / self.time.value
        return Figure(value, value * (self.found.error / self.found.time))

    @property
    def forgotten(self) -> bool:
        """Whether a path is long enough to have forgotten its start. A time that is not resolved is half its true value at least
        where this holds.
        """
        return 2 * self.length >= LONG * self.time.value


def mixing_of(times: np.ndarray, x: np.ndarray, mean: np.ndarray | None) -> Mixing | None:
    """The mixing of paths x (m, k, d) at equally spaced `times`, about the stationary mean (d,), or their own where that is None.

    None where there are too few states.
    """
    half = len(times) // 2
    if len(times) - half < 4:
        return None
    series = x[half:]
    found = [
        autocorrelation(series[..., j], None if mean is None else float(mean[j]))
        for j in range(min(series.shape[-1], COORDINATES))
    ]
    slowest = int(np.argmax([each.time for each in found]))
    every = float(times[-1] - times[half]) / (len(times) - 1 - half)
    return Mixing(slowest, found[slowest], every, float(times[-1] - times[half]))


def modes_of(x: np.ndarray, law: mixtures.Mixture | None) -> np.ndarray | None:
    """The mode that each state x (m, k, d) is in: the likeliest component, or the sign on a line; None for one component."""
    if law is None:
        return np.asarray(x[..., 0] > 0, np.int64)
    return (
        np.asarray(_likeliest(law, x.reshape(-1, x.shape[-1]))).reshape(x.shape[:2]) if law.weights.size > 1 else None
    )


@jax.jit
def _likeliest(law: mixtures.Mixture, x: np.ndarray) -> jax.Array:
    return jax.vmap(lambda point: mixtures.responsibilities(law, point).argmax())(x)


def changes_of_mode(modes: np.ndarray) -> Figure:
    """How often a path goes over into another mode, from its modes (m, k) at the saved states."""
    return mean_figure((np.diff(modes, axis=0) != 0).sum(axis=0).astype(np.float64))


def in_words(mixing: Mixing, changes: Figure | None) -> list[str]:
    """What the mixing says of the samples."""
    tau, whole = mixing.time.value, 2 * mixing.length
    lines = []
    if mixing.forgotten:
        lines.append(f"each path lasts {whole / tau:.2g} autocorrelation times and has forgotten its start")
    else:
        about = f"at least {tau:.3g}" if not mixing.found.resolved else f"{tau:.3g}"
        lines += [
            f"slow mixing: the autocorrelation time is {about} and a path lasts {whole:.3g}, too short to forget its start:",
            "the paths are independent of one another, but where each began still shows; take t_end larger",
        ]
    if changes is not None and changes.value < 5:
        lines.append(f"a path changes its mode {changes.value:.2g} times on average")
    return lines
