"""Pictures of images: samples, how they come about, what lies between them, and what they were learnt from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from diffsde.datasets import Dataset, FiniteDataset
from diffsde.datasets.dataset import HALF_RANGE, as_points, mirrored
from diffsde.datasets.scaling import Scaling
from diffsde.ensembles import member
from diffsde.errors import UserError
from diffsde.fields import Field, bound
from diffsde.guidance import Guided
from diffsde.metrics.neighbours import nearest
from diffsde.plots import images as plots
from diffsde.rails import settle_last
from diffsde.runs import folder, report
from diffsde.runs.pictures.companions import DEGREES, companions
from diffsde.runs.pictures.drawn import Drawn, labels_of, on_screen, save_figure
from diffsde.samplers import DPMSolverPP2M, simulate_compiled, times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.starts import prior
from diffsde.types import Key

CHANNELS = 4  # at most
SIDE = 10  # images along a side of the samples' grid
CLASSES = 20  # rows of it, at most, where each row is a class
COMPARED = 6  # images along a side of two grids beside one another
FILMED = 4  # ... of the film's
STRIPS = 5  # samples whose way is shown
TIMES = 10  # ... at so many times
LEARNED, LEARNED_STEPS = 64, 25  # samples drawn when training ends, about, and the steps they take
SEEN = 1000  # images whose numbers say what is black and what is white, where they are no bytes
NEIGHBOURS = 6  # samples beside so many training images


def are_images(shape: tuple[int, ...]) -> bool:
    """Whether points of this shape are images (H, W, C)."""
    return len(shape) == 3 and shape[-1] <= CHANNELS


def draw_images(drawn: Drawn, out: Path) -> list[Path]:
    """samples.png, denoising.png, ode_or_sde.png and forming.gif; interpolations.png where two samples are given the
    same; beside_data.png and neighbours.png of finite data that is here.
    """
    shape, x = drawn.field.shape, np.asarray(drawn.x)
    shown = screen_of(drawn.dataset, drawn.scaling)
    side, filmed = plots.fitting(shape, COMPARED, 2), plots.fitting(shape, FILMED, 2)
    others = companions(drawn, min(len(x), filmed**2), min(len(x), side**2))
    way, labels = others.way, labels_of(drawn)
    at = np.unique(np.linspace(0, len(way.times) - 1, TIMES).round().astype(int))
    figures = {
        "samples.png": overview(shown(x), labels),
        "denoising.png": plots.denoising(
            way.times[at], shown(way.x[at, :STRIPS]), shown(way.data[at, :STRIPS]), prediction(drawn)
        ),
        "ode_or_sde.png": plots.grids(
            {title: shown(each) for title, each in others.panels.items()}, square(next(iter(others.panels.values())))
        ),
    }
    if len(others.arcs.ends):
        names = [""] * len(others.arcs.ends) if labels is None else [str(labels[i]) for i in others.arcs.ends[:, 0]]
        figures["interpolations.png"] = plots.interpolations(shown(others.arcs.x), DEGREES, names)
    figures |= with_data(drawn, x[: side**2], shown)
    titles = {"$x_t$": shown(way.x), prediction(drawn): shown(way.data)}
    film = plots.film(titles, way.times, square(way.x[0]))
    save_film = partial(film.save, writer=PillowWriter(fps=16))
    pictures = [save_figure(out / name, figure) for name, figure in figures.items()]
    return [*pictures, folder.write(out / "forming.gif", save_film)]


def prediction(drawn: Drawn) -> str:
    """What the field says of the data: an expectation, given the label where there is one; guided, D_w is none."""
    if isinstance(drawn.field, Guided):
        return "$D_w(x_t, y)$" if labels_of(drawn) is not None else "$D_w(x_t)$"
    return r"$\mathrm{E}[z\,|\,x_t, y]$" if labels_of(drawn) is not None else r"$\mathrm{E}[z\,|\,x_t]$"


def screen_of(dataset: Dataset, scaling: Scaling | None) -> Callable[[Any], np.ndarray]:
    """From images in the model's units to [-1, 1], black to white (on_screen)."""
    if scaling is None or not isinstance(dataset, FiniteDataset):
        return np.asarray
    return on_screen(scaling, np.asarray(dataset.load().x)[:SEEN])


def learned(field: Field, dataset: Dataset, key: Key) -> Figure:
    """Samples of a trained field by DPM-Solver++ (2M) in 25 steps, as many of each label: what it has learnt, cheaply."""
    sampler, (key_prior, key_noise) = DPMSolverPP2M(), jax.random.split(key)
    kinds = min(field.classes, CLASSES)
    n = kinds * min(SIDE, LEARNED // kinds) if kinds else LEARNED
    given = jnp.arange(n) % kinds if kinds else None
    grid = times(UniformGrid(), LEARNED_STEPS, field.path)
    last = settle_last(sampler, bound(field, member(given, 0)), grid, "auto")
    x0 = prior(field.path, grid[0], field.shape, key_prior, n)
    x = simulate_compiled(sampler, field, x0, grid, key_noise, given, last=last).x
    return overview(screen_of(dataset, dataset.scaling(field.shape))(x), None if given is None else np.asarray(given))


def square(images: np.ndarray) -> int:
    """The columns of a grid that is as good as square."""
    return math.isqrt(len(images) - 1) + 1


def overview(x: np.ndarray, labels: np.ndarray | None) -> Figure:
    """The first samples (n, H, W, C) in a square; of labelled ones a row for each label (n,)."""
    columns = plots.fitting(x.shape[1:], SIDE)
    if labels is None:
        shown = x[: columns**2]
        return plots.grids({"": shown}, square(shown))
    return plots.by_class({str(label): x[labels == label][:columns] for label in np.unique(labels)[:CLASSES]})


def with_data(drawn: Drawn, x: np.ndarray, shown: Callable[[Any], np.ndarray]) -> dict[str, Figure]:
    """Samples x (n, H, W, C) beside data, of the same labels where they have any, and the nearest training images of the
    first few. None where the data has no end, or is not here.
    """
    dataset = drawn.dataset
    if not isinstance(dataset, FiniteDataset):
        return {}
    try:
        if dataset.stream:
            raise UserError("they are of all data, of which dataset.stream=true holds only a part")
        examples = dataset.load()
    except UserError as error:
        report.say(f"no beside_data.png, no neighbours.png: {error}")
        return {}
    few = x[:NEIGHBOURS]
    near, distances = learnt_from(few, np.asarray(examples.x), dataset.flip)
    panels = {
        "data": shown(dataset.draw_given(examples, labels_of(drawn), drawn.key, len(x))),
        "samples": shown(x),
    }
    return {
        "beside_data.png": plots.grids(panels, square(x)),
        "neighbours.png": plots.neighbours(shown(few), shown(near), distances),
    }


def learnt_from(x: np.ndarray, data: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The training images (n, k, H, W, C) nearest to x (n, H, W, C), the nearest first, and their distances (n, k).

    data (N, H, W, C): bytes or numbers, as `load` gives them; flip: their mirror images are training images too.
    """
    data = np.concatenate([data, mirrored(data)]) if flip else data
    bytes_ = data.dtype == np.uint8
    found = nearest(x * HALF_RANGE + HALF_RANGE if bytes_ else x, data, NEIGHBOURS)
    return np.asarray(as_points(data[found.indices])), found.distances / (HALF_RANGE if bytes_ else 1)
