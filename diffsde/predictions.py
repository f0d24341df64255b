"""What a network may predict, and the one linear solve that turns any prediction into any other.

Every prediction is a row (a, b): y = a z + b eps. Together with x = alpha z + beta eps it is a 2x2 linear system for
(z, eps), and (z, eps) give every other prediction. Between two laws there are three unknowns and two predictions: `between`.
"""

from __future__ import annotations

import jax.numpy as jnp

from diffsde.types import Array, Coefficients, Moments, Prediction, PredictionType, Scalar


def row(kind: PredictionType, c: Coefficients) -> tuple[Scalar, Scalar]:
    """(a, b) with y = a z + b eps: data (1, 0), noise (0, 1), velocity (dalpha, dbeta), score (0, -1/beta), v (-beta, alpha).

    v = alpha eps - beta z has the sign of Salimans & Ho (2202.00512).
    """
    one, zero = jnp.ones_like(c.alpha), jnp.zeros_like(c.alpha)
    rows: dict[PredictionType, tuple[Scalar, Scalar]] = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": (c.dalpha, c.dbeta),
        "score": (zero, -1 / c.beta),
        "v": (-c.beta, c.alpha),
    }
    return rows[kind]


def determinant(kind: PredictionType, c: Coefficients) -> Scalar:
    """alpha b - beta a, (), by a formula without 0/0; where it is 0, the prediction and x determine neither z nor eps."""
    a, b = row(kind, c)
    return -c.alpha / c.beta if kind == "score" else c.alpha * b - c.beta * a


def convert(value: Array, x: Array, c: Coefficients, source: PredictionType, target: PredictionType) -> Array:
    """The `target` prediction at x from the `source` prediction, all of shape (*shape,).

    y' = [(a' b - b' a) x + (alpha b' - beta a') y] / (alpha b - beta a).
    Singular where the source's determinant vanishes: from noise and score where alpha = 0, from data where beta = 0,
    from the velocity of `ot` nowhere. To the score also where beta = 0.
    """
    if source == target:
        return value
    if source == "score":  # the score's row is infinite where beta = 0: noise = -beta score is finite and equivalent
        return convert(-c.beta * value, x, c, "noise", target)
    if target == "score":
        return -convert(value, x, c, source, "noise") / c.beta
    a, b = row(source, c)
    a_target, b_target = row(target, c)
    solved = (a_target * b - b_target * a) * x + (c.alpha * b_target - c.beta * a_target) * value
    return solved / determinant(source, c)


def expand(value: Array, x: Array, c: Coefficients, source: PredictionType) -> Prediction:
    """All four predictions, each (*shape,), from the `source` prediction (*shape,)."""
    kinds: tuple[PredictionType, ...] = ("data", "noise", "velocity", "score")
    return Prediction(*(convert(value, x, c, source, target) for target in kinds))


def between(drift: Array, score: Array | None, x: Array, c: Coefficients) -> Prediction:
    """All that is known between two laws, each (*shape,), from drift = E[dalpha z + dbeta y | x] and the score.

    The rows are of (z, y, eps): x (alpha, beta, gamma), drift (dalpha, dbeta, 0), score (0, 0, -1/gamma),
    velocity (dalpha, dbeta, dgamma). eps = -gamma score, so that (z, y) solve the system of x + gamma^2 score and drift;
    velocity = drift - gamma dgamma score. score None: not known; for gamma = 0 alone, where it enters nowhere.
    """
    if score is None:
        noise, velocity, seen = jnp.zeros_like(x), drift, x
    else:
        noise, velocity, seen = -c.gamma * score, drift - c.gamma_dgamma * score, x + c.gamma**2 * score
    solvable = c.alpha * c.dbeta - c.beta * c.dalpha
    data = (c.dbeta * seen - c.beta * drift) / solvable
    source = (c.alpha * drift - c.dalpha * seen) / solvable
    return Prediction(data, noise, velocity, score, source)


def velocity_alone(velocity: Array) -> Prediction:
    """The prediction (*shape,) where velocity is all that is known: between two laws with gamma, it gives nothing else."""
    unknown = jnp.full_like(velocity, jnp.nan)
    return Prediction(unknown, unknown, velocity, None, unknown)


def effective(c: Coefficients) -> Coefficients:
    """The coefficients of the Gaussian path with the same p_t, where the source is N(0, I) and independent: beta^2 + gamma^2."""
    beta, slope = jnp.sqrt(c.beta**2 + c.gamma**2), c.beta_dbeta + c.gamma_dgamma
    return Coefficients(c.alpha, beta, c.dalpha, slope / beta, slope)


def with_likelihood_score(prediction: Prediction, likelihood_score: Array, c: Coefficients) -> Prediction:
    """The predictions for p_t(x) L_t(x), L_t a likelihood, from those for p_t and g = likelihood_score = grad log L_t(x)/alpha.

    score + alpha g, E[eps|x] - alpha beta g, E[z|x] + beta^2 g, u + (dalpha beta^2 - alpha beta dbeta) g; g (*shape,).
    grad log L_t is O(alpha) for a likelihood of z, so that g has a limit at t = 0 and all four are regular there.
    """
    assert prediction.score is not None
    return Prediction(
        prediction.data + c.beta**2 * likelihood_score,
        prediction.noise - c.alpha * c.beta * likelihood_score,
        prediction.velocity + (c.dalpha * c.beta**2 - c.alpha * c.beta_dbeta) * likelihood_score,
        prediction.score + c.alpha * likelihood_score,
    )


# Preconditioning, after EDM (2206.00364, table 1 and appendix B.6), for any path and any prediction.
#
# With the data's measured mean m and std s, V = alpha^2 s^2 + beta^2 is the variance of x_t. The network's input is
#     (x - alpha m) / sqrt(V)
# and its target is the unit-variance residual that no linear function of x explains, the same for every prediction:
#     F* = (beta (z - m) - alpha s^2 eps) / (s sqrt(V)).
# Any row (a, b) is then y = a m + c_skip (x - alpha m) + c_out F, with
#     c_skip = (a alpha s^2 + b beta) / V,   c_out = s (a beta - b alpha) / sqrt(V);
# for data and noise, c_skip and c_out are regular at both ends. The choice of objective becomes a weight in t alone.


def network_input(x: Array, c: Coefficients, moments: Moments) -> Array:
    """The network's input (x - alpha m)/sqrt(V), (*shape,): mean 0 and variance 1 at every t."""
    return (x - c.alpha * moments.mean) / total_std(c, moments)


def linear_denoised(x: Array, c: Coefficients, moments: Moments) -> Array:
    """alpha s (x - alpha m)/V, (*shape,): the best linear estimate of (z - m)/s, a classifier's input; 0 where alpha = 0."""
    return c.alpha * moments.std / total_std(c, moments) * network_input(x, c, moments)


def linear_gain(c: Coefficients, moments: Moments) -> Scalar:
    """s/V, (): the derivative of linear_denoised with respect to x, divided by alpha."""
    return moments.std / total_std(c, moments) ** 2


def network_target(z: Array, eps: Array, c: Coefficients, moments: Moments) -> Array:
    """F* = (beta (z - m) - alpha s^2 eps)/(s sqrt(V)), (*shape,), the network's target: mean 0, variance 1, uncorrelated with x_t."""
    residual = c.beta * (z - moments.mean) / moments.std - c.alpha * moments.std * eps
    return residual / total_std(c, moments)


def output_scale(kind: PredictionType, c: Coefficients, moments: Moments) -> Scalar:
    """|c_out| = s |a beta - b alpha|/sqrt(V), (): the std of the prediction's part that the network supplies."""
    return moments.std * jnp.abs(determinant(kind, c)) / total_std(c, moments)


def from_network(output: Array, x: Array, c: Coefficients, moments: Moments) -> Prediction:
    """All four predictions, each (*shape,), from the network's output F (*shape,), of unit variance."""
    scale = total_std(c, moments)
    centred = (x - c.alpha * moments.mean) / scale
    data = moments.mean + moments.std / scale * (c.alpha * moments.std * centred + c.beta * output)
    noise = (c.beta * centred - c.alpha * moments.std * output) / scale
    return Prediction(data, noise, c.dalpha * data + c.dbeta * noise, -noise / c.beta)


def total_std(c: Coefficients, moments: Moments) -> Scalar:
    """sqrt(V) = sqrt(alpha^2 s^2 + beta^2), (): the std of x_t."""
    return jnp.sqrt((c.alpha * moments.std) ** 2 + c.beta**2)


# Jumps X_{s,t}(x), where the ODE takes x from s to t, by the same preconditioning: with centred = (x - alpha_s m)/sqrt(V_s),
#     X_{s,t}(x) = alpha_t m + sqrt(V_t) centred + s (alpha_t beta_s - beta_t alpha_s)/sqrt(V_s) F(centred, s, t),
# s the data's std in the last term's first factor. F = 0 is the exact map of isotropic Gaussian data, X_{t,t}(x) = x whatever
# F is, and d/dt X_{s,t}(x) at t = s is the velocity that `from_network` makes of F.


def jump(output: Array, x: Array, start: Coefficients, end: Coefficients, moments: Moments) -> Array:
    """X_{s,t}(x) (*shape,) from the network's output F (*shape,); start, end: the path at s and at t."""
    centred = network_input(x, start, moments)
    return end.alpha * moments.mean + total_std(end, moments) * centred + jump_scale(start, end, moments) * output


def jump_scale(start: Coefficients, end: Coefficients, moments: Moments) -> Scalar:
    """std (alpha_t beta_s - beta_t alpha_s)/sqrt(V_s), (): the derivative of X_{s,t}(x) with respect to the network's output."""
    return moments.std * (end.alpha * start.beta - end.beta * start.alpha) / total_std(start, moments)


def near(s: Scalar, t: Scalar) -> Array:
    """Whether two times are so near that a difference over t - s is less accurate than a derivative half way between them."""
    return jnp.abs(t - s) < jnp.finfo(jnp.result_type(float)).eps ** (1 / 3)
