"""Decisions before a process is simulated: where the paths start, how many steps are taken, and whether they are stable."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import as_config, name_of
from diffsde.datasets import point_shape
from diffsde.datasets.scaling import to_own
from diffsde.errors import UserError
from diffsde.knobs import MOST_TIMES
from diffsde.mixtures import Mixture
from diffsde.processes import Process
from diffsde.processes.process import Start
from diffsde.runs import sizes
from diffsde.runs.process_config import SimulateConfig, in_config_words
from diffsde.samplers import Sampler
from diffsde.solver_error import mixture_covariance
from diffsde.types import Array, Key, on_device

FEWEST, MOST = 200, 20_000  # steps where the user sets none
FINE = 0.02  # largest step then, in units of the time scale at which the drift contracts,
COARSE = 0.5  # ... and in units of any other of its time scales
ROUND = 40  # of which their number is a multiple, so that there are states at the quarters of the time
PROBED = 64  # starting points at which the drift's rates are measured
WIDEST = 16  # most coordinates for which they are
SEGMENTS = 64  # of an adaptive solver, so that there are states to draw
# The step, in units of 1/rate, above which a method is unstable on dX = -rate X dt.
STABLE = {"rk4": 2.785, "ab2": 1.0, "ab3": 6 / 11}
STABLE_ELSE = 2.0


class Starts(NamedTuple):
    """The starting points x (n, *shape), their law by coordinate, and what they are, in words.

    groups (n,): the point that each starts at, where they are dealt from a list; None: one point, or draws of a law.
    parts: (weight, law) of the starting law of a point on a line as a mixture of Gaussians and points; None where it is none.
    """

    x: Array
    law: Start
    words: str
    groups: np.ndarray | None = None
    parts: list[tuple[float, Start]] | None = None


def starts_of(chosen: SimulateConfig, process: Process, key: Key) -> Starts:
    """The starting points of `x0=` or `source=`. Raises UserError where their dimension is not the process's."""
    found = from_source(chosen, key) if chosen.source is not None else from_points(chosen, process)
    shape, d = found.x.shape[1:], process.dimension
    if d not in (None, math.prod(shape)):
        what = "source" if chosen.source is not None else "x0"
        raise UserError(f"{what} has points of {math.prod(shape)} coordinates, but the process is of {d}")
    if name_of(chosen.process) in ("langevin", "expression") and len(shape) > 1:
        raise UserError(f"source has points of shape {shape}; this process is of vectors")
    return found


def from_points(chosen: SimulateConfig, process: Process) -> Starts:
    """n starting points at x0, or taken in turn from the list x0."""
    x0 = chosen.process.starts_at if chosen.x0 is None else chosen.x0
    try:
        points = np.asarray(x0, np.float64)
    except ValueError:
        raise UserError(
            "x0 must be a number, a list of numbers, or a list of points with as many numbers each"
        ) from None
    if not points.size:
        raise UserError("x0 is empty; give a number, or one a coordinate")
    if not points.ndim:
        points = np.full(process.dimension or 1, float(points))
    points = np.atleast_2d(points)
    sizes.require_samples(chosen.n, points.shape[1:], arrays=4)  # in float64 first, each with its number
    groups = np.arange(chosen.n) % len(points)
    x = points[groups]
    words = f"from x0 = {said(points[0])}" if len(points) == 1 else f"from {len(points)} points in turn"
    parts = None
    if points.shape[1] == 1:
        shares = np.bincount(groups, minlength=len(points)) / chosen.n
        parts = [(share, Start(p[0], np.zeros(()))) for share, p in zip(shares.tolist(), points, strict=True) if share]
    law = Start(x.mean(axis=0), x.var(axis=0) if len(points) > 1 else np.zeros(points.shape[1]))
    return Starts(on_device(x, float), law, words, groups if len(points) > 1 else None, parts)


def from_source(chosen: SimulateConfig, key: Key) -> Starts:
    """n starting points drawn from the source, in its own units."""
    source = chosen.source
    assert source is not None
    arrays = source.load()
    sizes.require_samples(chosen.n, point_shape(source, arrays))
    x = jnp.asarray(source.draw_by_index(arrays, key, chosen.n), float)
    scaling = source.scaling(point_shape(source, arrays))
    if scaling is not None:
        x = jnp.asarray(to_own(scaling, x), float)
    words, law = f"from source={in_config_words(as_config(source))}", source.law()
    if law is None:  # the law of the starting points that were drawn, exactly
        own = np.asarray(x, np.float64)
        return Starts(x, Start(own.mean(axis=0), own.var(axis=0)), words)
    parts = components(law) if x.shape[1:] == (1,) else None
    return Starts(x, of_mixture(law), words, None, parts)


def components(law: Mixture) -> list[tuple[float, Start]]:
    """(weight, law) of each component of a mixture on a line."""
    means, variances, weights = (np.asarray(part, np.float64) for part in law[:3])
    return [(float(w), Start(m[0], v[0])) for m, v, w in zip(means, variances, weights, strict=True)]


def of_mixture(law: Mixture) -> Start:
    """Mean and variance of each coordinate of a mixture."""
    covariance = mixture_covariance(law)
    return Start(np.asarray(law.weights, np.float64) @ np.asarray(law.means, np.float64), np.diag(covariance))


def said(numbers: np.ndarray) -> str:
    """Numbers in words: 3, or (1, 2)."""
    each = ", ".join(f"{number:g}" for number in numbers)
    return each if len(numbers) == 1 else f"({each})"


class Rates(NamedTuple):
    """The drift's rates, by the eigenvalues of its derivative: the fastest of all, and the fastest at which it contracts."""

    fastest: float
    contraction: float


def rates_of(process: Process, x: Array) -> Rates:
    """The rates at the first starting points x (n, *shape) and at the process's own landmarks; 0 in many dimensions."""
    d = math.prod(x.shape[1:])
    if d > WIDEST:
        return Rates(0.0, 0.0)
    at = np.concatenate([np.asarray(x[:PROBED]).reshape(-1, d), process.landmarks(d)]).astype(x.dtype)
    slopes = np.asarray(_slopes(process, at), np.float64)
    slopes = slopes[np.isfinite(slopes).all(axis=(1, 2))]
    if not len(slopes):
        return Rates(0.0, 0.0)
    found = np.linalg.eigvals(slopes)
    return Rates(float(np.abs(found).max()), float(max(0.0, (-found.real).max())))


@jax.jit
def _slopes(process: Process, at: Array) -> Array:
    return jax.vmap(jax.jacfwd(lambda x: process.drift_at(x, 0.0)))(at)


def steps_of(chosen: SimulateConfig, rates: Rates) -> int:
    """The number of steps: the user's, or as many as keep a step below FINE and COARSE of the time scales."""
    if chosen.steps is not None:
        return chosen.steps
    if chosen.sampler.adaptive:
        return SEGMENTS
    wanted = chosen.t_end * max(rates.contraction / FINE, rates.fastest / COARSE)
    return int(np.clip(ROUND * math.ceil(wanted / ROUND), FEWEST, MOST))


def unstable(sampler: Sampler, rates: Rates, t_end: float, steps: int) -> str | None:
    """A warning where a step is too long for the drift; None where it is not."""
    if sampler.adaptive:
        return None
    name, size = name_of(sampler), t_end / steps * rates.contraction
    limit = STABLE.get(name, STABLE_ELSE)
    if size <= limit:
        return None
    enough = math.ceil(t_end * rates.contraction / (limit / 4))
    mend = (
        f"take steps={enough} or more"
        if enough <= MOST_TIMES
        else "no number of steps mends that, an earlier t_end may"
    )
    return (
        f"a step of {t_end / steps:.3g} is {size:.3g} times the drift's time scale {1 / rates.contraction:.3g};"
        f" {name} is unstable above {limit:.3g}: {mend}"
    )
