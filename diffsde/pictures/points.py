"""Pictures of points: ODE and SDE from the same noise, and samples compared with the data."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde import mixtures
from diffsde.datasets import Examples, FiniteDataset
from diffsde.datasets.normal import StandardNormal
from diffsde.guidance import Guided
from diffsde.mixtures import Mixture
from diffsde.pictures.coordinates import View, chosen_view
from diffsde.pictures.densities import ATOMS, Atoms, atoms_density, counted, mixture_density
from diffsde.pictures.drawn import Drawn, labels_given, names_of, ode_and_sde, simulated
from diffsde.plots import lines as on_a_line
from diffsde.plots import marginals as clouds
from diffsde.plots import trajectories as lines
from diffsde.plots.corner import Compared, corner
from diffsde.plots.film import Film
from diffsde.plots.style import HELD, Extent, HeatMap, escape_formulas, window
from diffsde.samplers.diffusions import Constant, Vanishing
from diffsde.stability import refined
from diffsde.types import Array

CLOUD = 2000  # points in the film and the marginals
LINES = 60  # trajectories drawn
SDE_STEPS = 128  # least number of steps of the SDE that is compared with an ODE
FRAMES = 48  # least number of saved states, if there are that many steps
TRUE = 20_000  # points drawn from the data
SHOWN = 4  # times in the picture of marginals
PIXELS = 160  # side of a heat map, an even number


class States(NamedTuple):
    """Trajectories on the host: times (m,), and points x (m, k, *shape) in the data's own units."""

    times: np.ndarray
    x: np.ndarray


@dataclasses.dataclass(frozen=True)
class PointScene:
    """The inputs of pictures of points, each computed when first used. columns: how many of the shown coordinates are drawn
    against one another, the first ones; None: all.
    """

    drawn: Drawn
    columns: int | None = None

    @cached_property
    def view(self) -> View:
        """The coordinates that are shown: all of one or two, else those of coordinates=."""
        names = tuple(map(escape_formulas, self.drawn.dataset.column_names()))
        view = chosen_view(self.drawn.coordinates, names, self.truth)
        few = slice(self.columns)
        return view._replace(matrix=view.matrix[:, few], names=view.names[few])

    def own(self, x: Array | np.ndarray) -> np.ndarray:
        """The shown coordinates (..., k) of points (..., d), in the data's own units, or of principal components."""
        return self.view.show(self.drawn.own(x) if self.view.own else np.asarray(x))

    @property
    def about(self) -> str:
        """The title: of what samples, and which of their coordinates."""
        return ", ".join(filter(None, (self.drawn.about, self.view.about)))

    @cached_property
    def law(self) -> Mixture | None:
        """The law of the data, restricted to the samples' labels if there are any; None where it is not known."""
        dataset, labels = self.drawn.dataset, labels_given(self.drawn)
        return dataset.law(labels)

    @cached_property
    def origin(self) -> Mixture | None:
        """The law at t = 0, between two laws that are independent mixtures; None elsewhere."""
        between = self.drawn.between
        if not between.two_laws or between.coupling is not None:
            return None
        return (between.source or StandardNormal(self.drawn.field.shape)).law()

    @property
    def knows_density(self) -> bool:
        """Whether p_t is that of a mixture."""
        return self.law is not None and (self.origin is not None or not self.drawn.between.two_laws)

    @cached_property
    def truth(self) -> np.ndarray:
        """Points of the data (TRUE, d), in the model's units, with the samples' labels if there are any."""
        dataset, key = self.drawn.dataset, jax.random.fold_in(self.drawn.key, 1)
        if self.law is not None:
            return np.asarray(_sample(self.law, key, TRUE))
        return dataset.draw_given(dataset.load(), labels_given(self.drawn), key, TRUE)

    @cached_property
    def atoms(self) -> tuple[np.ndarray, np.ndarray] | None:
        """A finite set of data: points (N, d) in the model's units, and their weights (N,), by the samples' labels if there are
        any; None for other data, and for more than ATOMS points.
        """
        dataset, labels = self.drawn.dataset, labels_given(self.drawn)
        if not isinstance(dataset, FiniteDataset) or dataset.stream or self.drawn.between.two_laws:
            return None
        z, y = (None if each is None else np.asarray(each) for each in dataset.load())
        assert z is not None
        weights = np.ones(len(z))
        if labels is not None and y is not None:
            asked, there = (np.bincount(each, minlength=max(labels.max(), y.max()) + 1) for each in (labels, y))
            weights = (asked / np.maximum(there, 1))[y]
        kept = weights > 0
        return (z[kept], weights[kept] / weights.sum()) if 0 < kept.sum() <= ATOMS else None

    @cached_property
    def runs(self) -> dict[str, States]:
        """The trajectories of the first samples by the ODE and by the SDE, by title."""
        drawn, times = self.drawn, self.drawn.times_kept(FRAMES)
        sigma = drawn.field.path.reference_sigma
        constant, widest = Constant() if sigma is None else Constant(float(sigma)), float(np.diff(times).max())
        stable = widest < 4 * drawn.dataset.least_variance() / constant.sigma**2  # Euler-Maruyama near the data
        x0 = np.asarray(drawn.x0)[:CLOUD]
        every, found = max(1, (len(times) - 1) // FRAMES), {}
        both = ode_and_sde(drawn.sampler, constant if stable else Vanishing(constant.sigma))
        jumps_alone = (
            drawn.sampler.jumps and not drawn.sampler.stochastic
        )  # an SDE at their few times is straight lines
        if jumps_alone or not drawn.field.knows_velocity:
            both = {title: sampler for title, sampler in both.items() if sampler is drawn.sampler}
        elif not drawn.field.knows_score:  # then there is no SDE
            both = {title: sampler for title, sampler in both.items() if not sampler.stochastic}
        for title, sampler in both.items():
            more = 1  # an ODE solver takes few steps, with which Euler-Maruyama would show its own error
            if sampler.stochastic and not drawn.sampler.stochastic:
                more = max(1, round(SDE_STEPS / (len(times) - 1)))
            way = simulated(
                drawn, sampler, x0, np.arange(len(x0)), np.asarray(refined(times, more)), more * every
            ).trajectory
            assert way is not None
            found[title] = States(np.asarray(way.times), self.own(way.x))
        return found

    @cached_property
    def samples(self) -> States:
        """The trajectories of the samples themselves: one of the two `runs`."""
        return list(self.runs.values())[-1 if self.drawn.sampler.stochastic else 0]

    @cached_property
    def shown(self) -> list[int]:
        """The indices of the samples' times that are drawn, evenly spaced from the first to the last; of a flow whose x_t follow
        no path these two alone.
        """
        times = self.samples.times
        if not self.drawn.field.follows_path:
            return [0, len(times) - 1]
        wanted = np.linspace(times[0], times[-1], SHOWN)
        return sorted({int(np.abs(times - t).argmin()) for t in wanted})

    def true_at(self, times: np.ndarray, n: int) -> np.ndarray:
        """x_t (m, n, k) for n points z of the data, at times (m,), as they are shown."""
        key = jax.random.fold_in(self.drawn.key, 2)
        return self.own(self.drawn.between.draws(jnp.asarray(self.truth[:n]), key, jnp.asarray(times)))

    @cached_property
    def true(self) -> list[np.ndarray]:
        """x_t for TRUE points of the data, one array per time that is drawn."""
        return list(self.true_at(self.samples.times[self.shown], TRUE))

    @cached_property
    def extent(self) -> Extent:
        """The window that contains the data and the trajectories at every time that is drawn."""
        moving = [run.x for run in self.runs.values()]
        square = self.drawn.scaling is None and self.view.own  # equal scales on both axes
        return window([self.own(self.truth), *self.true, *moving], square=square)._replace(names=self.view.names)

    @cached_property
    def edges(self) -> list[np.ndarray]:
        """The edges of the pixels on which densities are shown, along each coordinate."""
        if len(self.view.names) == 1:
            return [self.line]
        left, right, bottom, top = self.extent[:4]
        return [np.linspace(left, right, PIXELS + 1), np.linspace(bottom, top, PIXELS + 1)]

    @cached_property
    def line(self) -> np.ndarray:
        """The edges of pixels along a line that holds the data and the trajectories at every time that is drawn."""
        sets = [self.own(self.truth), *self.true, *(run.x for run in self.runs.values())]
        low, high = window([np.repeat(each, 2, axis=-1) for each in sets])[:2]
        return np.linspace(low, high, PIXELS + 1)

    def how_known(self, t: float) -> str:
        """How the density at t is known, in words: exact, or from how many draws."""
        if self.knows_density:
            return "exact $p_t$"
        if self.atoms is not None:
            n = len(self.atoms[0])
            return f"exact $p_t$ of {n:,} points" if self.drawn.field.path.beta(t) > 0 else f"the {n:,} points"
        note = self.drawn.between.note
        return note.strip() if note and 0 < t < 1 else f"histogram of {TRUE:,} draws"

    def densities(self, times: np.ndarray) -> np.ndarray:
        """p_t of the data on the pixels at times (m,): exact, or counted of x_t where no density is known."""
        path = self.drawn.field.path
        if self.knows_density:
            assert self.law is not None
            origin = None if self.origin is None else self.view.law(self.origin)
            return mixture_density(self.view.law(self.law), path, times, self.edges, origin)
        if self.atoms is None:
            return np.stack([counted(x, self.edges) for x in self.true_at(times.astype(self.truth.dtype), TRUE)])
        return np.stack([self._density_of(*self.atoms, float(t)) for t in times])

    def _density_of(self, z: np.ndarray, weights: np.ndarray, t: float) -> np.ndarray:
        """p_t on the pixels, for a finite set of points z (N, d) with weights (N,)."""
        path = self.drawn.field.path
        places, beta = self.own(float(path.alpha(t)) * z), float(path.beta(t))
        if beta == 0:
            return counted(places, self.edges, weights)
        d = z.shape[1]
        noise = self.own(np.eye(d)) - self.own(np.zeros(d))
        return atoms_density(Atoms(places, weights, np.linalg.norm(noise, axis=0)), beta, self.edges)

    @cached_property
    def maps(self) -> list[HeatMap]:
        """p_t in the plane at the times that are drawn, then p_data."""
        times = np.append(self.samples.times[self.shown], 1)
        return [HeatMap(each, self.extent) for each in self.densities(times)]

    @property
    def exact(self) -> bool:
        """Whether densities are exact where there is noise."""
        return self.knows_density or self.atoms is not None


def point_trajectories(points: PointScene) -> Figure:
    """Trajectories in the plane by the ODE and by the SDE, over the densities at both ends."""
    panels = {title: run.x[:, :LINES] for title, run in points.runs.items()}
    times = points.samples.times
    ends = float(points.drawn.path_times(times[0])), float(points.drawn.path_times(times[-1]))
    return lines.trajectories(panels, ends, points.maps[0], points.maps[-1], points.extent, points.about)


def point_marginals(points: PointScene) -> Figure:
    """The true p_t over samples, at a few times; of points of many coordinates the first two that are shown."""
    if len(points.view.names) > 2:
        points = dataclasses.replace(points, columns=2)
    times = points.samples.times[points.shown].tolist()
    own = [points.drawn.path_times(t) for t in times]
    unguided = ", not guided" if isinstance(points.drawn.field, Guided) else ""
    titles = [points.how_known(t) + unguided for t in times]
    cloud = clouds.Clouds([points.samples.x[i] for i in points.shown], groups_of(points, points.samples.x.shape[1]))
    if len(points.view.names) == 1:
        densities = list(points.densities(np.asarray(times)))
        return on_a_line.marginals_1d(own, points.line, densities, titles, cloud.x, points.view.names[0], points.about)
    beta = points.drawn.field.path.beta
    contours = [points.knows_density or (points.exact and float(beta(t)) > 0) for t in times]
    truth = clouds.Truth(points.maps[:-1], titles, contours)
    lines = ["contours hold " + " and ".join(f"{share:.0%}" for share in HELD)] if any(contours) else []
    return clouds.marginals(own, truth, cloud, points.extent, ", ".join([points.about, *lines]))


def point_film(points: PointScene) -> Film:
    """A film of the samples from noise to data, by the ODE and by the SDE."""
    moving = {title: run.x for title, run in points.runs.items()}
    return clouds.film_of_points(
        moving, points.drawn.path_times(points.samples.times), points.maps[-1], points.extent, points.about
    )


def point_trajectories_1d(points: PointScene) -> Figure:
    """Trajectories of points on a line against t, by the ODE and by the SDE, with the densities at both ends."""
    panels = {title: (points.drawn.path_times(run.times), run.x[:, :LINES, 0]) for title, run in points.runs.items()}
    times = points.samples.times
    ends = points.densities(np.array([times[0], times[-1]]))
    titles = [points.how_known(float(t)) for t in (times[0], times[-1])]
    return on_a_line.trajectories_1d(panels, points.line, ends, titles, points.view.names[0], points.about)


def point_samples_1d(points: PointScene) -> Figure:
    """The histogram of the samples, with the densities of the data at the samples' last time and of the noise at their first."""
    times = np.asarray(points.drawn.times)
    start, end = points.densities(times[[0, -1]])
    unguided = ", not guided" if isinstance(points.drawn.field, Guided) else ""
    known = {points.how_known(float(times[-1])) + unguided: end}
    x = points.own(points.drawn.x)[:, 0]
    first, last = (float(t) for t in points.drawn.path_times(times[[0, -1]]))
    return on_a_line.samples_1d(x, points.line, known, (first, start), last, points.view.names[0], points.about)


def point_corner(points: PointScene) -> Figure:
    """Each shown coordinate of the samples, and each two of them, against data that were held out, where there are any."""
    view, drawn = points.view, points.drawn
    label, data = compared_data(points)
    density = None
    if points.law is not None:
        law = view.law(points.law)
        density = [
            lambda edges, i=i: mixture_density(_along(law, i), drawn.field.path, np.ones(1), [edges])[0]
            for i in range(len(view.names))
        ]
    x = points.own(drawn.x)
    shown = Compared(x, data, f"{len(x):,} samples", label)
    return corner(shown, view.names, density, points.about)


def compared_data(points: PointScene) -> tuple[str, np.ndarray]:
    """What the samples are compared with, in words, and its shown coordinates (m, k): held-out points, else training points.

    Of samples with labels, points with the same labels in the same proportions.
    """
    drawn, dataset, labels = points.drawn, points.drawn.dataset, labels_given(points.drawn)
    if not isinstance(dataset, FiniteDataset) or points.law is not None:
        return f"{TRUE:,} draws of the data", points.own(points.truth)
    held = dataset.has_test
    found = dataset.held_out() if held else dataset.load()
    assert isinstance(found, Examples)
    x = np.asarray(found.x)
    if labels is not None and found.y is not None:
        x = dataset.draw_given(found, labels, drawn.key, min(len(x), TRUE))
    return f"{len(x):,} {'held-out' if held else 'training'} points", points.own(x)


def groups_of(points: PointScene, n: int) -> dict[str, np.ndarray] | None:
    """Which of the first n samples have each label, by its name; None without labels."""
    labels = labels_given(points.drawn)
    if labels is None:
        return None
    names = names_of(points.drawn.dataset)
    return {names(label): labels[:n] == label for label in np.unique(labels)}


def _along(law: Mixture, i: int) -> Mixture:
    """The law of coordinate i alone."""
    axis = np.zeros((law.means.shape[1], 1))
    axis[i] = 1
    return View(np.zeros(len(axis)), axis, ("",), about="one").law(law)


_sample = jax.jit(mixtures.sample, static_argnums=2)
