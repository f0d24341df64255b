"""`diffsde show what=conditional`: p_t(x|z) of single data points z, its field and its trajectories, over the marginal ones.

The path given z is the path of a data set of one point, whose exact field is EmpiricalField's; from a mixture at t = 0 that of
a mixture without width.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import empirical
from diffsde.build import name_of
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import to_model
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field
from diffsde.interpolants import OracleInterpolant
from diffsde.mixtures import Mixture
from diffsde.pictures.places import Places, densities, places, plane_of, reached, reached_on_a_line, vectors
from diffsde.pictures.subjects import Shown, ShownSubject, clouds_at, noised, subject
from diffsde.plots import conditional as plots
from diffsde.plots.arrows import ArrowScale
from diffsde.plots.style import escape_formulas
from diffsde.runs.show_config import ShowConfig
from diffsde.samplers import (
    DDIM,
    Diffusion,
    Euler,
    EulerMaruyama,
    Exponential,
    LoopSettings,
    Sampler,
    Saving,
    simulate_compiled,
)
from diffsde.samplers import times as grid_times
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import prior
from diffsde.types import Array

USUAL = (0.0, 0.3, 0.6, 0.9)  # times
DRAWN = 2  # points z that are drawn where z= names none
MOST = 4  # most points z
ARROWS, DENSE = 17, 120  # places along a side: of arrows, of a density
LINE, BETWEEN = 300, 101  # places on a line, and times of its heat map
LATE = 0.98  # the last time of that heat map: at 1 the law given z is a point
GIVEN = 1000  # draws of x_t given z, which say where it lies
PATHS, STEPS = 30, 200  # trajectories, and their steps


class Way(NamedTuple):
    """Trajectories x (m, k, d) at times (m,), in the data's own units, with their title."""

    title: str
    times: np.ndarray
    x: np.ndarray


def conditional(chosen: ShowConfig) -> Shown:
    """A row for each z, and one for the marginal path: densities, arrows, trajectories."""
    found = subject(chosen)
    if found.d > 2 or len(found.shape) != 1:
        raise UserError(
            "what=conditional draws points on a line or in the plane; these have the shape"
            f" {found.shape}: what=noising shows x_t given z of any data"
        )
    plane_of(found, chosen)
    _check_given(found)
    key_window, key_z, key_paths = jax.random.split(jax.random.key(chosen.seed or 0), 3)
    times, quantity = np.asarray(chosen.times or USUAL), chosen.quantity or "velocity"
    z = points_of(chosen, found, DRAWN, MOST, key_z)
    samplers = _samplers(chosen, found)
    ends = np.array([0.0, 1.0])
    clouds = clouds_at(found, np.append(times, ends), key_window)
    around = [_given_clouds(found, each, np.append(times, ends), key_window) for each in z]
    everything = [*clouds, *(each for cloud in around for each in cloud)]
    line = found.d == 1
    arrows = places(found, chosen, everything, np.zeros(found.d), LINE if line else ARROWS)
    dense = arrows if line else places(found, chosen, everything, np.zeros(found.d), chosen.resolution or DENSE)
    between = np.linspace(0.0, LATE, BETWEEN) if line else times
    arrays = {"times": times, "z": found.own(z), **arrows.axes()}
    if line:
        arrays["between_times"] = between
    else:
        arrays |= {"density_" + name: each for name, each in dense.axes().items()}
    laws, rows = _laws(found, z, around, clouds), []
    for law in laws:
        row = _row(found, law, (arrows, dense), (times, between), quantity)
        if law.field is not None:
            row = row._replace(ways=_ways(found, law, samplers, chosen, jax.random.split(key_paths)))
        rows.append(row)
        arrays |= _arrays(row, law.word, quantity)
    noise = "" if len(samplers) == 1 else f", SDE of diffusion {name_of(list(samplers.values())[1].diffusion)}"  # type: ignore[attr-defined]
    about = f"conditional path, {quantity} and trajectories, given z and marginal: {found.of}{noise}"
    if line:
        x = arrays["x"]
        where = [reached_on_a_line(cloud[: len(times), :, 0], x) for cloud in (law.clouds for law in laws)]
        rows = [row._replace(reached=each) for row, each in zip(rows, where, strict=True)]
        return Shown(
            arrays,
            lambda: plots.on_a_line(rows, x, times, between, arrows.extent, quantity, about),
            about,
        )
    sides = arrays["x"], arrays["y"]
    where = [reached(cloud[: len(times)], arrows.extent, sides) for cloud in (law.clouds for law in laws)]
    rows = [row._replace(reached=each) for row, each in zip(rows, where, strict=True)]
    known = [row for row in rows if row.vectors is not None]
    sizes, places_reached = (np.concatenate([getattr(row, name) for row in known]) for name in ("vectors", "reached"))
    scale = ArrowScale(arrows.extent, len(sides[0]), quantity, [sizes], places_reached)
    return Shown(arrays, lambda: plots.in_the_plane(rows, sides, times, scale, about), about)


def _check_given(found: ShownSubject) -> None:
    """Raise UserError where the path given z is not one, or nothing is known of its field, nor is a trained one there."""
    between = found.between
    if between.series is not None or between.coupling is not None:
        why = (
            "goes through several snapshots"
            if between.series is not None
            else "depends on the batch that z is paired in"
        )
        raise UserError(f"what=conditional: the path given z {why}; take what=field, marginals or noising")
    if between.source is not None and between.source.law() is None and not found.runs:
        raise UserError(
            f"what=conditional: from source={name_of(between.source)} the field given z is not known, whose law is no mixture;"
            " what=noising with z= draws x_t given z"
        )


class DrawnLaw(NamedTuple):
    """A row's law of x_t: its title and its word in show.npz, its field, None where it is not known, the z that is given, and
    draws of x_t (m, n, d) at the times drawn and at both ends, in the data's own units.
    """

    name: str
    word: str
    field: Field | None
    z: np.ndarray | None
    clouds: np.ndarray


def _laws(found: ShownSubject, z: np.ndarray, around: list[np.ndarray], clouds: np.ndarray) -> list[DrawnLaw]:
    """The path given each z, the marginal one, exact where it is known, and with the fields of runs."""
    own = found.own(z)
    each = [
        DrawnLaw(f"given z = {_written(own[i])}", f"given_{i}", given(found, z[i]), own[i], around[i])
        for i in range(len(z))
    ]
    if found.exact is not None or not found.runs:
        each.append(DrawnLaw("marginal", "marginal", found.exact, None, clouds))
    return each + [
        DrawnLaw(f"marginal, {run.title}", f"learned_{i}", run.field, None, clouds) for i, run in enumerate(found.runs)
    ]


def _given_clouds(found: ShownSubject, z: np.ndarray, times: np.ndarray, key: Any) -> np.ndarray:
    """Draws of x_t given z (m, n, d) at times (m,), in the data's own units."""
    many = jnp.broadcast_to(jnp.asarray(z), (GIVEN, *z.shape))
    return found.own(noised(found, many, key, times))


def points_of(chosen: ShowConfig, found: ShownSubject, usual: int, most: int, key: Any) -> np.ndarray:
    """The points z (k, *shape) of z=, or drawn from the data, in the model's units. Raises UserError."""
    if chosen.z is None:
        return found.data(usual, key)
    form = "[0.5,2]" if found.d == 1 else f"[[{','.join(['0'] * min(found.d, 8))}]]"
    if len(found.shape) != 1:
        raise UserError("z: images are drawn from the data; leave it out, and say how many with n=")
    flat = all(not isinstance(each, tuple) for each in chosen.z)
    listed: Any = chosen.z
    if flat:
        listed = [[each] for each in chosen.z] if found.d == 1 else [list(chosen.z)]
    if any(not isinstance(each, tuple | list) or len(each) != found.d for each in listed):
        raise UserError(f"z is {_as_text(chosen.z)}; here a point has {found.d} coordinates, e.g. z={form}")
    if len(listed) > most:
        raise UserError(f"z has {len(listed)} points; at most {most} are drawn")
    return to_model(found.scaling, np.asarray(listed, float))


def _as_text(z: Any) -> str:
    return str([list(each) if isinstance(each, tuple) else each for each in z])


def _written(z: np.ndarray) -> str:
    numbers = ", ".join(f"{each:.3g}" for each in z)
    return escape_formulas(numbers if len(z) == 1 else f"({numbers})")


def given(found: ShownSubject, z: np.ndarray) -> Field | None:
    """The exact field of the path given z: that of a data set of one point; None where the law at t = 0 is no mixture."""
    assert found.path is not None
    if found.between.two_laws:
        source = (found.source or StandardNormal(found.shape)).law()
        point = Mixture(jnp.asarray(z[None], float), jnp.zeros((1, 1)), jnp.ones(1))
        return None if source is None else OracleInterpolant(found.path, source, point, found.shape)
    return EmpiricalField(found.path, empirical.arrange(jnp.asarray(z[None])), 1, found.shape)


def _samplers(chosen: ShowConfig, found: ShownSubject) -> dict[str, Sampler]:
    """The ODE, and with sigma= or diffusion= the SDE. Their exponential steps are exact given z, where E[z|x] is constant; between
    two laws, whose fields are not theirs, Euler's, which do not ask for the velocity at t = 1 either.
    """
    diffusion: Diffusion | None = chosen.diffusion
    if diffusion is None and chosen.sigma is not None:
        diffusion = Constant(chosen.sigma)
    if diffusion is None:
        return {"ODE": Euler() if found.between.two_laws else DDIM()}
    none = dataclasses.replace(diffusion, sigma=0.0)  # type: ignore[type-var]  # DDIM's step, by the SDE's program
    title = f"SDE, $\\sigma$ = {float(diffusion.sigma):g}"
    if found.between.two_laws:
        return {"ODE": EulerMaruyama(none), title: EulerMaruyama(diffusion)}
    return {"ODE": Exponential(none), title: Exponential(diffusion)}


def _row(
    found: ShownSubject, law: DrawnLaw, at: tuple[Places, Places], times: tuple[np.ndarray, np.ndarray], quantity: str
) -> plots.Row:
    """A row's density, or draws of x_t where it is not known, and its vectors, where the field is known."""
    row = plots.Row(law.name, z=law.z)
    if law.field is not None:
        row = row._replace(vectors=vectors(found, law.field, at[0], times[0], quantity))
    if hasattr(law.field, "log_prob"):
        return row._replace(density=np.exp(densities(found, law.field, at[1], times[1])))
    return row._replace(cloud=law.clouds[: len(times[0])])


def _ways(
    found: ShownSubject, law: DrawnLaw, samplers: dict[str, Sampler], chosen: ShowConfig, keys: Any
) -> tuple[Way, ...]:
    """Trajectories from t = 0 to t = 1 by each sampler, from the same noise; given z from alpha z + beta eps, as p_0(x|z) is
    where alpha is not 0 at t = 0.
    """
    steps, n, field = chosen.steps or STEPS, chosen.n or PATHS, law.field
    assert field is not None
    times = grid_times(UniformGrid(), steps, field.path)
    x0 = _starts(found, law, times[0], keys[0], n)
    every = max(1, steps // STEPS)
    kept = []
    for title, sampler in samplers.items():
        if sampler.stochastic and not field.knows_score:  # then there is no SDE
            if title != "ODE":
                continue
            sampler = Euler()
        settings = LoopSettings("mean", saving=Saving(every))
        way = simulate_compiled(sampler, field, x0, times, keys[1], settings=settings).trajectory
        assert way is not None
        if not np.isfinite(way.x).all():
            raise UserError(f"{title}: its trajectories meet something infinite on this path; take another diffusion=")
        kept.append(Way(title, np.asarray(way.times), found.own(way.x)))
    return tuple(kept)


def _starts(found: ShownSubject, law: DrawnLaw, start: Any, key: Any, n: int) -> Array:
    """n points x_0 (n, d) of a row's law."""
    assert law.field is not None
    z = None if law.z is None else jnp.asarray(np.tile(to_model(found.scaling, law.z), (n, 1)), float)
    if not found.between.two_laws:
        return prior(law.field.path, start, found.shape, key, n, z)
    z = jnp.asarray(found.data(n, jax.random.fold_in(key, 1))) if z is None else z
    return found.between.draws(z, key, start[None])[0]


def _arrays(row: plots.Row, name: str, quantity: str) -> dict[str, np.ndarray]:
    """A row's arrays by their names in show.npz."""
    found: dict[str, np.ndarray] = {}
    for word, each in (("density", row.density), (quantity, row.vectors), ("x", row.cloud)):
        if each is not None:
            found[f"{name}_{word}"] = each
    for way in row.ways:
        word = "ode" if way.title == "ODE" else "sde"
        found |= {f"{name}_{word}_times": way.times, f"{name}_{word}": way.x}
    return found
