"""The metric `reconstruction`: samples of posteriors compared with the true points, and with the exact posteriors if known."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.inverse import Operator
from diffsde.inverse.operators import Mask
from diffsde.inverse.problem import InverseProblem, applied, law
from diffsde.metrics.distances import MOST, w2
from diffsde.metrics.figures import Figure, mean_figure, root_mean_figure
from diffsde.metrics.mixture import mixture_figures
from diffsde.runs import progress
from diffsde.types import Array, Key

_sample = jax.jit(mixtures.sample, static_argnums=2)


@jax.jit
def _seen(operator: Operator, z: Array) -> Array:
    """A^+ A z for points z (n, *shape)."""
    return jax.vmap(lambda z: operator.pseudo_inverse(operator.apply(z)))(z)


MISSED = 3.0  # misfit, in stds of the measurement's noise, above which a warning is given


@dataclasses.dataclass(frozen=True)
class Reconstruction(Metric):
    """Figures of samples of the posteriors of measured points; errors from the scatter over the measurements.

    w2, mode_weight_kl: distances from the exact posterior, if the data's law is a mixture and the prior is the whole law;
    rmse_unmeasured, rmse_measured: root mean square error per coordinate of the samples' mean, in the null space and the row
    space of A, compared with A^+ y, the estimate by the measurement alone; misfit: root mean square of (y - A x)/noise,
    compared with the truth's; calibration: see `calibration`.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "w2": Quantity("in the data's units", "lower", "with each coordinate in units of its std"),
        "mode_weight_kl": Quantity("nats", "lower"),
        "rmse_unmeasured": Quantity("in the data's units", "lower"),
        "rmse_measured": Quantity("in the data's units", "lower"),
        "misfit": Quantity("stds of the noise", "lower"),
        "calibration": Quantity("", "target"),
    }
    needs: ClassVar[tuple[str, ...]] = ("samples", "measurement")

    def is_default(self, subject: Subject) -> bool:
        return subject.problem is not None

    def measure(self, subject: Subject, key: Key) -> Measured:
        problem = subject.problem
        assert problem is not None and subject.x is not None
        own = problem.about_mean(jnp.asarray(subject.x))
        found = reconstruction_figures(problem, own, subject.dataset, key, subject.whole)
        if (misfit := found["misfit"].value) > MISSED:
            progress.warn(
                f"the samples miss what was measured by {misfit:.3g} stds of its noise, {problem.noise:.3g}: the field is not as"
                " exact as that; take a larger measurement.noise"
            )
        return Measured(found)


def reconstruction_figures(
    problem: InverseProblem, x: Array, dataset: Dataset, key: Key, exact: bool = True
) -> dict[str, Figure]:
    """The figures of Reconstruction for samples x (n, *shape), in the units of problem.truth.

    exact: whether the samples' law is the exact posterior up to the errors of solver and network.
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
            found[name] = mine.against("measurement", alone)
    numbers = rank if isinstance(operator, Mask) else y[0].size  # under a mask, y also has zeros without noise
    scale = numbers * problem.noise**2
    misfits = [squares(y[i] - np.asarray(applied(operator, part))) / scale for i, part in enumerate(parts)]
    true = squares(y - np.asarray(applied(operator, truth))) / scale
    value = float(np.sqrt(np.concatenate(misfits).mean()))
    over = root_mean_figure(np.array([each.mean() for each in misfits]))
    found["misfit"] = over._replace(value=value).against("truth", root_mean_figure(true))
    least = len(points) // k  # least number of samples per measurement
    if least > 1:
        spreads = np.array([np.sum(part.var(axis=0, ddof=1)) for part in parts])
        calibrated = calibration((1 + 1 / least) * spreads, squares(mean - truth))
        found["calibration"] = calibrated.against_exact(1.0) if exact else calibrated
    return found


def squares(x: np.ndarray) -> np.ndarray:
    """|x_n|^2 (n,) of x (n, ...), in float64."""
    return np.sum(x.reshape(len(x), -1).astype(np.float64) ** 2, axis=1)


def calibration(spreads: np.ndarray, distances: np.ndarray) -> Figure:
    """sqrt(sum_i spreads_i/sum_i distances_i) over k measurements: 1 where the truth is distributed like the samples.

    spreads (k,): (1 + 1/s) times the variance of the s samples per measurement; distances (k,): the squared distance of the
    samples' mean from the truth. error: jackknife over the measurements of the logarithm, times the value (Efron & Stein
    1981); None for k = 1.
    """
    k = len(spreads)
    with np.errstate(divide="ignore", invalid="ignore"):  # samples or means that do not differ at all
        value = float(np.sqrt(spreads.sum() / distances.sum()))
        without = np.log((spreads.sum() - spreads) / (distances.sum() - distances)) / 2
        error = value * float(np.sqrt((k - 1) * np.var(without)))
    return Figure(value, error) if k > 1 and np.isfinite(error) else Figure(value)


def against_exact(laws: list[Any], x: list[np.ndarray], key: Key) -> dict[str, Figure]:
    """w2 and mode_weight_kl of samples (s, *shape) per measurement from the exact posterior, compared with exact samples."""
    values, floors, weights = [], [], []
    for i, (posterior, mine) in enumerate(zip(laws, x, strict=True)):
        pair = np.asarray(_sample(posterior, jax.random.fold_in(key, i), 2 * len(mine)))
        one, other = (part.reshape(mine.shape) for part in np.split(pair, 2))
        values.append(w2(mine, one))
        floors.append(w2(other, one))
        weights.append([float(mixture_figures(posterior, jnp.asarray(each)).mode_weight_kl) for each in (mine, other)])
    distance, floor, kl, true = (mean_figure(np.array(each)) for each in (values, floors, *zip(*weights, strict=True)))
    return {
        "w2": distance._replace(points=min(len(x[0]), MOST)).against("floor", floor),
        "mode_weight_kl": kl.against("floor", true),
    }
