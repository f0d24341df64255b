"""The weight of a loss: what `auto` resolves to, whether the expected loss is finite, and warnings about it."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import predictions
from diffsde.objectives.between import between_root_weight, raw_target_spread, target_spread
from diffsde.objectives.losses import root_weight
from diffsde.objectives.objective import Problem, Regression, regression, time_at
from diffsde.paths import coefficients
from diffsde.types import Array, Scalar, on_device

# The largest ratio of c_out^2 between two times for which `auto` takes the unit weight. Beyond it, the times at which
# c_out is large outweigh the times at which modes form: with ratios of 51 (v on vp, the mixture of 11) and 58 (v on subvp)
# 2000 steps reached cross-entropies of 5.30 and 5.37, where 5.22 is exact; a ratio of 3 (velocity on ot, moons) costs nothing.
UNIT_SPREAD = 10.0


ENDS = (2.0**-20, 1 - 2.0**-20, 2.0**-16, 1 - 2.0**-16)  # quantiles of t near the ends, where a loss may diverge
QUANTILES = 256  # quantiles of t at which c_out^2 is compared


def has_finite_loss(problem: Problem) -> bool:
    """Whether E[weight |y_hat - y|^2] is finite, by how fast the integrand increases towards the ends of t's distribution.

    The integrand is compared at the quantiles u = 2^-16 and 2^-20 from each end: if it increases like 1/u or faster, the
    integral diverges. Preconditioned it is weight c_out^2; raw it is weight (a^2 s^2 + b^2), all of y's variance.
    The loss of what is no regression is always finite: a classifier's is log(classes) untrained.
    """
    if not isinstance(problem.objective, Regression):
        return True
    at = _scales(problem)[:4]
    return bool(np.isfinite(at).all() and np.all(at[:2] <= 16**0.97 * at[2:]))


def scale_spread(problem: Problem) -> float:
    """The ratio of the largest to the smallest weight c_out^2 at the 256 quantiles (k + 1/2)/256 of t's distribution.

    The same error in F contributes to the loss by up to this factor more at one time than at another. Only preconditioned
    regressions have a c_out.
    """
    at = _scales(problem)[4:]
    return float(at.max() / at.min()) if at.min() > 0 else math.inf


def _scales(problem: Problem) -> np.ndarray:
    """The integrand of has_finite_loss at ENDS, then at the quantiles of `scale_spread`, in one compiled program."""
    u = np.concatenate([ENDS, (np.arange(QUANTILES) + 0.5) / QUANTILES])
    return np.asarray(_integrand(problem, on_device(u, float)), np.float64)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def _integrand(problem: Problem, u: Scalar) -> Scalar:
    c = coefficients(problem.path, time_at(problem, u))
    if problem.source_moments is not None:
        root = between_root_weight(problem, c)
        spread = target_spread(problem, c) if problem.precondition else raw_target_spread(problem, c)
        return (root * spread) ** 2
    root, kind = root_weight(problem, c), regression(problem).kind
    if problem.precondition:
        return (root * predictions.output_scale(kind, c, problem.moments)) ** 2
    a, b = predictions.row(kind, c)
    return (root * a * problem.moments.std) ** 2 + (root * b) ** 2


def linear_loss(problem: Problem, variances: Array | np.ndarray) -> float:
    """The loss of the best linear predictor of y from x_t, for data whose covariance has the eigenvalues `variances` (d,).

    E[weight(t) (alpha b - beta a)^2 mean_i l_i/(alpha^2 l_i + beta^2)] over the quantiles of `scale_spread`, as in
    `irreducible`. For Gaussian data it is the least possible loss; for other data a nonlinear network can be better.
    """
    u = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return float(np.mean(_linear(problem, on_device(u, float), on_device(variances, float))))


@jax.jit
@partial(jax.vmap, in_axes=(None, 0, None))
def _linear(problem: Problem, u: Scalar, variances: Array) -> Scalar:
    c = coefficients(problem.path, time_at(problem, u))
    scale = root_weight(problem, c) * predictions.determinant(regression(problem).kind, c)
    return jnp.mean(scale**2 * variances / (c.alpha**2 * variances + c.beta**2))


class Choice(NamedTuple):
    """The weight that `auto` resolves to, and the reason in words."""

    weight: str
    because: str


def choose_weight(problem: Problem) -> Choice:
    """The weight for `auto`: unit, if its expected loss is finite and c_out^2 varies by at most UNIT_SPREAD; else balanced.

    Without preconditioning there is no c_out, and finiteness alone decides.
    """
    unit = weighted(problem, "unit")
    kind = regression(problem).kind
    if not has_finite_loss(unit):
        return Choice("balanced", f"the unweighted {kind} loss has no finite expectation on this path")
    if not problem.precondition:
        return Choice("unit", f"the unweighted {kind} loss has a finite expectation on this path")
    factor = scale_spread(unit)
    if factor > UNIT_SPREAD:
        return Choice("balanced", f"c_out^2 varies along t by a factor of {factor:.3g}, more than {UNIT_SPREAD:g}")
    return Choice("unit", f"c_out^2 varies along t by a factor of {factor:.3g}, not more than {UNIT_SPREAD:g}")


def objection(problem: Problem) -> str | None:
    """A warning about the resolved weight, and the remedy, as text; None: no objection.

    For noise and data, a large ratio of c_out^2 between times is no objection: their c_out vanishes where x determines them.
    """
    if not isinstance(problem.objective, Regression):
        return None
    kind, weight = problem.objective.kind, problem.objective.weight
    if not has_finite_loss(problem):
        return (
            f"the {kind} loss with weight {weight} has no finite expectation here; rare examples will dominate it"
            " (precondition=true objective.weight=balanced mends that)"
        )
    if weight == "unit" and problem.precondition and kind in ("velocity", "v") and scale_spread(problem) > UNIT_SPREAD:
        return (
            f"the {kind} loss with weight unit counts some times {scale_spread(problem):.3g} times as much as others (c_out^2),"
            f" more than {UNIT_SPREAD:g}; what is learnt at those others may be poor (objective.weight=auto mends that)"
        )
    return None


def weighted(problem: Problem, weight: str) -> Problem:
    """The problem with another weight."""
    return dataclasses.replace(problem, objective=dataclasses.replace(regression(problem), weight=weight))  # type: ignore[type-var]


def resolve_weight(problem: Problem) -> Problem:
    """The problem with weight `auto` replaced by the weight of `choose_weight`; unchanged for other weights."""
    if not isinstance(problem.objective, Regression) or problem.objective.weight != "auto":
        return problem
    return weighted(problem, choose_weight(problem).weight)
