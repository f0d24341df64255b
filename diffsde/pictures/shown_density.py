"""`diffsde show what=density`: p_t at several times, exactly or of a trained run, or the law of a dataset alone."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import name_of
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import log_volume, to_model
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.likelihood import SHORT, log_likelihood_compiled, starting_law
from diffsde.pictures.places import Places, densities, log_law, places, plane_of
from diffsde.pictures.shown_flow import flow_densities
from diffsde.pictures.subjects import Shown, ShownSubject, clouds_at, need_exact, subject
from diffsde.plots import densities as plots
from diffsde.runs import progress
from diffsde.runs.load_flow import names_flow
from diffsde.runs.show_config import ShowConfig
from diffsde.samplers import times as grid_times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import RK4
from diffsde.stability import finite_velocity
from diffsde.types import on_device

USUAL = (0.0, 0.3, 0.6, 0.9)  # times
BETWEEN = 101  # times of the heat map over t and x
ODE_STEPS = 32  # RK4, from a time back to the prior
ODE_SIDE, ODE_LINE = 40, 120  # places along a side, and on a line, at which a trained run's density is computed


def density(chosen: ShowConfig) -> Shown:
    """Densities as heat maps, contours or lines."""
    if any(map(names_flow, chosen.runs)):
        return flow_densities(chosen)
    found = subject(chosen)
    plane_of(found, chosen)  # refuses images before anything is computed
    if found.path is None:
        return _law_alone(found, chosen)
    of = chosen.of or ("run" if found.runs else "exact")
    if of == "difference":
        raise UserError("of=difference is of what=field; of=both draws the two densities, one over the other")
    if of != "run":
        need_exact(found, "density")
    if of != "exact" and not found.runs:
        raise UserError(f"of={of} needs a trained run; name it with run=")
    times, key = np.asarray(chosen.times or USUAL), jax.random.key(0)
    clouds, centre = clouds_at(found, times, key), found.own(found.data(1000, key)).mean(axis=0)
    side = chosen.resolution or (None if of == "exact" else ODE_LINE if found.d == 1 else ODE_SIDE)
    at = places(found, chosen, list(clouds), centre, side)
    rows, said = {}, []
    if of != "run":
        assert found.exact is not None
        rows["exact"] = densities(found, found.exact, at, times)
    if of != "exact":
        steps, begin = chosen.steps or ODE_STEPS, time.perf_counter()
        with progress.working("solving the ODE from every place back to the prior"):
            for run in found.runs:
                rows[run.title] = _by_the_ode(found, run.field, at, times, steps)
        seconds = time.perf_counter() - begin
        solves = len(found.runs) * len(times) * at.points[..., 0].size
        said = [("log p of the run", f"by its ODE from {solves:,} places, {steps} steps of rk4: {seconds:.1f} s")]
    elif chosen.steps is not None:
        raise UserError("steps is of a trained run's density, which takes an ODE; the exact one takes none")
    arrays = {"times": times, **at.axes(), **_log_probs(rows)}
    about = f"density p_t of {found.of}{at.note}"
    return _shown(found, chosen, rows, times, at, arrays, about, said)


def _log_probs(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names of the rows' arrays in show.npz: log_prob of the first, log_prob_2 of the second, ..."""
    return {"log_prob" + ("" if i == 0 else f"_{i + 1}"): each for i, each in enumerate(rows.values())}


def _shown(
    found: ShownSubject,
    chosen: ShowConfig,
    rows: dict[str, np.ndarray],
    times: np.ndarray | None,
    at: Places,
    arrays: dict[str, np.ndarray],
    about: str,
    said: list[tuple[str, str]],
) -> Shown:
    style, scale = chosen.style or "heat", chosen.scale or "linear"
    if len(at.plane) == 2:
        if len(rows) == 1:
            rows = {"": next(iter(rows.values()))}
        return Shown(arrays, lambda: plots.densities(rows, times, at.extent, style, scale, about), about, said)
    if chosen.style is not None:
        raise UserError("style is of densities in the plane; on a line they are drawn as lines")
    between, x, name = None, at.points[:, 0], at.extent.names[0]
    if times is not None and found.exact is not None:
        inner = np.linspace(times[0], times[-1], BETWEEN) if len(times) > 1 else np.linspace(0.0, 0.99, BETWEEN)
        between = inner, densities(found, found.exact, at, inner)
        arrays = arrays | {"between_times": inner, "between_log_prob": between[1]}
    if len(rows) == 1:
        rows = {"": next(iter(rows.values()))}
    return Shown(arrays, lambda: plots.lines_of_densities(rows, times, x, between, name, scale, about), about, said)


def _law_alone(found: ShownSubject, chosen: ShowConfig) -> Shown:
    """The density of a dataset's law, without a path."""
    labels = None if chosen.label is None else np.asarray([chosen.label])
    if labels is not None and chosen.label not in range(found.dataset.classes(found.dataset.load())):
        raise UserError(f"label: {chosen.label} is not a label of dataset={name_of(found.dataset)}")
    law = found.dataset.law(labels)
    if law is None:
        raise UserError(
            f"what=density: the density of dataset={name_of(found.dataset)} alone is not known; give path=, of finite data,"
            " or see what=data, its histogram"
        )
    key = jax.random.key(0)
    data = found.own(found.data(4000, key))
    at = places(found, chosen, [data], data.mean(axis=0))
    x = to_model(found.scaling, at.points).reshape(-1, found.d)
    values = np.asarray(log_law(law, jnp.asarray(x)), np.float64).reshape(1, *at.points.shape[:-1])
    rows = {"": values - log_volume(found.scaling, found.shape)}
    about = f"density of {found.of}{at.note}"
    return _shown(found, chosen, rows, None, at, {**at.axes(), **_log_probs(rows)}, about, [])


def _by_the_ode(found: ShownSubject, field: Field, at: Places, times: np.ndarray, steps: int) -> np.ndarray:
    """log p_t (m, *grid) of a trained field at times (m,), by likelihood.log_likelihood, in the data's own units."""
    x = jnp.asarray(to_model(found.scaling, at.points).reshape(-1, *found.shape))
    values, path, two_laws = [], field.path, found.between.two_laws
    start = StandardNormal(found.shape) if found.source is None else found.source
    law = start.law()
    if law is None:
        raise UserError(
            f"what=density: a run's density needs that of its source, which is not known of {name_of(start)}; take"
            " what=marginals"
        )
    for t in times:
        if t == 0:
            values.append(log_law(starting_law(law, path, on_device(0.0, float)), x.reshape(-1, found.d)))
            continue
        end = float(t) if finite_velocity(field, float(t)) else float(t) - SHORT
        grid = grid_times(UniformGrid(start=0.0, end=end), steps, path)
        values.append(
            log_likelihood_compiled(RK4(), field, x, grid, jax.random.key(0), source=law if two_laws else None).log_p
        )
    log_p = np.stack([np.asarray(each, np.float64) for each in values]).reshape(len(times), *at.points.shape[:-1])
    if not np.isfinite(log_p).all():
        raise UserError("times: the run's ODE meets something infinite on the way to one of them; take others")
    return log_p - log_volume(found.scaling, found.shape)
