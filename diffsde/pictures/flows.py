"""Pictures of samples of a discrete flow, which has no times between noise and data: the samples beside the data, and its density."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde.build import name_of
from diffsde.datasets import FiniteDataset
from diffsde.datasets.scaling import log_volume, to_model, to_own
from diffsde.discrete_flow import log_probs
from diffsde.pictures.coordinates import chosen_view
from diffsde.pictures.drawn import names_of
from diffsde.pictures.images import first_of, image_overview, screen_of_images
from diffsde.plots.clouds import Cloud, beside_one_another
from diffsde.plots.corner import Compared, corner
from diffsde.plots.lines import flow_1d
from diffsde.plots.style import HeatMap, escape_formulas, window
from diffsde.runs import progress

if TYPE_CHECKING:
    from diffsde.runs.flow_sampling import FlowJob

TRUE = 10_000  # points drawn from the data
SHOWN = 10_000  # samples drawn
PIXELS = 120  # side of the density's heat map
BINS = 80  # of histograms on a line
IMAGES = 100  # samples in a grid without labels


@dataclasses.dataclass(frozen=True)
class FlowScene:
    """The inputs of the pictures: the job, and its samples x (n, *shape) in the model's units."""

    job: FlowJob
    x: np.ndarray

    @property
    def about(self) -> str:
        """The title: data, and the run."""
        return (
            f"{name_of(self.job.dataset)}, {len(self.x):,} samples of {progress.shown_path(Path(self.job.chosen.run))}"
        )

    @cached_property
    def compared(self) -> tuple[str, np.ndarray]:
        """Points of the data (m, *shape) in the model's units, with the samples' labels if there are any, and in words which: of
        a finite set all, and none of them twice, where they are at most TRUE.
        """
        job, dataset, n = self.job, self.job.dataset, TRUE
        arrays = dataset.load()
        if isinstance(dataset, FiniteDataset) and job.data_labels is None and len(arrays.x) <= TRUE:
            return f"all {len(arrays.x):,} training points", np.asarray(arrays.x)
        if isinstance(dataset, FiniteDataset):
            n = min(n, len(arrays.x))
        return f"{n:,} draws of the data", np.asarray(dataset.draw_given(arrays, job.data_labels, job.key_true, n))

    @property
    def truth(self) -> np.ndarray:
        """The points of the data that samples are compared with."""
        return self.compared[1]

    def own(self, x: np.ndarray) -> np.ndarray:
        """Points in the data's own units."""
        return to_own(self.job.scaling, x)


def flow_plane(scene: FlowScene) -> Figure:
    """Data, samples, and the flow's density, in the plane."""
    job, x, truth = scene.job, scene.own(scene.x[:SHOWN]), scene.own(scene.truth)
    names = tuple(map(escape_formulas, job.dataset.column_names()))
    extent = window([truth], square=job.scaling is None)
    extent = extent._replace(names=names or extent.names)
    panels: dict[str, Cloud | HeatMap] = {"data": Cloud(truth), "samples": Cloud(x, labels_of(scene, len(x)))}
    if job.labels is None:
        panels["density of the flow"] = HeatMap(density_on(scene, extent[:4]), extent)
    known = names_of(job.dataset)
    labels = [] if job.data_labels is None else [known(label) for label in np.unique(job.data_labels)]
    return beside_one_another(panels, extent, labels, scene.about)


def labels_of(scene: FlowScene, n: int) -> np.ndarray | None:
    """The place of each sample's label among those that there are (n,); None without labels."""
    if scene.job.data_labels is None:
        return None
    return np.unique(scene.job.data_labels, return_inverse=True)[1][:n]


def density_on(scene: FlowScene, sides: tuple[float, ...]) -> np.ndarray:
    """The flow's density on pixels (PIXELS, PIXELS) of a window, up to a factor."""
    left, right, bottom, top = sides
    x, y = (low + (np.arange(PIXELS) + 0.5) / PIXELS * (high - low) for low, high in ((left, right), (bottom, top)))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    model = jnp.asarray(to_model(scene.job.scaling, points), jnp.result_type(float))
    return np.exp(np.asarray(log_probs(scene.job.flow, model, None))).reshape(PIXELS, PIXELS)


def flow_line(scene: FlowScene) -> Figure:
    """Samples, data, and the flow's density, on a line."""
    job, x, truth = scene.job, scene.own(scene.x)[:, 0], scene.own(scene.truth)[:, 0]
    names = tuple(map(escape_formulas, job.dataset.column_names()))
    left, right = window([np.column_stack([truth, truth])])[:2]
    edges = np.linspace(left, right, BINS + 1)
    places = to_model(job.scaling, (edges[1:, None] + edges[:-1, None]) / 2)
    model = jnp.asarray(places, jnp.result_type(float))
    labels = [None] if job.data_labels is None else [jnp.full(BINS, label) for label in np.unique(job.data_labels)]
    log_p = [np.asarray(log_probs(job.flow, model, label)) - log_volume(job.scaling, (1,)) for label in labels]
    return flow_1d(
        x, edges, (scene.compared[0], truth), np.mean(np.exp(log_p), axis=0), names[0] if names else "$x$", scene.about
    )


def flow_corner(scene: FlowScene) -> Figure:
    """Each shown coordinate of the samples, and each two of them, against the data."""
    job = scene.job
    names = tuple(map(escape_formulas, job.dataset.column_names()))
    view = chosen_view(job.chosen.coordinates, names, scene.truth)
    x, truth = (view.show(scene.own(each) if view.own else np.asarray(each)) for each in (scene.x, scene.truth))
    compared = Compared(x, truth, f"{len(x):,} samples", scene.compared[0])
    return corner(compared, view.names, None, ", ".join(filter(None, (scene.about, view.about))))


def flow_images(scene: FlowScene) -> Figure:
    """Data and samples side by side, with labels a row for each label."""
    job, labels = scene.job, scene.job.data_labels
    rows = first_of(labels) if labels is not None else np.arange(min(len(scene.x), IMAGES))
    shown, given = screen_of_images(job.dataset, job.scaling), None if labels is None else labels[rows]
    panels = {"samples": shown(scene.x[rows])}
    if job.known:
        data = job.dataset.draw_given(job.dataset.load(), given, jax.random.fold_in(job.key_true, 1), len(rows))
        panels = {"data": shown(data)} | panels
    return image_overview(panels, given, scene.about, names_of(job.dataset))
