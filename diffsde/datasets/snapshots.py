"""Snapshots: points of a population at several times, of which no point is seen twice; the interface of such datasets."""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.dataset import Examples
from diffsde.datasets.finite import FiniteDataset
from diffsde.datasets.scaling import Scaling, check_resolution, sample_moments, to_model
from diffsde.errors import UserError
from diffsde.mixtures import Mixture
from diffsde.types import Array, Key, Moments, register

LEAST = 2  # points of a snapshot, at least


class Series(NamedTuple):
    """Snapshots in the data's own units: increasing times (m,), and points (n_i, d) in float64 of each."""

    times: np.ndarray
    x: tuple[np.ndarray, ...]


class Snapshots(FiniteDataset):
    """Points at several times, trained on as laws to be joined one after another: the first is the source, the last the data.

    t runs from 0 at the first time to 1 at the last, in proportion to the times (`knots`). The points that `load` gives are the
    last snapshot's; `at` gives a dataset of any one. One scale for all: mean and std of all points that are trained on.
    leave_out: a time, neither the first nor the last, whose snapshot is kept from training.
    """

    has_exact_field: ClassVar[bool] = False

    leave_out: float | None = None

    @abc.abstractmethod
    def series(self) -> Series:
        """All snapshots, those that are left out too. Raises UserError where the data cannot be read."""

    def law_at(self, time: float) -> Mixture | None:
        """The law of the points at a time of one's own, in the model's units, where it is known."""
        return None

    def exact_field(self, path: Any) -> None:  # type: ignore[override]  # the last snapshot alone has no part of the others'
        return None

    @property
    def trained_times(self) -> np.ndarray:
        """The times (K + 1,) of the snapshots that are trained on, in the data's own unit. Raises UserError."""
        times = self.series().times
        return times[self._kept(times)]

    @property
    def knots(self) -> np.ndarray:
        """The times as t: (K + 1,), from 0 to 1."""
        return self.as_t(self.trained_times)

    def as_t(self, times: Any) -> np.ndarray:
        """t of times in the data's own unit: 0 at the first snapshot, 1 at the last."""
        first, last = self.series().times[[0, -1]]
        return (np.asarray(times, np.float64) - first) / (last - first)

    def _kept(self, times: np.ndarray) -> np.ndarray:
        """Which snapshots (m,) are trained on. Raises UserError where leave_out is no inner time."""
        if self.leave_out is None:
            return np.ones(len(times), bool)
        kept = ~np.isclose(times, float(self.leave_out), rtol=1e-6, atol=0.0)
        inner = ", ".join(f"{time:g}" for time in times[1:-1])
        if kept.all() or not (kept[0] and kept[-1]):
            there = f"choose one of {inner}" if inner else "there are two snapshots, neither of which can be left out"
            raise UserError(f"dataset.leave_out is {float(self.leave_out):g}; it must be an inner time: {there}")
        return kept

    def at(self, index: int) -> Snapshot:
        """The dataset of one snapshot, of those of `series`; -1 is the last."""
        return Snapshot(self, index % len(self.series().times))

    @property
    def first(self) -> Snapshot:
        """The first snapshot, from which trajectories start."""
        return self.at(0)

    def trained(self) -> tuple[Array, ...]:
        """The points (n_k, d) of the snapshots that are trained on, one array for each, in the model's units."""
        times, x = self.series()
        scaling = self.scaling(x[0].shape[1:])
        return tuple(jnp.asarray(to_model(scaling, x[i])) for i in np.flatnonzero(self._kept(times)))

    def load(self) -> Examples:
        return self.at(-1).load()

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        return self.measured_scaling()

    def measured_scaling(self) -> Scaling | None:
        times, x = self.series()
        found = sample_moments([x[i] for i in np.flatnonzero(self._kept(times))], per_channel=False)
        mend = "take an offset off in the file itself, in whole numbers"
        check_resolution(found, np.float64, "dataset", mend, self.column_names())
        return Scaling(np.where(found.most > found.least, found.mean, found.least), found.std)

    def scaled_by(self, scaling: Scaling | None) -> Snapshots:
        return self  # made data measure the same again

    def count_points(self, arrays: Any) -> int:
        """Of all snapshots that are trained on."""
        return sum(map(len, self.trained()))

    def moments(self, arrays: Any, key: Key) -> Moments:
        """Mean and std of all points that are trained on, of every snapshot: the scale of x_t at any t."""
        x = np.concatenate([np.asarray(each, np.float64) for each in self.trained()])
        mean = x.mean(axis=0)
        return Moments(jnp.asarray(mean, float), jnp.asarray(np.sqrt(np.mean((x - mean) ** 2)), float))

    def about(self, arrays: Any) -> dict[str, Any]:
        times, x = self.series()
        kept = self._kept(times)
        found = super().about(arrays)
        names = {"columns": list(columns)} if (columns := self.column_names()) else {}
        series = {"times": times[kept].tolist(), "snapshots": [len(x[i]) for i in np.flatnonzero(kept)]}
        left = {} if self.leave_out is None else {"left_out": times[~kept].tolist()}
        return found | series | left | names


@partial(register, static=["index"])
@dataclasses.dataclass(frozen=True)
class Snapshot(FiniteDataset):
    """One snapshot of a series, as data of its own: in the scale of the series."""

    has_exact_field: ClassVar[bool] = False

    series: Snapshots
    index: int

    @property
    def time(self) -> float:
        """Its time in the data's own unit."""
        return float(self.series.series().times[self.index])

    @property
    def t(self) -> float:
        """Its time as t in [0, 1]."""
        return float(self.series.as_t(self.time))

    def load(self) -> Examples:
        x = self.series.series().x[self.index]
        return Examples(jnp.asarray(to_model(self.series.scaling(x.shape[1:]), x)))

    def exact_field(self, path: Any) -> None:  # type: ignore[override]
        return None

    def moments(self, arrays: Any, key: Key) -> Moments:
        """Those of the whole series, so that a network sees every snapshot in one scale."""
        return self.series.moments(arrays, key)

    def law(self, labels: np.ndarray | None = None) -> Mixture | None:
        return self.series.law_at(self.time)

    def scaling(self, shape: tuple[int, ...]) -> Scaling | None:
        return self.series.scaling(shape)

    def column_names(self) -> tuple[str, ...]:
        return self.series.column_names()

    def true_points(self, labels: Array | np.ndarray | None, key: Key, count: int) -> np.ndarray:
        """Points of the law where it is known; else of the snapshot, none of them twice before all are taken."""
        if (law := self.law()) is not None:
            return np.asarray(_sample(law, key, count))
        x = np.asarray(self.load().x)
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        rounds = [random.permutation(len(x)) for _ in range(-(-count // len(x)))]
        return x[np.concatenate(rounds)[:count]]


_sample = jax.jit(mixtures.sample, static_argnums=2)


def check_series(series: Series, what: str) -> Series:
    """The series. Raises UserError for fewer than two snapshots, and one of fewer than two points; what: where the times are."""
    if len(series.times) < 2:
        raise UserError(f"{what} has one time alone, {series.times[0]:g}; snapshots are of two times at least")
    for time, x in zip(series.times, series.x, strict=True):
        if len(x) < LEAST:
            raise UserError(
                f"{what} has {len(series.times):,} different times, and {len(x)} point at {time:g}; each snapshot needs"
                f" {LEAST} points: round the times"
            )
    return series
