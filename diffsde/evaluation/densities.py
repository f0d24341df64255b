"""Likelihoods of test points under a field, compared with the true law where it is known: points, solver, figures."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood, mixtures
from diffsde.datasets import Dataset, Examples
from diffsde.datasets.finite import dequantised
from diffsde.datasets.scaling import Scaling, log_volume, to_own
from diffsde.errors import UserError
from diffsde.evaluation.references import of_labels, take
from diffsde.fields import Field
from diffsde.metrics.figures import Figure, mean_figure
from diffsde.paths import GaussianPath
from diffsde.runs import machine, progress
from diffsde.samplers import Grid, Sampler, times
from diffsde.samplers.adaptive import Adaptive
from diffsde.types import Array, Key

TOLERATED = 0.03  # nats per coordinate: the largest solver error of E log p without a warning
BATCHES = 10  # batches of the test points, so that progress can be shown


class TestPoints(NamedTuple):
    """Test points x (n, *shape), their labels (n,) for the field, or None, and the exact log p(x) (n,), or None if unknown.

    bytes: whether x are bytes.
    """

    x: Array
    labels: Array | None
    exact: np.ndarray | None
    bytes: bool

    def own(self, scaling: Scaling | None) -> np.ndarray:
        """x in the data's own units; bytes unchanged."""
        return np.asarray(self.x) if self.bytes else to_own(scaling, self.x)


class Solving(NamedTuple):
    """How the ODE of the likelihood is solved: solver, grid, number of steps, and probe, a key of likelihood.PROBES."""

    solver: Sampler
    grid: Grid
    steps: int
    probe: str


def of_test(dataset: Dataset, asked: int | None, labels: np.ndarray | None) -> tuple[Examples, int]:
    """The test split, restricted to `labels` if given, and how many points of it are used; asked None: up to 200.

    Raises UserError where there is no test split, a label is missing, or `asked` exceeds the number of points.
    """
    test = dataset.held_out()
    if labels is not None:
        test = of_labels(test, labels, "the test split")
    count = min(200, len(test.x)) if asked is None else asked
    if count > len(test.x):
        raise UserError(f"n_test is {count}, but there are {len(test.x)} test points; take n_test={len(test.x)}")
    return test, count


def test_points(dataset: Dataset, asked: int | None, labels: np.ndarray | None, key: Key) -> TestPoints:
    """Points that the run was not trained on: fresh draws if the data have a law, else from the test split, chosen by the key.

    labels: the labels to use; None: the field is unconditional. asked: how many; None: 2000, or 200 of a test split.
    """
    if dataset.count_points(dataset.load()) is not None:
        test, count = of_test(dataset, asked, labels)
        chosen = take(test, np.asarray(jax.random.permutation(key, len(test.x)))[:count])
        given_labels = None if labels is None else jnp.asarray(chosen.y)
        return TestPoints(jnp.asarray(chosen.x), given_labels, None, chosen.x.dtype == np.uint8)
    count = asked or 2000
    mixture = dataset.law()
    if mixture is None:
        return TestPoints(dataset.draw(dataset.load(), key, count), None, None, False)
    given_labels = None if labels is None else jnp.asarray(np.resize(labels, count))
    if given_labels is None:
        x = mixtures.sample(mixture, key, count)
    else:
        keys = jax.random.split(key, count)
        x = jax.vmap(lambda label, key: mixtures.sample(mixtures.conditioned(mixture, label), key, 1)[0])(
            given_labels, keys
        )
    law = jax.jit(jax.vmap(lambda x, label: mixtures.log_prob(mixtures.conditioned(mixture, label), x)))
    return TestPoints(x, given_labels, np.asarray(law(x, given_labels)), False)


def likelihood_figures(
    field: Field,
    points: TestPoints,
    how: Solving,
    repeats: int,
    key: Key,
    scaling: Scaling | None = None,
    source: mixtures.Mixture | None = None,
) -> tuple[dict[str, Figure], dict[str, Any], np.ndarray]:
    """(figures, a record of how they were computed, log p (n,) of every point in the data's own units).

    For bytes, log p is the mean over `repeats` draws of the dequantisation noise. The record's `change` is the change of the
    mean over the first tenth of the points from half as many steps, or ten times the tolerance: an estimate of the
    solver's error, and part of the figures' errors (density_figures); absent for one step.
    source: the law of the source, between two laws; None: N(0, I). Raises UserError where some log p are not finite.
    """
    grid = how.grid
    if grid.end < 1:
        progress.say(f"likelihood: from t={grid.end:g}, as the velocity of this field is infinite at t=1")
    at, n = times(grid, how.steps, field.path), len(points.x)
    key_noise, key_probe = jax.random.split(key)
    rows = np.arange(n * repeats) % n  # point i of the r-th repeat is row r n + i
    x = points.x[rows]
    x = dequantised(x, key_noise) if points.bytes else x
    size, compiler = -(-len(rows) // BATCHES), machine.Compiler()

    def batch(number: int) -> tuple[Any, ...]:
        part = np.arange(number * size, (number + 1) * size) % len(rows)  # the last batch padded with the first points
        labels = None if points.labels is None else points.labels[rows[part]]
        return (
            how.solver,
            field,
            x[part],
            at,
            jax.random.fold_in(key_probe, number),
            labels,
            np.int32(how.steps),
            source,
        )

    program = compiler(likelihood.log_likelihood_compiled, *batch(0), probe=how.probe)
    log_p, nfe, begun = [], [], time.perf_counter()
    with progress.Steps("likelihood", len(rows), unit="points") as steps:
        for number in range(-(-len(rows) // size)):
            found = jax.block_until_ready(program(*batch(number)))
            log_p.append(np.asarray(found.log_p, np.float64))
            nfe.append(
                np.full(size, how.steps * how.solver.evaluations) if found.nfe is None else np.asarray(found.nfe)
            )
            steps.update(min((number + 1) * size, len(rows)))
    seconds = time.perf_counter() - begun
    change = {}
    if (rough := coarse(how, grid, field, at)) is not None:  # the first batch once more
        solver, half, count = rough
        again = solver, *batch(0)[1:3], half, *batch(0)[4:6], np.int32(count), source
        gained = log_p[0] - np.asarray(program(*again).log_p)
        scale = math.prod(field.shape) * math.log(2) if points.bytes else 1.0
        change = {"change": -float(gained.mean()) / scale}
    mean = np.concatenate(log_p)[: len(rows)].reshape(repeats, n).mean(axis=0) - log_volume(scaling, field.shape)
    if bad := int((~np.isfinite(mean)).sum()):
        raise UserError(
            f"likelihood: {bad} of {n} values are NaN or infinite; take more solver_steps, or another run: its"
            " parameters may be too large by far"
        )
    about = {
        "n": n,
        "dequantisations": repeats if points.bytes else 0,
        "nfe": float(np.concatenate(nfe).mean()),
        "steps": how.steps,
        **change,
        "probe": how.probe,
        "start": float(at[0]),
        "end": float(at[-1]),
        "seconds": seconds,
        "seconds_compile": compiler.seconds,
    }
    return density_figures(mean, points, change.get("change", 0.0)), about, mean


def coarse(how: Solving, grid: Grid, field: Field, at: Array) -> tuple[Sampler, Array, int] | None:
    """A coarser solver, its times and number of steps: half the steps, or ten times the tolerance; None for a single step."""
    if isinstance(how.solver, Adaptive):
        wider = dataclasses.replace(how.solver, rtol=10 * how.solver.rtol, atol=10 * how.solver.atol)
        return wider, at, how.steps
    if how.steps == 1:
        return None
    return how.solver, likelihood.coarser(at, times(grid, how.steps // 2, field.path)), how.steps // 2


def solver_warning(how: Solving, path: GaussianPath, stds: tuple[float, ...]) -> str | None:
    """A warning with its remedy, if the solver's own error of E log p for Gaussian data of the stds exceeds TOLERATED; else None."""

    def error_of(how: Solving) -> tuple[float, float]:
        found = likelihood.gaussian_error(how.solver, path, times(how.grid, how.steps, path), stds)
        worst = int(np.abs(np.nan_to_num(found, nan=np.inf)).argmax())
        return found[worst], stds[worst]

    if not stds or abs((wrong := error_of(how))[0]) <= TOLERATED:
        return None
    tried = [(f"solver_steps={more * how.steps}", how._replace(steps=more * how.steps)) for more in (2, 4, 8, 16)]
    adaptive = ("solver=adaptive", how._replace(solver=likelihood.SOLVERS["adaptive"](), steps=1))
    kinds = [adaptive] if how.solver.adaptive else [*tried, adaptive]
    words = next((words for words, other in kinds if abs(error_of(other)[0]) <= TOLERATED), None)
    mend = f"{words} mends that" if words else "scale the data to a std of about 1"
    return (
        f"likelihood: the solver alone adds {wrong[0]:+.2g} nats per coordinate to log p of Gaussian data of std"
        f" {wrong[1]:.3g}; {mend}"
    )


def density_figures(log_p: np.ndarray, points: TestPoints, change: float = 0.0) -> dict[str, Figure]:
    """Figures from log_p (n,): bits_per_dim for bytes, else nll in nats; if the law p is known also kl = E_p[log p - log_p].

    error: sqrt(e^2 + change^2), where e is the standard error over the points (probes and dequantisation noise included) and
    `change` the solver's. Richardson extrapolation would divide `change` by 2^p - 1 for a solver of order p, which near
    t = 1 underestimates the error several times at 10 to 50 steps.
    """

    def figure(values: np.ndarray) -> Figure:
        found = mean_figure(values)
        return found if found.error is None else found._replace(error=math.hypot(found.error, change))

    if points.bytes:
        bits = np.asarray(likelihood.bits_per_dim(jnp.asarray(log_p), points.x[0].size), np.float64)
        return {"bits_per_dim": figure(bits)}
    found = {"nll": figure(-log_p)}
    if points.exact is not None:
        found["nll"] = found["nll"].against("true", Figure(float(-points.exact.mean())))
        found["kl"] = figure(points.exact - log_p).against_exact(0.0)
    return found
