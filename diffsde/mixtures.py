"""Gaussian mixtures sum_k w_k N(mu_k, S_k): the law whose path, score and velocity are known exactly."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.overlap import Estimate, Overlap
from diffsde.overlap import overlap as overlap_of
from diffsde.types import Array, Coefficients, Key, Moments, Prediction, Scalar


class Mixture(NamedTuple):
    """K components in d dimensions, covariances S_k = R_k diag(variances_k) R_k^T.

    means (K, d); variances (K, d), or (K, 1) for isotropic components; weights (K,), summing to 1;
    rotations (K, d, d), or None where every R_k is the identity.
    """

    means: Array
    variances: Array
    weights: Array
    rotations: Array | None = None


def with_covariances(means: Array, covariances: Array, weights: Array) -> Mixture:
    """A mixture from full covariances (K, d, d)."""
    variances, rotations = jnp.linalg.eigh(covariances)
    return Mixture(means, variances, weights, rotations)


def _into_axes(mixture: Mixture, x: Array) -> Array:
    """R_k^T x_k for x (K, d)."""
    return x if mixture.rotations is None else jnp.einsum("kji,kj->ki", mixture.rotations, x)


def _out_of_axes(mixture: Mixture, y: Array) -> Array:
    """R_k y_k for y (K, d)."""
    return y if mixture.rotations is None else jnp.einsum("kij,kj->ki", mixture.rotations, y)


def component_log_probs(mixture: Mixture, x: Array) -> Array:
    """log w_k + log N(x; mu_k, S_k) for one point x (d,): shape (K,)."""
    d = mixture.means.shape[-1]
    y = _into_axes(mixture, x - mixture.means)
    spread = jnp.broadcast_to(mixture.variances, y.shape)
    square = jnp.sum(y**2 / spread, axis=-1) + jnp.sum(jnp.log(spread), axis=-1)
    return jnp.log(mixture.weights) - (square + d * jnp.log(2 * jnp.pi)) / 2


def log_prob(mixture: Mixture, x: Array) -> Scalar:
    """log p(x) in nats for one point x (d,)."""
    return jax.scipy.special.logsumexp(component_log_probs(mixture, x))


def responsibilities(mixture: Mixture, x: Array) -> Array:
    """r_k = P(component k | x), shape (K,)."""
    return jax.nn.softmax(component_log_probs(mixture, x))


def score(mixture: Mixture, x: Array) -> Array:
    """grad log p(x) = -sum_k r_k S_k^-1 (x - mu_k) for one point x (d,)."""
    g = _into_axes(mixture, x - mixture.means) / mixture.variances
    return -(responsibilities(mixture, x) @ _out_of_axes(mixture, g))


def standardised_squares(mixture: Mixture, x: Array) -> Array:
    """|S_k^-1/2 (x - mu_k)|^2 for one point x (d,): shape (K,)."""
    return jnp.sum(_into_axes(mixture, x - mixture.means) ** 2 / mixture.variances, axis=-1)


def marginal(mixture: Mixture, c: Coefficients) -> Mixture:
    """The law p_t of x_t = alpha z + beta eps: the mixture N(alpha mu_k, alpha^2 S_k + beta^2 I)."""
    return mixture._replace(means=c.alpha * mixture.means, variances=c.alpha**2 * mixture.variances + c.beta**2)


def predict(mixture: Mixture, x: Array, c: Coefficients) -> Prediction:
    """The exact E[z|x], E[eps|x], u_t(x) and grad log p_t(x) for one point x (d,).

    With C_k = alpha^2 S_k + beta^2 I, g_k = C_k^-1 (x - alpha mu_k) and r_k the responsibilities under p_t:
        E[z|x] = sum r_k (mu_k + alpha S_k g_k),  E[eps|x] = beta sum r_k g_k,  score = -sum r_k g_k,
        u = sum r_k (dalpha mu_k + (alpha dalpha S_k + beta dbeta I) g_k).
    Regular at both ends wherever S_k > 0, also where dbeta diverges, since only the product beta dbeta enters.
    """
    law = marginal(mixture, c)
    r = responsibilities(law, x)
    y = _into_axes(mixture, x - law.means)
    g = y / law.variances

    def average(values: Array) -> Array:
        return r @ values

    def rotated(values: Array) -> Array:
        return _out_of_axes(mixture, values)

    score = -average(rotated(g))
    data = average(mixture.means + rotated(c.alpha * mixture.variances * g))
    drift = c.alpha * c.dalpha * mixture.variances + c.beta_dbeta
    velocity = average(c.dalpha * mixture.means + rotated(drift * g))
    return Prediction(data, -c.beta * score, velocity, score)


def gaussian_map(mixture: Mixture, x: Array, start: Coefficients, end: Coefficients) -> Array:
    """Where the ODE takes x (d,) from s to t, of a mixture that is one Gaussian N(m, S); start, end: the path at s and at t.

    X_{s,t}(x) = alpha_t m + (C_t C_s^-1)^1/2 (x - alpha_s m) with C = alpha^2 S + beta^2 I, which commute.
    """
    before, after = marginal(mixture, start), marginal(mixture, end)
    moved = jnp.sqrt(after.variances / before.variances) * _into_axes(mixture, x - before.means)
    return (after.means + _out_of_axes(mixture, moved))[0]


def pairs(source: Mixture, data: Mixture) -> tuple[Mixture, Mixture]:
    """Source and data with a component for each pair (j, k) of theirs, data's the slower index; both have the pair's weight."""
    j, k = source.weights.size, data.weights.size
    weights = (data.weights[:, None] * source.weights).reshape(-1)

    def every(mixture: Mixture, indices: Array) -> Mixture:
        rotations = None if mixture.rotations is None else mixture.rotations[indices]
        return Mixture(mixture.means[indices], mixture.variances[indices], weights, rotations)

    return every(source, jnp.tile(jnp.arange(j), k)), every(data, jnp.repeat(jnp.arange(k), j))


def between(source: Mixture, data: Mixture, c: Coefficients) -> Mixture:
    """The law p_t of x_t = alpha z + beta y + gamma eps, z of `data`, y of `source`, eps standard normal, independent: a mixture
    of a component for each pair, N(alpha mu_k + beta nu_j, alpha^2 S_k + beta^2 R_j + gamma^2 I).
    """
    source, data = pairs(source, data)
    means = c.alpha * data.means + c.beta * source.means
    if source.rotations is None and data.rotations is None:
        variances = c.alpha**2 * data.variances + c.beta**2 * source.variances + c.gamma**2
        return Mixture(means, variances, data.weights)
    return with_covariances(means, _covariances_between(source, data, c), data.weights)


def _covariances_between(source: Mixture, data: Mixture, c: Coefficients) -> Array:
    """C = alpha^2 S + beta^2 R + gamma^2 I of every pair, (P, d, d)."""
    identity = jnp.eye(data.means.shape[-1])
    return c.alpha**2 * covariances(data) + c.beta**2 * covariances(source) + c.gamma**2 * identity


def covariances(mixture: Mixture) -> Array:
    """S_k (K, d, d)."""
    spread = jnp.broadcast_to(mixture.variances, mixture.means.shape)
    if mixture.rotations is None:
        return jax.vmap(jnp.diag)(spread)
    return jnp.einsum("kij,kj,klj->kil", mixture.rotations, spread, mixture.rotations)


def log_prob_between(source: Mixture, data: Mixture, x: Array, c: Coefficients) -> Scalar:
    """log p_t(x) in nats of the law `between`, for one point x (d,); differentiable, whatever the covariances."""
    return jax.scipy.special.logsumexp(_seen_between(*pairs(source, data), x, c)[0])


def _seen_between(source: Mixture, data: Mixture, x: Array, c: Coefficients) -> tuple[Array, Array]:
    """log w + log N(x; m, C) (P,) and g = C^-1 (x - m) (P, d) of every pair; by Cholesky where axes differ, since eigenvectors of
    equal variances have no derivative.
    """
    centred = x - c.alpha * data.means - c.beta * source.means
    if source.rotations is None and data.rotations is None:
        variances = c.alpha**2 * data.variances + c.beta**2 * source.variances + c.gamma**2
        variances = jnp.broadcast_to(variances, centred.shape)
        g, log_volume = centred / variances, jnp.sum(jnp.log(variances), axis=-1)
    else:
        factors = jnp.linalg.cholesky(_covariances_between(source, data, c))
        g = jax.vmap(lambda factor, y: jax.scipy.linalg.cho_solve((factor, True), y))(factors, centred)
        log_volume = 2 * jnp.sum(jnp.log(jnp.diagonal(factors, axis1=-2, axis2=-1)), axis=-1)
    squares = jnp.sum(centred * g, axis=-1) + log_volume + x.size * jnp.log(2 * jnp.pi)
    return jnp.log(data.weights) - squares / 2, g


def predict_between(source: Mixture, data: Mixture, x: Array, c: Coefficients) -> Prediction:
    """The exact E[z|x], E[eps|x], u_t(x), grad log p_t(x) and E[y|x] of the law `between`, for one point x (d,).

    With g = C^-1 (x - m) of each pair and r their responsibilities, S of the data's component and R of the source's:
        E[z|x] = sum r (mu + alpha S g),  E[y|x] = sum r (nu + beta R g),  score = -sum r g,  E[eps|x] = -gamma score,
        u = sum r (dalpha mu + dbeta nu + (alpha dalpha S + beta dbeta R + gamma dgamma I) g).
    Regular wherever C is and dbeta is finite, also where dgamma diverges, since only gamma dgamma enters.
    """
    source, data = pairs(source, data)
    log_probs, g = _seen_between(source, data, x, c)
    r = jax.nn.softmax(log_probs)

    def spread(mixture: Mixture) -> Array:
        return _out_of_axes(mixture, mixture.variances * _into_axes(mixture, g))

    of_data, of_source = spread(data), spread(source)
    score = -(r @ g)
    means = c.dalpha * data.means + c.dbeta * source.means
    velocity = r @ (means + c.alpha * c.dalpha * of_data + c.beta_dbeta * of_source + c.gamma_dgamma * g)
    return Prediction(
        r @ (data.means + c.alpha * of_data),
        -c.gamma * score,
        velocity,
        score,
        r @ (source.means + c.beta * of_source),
    )


def posterior_variance(mixture: Mixture, x: Array, c: Coefficients) -> Scalar:
    """tr Var(z | x_t = x) / beta^2, finite as beta -> 0 wherever S_k > 0.

    Within components sum r_k tr(S_k C_k^-1), between them sum r_k |m_k - E[z|x]|^2 / beta^2, m_k = E[z|x, k].
    """
    law = marginal(mixture, c)
    r = responsibilities(law, x)
    y = _into_axes(mixture, x - law.means)
    means = mixture.means + _out_of_axes(mixture, c.alpha * mixture.variances * y / law.variances)
    within = jnp.sum(jnp.broadcast_to(mixture.variances / law.variances, y.shape), axis=-1)
    between = jnp.sum((means - r @ means) ** 2, axis=-1) / c.beta**2
    return r @ (within + between)


def conditioned(mixture: Mixture, label: Scalar | None) -> Mixture:
    """The law of component `label` () alone; the mixture itself where that is None or K."""
    if label is None:
        return mixture
    count = mixture.weights.size
    alone = jnp.arange(count) == label
    return mixture._replace(weights=jnp.where(label == count, mixture.weights, alone.astype(mixture.weights.dtype)))


def only(mixture: Mixture, labels: np.ndarray) -> Mixture:
    """The components that are among the labels (n,), each as often as it is there. Not for compiled code."""
    kept, counts = np.unique(labels, return_counts=True)
    rotations = None if mixture.rotations is None else mixture.rotations[kept]
    weights = jnp.asarray(counts / counts.sum(), mixture.weights.dtype)
    return Mixture(mixture.means[kept], mixture.variances[kept], weights, rotations)


def posterior(mixture: Mixture, matrix: Array, y: Array, noise: Scalar) -> Mixture:
    """The law of z given y = A z + noise eps, again a mixture; A (m, d), y (m,).

    With L_k L_k^T = S_k and A L_k/noise = U s V^T, component k has the covariance F F^T, F = L_k V (1 + s^2)^(-1/2), the
    mean mu_k + F F^T A^T (y - A mu_k)/noise^2 and the weight w_k N(y; A mu_k, A S_k A^T + noise^2 I). By way of factors
    small variances keep their digits: none is a difference of large ones.
    """
    m, d = matrix.shape

    def of_component(mean: Array, variances: Array, rotation: Array) -> tuple[Array, Array, Array, Array]:
        factor = rotation * jnp.sqrt(variances)
        left, s, right = jnp.linalg.svd(matrix @ factor / noise, full_matrices=True)
        shrink = jnp.ones(d).at[: s.size].set(1 / jnp.sqrt(1 + s**2))
        axes, stds, _ = jnp.linalg.svd(factor @ right.T * shrink)
        residual = (y - matrix @ mean) / noise
        along = axes.T @ (matrix.T @ residual) / noise
        weighed = jnp.zeros(m).at[: s.size].set(s**2 / (1 + s**2))
        evidence = jnp.sum((left.T @ residual) ** 2 * (1 - weighed)) + jnp.sum(jnp.log1p(s**2))
        return mean + axes @ (stds**2 * along), stds**2, axes, -evidence / 2

    spread = jnp.broadcast_to(mixture.variances, mixture.means.shape)
    rotations = jnp.broadcast_to(jnp.eye(d), (len(spread), d, d)) if mixture.rotations is None else mixture.rotations
    means, variances, axes, evidence = jax.vmap(of_component)(mixture.means, spread, rotations)
    return Mixture(means, variances, jax.nn.softmax(jnp.log(mixture.weights) + evidence), axes)


def sample(mixture: Mixture, key: Key, count: int) -> Array:
    """`count` points (count, d)."""
    return sample_labelled(mixture, key, count)[0]


def sample_labelled(mixture: Mixture, key: Key, count: int) -> tuple[Array, Array]:
    """`count` points (count, d) and their components (count,), by inverting the distribution function of uniform numbers."""
    key_component, key_noise = jax.random.split(key)
    edges = jnp.cumsum(mixture.weights)[:-1]
    k = jnp.sum(jax.random.uniform(key_component, (count,)) >= edges[:, None], axis=0)
    return place(mixture, k, jax.random.normal(key_noise, (mixture.means.shape[1], count)).T), k


def place(mixture: Mixture, k: Array, eps: Array) -> Array:
    """mu_k + S_k^1/2 eps, of components k (n,) and noise eps (n, d)."""
    noise = jnp.sqrt(mixture.variances[k]) * eps
    if mixture.rotations is not None:
        noise = jnp.einsum("nij,nj->ni", mixture.rotations[k], noise)
    return mixture.means[k] + noise


@jax.jit
def moments(mixture: Mixture) -> Moments:
    """Exact mean (d,) and root-mean-square coordinate standard deviation ()."""
    mean = mixture.weights @ mixture.means
    spread = jnp.broadcast_to(mixture.variances, mixture.means.shape) + (mixture.means - mean) ** 2
    return Moments(mean, jnp.sqrt(jnp.mean(mixture.weights @ spread)))


def component_overlap(mixture: Mixture) -> Overlap:
    """How far the components overlap, with the entropy: see overlap.overlap. Not for compiled code."""
    means, variances, weights = (np.asarray(part, np.float64) for part in mixture[:3])
    return overlap_of(means, variances, weights, None if mixture.rotations is None else np.asarray(mixture.rotations))


def entropy(mixture: Mixture) -> Estimate:
    """-E log p in nats with its error, in any dimension, by quadrature or Monte Carlo: see overlap.overlap."""
    return component_overlap(mixture).entropy
