"""An inverse problem as `sample` poses and judges it: the truths, what is measured of them, and how near the samples come."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset
from diffsde.inverse import Operator
from diffsde.inverse.operators import Mask
from diffsde.inverse.problem import InverseProblem, applied, law
from diffsde.metrics.distances import w2
from diffsde.metrics.errors import Figure, mean_figure, prefixed, root_mean_figure, with_error
from diffsde.metrics.mixture import mixture_figures
from diffsde.types import Array, Key

MEASUREMENTS = 8  # where the user does not say how many


_sample = jax.jit(mixtures.sample, static_argnums=2)


@jax.jit
def _seen(operator: Operator, z: Array) -> Array:
    """A^+ A z, of points (n, *shape)."""
    return jax.vmap(lambda z: operator.pseudo_inverse(operator.apply(z)))(z)


def reconstruction_figures(
    problem: InverseProblem, x: Array, dataset: Dataset, key: Key, exact: bool = True
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
    misfits = [squares(y[i] - np.asarray(applied(operator, part))) / scale for i, part in enumerate(parts)]
    true = squares(y - np.asarray(applied(operator, truth))) / scale
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
    for i, (posterior, mine) in enumerate(zip(laws, x, strict=True)):
        pair = np.asarray(_sample(posterior, jax.random.fold_in(key, i), 2 * len(mine)))
        one, other = (part.reshape(mine.shape) for part in np.split(pair, 2))
        values.append(w2(mine, one))
        floors.append(w2(other, one))
        weights.append([float(mixture_figures(posterior, jnp.asarray(each)).mode_weight_kl) for each in (mine, other)])
    distance, floor, kl, true = (mean_figure(np.array(each)) for each in (values, floors, *zip(*weights, strict=True)))
    return {
        "w2": distance | prefixed("floor", floor) | {"points": min(len(x[0]), 512)},
        "mode_weight_kl": kl | prefixed("floor", true),
    }
