"""The metric `snapshots`: each snapshot carried to the next by the field, beside the points that are there."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from diffsde.datasets import Snapshots
from diffsde.datasets.snapshots import Snapshot
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.evaluation.transport import root
from diffsde.fields import Field
from diffsde.metrics.distances import MOST, transport
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure, paired_error
from diffsde.samplers import LoopSettings, Sampler, simulate_compiled
from diffsde.samplers.ode import Heun
from diffsde.types import Key, on_device

STEPS = 100  # from one snapshot to the next
SETS = 4  # pairs of sets, at most, that a distance is averaged over
SHORT = 1e-6  # of t, by which the last step ends before a snapshot: at it the velocity is that of the next interval
SCALED = "with each coordinate in units of its std"


@dataclasses.dataclass(frozen=True)
class SnapshotFit(Metric):
    """How near the field carries each snapshot to the points of the next: W1 and W2 by exact transport between sets of up to 512
    points, the mean over up to 4 pairs of sets, beside those between two sets of true points of the same size.

    left_out_w1, left_out_w2: at the time of leave_out=, from the snapshot before it, as trajectory inference is judged (2002.04461).
    next_w1, next_w2: the mean over the snapshots that the field was trained on, each from the one before it.
    The trajectories are those of the chosen sampler, in 100 steps from one snapshot to the next.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "left_out_w1": Quantity("in the data's units", "lower", SCALED),
        "left_out_w2": Quantity("in the data's units", "lower", SCALED),
        "next_w1": Quantity("in the data's units", "lower", SCALED),
        "next_w2": Quantity("in the data's units", "lower", SCALED),
    }
    needs: ClassVar[tuple[str, ...]] = ("field", "snapshots")

    def is_default(self, subject: Subject) -> bool:
        return isinstance(subject.dataset, Snapshots)

    def measure(self, subject: Subject, key: Key) -> Measured:
        series, field = subject.dataset, subject.field
        assert isinstance(series, Snapshots) and field is not None
        sampler = Heun() if subject.drawing is None or subject.drawing.sampler.adaptive else subject.drawing.sampler
        times, trained = series.series().times, np.isin(series.series().times, series.trained_times)
        found: list[Carried] = []
        for i in range(1, len(times)):
            before = int(np.flatnonzero(trained[:i])[-1])
            pair = series.at(before), series.at(i)
            found.append(carried(field, sampler, pair, bool(trained[i]), jax.random.fold_in(key, i)))
        figures: dict[str, Figure] = {}
        if left := [each for each in found if not each.trained]:
            figures |= {f"left_out_w{power}": left[0].figure(power) for power in (1, 2)}
        seen = [each for each in found if each.trained]
        figures |= {f"next_w{power}": mean_of([each.figure(power) for each in seen]) for power in (1, 2)}
        arrays = {name: np.array([getattr(each, name) for each in found]) for name in ("time", "trained")}
        for power in (1, 2):
            arrays |= {f"w{power}": np.array([each.figure(power).value for each in found])}
            arrays |= {f"w{power}_floor": np.array([each.distances[power][1].mean() for each in found])}
            arrays |= {f"w{power}_still": np.array([each.distances[power][2].mean() for each in found])}
        return Measured(figures, {"snapshots": as_list(found)}, tuple(map(row, found)), {"snapshots": arrays})


class Carried(NamedTuple):
    """A snapshot that the field carried to the time of another one: the times of both, whether the field was trained on the
    other, points of a set, and by power 1 and 2 the distances (m,) of m pairs of sets: of carried points from true ones, of
    true ones from true ones, of one pair of the snapshot itself, not moved, from true ones.
    """

    start: float
    time: float
    trained: bool
    size: int
    distances: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]

    def figure(self, power: int) -> Figure:
        """W1 or W2 at the time, beside its floor."""
        mine, floor, _ = (Figure(float(each.mean()), paired_error(each, len(each))) for each in self.distances[power])
        return mine._replace(points=self.size).against("floor", floor)


def carried(field: Field, sampler: Sampler, pair: tuple[Snapshot, Snapshot], trained: bool, key: Key) -> Carried:
    """The first snapshot's points at the time of the second, and how far they are from it."""
    before, after = pair
    sets, size = sets_of(after)
    key_start, key_true, key_noise = jax.random.split(key, 3)
    true = after.true_points(None, key_true, 2 * sets * size).reshape(2, sets, size, -1)
    x0 = before.true_points(None, key_start, sets * size)
    times = np.linspace(before.t, after.t - SHORT, STEPS + 1)
    settings = LoopSettings("step")  # in the middle of a path no step is the last
    x = simulate_compiled(sampler, field, on_device(x0), on_device(times, float), key_noise, settings=settings).x
    moved, still = np.asarray(x).reshape(true[0].shape), np.asarray(x0).reshape(true[0].shape)

    def distances(one: np.ndarray, power: int) -> np.ndarray:
        return np.array([root(transport(a, b, power), power).value for a, b in zip(one, true[0], strict=False)])

    found = {power: tuple(distances(each, power) for each in (moved, true[1], still[:1])) for power in (1, 2)}
    return Carried(before.time, after.time, trained, size, found)  # type: ignore[arg-type]  # three of them


def sets_of(snapshot: Snapshot) -> tuple[int, int]:
    """Number of pairs of sets of true points, and of points in each: no point of a finite snapshot twice."""
    if snapshot.law() is not None:
        return SETS, MOST
    half = len(snapshot.load().x) // 2
    size = min(half, MOST)
    return min(SETS, half // size), size


def mean_of(figures: list[Figure]) -> Figure:
    """The mean of figures, and of their floors."""
    values, errors = np.array([each.value for each in figures]), [each.error for each in figures]
    floors = [each.reference for each in figures if each.reference is not None]
    error = None if None in errors else float(np.sqrt(np.sum(np.square(np.array(errors, float))))) / len(figures)
    theirs = [each.error for each in floors]
    floor_error = None if None in theirs else float(np.sqrt(np.sum(np.square(np.array(theirs, float))))) / len(figures)
    floor = Figure(float(np.mean([each.value for each in floors])), floor_error)
    return Figure(float(values.mean()), error, points=min(each.points or 0 for each in figures)).against("floor", floor)


def as_list(found: list[Carried]) -> list[dict[str, Any]]:
    """The distances at every time, for summary.json."""
    return [
        {"from": each.start, "time": each.time, "trained": each.trained}
        | {f"w{power}": each.figure(power).as_dict() for power in (1, 2)}
        | {f"w{power}_still": float(each.distances[power][2].mean()) for power in (1, 2)}
        for each in found
    ]


def row(each: Carried) -> tuple[str, str]:
    """The table's row of one time."""
    w2, still = shown_figure(each.figure(2)), float(each.distances[2][2].mean())
    left = "" if each.trained else ", left out"
    return f"at time {each.time:g}{left}", f"from {each.start:g}: W2 {w2}; {still:.3g} had nothing moved"
