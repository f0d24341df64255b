"""Pictures of samples that go through the snapshots of a population."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import numpy as np
from matplotlib.figure import Figure

from diffsde.datasets import Snapshots
from diffsde.datasets.snapshots import Snapshot
from diffsde.pictures.coordinates import View, chosen_view
from diffsde.pictures.drawn import Drawn, ode_and_sde, simulated
from diffsde.plots.clouds import histograms_in_time
from diffsde.plots.snapshots import Moment, beside_snapshots, through_snapshots
from diffsde.plots.style import Extent, escape_formulas, window
from diffsde.samplers.diffusions import Constant

CLOUD, LINES = 1500, 60  # samples, and those whose trajectories are drawn
BETWEEN = 32  # least number of steps from one snapshot to the next


@dataclasses.dataclass(frozen=True)
class SnapshotScene:
    """The inputs of pictures of samples through snapshots, each computed when first used."""

    drawn: Drawn

    @property
    def series(self) -> Snapshots:
        """The snapshots, of which the samples' data are the last, or backward in time the first."""
        dataset = self.drawn.dataset
        found = dataset.series if isinstance(dataset, Snapshot) else dataset
        assert isinstance(found, Snapshots)
        return found

    def as_t(self, times: np.ndarray) -> np.ndarray:
        """The samples' t at times of one's own."""
        t = self.series.as_t(times)
        return 1 - t if isinstance(self.drawn.dataset, Snapshot) else t

    @cached_property
    def view(self) -> View:
        """The one or two coordinates that are shown, the first ones of coordinates=."""
        names = tuple(map(escape_formulas, self.series.column_names()))
        every = np.concatenate([np.asarray(x) for x in self.series.trained()])
        view = chosen_view(self.drawn.coordinates, names, every)
        return view._replace(matrix=view.matrix[:, :2], names=view.names[:2])

    def own(self, x: object) -> np.ndarray:
        """The shown coordinates (..., k) of points (..., d)."""
        return self.view.show(self.drawn.own(x) if self.view.own else np.asarray(x))

    def placed(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Points (m, n, k) at times (m,) of one's own as a plane shows them: against time where they have one coordinate."""
        if x.shape[-1] == 2:
            return x
        return np.stack([np.broadcast_to(times[:, None], x.shape[:2]), x[..., 0]], axis=-1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the plane's axes."""
        return self.view.names if len(self.view.names) == 2 else ("time", self.view.names[0])

    @cached_property
    def grid(self) -> np.ndarray:
        """The times t of the pictures' simulation: the samples' own, and the snapshots' among them."""
        times = self.drawn.times_kept(BETWEEN)
        series = self.series.series().times
        inner = [t for t in self.as_t(series) if times[0] < t < times[-1]]
        least = 2 * BETWEEN * max(1, len(inner) + 1)
        fine = times if len(times) > least else np.linspace(times[0], times[-1], least + 1)
        return np.unique(np.concatenate([fine, inner]).astype(times.dtype))

    @cached_property
    def ways(self) -> dict[str, np.ndarray]:
        """Trajectories (m, CLOUD, k) of the first samples on `grid`, by title: of the chosen sampler, and beside an ODE of an SDE
        with the strength of the path's Brownian motion, where the field knows its score.
        """
        drawn, field = self.drawn, self.drawn.field
        x0 = np.asarray(drawn.x0)[:CLOUD]
        sigma = field.path.reference_sigma
        both = ode_and_sde(drawn.sampler, Constant(1.0 if sigma is None else float(sigma)))
        if not field.knows_score or (sigma is None and not drawn.sampler.stochastic):
            both = {title: sampler for title, sampler in both.items() if sampler is drawn.sampler}
        found = {}
        for title, sampler in both.items():
            way = simulated(drawn, sampler, x0, np.arange(len(x0)), self.grid, 1).trajectory
            assert way is not None
            found[title] = self.own(way.x)
        return found

    @cached_property
    def moments(self) -> list[Moment]:
        """Every snapshot beside the samples at its time."""
        way = list(self.ways.values())[1 if self.drawn.sampler.stochastic and len(self.ways) > 1 else 0]
        found, trained = [], self.series.trained_times
        for i, time in enumerate(self.series.series().times):
            snapshot = self.series.at(i)
            true = snapshot.true_points(None, jax.random.fold_in(self.drawn.key, i), len(snapshot.load().x))
            t = float(self.series.as_t(np.array(time)))
            at = int(np.abs(self.drawn.path_times(self.grid) - t).argmin())
            there, here = (self.placed(each[None], np.array([time]))[0] for each in (self.own(true), way[at]))
            left_out = not np.isclose(trained, time).any()
            found.append(Moment(float(time), t, there, here, left_out))
        return found

    @cached_property
    def extent(self) -> Extent:
        """The window that holds all snapshots and trajectories."""
        sets = [cloud for moment in self.moments for cloud in (moment.true, moment.samples)]
        square = self.drawn.scaling is None and self.view.own and len(self.view.names) == 2
        return window(sets, square=square)._replace(names=self.names)

    @property
    def about(self) -> str:
        """The title: of what samples, and which of their coordinates."""
        which = " and ".join(map(plain, self.view.names)) if self.drawn.field.shape[0] > 2 else ""
        return ", ".join(filter(None, (self.drawn.about, which)))


def plain(name: str) -> str:
    """The name of a coordinate without formulas, for the line over a picture."""
    return name.replace("$", "").replace("\\", "").replace("_", "")


def snapshot_trajectories(scene: SnapshotScene) -> Figure:
    """The snapshots, and trajectories through them."""
    first, last = scene.series.series().times[[0, -1]]
    if scene.as_t(np.array(first)) == 1:
        first, last = last, first
    own = first + scene.grid * (last - first)
    ways = {title: scene.placed(way[:, :LINES], own) for title, way in scene.ways.items()}
    return through_snapshots(scene.moments, ways, scene.extent, scene.about)


def snapshot_marginals(scene: SnapshotScene) -> Figure:
    """The points of every snapshot above the samples at its time; of points on a line their histograms."""
    if len(scene.view.names) == 1:
        rows = {
            title: [getattr(each, name)[:, 1] for each in scene.moments]
            for title, name in (("data", "true"), ("samples", "samples"))
        }
        times = {name: np.array([each.t for each in scene.moments]) for name in rows}
        left, right = scene.extent[2:4]
        extent = Extent(left, right, 0.0, 1.0, (scene.names[1], ""))
        return histograms_in_time(rows, times, None, extent, scene.about)
    return beside_snapshots(scene.moments, scene.extent, scene.about)
