"""The training losses, for one example."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffsde import mixtures, predictions
from diffsde.nets import apply
from diffsde.objectives.between import between_loss
from diffsde.objectives.continuous import likelihood_losses
from diffsde.objectives.discrete import DiscreteLikelihood, discrete_loss
from diffsde.objectives.likelihood import Likelihood
from diffsde.objectives.objective import Classification, Draw, FlowMapObjective, Problem, regression
from diffsde.paths import coefficients
from diffsde.types import Array, Coefficients, Scalar


def root_weight(problem: Problem, c: Coefficients) -> Scalar:
    """sqrt(weight(t)), (). Raises ValueError for the weight `auto`, which must be resolved first."""
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
    """weight(t) |y_hat - y|^2 / d, (), for one example; for a classifier -log p(label | x_t, t), for a likelihood -log p(z)/d, in nats."""
    return training_loss(problem, params, sample._replace(mean=None))[1]


def training_loss(problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
    """(training loss, loss): the first, which is differentiated, has its target from sample.mean where that is given.

    Both have the same expected gradient; without `mean` they are equal.
    """
    if isinstance(problem.objective, Likelihood):
        found = training_losses(problem, params, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], sample))
        return jnp.asarray(found[0])[0], jnp.asarray(found[1])[0]
    if isinstance(problem.objective, DiscreteLikelihood):
        value = discrete_loss(problem, params, sample)
        return value, value
    if problem.source_moments is not None:
        value = between_loss(problem, params, sample)
        return value, value
    if isinstance(problem.objective, FlowMapObjective):
        return problem.objective.loss(problem, params, sample)
    z, eps, t, label, mean, *_, noise = sample
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
    if noise is None:
        noise = eps + c.alpha / c.beta * (z - mean)
    return jnp.mean(residual(mean, noise) ** 2), own


def training_losses(problem: Problem, params: Any, batch: Draw) -> tuple[Array, Array]:
    """`training_loss` of each example of a batch, (B,) each; a likelihood's by one solve for all."""
    if isinstance(problem.objective, Likelihood):
        return likelihood_losses(problem, params, batch)
    against, own = jax.vmap(partial(training_loss, problem, params))(batch)
    return jnp.asarray(against), jnp.asarray(own)


def _residual(problem: Problem, c: Coefficients, output: Array, z: Array, eps: Array) -> Array:
    """sqrt(weight) (y_hat - y), (*shape,), from the network's output; if preconditioned, sqrt(weight) c_out (F - F*)."""
    kind, root = regression(problem).kind, root_weight(problem, c)
    if not problem.precondition:
        a, b = predictions.row(kind, c)
        return root * output - (root * a) * z - (root * b) * eps
    target = predictions.network_target(z, eps, c, problem.moments)
    if regression(problem).weight == "balanced":  # then weight c_out^2 = 1
        return output - target
    return root * predictions.output_scale(kind, c, problem.moments) * (output - target)


def irreducible(problem: Problem, mixture: mixtures.Mixture, sample: Draw) -> Scalar:
    """weight(t) Var(y | x_t)/d, (), for one example of mixture data: its mean, the exact field's loss, is the least possible.

    Given x, y = (a - b alpha/beta) z + const, so that Var(y|x) = (alpha b - beta a)^2 tr Var(z|x)/beta^2; with a label,
    the variance is that within the label's component. Of a likelihood -log p(z)/d of the mixture itself, whose mean is the entropy.
    """
    z, eps, t, label, *_ = sample
    if isinstance(problem.objective, Likelihood | DiscreteLikelihood):
        return -mixtures.log_prob(mixtures.conditioned(mixture, label), z.reshape(-1)) / z.size
    c = coefficients(problem.path, t)
    x = (c.alpha * z + c.beta * eps).reshape(-1)
    scale = root_weight(problem, c) * predictions.determinant(regression(problem).kind, c)
    return scale**2 * mixtures.posterior_variance(mixtures.conditioned(mixture, label), x, c) / x.size
