"""The grid at the end of a sweep of `diffsde sample`: the samples of each job side by side, read from the jobs' folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from diffsde.build import choose
from diffsde.datasets import Dataset, are_images
from diffsde.errors import UserError
from diffsde.paths import OT
from diffsde.pictures.coordinates import chosen_view
from diffsde.pictures.densities import counted, mixture_density
from diffsde.pictures.drawn import names_of
from diffsde.pictures.images import screen_of_images
from diffsde.pictures.table import save_figure
from diffsde.plots import grid as plots
from diffsde.plots import images as tiles
from diffsde.plots.style import Extent, HeatMap, escape_formulas, window
from diffsde.runs import folder, progress
from diffsde.runs.drawn_arrays import read_drawn, read_trajectory
from diffsde.runs.results import Cell

FILE = "samples.png"
WITHOUT = "without label"  # the row of samples that are
CELLS = 24  # jobs, at most, that a grid shows
COLUMNS = 10  # images in a row
POINTS = 2000  # samples in a panel
LINES = 40  # trajectories in a panel
TRUE = 20_000  # points drawn from the data
PIXELS = 160


class Samples(NamedTuple):
    """The samples of a job: the words of its cell, x (n, *shape) in the data's own units, labels y (n,) or None, and
    trajectories (m, k, *shape) or None.
    """

    words: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray | None
    way: np.ndarray | None = None


def swept_keys(cells: list[Cell]) -> list[str]:
    """The words that differ between jobs, without `seed` where there are others."""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.overrides))
    differing = [key for key in keys if len({cell.overrides.get(key) for cell in cells}) > 1]
    return [key for key in differing if key != "seed"] or differing


def draw_grid(cells: list[Cell], where: Path, without_label: np.ndarray | None = None) -> list[Path]:
    """Draw the samples of the jobs side by side into the sweep's folder `where`; [] where they are not of one kind.

    without_label: samples of the first job from the same noise without label, for a row of their own.
    """
    keys = swept_keys(cells)
    first: dict[tuple[str, ...], Cell] = {}
    for cell in cells:  # of several seeds the first
        first.setdefault(tuple(cell.overrides.get(key, "") for key in keys), cell)
    found = [(cell, samples_of(cell, words)) for words, cell in list(first.items())[:CELLS]]
    measured = any(cell.config.get("measurement") for cell, _ in found)
    shapes = {each.x.shape[1:] for _, each in found}
    if not keys or measured or len(found) < 2 or len(shapes) > 1:
        return []
    samples, (shape,) = [each for _, each in found], shapes
    if without_label is not None:
        theirs = [f"{key} = {cells[0].overrides.get(key, '')}" for key in keys if key not in ("guidance", "labels")]
        samples.insert(0, Samples((", ".join([WITHOUT, *theirs]),), without_label, None))
    about = title_of([cell for cell, _ in found], keys)
    about = ", ".join([about, *seeds_of([cell for cell, _ in found], keys)])
    if len(first) > CELLS:
        about += f", the first {CELLS} of {len(first)}"
    dataset = dataset_of(found[0][0])
    if are_images(shape):
        figure = images_grid(samples, keys, dataset, about)
    elif len(shape) == 1:
        figure = points_grid(samples, keys, dataset, found[0][0].config.get("coordinates"), about)
    else:
        return []
    return [save_figure(where / FILE, figure)]


def samples_of(cell: Cell, words: tuple[str, ...]) -> Samples:
    """The samples in a job's folder, and the first trajectories, where they were saved."""
    x, y = read_drawn(cell.job)
    way = read_trajectory(cell.job)[1][:, :LINES] if (cell.job / "trajectory.npz").exists() else None
    return Samples(words, x, y, way)


def title_of(cells: list[Cell], keys: list[str]) -> str:
    """What a grid shows, in a line: what is swept, and sampler, steps, evaluations, path, data and run where all jobs share them."""
    config, words = cells[0].config, [f"{' and '.join(keys)} varied"]
    if (
        same(cells, "seed", "n", "run", "path", "grid", "dataset")
        and len({cell.summary.get("start") for cell in cells}) == 1
    ):
        words.append("each from the same starting noise")

    def shared(value: Any) -> Any:
        """The value of a function of a cell where it is that of all cells; else None."""
        values = [value(cell) for cell in cells]
        return values[0] if all(each == values[0] for each in values) else None

    sampler = shared(lambda cell: cell.config["sampler"]["name"])
    diffusion = shared(lambda cell: cell.config["sampler"].get("diffusion"))
    if sampler:
        words.append(sampler + (f", {diffusion['name']} sigma = {diffusion['sigma']:g}" if diffusion else ""))
    for key, unit in (("steps", "steps"), ("nfe", "NFE")):
        if (value := shared(lambda cell, key=key: cell.summary.get(key))) is not None:
            words.append(f"{value:.4g} {unit}")
    if config.get("guidance") is not None and "guidance" not in keys:
        words.append(f"guidance {config['guidance']:g}")
    if (path := shared(lambda cell: choice_of(cell, "path"))) is not None:
        words.append(f"path {path['name']}")
    if (data := shared(lambda cell: choice_of(cell, "dataset"))) is not None:
        oracle = config["run"] == "oracle"
        words.append(f"exact field of {data['name']}" if oracle else data["name"])
    if same(cells, "run") and config["run"] != "oracle":
        words.append(f"from {progress.shown_path(Path(config['run']))}")
    return ", ".join(words)


def seeds_of(cells: list[Cell], keys: list[str]) -> list[str]:
    """Of which seeds the panels are: run.seed of a training and seed of its samples, those that are not among the keys."""
    found = {
        "run.seed": [None if cell.config["run"] == "oracle" else choice_of(cell, "seed") for cell in cells],
        "seed": [cell.config.get("seed") for cell in cells],
    }
    words = []
    for key, seeds in found.items():
        if key not in keys and None not in seeds:
            each = seeds if len(set(map(str, seeds))) > 1 else seeds[:1]
            words.append(f"{key}={','.join(map(str, each))}{' in turn' if len(each) > 1 else ''}")
    return words


def same(cells: list[Cell], *keys: str) -> bool:
    """Whether all jobs have the same value of each key of their configs."""
    return all(cell.config.get(key) == cells[0].config.get(key) for cell in cells for key in keys)


def choice_of(cell: Cell, group: str) -> Any:
    """A job's dataset, path or seed of training: its own, or that of its run."""
    run = cell.config["run"]
    config = cell.config if run == "oracle" else folder.read_config(Path(run))
    return config[group]


def dataset_of(cell: Cell) -> Dataset:
    """The dataset that a job's samples are compared with. Raises UserError."""
    dataset, run = choose(Dataset, choice_of(cell, "dataset"), "dataset"), cell.config["run"]  # type: ignore[type-abstract]
    if run == "oracle":
        return dataset
    found = dataset.found_from(folder.read_directory(Path(run)))
    return found.scaled_by(folder.read_scaling(Path(run)))


def images_grid(samples: list[Samples], keys: list[str], dataset: Dataset, about: str) -> Figure:
    """A row of images for each job: one or more of each label, or the first ones, each column from one noise."""
    y = next((each.y for each in samples if each.y is not None), None)
    alike = all(each.y is None or y is None or np.array_equal(each.y, y) for each in samples)
    n = min(len(each.x) for each in samples)
    room = tiles.fitting_columns(samples[-1].x.shape[1:], COLUMNS)
    rows, headings = np.arange(min(n, room)), [""] * min(n, room)
    if y is not None and alike:
        kinds, names = np.unique(y[:n])[:room], names_of(dataset)
        each_of = [np.flatnonzero(y[:n] == kind)[: max(1, room // len(kinds))] for kind in kinds]
        rows = np.concatenate(each_of)
        headings = [
            escape_formulas(names(int(kind))) if j == 0 else ""
            for kind, at in zip(kinds, each_of, strict=True)
            for j in range(len(at))
        ]
        headings = [heading.removeprefix("label ") for heading in headings]
        about += ", columns: labels"
    shown = on_screen([each.x[rows] for each in samples], dataset)
    labels = [cell_title(each.words, keys) for each in samples]
    return tiles.lines(shown, labels, headings, about=about)


def on_screen(rows: list[np.ndarray], dataset: Dataset) -> list[np.ndarray]:
    """Images in the data's own units, from -1 to 1, black to white; where they are scaled, quantiles of the data are these."""
    scaling = dataset.scaling(rows[0].shape[1:])
    if scaling is None:
        return rows
    show = screen_of_images(dataset, scaling)
    return [show(((row - scaling.mean) / scaling.divisor).astype(np.float32)) for row in rows]


def cell_title(words: tuple[str, ...], keys: list[str]) -> str:
    """The words of a job, key = value; what is no job's as it is."""
    if len(words) < len(keys) or words[0].startswith(WITHOUT):
        return escape_formulas(words[0])
    return escape_formulas(", ".join(f"{key} = {value}" for key, value in zip(keys, words, strict=True)))


def points_grid(samples: list[Samples], keys: list[str], dataset: Dataset, coordinates: Any, about: str) -> Figure:
    """A panel for each job: its samples, or trajectories where they were saved, over the density of the data."""
    labels = next((each.y for each in samples if each.y is not None), None)
    truth, how = true_points(dataset, labels)
    chosen = tuple(coordinates) if isinstance(coordinates, list) else None  # components are of other units
    names = tuple(map(escape_formulas, dataset.column_names()))
    view = chosen_view(chosen, names, samples[-1].x)
    view = view._replace(matrix=view.matrix[:, :2], names=view.names[:2])
    shown = [view.show(each.x) for each in samples]
    known = [] if truth is None else [view.show(truth)]
    about = ", ".join(
        filter(None, [about, view.about and f"coordinates {' and '.join(view.names)}", how and f"over {how}"])
    )
    titles = [cell_title(each.words, keys) for each in samples]
    law = dataset.law(labels)
    if len(view.names) == 1:
        low, high = window([np.repeat(each, 2, axis=-1) for each in shown + known])[:2]
        edges = np.linspace(low, high, PIXELS + 1)
        density = None if truth is None else density_of(law and view.law(law), known[0], [edges])
        return plots.lines_grid(titles, [each[:, 0] for each in shown], edges, density, view.names[0], about)
    ways = [None if each.way is None else view.show(each.way) for each in samples]
    moving = [way for way in ways if way is not None]
    square = dataset.scaling(samples[-1].x.shape[1:]) is None
    extent = window([*shown, *known, *moving], square=square)._replace(names=view.names)
    mapped = None
    if truth is not None:
        mapped = HeatMap(density_of(law and view.law(law), known[0], pixels(extent)), extent)
    name = names_of(dataset)
    groups = [
        None if each.y is None else {name(int(kind)): each.y[:POINTS] == kind for kind in np.unique(each.y)}
        for each in samples
    ]
    panels = [
        plots.Panel(title, x[:POINTS], group, way)
        for title, x, group, way in zip(titles, shown, groups, ways, strict=True)
    ]
    return plots.clouds_grid(panels, columns_of(samples, keys), mapped, extent, about)


def columns_of(samples: list[Samples], keys: list[str]) -> int:
    """The number of panels side by side: of two swept words as many as the second has values, else up to four."""
    if len(keys) == 2:
        rows, columns = (list(dict.fromkeys(each.words[i] for each in samples if len(each.words) == 2)) for i in (0, 1))
        if len(rows) * len(columns) == len(samples) and len(columns) <= 6:
            return len(columns)
    return min(4, len(samples))


def true_points(dataset: Dataset, labels: np.ndarray | None) -> tuple[np.ndarray | None, str]:
    """Points of the data (TRUE, d) in its own units, with the labels (n,) if there are any, and what the density shown is."""
    try:
        arrays = dataset.load()
        x = dataset.draw_given(arrays, labels, jax.random.key(0), TRUE)
    except UserError:
        return None, ""
    scaling = dataset.scaling(x.shape[1:])
    own = x if scaling is None else scaling.mean + scaling.std * x
    if dataset.law(labels) is not None:
        return own, "the exact density of the data"
    return own, f"a histogram of {TRUE:,} draws of the data"


def density_of(law: Any, truth: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """The density of the data on pixels: exact where the law is known, else counted."""
    if law is None:
        return counted(truth, edges)
    return mixture_density(law, OT(), np.ones(1), edges)[0]  # at t = 1 every path is at the data


def pixels(extent: Extent) -> list[np.ndarray]:
    """The edges of pixels along both sides of a window."""
    return [np.linspace(*extent[:2], PIXELS + 1), np.linspace(*extent[2:4], PIXELS + 1)]
