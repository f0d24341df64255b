"""Measurements y = A z + noise eps of a point z: inpainting, superresolution, a matrix; eps is standard normal."""

from __future__ import annotations

import abc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.array_archives import read_npy
from diffsde.datasets.image_files import opened
from diffsde.errors import Unreadable, UserError, first_line
from diffsde.inverse.operators import BlockMean, Mask, Operator, from_matrix
from diffsde.types import Array, Key, choice

NOISE = 0.05  # std of a measurement's error
HALVES = ("left", "right", "top", "bottom")


class Measurement(abc.ABC):
    """A linear measurement: its operator A, and the std `noise` of the error per measured number, in the data's own units.

    noise None: NOISE; for data that are scaled, NOISE times the typical std of a measured number (problem.typical_std).
    """

    noise: float | None

    @abc.abstractmethod
    def operator(self, shape: tuple[int, ...]) -> Operator:
        """The operator A for points of this shape. Raises UserError where the measurement does not fit the shape."""


@choice
class Inpaint(Measurement):
    """inpaint: some pixels are measured, the others are not.

    keep: the measured pixels: left, right, top or bottom (a half), all, or a mask file, .npy (H, W) or (H, W, C) or .png,
    0 where a pixel is not measured. hide: [top, left, height, width], a rectangle that is not measured.
    """

    keep: str = "left"
    hide: tuple[int, ...] | None = None
    noise: float | None = None

    def check(self) -> None:
        if self.keep == "all" and self.hide is None:
            raise ValueError("keep=all hides nothing; hide a rectangle with hide=[top,left,height,width]")
        if self.hide is not None and (len(self.hide) != 4 or min(self.hide[2:]) < 1):
            raise ValueError(f"hide is {list(self.hide)}; it must be [top,left,height,width], e.g. [2,2,4,4]")

    def operator(self, shape: tuple[int, ...]) -> Mask:
        height, width, _ = image_shape(shape, "inpaint")
        seen = np.ones(shape)
        if self.keep in HALVES:
            seen = half(seen, self.keep)
        elif self.keep != "all":
            seen = read_mask(self.keep, shape)
        if self.hide is not None:
            top, left, rows, columns = self.hide
            if top + rows > height or left + columns > width:
                raise UserError(
                    f"measurement.hide: [{top},{left},{rows},{columns}] reaches beyond images of {height} x {width}"
                )
            seen[top : top + rows, left : left + columns] = 0
        if seen.all() or not seen.any():
            raise UserError(f"measurement: {'every' if seen.all() else 'no'} pixel is measured; hide some, keep some")
        return Mask(jnp.asarray(seen, float))


@choice
class Superresolution(Measurement):
    """superresolution: the means of blocks of factor x factor pixels are measured."""

    factor: int = 2
    noise: float | None = None

    def operator(self, shape: tuple[int, ...]) -> BlockMean:
        height, width, _ = image_shape(shape, "superresolution")
        if height % self.factor or width % self.factor:
            raise UserError(f"measurement.factor: {self.factor} divides not both sides of images of {height} x {width}")
        return BlockMean(self.factor, shape)


@choice
class Linear(Measurement):
    """linear: y = A z with your own matrix A (m, d), the points flattened to d numbers.

    matrix: m lists of d numbers, or a .npy file of shape (m, d).
    """

    matrix: str | tuple[tuple[float, ...], ...] | None = None
    noise: float | None = None

    def check(self) -> None:
        if not self.matrix:
            raise ValueError("matrix is not given; say measurement.matrix=[[1,0]] or measurement.matrix=A.npy")
        if not isinstance(self.matrix, str) and len({len(row) for row in self.matrix}) != 1:
            raise ValueError("matrix must be a list of equally long lists, e.g. [[1,0]]")

    def operator(self, shape: tuple[int, ...]) -> Operator:
        d = int(np.prod(shape))
        given = read_array(self.matrix, "measurement.matrix") if isinstance(self.matrix, str) else np.array(self.matrix)
        if given.ndim != 2 or given.shape[1] != d:
            raise UserError(
                f"measurement.matrix: it has shape {given.shape}; for points of shape {shape} it must be (m, {d})"
            )
        if not np.isfinite(given).all() or not given.any():
            raise UserError("measurement.matrix: it must be finite numbers, not all of them 0")
        return from_matrix(given, shape)


def half(image: np.ndarray, side: str) -> np.ndarray:
    """An image (H, W, C) with zeros outside the half `side`; the middle one of an odd number of rows or columns is kept."""
    if side in ("top", "bottom"):
        return half(image.swapaxes(0, 1), {"top": "left", "bottom": "right"}[side]).swapaxes(0, 1)
    columns = np.arange(image.shape[1])
    kept = columns if side == "left" else columns[::-1]
    return image * (kept <= (image.shape[1] - 1) // 2)[:, None]


def image_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """(H, W, C) of image points. Raises UserError for points of another shape; `name`: the measurement."""
    if len(shape) != 3:
        raise UserError(
            f"measurement={name} is of images, and the points have shape {shape}; take measurement=linear with a matrix"
        )
    height, width, channels = shape
    return height, width, channels


def read_array(file: str, knob: str) -> np.ndarray:
    """The array of real numbers in a .npy file, named by the user at `knob`. Raises UserError where it cannot be read."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{knob}: '{file}' is not a file")
    if path.suffix.lower() != ".npy":
        raise UserError(f"{knob}: '{file}' ends in '{path.suffix}'; it must be .npy")
    try:
        values = read_npy(path)
    except (Unreadable, OSError) as error:
        raise UserError(f"{knob}: '{file}' cannot be read: {first_line(error)}") from None
    if values.dtype.kind not in "fiub":
        raise UserError(f"{knob}: '{file}' must hold one array of real numbers")
    return values


def read_mask(file: str, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of zeros and ones (H, W, C) from a .npy of shape (H, W) or (H, W, C), or a .png: 1 where the file is not 0.

    Raises UserError for another kind of file, one that cannot be read, and another shape.
    """
    knob, path = "measurement.keep", Path(file).expanduser()
    if path.suffix.lower() not in (".npy", ".png"):
        raise UserError(f"{knob} is '{file}'; it must be {', '.join(HALVES)}, all, or a mask in a .npy or .png file")
    if path.suffix.lower() == ".npy":
        values = read_array(file, knob)
    else:
        try:
            values = opened(path, np.asarray, "L")
        except Unreadable as error:
            raise UserError(f"{knob}: '{file}' cannot be read: {error}") from None
    if values.shape not in (shape, shape[:2]):
        raise UserError(f"{knob}: the mask '{file}' has shape {values.shape}; the images have {shape[:2]}")
    return np.broadcast_to(values.reshape(*values.shape, *[1] * (3 - values.ndim)) != 0, shape).astype(float)


def measure(operator: Operator, noise: float, z: Array, key: Key) -> Array:
    """y = A z + noise eps (k, ...), per point z (k, *shape); under a mask, pixels that are not measured have no noise."""

    def one(z: Array, key: Key) -> Array:
        y = operator.apply(z)
        eps = noise * jax.random.normal(key, y.shape, y.dtype)
        return y + ((operator.seen != 0) * eps if isinstance(operator, Mask) else eps)

    return jax.vmap(one)(z, jax.random.split(key, len(z)))
