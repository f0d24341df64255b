"""The simulations that pictures of images need beside the samples: by two compiled programs, and one for E[z|x_t]."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.ensembles import member
from diffsde.fields import Field, bound
from diffsde.paths import coefficients
from diffsde.pictures.drawn import Drawn, ode_and_sde, simulated
from diffsde.samplers import Sampler
from diffsde.samplers.diffusions import Vanishing
from diffsde.samplers.loop import Simulated, Trajectory
from diffsde.types import Array, Scalar

FRAMES = 32  # states kept of a trajectory, at least, where there are that many steps
DEGREES = np.linspace(0, 90, 10)  # along an interpolation
BETWEEN = 6  # interpolations, at most
MIXED = 0.1  # alpha/beta at the start, up to which points are as good as noise
SEARCHED = 256  # samples among which their ends are looked for


class DenoisedTrajectory(NamedTuple):
    """How samples come about: times (m,), states x_t and E[z|x_t], (m, k, *shape)."""

    times: np.ndarray
    x: np.ndarray
    data: np.ndarray


class Slerps(NamedTuple):
    """Interpolations between samples i and j, `ends` (k, 2): images (k, len(DEGREES), *shape)."""

    ends: np.ndarray
    x: np.ndarray


class ComparisonSimulations(NamedTuple):
    """The ways of the first samples, the ODE and the SDE from the same noise, by title, and what lies between samples; None
    for what was not asked for.
    """

    way: DenoisedTrajectory | None
    panels: dict[str, np.ndarray]
    slerp: Slerps | None


def comparison_simulations(drawn: Drawn, followed: int, compared: int, between: bool = True) -> ComparisonSimulations:
    """The ways of `followed` samples, and `compared` of the chosen sampler's beside another's, 0 for none; between: and the
    interpolations.

    A sample's noise depends on its own index alone, so that the chosen sampler's are the samples themselves. Whichever
    of the two solves the ODE takes the interpolations along.
    """
    sampler, ends = drawn.sampler, pairs_alike(drawn.condition, len(drawn.x))
    if signal(drawn) > MIXED or not between:  # points of p_t, which interpolations are not
        ends = ends[:0]
    titles = ode_and_sde(sampler, Vanishing())  # sigma_t = beta, which is stable on data on a thin set
    ode, sde = titles.values()
    other = sde if sampler is ode else ode
    x0 = np.asarray(drawn.x0)
    noise = slerp(x0[ends[:, 0]], x0[ends[:, 1]])
    which = np.repeat(ends[:, 0], len(DEGREES))
    times = drawn.times_kept(FRAMES)

    def run(sampler: Sampler, count: int, save_every: int | None = None) -> Simulated | None:
        rows, x = np.arange(count), x0[:count]
        if sampler is ode:
            rows, x = np.concatenate([rows, which]), np.concatenate([x, noise.reshape(-1, *x.shape[1:])])
        return simulated(drawn, sampler, x, rows, times, save_every, count) if len(rows) else None

    mine = run(sampler, followed, max(1, (len(times) - 1) // FRAMES) if followed else None)
    theirs, way, panels = run(other, compared), None, {}
    if followed:
        assert mine is not None and mine.trajectory is not None
        states = Trajectory(*map(jnp.asarray, mine.trajectory))
        shown, data = denoised(drawn.field, states, member(drawn.condition, slice(followed)))
        way = DenoisedTrajectory(*(np.asarray(each, np.float32) for each in (states.times, shown, data)))
    if compared:
        assert theirs is not None
        panels = {
            title: np.asarray(theirs.x if each is other else drawn.x)[:compared] for title, each in titles.items()
        }
    if not between:
        return ComparisonSimulations(way, panels, None)
    solved = mine if sampler is ode else theirs
    found = noise if solved is None else np.asarray(solved.x)[len(solved.x) - len(which) :].reshape(noise.shape)
    return ComparisonSimulations(way, panels, Slerps(ends, found))


def signal(drawn: Drawn) -> float:
    """alpha/beta where the samples start."""
    path, start = drawn.field.path, drawn.times[0]
    return float(path.alpha(start) / path.beta(start))


def pairs_alike(condition: Any, n: int) -> np.ndarray:
    """Up to BETWEEN pairs of samples (k, 2) that are given the same; no sample is in two of them."""
    n = min(n, SEARCHED)
    kinds = np.zeros(n, int)
    for leaf in jax.tree.leaves(condition):
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


def slerp(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """cos(phi) a + sin(phi) b from phi = 0 to 90 degrees, (k, *shape) twice to (k, len(DEGREES), *shape).

    Of independent a, b ~ N(0, v) every point is ~ N(0, v) itself, as one of a straight line is not. In many dimensions,
    where a and b are as good as orthogonal and of one length, it is the spherical interpolation of 2010.02502, eq. 67.
    """
    angles = np.deg2rad(DEGREES)
    along = (1, len(DEGREES)) + (1,) * (a.ndim - 1)
    cosine, sine = (each.reshape(along).astype(a.dtype) for each in (np.cos(angles), np.sin(angles)))
    return cosine * a[:, None] + sine * b[:, None]


@jax.jit
def denoised(field: Field, states: Trajectory, condition: Any) -> tuple[Array, Array]:
    """x_t/max(1, (alpha^2 + beta^2)^(1/2)), which has the size of data on every path, and E[z|x_t]: (m, k, *shape) each.

    E[z|x_t] = x_t/alpha where beta = 0.
    """

    def at(t: Scalar, x: Array) -> tuple[Array, Array]:
        c = coefficients(field.path, t)
        data = jax.vmap(lambda x, condition: bound(field, condition).data(x, t))(x, condition)
        return x / jnp.maximum(1, jnp.hypot(c.alpha, c.beta)), jnp.where(c.beta > 0, data, x / c.alpha)

    return jax.lax.map(lambda state: at(*state), states)
