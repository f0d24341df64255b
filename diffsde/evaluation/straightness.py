"""The metric `straightness`: how straight a field's trajectories are, how near one step comes to their ends, and their energy to the least."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood
from diffsde.errors import UserError
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.fields import Field, bound
from diffsde.metrics.distances import MOST, transport
from diffsde.metrics.figures import Figure, mean_figure, root_mean_figure
from diffsde.runs.starting import choose_grid, standing_in, starting_points, stds_of
from diffsde.samplers import Grid, LoopSettings, prior, simulate_compiled, times
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.ode import Euler, Heun
from diffsde.types import Array, Key, Prediction, Scalar, register

SOLVER, STEPS = Heun(), 100
POINTS, PART = 10_000, 1000  # trajectories, and those that are solved again in half the steps
SETS = 8  # of 512 points each, over which W2^2 is averaged where larger sets are not asked for


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class EnergyFlow(Field):
    """The probability-flow ODE and the energy along it: dx/dt = u_t(x), de/dt = |u_t(x)|^2; the state (x, e) is (d + 1,).

    Only `velocity` is defined: `output` raises TypeError.
    """

    field: Field
    shape: tuple[int, ...]

    def bind(self, condition: Scalar) -> EnergyFlow:
        return dataclasses.replace(self, field=self.field.bind(condition))

    def velocity(self, x: Array, t: Scalar) -> Array:
        u = self.field.velocity(x[:-1].reshape(self.field.shape), t).ravel()
        return jnp.append(u, jnp.sum(u**2))

    def output(self, x: Array, t: Scalar) -> Prediction:
        raise TypeError("the flow of an energy has a velocity, and neither data nor noise")


class Energies(NamedTuple):
    """Of each trajectory (n,): its energy int |u|^2 dt, |X_1 - X_0|^2, and how far one Euler step ends from X_1, squared."""

    path: np.ndarray
    straight: np.ndarray
    one_step: np.ndarray


@dataclasses.dataclass(frozen=True)
class Straightness(Metric):
    """path_energy = E int |u_t(X_t)|^2 dt over the ODE's trajectories from the noise X_0 (Benamou and Brenier 2000: at least
    W2^2 between noise and data); straightness = path_energy - E |X_1 - X_0|^2 = E int |X_1 - X_0 - u_t(X_t)|^2 dt, 0 where
    every trajectory is straight (2209.03003); npe = |path_energy - W2^2|/W2^2, the normalised path energy (2302.00482);
    one_step_error = sqrt(E |X_0 + u_0(X_0) - X_1|^2), of one Euler step against the trajectory from the same X_0.

    `points`: of each set whose W2^2 is found exactly; None: 8 pairs of sets of 512, without the excess of such
    small sets. Where the law is known the
    exact field's figures stand beside, of the same noise.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "path_energy": Quantity("", "lower"),
        "straightness": Quantity("", "lower"),
        "npe": Quantity("", "lower"),
        "one_step_error": Quantity("", "lower"),
    }
    needs: ClassVar[tuple[str, ...]] = ("field",)

    points: int | None = None

    def is_default(self, subject: Subject) -> bool:
        return False

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject):
            return why
        if subject.guided:
            return "guided trajectories end at another law than the data's"
        try:
            solving(subject)
        except UserError as error:
            return str(error).removeprefix("likelihood: ")
        return None

    def measure(self, subject: Subject, key: Key) -> Measured:
        field, grid = subject.field, solving(subject)
        assert field is not None
        key_noise, key_data = jax.random.split(key)
        labels = None if subject.field_labels is None else jnp.asarray(np.resize(subject.field_labels, POINTS))
        x0 = starts(subject, key_noise, POINTS, grid.start)
        found, least = figures_of(field, grid, x0, labels), least_energy(subject, self.points, key_data)
        found["npe"] = normalised(found["path_energy"], least)
        if subject.exact is not None:
            theirs = figures_of(subject.exact, grid, x0, labels)
            theirs["npe"] = normalised(theirs["path_energy"], least)
            found = {name: figure.against("field", theirs[name]) for name, figure in found.items()}
        how = (
            f"{least.points:,} points, exact"
            if self.points
            else f"{SETS} pairs of sets of {least.points} points, less such sets' own distances"
        )
        about = {"straightness": {"w2_squared": least.as_dict(), "steps": STEPS, "n": POINTS}}
        return Measured(
            found,
            about,
            (
                (
                    f"W2^2 of {'noise' if subject.source is None else 'source'} and data",
                    f"{least.value:.4g} +- {least.error or 0.0:.2g} ({how})",
                ),
            ),
        )


def solving(subject: Subject) -> Grid:
    """The grid of the ODE. Raises UserError where the velocity is infinite at an end of it."""
    assert subject.field is not None
    field = bound(subject.field, None if subject.field_labels is None else jnp.asarray(subject.field_labels[0]))
    path = standing_in(subject.field, subject.source)
    return likelihood.choose_end(field, choose_grid(AutoGrid(), field, stds_of(subject.dataset), path))


def starts(subject: Subject, key: Key, n: int, start: float = 0.0) -> Array:
    """Starting points (n, *shape): from N(0, beta^2 I), or the source."""
    field = subject.field
    assert field is not None
    if subject.source is None:
        return prior(field.path, jnp.asarray(start), field.shape, key, n)
    return starting_points(field, subject.dataset, start, key, n, None, subject.source)[0]


def figures_of(field: Field, grid: Grid, x0: Array, labels: Array | None) -> dict[str, Figure]:
    """path_energy, straightness and one_step_error of the trajectories from x0; the error has what half the steps change."""
    fine = energies(field, grid, x0, labels, STEPS)
    rough = energies(field, grid, x0[:PART], None if labels is None else labels[:PART], STEPS // 2)

    def figure(values: np.ndarray, others: np.ndarray, root: bool = False) -> Figure:
        found = root_mean_figure(values) if root else mean_figure(values)
        change = float(np.mean(others - values[:PART])) / (max(2 * found.value, 1e-12) if root else 1)
        return found._replace(error=math.hypot(found.error or 0.0, change))

    return {
        "path_energy": figure(fine.path, rough.path),
        "straightness": figure(fine.path - fine.straight, rough.path - rough.straight),
        "one_step_error": figure(fine.one_step, rough.one_step, root=True),
    }


def energies(field: Field, grid: Grid, x0: Array, labels: Array | None, steps: int) -> Energies:
    """The energies of the trajectories from x0 (n, *shape), by Heun's method in so many steps."""
    n = len(x0)
    start = jnp.append(x0.reshape(n, -1), jnp.zeros((n, 1), x0.dtype), axis=1)
    flow, at = EnergyFlow(field, start.shape[1:]), times(grid, STEPS, field.path)
    if steps < STEPS:
        at = jnp.pad(times(grid, steps, field.path), (0, STEPS - steps), mode="edge")
    key, settings = jax.random.key(0), LoopSettings("step", chunk=PART)
    ends = np.asarray(simulate_compiled(SOLVER, flow, start, at, key, labels, np.int32(steps), settings).x, np.float64)
    once = np.asarray(simulate_compiled(Euler(), flow, start, at[jnp.array([0, -1])], key, labels, None, settings).x)
    moved, missed = ends[:, :-1] - np.asarray(start[:, :-1]), ends[:, :-1] - once[:, :-1]
    return Energies(ends[:, -1], np.sum(moved**2, axis=1), np.sum(missed**2, axis=1))


def least_energy(subject: Subject, points: int | None, key: Key) -> Figure:
    """W2^2 between the noise, or the source, and the data, the least energy of any path between them.

    Of sets x of noise and y of data it is too large by the distances of sets from their own law (8% for 512 points of
    N(0, 1) and N(0, 4) in the plane). Where the sets are small, (W2^2(x, x') + W2^2(y, y'))/2 is taken off, and what that
    leaves uncertain, a quarter of it, goes into the error.
    """
    field = subject.field
    assert field is not None
    sets, size = (1, points) if points else (2 * SETS, MOST)
    key_noise, key_data = jax.random.split(key)
    noise = np.asarray(starts(subject, key_noise, sets * size))
    data = subject.dataset.true_points(subject.field_labels, key_data, sets * size)
    x, y = noise.reshape(sets, size, -1), np.asarray(data).reshape(sets, size, -1)
    if points:
        return Figure(*transport(x[0], y[0]), points=size)

    def costs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.array([transport(*pair).cost for pair in zip(one, other, strict=True)])

    own = (costs(x[::2], x[1::2]).mean() + costs(y[::2], y[1::2]).mean()) / 2
    found = mean_figure(costs(x[::2], y[::2]))
    return Figure(found.value - own, math.hypot(found.error or 0.0, own / 4), points=size)


def normalised(energy: Figure, least: Figure) -> Figure:
    """|energy - least|/least, and its error."""
    ratio = energy.value / least.value
    error = math.hypot(energy.error or 0.0, ratio * (least.error or 0.0)) / least.value
    return Figure(abs(ratio - 1), error)
