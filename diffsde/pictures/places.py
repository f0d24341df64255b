"""The places of a picture of `diffsde show`: its window, its grid, and densities and fields there, in the data's own units."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.scaling import log_volume, to_model
from diffsde.errors import UserError
from diffsde.fields import VELOCITY_ALONE, Field
from diffsde.pictures.coordinates import numbers_of
from diffsde.pictures.subjects import ShownSubject
from diffsde.plots.style import Extent, window
from diffsde.runs.show_config import ShowConfig
from diffsde.types import Array

MANY = 2000  # points of a finite set above which densities are computed at fewer places
SIDE, FEWER, LINE = 160, 80, 400  # places along a side of a plane, of a finite set of MANY points, and on a line


class Places(NamedTuple):
    """The places of a picture: points (rows, columns, d), or (columns, d) on a line, in the data's own units.

    extent: the window, with the names of its axes; plane: the coordinates drawn; note: what a plane through more dimensions
    is, as text for titles.
    """

    points: np.ndarray
    extent: Extent
    plane: tuple[int, ...]
    note: str = ""

    def axes(self) -> dict[str, np.ndarray]:
        """The values of the coordinates along the window's sides, by the names that they have in show.npz."""
        if len(self.plane) == 1:
            return {"x": self.points[:, 0]}
        i, j = self.plane
        return {"x": self.points[0, :, i], "y": self.points[:, 0, j]}


def plane_of(found: ShownSubject, chosen: ShowConfig, most: int = 2) -> tuple[int, ...]:
    """The coordinates that are drawn. Raises UserError for images and for coordinates that there are not."""
    if len(found.shape) != 1:
        raise UserError(
            f"what={chosen.what} needs points on a line or in the plane; these have the shape {found.shape}: take"
            " what=data, noising or marginals"
        )
    asked = chosen.coordinates
    if asked is None:
        return tuple(range(min(found.d, most)))
    if found.d == 1:
        raise UserError("coordinates: these points have one coordinate only; leave it out")
    return tuple(numbers_of(asked, found.dataset.column_names(), found.d))


def window_of(chosen: ShowConfig, found: ShownSubject, plane: tuple[int, ...], clouds: list[np.ndarray]) -> Extent:
    """The window: of window=, or the one that holds the clouds (n, d), in the data's own units. Raises UserError."""
    names = tuple(found.names()[i] for i in plane)
    asked = chosen.window
    if asked is not None and len(asked) != 2 * len(plane):
        form = "[left,right]" if len(plane) == 1 else "[left,right,bottom,top]"
        raise UserError(f"window is {list(asked)}; here it is {form}")
    if len(plane) == 1:
        low, high = asked or window([np.repeat(each[:, plane], 2, axis=1) for each in clouds])[:2]
        return Extent(low, high, 0.0, 1.0, names)
    if asked is not None:
        left, right, bottom, top = asked
        return Extent(left, right, bottom, top, names)
    return window([each[:, plane] for each in clouds], square=found.scaling is None)._replace(names=names)


def places(
    found: ShownSubject, chosen: ShowConfig, clouds: list[np.ndarray], centre: np.ndarray, resolution: int | None = None
) -> Places:
    """A grid of places in the window; in more than two dimensions the plane of two coordinates through `centre` (d,)."""
    plane = plane_of(found, chosen)
    extent = window_of(chosen, found, plane, clouds)
    count = getattr(found.exact, "count", 0)
    usual = LINE if len(plane) == 1 else FEWER if count > MANY else SIDE
    side = resolution or chosen.resolution or usual
    x, y = np.linspace(*extent[:2], side), np.linspace(*extent[2:4], side)
    shape = (side,) if len(plane) == 1 else (side, side)
    points = np.broadcast_to(centre, (*shape, found.d)).copy()
    if len(plane) == 1:
        points[:, plane[0]] = x
    else:
        points[..., plane[0]], points[..., plane[1]] = np.meshgrid(x, y)
    note = (
        ""
        if found.d <= 2
        else f", in the plane of {_plain(extent.names[0])} and {_plain(extent.names[1])} through the data's mean"
    )
    return Places(points, extent, plane, note)


def _plain(name: str) -> str:
    """The name of a coordinate without formulas, for the line over a picture."""
    return name.replace("$", "").replace("\\", "")


def reached(clouds: np.ndarray, extent: Extent, sides: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Which places of a grid (m, rows, columns) have a point of the clouds (m, n, 2) in their cell."""
    edges = [np.concatenate([[-np.inf], (side[1:] + side[:-1]) / 2, [np.inf]]) for side in sides]
    inside = (clouds >= np.array([extent.left, extent.bottom])) & (clouds <= np.array([extent.right, extent.top]))
    kept = [each[rows.all(axis=-1)] for each, rows in zip(clouds, inside, strict=True)]
    return np.stack([np.histogram2d(each[:, 1], each[:, 0], bins=edges[::-1])[0] > 0 for each in kept])


def reached_on_a_line(clouds: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which places x (k,) lie between the first and the last point of the clouds (m, n), but for a thousandth: (m, k)."""
    low, high = np.quantile(clouds, [0.0005, 0.9995], axis=1)
    return (x >= low[:, None]) & (x <= high[:, None])


# Values at places


def densities(found: ShownSubject, field: Any, at: Places, times: np.ndarray) -> np.ndarray:
    """log p_t (m, *grid) in nats, per volume in the data's own units, at times (m,). Raises UserError where it is infinite."""
    x, grid = _model(found, at)
    values = np.asarray(_log_probs(field, x, _times(times)), np.float64).reshape(len(times), *grid)
    _check_finite(values, times, "the density")
    return values - log_volume(found.scaling, found.shape)


def vectors(found: ShownSubject, field: Field, at: Places, times: np.ndarray, quantity: str) -> np.ndarray:
    """Velocity or score (m, *grid, d) at times (m,), in the data's own units. Raises UserError where it is infinite."""
    grid = at.points.shape
    flat = np.broadcast_to(at.points.reshape(-1, found.d), (len(times), at.points[..., 0].size, found.d))
    return vectors_along(found, field, flat, times, quantity).reshape(len(times), *grid)


def vectors_along(found: ShownSubject, field: Field, x: np.ndarray, times: np.ndarray, quantity: str) -> np.ndarray:
    """Velocity or score (m, n, d) at points x (m, n, d) of times (m,), all in the data's own units. Raises UserError."""
    if quantity == "score" and not field.follows_path:
        raise UserError(f"quantity=score: {VELOCITY_ALONE}")
    if quantity == "score" and not field.knows_score:
        raise UserError("quantity=score: the velocity alone does not give it here; train with objective=cfm+score")
    points = jnp.asarray(to_model(found.scaling, x).reshape(*x.shape[:2], *found.shape))
    values = np.asarray(_vectors(field, points, _times(times), quantity), np.float64).reshape(x.shape)
    _check_finite(values, times, f"the {quantity}")
    if found.scaling is None:
        return values
    return values * (found.scaling.std if quantity == "velocity" else 1 / found.scaling.divisor)


def _model(found: ShownSubject, at: Places) -> tuple[Array, tuple[int, ...]]:
    x = to_model(found.scaling, at.points).reshape(-1, *found.shape)
    return jnp.asarray(x), at.points.shape[:-1]


def _times(times: np.ndarray) -> Array:
    return jnp.asarray(times, float)


def _check_finite(values: np.ndarray, times: np.ndarray, what: str) -> None:
    for t, each in zip(times, values, strict=True):
        if not np.isfinite(each).any():
            raise UserError(f"times: at t={t:g} {what} is infinite or not known on this path; take another time")


@jax.jit
def _log_probs(field: Any, x: Array, times: Array) -> Array:
    return jax.lax.map(lambda t: jax.vmap(partial(field.log_prob, t=t))(x), times)


@jax.jit
def log_law(law: mixtures.Mixture, x: Array) -> Array:
    """log p (n,) of a mixture at points (n, d)."""
    return jnp.asarray(jax.vmap(partial(mixtures.log_prob, law))(x))


@partial(jax.jit, static_argnames="quantity")
def _vectors(field: Field, x: Array, times: Array, quantity: str) -> Array:
    def at(both: tuple[Array, Array]) -> Array:
        return jax.vmap(lambda x: getattr(field, quantity)(x, both[1]))(both[0])

    return jax.lax.map(at, (x, times))
