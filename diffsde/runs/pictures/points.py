"""Pictures of points on a line and in the plane: ODE and SDE from the same noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.animation import PillowWriter

from diffsde import mixtures
from diffsde.datasets import FiniteDataset, MixtureDataset, draw_many
from diffsde.ensembles import member
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.plots import marginals as clouds
from diffsde.plots import trajectories as lines
from diffsde.plots.style import Extent, HeatMap, window
from diffsde.runs import folder
from diffsde.runs.pictures.drawn import Drawn, beside, labels_of, save_figure
from diffsde.samplers import simulate_compiled
from diffsde.samplers.diffusions import Constant

CLOUD = 2000  # points in the film and the marginals
LINES = 60  # trajectories drawn
FRAMES = 48  # states kept, at least, where there are that many steps
TRUE = 20_000  # points of the data
PIXELS = 160  # a side of a heat map


class Film(NamedTuple):
    """times (m,) and states (m, k, *shape), on the host."""

    times: np.ndarray
    x: np.ndarray


def draw_points(drawn: Drawn, out: Path) -> list[Path]:
    """trajectories.png, marginals.png and cloud.gif for points in the plane; 1-D against time."""
    sampler, field, dataset, x0, times = drawn.sampler, drawn.field, drawn.dataset, drawn.x0, drawn.times
    labels, key_true = labels_of(drawn), jax.random.fold_in(drawn.key, 1)
    law = None
    if isinstance(dataset, MixtureDataset):
        law = dataset.mixture() if labels is None else mixtures.only(dataset.mixture(), labels)
        truth = np.asarray(mixtures.sample(law, key_true, TRUE))
    elif isinstance(dataset, FiniteDataset):
        truth = dataset.draw_given(dataset.load(), labels, key_true, TRUE)
    else:
        truth = np.asarray(draw_many(dataset, dataset.load(), key_true, TRUE))
    truth = drawn.own(truth)
    if sampler.adaptive:  # its own steps are not the grid's, and one of them is no picture
        times = jnp.linspace(times[0], times[-1], 2 * FRAMES + 1)
    every = max(1, (len(times) - 1) // FRAMES)
    runs: dict[str, Film] = {}
    for title, chosen in beside(sampler, Constant()).items():
        saved = simulate_compiled(
            chosen,
            field,
            x0[:CLOUD],
            times,
            drawn.key,
            member(drawn.given, slice(CLOUD)),
            last=drawn.last,
            save_every=every,
            coupled=drawn.coupled and chosen.coupled,
        ).trajectory
        runs[title] = Film(np.asarray(saved.times), drawn.own(saved.x))
    if x0.shape[1] == 1:
        panels = {title: (run.times, run.x[:, :LINES, 0]) for title, run in runs.items()}
        end = runs[next(reversed(runs))].x[-1, :, 0]
        return [
            save_figure(out / "trajectories.png", lines.trajectories_1d(panels, truth[:, 0], *dataset.column_names())),
            save_figure(out / "samples.png", clouds.samples_1d(end, truth[:, 0], *dataset.column_names())),
        ]
    shown = list(runs)[-1] if sampler.stochastic else next(iter(runs))
    return _planar(
        runs, shown, field.path, law, truth, out, square=drawn.scaling is None, names=dataset.column_names() or ("", "")
    )


def _planar(
    runs: dict[str, Film],
    shown: str,
    path: GaussianPath,
    law: Mixture | None,
    truth: np.ndarray,
    out: Path,
    square: bool,
    names: tuple[str, ...],
) -> list[Path]:
    """square: whether both axes have the same units a millimetre."""
    run = runs[shown]
    spread = np.concatenate([truth, run.x[0], run.x[-1]])
    extent = window(spread, square=square)._replace(names=names)
    wanted = [float(run.times[0]), 1 / 3, 2 / 3, float(run.times[-1])]
    at = [int(np.abs(run.times - t).argmin()) for t in wanted]
    densities = None
    if law is not None:
        density = partial(_density, law, path, extent)
        densities = [density(float(run.times[i])) for i in at]
        data, prior = density(1.0), density(float(run.times[0]))
    else:
        data, prior = _histogram(truth, extent), _histogram(np.asarray(run.x[0]), extent)
    marginals = clouds.marginals([float(run.times[i]) for i in at], [run.x[i] for i in at], densities, extent)
    panels = {title: run.x[:, :LINES] for title, run in runs.items()}
    film = clouds.film({title: run.x for title, run in runs.items()}, run.times, data, extent)
    save_film: Callable[[Path], None] = partial(film.save, writer=PillowWriter(fps=16))
    return [
        save_figure(out / "trajectories.png", lines.trajectories(panels, prior, data, extent)),
        save_figure(out / "marginals.png", marginals),
        folder.write(out / "cloud.gif", save_film),
    ]


def _density(mixture: Mixture, path: GaussianPath, extent: Extent, t: float) -> HeatMap:
    """The exact p_t on a grid of pixels."""
    law = mixtures.marginal(mixture, coefficients(path, t))
    xs = jnp.linspace(extent.left, extent.right, PIXELS)
    ys = jnp.linspace(extent.bottom, extent.top, PIXELS)
    grid = jnp.stack(jnp.meshgrid(xs, ys), axis=-1)
    return HeatMap(np.exp(np.asarray(jax.vmap(jax.vmap(partial(mixtures.log_prob, law)))(grid))), extent)


def _histogram(points: np.ndarray, extent: Extent) -> HeatMap:
    """A density estimate where the law is not known: counts on pixels."""
    bins = PIXELS // 2
    counts, _, _ = np.histogram2d(
        points[:, 1], points[:, 0], bins=bins, range=[(extent.bottom, extent.top), (extent.left, extent.right)]
    )
    return HeatMap(counts, extent)
