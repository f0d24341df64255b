"""The simulations that pictures of images need beside the samples: by two compiled programs, and one for E[z|x_t]."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.ensembles import member
from diffsde.fields import Field, bound
from diffsde.paths import coefficients
from diffsde.runs.pictures.drawn import Drawn, beside
from diffsde.samplers import Sampler, simulate_compiled
from diffsde.samplers.diffusions import Vanishing
from diffsde.samplers.loop import Simulated, Trajectory
from diffsde.types import Array, Scalar

FRAMES = 32  # states kept of a way, at least, where there are that many steps
DEGREES = np.linspace(0, 90, 10)  # along an interpolation
BETWEEN = 6  # interpolations, at most
MIXED = 0.1  # alpha/beta at the start, up to which points are as good as noise
SEARCHED = 256  # samples among which their ends are looked for


class Way(NamedTuple):
    """How samples come about: times (m,), states x_t and E[z|x_t], (m, k, *shape)."""

    times: np.ndarray
    x: np.ndarray
    data: np.ndarray


class Arcs(NamedTuple):
    """Interpolations between samples i and j, `ends` (k, 2): images (k, len(DEGREES), *shape)."""

    ends: np.ndarray
    x: np.ndarray


class Companions(NamedTuple):
    """The ways of the first samples, the ODE and the SDE from the same noise, by title, and what lies between samples."""

    way: Way
    panels: dict[str, np.ndarray]
    arcs: Arcs


def companions(drawn: Drawn, followed: int, compared: int) -> Companions:
    """The ways of `followed` samples, and `compared` of the chosen sampler's beside another's.

    A sample's noise depends on its own index alone, so that the chosen sampler's are the samples themselves. Whichever
    of the two solves the ODE takes the interpolations along.
    """
    sampler, ends = drawn.sampler, pairs(drawn.given, len(drawn.x))
    if signal(drawn) > MIXED:  # points of p_t, of which arcs are not
        ends = ends[:0]
    titles = beside(sampler, Vanishing())  # sigma_t = beta, which is stable on data on a thin set
    other = next(each for each in titles.values() if each is not sampler)
    noise = arcs(drawn.x0[ends[:, 0]], drawn.x0[ends[:, 1]])
    which = np.repeat(ends[:, 0], len(DEGREES))

    def run(sampler: Sampler, count: int, save_every: int | None = None) -> Simulated:
        rows, x = np.arange(count), drawn.x0[:count]
        if not sampler.stochastic:
            rows, x = np.concatenate([rows, which]), jnp.concatenate([x, noise.reshape(-1, *x.shape[1:])])
        return simulate_compiled(
            sampler,
            drawn.field,
            x,
            times,
            drawn.key,
            member(drawn.given, rows),
            last=drawn.last,
            save_every=save_every,
            keep=count,
            coupled=drawn.coupled and sampler.coupled,
        )

    times = drawn.times
    if sampler.adaptive:  # its own steps are not the grid's, and one of them is no way
        times = jnp.linspace(times[0], times[-1], 2 * FRAMES + 1)
    mine = run(sampler, followed, max(1, (len(times) - 1) // FRAMES))
    theirs = run(other, compared)
    assert mine.trajectory is not None
    states = Trajectory(*map(jnp.asarray, mine.trajectory))
    shown, data = denoised(drawn.field, states, member(drawn.given, slice(followed)))
    way = Way(*(np.asarray(each, np.float32) for each in (states.times, shown, data)))
    panels = {title: np.asarray(theirs.x if each is other else drawn.x)[:compared] for title, each in titles.items()}
    ode = np.asarray((theirs if sampler.stochastic else mine).x)
    return Companions(way, panels, Arcs(ends, ode[len(ode) - len(which) :].reshape(noise.shape)))


def signal(drawn: Drawn) -> float:
    """alpha/beta where the samples start."""
    path, start = drawn.field.path, drawn.times[0]
    return float(path.alpha(start) / path.beta(start))


def pairs(given: Any, n: int) -> np.ndarray:
    """Up to BETWEEN pairs of samples (k, 2) that are given the same; no sample is in two of them."""
    n = min(n, SEARCHED)
    kinds = np.zeros(n, int)
    for leaf in jax.tree.leaves(given):
        values = np.column_stack([kinds, np.asarray(leaf)[:n].reshape(n, -1)])
        kinds = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    found: list[tuple[int, int]] = []
    waiting: dict[int, int] = {}
    for i, kind in enumerate(kinds.tolist()):
        if kind in waiting:
            found.append((waiting.pop(kind), i))
        else:
            waiting[kind] = i
    return np.array(sorted(found)[:BETWEEN], int).reshape(-1, 2)


def arcs(a: Array, b: Array) -> Array:
    """cos(phi) a + sin(phi) b from phi = 0 to 90 degrees, (k, *shape) twice to (k, len(DEGREES), *shape).

    Of independent a, b ~ N(0, v) every point is ~ N(0, v) itself, as one of a straight line is not. In many dimensions,
    where a and b are as good as orthogonal and of one length, it is the spherical interpolation of 2010.02502, eq. 67.
    """
    angles = np.deg2rad(DEGREES)
    along = (1, len(DEGREES)) + (1,) * (a.ndim - 1)
    cosine, sine = (jnp.asarray(each.reshape(along), a.dtype) for each in (np.cos(angles), np.sin(angles)))
    return cosine * a[:, None] + sine * b[:, None]


@jax.jit
def denoised(field: Field, states: Trajectory, given: Any) -> tuple[Array, Array]:
    """x_t/max(1, (alpha^2 + beta^2)^(1/2)), which has the size of data on every path, and E[z|x_t]: (m, k, *shape) each.

    E[z|x_t] = x_t/alpha where beta = 0.
    """

    def at(t: Scalar, x: Array) -> tuple[Array, Array]:
        c = coefficients(field.path, t)
        data = jax.vmap(lambda x, given: bound(field, given).data(x, t))(x, given)
        return x / jnp.maximum(1, jnp.hypot(c.alpha, c.beta)), jnp.where(c.beta > 0, data, x / c.alpha)

    return jax.lax.map(lambda state: at(*state), states)
