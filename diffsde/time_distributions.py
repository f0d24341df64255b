"""The law of t in training, each given by its quantile function, so that stratification works for all of them."""

from __future__ import annotations

import abc

import jax
import jax.numpy as jnp

from diffsde.paths import GaussianPath, log_snr
from diffsde.types import Array, Key, Moments, Scalar, choice

RESOLUTION = (
    22  # bits of u: (k + 1/2)/2^22 stays off 0 and 1 in float32, even where a division is compiled as a product
)


class TimeDistribution(abc.ABC):
    """How t is drawn: `quantile` maps a uniform u in (0, 1) to t in (0, 1)."""

    stratified: bool

    @abc.abstractmethod
    def quantile(self, u: Scalar, path: GaussianPath, moments: Moments) -> Scalar: ...


def draw_uniforms(key: Key, count: int, stratified: bool) -> Array:
    """`count` uniforms in the open interval (0, 1); stratified: one in each of `count` equal cells.

    Exact fixed-point arithmetic: neither 0 nor 1 can come out by rounding, where a loss may be 0/0.
    """
    cells = count if stratified else 1
    depth = max(RESOLUTION - (cells - 1).bit_length(), 0)
    inside = jax.random.bits(key, (count,), jnp.uint32) >> (32 - depth) if depth else jnp.zeros(count, jnp.uint32)
    cell = jnp.arange(count, dtype=jnp.uint32) if stratified else jnp.zeros(count, jnp.uint32)
    return ((cell << depth) + inside + 0.5) / (cells << depth)


@choice
class Uniform(TimeDistribution):
    """t uniform on (0, 1)."""

    stratified: bool = True

    def quantile(self, u: Scalar, path: GaussianPath, moments: Moments) -> Scalar:
        return u


@choice
class LogitNormal(TimeDistribution):
    """log(t/(1-t)) ~ N(mean, std^2) (Stable Diffusion 3, 2403.03206, eq. 19)."""

    mean: float = 0.0
    std: float = 1.0
    stratified: bool = True

    def check(self) -> None:
        if abs(self.mean) + 5.5 * self.std > 16:  # beyond, the sigmoid of a float32 normal rounds to 0 or 1
            raise ValueError(
                f"mean={self.mean}, std={self.std} put t on 0 or 1 in float32; keep |mean| + 5.5 std <= 16"
            )

    def quantile(self, u: Scalar, path: GaussianPath, moments: Moments) -> Scalar:
        return jax.nn.sigmoid(self.mean + self.std * jax.scipy.stats.norm.ppf(u))


@choice
class LogNormal(TimeDistribution):
    """log(beta/(alpha s)) ~ N(mean, std^2), s the data's measured std (EDM 2206.00364, table 1).

    EDM's P_mean = -1.2, P_std = 1.2 are for s = 0.5: in units of the data's std the mean is -1.2 - log 0.5 = -0.507.
    The std is wider than EDM's: with 1.2 few times lie near the data, and Euler-Maruyama's samples of the ring of 11, which
    need the score there, end with a std of 0.98 in each component, where it is 1; with 1.6 at 1.01.
    The path is inverted by bisection; levels that it does not reach fall on its ends.
    """

    mean: float = -0.507
    std: float = 1.6
    stratified: bool = True

    def quantile(self, u: Scalar, path: GaussianPath, moments: Moments) -> Scalar:
        level = self.mean + self.std * jax.scipy.stats.norm.ppf(u)
        return invert_log_snr(path, -level - jnp.log(moments.std))


def invert_log_snr(path: GaussianPath, target: Scalar) -> Scalar:
    """t in (0, 1) with log(alpha/beta) = target, by bisection to float32's last bit."""

    def halve(_: int, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = ends
        middle = (low + high) / 2
        above = log_snr(path, middle) > target
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    shape = jnp.zeros_like(target)
    low, high = jax.lax.fori_loop(0, 24, halve, (shape + 2.0**-24, shape + 1 - 2.0**-24))
    return (low + high) / 2


TIME_DISTRIBUTIONS: dict[str, type[TimeDistribution]] = {
    "uniform": Uniform,
    "logit_normal": LogitNormal,
    "log_normal": LogNormal,
}
