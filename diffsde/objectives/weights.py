"""Which weight a loss has, whether it is finite, and what speaks against it: integrals over the law of t."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import predictions
from diffsde.objectives.losses import root_weight
from diffsde.objectives.objective import Classification, Problem, Regression, regression
from diffsde.paths import coefficients
from diffsde.types import Array, Scalar, on_device

# Of c_out^2 along the law of t, largest over smallest, for which `auto` takes the unit weight. Beyond, the times at which
# c_out is large outweigh those at which modes form: factors of 51 (v on vp, the mixture of 11) and 58 (v on subvp) left
# 2000 steps at cross-entropies of 5.30 and 5.37 where 5.22 is exact; 3 (velocity on ot, moons) costs nothing.
UNIT_SPREAD = 10.0


ENDS = (2.0**-20, 1 - 2.0**-20, 2.0**-16, 1 - 2.0**-16)  # of the law of t, where its loss may have no integral
QUANTILES = 256  # of the law of t, between which c_out^2 is compared


def has_finite_loss(problem: Problem) -> bool:
    """Whether E[weight |y_hat - y|^2] is finite, from how fast it grows towards the ends of the law of t.

    The integrand is compared at u = 2^-16 and 2^-20 from each end: a growth like 1/u or faster has no integral.
    Preconditioned, it is weight c_out^2; raw, the network must undo y's whole variance, weight (a^2 s^2 + b^2).
    A classifier that knows nothing has the finite loss log(classes).
    """
    if isinstance(problem.objective, Classification):
        return True
    at = _scales(problem)[:4]
    return bool(np.all(at[:2] / at[2:] < 16**0.97))


def scale_spread(problem: Problem) -> float:
    """The largest over the smallest weight c_out^2 at the 256 quantiles (k + 1/2)/256 of the law of t.

    A network that is wrong by the same F everywhere pays that much more at one time than at another. Preconditioned
    regressions alone have a c_out.
    """
    at = _scales(problem)[4:]
    return float(at.max() / at.min()) if at.min() > 0 else math.inf


def _scales(problem: Problem) -> np.ndarray:
    """The integrand of has_finite_loss at ENDS, then at the quantiles of `scale_spread`: one compiled program."""
    u = np.concatenate([ENDS, (np.arange(QUANTILES) + 0.5) / QUANTILES])
    return np.asarray(_integrand(problem, on_device(u, float)), np.float64)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def _integrand(problem: Problem, u: Scalar) -> Scalar:
    c = coefficients(problem.path, problem.time.quantile(u, problem.path, problem.moments))
    root, kind = root_weight(problem, c), regression(problem).kind
    if problem.precondition:
        return (root * predictions.output_scale(kind, c, problem.moments)) ** 2
    a, b = predictions.row(kind, c)
    return (root * a * problem.moments.std) ** 2 + (root * b) ** 2


def linear_loss(problem: Problem, variances: Array | np.ndarray) -> float:
    """The loss of the best linear predictor of y from x_t, of data whose covariance has the eigenvalues `variances` (d,).

    E[weight(t) (alpha b - beta a)^2 mean_i l_i/(alpha^2 l_i + beta^2)] at the quantiles of `scale_spread`: y = (a - b alpha/beta) z
    + const given x, as in `irreducible`. No Gaussian data can be predicted better, and all else by a network alone.
    """
    u = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return float(np.mean(_linear(problem, on_device(u, float), on_device(variances, float))))


@jax.jit
@partial(jax.vmap, in_axes=(None, 0, None))
def _linear(problem: Problem, u: Scalar, variances: Array) -> Scalar:
    c = coefficients(problem.path, problem.time.quantile(u, problem.path, problem.moments))
    scale = root_weight(problem, c) * predictions.determinant(regression(problem).kind, c)
    return jnp.mean(scale**2 * variances / (c.alpha**2 * variances + c.beta**2))


class Choice(NamedTuple):
    """A weight that `auto` stands for, and the reason in words."""

    weight: str
    because: str


def choose_weight(problem: Problem) -> Choice:
    """What `auto` means: unit where its loss is finite and c_out^2 spreads by at most UNIT_SPREAD, else balanced.

    Without preconditioning there is no c_out, and the first alone decides.
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
    """What speaks against the resolved weight, and what mends it; None: nothing.

    A spread of noise's or data's own c_out^2, which vanish where x tells all, is no objection: that end weighs nothing.
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
    return dataclasses.replace(problem, objective=type(regression(problem))(weight=weight))


def resolve_weight(problem: Problem) -> Problem:
    """The problem with weight `auto` replaced by what `choose_weight` takes."""
    if not isinstance(problem.objective, Regression) or problem.objective.weight != "auto":
        return problem
    return weighted(problem, choose_weight(problem).weight)
