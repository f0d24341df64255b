"""Mixtures: reference values, conservation laws by autodiff, symmetries, closed forms, and samples against moments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EVERY_PATH, double_precision, known, on_every_path, samples
from scipy import stats

from diffsde import mixtures
from diffsde.datasets import EightGaussians, Ring
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS, coefficients
from diffsde.types import Coefficients, Prediction

DENSITY = {"data": "denoiser", "noise": "noise", "velocity": "velocity", "score": "score"}
RNG = np.random.default_rng(7)
MEANS = RNG.normal(size=(4, 2)) * 2
WEIGHTS = np.array([0.1, 0.4, 0.3, 0.2])
SPREADS = RNG.uniform(0.2, 1.5, size=(4, 2))
ROTATIONS = stats.special_ortho_group(2, seed=5).rvs(4)  # proper ones: a reflection would be its own transpose
COVARIANCES = ROTATIONS * SPREADS[:, None] @ ROTATIONS.transpose(0, 2, 1)


def isotropic() -> Mixture:
    return Mixture(jnp.asarray(MEANS), jnp.asarray(SPREADS[:, :1]), jnp.asarray(WEIGHTS))


def diagonal() -> Mixture:
    return Mixture(jnp.asarray(MEANS), jnp.asarray(SPREADS), jnp.asarray(WEIGHTS))


def full() -> Mixture:
    return diagonal()._replace(rotations=jnp.asarray(ROTATIONS))


MAKERS: dict[str, Callable[[], Mixture]] = {"isotropic": isotropic, "diagonal": diagonal, "full": full}
every_kind = pytest.mark.parametrize("kind", list(MAKERS))


@cache
def everywhere() -> tuple[Coefficients, jax.Array]:
    """Every path at 24 times inside (0, 1), in double precision, and a plausible x_t for each."""
    c = on_every_path(np.linspace(0.05, 0.95, 24))
    z, eps = np.random.default_rng(0).normal(size=(2, c.alpha.size, 2))
    return c, c.alpha[:, None] * 2 * z + c.beta[:, None] * eps


predict = jax.jit(jax.vmap(mixtures.predict, in_axes=(None, 0, 0)))
posterior_variance = jax.jit(jax.vmap(mixtures.posterior_variance, in_axes=(None, 0, 0)))


def test_reference_predictions(x64: None, reference: list[dict[str, Any]]) -> None:
    """log p_t, E[z|x], E[eps|x], velocity and score of all 168 cases agree with values computed with 50 digits."""

    @jax.jit
    def ours(mixture: Mixture, x: jax.Array, c: Coefficients) -> tuple[Any, Any]:
        return mixtures.log_prob(mixtures.marginal(mixture, c), x), mixtures.predict(mixture, x, c)

    for case in reference:
        law, spare = case["mixture"], 11 - len(case["mixture"]["means"])
        means = jnp.pad(jnp.array(law["means"]), ((0, spare), (0, 0)))  # components of weight 0 change nothing
        variances = jnp.pad(jnp.array(law["stds"]), (0, spare), constant_values=1.0)[:, None] ** 2
        mixture = Mixture(means, variances, jnp.pad(jnp.array(law["weights"]), (0, spare)))
        log_p, exact = ours(
            mixture,
            jnp.array(case["x"]),
            jax.tree.map(lambda part: part[0], known(PATHS[case["path"]](), np.array([case["t"]]))[0]),
        )
        where = f"{case['path']} t={case['t']} K={len(law['means'])}"
        assert float(log_p) == pytest.approx(case["log_prob"], rel=1e-11), where
        for name, theirs in DENSITY.items():
            size = np.max(np.abs(case[theirs]))
            np.testing.assert_allclose(
                getattr(exact, name), case[theirs], rtol=0, atol=1e-11 * size, err_msg=where + name
            )


@every_kind
def test_density_is_the_mixture_of_scipys_normals(x64: None, kind: str) -> None:
    """log p is that of sum_k w_k N(mu_k, S_k) with scipy's multivariate normal, and r_k its posterior."""
    covariances = {
        "isotropic": SPREADS[:, :1, None] * np.eye(2),
        "diagonal": SPREADS[:, :, None] * np.eye(2),
        "full": COVARIANCES,
    }[kind]
    x = np.random.default_rng(1).normal(size=(20, 2)) * 3
    parts = np.stack(
        [w * stats.multivariate_normal(m, s).pdf(x) for w, m, s in zip(WEIGHTS, MEANS, covariances, strict=True)]
    )
    mixture = MAKERS[kind]()
    np.testing.assert_allclose(jax.vmap(partial(mixtures.log_prob, mixture))(x), np.log(parts.sum(0)), rtol=1e-12)
    r = jax.vmap(partial(mixtures.responsibilities, mixture))(x)
    np.testing.assert_allclose(r, (parts / parts.sum(0)).T, rtol=1e-10)
    squares = [
        np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(s), x - m) for m, s in zip(MEANS, covariances, strict=True)
    ]
    np.testing.assert_allclose(
        jax.vmap(partial(mixtures.standardised_squares, mixture))(x), np.stack(squares, 1), rtol=1e-10
    )


class Facts(NamedTuple):
    """What autodiff and the code say of one mixture at every (t, x) of `everywhere`."""

    change: Any  # d/dt log p_t(x)
    laplacian: Any  # of log p_t
    spread: Any  # div score
    gradient: Any  # grad log p_t(x)
    divergence: Any  # div u
    jacobian: Any  # of E[z|x]
    exact: Prediction
    variance: Any  # posterior_variance


@cache
def facts(kind: str) -> Facts:
    """One compiled program a kind of mixture, in double precision."""
    mixture = MAKERS[kind]()

    @jax.jit
    @jax.vmap
    def program(c: Coefficients, x: jax.Array) -> Facts:
        def log_p(alpha: Any, beta: Any, x: Any) -> Any:
            return mixtures.log_prob(mixtures.marginal(mixture, c._replace(alpha=alpha, beta=beta)), x)

        _, change = jax.jvp(lambda alpha, beta: log_p(alpha, beta, x), (c.alpha, c.beta), (c.dalpha, c.dbeta))
        gradient = jax.grad(lambda x: log_p(c.alpha, c.beta, x))(x)
        laplacian = jnp.trace(jax.hessian(lambda x: log_p(c.alpha, c.beta, x))(x))
        slopes = jax.jacfwd(lambda x: mixtures.predict(mixture, x, c))(x)
        exact = mixtures.predict(mixture, x, c)
        variance = mixtures.posterior_variance(mixture, x, c)
        spread = jnp.trace(slopes.score)
        return Facts(change, laplacian, spread, gradient, jnp.trace(slopes.velocity), slopes.data, exact, variance)

    return jax.tree.map(np.asarray, program(*everywhere()))


@every_kind
def test_continuity_equation(x64: None, kind: str) -> None:
    """d/dt log p_t + u . score + div u = 0 on every path: the velocity transports the density."""
    found = facts(kind)
    transport = np.sum(found.exact.velocity * found.exact.score, axis=1)
    size = 1 + np.abs(found.change) + np.abs(transport) + np.abs(found.divergence)
    assert np.max(np.abs(found.change + transport + found.divergence) / size) < 1e-11


@every_kind
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0])
def test_fokker_planck_equation(x64: None, kind: str, sigma: float) -> None:
    """d/dt p = -div((u + sigma^2/2 s) p) + sigma^2/2 Laplacian p for every sigma on every path, divided by p; the density's
    derivatives by autodiff of log p alone, the drift's by that of the field.
    """
    found = facts(kind)
    drift = found.exact.velocity + sigma**2 / 2 * found.exact.score
    terms = [
        found.change,
        found.divergence + sigma**2 / 2 * found.spread,
        np.sum(drift * found.gradient, axis=1),
        -(sigma**2) / 2 * (found.laplacian + np.sum(found.gradient**2, axis=1)),
    ]
    assert np.max(np.abs(sum(terms)) / (1 + sum(np.abs(term) for term in terms))) < 1e-11


@every_kind
def test_score_is_the_gradient_of_the_log_density(x64: None, kind: str) -> None:
    """score = grad log p_t, E[eps|x] = -beta score, alpha E[z|x] + beta E[eps|x] = x, u = dalpha E[z|x] + dbeta
    E[eps|x].
    """
    (c, x), found = everywhere(), facts(kind)
    c = jax.tree.map(lambda part: part[:, None], c)
    exact = found.exact
    np.testing.assert_allclose(exact.score, found.gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(exact.noise, -c.beta * found.gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(c.alpha * exact.data + c.beta * exact.noise, x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(exact.velocity, c.dalpha * exact.data + c.dbeta * exact.noise, rtol=1e-8, atol=1e-9)


@every_kind
def test_second_order_tweedie(x64: None, kind: str) -> None:
    """The Jacobian of E[z|x] is alpha Cov(z|x)/beta^2: symmetric, positive, its trace alpha times
    posterior_variance.
    """
    (c, _), found = everywhere(), facts(kind)
    np.testing.assert_allclose(found.jacobian, found.jacobian.transpose(0, 2, 1), rtol=1e-9, atol=1e-11)
    assert np.all(np.linalg.eigvalsh(found.jacobian) > 0)
    np.testing.assert_allclose(np.trace(found.jacobian, axis1=1, axis2=2), c.alpha * found.variance, rtol=1e-9)


def test_posterior_by_quadrature(x64: None) -> None:
    """E[z|x] and Var(z|x) in one dimension are the integrals of z and its square over p(z) N(x; alpha z, beta^2)."""
    means, stds, weights = np.array([-1.5, 0.5, 2.0]), np.array([0.3, 0.8, 0.5]), np.array([0.3, 0.5, 0.2])
    mixture = Mixture(jnp.array(means[:, None]), jnp.array(stds[:, None] ** 2), jnp.array(weights))
    z = np.linspace(-9, 9, 20001)
    prior = sum(w * stats.norm(m, s).pdf(z) for w, m, s in zip(weights, means, stds, strict=True))
    for name in ("ot", "sqrt", "vp", "ve"):
        for t, x in ((0.3, -0.7), (0.6, 1.1), (0.9, 0.2)):
            c = coefficients(PATHS[name](), t)
            posterior = prior * stats.norm(float(c.alpha) * z, float(c.beta)).pdf(x)
            posterior /= posterior.sum()
            mean = posterior @ z
            exact = mixtures.predict(mixture, jnp.array([x]), c)
            assert float(exact.data[0]) == pytest.approx(mean, rel=1e-9)
            spread = posterior @ (z - mean) ** 2 / float(c.beta) ** 2
            assert float(mixtures.posterior_variance(mixture, jnp.array([x]), c)) == pytest.approx(spread, rel=1e-9)


def test_full_covariances_in_three_dimensions(x64: None) -> None:
    """with_covariances has scipy's density, its gradient for score, and E[z|x] of linear regression
    for one component.
    """
    roots = np.random.default_rng(4).normal(size=(2, 3, 3))
    means, covariances = (
        np.array([[0.0, 1.0, -1.0], [1.5, 0.0, 0.5]]),
        roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(3),
    )
    mixture = mixtures.with_covariances(jnp.asarray(means), jnp.asarray(covariances), jnp.array([0.3, 0.7]))
    x = jnp.array([0.4, -0.3, 0.2])
    parts = [stats.multivariate_normal(m, s).pdf(x) for m, s in zip(means, covariances, strict=True)]
    log_p, score = jax.value_and_grad(partial(mixtures.log_prob, mixture))(x)
    assert float(log_p) == pytest.approx(np.log(0.3 * parts[0] + 0.7 * parts[1]), rel=1e-10)
    at = jax.jit(mixtures.predict)
    np.testing.assert_allclose(at(mixture, x, coefficients(PATHS["ot"](), 1.0)).score, score, rtol=1e-9)
    c = coefficients(PATHS["trig"](), 0.4)
    alpha, beta = float(c.alpha), float(c.beta)
    one = mixtures.with_covariances(jnp.asarray(means[:1]), jnp.asarray(covariances[:1]), jnp.ones(1))
    gain = np.linalg.solve(alpha**2 * covariances[0] + beta**2 * np.eye(3), alpha * covariances[0]).T
    np.testing.assert_allclose(at(one, x, c).data, means[0] + gain @ (x - alpha * means[0]), rtol=1e-9)


@every_kind
def test_rotation_equivariance(x64: None, kind: str) -> None:
    """Turning the mixture and the point turns every prediction; densities and variances stay."""
    turn = stats.ortho_group(2, seed=3).rvs()
    covariances = {
        "isotropic": SPREADS[:, :1, None] * np.eye(2),
        "diagonal": SPREADS[:, :, None] * np.eye(2),
        "full": COVARIANCES,
    }[kind]
    mixture = MAKERS[kind]()
    turned = mixtures.with_covariances(MEANS @ turn.T, turn @ covariances @ turn.T, mixture.weights)
    c, x = everywhere()
    for before, after in zip(predict(mixture, x, c)[:4], predict(turned, x @ turn.T, c)[:4], strict=True):
        np.testing.assert_allclose(after, before @ turn.T, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(posterior_variance(turned, x @ turn.T, c), posterior_variance(mixture, x, c), rtol=1e-9)
    assert mixtures.entropy(turned).value == pytest.approx(mixtures.entropy(mixture).value, abs=1e-6)


def test_shift_and_scale_equivariance(x64: None) -> None:
    """Shifting the data by v shifts E[z|x] by v and u by dalpha v at x + alpha v, and leaves score and noise alone."""
    shift = np.array([3.0, -2.0])
    mixture = full()
    moved = mixture._replace(means=mixture.means + shift)
    c, x = everywhere()
    before, after = predict(mixture, x, c), predict(moved, x + c.alpha[:, None] * shift, c)
    np.testing.assert_allclose(after.data, before.data + shift, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(after.velocity, before.velocity + c.dalpha[:, None] * shift, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(after.score, before.score, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(after.noise, before.noise, rtol=1e-8, atol=1e-10)


def test_isotropic_covariances_are_isotropic_components(x64: None) -> None:
    """with_covariances of s^2 I is the isotropic mixture."""
    same = mixtures.with_covariances(jnp.asarray(MEANS), SPREADS[:, :1, None] * jnp.eye(2), jnp.asarray(WEIGHTS))
    c, x = everywhere()
    for ours, theirs in zip(predict(same, x, c)[:4], predict(isotropic(), x, c)[:4], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-11)
    assert mixtures.entropy(same).value == pytest.approx(mixtures.entropy(isotropic()).value, abs=1e-7)


@every_kind
def test_entropy_of_one_gaussian(x64: None, kind: str) -> None:
    """A single component has scipy's closed-form entropy, in one and in two dimensions."""
    mixture = MAKERS[kind]()
    for k in range(4):
        one = Mixture(*(None if part is None else part[k : k + 1] for part in mixture))._replace(weights=jnp.ones(1))
        covariance = COVARIANCES[k] if kind == "full" else np.diag(np.broadcast_to(mixture.variances[k], 2))
        assert mixtures.entropy(one).value == pytest.approx(
            stats.multivariate_normal(MEANS[k], covariance).entropy(), rel=1e-12
        )
    line = Mixture(jnp.array([[3.0]]), jnp.array([[0.49]]), jnp.ones(1))
    assert mixtures.entropy(line).value == pytest.approx(stats.norm(3.0, 0.7).entropy(), rel=1e-12)


def test_entropy_of_a_mixture(x64: None) -> None:
    """The ring's published 5.222092 nats; far components add the entropy of the weights."""
    assert mixtures.entropy(Ring().mixture()).value == pytest.approx(5.222092, abs=6e-7)
    far = full()._replace(means=jnp.asarray([[0.0, 0.0], [300.0, 0.0], [0.0, 300.0], [300.0, 300.0]]))
    inside = sum(w * stats.multivariate_normal(cov=s).entropy() for w, s in zip(WEIGHTS, COVARIANCES, strict=True))
    assert mixtures.entropy(far).value == pytest.approx(inside + stats.entropy(WEIGHTS), rel=1e-10)
    same = Mixture(jnp.zeros((3, 2)), jnp.ones((3, 1)), jnp.array([0.2, 0.3, 0.5]))  # three times one normal
    assert mixtures.entropy(same).value == pytest.approx(stats.multivariate_normal(cov=np.eye(2)).entropy(), rel=1e-12)


def test_moments_of_known_mixtures(x64: None) -> None:
    """The published coordinate std sqrt(51) of the ring, torchcfm's of the eight Gaussians, and the law of total
    variance.
    """
    ring = mixtures.moments(Ring().mixture())
    np.testing.assert_allclose(ring.mean, 0, atol=1e-14)
    assert float(ring.std) == pytest.approx(np.sqrt(51), rel=1e-12)
    assert float(mixtures.moments(EightGaussians().mixture()).std) == pytest.approx(
        np.sqrt(12.5 + np.sqrt(0.1)), rel=1e-12
    )
    between = np.cov(MEANS.T, aweights=WEIGHTS, ddof=0)
    within = np.tensordot(WEIGHTS, COVARIANCES, 1)
    law = mixtures.moments(full())
    np.testing.assert_allclose(law.mean, np.average(MEANS, axis=0, weights=WEIGHTS), rtol=1e-12)
    assert float(law.std) == pytest.approx(np.sqrt(np.trace(between + within) / 2), rel=1e-12)


@every_kind
def test_samples_have_the_exact_moments(kind: str) -> None:
    """Mean and mean square of 20,000 samples are within 4 of their own standard errors of moments()."""
    mixture = MAKERS[kind]()
    x = samples(mixture)
    law = mixtures.moments(mixture)
    assert np.all(np.abs(x.mean(0) - law.mean) < 4 * stats.sem(x))
    squares = np.mean((x - law.mean) ** 2, axis=1)
    assert abs(squares.mean() - float(law.std) ** 2) < 4 * stats.sem(squares)


def test_samples_of_one_component_have_its_covariance() -> None:
    """Whitened by the true covariance, samples of a full-covariance component have the identity for theirs."""
    root = np.array([[2.0, 0.0, 0.0], [0.7, 0.5, 0.0], [-1.0, 0.4, 1.0]])
    centre = np.array([[5.0, -1.0, 0.0]])
    one = mixtures.with_covariances(jnp.asarray(centre), jnp.asarray((root @ root.T)[None]), jnp.ones(1))
    y = np.linalg.solve(root, (samples(one) - centre).T)
    products = np.einsum("in,jn->ijn", y, y)
    assert np.all(np.abs(products.mean(-1) - np.eye(3)) < 4.5 * stats.sem(products, axis=-1))
    assert stats.kstest(y.ravel(), "norm").pvalue > 1e-3


def test_components_are_drawn_by_weight() -> None:
    """Frequencies of far components agree with the weights (chi-square)."""
    centres = 100 * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    x = samples(isotropic()._replace(means=jnp.asarray(centres, jnp.float32)))
    nearest = np.argmin(np.linalg.norm(x[:, None] - centres, axis=-1), axis=1)
    assert stats.chisquare(np.bincount(nearest, minlength=4), 20_000 * WEIGHTS).pvalue > 1e-3


NOISE_END = {
    "ot": (1.0, -1.0),
    "trig": (np.pi / 2, 0.0),
    "sqrt": (1.0, -0.5),
}  # dalpha, dbeta at t = 0, where x_0 = eps
DATA_END = {  # dalpha, (beta^2)'/2 at t = 1, where x_1 = z
    "ot": (1.0, 0.0),
    "trig": (0.0, 0.0),
    "sqrt": (1.0, -0.5),
    "vp": (0.05, -0.05),
    "subvp": (0.05, 0.0),
}


@every_kind
def test_noise_end(x64: None, kind: str) -> None:
    """At t = 0, where alpha = 0: E[z|x] is the data's mean m, E[eps|x] = x, the score -x and u = dalpha m + dbeta x."""
    mixture = MAKERS[kind]()
    mean, x = mixtures.moments(mixture).mean, jnp.array([0.3, -1.2])
    at = jax.jit(mixtures.predict)
    for name, (dalpha, dbeta) in NOISE_END.items():
        exact = at(mixture, x, coefficients(PATHS[name](), 0.0))
        np.testing.assert_allclose(exact.data, mean, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(exact.noise, x, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(exact.score, -x, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(exact.velocity, dalpha * mean + dbeta * x, rtol=1e-12, err_msg=name)


@every_kind
def test_data_end(x64: None, kind: str) -> None:
    """At t = 1, where beta = 0: E[z|x] = x, E[eps|x] = 0, s = grad log p and u = dalpha x - (beta^2)'/2 s, dbeta
    infinite or not.
    """
    mixture = MAKERS[kind]()
    x = jnp.array([0.3, -1.2])
    score = jax.grad(partial(mixtures.log_prob, mixture))(x)
    at = jax.jit(mixtures.predict)
    for name, (dalpha, slope) in DATA_END.items():
        exact = at(mixture, x, coefficients(PATHS[name](), 1.0))
        np.testing.assert_allclose(exact.data, x, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(exact.noise, 0, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(exact.score, score, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(exact.velocity, dalpha * x - slope * score, rtol=1e-10, atol=1e-14, err_msg=name)


def test_float32_predictions_hold_their_digits_at_both_ends() -> None:
    """In float32 every path's predictions at t = 0, 2^-24, 1 - 2^-24 and 1 are those of double precision."""
    times = np.repeat([0.0, 2.0**-24, 1 - 2.0**-24, 1.0], 6)
    z, eps = np.random.default_rng(2).normal(size=(2, len(EVERY_PATH) * len(times), 2)).astype(np.float32)

    def answers(dtype: type) -> tuple[Coefficients, Any]:
        c = on_every_path(times)
        x = c.alpha[:, None] * z + c.beta[:, None] * eps
        return c, predict(Mixture(*(jnp.asarray(part, dtype) for part in (MEANS, SPREADS, WEIGHTS))), x, c)

    single = answers(np.float32)
    with double_precision():
        double = answers(np.float64)
    for which, ours, theirs in zip(("data", "noise", "velocity", "score"), single[1][:4], double[1][:4], strict=True):
        assert ours.dtype == jnp.float32 and theirs.dtype == jnp.float64
        size = np.max(np.abs(theirs), axis=1, keepdims=True) + 0.01
        assert np.max(np.abs(np.asarray(ours) - np.asarray(theirs)) / size) < 1e-4, which
