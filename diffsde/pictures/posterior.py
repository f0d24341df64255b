"""Pictures of an inverse problem: samples of posteriors, the true points, and their measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde import mixtures
from diffsde.datasets import Dataset, draw_many
from diffsde.datasets.scaling import to_own
from diffsde.inverse.problem import InverseProblem, law
from diffsde.pictures.drawn import on_screen
from diffsde.plots import inverse as plots
from diffsde.plots.style import escape_formulas
from diffsde.types import Array, Key

COLUMNS = 6  # most samples shown per measurement
SHOWN = 8  # most measurements shown


class PosteriorScene(NamedTuple):
    """Samples x (n, *shape) of an inverse problem, in the units of problem.truth; sample i is of measurement i mod k.

    exact: whether the samples' law is the exact posterior, where that is known; not so for samples with labels.
    """

    problem: InverseProblem
    x: Array
    dataset: Dataset
    key: Key
    exact: bool
    about: str = ""

    @property
    def drawn(self) -> int:
        """Number of measurements that are drawn."""
        return min(SHOWN, len(self.problem.truth))

    def samples(self) -> list[np.ndarray]:
        """The samples (s, *shape) of each measurement that is drawn."""
        return [np.asarray(self.x[i :: len(self.problem.truth)]) for i in range(self.drawn)]


def screen_of(problem: InverseProblem) -> Callable[[np.ndarray], np.ndarray]:
    """The map from images in the units of problem.truth to [-1, 1], black to white (drawn.on_screen)."""
    if problem.scaling is None:
        return np.asarray
    divisor, shown = problem.scaling.divisor, on_screen(problem.scaling, problem.model_truth)
    return lambda z: shown(z / divisor)


def posterior_images(posterior: PosteriorScene) -> Figure:
    """One row per measurement: the true image, the measurement, samples, their mean and std."""
    problem, operator = posterior.problem, posterior.problem.operator
    truth, mine = np.asarray(problem.truth[: posterior.drawn]), posterior.samples()
    measured = np.asarray(jax.vmap(operator.pseudo_inverse)(problem.y[: posterior.drawn]))
    known = np.asarray(operator.pseudo_inverse(operator.apply(jnp.ones(truth.shape[1:]))))
    count, shown = min(COLUMNS, *map(len, mine)), screen_of(problem)
    mine = [shown(part) for part in mine]
    few = [part[:count] for part in mine]
    return plots.reconstructions(shown(truth), shown(measured), known > 0.5, few, mine, posterior.about)


def posterior_points(posterior: PosteriorScene) -> Figure:
    """One panel per measurement of points in the plane: the true point, samples, and samples of the exact posterior."""
    problem, dataset, key = posterior.problem, posterior.dataset, posterior.key
    truth, mine, scaling = np.asarray(problem.truth[: posterior.drawn]), posterior.samples(), problem.scaling
    laws = [law(problem, dataset, i) if posterior.exact else None for i in range(posterior.drawn)]
    true = [
        None if each is None else np.asarray(mixtures.sample(each, jax.random.fold_in(key, i), 2000))
        for i, each in enumerate(laws)
    ]
    data = to_own(scaling, draw_many(dataset, dataset.load(), key, 4000))
    if scaling is not None:
        truth, mine = truth + scaling.mean, [part + scaling.mean for part in mine]
    names = tuple(map(escape_formulas, dataset.column_names())) or ("$x_1$", "$x_2$")
    return plots.clouds(data, truth, mine, true, square=scaling is None, names=names, about=posterior.about)
