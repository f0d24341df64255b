"""One scaling for the two ends of a path: x_own = mean + std x_model, with the same mean and std for source and data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.dataset import MEASURED, Dataset, Examples, draw_many, point_shape
from diffsde.datasets.finite import Batch
from diffsde.datasets.scaling import Scaling, to_model
from diffsde.errors import UserError
from diffsde.types import Array, Key, Moments, register


def common(source: Dataset, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Source and data in the model's units: by one scaling, where either of them has one; else as they are. Raises UserError.

    The scaling is measured on both ends, which count the same whatever their numbers of points; or it is the mean and std
    that one of the two files was given. A straight line between two points is then one in the data's own units, too.
    """
    with naming_the_source():
        ours = point_shape(source, source.load())
        source.scaling(ours)
    theirs = point_shape(dataset, dataset.load())
    if ours != theirs:
        raise UserError(f"source: its points have shape {ours}, the data's {theirs}; they must be the same")
    return with_scaling(source, dataset, measured(source, dataset))


@contextmanager
def naming_the_source() -> Iterator[None]:
    """What is wrong with the source's files is said of source.file=, not of dataset.file=."""
    try:
        yield
    except UserError as error:
        raise UserError(re.sub(r"\bdataset(?=[.:])", "source", str(error))) from None


def measured(source: Dataset, dataset: Dataset) -> Scaling | None:
    """The scaling of both ends as they are now; None where neither has a scaling. Raises UserError."""
    ends = source, dataset
    given = [each for each in ends if isinstance(each, ArrayFile) and each.mean is not None]
    shape = point_shape(dataset, dataset.load())
    if all(each.scaling(shape) is None for each in ends):
        return None
    if any(each.in_bytes(each.load()) for each in ends):
        raise UserError(
            "source: one end is images in bytes, whose scale is their own, the other is numbers that are standardised; say"
            " standardise=false of these"
        )
    if given:
        first, last = given[0].scaling(shape), given[-1].scaling(shape)
        assert first is not None and last is not None
        if not all(np.array_equal(a, b) for a, b in zip(first, last, strict=True)):
            raise UserError(
                "source.mean, source.std: they differ from the data's; both ends have one scaling, give it once"
            )
        return first
    (mean, std), (other, spread) = map(_mean_and_std, ends)
    return Scaling((mean + other) / 2, np.sqrt((std**2 + spread**2) / 2 + (mean - other) ** 2 / 4))


def remeasured(source: Dataset, dataset: Dataset) -> Scaling | None:
    """The scaling of both ends measured as their files are now, whatever scaling they were given."""
    return measured(_as_chosen(source), _as_chosen(dataset))


def _as_chosen(dataset: Dataset) -> Dataset:
    if isinstance(dataset, ArrayFile):
        return dataclasses.replace(dataset, mean=None, std=None)
    return dataset.inner if isinstance(dataset, ScaledDataset) else dataset


def with_scaling(source: Dataset, dataset: Dataset, scaling: Scaling | None) -> tuple[Dataset, Dataset]:
    """Source and data in the units of a scaling; None: as they are in their files, or drawn."""
    return _scaled(source, scaling), _scaled(dataset, scaling)


def _scaled(dataset: Dataset, scaling: Scaling | None) -> Dataset:
    if isinstance(dataset, ArrayFile):
        return dataclasses.replace(dataset, standardise=scaling is not None, mean=None, std=None).scaled_by(scaling)
    if scaling is None:
        return dataset
    mean, std = (tuple(each.ravel().tolist()) for each in scaling)
    return ScaledDataset(dataset, mean, std)


def _mean_and_std(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std of each coordinate, or each channel: of a file exactly, of a mixture too, else of 65,536 draws."""
    if isinstance(dataset, ArrayFile):
        found = dataclasses.replace(dataset, standardise=True).measured_scaling()
        assert found is not None
        return found.mean, found.std
    if (law := dataset.law()) is not None:
        means, weights = np.asarray(law.means, np.float64), np.asarray(law.weights, np.float64)
        mean = weights @ means
        variances = np.asarray(jax.vmap(jnp.diagonal)(mixtures.covariances(law)), np.float64)
        return mean, np.sqrt(weights @ (variances + (means - mean) ** 2))
    points = np.asarray(draw_many(dataset, dataset.load(), jax.random.key(0), MEASURED), np.float64)
    mean, std = points.mean(axis=0), points.std(axis=0)
    return _rounded(mean), _rounded(std)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To 5 digits: draws differ in their last ones between machines, and a run begun on one may be resumed on another."""
    return np.array([float(f"{value:.5g}") for value in values.ravel()]).reshape(values.shape)


@partial(register, static=["mean", "std"])
@dataclasses.dataclass(frozen=True)
class ScaledDataset(Dataset):
    """A law of points, such as a toy, in the units of a scaling that it shares with the other end: x = (own - mean)/std.

    Points in memory are scaled by `load`, as a file's are: what reads them there sees the model's units.
    """

    inner: Dataset
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def conditional(self) -> bool:  # type: ignore[override]  # a field of some datasets, here of the one inside
        """Whether networks are conditioned on the points' labels."""
        return self.inner.conditional

    def load(self) -> Any:
        arrays = self.inner.load()
        return arrays._replace(x=self._seen(arrays.x)) if isinstance(arrays, Examples) else arrays

    def scaling(self, shape: tuple[int, ...]) -> Scaling:
        return Scaling(*(np.asarray(each, np.float64).reshape(shape) for each in (self.mean, self.std)))

    def scaled_by(self, scaling: Scaling | None) -> Dataset:
        return _scaled(self.inner, scaling)

    def law(self, labels: np.ndarray | None = None) -> mixtures.Mixture | None:
        law = self.inner.law(labels)
        if law is None:
            return None
        std = jnp.asarray(self.std)
        means = (law.means - jnp.asarray(self.mean)) / std
        if law.rotations is None:
            return law._replace(means=means, variances=law.variances / std**2)
        return mixtures.with_covariances(means, mixtures.covariances(law) / jnp.outer(std, std), law.weights)

    def count_points(self, arrays: Any) -> int | None:
        return self.inner.count_points(arrays)

    @property
    def has_test(self) -> bool:
        return self.inner.has_test

    def held_out(self) -> Any:
        found = self.inner.held_out()
        return Examples(self._seen(found.x), found.y)

    @property
    def has_validation(self) -> bool:
        return self.inner.has_validation

    def validated(self) -> Dataset:
        return dataclasses.replace(self, inner=self.inner.validated())

    def true_points(self, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        return to_model(self._flat(), self.inner.true_points(labels, key, count))

    def draw_given(self, arrays: Any, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        found = self.inner.draw_given(arrays, labels, key, count)
        return found if _are_scaled(arrays) else to_model(self._flat(), found)

    def draw_by_index(self, arrays: Any, key: Key, n: int, labels: Array | None = None) -> Array:
        found = self.inner.draw_by_index(arrays, key, n, labels)
        return found if _are_scaled(arrays) else self._seen(found)

    def least_variance(self) -> float:
        return self.inner.least_variance() / max(self.std) ** 2

    def classes(self, arrays: Any) -> int:
        return self.inner.classes(arrays)

    def about(self, arrays: Any) -> dict[str, Any]:
        return self.inner.about(arrays)

    def draw(self, arrays: Any, key: Key, count: int) -> Array:
        return self.draw_labelled(arrays, key, count)[0]

    def draw_labelled(self, arrays: Any, key: Key, count: int) -> tuple[Array, Array | None]:
        x, label = self.inner.draw_labelled(arrays, key, count)
        return x if _are_scaled(arrays) else self._seen(x), label

    def moments(self, arrays: Any, key: Key) -> Moments:
        if _are_scaled(arrays):
            return self.inner.moments(arrays, key)
        law = self.law()
        return super().moments(arrays, key) if law is None else mixtures.moments(law)

    def _flat(self) -> Scaling:
        return Scaling(np.asarray(self.mean), np.asarray(self.std))

    def _seen(self, x: Any) -> Array:
        """(x - mean)/std; a coordinate that is constant at both ends is centred alone."""
        scaling = self._flat()
        return (x - jnp.asarray(scaling.mean, x.dtype)) / jnp.asarray(scaling.divisor, x.dtype)


def _are_scaled(arrays: Any) -> bool:
    """Whether arrays are points in memory, which `ScaledDataset.load` and `held_out` scale; else points are scaled when drawn."""
    return isinstance(arrays, Examples | Batch)
