"""`diffsde show what=data` and `what=noising`: a dataset's points or images, and the same with noise at several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset, Snapshots, are_images
from diffsde.datasets.finite import FiniteDataset, as_points
from diffsde.datasets.scaling import log_volume, to_model
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField
from diffsde.pictures.images import CLASSES, SIDE, screen_of_images, square
from diffsde.pictures.places import Places, densities, log_law, places, plane_of, window_of
from diffsde.pictures.shown_conditional import points_of
from diffsde.pictures.subjects import Shown, ShownSubject, noised, subject
from diffsde.plots import clouds as plots
from diffsde.plots import images as image_plots
from diffsde.plots.style import window
from diffsde.runs.show_config import ShowConfig
from diffsde.types import Key

DRAWN = 10_000  # points of a dataset, where n= says no other number
NOISED = 3000  # points with noise
PAIRS = 4  # coordinates of which pairs are drawn
IMAGES = 10  # images with noise
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def data(chosen: ShowConfig) -> Shown:
    """A dataset's points, or images, by class, with its test split where it has one."""
    found = subject(chosen)
    dataset, key = found.dataset, jax.random.key(chosen.seed or 0)
    if isinstance(dataset, Snapshots):
        return _snapshots(found, chosen)
    sets = {"training data" if dataset.has_test else "data": some_of(dataset, dataset.load(), chosen.n or DRAWN, key)}
    if dataset.has_test:
        sets["test split"] = some_of(dataset, dataset.held_out(), chosen.n or DRAWN, jax.random.fold_in(key, 1))
    names = classes_of(found, sets)
    about = f"data: {dataset_words(found)}"
    rows = [(title, f"{len(x):,} drawn") for title, (x, _) in sets.items()]
    if len(found.shape) != 1:
        return _images(Picked(found, chosen, sets, names, about, rows))
    arrays = {_word(i): found.own(x) for i, (x, _) in enumerate(sets.values())}
    arrays |= {_word(i, "y"): y for i, (_, y) in enumerate(sets.values()) if y is not None}
    names = [f"class {name}" if name.isdigit() else name for name in names]
    picked = Picked(found, chosen, sets, names, about, rows)
    return _points(picked, arrays) if found.d <= 2 else _pairs(picked, arrays)


def _snapshots(found: ShownSubject, chosen: ShowConfig) -> Shown:
    """All snapshots, those that are left out too, in the colours of their times."""
    series = found.dataset
    assert isinstance(series, Snapshots)
    times = series.series().times
    key = jax.random.key(chosen.seed or 0)
    each = [
        some_of(series.at(i), series.at(i).load(), (chosen.n or DRAWN) // len(times) or 1, jax.random.fold_in(key, i)).x
        for i in range(len(times))
    ]
    y = np.repeat(np.arange(len(times)), [len(x) for x in each])
    order = np.random.default_rng(0).permutation(len(y))  # a picture that draws the first ones draws some of each
    y, sets = y[order], {"data": plots.Cloud(np.concatenate(each)[order], y[order])}
    left = np.setdiff1d(times, series.trained_times)
    names = [f"time {time:.6g}" for time in times]
    said = zip(names, each, times, strict=True)
    rows = [(name, f"{len(x):,} drawn{', left out of training' if time in left else ''}") for name, x, time in said]
    picked = Picked(found, chosen, sets, names, f"data: {dataset_words(found)}", rows)
    arrays = {"x": found.own(sets["data"].x), "time": times[y]}
    return _points(picked, arrays) if found.d <= 2 else _pairs(picked, arrays)


Sets = dict[str, plots.Cloud]


class Picked(NamedTuple):
    """What is drawn of a dataset: its sets of points by title, the names of their classes, the picture's line and the table's rows."""

    found: ShownSubject
    chosen: ShowConfig
    sets: Sets
    names: list[str]
    about: str
    rows: list[tuple[str, str]]


def some_of(dataset: Dataset, arrays: Any, n: int, key: Key) -> plots.Cloud:
    """n points and their labels: of a finite set without replacement, all of it where it has no more; in the model's units."""
    if isinstance(dataset, FiniteDataset) and not dataset.stream:
        rows = np.arange(len(arrays.x))
        if len(rows) > n:
            rows = np.sort(np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(rows)[:n])
        return plots.Cloud(
            np.asarray(as_points(jnp.asarray(arrays.x[rows]))), None if arrays.y is None else np.asarray(arrays.y)[rows]
        )
    x, y = dataset.draw_labelled(arrays, key, n)
    return plots.Cloud(np.asarray(x), None if y is None else np.asarray(y))


def classes_of(found: ShownSubject, sets: Sets) -> list[str]:
    """The names of the classes, numbers where they have none; [] where there are no classes, or only one."""
    if any(y is None for _, y in sets.values()):
        return []
    count = found.dataset.classes(found.dataset.load())
    names = found.dataset.class_names()
    return [names[i] if i < len(names) and names[i] else str(i) for i in range(count)] if count > 1 else []


def dataset_words(found: ShownSubject) -> str:
    """The dataset's name, without the path."""
    return found.of.split(", path")[0]


def _word(i: int, name: str = "x") -> str:
    """The name of a set's array in show.npz: x of the first set, x_test of the second."""
    return name if i == 0 else f"{name}_test"


def _images(picked: Picked) -> Shown:
    """Images in a grid for each set: a row for each class, else as they come."""
    found, chosen, sets, names, about, rows = picked
    if not are_images(found.shape) or found.shape[-1] > 4:
        raise UserError(f"what=data draws points and images; these have the shape {found.shape}")
    if chosen.window is not None or chosen.coordinates is not None:
        raise UserError("window= and coordinates= are of points; these are images")
    shown = screen_of_images(found.dataset, found.scaling)
    columns = image_plots.fitting_columns(found.shape, SIDE, len(sets))
    if names:
        panels = {
            title: {
                names[k]: shown(x[y == k][:columns])
                for k in range(min(len(names), CLASSES))
                if y is not None and (y == k).any()
            }
            for title, (x, y) in sets.items()
        }
        drawn = {_word(i): np.concatenate(list(each.values())) for i, each in enumerate(panels.values())}
        return Shown(drawn, lambda: image_plots.by_class(panels, about), about, rows)
    grids = {title: shown(x[: columns**2]) for title, (x, _) in sets.items()}
    arrays = {_word(i): each for i, each in enumerate(grids.values())}
    return Shown(arrays, lambda: image_plots.grids(grids, square(next(iter(grids.values()))), about), about, rows)


def _points(picked: Picked, arrays: dict[str, np.ndarray]) -> Shown:
    """Points and their histogram, with the exact density on a line where it is known. arrays: drawn and written."""
    found, chosen, sets, names, about, rows = picked
    own = {title: plots.Cloud(found.own(x), y if names else None) for title, (x, y) in sets.items()}
    plane = plane_of(found, chosen)
    clouds = [x for x, _ in own.values()]
    if found.d == 2:
        extent = window_of(chosen, found, plane, clouds)
        return Shown(arrays, lambda: plots.data_in_the_plane(own, names, extent, about), about, rows)
    at = places(found, chosen, clouds, np.zeros(1))
    line, law = None, found.dataset.law()
    if law is not None:
        log_p = np.asarray(log_law(law, jnp.asarray(to_model(found.scaling, at.points))), np.float64)
        line = at.points[:, 0], np.exp(log_p - log_volume(found.scaling, found.shape))
        arrays |= {"density_x": line[0], "density": line[1]}
    return Shown(arrays, lambda: plots.data_on_a_line(own, line, names, at.extent, about), about, rows)


def _pairs(picked: Picked, arrays: dict[str, np.ndarray]) -> Shown:
    """Pairs of coordinates: those of coordinates=, else the first. arrays: drawn and written."""
    found, chosen, sets, names, about, rows = picked
    plane = plane_of(found, chosen, PAIRS)
    own = {title: plots.Cloud(found.own(x)[:, plane], y if names else None) for title, (x, y) in sets.items()}
    columns = [found.names()[i] for i in plane]
    if chosen.window is not None:
        raise UserError("window is of a picture of one or two coordinates; of several pairs each follows the data")
    windows = []
    for i in range(len(plane)):
        both = [np.repeat(x[:, [i]], 2, axis=1) for x, _ in own.values()]
        windows.append(window(both)[:2])
    which = "the first" if chosen.coordinates is None else "the chosen"
    about += f", {which} {len(plane)} of {found.d} coordinates" + (", outline: test split" if len(sets) > 1 else "")
    return Shown(arrays, lambda: plots.coordinate_pairs(own, columns, windows, names, about), about, rows)


def noising(chosen: ShowConfig) -> Shown:
    """x_t = alpha z + beta eps at several times: of images a row each, of points a cloud at each time."""
    found, times = subject(chosen), np.asarray(chosen.times or TIMES)
    key, key_eps = jax.random.split(jax.random.key(chosen.seed or 0))
    at = jnp.asarray(times, float)
    about = f"x_t = {found.between.formula}: {found.of.split(';')[0]}"
    if len(found.shape) != 1:
        return _noised_images(found, chosen, at, key, key_eps, about)
    plane = plane_of(found, chosen)
    y, names = None, []
    n = chosen.n or NOISED
    if chosen.z is not None:
        few = points_of(chosen, found, 0, len(plots.CLASSES), key)
        y = np.arange(n) % len(few)
        z, names = few[y], [f"z = {_short(each)}" for each in found.own(few)]
    else:
        z = found.data(n, key)
    x = found.own(noised(found, z, key_eps, at))
    arrays = {"times": times, "z": found.own(z), "x": x}
    title = "$x_t$"
    if found.d == 1:
        spots = places(found, chosen, list(x), np.zeros(1))
        lines = None
        if found.exact is not None and chosen.z is None:
            lines = spots.points[:, 0], _exact_lines(found, spots, times)
        return Shown(
            arrays,
            lambda: plots.histograms_in_time({title: list(x[..., 0])}, {title: times}, lines, spots.extent, about),
            about,
        )
    extent = window_of(chosen, found, plane, list(x))
    clouds = {title: [plots.Cloud(each[:, plane], y) for each in x]}
    return Shown(arrays, lambda: plots.clouds_in_time(clouds, {title: times}, extent, names, about), about)


def _exact_lines(found: ShownSubject, spots: Places, times: np.ndarray) -> np.ndarray:
    """p_t (m, k) at places on a line; NaN at times when the noise about a finite set's points is narrower than the places are
    apart, where a line through them would show spikes of chance heights.
    """
    assert found.exact is not None and found.path is not None
    shown, path = np.full((len(times), len(spots.points)), np.nan), found.path
    apart = float(np.diff(spots.points[:2, 0])[0]) / (1.0 if found.scaling is None else float(found.scaling.divisor[0]))
    finite = isinstance(found.exact, EmpiricalField)
    wide = np.array([not finite or float(path.beta(float(t))) >= apart for t in times])
    if wide.any():
        shown[wide] = np.exp(densities(found, found.exact, spots, times[wide]))
    return shown


def _short(z: np.ndarray) -> str:
    return "(" + ", ".join(f"{each:.3g}" for each in z[:3]) + (", …)" if len(z) > 3 else ")")


def _noised_images(found: ShownSubject, chosen: ShowConfig, at: Any, key: Key, key_eps: Key, about: str) -> Shown:
    """A row for each image, the classes in turn, the same noise along it."""
    for name in ("window", "coordinates", "z"):
        if getattr(chosen, name) is not None:
            raise UserError(f"{name}= is of points; these are images, drawn from the data: say how many with n=")
    arrays, dataset = found.dataset.load(), found.dataset
    count, names = dataset.classes(arrays), dataset.class_names()
    n = min(chosen.n or IMAGES, 20)
    labels = np.arange(n) % count if count else None
    z = dataset.draw_given(arrays, labels, key, n)
    x = np.asarray(noised(found, z, key_eps, at))
    shown, times = screen_of_images(dataset, found.scaling), np.asarray(at)
    written: Sequence[str] = [""] * n
    if labels is not None:
        written = [names[k] if k < len(names) else str(k) for k in labels]
    draw: Callable[[], Any] = lambda: image_plots.lines(  # noqa: E731
        [shown(x[:, i]) for i in range(n)], list(written), image_plots.stamps(times), about=about
    )
    return Shown({"times": times, "z": found.own(z), "x": found.own(x)}, draw, about)
