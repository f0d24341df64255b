"""Fixed points: drawn once from another dataset, and split into training, validation and tests."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from diffsde import memory
from diffsde.datasets.dataset import Dataset, Examples, draw_many
from diffsde.datasets.finite import FiniteDataset
from diffsde.datasets.toys import Moons
from diffsde.types import Array, Key, choice, on_device

SPLITS = ("train", "validation", "test")


@choice
class FixedPoints(FiniteDataset):
    """fixed: `size` points of another dataset, drawn once, to train on; as many for validation and as many for tests.

    Published figures are of such splits: a checkpoint is chosen by the points for validation (best=true), and samples are
    compared with the points for tests. The law of the points is that of the dataset `drawn_from`, but what a network can
    learn is the points alone: the exact field is theirs. equal_counts: as many points of each component of a mixture.
    judged_by: the split that samples are compared with.
    """

    drawn_from: Dataset = Moons()
    size: int = 10_000
    split_seed: int = 0
    equal_counts: bool = False
    judged_by: str = "test"

    def check(self) -> None:
        if isinstance(self.drawn_from, FiniteDataset):
            raise ValueError("drawn_from must be a law, e.g. moons or 8gaussians: its points are finite already")
        if self.equal_counts and not self.drawn_from.classes(self.drawn_from.load()):
            raise ValueError("equal_counts is for mixtures; these points have no components")

    def load(self) -> Examples:
        return self.split("train")

    def split(self, name: str) -> Examples:
        """The points of a split, and their labels where the dataset they are drawn from has some."""
        return self.drawn(jax.random.fold_in(jax.random.key(self.split_seed), SPLITS.index(name)), self.size)

    def drawn(self, key: Key, count: int) -> Examples:
        """Points of the dataset `drawn_from`, and their labels where it has some."""
        whole = self.drawn_from.load()
        classes = self.drawn_from.classes(whole)
        points = jax.eval_shape(partial(draw_many, count=count), self.drawn_from, whole, key)
        count_held = 2 * points.size * points.dtype.itemsize  # the points, and the random numbers that they are made of
        memory.require(count_held, f"dataset.size={self.size:,}", "take a smaller dataset.size=")
        if self.equal_counts:
            y = np.arange(count, dtype=np.int32) % classes
            return Examples(on_device(self.drawn_from.draw_given(whole, y, key, count)), on_device(y))
        if classes:
            return Examples(*_draw_labelled(self.drawn_from, whole, key, count))
        return Examples(draw_many(self.drawn_from, whole, key, count))

    @property
    def conditional(self) -> bool:  # type: ignore[override]  # a field of some datasets, here of the one drawn from
        """Whether networks are conditioned on the points' labels."""
        return self.drawn_from.conditional

    @property
    def has_test(self) -> bool:
        return True

    def held_out(self) -> Examples:
        return self.split(self.judged_by)

    @property
    def has_validation(self) -> bool:
        return True

    def validated(self) -> FixedPoints:
        return FixedPoints(self.drawn_from, self.size, self.split_seed, self.equal_counts, "validation")

    def true_points(self, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """Points of the split `judged_by`, none of them twice, then of the other one that is not trained on, then new ones."""
        if labels is not None:
            return self.draw_given(self.held_out(), labels, key, count)
        order = [self.judged_by, *(name for name in SPLITS[1:] if name != self.judged_by)]
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        found = [random.permutation(np.asarray(self.split(name).x)) for name in order[: -(-count // self.size)]]
        if (more := count - len(found) * self.size) > 0:
            found.append(np.asarray(self.drawn(key, more).x))
        return np.concatenate(found)[:count]

    def least_variance(self) -> float:
        return self.drawn_from.least_variance()

    def notes(self) -> tuple[str, ...]:
        return (
            f"drawn once, with as many for validation and as many for tests (dataset.split_seed={self.split_seed})",
        )


@partial(jax.jit, static_argnames="count")
def _draw_labelled(dataset: Dataset, arrays: Any, key: Key, count: int) -> tuple[Array, Array | None]:
    return dataset.draw_labelled(arrays, key, count)
