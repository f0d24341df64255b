"""Pictures of points on a line and in the plane: ODE and SDE from the same noise, compared with the data."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde import mixtures
from diffsde.guidance import Guided
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.pictures.drawn import Drawn, labels_given, ode_and_sde, simulated
from diffsde.plots import marginals as clouds
from diffsde.plots import trajectories as lines
from diffsde.plots.film import Film
from diffsde.plots.style import Extent, HeatMap, escape_formulas, window
from diffsde.samplers.diffusions import Constant, Vanishing
from diffsde.stability import refined
from diffsde.types import Array, Key

CLOUD = 2000  # points in the film and the marginals
LINES = 60  # trajectories drawn
SDE_STEPS = 128  # least number of steps of the SDE that is compared with an ODE
FRAMES = 48  # least number of saved states, if there are that many steps
TRUE = 20_000  # points drawn from the data
SHOWN = 4  # times in the picture of marginals
PIXELS = 160  # side of a heat map


class States(NamedTuple):
    """Trajectories on the host: times (m,), and points x (m, k, *shape) in the data's own units."""

    times: np.ndarray
    x: np.ndarray


@dataclasses.dataclass(frozen=True)
class PointScene:
    """The inputs of pictures of points, each computed when first used."""

    drawn: Drawn

    @cached_property
    def law(self) -> Mixture | None:
        """The law of the data, restricted to the samples' labels if there are any; None where it is not known."""
        dataset, labels = self.drawn.dataset, labels_given(self.drawn)
        return dataset.law(labels)

    @cached_property
    def truth(self) -> np.ndarray:
        """Points of the data (TRUE, d), in the model's units, with the samples' labels if there are any."""
        dataset, key = self.drawn.dataset, jax.random.fold_in(self.drawn.key, 1)
        if self.law is not None:
            return np.asarray(_sample(self.law, key, TRUE))
        return dataset.draw_given(dataset.load(), labels_given(self.drawn), key, TRUE)

    @cached_property
    def runs(self) -> dict[str, States]:
        """The trajectories of the first samples by the ODE and by the SDE, by title."""
        drawn, times = self.drawn, self.drawn.times_kept(FRAMES)
        constant, widest = Constant(), float(np.diff(times).max())
        stable = widest < 4 * drawn.dataset.least_variance() / constant.sigma**2  # Euler-Maruyama near the data
        x0 = np.asarray(drawn.x0)[:CLOUD]
        every, found = max(1, (len(times) - 1) // FRAMES), {}
        for title, sampler in ode_and_sde(drawn.sampler, constant if stable else Vanishing(constant.sigma)).items():
            more = 1  # an ODE solver takes few steps, with which Euler-Maruyama would show its own error
            if sampler.stochastic and not drawn.sampler.stochastic:
                more = max(1, round(SDE_STEPS / (len(times) - 1)))
            way = simulated(
                drawn, sampler, x0, np.arange(len(x0)), np.asarray(refined(times, more)), more * every
            ).trajectory
            assert way is not None
            found[title] = States(np.asarray(way.times), drawn.own(way.x))
        return found

    @cached_property
    def samples(self) -> States:
        """The trajectories of the samples themselves: one of the two `runs`."""
        return list(self.runs.values())[1 if self.drawn.sampler.stochastic else 0]

    @cached_property
    def shown(self) -> list[int]:
        """The indices of the samples' times that are drawn, evenly spaced from the first to the last."""
        times = self.samples.times
        wanted = np.linspace(times[0], times[-1], SHOWN)
        return sorted({int(np.abs(times - t).argmin()) for t in wanted})

    def true_at(self, times: np.ndarray, n: int) -> np.ndarray:
        """x_t = alpha z + beta eps (m, n, d) for n points z of the data, at times (m,), in the data's own units."""
        key, path = jax.random.fold_in(self.drawn.key, 2), self.drawn.field.path
        return self.drawn.own(_interpolated(path, self.truth[:n], key, times))

    @cached_property
    def true(self) -> list[np.ndarray]:
        """x_t for as many points of the data as there are samples, one array per time that is drawn."""
        return list(self.true_at(self.samples.times[self.shown], min(CLOUD, len(self.drawn.x))))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The coordinates' names."""
        named, d = tuple(map(escape_formulas, self.drawn.dataset.column_names())), self.truth.shape[1]
        return named or (("$x$",) if d == 1 else tuple(f"$x_{i + 1}$" for i in range(d)))

    @cached_property
    def extent(self) -> Extent:
        """The window that contains the data and the trajectories at every time that is drawn."""
        moving = [run.x for run in self.runs.values()]
        square = self.drawn.scaling is None  # equal scales on both axes
        return window([self.drawn.own(self.truth), *self.true, *moving], square=square)._replace(names=self.names)

    @cached_property
    def densities(self) -> list[HeatMap]:
        """The exact p_t on a grid of pixels at the times that are drawn, then p_data; needs a known law."""
        times = np.append(self.samples.times[self.shown], 1).astype(self.truth.dtype)
        left, right, bottom, top = self.extent[:4]
        grid = np.stack(np.meshgrid(np.linspace(left, right, PIXELS), np.linspace(bottom, top, PIXELS)), axis=-1)
        found = np.asarray(_density(self.law, self.drawn.field.path, grid.astype(self.truth.dtype), times))
        return [HeatMap(each, self.extent) for each in found]

    @cached_property
    def ends(self) -> tuple[HeatMap, HeatMap]:
        """The densities at the samples' starting time and of the data: exact, or from counts where the law is not known."""
        times = self.samples.times
        if self.law is not None:
            return self.densities[0], self.densities[-1]
        return counted(self.true_at(times[:1], TRUE)[0], self.extent), counted(self.drawn.own(self.truth), self.extent)


def point_trajectories(points: PointScene) -> Figure:
    """Trajectories in the plane by the ODE and by the SDE, over the densities at both ends."""
    panels = {title: run.x[:, :LINES] for title, run in points.runs.items()}
    times = points.samples.times
    return lines.trajectories(
        panels, (float(times[0]), float(times[-1])), *points.ends, points.extent, points.drawn.about
    )


def point_marginals(points: PointScene) -> Figure:
    """Data with noise, and samples, at a few times."""
    times = points.samples.times[points.shown]
    densities = None if points.law is None else points.densities[:-1]
    title = "data $x_t$, not guided" if isinstance(points.drawn.field, Guided) else "data $x_t$"
    rows = {title: points.true, "samples": [points.samples.x[i] for i in points.shown]}
    return clouds.marginals(times.tolist(), rows, densities, points.extent, points.drawn.about)


def point_film(points: PointScene) -> Film:
    """A film of the samples from noise to data, by the ODE and by the SDE."""
    moving = {title: run.x for title, run in points.runs.items()}
    return clouds.film_of_points(moving, points.samples.times, points.ends[1], points.extent, points.drawn.about)


def point_trajectories_1d(points: PointScene) -> Figure:
    """Trajectories of points on a line against t, by the ODE and by the SDE."""
    panels = {title: (run.times, run.x[:, :LINES, 0]) for title, run in points.runs.items()}
    return lines.trajectories_1d(panels, points.drawn.own(points.truth)[:, 0], points.names[0], points.drawn.about)


def point_samples_1d(points: PointScene) -> Figure:
    """Histograms of samples and of the data, for points on a line."""
    own = points.drawn.own
    return clouds.samples_1d(own(points.drawn.x)[:, 0], own(points.truth)[:, 0], points.names[0], points.drawn.about)


def counted(points: np.ndarray, extent: Extent) -> HeatMap:
    """A density estimate of points (n, 2): counts on pixels, smoothed by a Gaussian with a std of one pixel."""
    bins = PIXELS // 2
    counts, _, _ = np.histogram2d(
        points[:, 1], points[:, 0], bins=bins, range=[(extent.bottom, extent.top), (extent.left, extent.right)]
    )
    weights = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, weights / weights.sum(), "same")
    return HeatMap(counts, extent)


_sample = jax.jit(mixtures.sample, static_argnums=2)


@jax.jit
def _interpolated(path: GaussianPath, z: Array, key: Key, times: Array) -> Array:
    """alpha z + beta eps (m, n, d), for points z (n, d) and the same eps at all times (m,)."""
    eps = jax.random.normal(key, z.shape, z.dtype)

    def at(t: Array) -> Array:
        c = coefficients(path, t)
        return c.alpha * z + c.beta * eps

    return jax.vmap(at)(times)


@jax.jit
def _density(mixture: Mixture, path: GaussianPath, grid: Array, times: Array) -> Array:
    """p_t (m, rows, columns) for mixture data, at times (m,) and the places of a grid (rows, columns, d)."""

    def at(t: Array) -> Array:
        law = mixtures.marginal(mixture, coefficients(path, t))
        return jnp.exp(jax.vmap(jax.vmap(lambda x: mixtures.log_prob(law, x)))(grid))

    return jax.lax.map(at, times)
