"""How wrong a sampler is on data of the scales at hand, found on Gaussian data before anything runs."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset, draw_many
from diffsde.fields import FlowMap
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.samplers import LoopSettings, Sampler, simulate, times
from diffsde.samplers.corrector import PredictorCorrector
from diffsde.samplers.grids import Grid
from diffsde.samplers.sampler import Draws
from diffsde.types import Array, Key, Prediction, Scalar, register

TOLERATED = 0.03  # how far from 1 the ratio of the samples' std to the data's may be
LENGTHS = 1025  # times that a compiled program holds, or a multiple: one serves every number of steps
SECOND_MOMENTS = 65_536  # draws from which the stds of a law that is not known are measured
SHAPE = (1, 1)  # of a point on a line here: an array of a state that ends so holds what depends on the point


class SamplingPlan(NamedTuple):
    """How samples are drawn: the sampler, where its steps lie, how many there are, and the last one's policy."""

    sampler: Sampler
    grid: Grid
    steps: int
    last: str


class StdRatio(NamedTuple):
    """What becomes of data N(0, std^2): the samples' std over its own."""

    std: float
    ratio: float

    @property
    def excess(self) -> float:
        """How far the ratio is from 1."""
        off = abs(self.ratio - 1)
        return off if math.isfinite(off) else math.inf


def data_stds(dataset: Dataset, key: Key) -> tuple[float, ...]:
    """The stds that a sampler of this data meets, the least and the greatest of each kind: of a coordinate; of a mixture also
    along the axes of its whole covariance and of its components; about the set that a toy's points lie near, where known.

    A std of 0, of a coordinate that is constant or a set that is thin, is left out: a ratio to it means nothing. Of images
    one std, the root mean square over all pixels: that of a pixel which is nearly always black describes no image.
    """
    if (mixture := dataset.law()) is not None:
        total = mixture_covariance(mixture)
        kinds = [np.diag(total), np.linalg.eigvalsh(total), np.asarray(mixture.variances, np.float64)]
    else:
        arrays = dataset.load()
        x = getattr(arrays, "x", None)
        if x is None:
            x = draw_many(dataset, arrays, key, SECOND_MOMENTS)
        if x.ndim > 2:
            kinds = [np.square(np.asarray(dataset.moments(arrays, key).std, np.float64)[None])]
        else:
            kinds = [np.asarray(x, np.float64).var(axis=0), np.array([dataset.least_variance()])]
    ends = [end for kind in kinds for end in (kind.min(), kind.max(), kind[kind > 0].min(initial=np.inf))]
    return tuple(sorted({float(np.sqrt(each)) for each in ends if 0 < each < np.inf}))


def mixture_covariance(mixture: Mixture) -> np.ndarray:
    """The covariance of all of a mixture, (d, d) in float64: sum_k w_k (S_k + (mu_k - m)(mu_k - m)^T)."""
    means, weights = np.asarray(mixture.means, np.float64), np.asarray(mixture.weights, np.float64)
    variances = np.broadcast_to(np.asarray(mixture.variances, np.float64), means.shape)
    off = means - weights @ means
    between = np.einsum("k,ki,kj->ij", weights, off, off)
    if mixture.rotations is None:
        return between + np.diag(weights @ variances)
    axes = np.asarray(mixture.rotations, np.float64)
    return between + np.einsum("k,kij,kj,klj->il", weights, axes, variances, axes)


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class FromSource(GaussianPath):
    """A path from a source of another std than 1: between two laws Gaussian data and a Gaussian source stand for them."""

    forward: GaussianPath
    source_std: Scalar

    @property
    def formula(self) -> tuple[str, ...]:  # type: ignore[override]  # of the path inside
        return self.forward.formula

    @property
    def has_gamma(self) -> bool:
        return self.forward.has_gamma

    def alpha(self, t: Scalar) -> Scalar:
        return self.forward.alpha(t)

    def beta(self, t: Scalar) -> Scalar:
        return self.forward.beta(t)

    def variance(self, t: Scalar) -> Scalar:
        return self.forward.variance(t)

    def gamma(self, t: Scalar) -> Scalar:
        return self.forward.gamma(t)

    def gamma_variance(self, t: Scalar) -> Scalar:
        return self.forward.gamma_variance(t)


def noise_std(path: GaussianPath, t: Scalar) -> Scalar:
    """The std at t of all that is not data, (): beta, and between two laws that of beta y + gamma eps."""
    if isinstance(path, FromSource):
        return jnp.sqrt(noise_variance(path, t))
    return path.beta(t)


def noise_variance(path: GaussianPath, t: Scalar) -> Scalar:
    """noise_std^2, ()."""
    if isinstance(path, FromSource):
        return path.variance(t) * path.source_std**2 + path.gamma_variance(t)
    return path.variance(t)


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class GaussianField(FlowMap):
    """The exact field of N(0, std^2 I): every prediction is a number times x. For one scale what OracleField is for a mixture,
    in a program a tenth as large. On a path FromSource what OracleInterpolant is.
    """

    path: GaussianPath
    std: Scalar
    shape: tuple[int, ...]

    @property
    def gaussian(self) -> bool:
        return not isinstance(self.path, FromSource)

    def output(self, x: Array, t: Scalar) -> Prediction:
        c = coefficients(self.path, t)
        if isinstance(self.path, FromSource):
            spread = self.path.source_std**2
            g = x / ((c.alpha * self.std) ** 2 + c.beta**2 * spread + c.gamma**2)
            velocity = (c.alpha * c.dalpha * self.std**2 + c.beta_dbeta * spread + c.gamma_dgamma) * g
            return Prediction(c.alpha * self.std**2 * g, c.gamma * g, velocity, -g, c.beta * spread * g)
        g = x / ((c.alpha * self.std) ** 2 + c.beta**2)
        velocity = (c.alpha * c.dalpha * self.std**2 + c.beta_dbeta) * g
        return Prediction(c.alpha * self.std**2 * g, c.beta * g, velocity, -g)

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        before, after = (self.path.alpha(at) ** 2 * self.std**2 + noise_variance(self.path, at) for at in (s, t))
        return jnp.sqrt(after / before) * x


def of_std(path: GaussianPath, std: Array) -> GaussianField:
    """The exact field of N(0, std^2) on a line."""
    return GaussianField(path, std, (1,))


def std_ratios(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...]) -> list[StdRatio]:
    """The std of the samples of N(0, std^2) data over the data's own, each with the exact field of that data.

    They start where samples start, from p_t0 inside the path and else from N(0, beta(t0)^2), and should have the data's std,
    or that of p_t where the grid ends before t = 1. Raises UserError for a grid whose times do not increase.
    """
    if not stds:
        return []
    at, scale = np.asarray(times(how.grid, how.steps, path)), np.asarray(stds)
    padded = np.pad(at, (0, -len(at) % LENGTHS), mode="edge")
    sampler = how.sampler
    if isinstance(sampler, PredictorCorrector):  # what `sample` is on average; its step is then linear too
        sampler = dataclasses.replace(sampler, norm="dimension")
    numbers = path, scale.astype(at.dtype), padded, np.asarray(how.steps, np.int32)
    if sampler.adaptive:
        ends, law = _followed(sampler, *numbers, how.last)
        std = np.abs(np.asarray(ends, np.float64))
    else:
        line = LinearRecursion(*(np.asarray(each, np.float64) for each in _line(sampler, *numbers)))
        law, std = line.law, np.sqrt(sampled_variance(line, how, at, scale))
    begin, end = (np.hypot(law[i, 0] * scale, law[i, 1]) for i in (0, how.steps))
    if sampler.adaptive:  # which is followed from 1
        std = std * np.where(at[0] > 0, begin, law[0, 1])
    aim = end if at[-1] < 1 or path.has_gamma else scale  # noise that is there at t = 1 too is of the law, no error
    with np.errstate(divide="ignore", invalid="ignore"):  # of a path whose ends are none
        ratios = np.where(np.isnan(std / aim), np.inf, std / aim)
    return [StdRatio(*row) for row in zip(stds, ratios.tolist(), strict=True)]


class LinearRecursion(NamedTuple):
    """A sampler on N(0, std^2) data on a line, where a step is linear in what its state remembers of the point, k numbers,
    and in its m normals: state' = a state + b xi.

    start (k,): the state of x = 1. point (k,): x is point . state. a (stds, steps, k, k), b (stds, steps, k, m); last
    (stds, k, k): the last step without its noise. law (times, 2): alpha and noise_std, which is beta on a Gaussian path.
    """

    start: np.ndarray
    point: np.ndarray
    a: np.ndarray
    b: np.ndarray
    last: np.ndarray
    law: np.ndarray


def sampled_variance(line: LinearRecursion, how: SamplingPlan, at: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """The variance of the samples (stds,), exactly, in float64: C' = a C a^T + b b^T over the steps, C the covariance of the
    state.
    """
    alpha, beta = line.law.T
    begin = np.hypot(alpha[0] * stds, beta[0]) if at[0] > 0 else np.full_like(stds, beta[0])
    covariance = begin[:, None, None] ** 2 * np.outer(line.start, line.start)
    noise = np.einsum("snkm,snlm->snkl", line.b, line.b)
    whole = how.steps if how.last == "step" else how.steps - 1
    with np.errstate(over="ignore", invalid="ignore"):  # of a sampler that is unstable
        for j in range(whole):
            a = line.a[:, j]
            covariance = a @ covariance @ a.swapaxes(1, 2) + noise[:, j]
    if how.last == "mean":
        covariance = line.last @ covariance @ line.last.swapaxes(1, 2)
    variance = np.einsum("k,skl,l->s", line.point, covariance, line.point)
    if how.last == "denoise":  # E[z|x] = alpha std^2 x/(alpha^2 std^2 + beta^2) at the last time before the end
        j = how.steps - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            variance *= (alpha[j] * stds**2 / ((alpha[j] * stds) ** 2 + beta[j] ** 2)) ** 2
    return np.where(np.isnan(variance), np.inf, variance)


@partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it is small: compiling is what it costs
def _line(sampler: Sampler, path: GaussianPath, stds: Array, times: Array, steps: Array) -> tuple[Array, ...]:
    """The numbers of a Line, for `steps` of the times, or more of which no use is made."""
    zero = jnp.zeros(SHAPE, times.dtype)
    empty, draws = sampler.start(zero), max(sampler.draws, 1)

    def into(state: Any, numbers: Array) -> Any:
        """The state with these numbers (k,) where it remembers anything of the point."""
        leaves, structure = jax.tree.flatten(state)
        sizes = [leaf.size if of_point(leaf) else 0 for leaf in leaves]
        parts = jnp.split(numbers, np.cumsum(sizes)[:-1])
        filled = [
            part.reshape(leaf.shape) if size else leaf for leaf, size, part in zip(leaves, sizes, parts, strict=True)
        ]
        return jax.tree.unflatten(structure, filled)

    def out(state: Any) -> Array:
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state) if of_point(leaf)])

    def moved(std: Array, state: Any, j: Array, numbers: Array, noise: Array | None) -> Array:
        key = None if noise is None else Draws(noise.reshape(draws, *SHAPE))
        t, h = times[j], times[j + 1] - times[j]
        return out(sampler.step(GaussianField(path, std, SHAPE), into(state, numbers), t, h, key))

    def along(state: Any, j: Array) -> tuple[Any, Any]:
        t, h = times[j], times[j + 1] - times[j]
        return sampler.step(GaussianField(path, stds[0], SHAPE), state, t, h, None), state

    size, all_steps = len(out(empty)), jnp.arange(len(times) - 1)
    states = None
    if type(sampler).start is not Sampler.start:  # the places of what it remembers depend on the times alone
        _, states = jax.lax.scan(along, empty, all_steps)
    units = jnp.eye(size + draws, dtype=times.dtype)

    def of(std: Array) -> tuple[Array, Array, Array]:
        def matrix(j: Array) -> Array:
            state = empty if states is None else jax.tree.map(lambda leaf: leaf[j], states)
            return jax.vmap(lambda unit: moved(std, state, j, unit[:size], unit[size:]))(units).T

        found, final = jax.vmap(matrix)(all_steps), steps - 1
        a, b = found[..., :size], found[..., size:]
        if sampler.draws <= 1:
            return a, b, a[final]
        state = empty if states is None else jax.tree.map(lambda leaf: leaf[final], states)
        return a, b, jax.vmap(lambda unit: moved(std, state, final, unit[:size], None))(units[:size]).T[:, :size]

    point = jax.vmap(lambda unit: sampler.point(into(empty, unit)).ravel()[0])(units[:size, :size])
    law = jax.vmap(lambda t: jnp.stack([path.alpha(t), noise_std(path, t)]))(times)
    return (out(sampler.start(zero + 1)), point, *jax.vmap(of)(stds), law)


def of_point(leaf: Array) -> bool:
    """Whether an array of a state holds what is remembered of the point, and not of the time."""
    return leaf.shape[-len(SHAPE) :] == SHAPE


@partial(jax.jit, static_argnames="last")
def _followed(
    sampler: Sampler, path: GaussianPath, stds: Array, times: Array, steps: Array, last: str
) -> tuple[Array, Array]:
    """Where a sampler that chooses its own steps takes x = 1 of each N(0, std^2), (stds,); and the law, as a Line's."""

    def of(std: Array) -> Array:
        x, key = jnp.ones((1, 1), times.dtype), jax.random.key(0)
        return simulate(sampler, of_std(path, std), x, times, key, None, steps, LoopSettings(last, chunk=1)).x[0, 0]

    return jax.vmap(of)(stds), jax.vmap(lambda t: jnp.stack([path.alpha(t), noise_std(path, t)]))(times)


def worst(found: list[StdRatio]) -> StdRatio | None:
    """The one that is furthest beyond what is tolerated; None where all are within."""
    wrong = [each for each in found if each.excess > TOLERATED]
    return max(wrong, key=lambda each: each.excess, default=None)
