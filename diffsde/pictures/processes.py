"""Pictures of a simulated process: its paths, their law beside the exact one, their autocorrelation, and a film in the plane."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import numpy as np
from matplotlib.figure import Figure

from diffsde import mixtures
from diffsde.evaluation.mixing import Mixing, mixing_of
from diffsde.evaluation.process_figures import shown_states, stationary_moments
from diffsde.mixtures import Mixture
from diffsde.plots import marginals as clouds
from diffsde.plots import processes as plots
from diffsde.plots.film import Film
from diffsde.plots.style import Extent, HeatMap, window
from diffsde.processes import Process
from diffsde.processes.process import Start

LINES, LINES_IN_PLANE = 60, 12  # paths drawn
CLOUD = 2000  # points in the film and the clouds
FRAMES = 64  # of the film
PIXELS = 160  # side of a heat map
CURVE = 1000  # points of a density's line
REACH = 10.0  # stds of a stationary law on either side of its mean, over which its density is normalised


@dataclasses.dataclass(frozen=True)
class PathScene:
    """What pictures of paths are of: the process, states x (m, k, *shape) at times (m,), all last states `end` (n, *shape), and
    the law of the starting points.

    parts: the starting law of a point on a line as Gaussians and points. title, about: the process, and how it was simulated.
    """

    process: Process
    times: np.ndarray
    x: np.ndarray
    end: np.ndarray
    start: Start
    parts: list[tuple[float, Start]] | None
    title: str
    about: str

    @cached_property
    def flat(self) -> np.ndarray:
        """The states (m, k, d)."""
        return self.x.reshape(*self.x.shape[:2], -1)

    @property
    def words(self) -> str:
        """The process and how it was simulated, in a line."""
        return self.about if self.about.startswith(self.title) else f"{self.title}; {self.about}"

    @property
    def name(self) -> str:
        """The name of the coordinate that is drawn against t."""
        return "$x$" if self.flat.shape[-1] == 1 else "$x_1$"

    @cached_property
    def limit(self) -> Start | None:
        """Mean and variance of the stationary law; None where there is none."""
        return stationary_moments(self.process, self.flat.shape[-1])

    def panel(self, lines: int = LINES, title: str | None = None) -> plots.Panel:
        """The paths of the first coordinate against t, with what is known of them."""
        starts = [self.start] if self.parts is None or len(self.parts) > 12 else [part for _, part in self.parts]
        known = [self._along(start) for start in starts]
        limit = None if self.limit is None else (float(self.limit.mean[0]), float(np.sqrt(self.limit.variance[0])))
        shown = self.title if title is None else title
        return plots.Panel(self.times, self.flat[:, :lines, 0], tuple(each for each in known if each), limit, shown)

    def _along(self, start: Start) -> tuple[np.ndarray, np.ndarray] | None:
        """The exact mean and std (m,) of the first coordinate at the times; None where they are not known."""
        means = [self.process.mean(float(t), start) for t in self.times]
        variances = [self.process.covariance(float(t), float(t), start) for t in self.times]
        if means[0] is None or variances[0] is None:
            return None
        mean, variance = (
            np.array([np.ravel(each)[0] for each in found if each is not None]) for found in (means, variances)
        )
        return mean, np.sqrt(variance)

    @cached_property
    def mixing(self) -> Mixing | None:
        """The autocorrelation of the second half of the paths, about the stationary mean."""
        return mixing_of(self.times, self.flat, None if self.limit is None else self.limit.mean)

    @cached_property
    def law(self) -> Mixture | None:
        """The stationary law, where it is a mixture."""
        return self.process.stationary(self.flat.shape[-1])

    @cached_property
    def extent(self) -> Extent:
        """The window that holds the cloud at every time, and where the stationary law is."""
        sets = [self.flat[:, :CLOUD]]
        if self.law is not None:
            sets.append(np.asarray(_sample(self.law, jax.random.key(0), 2000)))
        return window(sets)

    @cached_property
    def density(self) -> HeatMap | None:
        """The stationary density on a grid of pixels; None where it is not known."""
        if self.law is None:
            return None
        left, right, bottom, top = self.extent[:4]
        grid = np.stack(np.meshgrid(np.linspace(left, right, PIXELS), np.linspace(bottom, top, PIXELS)), axis=-1)
        return HeatMap(np.asarray(_density(self.law, grid.astype(np.float32))), self.extent)


def process_paths(scene: PathScene) -> Figure:
    """Paths against t; of a process in the plane over its stationary density."""
    if scene.flat.shape[-1] != 2:
        return plots.paths_against_t(scene.panel(), scene.name, scene.about)
    end = float(scene.times[-1])
    few = scene.flat[:, :LINES_IN_PLANE]
    return plots.paths_in_plane(few, end, scene.density, scene.extent, scene.title, scene.about)


def process_law(scene: PathScene) -> Figure:
    """The last states against known densities; of a process in the plane the cloud at four times."""
    if scene.flat.shape[-1] == 2:
        first, *rest = shown_states(scene.times)
        rows = [0, first, *rest[-2:]]
        cloud = [scene.flat[i, :CLOUD] for i in rows]
        about = scene.words + ("; shaded: the stationary density" if scene.density is not None else "")
        return clouds.cloud_at_times([float(scene.times[i]) for i in rows], cloud, scene.density, scene.extent, about)
    x = scene.end.reshape(len(scene.end), -1)[:, 0].astype(np.float64)
    title = f"{scene.title}, t = {scene.times[-1]:.4g}"
    return plots.law_at_end(x, curves_of(scene, x), scene.name, title, scene.about)


def curves_of(scene: PathScene, x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Known densities of a point on a line: of the law at the end, and the stationary one."""
    low, high = x.min(), x.max()
    at, found = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), CURVE), {}
    each = [(w, scene.process.log_prob(at, float(scene.times[-1]), part)) for w, part in scene.parts or []]
    if each and all(log is not None for _, log in each):
        found["exact law"] = at, np.sum([w * np.exp(log) for w, log in each if log is not None], axis=0)
    if (
        scene.flat.shape[-1] == 1 and scene.limit is not None
    ):  # normalised over the line, not over where the paths are yet
        middle, far = float(scene.limit.mean[0]), REACH * float(np.sqrt(scene.limit.variance[0]))
        whole = np.unique(np.concatenate([at, np.linspace(middle - far, middle + far, 4 * CURVE)]))
        if (log := scene.process.log_stationary(whole)) is not None:
            values = np.exp(log - log.max())
            found["stationary law"] = whole, values / np.trapezoid(values, whole)
    return found


def process_autocorrelation(scene: PathScene) -> Figure:
    """The autocorrelation of the slowest coordinate in the second half of the paths, with the exact one where it is known."""
    if (mixing := scene.mixing) is None:
        raise ValueError("too few states; take more steps")
    lags = np.arange(len(mixing.found.rho)) * mixing.every
    known = scene.process.autocorrelation_time(scene.flat.shape[-1])
    shown = lags <= max(3 * (known or mixing.time.value), 4 * mixing.every)  # beyond there is noise alone
    exact = None if known is None else np.exp(-2 * lags / known)[shown]
    name = scene.name if scene.flat.shape[-1] == 1 else f"$x_{mixing.slowest + 1}$"
    title = f"autocorrelation of {name}" + ("" if mixing.forgotten else " (the start is not forgotten)")
    about, rho = scene.words, mixing.found.rho[shown]
    return plots.autocorrelation_figure(lags[shown], rho, exact, mixing.time.value, title, about)


def process_film(scene: PathScene) -> Film:
    """The cloud moving in the plane, over the stationary density."""
    rows = np.unique(np.linspace(0, len(scene.times) - 1, FRAMES).astype(int))
    density = scene.density or HeatMap(np.zeros((2, 2)), scene.extent)
    moving = {"paths": scene.flat[rows, :CLOUD]}
    return clouds.film_of_points(moving, scene.times[rows], density, scene.extent, scene.words)


_sample = jax.jit(mixtures.sample, static_argnums=2)


@jax.jit
def _density(law: Mixture, grid: np.ndarray) -> jax.Array:
    return jax.numpy.exp(jax.vmap(jax.vmap(lambda x: mixtures.log_prob(law, x)))(grid))
