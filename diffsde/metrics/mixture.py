"""How well samples follow a known mixture. Components are weighed by their posterior, so every figure has an exact value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.types import Array, Scalar

BLOCK = 2**22  # numbers: of as many samples at a time as make no more of them the responsibilities are held


class Values(NamedTuple):
    """Of every sample: log_p (n,) in nats; responsibilities r_k (n, K); squares (n,): sum_k r_k |S_k^-1/2 (x - mu_k)|^2 / d."""

    log_p: Array
    responsibilities: Array
    squares: Array


class MixtureFigures(NamedTuple):
    """cross_entropy in nats and its standard error, NaN for one sample; within_mode_std; mode_weight_kl in nats. All scalars."""

    cross_entropy: Scalar
    cross_entropy_error: Scalar
    within_mode_std: Scalar
    mode_weight_kl: Scalar


class MixtureFit(NamedTuple):
    """Of n samples: log_p and squares (n,) as in Values, float64; mean (K,) and covariance (K, K) of the responsibilities."""

    log_p: np.ndarray
    squares: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


@jax.jit
def mixture_values(mixture: mixtures.Mixture, x: Array) -> Values:
    """What the figures of samples x (n, *shape) are means of."""
    x = x.reshape(x.shape[0], -1)
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x)
    squares = jax.vmap(partial(mixtures.standardised_squares, mixture))(x)
    log_p = jnp.asarray(jax.vmap(partial(mixtures.log_prob, mixture))(x))
    return Values(log_p, r, jnp.sum(r * squares, axis=-1) / x.shape[1])


@jax.jit
def mixture_figures(mixture: mixtures.Mixture, x: Array) -> MixtureFigures:
    """For samples x (n, *shape) and their posterior responsibilities r_k under the mixture:

    cross_entropy = -mean log p(x), exactly the entropy for samples of p;
    within_mode_std = sqrt(mean sum_k r_k |S_k^-1/2 (x - mu_k)|^2 / d), exactly 1;
    mode_weight_kl = sum_k q_k log(q_k/w_k), q_k = mean r_k, exactly 0 and for n samples of p about
        sum_k Var(r_k)/(2 n w_k) = (sum_k E_k[r_k] - 1)/(2n), (K-1)/(2n) where no components overlap (see expected_kl).
    """
    values = mixture_values(mixture, x)
    return MixtureFigures(
        cross_entropy=-jnp.mean(values.log_p),
        cross_entropy_error=jnp.std(values.log_p, ddof=1) / jnp.sqrt(x.shape[0]),
        within_mode_std=jnp.sqrt(jnp.mean(values.squares)),
        mode_weight_kl=jnp.sum(jax.scipy.special.rel_entr(jnp.mean(values.responsibilities, axis=0), mixture.weights)),
    )


def mixture_fit(mixture: mixtures.Mixture, x: np.ndarray) -> MixtureFit:
    """What the figures of samples x (n, *shape) are made of, so many samples at a time that their responsibilities fit BLOCK."""
    n, k = len(x), mixture.weights.size
    log_p, squares = np.empty(n), np.empty(n)
    about, sums, products = np.asarray(mixture.weights, np.float64), np.zeros(k), np.zeros((k, k))
    for rows, new in blocks(mixture, x):
        found = [np.asarray(part)[new] for part in mixture_values(mixture, jnp.asarray(x[rows]))]
        log_p[rows][new], squares[rows][new] = found[0], found[2]
        r = found[1].astype(np.float64) - about
        sums, products = sums + r.sum(axis=0), products + r.T @ r
    covariance = (products - np.outer(sums, sums) / n) / max(n - 1, 1)
    return MixtureFit(log_p, squares, about + sums / n, covariance)


def kl_error(n: int, q: np.ndarray, c: np.ndarray, weights: np.ndarray) -> float | None:
    """The standard error of KL(q | w), q = mean of n responsibilities and c their covariance; None for n = 1:
    sqrt(g^T C g/n + tr((diag(1/q) C)^2)/(2 n^2)), g = log(q/w). The first is the slope's, the second the curvature's, which is
    all there is where q is about w.
    """
    if n < 2:
        return None
    there = q > 0
    q, c, weights = q[there], c[np.ix_(there, there)], weights[there]
    slope = np.log(q / weights)
    curved = c / q[:, None]
    return float(np.sqrt(max(slope @ c @ slope / n, 0) + np.sum(curved * curved.T) / (2 * n**2)))


def expected_kl(mixture: mixtures.Mixture, n: int) -> tuple[float, float]:
    """mode_weight_kl of n samples of p to first order in 1/n, in nats, and its error: (sum_k E_k[r_k] - 1)/(2n).

    Of q = mean r about w, KL(q | w) = sum_k (q_k - w_k)^2/(2 w_k), whose mean is sum_k Var(r_k)/(2 n w_k); and Var(r_k) =
    E[r_k^2] - w_k^2 with E[r_k^2] = w_k E_k[r_k], as p r_k = w_k N_k.
    """
    found = mixtures.component_overlap(mixture)
    return float(max(found.own.sum() - 1, 0) / (2 * n)), float(np.linalg.norm(found.own_error) / (2 * n))


def blocks(mixture: mixtures.Mixture, x: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Rows of samples x (n, *shape), so many at a time that their responsibilities fit BLOCK, and which of these rows are new: the
    last ones are as many as the others, so that one program does, and begin before the others end.
    """
    n = len(x)
    most = max(1, BLOCK // (mixture.weights.size * max(1, math.prod(x.shape[1:]))))
    for done in range(0, n, most):
        begin = max(0, min(done, n - most))
        yield slice(begin, begin + most), slice(done - begin, most)


def weight_kl(q: np.ndarray, weights: np.ndarray) -> float:
    """KL(q | w) of mean responsibilities q (K,) from the weights w (K,), in nats."""
    there = q > 0
    return float(np.sum(q[there] * np.log(q[there] / weights[there])))


def label_probabilities(mixture: mixtures.Mixture, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """P(component k_n | x_n) (n,) of samples x (n, *shape), labels k (n,)."""
    found = np.empty(len(x))
    for rows, new in blocks(mixture, x):
        found[rows][new] = np.asarray(_label_probabilities(mixture, jnp.asarray(x[rows]), jnp.asarray(labels[rows])))[
            new
        ]
    return found


@jax.jit
def _label_probabilities(mixture: mixtures.Mixture, x: Array, labels: Array) -> Array:
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x.reshape(x.shape[0], -1))
    return jnp.take_along_axis(r, labels[:, None], axis=1)[:, 0]
