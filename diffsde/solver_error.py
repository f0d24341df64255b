"""How wrong a sampler is on data of the scales at hand, found on Gaussian data before anything runs."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset, MixtureDataset, draw_many
from diffsde.fields import OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath
from diffsde.samplers import Sampler, simulate, times
from diffsde.samplers.corrector import PredictorCorrector
from diffsde.samplers.grids import Grid
from diffsde.samplers.sampler import Increment
from diffsde.types import Array, Key

TOLERATED = 0.03  # how far from 1 the ratio of the samples' std to the data's may be, its standard error besides
POINTS = 16_384  # of a sampler whose noise is not one normal a step: a standard error of 0.55%
LENGTHS = 1025  # times that a compiled program holds, or a multiple: one serves every number of steps
SECOND_MOMENTS = 65_536  # draws from which the stds of a law that is not known are measured


class Steps(NamedTuple):
    """How samples are drawn: the sampler, where its steps lie, how many there are, and the last one's policy."""

    sampler: Sampler
    grid: Grid
    steps: int
    last: str


class StdRatio(NamedTuple):
    """What becomes of data N(0, std^2): the samples' std over its own, and the standard error of that, 0 where it is exact."""

    std: float
    ratio: float
    error: float

    @property
    def excess(self) -> float:
        """How far the ratio is from 1 beyond 3 standard errors."""
        off = abs(self.ratio - 1) - 3 * self.error
        return off if math.isfinite(off) else math.inf


def data_stds(dataset: Dataset, key: Key) -> tuple[float, ...]:
    """The stds that a sampler of this data meets, the least and the greatest of each kind: of a coordinate; of a mixture also
    along the axes of its whole covariance and of its components; about the set that a toy's points lie near, where known.

    A std of 0, of a coordinate that is constant or a set that is thin, is left out: a ratio to it means nothing. Of images
    one std, the root mean square over all pixels: that of a pixel which is nearly always black describes no image.
    """
    if isinstance(dataset, MixtureDataset):
        mixture = dataset.mixture()
        total = covariance(mixture)
        kinds = [np.diag(total), np.linalg.eigvalsh(total), np.asarray(mixture.variances, np.float64)]
    else:
        arrays = dataset.load()
        x = getattr(arrays, "x", None)
        if x is None:
            x = draw_many(dataset, arrays, key, SECOND_MOMENTS)
        if x.ndim > 2:
            kinds = [np.square(np.asarray(dataset.measure(arrays, key).std, np.float64)[None])]
        else:
            kinds = [np.asarray(x, np.float64).var(axis=0), np.array([dataset.least_variance()])]
    ends = [end for kind in kinds for end in (kind.min(), kind.max(), kind[kind > 0].min(initial=np.inf))]
    return tuple(sorted({float(np.sqrt(each)) for each in ends if 0 < each < np.inf}))


def covariance(mixture: Mixture) -> np.ndarray:
    """The covariance of all of a mixture, (d, d) in float64: sum_k w_k (S_k + (mu_k - m)(mu_k - m)^T)."""
    means, weights = np.asarray(mixture.means, np.float64), np.asarray(mixture.weights, np.float64)
    variances = np.broadcast_to(np.asarray(mixture.variances, np.float64), means.shape)
    off = means - weights @ means
    between = np.einsum("k,ki,kj->ij", weights, off, off)
    if mixture.rotations is None:
        return between + np.diag(weights @ variances)
    axes = np.asarray(mixture.rotations, np.float64)
    return between + np.einsum("k,kij,kj,klj->il", weights, axes, variances, axes)


def std_ratios(how: Steps, path: GaussianPath, stds: tuple[float, ...]) -> list[StdRatio]:
    """The std of the samples of N(0, std^2) data over the data's own, each with the exact field of that data.

    They start where samples start, from p_t0 inside the path and else from N(0, beta(t0)^2), and should have the data's std,
    or that of p_t where the grid ends before t = 1. Raises UserError for a grid whose times do not increase.
    """
    if not stds:
        return []
    at, scale = times(how.grid, how.steps, path), np.asarray(stds)
    law = jax.vmap(lambda t: jnp.stack([path.alpha(t) ** 2, path.variance(t)]))(at[jnp.array([0, -1])])
    begin, end = (np.sqrt(row[0] * scale**2 + row[1]) for row in np.asarray(law, np.float64))
    start = begin if at[0] > 0 else np.full_like(scale, float(path.beta(at[0])))
    padded = jnp.pad(at, (0, -len(at) % LENGTHS), mode="edge")
    found = (recursion if is_linear(how.sampler) else simulation)(how, path, scale, start, padded)
    aim = end if at[-1] < 1 else scale
    return [StdRatio(std, *row) for std, row in zip(stds, (np.stack(found) / aim).T.tolist(), strict=True)]


def is_linear(sampler: Sampler) -> bool:
    """Whether its step on N(0, std^2) data is a x + b xi with one xi ~ N(0, 1), and no memory."""
    plain = type(sampler).start is Sampler.start and not sampler.adaptive
    return plain and (sampler.coupled or not sampler.stochastic)


def recursion(
    how: Steps, path: GaussianPath, stds: np.ndarray, start: np.ndarray, at: Array
) -> tuple[np.ndarray, np.ndarray]:
    """The std of the samples (k,), exactly, V' = a^2 V + b^2 over the steps x' = a x + b xi; and 0, its error."""
    a, b, end = (np.array(each, np.float64) for each in _factors(how.sampler, path, jnp.asarray(stds, at.dtype), at))
    a, b = a[:, : how.steps], b[:, : how.steps]
    if how.last != "step":
        b[:, -1] = 0
    if how.last == "denoise":
        a[:, -1] = end[:, how.steps - 1]
    variance = start**2
    for factor, noise in zip(a.T, b.T, strict=True):
        variance = factor**2 * variance + noise**2
    return np.sqrt(variance), np.zeros_like(stds)


@jax.jit
def _factors(sampler: Sampler, path: GaussianPath, stds: Array, times: Array) -> tuple[Array, Array, Array]:
    """a and b of every step x' = a x + b xi, and E[z|x]/x at its beginning, each (k, steps), of N(0, std^2) data (k,)."""

    def of(std: Array, t: Array, h: Array) -> tuple[Array, Array, Array]:
        field, one, zero = of_std(path, std), jnp.ones(1, times.dtype), jnp.zeros(1, times.dtype)
        noise = sampler.step(field, zero, t, h, Increment(one)) if sampler.stochastic else zero
        return sampler.step(field, one, t, h, None)[0], noise[0], field.data(one, t)[0]

    along = jax.vmap(of, (None, 0, 0))
    return jax.vmap(along, (0, None, None))(stds, times[:-1], jnp.diff(times))


def of_std(path: GaussianPath, std: Array) -> OracleField:
    """The exact field of N(0, std^2) on a line."""
    return OracleField(path, Mixture(jnp.zeros((1, 1), std.dtype), (std**2)[None, None], jnp.ones(1, std.dtype)), (1,))


def simulation(
    how: Steps, path: GaussianPath, stds: np.ndarray, start: np.ndarray, at: Array
) -> tuple[np.ndarray, np.ndarray]:
    """The std of the samples (k,) and its standard error, by `simulate`: of one point where there is no noise, of POINTS else."""
    sampler = how.sampler
    if isinstance(sampler, PredictorCorrector):  # what `sample` is on average; on a line its norms are often near 0
        sampler = dataclasses.replace(sampler, norm="dimension")
    count = POINTS if sampler.stochastic else 1
    scales = jnp.asarray(stds, at.dtype), jnp.asarray(start, at.dtype)
    found = _squares(sampler, path, *scales, at, how.steps, how.last, count)
    squares, errors = (np.asarray(each, np.float64) for each in found)
    std = np.sqrt(squares)
    return std * stds, errors / np.where(std > 0, 2 * std, 1) * stds


@partial(jax.jit, static_argnames=("last", "count"))
def _squares(
    sampler: Sampler, path: GaussianPath, stds: Array, start: Array, times: Array, steps: Array, last: str, count: int
) -> tuple[Array, Array]:
    """E x^2/std^2 of the samples of each N(0, std^2), (k,), and its standard error; half of them start at -start, half at
    start, and every std sees the same noise, which is drawn once.
    """
    signs = 1.0 - 2.0 * (jnp.arange(count) % 2)

    def of(std: Array, start: Array) -> tuple[Array, Array]:
        field, x0 = of_std(path, std), (start * signs)[:, None]
        x = simulate(sampler, field, x0, times, jax.random.key(0), last=last, steps=steps, chunk=count).x
        squares = (x / std) ** 2
        return squares.mean(), squares.std() / jnp.sqrt(float(count))

    return jax.vmap(of)(stds, start)


def worst(found: list[StdRatio]) -> StdRatio | None:
    """The one that is furthest beyond what is tolerated; None where all are within."""
    wrong = [each for each in found if each.excess > TOLERATED]
    return max(wrong, key=lambda each: each.excess, default=None)
