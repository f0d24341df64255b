"""`diffsde show what=field`: velocity or score at several times, exact, of runs, or their difference."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from diffsde.errors import UserError
from diffsde.pictures.places import densities, places, plane_of, reached, reached_on_a_line, vectors, vectors_along
from diffsde.pictures.subjects import Shown, ShownField, ShownSubject, clouds_at, need_exact, subject
from diffsde.plots import arrows as plots
from diffsde.plots.style import HeatMap
from diffsde.runs.show_config import ShowConfig

DIFFERENCE = "difference"  # its title
USUAL = (0.0, 0.3, 0.6, 0.9)  # times
ARROWS = 21  # along a side
COMPARED = 1000  # draws of x_t over which a difference is averaged
SHADED = 80  # places along a side of p_t, drawn under the arrows


def field(chosen: ShowConfig) -> Shown:
    """Arrows in the plane, or curves on a line; all panels on one scale."""
    found = subject(chosen)
    plane = plane_of(found, chosen)
    quantity, times, key = chosen.quantity or "velocity", np.asarray(chosen.times or USUAL), jax.random.key(0)
    fields, pair = _fields(found, chosen)
    clouds, centre = clouds_at(found, times, key), found.own(found.data(1000, key)).mean(axis=0)
    line = len(plane) == 1
    at = places(found, chosen, list(clouds), centre, None if line else chosen.resolution or ARROWS)
    rows = {each.title: vectors(found, each.field, at, times, quantity)[..., plane] for each in fields}
    difference = _difference(found, pair, rows, clouds, times, quantity)
    rows |= difference.rows
    arrays = {"times": times, **at.axes(), **_named(rows, quantity)}
    sign = "u" if quantity == "velocity" else "s"
    about = f"{quantity} {sign}_t(x) of {found.of}{at.note}"
    if pair is not None:
        about += f"; {DIFFERENCE}: {pair[0].title} - {pair[1].title}"
    said, numbers, notes = difference.said, difference.numbers, difference.notes
    if line:
        drawn = {title: values[..., 0] for title, values in rows.items()}
        x, name = at.points[:, 0], at.extent.names[0]
        where = reached_on_a_line(clouds[..., 0], x)
        return Shown(
            arrays, lambda: plots.curves(drawn, notes, x, where, times, name, quantity, about), about, said, numbers
        )
    shade = None
    if found.exact is not None:
        under = places(found, chosen, list(clouds), centre, SHADED)
        log_p = densities(found, found.exact, under, times)
        shade = [HeatMap(np.exp(each), at.extent) for each in log_p]
        arrays |= {"density_" + name: each for name, each in under.axes().items()} | {"log_prob": log_p}
        about += "; grey: the exact p_t"
    about += "; pale arrows: hardly ever reached"
    axes = arrays["x"], arrays["y"]
    where = reached(clouds[..., plane], at.extent, axes)
    scale = plots.ArrowScale(at.extent, len(axes[0]), quantity, list(rows.values()), where)
    return Shown(
        arrays, lambda: plots.arrows(rows, notes, axes, times, scale, where, shade, about), about, said, numbers
    )


def _fields(found: ShownSubject, chosen: ShowConfig) -> tuple[list[ShownField], tuple[ShownField, ShownField] | None]:
    """The fields that are drawn, and the two, minuend first, whose difference is; None where none is asked for."""
    of = chosen.of or ("exact" if not found.runs else "both" if len(found.runs) == 1 and found.exact else "run")
    runs = list(found.runs)
    if of == "difference" and len(runs) > 2:
        raise UserError(f"of=difference is of one run, learned minus exact, or of two; run= names {len(runs)}")
    if of == "difference" and len(runs) == 2:
        return runs, (runs[0], runs[1])
    if of == "run":
        return runs, None
    exact = ShownField(need_exact(found, "field"), "exact")
    if of == "exact":
        return [exact], None
    return [exact, *runs], (runs[0], exact) if of == "difference" else None


class Difference(NamedTuple):
    """The difference of two fields as a row of the picture, with its rms over draws of x_t at each time: as notes on its panels,
    as a row of the table, and as numbers of summary.json. Empty where no difference is asked for.
    """

    rows: dict[str, np.ndarray] = {}
    notes: dict[str, list[str]] = {}
    said: list[tuple[str, str]] = []
    numbers: dict[str, float] = {}


def _difference(
    found: ShownSubject,
    pair: tuple[ShownField, ShownField] | None,
    rows: dict[str, np.ndarray],
    clouds: np.ndarray,
    times: np.ndarray,
    quantity: str,
) -> Difference:
    """The Difference of a pair of fields, the first minus the second, whose own rows are there."""
    if pair is None:
        return Difference()
    one, other = (each.title for each in pair)
    rms = _rms(found, pair, clouds, times, quantity)
    shown = ", ".join(f"{each:.3g} at t={t:g}" for each, t in zip(rms, times, strict=True))
    return Difference(
        {DIFFERENCE: rows[one] - rows[other]},
        {DIFFERENCE: [f"rms {each:.2g}" for each in rms]},
        [("rms difference", f"{shown} ({one} - {other}, over draws of x_t)")],
        {f"rms_at_{t:g}": float(each) for each, t in zip(rms, times, strict=True)},
    )


def _rms(
    found: ShownSubject, pair: tuple[ShownField, ShownField], clouds: np.ndarray, times: np.ndarray, quantity: str
) -> np.ndarray:
    """sqrt(E |difference|^2) (m,) of two fields over draws of x_t (m, n, d), in the data's own units."""
    one, other = (vectors_along(found, each.field, clouds[:, :COMPARED], times, quantity) for each in pair)
    return np.sqrt(np.mean(np.sum((one - other) ** 2, axis=-1), axis=-1))


def _named(rows: dict[str, np.ndarray], quantity: str) -> dict[str, np.ndarray]:
    """The names of the rows' arrays in show.npz: velocity, velocity_2, ..., from the first row to the last."""
    return {quantity + ("" if i == 0 else f"_{i + 1}"): each for i, each in enumerate(rows.values())}
