"""Own units and the model's: x_own = mean + std x_model for each coordinate, so that a network sees numbers of unit size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde import knobs
from diffsde.errors import UserError

LARGEST = 1e150  # of a number: its square is finite in float64
COARSE = 0.01  # of a coordinate's std: numbers of this type that are further apart there cannot stand for the data
BLOCK = 2**20  # numbers that are converted at a time
FINE = 2.0**-12  # ... samples in float32 are no further apart than this


class Scaling(NamedTuple):
    """mean and std, float64, of the shape of a point or (channels,) of an image (H, W, channels): x_own = mean + std x_model.

    With it velocities are multiplied by std, scores divided by it, and log p_own = log p_model - sum log std. std is 0 where
    a coordinate is constant: it is not scaled on the way in, and comes back exactly.
    """

    mean: np.ndarray
    std: np.ndarray

    @property
    def divisor(self) -> np.ndarray:
        """What a coordinate is divided by: std, and 1 where it is constant."""
        return np.where(self.std > 0, self.std, 1.0)


class SampleMoments(NamedTuple):
    """Of points (n, *shape), coordinate by coordinate and in float64: how many (n), mean, sum of squares about it, least, most."""

    n: int
    mean: np.ndarray
    squares: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """0 where all points are equal, whatever the rounding of their mean."""
        return np.where(self.most > self.least, np.sqrt(self.squares / self.n), 0.0)

    @property
    def size(self) -> np.ndarray:
        """The largest absolute value."""
        return np.maximum(np.abs(self.least), np.abs(self.most))


def sample_moments(blocks: Iterable[np.ndarray], per_channel: bool) -> SampleMoments:
    """The moments of points in blocks (k, *shape), in one pass: each block's about its own mean, merged pairwise (Chan et al.
    1979, eq. 2.1), so that an offset of a billion stds takes no digits. per_channel: of the last axis, all others together.
    """
    whole: SampleMoments | None = None
    for block in blocks:
        x = np.asarray(block, np.float64)
        x = x.reshape(-1, x.shape[-1]) if per_channel else x
        mean = x.mean(axis=0)
        part = SampleMoments(len(x), mean, ((x - mean) ** 2).sum(axis=0), x.min(axis=0), x.max(axis=0))
        whole = part if whole is None else _merged(whole, part)
    assert whole is not None
    return whole


def _merged(a: SampleMoments, b: SampleMoments) -> SampleMoments:
    n, between = a.n + b.n, b.mean - a.mean
    return SampleMoments(
        n,
        a.mean + between * (b.n / n),
        a.squares + b.squares + between**2 * (a.n * b.n / n),
        np.minimum(a.least, b.least),
        np.maximum(a.most, b.most),
    )


def check_resolution(found: SampleMoments, dtype: Any, where: str, mend: str, names: tuple[str, ...] = ()) -> None:
    """Raise UserError where the type does not reach as far as the points, or rounds a coordinate by over 0.01 of its std."""
    if found.size.max() > np.finfo(dtype).max:
        raise UserError(f"{where}: it has numbers up to {found.size.max():.3g}, beyond {np.dtype(dtype).name}; {mend}")
    spread = found.most - found.least
    tiny = (spread > 0) & (spread < 1 / LARGEST)
    if tiny.any():
        worst = int(np.argmax(tiny))
        at = names[worst] if len(names) == found.mean.size else str(worst)
        raise UserError(
            f"{where}: the numbers of coordinate {at} are no further apart than {spread.flat[worst]:.3g}, whose square double"
            f" precision does not hold; multiply them in the file itself"
        )
    step = np.finfo(dtype).eps / 2 * found.size
    coarse = (found.std > 0) & (step > COARSE * found.std)
    if coarse.any():
        worst = int(np.argmax(np.where(coarse, step / np.where(found.std > 0, found.std, 1), 0)))
        at = names[worst] if len(names) == found.mean.size else str(worst)
        raise UserError(
            f"{where}: coordinate {at} has a std of {found.std.flat[worst]:.3g} at values up to"
            f" {found.size.flat[worst]:.6g}, where {np.dtype(dtype).name} is rounded by {step.flat[worst]:.2g}; {mend}"
        )


def check_scale(std: float, where: str, mend: str = "scale the data") -> None:
    """Raise UserError for a std, in the model's units, whose cube single precision does not hold; 0 is no matter here."""
    if not std <= knobs.LARGEST or 0 < std < knobs.SMALLEST:
        raise UserError(
            f"{where}: a std of {std:.3g}, as the network and the solvers see it, is not from {knobs.SMALLEST:g} to"
            f" {knobs.LARGEST:g}, with which single precision computes; {mend}"
        )


def to_model(scaling: Scaling | None, x: Any) -> np.ndarray:
    """(x_own - mean)/std of points (..., *shape), computed in float64, in the type that programs take now."""
    kept = np.float64 if jax.config.read("jax_enable_x64") else np.float32
    if scaling is None:
        return np.asarray(x, kept)
    return ((np.asarray(x, np.float64) - scaling.mean) / scaling.divisor).astype(kept)


def to_own(scaling: Scaling | None, x: Any) -> np.ndarray:
    """mean + std x_model of points (..., *shape), computed in float64, BLOCK numbers at a time.

    The result is float32, or float64 where x is, or where float32 would be rounded by more than 2^-12 of a std. Without a
    scaling x as it is.
    """
    x = np.asarray(x)
    if scaling is None:
        return x
    step = np.finfo(np.float32).eps / 2 * np.abs(scaling.mean)
    coarse = bool((step > FINE * scaling.std)[scaling.std > 0].any()) or bool((scaling.std == 0).any())
    if x.dtype == np.float64 or coarse:
        return scaling.mean + scaling.std * x
    if x.ndim <= scaling.mean.ndim:
        return to_own(scaling, x[None])[0]
    own, rows = np.empty(x.shape, np.float32), max(1, BLOCK // max(1, math.prod(x.shape[1:])))
    for begin in range(0, len(x), rows):
        part = scaling.mean + scaling.std * x[begin : begin + rows].astype(np.float64)
        if np.abs(part).max(initial=0) > np.finfo(np.float32).max:
            return scaling.mean + scaling.std * x.astype(np.float64)
        own[begin : begin + rows] = part
    return own


def log_volume(scaling: Scaling | None, shape: tuple[int, ...]) -> float:
    """sum log std over the coordinates that vary: log p_own = log p_model - log_volume. 0 without a scaling."""
    return 0.0 if scaling is None else float(np.log(np.broadcast_to(scaling.divisor, shape)).sum())


def same_scaling(one: Scaling | None, other: Scaling | None) -> bool:
    """Whether two scalings, or the lack of one, are the same map; one read from a folder is flat."""
    if one is None or other is None:
        return one is other
    return all(np.array_equal(a.ravel(), b.ravel()) for a, b in zip(one, other, strict=True))
