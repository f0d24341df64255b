"""diffsde.check: whether a choice does what its group promises, by numbers; for classes of the user's own, and diffsde's too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.api.refusals import refusals
from diffsde.api.registering import kind_and_table
from diffsde.build import GROUPS, as_config, choose
from diffsde.datasets import Dataset, draw_many, point_shape
from diffsde.errors import UserError, suggestion
from diffsde.evaluation.metric import NEEDS, Metric
from diffsde.expressions import evaluate_expression
from diffsde.fields import OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import OT, GaussianPath, check_ends, coefficients, log_snr, written
from diffsde.plugins import parts
from diffsde.samplers import Sampler, simulate_compiled
from diffsde.samplers.best import Best
from diffsde.solver_error import mixture_covariance

TIMES = np.linspace(0, 1, 33)
CLOSE = 1e-4  # of float32 numbers that should be equal
DRAWS = 20_000
ERRORS = 6.0  # standard errors that chance is granted
ROUNDING = 1e-5  # error below which float32 says nothing of an order
PATHS, NOISE_STEPS = 4096, 256  # of the variance of an SDE's samples
STD = 0.5  # of the Gaussian data that a sampler is tried on


@refusals
def check(group: str, word: str) -> list[str]:
    """What is wrong with a choice of a group, a line each; [] where nothing is found.

    A path: variance = beta^2, alpha/beta increases, formula says alpha and beta, what must be finite is. A dataset: draws are
    finite, depend on their key alone, and have the moments and the law that it states. A sampler: the order that it states, or
    of an SDE the right variance, on Gaussian data. A metric: its figures have a direction, and its needs are known. Any: it
    comes back from its config.

    >>> import diffsde
    >>> diffsde.check("path", "ot")
    []
    """
    kind, table = kind_and_table(group)
    known = table | parts(group)
    if word not in known:
        raise UserError(f"check: '{word}' is not a {group}{suggestion(word, known, 100)}")
    try:
        choice = known[word]()
    except TypeError as error:
        raise UserError(f"check: {group}={word} has no defaults to be tried with: {error}") from None
    found = [] if kind is Metric else list(_config(kind, choice))
    checks: dict[type, Callable[[Any], Iterator[str]]] = {
        GaussianPath: _path,
        Dataset: _dataset,
        Sampler: _sampler,
        Metric: _metric,
    }
    return found or list(checks[kind](choice) if kind in checks else ())


def _config(kind: type, choice: Any) -> Iterator[str]:
    """Whether a choice is made again from its own config."""
    try:
        again: Any = choose(kind, as_config(choice), GROUPS[kind])
    except UserError as error:
        yield f"its defaults are refused: {error}"
        return
    if again != choice:
        yield f"its config {as_config(choice)} makes another object, {again}"


def _path(path: GaussianPath) -> Iterator[str]:
    at = jnp.asarray(TIMES, float)
    c, snr, variance = jax.jit(jax.vmap(lambda t: (coefficients(path, t), log_snr(path, t), path.variance(t) + 0 * t)))(
        at
    )
    alpha, beta, snr, variance = (np.asarray(each, np.float64) for each in (c.alpha, c.beta, snr, variance))
    for name, values in (("alpha", alpha), ("beta", beta), ("variance", variance)):
        if not np.isfinite(values).all():
            yield f"{name} is not finite at t = {TIMES[~np.isfinite(values)][0]:g}"
    if not (beta[:-1] > 0).all() or beta[-1] < 0:
        yield f"beta must be positive before t = 1; it is {beta.min():.3g} at t = {TIMES[beta.argmin()]:g}"
    off = np.abs(variance - beta**2) > CLOSE * np.maximum(1, variance)
    if off.any():
        i = int(off.argmax())
        yield f"variance is {variance[i]:.4g} at t = {TIMES[i]:g}, where beta^2 is {beta[i] ** 2:.4g}"
    if not (np.diff(snr) > 0).all():
        yield f"alpha/beta must increase; it does not after t = {TIMES[int((np.diff(snr) > 0).argmin())]:g}"
    if not np.isfinite(np.asarray(c.beta_dbeta)).all():
        yield "the derivative of variance must be finite for all t, 1 included"
    try:
        texts = written(path)
        said = [float(evaluate_expression(text, {"t": 0.5, "alpha": alpha[16]})) for text in texts]
    except UserError as error:
        yield f"formula cannot be read: {error}"
        return
    names = ("alpha", "beta", "gamma") if path.has_gamma else ("alpha", "beta")
    if len(texts) != len(names):
        yield f"formula has {len(texts)} texts; it must have those of {', '.join(names)}"
        return
    for name, text, value, own in zip(names, texts, said, (alpha[16], beta[16], float(path.gamma(0.5))), strict=False):
        if abs(value - own) > 1e-3 * max(1, abs(own)):
            yield f"formula says {name} = {text}, {value:.4g} at t = 0.5, where {name} is {own:.4g}"
    if path.has_gamma:
        yield from _gamma(path)


def _gamma(path: GaussianPath) -> Iterator[str]:
    """What a path with noise on the way promises besides: gamma >= 0, gamma_variance its square with a finite derivative, and ends."""
    at = jnp.asarray(TIMES, float)
    c, variance = jax.jit(jax.vmap(lambda t: (coefficients(path, t), path.gamma_variance(t) + 0 * t)))(at)
    gamma, squares = np.asarray(c.gamma, np.float64), np.asarray(variance, np.float64)
    if not (np.isfinite(gamma) & (gamma >= 0)).all():
        yield f"gamma must be finite and 0 or more; it is {gamma.min():.3g} at t = {TIMES[gamma.argmin()]:g}"
    off = np.abs(squares - gamma**2) > CLOSE * np.maximum(1, squares)
    if off.any():
        i = int(off.argmax())
        yield f"gamma_variance is {squares[i]:.4g} at t = {TIMES[i]:g}, where gamma^2 is {gamma[i] ** 2:.4g}"
    if not np.isfinite(np.asarray(c.gamma_dgamma)).all():
        yield "the derivative of gamma_variance must be finite for all t, 0 and 1 included"
    try:
        check_ends(path)
    except ValueError as error:
        yield str(error)


def _dataset(dataset: Dataset) -> Iterator[str]:
    arrays, key = dataset.load(), jax.random.key(0)
    shape = point_shape(dataset, arrays)
    x = np.asarray(draw_many(dataset, arrays, key, DRAWS), np.float64)
    if not np.isfinite(x).all():
        yield "some of its draws are NaN or infinite"
        return
    if not np.array_equal(x, np.asarray(draw_many(dataset, arrays, key, DRAWS), np.float64)):
        yield "two draws with one key differ"
    if np.array_equal(x, np.asarray(draw_many(dataset, arrays, jax.random.key(1), DRAWS), np.float64)):
        yield "draws with two keys are the same: use the key"
    rows = x.reshape(DRAWS, -1)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    stated = dataset.moments(arrays, key)
    chance = ERRORS * max(std.max(), 1e-6) * math.sqrt(2 / DRAWS)
    if np.abs(np.asarray(stated.mean).ravel() - mean).max() > chance:
        yield f"moments say a mean of {np.asarray(stated.mean).ravel()}, its draws have {mean}"
    if abs(float(stated.std) - math.sqrt((std**2).mean())) > chance:
        yield f"moments say a std of {float(stated.std):.4g}, its draws have {math.sqrt((std**2).mean()):.4g}"
    if (law := dataset.law()) is not None:
        center = np.asarray(law.weights) @ np.asarray(law.means)
        wrong = np.abs(np.cov(rows.T).reshape(len(mean), -1) - mixture_covariance(law)).max()
        if np.abs(center - mean).max() > chance or wrong > 2 * ERRORS * std.max() ** 2 * math.sqrt(2 / DRAWS):
            yield "its draws do not have the mean and covariance of its law"
    if dataset.least_variance() < 0:
        yield f"least_variance is {dataset.least_variance():.3g}; it must be 0 or more"
    if shape == ():
        yield "a point must have an axis: draws are (count, d), not (count,)"


def _sampler(sampler: Sampler) -> Iterator[str]:
    """On N(0, STD^2) along the path ot, whose ODE multiplies a point by STD from t = 0 to 1."""
    law = Mixture(jnp.zeros((1, 1)), jnp.full((1, 1), STD**2), jnp.ones(1))
    field = OracleField(OT(), law, (1,))
    if isinstance(sampler, Best):  # which takes the steps of another
        return
    if sampler.stochastic:
        x0 = jax.random.normal(jax.random.key(0), (PATHS, 1))
        x = simulate_compiled(sampler, field, x0, jnp.linspace(0, 1, NOISE_STEPS + 1), jax.random.key(1)).x
        ratio = float(np.asarray(x).std()) / STD
        if not abs(ratio - 1) < 0.03 + ERRORS / math.sqrt(2 * PATHS):
            yield f"the samples' std is {ratio:.3g} times the data's, after {NOISE_STEPS} steps"
        return
    wrong = {steps: _distance(sampler, field, steps) for steps in (8, 16, 32, 64)}
    if not all(map(math.isfinite, wrong.values())):
        yield "its samples are NaN or infinite"
    elif sampler.adaptive:
        if wrong[64] > 0.01:
            yield f"it ends {wrong[64]:.2g} from where the ODE does"
    elif (steps := next((steps for steps in (64, 16) if wrong[steps] > ROUNDING), None)) is not None:
        smaller = wrong[steps // 2] / wrong[steps]
        if math.log2(smaller) < sampler.order - 0.5:
            yield f"order is {sampler.order}, but twice the steps make the error {smaller:.2g} times smaller: order {math.log2(smaller):.1f}"


def _distance(sampler: Sampler, field: OracleField, steps: int) -> float:
    """How far from the ODE's end a point begun at 1 ends."""
    x = simulate_compiled(sampler, field, jnp.ones((1, 1)), jnp.linspace(0, 1, steps + 1), jax.random.key(0)).x
    return abs(float(x[0, 0]) - STD)


def _metric(metric: Metric) -> Iterator[str]:
    for name, quantity in metric.quantities.items():
        if quantity.direction not in ("lower", "target"):
            yield f"the direction of {name} is '{quantity.direction}'; it must be lower or target"
    for need in metric.needs:
        if need not in NEEDS:
            yield f"needs has '{need}'{suggestion(need, NEEDS)}"
