"""Simulations for pictures of images: trajectories, the ODE and the SDE, interpolations; by at most three compiled programs."""

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

FRAMES = 32  # least number of saved states of a trajectory, if there are that many steps
DEGREES = np.linspace(0, 90, 10)  # angles of an interpolation
BETWEEN = 6  # most interpolations
MIXED = 0.1  # largest alpha/beta at the start for which the starting points are practically noise
SEARCHED = 256  # samples among which the pairs to interpolate are searched


class DenoisedTrajectory(NamedTuple):
    """Trajectories with their denoised states: times (m,), x_t and data = E[z|x_t], both (m, k, *shape)."""

    times: np.ndarray
    x: np.ndarray
    data: np.ndarray


class Slerps(NamedTuple):
    """Spherical interpolations between samples i and j, `ends` (k, 2): images x (k, len(DEGREES), *shape)."""

    ends: np.ndarray
    x: np.ndarray


class ComparisonSimulations(NamedTuple):
    """The simulations: way, trajectories of the first samples; panels, ends of the ODE and of the SDE from the same noise,
    by title; slerp, interpolations between samples. None (panels: empty) where not needed.
    """

    way: DenoisedTrajectory | None
    panels: dict[str, np.ndarray]
    slerp: Slerps | None


def comparison_simulations(drawn: Drawn, followed: int, compared: int, between: bool = True) -> ComparisonSimulations:
    """Trajectories of `followed` samples, `compared` samples of the chosen and of another sampler, and interpolations.

    A sample's noise depends on its own index alone, so that the chosen sampler reproduces the samples themselves. The
    interpolations are simulated together with the ODE sampler, whichever of the two that is.
    """
    sampler, ends = drawn.sampler, pairs_alike(drawn.condition, len(drawn.x))
    if signal(drawn) > MIXED or not between:  # starts are then draws of p_t, and interpolations of them are not
        ends = ends[:0]
    titles = ode_and_sde(sampler, Vanishing())  # sigma_t = beta, which is stable on data near a thin set
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
        at = (
            times if drawn.field.knows_velocity or sampler.stochastic else times[[0, -1]]
        )  # one jump is all that is learnt
        return simulated(drawn, sampler, x, rows, at, save_every, count) if len(rows) else None

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
    """alpha/beta at the samples' starting time."""
    path, start = drawn.field.path, drawn.times[0]
    return float(path.alpha(start) / path.beta(start))


def pairs_alike(condition: Any, n: int) -> np.ndarray:
    """Up to BETWEEN disjoint pairs (k, 2) of samples with the same condition."""
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
    """Spherical interpolation cos(phi) a + sin(phi) b at DEGREES, from a, b (k, *shape) to (k, len(DEGREES), *shape).

    For independent a, b ~ N(0, v I) every interpolated point is ~ N(0, v I) too, unlike on a straight line. In many
    dimensions, where a and b are nearly orthogonal and of equal length, this is the slerp of 2010.02502, eq. 67.
    """
    angles = np.deg2rad(DEGREES)
    along = (1, len(DEGREES)) + (1,) * (a.ndim - 1)
    cosine, sine = (each.reshape(along).astype(a.dtype) for each in (np.cos(angles), np.sin(angles)))
    return cosine * a[:, None] + sine * b[:, None]


@jax.jit
def denoised(field: Field, states: Trajectory, condition: Any) -> tuple[Array, Array]:
    """(x_t/max(1, sqrt(alpha^2 + beta^2)), E[z|x_t]), both (m, k, *shape); the first has the scale of data on every path.

    E[z|x_t] = x_t/alpha where beta = 0.
    """

    def at(t: Scalar, x: Array) -> tuple[Array, Array]:
        c = coefficients(field.path, t)
        data = jax.vmap(lambda x, condition: bound(field, condition).data(x, t))(x, condition)
        return x / jnp.maximum(1, jnp.hypot(c.alpha, c.beta)), jnp.where(c.beta > 0, data, x / c.alpha)

    return jax.lax.map(lambda state: at(*state), states)
