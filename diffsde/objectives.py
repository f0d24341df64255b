"""What is regressed on, and with which weight in t. The loss is written for one sample and vmapped.

A preconditioned network (predictions.py) predicts the same unit-variance F* whatever the objective, and the loss
    weight(t) |y_hat - y|^2 / d = weight(t) c_out(t)^2 |F - F*|^2 / d
is computed on the right-hand side, where nothing is 0/0: an objective is then exactly a weight in t.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures, predictions
from diffsde.nets import Graph, apply
from diffsde.paths import GaussianPath, coefficients
from diffsde.time_distributions import TimeDistribution
from diffsde.types import Array, Coefficients, Moments, PredictionType, Scalar, choice, on_device, register

WEIGHTS = {
    "unit": "1: the mean squared error of the prediction itself",
    "beta2": "beta^2: turns the score loss into the noise loss (2011.13456, eq. 7)",
    "balanced": "1/c_out^2: the same expected loss at every t for an untrained network (2206.00364, table 1)",
    "auto": "unit where its expectation is finite and c_out^2 varies along t by a factor of at most 10, else balanced",
}
# Of c_out^2 along the law of t, largest over smallest, for which `auto` takes the unit weight. Beyond, the times at which
# c_out is large outweigh those at which modes form: factors of 51 (v on vp, the mixture of 11) and 58 (v on subvp) left
# 2000 steps at cross-entropies of 5.30 and 5.37 where 5.22 is exact; 3 (velocity on ot, moons) costs nothing.
UNIT_SPREAD = 10.0


class Objective(abc.ABC):  # noqa: B024  # what its two kinds have in common is the place in a config
    """What is learnt of (z, eps) or of the label, from x_t and t."""


class Regression(Objective):
    """y = a z + b eps, the row of `kind`; loss = E[weight(t) |y_hat(x_t, t) - y|^2 / d]."""

    kind: ClassVar[PredictionType]
    weight: str

    @abc.abstractmethod
    def __init__(self, weight: str) -> None: ...


@choice
class VelocityMatching(Regression):
    """cfm: y = dalpha z + dbeta eps, conditional flow matching (2210.02747, eq. 9)."""

    kind: ClassVar[PredictionType] = "velocity"
    weight: str = "auto"


@choice
class ScoreMatching(Regression):
    """score: y = -eps/beta, denoising score matching (Vincent 2011; 2011.13456, eq. 7)."""

    kind: ClassVar[PredictionType] = "score"
    weight: str = "beta2"


@choice
class NoisePrediction(Regression):
    """noise: y = eps (DDPM, 2006.11239, eq. 14)."""

    kind: ClassVar[PredictionType] = "noise"
    weight: str = "unit"


@choice
class DataPrediction(Regression):
    """data: y = z, the denoiser, with EDM's weight (2206.00364, eq. 2 and table 1)."""

    kind: ClassVar[PredictionType] = "data"
    weight: str = "balanced"


@choice
class VPrediction(Regression):
    """v: y = alpha eps - beta z (2202.00512, appendix D)."""

    kind: ClassVar[PredictionType] = "v"
    weight: str = "auto"


@choice
class Classification(Objective):
    """classifier: the cross-entropy -log p(label | x_t, t), of a classifier that can guide a field (2105.05233, section 4)."""


OBJECTIVES: dict[str, type[Objective]] = {
    "cfm": VelocityMatching,
    "score": ScoreMatching,
    "noise": NoisePrediction,
    "data": DataPrediction,
    "v": VPrediction,
    "classifier": Classification,
}


@partial(register, static=["graph", "precondition"])
@dataclasses.dataclass(frozen=True)
class Problem:
    """All that the loss needs besides the parameters and the data."""

    path: GaussianPath
    objective: Objective
    time: TimeDistribution
    moments: Moments
    graph: Graph
    precondition: bool


class Draw(NamedTuple):
    """One training example: data z and noise eps (*shape,) at time t (), and the label () of z where it is told.

    mean: E[z | x_t] over some points (*shape,), of which training makes its target (posterior_targets.py); None: z itself.
    """

    z: Array
    eps: Array
    t: Scalar
    label: Scalar | None = None
    mean: Array | None = None


def regression(problem: Problem) -> Regression:
    """Its objective. Raises TypeError where that is another than a regression."""
    if not isinstance(problem.objective, Regression):
        raise TypeError(f"{type(problem.objective).__name__} is not a regression")
    return problem.objective


def root_weight(problem: Problem, c: Coefficients) -> Scalar:
    """sqrt(weight(t))."""
    kind, weight = regression(problem).kind, regression(problem).weight
    match weight:
        case "unit":
            return jnp.ones_like(c.alpha)
        case "beta2":
            return jnp.asarray(c.beta)
        case "balanced":
            return 1 / predictions.output_scale(kind, c, problem.moments)
        case other:
            raise ValueError(f"weight '{other}' has to be resolved before training (objectives.resolve_weight)")


def loss(problem: Problem, params: Any, sample: Draw) -> Scalar:
    """weight(t) |y_hat - y|^2 / d for one sample; of a classifier -log p(label | x_t, t)."""
    return training_loss(problem, params, sample._replace(mean=None))[1]


def training_loss(problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
    """What is differentiated, and `loss`: the first against the target of `mean`, where there is one, of the same gradient
    in expectation.
    """
    z, eps, t, label, mean = sample
    c = coefficients(problem.path, t)
    x = c.alpha * z + c.beta * eps
    if isinstance(problem.objective, Classification):
        seen = predictions.linear_denoised(x, c, problem.moments)
        value = -jax.nn.log_softmax(apply(problem.graph, params, seen, t))[label]
        return value, value
    seen = predictions.network_input(x, c, problem.moments) if problem.precondition else x
    residual = partial(_residual, problem, c, apply(problem.graph, params, seen, t, label))
    own = jnp.mean(residual(z, eps) ** 2)
    if mean is None:
        return own, own
    return jnp.mean(residual(mean, eps + c.alpha / c.beta * (z - mean)) ** 2), own


def _residual(problem: Problem, c: Coefficients, output: Array, z: Array, eps: Array) -> Array:
    """sqrt(weight) (y_hat - y) (*shape,), of the network's output; preconditioned sqrt(weight) c_out (F - F*)."""
    kind, root = regression(problem).kind, root_weight(problem, c)
    if not problem.precondition:
        a, b = predictions.row(kind, c)
        return root * output - (root * a) * z - (root * b) * eps
    target = predictions.network_target(z, eps, c, problem.moments)
    if regression(problem).weight == "balanced":  # weight c_out^2 = 1 there
        return output - target
    return root * predictions.output_scale(kind, c, problem.moments) * (output - target)


def irreducible(problem: Problem, mixture: mixtures.Mixture, sample: Draw) -> Scalar:
    """weight(t) Var(y | x_t)/d for one sample of a mixture: its mean is the loss's floor, the exact field's own loss.

    Given x, y = (a - b alpha/beta) z + const, so Var(y|x) = (alpha b - beta a)^2 tr Var(z|x)/beta^2; and where the
    component is told, that of the component alone.
    """
    z, eps, t, label, _ = sample
    c = coefficients(problem.path, t)
    x = (c.alpha * z + c.beta * eps).reshape(-1)
    scale = root_weight(problem, c) * predictions.determinant(regression(problem).kind, c)
    return scale**2 * mixtures.posterior_variance(mixtures.given(mixture, label), x, c) / x.size


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


def spread(problem: Problem) -> float:
    """The largest over the smallest weight c_out^2 at the 256 quantiles (k + 1/2)/256 of the law of t.

    A network that is wrong by the same F everywhere pays that much more at one time than at another. Preconditioned
    regressions alone have a c_out.
    """
    at = _scales(problem)[4:]
    return float(at.max() / at.min()) if at.min() > 0 else math.inf


def _scales(problem: Problem) -> np.ndarray:
    """The integrand of has_finite_loss at ENDS, then at the quantiles of `spread`: one compiled program."""
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

    E[weight(t) (alpha b - beta a)^2 mean_i l_i/(alpha^2 l_i + beta^2)] at the quantiles of `spread`: y = (a - b alpha/beta) z
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
    factor = spread(unit)
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
    if weight == "unit" and problem.precondition and kind in ("velocity", "v") and spread(problem) > UNIT_SPREAD:
        return (
            f"the {kind} loss with weight unit counts some times {spread(problem):.3g} times as much as others (c_out^2),"
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
