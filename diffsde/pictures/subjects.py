"""What `diffsde show` draws of: the exact field and trained ones, in the data's own units, and the places of a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde import ensembles, mixtures
from diffsde.build import name_of
from diffsde.datasets import Dataset, are_images, point_shape
from diffsde.datasets.scaling import Scaling, log_volume, same_scaling, to_model, to_own
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field, OracleField, bound
from diffsde.paths import GaussianPath, coefficients
from diffsde.plots.style import Extent, escape_formulas, window
from diffsde.runs import progress
from diffsde.runs.show_config import ShowConfig
from diffsde.types import Array, Key

DRAWN = 4000  # points from which a picture's window is found
MANY = 2000  # points of a finite set above which densities are computed at fewer places
SIDE, FEWER, LINE = 160, 80, 400  # places along a side of a plane, of a finite set of MANY points, and on a line


class Trained(NamedTuple):
    """A trained field and its title in pictures."""

    field: Field
    title: str


class Subject(NamedTuple):
    """What a picture is of.

    exact: the exact field on `path`, where it is known; path: None for the law of a dataset alone. runs: the trained fields.
    scaling: between the model's units and the data's own. of: all of this as text, for titles.
    """

    dataset: Dataset
    path: GaussianPath | None
    shape: tuple[int, ...]
    scaling: Scaling | None
    exact: OracleField | EmpiricalField | None
    runs: tuple[Trained, ...]
    label: int | None
    of: str

    @property
    def d(self) -> int:
        """The number of a point's coordinates."""
        return int(np.prod(self.shape))

    def names(self) -> tuple[str, ...]:
        """The coordinates' names."""
        named = tuple(map(escape_formulas, self.dataset.column_names()))
        return named or (("$x$",) if self.d == 1 else tuple(f"$x_{i + 1}$" for i in range(self.d)))

    def data(self, n: int, key: Key) -> np.ndarray:
        """Points z of the data (n, *shape), of the label if there is one, in the model's units. Raises UserError."""
        labels = None if self.label is None else np.asarray([self.label])
        return np.asarray(self.dataset.draw_given(self.dataset.load(), labels, key, n))

    def own(self, x: Any) -> np.ndarray:
        """Points (..., *shape) in the data's own units."""
        return to_own(self.scaling, x)


def subject(chosen: ShowConfig) -> Subject:
    """What the picture is of, read from run= or from dataset= and path=. Raises UserError."""
    if chosen.runs:
        return _of_runs(chosen)
    dataset, path = chosen.dataset, chosen.path
    assert dataset is not None
    shape = point_shape(dataset, dataset.load())
    exact = _exact(dataset, path, shape, chosen.label)
    of = f"{name_of(dataset)}" + ("" if path is None else f", path {name_of(path)}")
    return Subject(dataset, path, shape, dataset.scaling(shape), exact, (), chosen.label, of + _labelled(chosen))


def _labelled(chosen: ShowConfig) -> str:
    return "" if chosen.label is None else f", class {chosen.label}"


def _of_runs(chosen: ShowConfig) -> Subject:
    from diffsde.runs.restore import restore  # here: it imports flax and optax

    found: list[Subject] = []
    for run in chosen.runs:
        config, field, step = restore(
            Path(run), chosen.ema, chosen.checkpoint or "last", chosen.machine.precision
        )
        if config.label_dropout == 0 and chosen.label is None:
            raise UserError(f"label: '{run}' was trained with label_dropout=0 and needs one; give label=, e.g. label=0")
        dataset, shape = config.dataset, field.shape
        title = name_of(config.objective)
        trained = Trained(_bound(field, chosen.label), title)
        exact = _exact(dataset, config.path, shape, chosen.label)
        of = f"{progress.shown_path(Path(run))} at step {step}"
        found.append(
            Subject(dataset, config.path, shape, dataset.scaling(shape), exact, (trained,), chosen.label, of)
        )
    first, *rest = found
    for run, other in zip(chosen.runs[1:], rest, strict=True):
        if other.shape != first.shape:
            raise UserError(f"run: '{run}' is of points of shape {other.shape}, the first run of {first.shape}")
        if not same_scaling(other.scaling, first.scaling):
            raise UserError(f"run: '{run}' was trained on data of another mean and std than the first run")
        assert other.path is not None and first.path is not None
        if not ensembles.equal(other.path, first.path):
            raise UserError(f"run: '{run}' was trained on another path than the first run; their fields are of other p_t")
    objectives = [each.runs[0].title for each in found]
    if len(set(objectives)) == len(objectives):
        titles = [f"learned ({objective})" for objective in objectives]
    else:
        titles = [f"run {i + 1} ({objective})" for i, objective in enumerate(objectives)]
    runs = tuple(each.runs[0]._replace(title=title) for each, title in zip(found, titles, strict=True))
    where = "; ".join(f"{title}: {each.of}" for title, each in zip(titles, found, strict=True))
    what = f"{name_of(first.dataset)}, path {name_of(first.path)}{_labelled(chosen)}"
    return first._replace(runs=runs, of=f"{what}; {where}")


def _bound(field: Any, label: int | None) -> Any:
    if label is None:
        return field
    if not field.classes:
        raise UserError("label: this field knows none; mixtures and runs with dataset.conditional=true do")
    if label >= field.classes:
        raise UserError(f"label: {label} is not a label of this field; they are 0 to {field.classes - 1}")
    return bound(field, np.asarray(label, np.int32))


def _exact(dataset: Dataset, path: GaussianPath | None, shape: tuple[int, ...], label: int | None) -> Any:
    """The exact field of points in a few dimensions; None where it is not known, or where the data cannot be read."""
    if path is None or are_images(shape):
        return None
    try:
        field = dataset.exact_field(path)
    except UserError:
        return None
    if field is None or (label is not None and not field.classes):
        return None
    return _bound(field, label)


def need_exact(found: Subject, what: str) -> OracleField | EmpiricalField:
    """The exact field. Raises UserError where it is not known."""
    if found.exact is not None:
        return found.exact
    raise UserError(
        f"what={what}: the exact field of dataset={name_of(found.dataset)} is not known; it is of mixtures and of finite data"
        " in a few dimensions. Name a trained run with run=, or draw what=data, noising or conditional"
    )


# Places


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


def plane_of(found: Subject, chosen: ShowConfig, most: int = 2) -> tuple[int, ...]:
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
    for i in asked:
        if i >= found.d:
            raise UserError(f"coordinates: {i} is not one of 0 to {found.d - 1}")
    return asked


def window_of(chosen: ShowConfig, found: Subject, plane: tuple[int, ...], clouds: list[np.ndarray]) -> Extent:
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
        return Extent(*asked, names)
    return window([each[:, plane] for each in clouds], square=found.scaling is None)._replace(names=names)


def clouds_at(found: Subject, times: np.ndarray, key: Key, n: int = DRAWN) -> np.ndarray:
    """x_t = alpha z + beta eps (m, n, *shape) at times (m,), one eps for all times, in the data's own units. Raises UserError."""
    return found.own(noised(found.path, found.data(n, key), key, times))


@jax.jit
def noised(path: GaussianPath, z: Array, key: Key, times: Array) -> Array:
    """alpha z + beta eps (m, n, *shape), for points z (n, *shape) and the same eps at all times (m,)."""
    eps = jax.random.normal(jax.random.fold_in(key, 1), z.shape, z.dtype)

    def at(t: Array) -> Array:
        c = coefficients(path, t)
        return c.alpha * z + c.beta * eps

    return jax.vmap(at)(times)


def places(
    found: Subject, chosen: ShowConfig, clouds: list[np.ndarray], centre: np.ndarray, resolution: int | None = None
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
    note = "" if found.d <= 2 else f", in the plane of {_plain(extent.names[0])} and {_plain(extent.names[1])} through the data's mean"
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


def densities(found: Subject, field: Any, at: Places, times: np.ndarray) -> np.ndarray:
    """log p_t (m, *grid) in nats, per volume in the data's own units, at times (m,). Raises UserError where it is infinite."""
    x, grid = _model(found, at)
    values = np.asarray(_log_probs(field, x, _times(times)), np.float64).reshape(len(times), *grid)
    _check_finite(values, times, "the density")
    return values - log_volume(found.scaling, found.shape)


def vectors(found: Subject, field: Field, at: Places, times: np.ndarray, quantity: str) -> np.ndarray:
    """Velocity or score (m, *grid, d) at times (m,), in the data's own units. Raises UserError where it is infinite."""
    grid = at.points.shape
    flat = np.broadcast_to(at.points.reshape(-1, found.d), (len(times), at.points[..., 0].size, found.d))
    return vectors_along(found, field, flat, times, quantity).reshape(len(times), *grid)


def vectors_along(found: Subject, field: Field, x: np.ndarray, times: np.ndarray, quantity: str) -> np.ndarray:
    """Velocity or score (m, n, d) at points x (m, n, d) of times (m,), all in the data's own units."""
    points = jnp.asarray(to_model(found.scaling, x).reshape(*x.shape[:2], *found.shape))
    values = np.asarray(_vectors(field, points, _times(times), quantity), np.float64).reshape(x.shape)
    _check_finite(values, times, f"the {quantity}")
    if found.scaling is None:
        return values
    return values * (found.scaling.std if quantity == "velocity" else 1 / found.scaling.divisor)


def _model(found: Subject, at: Places) -> tuple[Array, tuple[int, ...]]:
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
    return jax.vmap(partial(mixtures.log_prob, law))(x)


@partial(jax.jit, static_argnames="quantity")
def _vectors(field: Field, x: Array, times: Array, quantity: str) -> Array:
    def at(both: tuple[Array, Array]) -> Array:
        return jax.vmap(lambda x: getattr(field, quantity)(x, both[1]))(both[0])

    return jax.lax.map(at, (x, times))


class Shown(NamedTuple):
    """A picture that is computed and not yet drawn: the arrays that it is drawn from, a function that draws it, and what is
    said of it: a title, rows of a table, numbers for summary.json.
    """

    arrays: dict[str, np.ndarray]
    draw: Callable[[], Figure]
    title: str
    rows: list[tuple[str, str]] = []
    summary: dict[str, Any] = {}
