"""What a network between two laws sees and predicts: numbers of unit variance, and estimates that are regular at both ends.

With the measured means m_z, m_y and stds s_z, s_y of data and source, were the two independent,
    m_t = alpha m_z + beta m_y,   V = alpha^2 s_z^2 + beta^2 s_y^2 + gamma^2
are mean and variance of x_t = alpha z + beta y + gamma eps. The network sees (x - m_t)/sqrt(V), and supplies of each
estimate the part that no linear function of x explains (EDM's idea, 2206.00364, table 1):
    drift    E[dalpha z + dbeta y | x] = dm_t + K/V (x - m_t) + c F,            K = dalpha alpha s_z^2 + dbeta beta s_y^2,
    velocity u_t(x)                    = dm_t + (K + gamma dgamma)/V (x - m_t) + c F,
    score    grad log p_t(x)           = -(x - m_t)/V + F/sqrt(V),
c^2 = [s_z^2 s_y^2 (dalpha beta - dbeta alpha)^2 + gamma^2 (dalpha^2 s_z^2 + dbeta^2 s_y^2)]/V the drift's variance given x,
were both laws Gaussian. gamma enters as gamma^2 and gamma dgamma alone, which are finite where dgamma is not.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from diffsde.types import Array, Coefficients, Moments, Scalar


class Ends(NamedTuple):
    """The moments of the data z and of the source y."""

    data: Moments
    source: Moments


def variance(c: Coefficients, ends: Ends) -> Scalar:
    """V, (): the variance of x_t, a coordinate's on average."""
    return (c.alpha * ends.data.std) ** 2 + (c.beta * ends.source.std) ** 2 + c.gamma**2


def centred(x: Array, c: Coefficients, ends: Ends) -> Array:
    """x - m_t, (*shape,)."""
    return x - c.alpha * ends.data.mean - c.beta * ends.source.mean


def network_input(x: Array, c: Coefficients, ends: Ends) -> Array:
    """(x - m_t)/sqrt(V), (*shape,): mean 0 and variance 1 at every t."""
    return centred(x, c, ends) / jnp.sqrt(variance(c, ends))


def drift_scale(c: Coefficients, ends: Ends) -> Scalar:
    """c, (): the std of the drift's part that the network supplies."""
    z, y = ends.data.std, ends.source.std
    turn = z * y * (c.dalpha * c.beta - c.dbeta * c.alpha)
    return jnp.sqrt((turn**2 + c.gamma**2 * _drift_variance(c, ends)) / variance(c, ends))


def velocity_spread(c: Coefficients, ends: Ends) -> Scalar:
    """The std (), given x, of dalpha z + dbeta y + dgamma eps, were both laws Gaussian; it diverges where dgamma does."""
    z, y = ends.data.std, ends.source.std
    turns = (
        z * y * (c.dalpha * c.beta - c.dbeta * c.alpha),
        z * (c.dalpha * c.gamma - c.dgamma * c.alpha),
        y * (c.dbeta * c.gamma - c.dgamma * c.beta),
    )
    return jnp.sqrt(sum(turn**2 for turn in turns) / variance(c, ends))


def _drift_variance(c: Coefficients, ends: Ends) -> Scalar:
    """The variance () of dalpha z + dbeta y."""
    return (c.dalpha * ends.data.std) ** 2 + (c.dbeta * ends.source.std) ** 2


def drift_slope(c: Coefficients, ends: Ends) -> Scalar:
    """K/V, (): the slope of the best linear estimate of dalpha z + dbeta y from x."""
    return (c.dalpha * c.alpha * ends.data.std**2 + c.beta_dbeta * ends.source.std**2) / variance(c, ends)


def drift_from(output: Array, x: Array, c: Coefficients, ends: Ends) -> Array:
    """E[dalpha z + dbeta y | x], (*shape,), from the network's output F (*shape,)."""
    return _mean_velocity(c, ends) + drift_slope(c, ends) * centred(x, c, ends) + drift_scale(c, ends) * output


def velocity_from(output: Array, x: Array, c: Coefficients, ends: Ends) -> Array:
    """u_t(x), (*shape,), from the network's output F (*shape,); without gamma the drift."""
    slope = drift_slope(c, ends) + c.gamma_dgamma / variance(c, ends)
    return _mean_velocity(c, ends) + slope * centred(x, c, ends) + drift_scale(c, ends) * output


def score_from(output: Array, x: Array, c: Coefficients, ends: Ends) -> Array:
    """grad log p_t(x), (*shape,), from the network's output F (*shape,)."""
    return (output - network_input(x, c, ends)) / jnp.sqrt(variance(c, ends))


def _mean_velocity(c: Coefficients, ends: Ends) -> Array:
    """dm_t, (*shape,)."""
    return c.dalpha * ends.data.mean + c.dbeta * ends.source.mean


class Residuals(NamedTuple):
    """What no linear function of x_t explains of one example's targets, each (*shape,): see `unexplained`."""

    drift: Array
    velocity: Array
    noise: Array


def unexplained(z: Array, y: Array, eps: Array, c: Coefficients, ends: Ends) -> Residuals:
    """Of dalpha z + dbeta y, of that plus dgamma eps, and of eps: each minus its best linear estimate from x_t.

    Each is a sum of z - m_z, y - m_y and eps whose coefficients are written without differences of large numbers.
    """
    v = variance(c, ends)
    a, b = z - ends.data.mean, y - ends.source.mean
    var_z, var_y = ends.data.std**2, ends.source.std**2
    turn = c.dalpha * c.beta - c.dbeta * c.alpha
    product = c.dalpha * c.alpha * var_z + c.beta_dbeta * var_y
    square = c.gamma**2
    drift = (
        (c.beta * var_y * turn + c.dalpha * square) * a
        + (c.dbeta * square - c.alpha * var_z * turn) * b
        - product * c.gamma * eps
    ) / v
    signal = (c.alpha**2 * var_z + c.beta**2 * var_y) / v
    wobble = c.dgamma * signal * eps - c.gamma_dgamma / v * (c.alpha * a + c.beta * b)
    return Residuals(drift, drift + wobble, signal * eps - c.gamma / v * (c.alpha * a + c.beta * b))


class Estimates(NamedTuple):
    """What a network estimates at x, each (*shape,): flow, the velocity, or beside a score the drift; and that score, or None."""

    flow: Array
    score: Array | None


def estimates(output: Array, x: Array, c: Coefficients, ends: Ends | None, both: bool) -> Estimates:
    """The estimates from the network's output: (*shape,), or where `both` (2, *shape) of drift and score.

    ends: None where the network is not preconditioned, and its output is the estimates themselves.
    """
    if not both:
        return Estimates(output if ends is None else velocity_from(output, x, c, ends), None)
    if ends is None:
        return Estimates(output[0], output[1])
    return Estimates(drift_from(output[0], x, c, ends), score_from(output[1], x, c, ends))
