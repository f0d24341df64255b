"""Integrals over one step of an exponential weight times powers of the variable of a polynomial: what multistep weights are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.paths import GaussianPath
from diffsde.types import Array, Scalar, on_device

Moments = tuple[Scalar, Scalar, Scalar]  # integrals of k(r) (r - s)^i over the step, i = 0, 1, 2
NODES = 16  # Gauss-Legendre nodes in a step: error 1e-9 where beta/alpha changes 5-fold over the step, 1e-5 at 30-fold
PLACES, WEIGHTS = np.polynomial.legendre.leggauss(NODES)


def exponential_moments(h: Scalar) -> Moments:
    """Integrals over [0, h] of e^(r - h) r^i dr, i = 0, 1, 2: by series for h < 0.7, where the closed form cancels."""
    closed = -jnp.expm1(-h), h + jnp.expm1(-h), h**2 - 2 * (h + jnp.expm1(-h))
    small = jnp.minimum(h, 0.7)
    series = []
    for i in range(3):
        term, total = small ** (i + 1) / (i + 1), jnp.zeros_like(small)
        for j in range(12):
            total = total + term
            term = -term * small / (i + j + 2)
        series.append(total)
    m0, m1, m2 = (jnp.where(h < 0.7, a, b) for a, b in zip(series, closed, strict=True))
    return m0, m1, m2


def rising_moments(path: GaussianPath, t: Scalar, h: Scalar) -> Moments:
    """Integrals over the step of (r - t)^i dkappa(r)/kappa(t + h), i = 0, 1, 2, with kappa = alpha/beta, in t.

    By parts, i times the integral of (r - t)^(i-1) (1 - kappa(r)/kappa(t + h)) dr: regular at alpha = 0 and at beta = 0.
    """
    rho_end = path.beta(t + h) / path.alpha(t + h)
    left = 1 - rho_end * jax.vmap(lambda r: path.alpha(r) / path.beta(r))(t + h * in_step(PLACES))
    m1, m2 = _by_parts(jnp.asarray(left), h)
    return 1 - rho_end * path.alpha(t) / path.beta(t), m1, m2


def falling_moments(path: GaussianPath, t: Scalar, h: Scalar) -> tuple[Scalar, Scalar]:
    """Integrals over the step of (r - t)^i drho(r), i = 1, 2, with rho = beta/alpha, in t: infinite at alpha = 0."""
    left = path.beta(t + h) / path.alpha(t + h) - jax.vmap(lambda r: path.beta(r) / path.alpha(r))(
        t + h * in_step(PLACES)
    )
    return _by_parts(jnp.asarray(left), h)


def _by_parts(left: Array, h: Scalar) -> tuple[Scalar, Scalar]:
    """Integrals of i (r - t)^(i-1) left(r) dr, i = 1, 2, of the values left (NODES,) at the nodes."""
    weighed = on_device(WEIGHTS / 2, float) * left
    return h * jnp.sum(weighed), 2 * h**2 * jnp.sum(in_step(PLACES) * weighed)


def in_step(nodes: np.ndarray) -> Array:
    """Nodes of [-1, 1] as shares of a step, in [0, 1]."""
    return on_device((nodes + 1) / 2, float)
