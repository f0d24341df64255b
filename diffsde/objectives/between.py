"""The losses between two laws, for one example: of the velocity alone, or of the drift and the score (preconditioning.py)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.fields import shaped
from diffsde.nets import apply
from diffsde.objectives.objective import Draw, Problem, VelocityAndScore, regression, time_at
from diffsde.paths import coefficients
from diffsde.preconditioning import (
    Estimates,
    drift_scale,
    estimates,
    network_input,
    unexplained,
    variance,
    velocity_spread,
)
from diffsde.types import Array, Coefficients, Prediction, Scalar, on_device

QUANTILES = 256  # of t's distribution, over which the linear predictor's loss is averaged


def learns_score(problem: Problem) -> bool:
    """Whether the network has two outputs, of the drift and of the score."""
    return isinstance(problem.objective, VelocityAndScore)


def target_spread(problem: Problem, c: Coefficients) -> Scalar:
    """The std () of the target given x, were both laws Gaussian: of the velocity's, or of the drift's beside a score."""
    return (drift_scale if learns_score(problem) else velocity_spread)(c, problem.ends)


def raw_target_spread(problem: Problem, c: Coefficients) -> Scalar:
    """The std () of the target itself, which a network that is not preconditioned learns whole."""
    z, y = problem.moments.std, problem.ends.source.std
    noise = 0.0 if learns_score(problem) else c.dgamma
    return jnp.sqrt((c.dalpha * z) ** 2 + (c.dbeta * y) ** 2 + noise**2)


def between_root_weight(problem: Problem, c: Coefficients) -> Scalar:
    """sqrt(weight(t)), (). Raises ValueError for a weight that is not of problems between two laws, or not resolved."""
    match regression(problem).weight:
        case "unit":
            return jnp.ones_like(c.alpha)
        case "balanced":
            return 1 / target_spread(problem, c)
        case other:
            raise ValueError(f"weight '{other}' is not of a loss between two laws; choose unit or balanced")


def between_loss(problem: Problem, params: Any, sample: Draw) -> Scalar:
    """(weight(t) |u_hat - target|^2 [+ |gamma score_hat + eps|^2]) / d, (), for one example."""
    z, eps, t, label, _, y, *_ = sample
    assert y is not None
    c = coefficients(problem.path, t)
    x = c.alpha * z + c.beta * y + c.gamma * eps
    output, root = network_output(problem, params, x, t, label, c), between_root_weight(problem, c)
    if problem.precondition:
        left = unexplained(z, y, eps, c, problem.ends)
        scale = root * drift_scale(c, problem.ends)
        if not learns_score(problem):
            return jnp.mean((scale * output - root * left.velocity) ** 2)
        of_score = c.gamma / jnp.sqrt(variance(c, problem.ends)) * output[1] + left.noise
        return jnp.mean((scale * output[0] - root * left.drift) ** 2) + jnp.mean(of_score**2)
    drift = c.dalpha * z + c.dbeta * y
    if not learns_score(problem):
        return jnp.mean((root * (output - drift - c.dgamma * eps)) ** 2)
    return jnp.mean((root * (output[0] - drift)) ** 2) + jnp.mean((c.gamma * output[1] + eps) ** 2)


def network_output(problem: Problem, params: Any, x: Array, t: Scalar, label: Scalar | None, c: Coefficients) -> Array:
    """The network's output for x (*shape,): (*shape,), or (2, *shape) of drift and score."""
    seen = network_input(x, c, problem.ends) if problem.precondition else x
    return apply(problem.graph, params, seen, t, label)


def regret_between(problem: Problem, params: Any, sample: Draw, exact: Prediction) -> Scalar:
    """The part of the expected loss that a better network would not have, (), at one example's x_t.

    weight(t) |u_hat - u|^2/d of the exact velocity; beside a score that of the drift, and gamma^2 |score_hat - score|^2/d.
    """
    c = coefficients(problem.path, sample.t)
    x = c.alpha * sample.z + c.beta * sample.y + c.gamma * sample.eps  # type: ignore[operator]
    output = network_output(problem, params, x, sample.t, sample.label, c)
    ends = problem.ends if problem.precondition else None
    found, wanted = estimates(output, x, c, ends, learns_score(problem)), _exact(problem, exact, c)
    return _distance(problem, c, found, wanted)


def irreducible_between(problem: Problem, sample: Draw, exact: Prediction) -> Scalar:
    """The loss of the exact field for one example, (): its mean is the least possible."""
    c = coefficients(problem.path, sample.t)
    target = c.dalpha * sample.z + c.dbeta * sample.y  # type: ignore[operator]
    if not learns_score(problem):
        return _distance(problem, c, _exact(problem, exact, c), Estimates(target + c.dgamma * sample.eps, None))
    return _distance(problem, c, _exact(problem, exact, c), Estimates(target, -sample.eps / c.gamma))


def exact_between(problem: Problem, source: mixtures.Mixture, data: mixtures.Mixture, sample: Draw) -> Prediction:
    """The exact field at one example's x_t, of its label where it has one, for independent mixtures at both ends."""
    c = coefficients(problem.path, sample.t)
    x = c.alpha * sample.z + c.beta * sample.y + c.gamma * sample.eps  # type: ignore[operator]
    found = mixtures.predict_between(source, mixtures.conditioned(data, sample.label), x.reshape(-1), c)
    return shaped(found, sample.z.shape)


def _exact(problem: Problem, exact: Prediction, c: Coefficients) -> Estimates:
    """What the network is to estimate."""
    if not learns_score(problem):
        return Estimates(exact.velocity, None)
    assert exact.score is not None
    return Estimates(exact.velocity + c.gamma_dgamma * exact.score, exact.score)


def _distance(problem: Problem, c: Coefficients, one: Estimates, other: Estimates) -> Scalar:
    """The loss of estimates against others."""
    found = jnp.mean((between_root_weight(problem, c) * (one.flow - other.flow)) ** 2)
    if one.score is None or other.score is None:
        return found
    return found + jnp.mean((c.gamma * (one.score - other.score)) ** 2)


def linear_loss_between(problem: Problem, data: np.ndarray, source: np.ndarray) -> float:
    """The loss of the best linear predictor from x_t, of independent laws with these covariances (d, d).

    Averaged over 256 quantiles of t's distribution. For Gaussian laws it is the least possible loss.
    """
    u = (np.arange(QUANTILES) + 0.5) / QUANTILES
    each, roots = _along(problem, on_device(u, float))
    total, identity = 0.0, np.eye(len(data))
    along = np.stack(np.broadcast_arrays(*(np.asarray(part, np.float64) for part in each)), axis=1)
    for root, c in zip(np.asarray(roots, np.float64), along, strict=True):
        alpha, beta, dalpha, dbeta, _, gamma, dgamma, gamma_dgamma = c
        seen = alpha**2 * data + beta**2 * source + gamma**2 * identity
        of_drift = dalpha**2 * data + dbeta**2 * source, dalpha * alpha * data + dbeta * beta * source
        if learns_score(problem):
            total += root**2 * _left(*of_drift, seen) + _left(identity, gamma * identity, seen)
        else:
            total += root**2 * _left(of_drift[0] + dgamma**2 * identity, of_drift[1] + gamma_dgamma * identity, seen)
    return total / QUANTILES


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def _along(problem: Problem, u: Scalar) -> tuple[Coefficients, Scalar]:
    c = coefficients(problem.path, time_at(problem, u))
    return Coefficients(*(jnp.asarray(part) for part in c)), between_root_weight(problem, c)


def _left(variance: np.ndarray, with_seen: np.ndarray, seen: np.ndarray) -> float:
    """tr Var(target | x)/d of Gaussians, from their covariances."""
    explained = with_seen @ np.linalg.solve(seen, with_seen.T)
    return float(np.trace(variance - explained)) / len(seen)
