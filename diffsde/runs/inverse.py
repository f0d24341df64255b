"""An inverse problem as `sample` poses and judges it: the truths, what is measured of them, and how near the samples come."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset, draw_many
from diffsde.datasets.dataset import as_points
from diffsde.datasets.scaling import Scaling, to_model, to_own
from diffsde.errors import UserError
from diffsde.inverse import Measurement, Observed, Operator, measure
from diffsde.inverse.measurements import NOISE, read_array
from diffsde.inverse.operators import Mask, dense
from diffsde.metrics.distances import w2
from diffsde.metrics.errors import Figure, mean_figure, prefixed, root_mean_figure, with_error
from diffsde.metrics.mixture import mixture_figures
from diffsde.mixtures import Mixture
from diffsde.runs import report
from diffsde.types import Array, Key, Moments

DENSE = 1024  # coordinates of a point, up to which an operator is laid out as a matrix
MEASUREMENTS = 8  # where the user does not say how many


class Problem(NamedTuple):
    """k truths (k, *shape), the measurement y (k, ...) of each, and how it was made; the moments of the data that the truths
    are of. Sample i is of measurement i mod k.

    All in the data's own units about the mean that is taken off them, so that float32 holds an offset of any size: with a
    scaling, truth = std z of the model's z, and y = A truth + noise eps.
    """

    truth: Array
    y: Array
    operator: Operator
    noise: float
    moments: Moments
    scaling: Scaling | None = None

    def model_operator(self) -> Operator:
        """The operator of the same measurement y for points in the model's units."""
        return self.operator if self.scaling is None else self.operator.scaled(self.scaling.std)

    def about_mean(self, z: Array) -> Array:
        """Points (n, *shape) in the model's units, as the truths are held."""
        return z if self.scaling is None else jnp.asarray(self.scaling.std, z.dtype) * z

    def own_truth(self) -> np.ndarray:
        """The truths (k, *shape) in the data's own units."""
        return to_own(self.scaling, self.model_truth)

    @property
    def model_truth(self) -> np.ndarray:
        """The truths (k, *shape) in the model's units."""
        return np.asarray(self.truth) if self.scaling is None else np.asarray(self.truth) / self.scaling.divisor

    def own_measured(self) -> np.ndarray:
        """What was measured (k, ...) of the points in their own units, y + A mean."""
        if self.scaling is None:
            return np.asarray(self.y)
        mean = np.broadcast_to(self.scaling.mean, self.truth.shape[1:])
        return np.asarray(self.y) + applied_exactly(self.operator, mean)

    def given(self, n: int, labels: Any = None) -> Observed:
        """What n samples are conditioned on, leaves (n, ...)."""
        return Observed(self.y[jnp.arange(n) % len(self.y)], labels)


def applied_exactly(operator: Operator, z: np.ndarray) -> np.ndarray:
    """A z of one point (*shape,), in float64 whatever the process computes in."""
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), operator)
        return np.asarray(exact.apply(jnp.asarray(z, jnp.float64)))


def pose(
    measurement: Measurement,
    file: str | None,
    count: int,
    dataset: Dataset,
    moments: Moments,
    key: Key,
    scaling: Scaling | None = None,
) -> Problem:
    """Measure the first `count` points of the file, of the dataset's test split, or draws where its law is at hand.

    Raises UserError where there are none, or of another shape.
    """
    shape = moments.mean.shape
    operator = measurement.operator(shape)
    key_truth, key_noise = jax.random.split(key)
    if file is not None:
        truth = jnp.asarray(read_points(file, shape, scaling)[:count])
    elif isinstance(dataset, FiniteDataset):
        try:
            truth = as_points(dataset.held_out().x[:count])
        except UserError as error:
            raise UserError(f"{error}; or give truth=<file.npy>, the points to be measured") from None
    else:
        truth = draw_many(dataset, dataset.load(), key_truth, count)
    noise = measurement.noise or NOISE
    if measurement.noise is None and scaling is not None:
        noise = NOISE * typical_std(operator.scaled(scaling.std), shape)
        report.say(f"measurement.noise: {noise:.3g} in the data's own units, {NOISE:g} stds of what is measured")
    posed = Problem(truth, truth, operator, noise, moments, scaling)
    truth = posed.about_mean(truth)
    y = measure(operator, noise, truth, key_noise)
    return posed._replace(truth=truth, y=y, moments=moments._replace(mean=posed.about_mean(moments.mean)))


def typical_std(operator: Operator, shape: tuple[int, ...]) -> float:
    """The root mean square over the measured numbers of their std, of independent coordinates of std 1: |A|_F/sqrt(rank).

    Of more than DENSE coordinates |A|_F^2 = E |A eps|^2 by 256 draws of eps.
    """
    if int(np.prod(shape)) <= DENSE:
        squares = jnp.sum(dense(operator, shape, jnp.result_type(float)) ** 2)
    else:
        eps = jax.random.normal(jax.random.key(0), (256, *shape))
        squares = jnp.sum(_applied(operator, eps) ** 2) / len(eps)
    return float(jnp.sqrt(squares / operator.rank))


def read_points(file: str, shape: tuple[int, ...], scaling: Scaling | None) -> np.ndarray:
    """Points (k, *shape) of a .npy file, in the model's units; images in bytes are scaled to [-1, 1]."""
    values = read_array(file, "truth")
    if values.dtype == np.uint8 and len(shape) == 3 and values.ndim == 3:
        values = values[..., None]
    if values.shape[1:] != shape or not len(values):
        raise UserError(f"truth: '{file}' has shape {values.shape}; it must be (k, {', '.join(map(str, shape))})")
    if not np.isfinite(values).all():
        raise UserError(f"truth: '{file}' has NaN or infinity")
    if values.dtype == np.uint8 and scaling is None:
        return np.asarray(as_points(jnp.asarray(values)))
    return to_model(scaling, values)


def law(problem: Problem, dataset: Dataset, i: int) -> Mixture | None:
    """The exact posterior of measurement i, known where the data's law is a mixture."""
    if not isinstance(dataset, MixtureDataset):
        return None
    matrix = dense(problem.operator, problem.truth.shape[1:], problem.truth.dtype)
    return _posterior(dataset.mixture(), matrix, problem.y[i].reshape(-1), problem.noise)


_posterior, _sample = jax.jit(mixtures.posterior), jax.jit(mixtures.sample, static_argnums=2)


@jax.jit
def _seen(operator: Operator, z: Array) -> Array:
    """A^+ A z, of points (n, *shape)."""
    return jax.vmap(lambda z: operator.pseudo_inverse(operator.apply(z)))(z)


@jax.jit
def _applied(operator: Operator, z: Array) -> Array:
    """A z, of points (n, *shape)."""
    return jax.vmap(operator.apply)(z)


def reconstruction_figures(
    problem: Problem, x: Array, dataset: Dataset, key: Key, exact: bool = True
) -> dict[str, Figure]:
    """What can be known of samples x (n, *shape) of the posteriors, each with its error by the scatter over measurements.

    w2, mode_weight_kl: from the exact posterior, where the data's law is a mixture, the mean over the measurements; not
        where samples were told labels or guided, and `exact` is false;
    rmse_unmeasured: of the samples' mean from the truth, a number, in what A does not see; rmse_measured: in what it sees.
        Beside it that of A^+ y, what the measurement alone says, with the data's mean where it says nothing.
    misfit: root mean square of (y - A x)/noise; beside it the truth's own.
    calibration: see calibration.
    """
    operator, k = problem.operator, len(problem.truth)
    points, truth, y = np.asarray(x), np.asarray(problem.truth), np.asarray(problem.y)
    parts = [points[i::k] for i in range(k)]
    mean = np.stack([part.mean(axis=0) for part in parts])
    own, seen = np.asarray(problem.moments.mean), partial(_seen, operator)
    plain = np.asarray(jax.vmap(operator.pseudo_inverse)(problem.y)) + own - np.asarray(seen(own[None]))
    found: dict[str, Figure] = {}
    laws = [law(problem, dataset, i) for i in range(k)]
    if exact and laws[0] is not None:
        found |= against_exact(laws, parts, key)
    size, rank = truth[0].size, operator.rank
    for name, numbers, side in (
        ("rmse_unmeasured", size - rank, lambda e: e - np.asarray(seen(e))),
        ("rmse_measured", rank, lambda e: np.asarray(seen(e))),
    ):
        if numbers:
            mine, alone = (root_mean_figure(squares(side(each - truth)) / numbers) for each in (mean, plain))
            found[name] = mine | prefixed("measurement", alone)
    numbers = rank if isinstance(operator, Mask) else y[0].size  # a mask's y has zeros without noise besides
    scale = numbers * problem.noise**2
    misfits = [squares(y[i] - np.asarray(_applied(operator, part))) / scale for i, part in enumerate(parts)]
    true = squares(y - np.asarray(_applied(operator, truth))) / scale
    value = float(np.sqrt(np.concatenate(misfits).mean()))
    over = root_mean_figure(np.array([each.mean() for each in misfits]))
    found["misfit"] = over | {"value": value} | prefixed("truth", root_mean_figure(true))
    least = len(points) // k  # samples of each measurement, at least
    if least > 1:
        spreads = np.array([np.sum(part.var(axis=0, ddof=1)) for part in parts])
        found["calibration"] = calibration((1 + 1 / least) * spreads, squares(mean - truth))
        found["calibration"] |= {"exact": 1.0} if exact else {}
    return found


def squares(x: np.ndarray) -> np.ndarray:
    """|x_n|^2 (n,) of x (n, ...), in float64."""
    return np.sum(x.reshape(len(x), -1).astype(np.float64) ** 2, axis=1)


def calibration(spreads: np.ndarray, distances: np.ndarray) -> Figure:
    """sqrt(sum_i spreads_i/sum_i distances_i), over the measurements (k,): 1 where the truth might be one of the samples.

    spreads: of the samples of each, (1 + 1/s) times their variance for s samples; distances: of their mean from the truth,
    squared. error: of the jackknife over measurements, of the logarithm, times the value (Efron & Stein 1981); none for k = 1.
    """
    k, value = len(spreads), float(np.sqrt(spreads.sum() / distances.sum()))
    if k < 2:
        return {"value": value}
    without = np.log((spreads.sum() - spreads) / (distances.sum() - distances)) / 2
    return with_error(value, value * float(np.sqrt((k - 1) * np.var(without))))


def against_exact(laws: list[Any], x: list[np.ndarray], key: Key) -> dict[str, Figure]:
    """Distance and mode weights of samples (s, *shape) of each posterior from the exact one, beside two exact samples'."""
    values, floors, weights = [], [], []
    for i, (law, mine) in enumerate(zip(laws, x, strict=True)):
        pair = np.asarray(_sample(law, jax.random.fold_in(key, i), 2 * len(mine)))
        one, other = (part.reshape(mine.shape) for part in np.split(pair, 2))
        values.append(w2(mine, one))
        floors.append(w2(other, one))
        weights.append([float(mixture_figures(law, jnp.asarray(each)).mode_weight_kl) for each in (mine, other)])
    distance, floor, kl, true = (mean_figure(np.array(each)) for each in (values, floors, *zip(*weights, strict=True)))
    return {
        "w2": distance | prefixed("floor", floor) | {"points": min(len(x[0]), 512)},
        "mode_weight_kl": kl | prefixed("floor", true),
    }
