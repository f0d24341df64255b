"""Exact fields beyond the Gaussian mixture's own tests: finite data sets, log densities, divergences."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import empirical, mixtures
from diffsde.build import check
from diffsde.datasets.mixture import CustomMixture
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, OracleField, divergence
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS, coefficients
from diffsde.samplers import LoopSettings, simulate, times
from diffsde.samplers.diffusions import Memoryless
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import Heun
from diffsde.types import Array, Scalar


def data(count: int, shape: tuple[int, ...] = (3,)) -> Array:
    return 2 * jax.random.normal(jax.random.key(4), (count, *shape), float) + 1


def finite(path: str, points: Array) -> EmpiricalField:
    return EmpiricalField(PATHS[path](), empirical.arrange(points), len(points), points.shape[1:])


@pytest.mark.parametrize("count", [1, 255, 256, 700])
@pytest.mark.parametrize("path", ["ot", "sqrt", "vp", "ve"])
def test_finite_data_is_a_mixture_of_atoms(path: str, count: int, x64: None) -> None:
    """Chunked and padded, it is the mixture formula with S_k = 0, at every t before the end, log density included."""
    points = data(count)
    atoms = Mixture(points, jnp.zeros((count, 1)), jnp.full(count, 1 / count))
    fields = finite(path, points), OracleField(PATHS[path](), atoms, (3,))
    x = jax.random.normal(jax.random.key(5), (6, 3), float) * 2
    both = jax.jit(jax.vmap(lambda field, x, t: (field.output(x, t), field.log_prob(x, t)), (None, 0, None)))
    for t in (0.0, 0.3, 0.7, 0.97):
        ours, theirs = (both(field, x, t) for field in fields)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, theirs)


def test_samples_of_finite_data_are_the_data() -> None:
    """The ODE of 300 points shaped (2, 2) ends in them, and in many of them; far values do not overflow."""
    points = data(300, (2, 2)) * 50
    field = finite("ot", points)
    x = jax.random.normal(jax.random.key(6), (200, 2, 2))
    end = jax.jit(partial(simulate, settings=LoopSettings(last="denoise")))(
        Heun(), field, x, times(UniformGrid(), 200, field.path), jax.random.key(0)
    ).x
    distance = np.linalg.norm((np.asarray(end)[:, None] - np.asarray(points)).reshape(200, 300, 4), axis=-1)
    assert distance.min(axis=1).max() < 1e-3
    assert len(set(distance.argmin(axis=1))) > 100


FACTOR = np.array([[1.0, 0.8, 0.0, -0.4], [0.0, 0.6, 0.3, 0.9], [0.5, 0.0, 1.2, 0.0], [0.0, -0.7, 0.0, 0.4]])


@pytest.mark.parametrize("shape", [(4,), (2, 2)])
@pytest.mark.parametrize("path", ["ot", "sqrt", "vp"])
def test_divergence_of_a_gaussian(path: str, shape: tuple[int, ...], x64: None) -> None:
    """For N(m, S), all coordinates correlated: div u = d/dt of log sqrt(det(alpha^2 S + beta^2 I)), at any x.

    du/dx is no diagonal: the sum of all its entries is far from its trace.
    """
    covariance = jnp.asarray(FACTOR @ FACTOR.T)
    law = mixtures.with_covariances(jnp.array([[1.0, -2.0, 0.5, 3.0]]), covariance[None], jnp.ones(1))
    field = OracleField(PATHS[path](), law, shape)

    @jax.jit
    @jax.grad
    def expected(t: Scalar) -> Scalar:
        total = field.path.alpha(t) ** 2 * covariance + field.path.variance(t) * jnp.eye(4)
        return jnp.linalg.slogdet(total)[1] / 2

    found = jax.jit(divergence)
    for t in (0.2, 0.9):
        for x in ([0.0, 0.0, 0.0, 0.0], [3.0, -1.0, 0.5, 2.0]):
            assert float(found(field, jnp.array(x).reshape(shape), t)) == pytest.approx(float(expected(t)), rel=1e-10)


def test_full_covariances_are_those_given(x64: None) -> None:
    """dataset=mixture with covariances: the law's second moments are the matrices, by its log density's curvature."""
    covariance = [[2.0, 0.6], [0.6, 0.5]]
    choice = CustomMixture(means=((1.0, -1.0),), stds=None, covariances=(tuple(map(tuple, covariance)),))
    check(choice)
    field = OracleField(PATHS["ot"](), choice.mixture(), (2,))
    curvature = jax.hessian(lambda x: field.log_prob(x, 1.0))(jnp.array([0.3, 0.2]))
    np.testing.assert_allclose(-np.linalg.inv(curvature), covariance, rtol=1e-6)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (CustomMixture(covariances=(((1.0, 0.0), (0.0, 1.0)),) * 2), "the other null"),
        (CustomMixture(stds=None), "the other null"),
        (CustomMixture(stds=None, covariances=(((1.0, 0.0), (0.0, 1.0)),)), "1 entries for 2 means"),
        (CustomMixture(stds=None, covariances=(((1.0, 2.0), (2.0, 1.0)),) * 2), r"covariances\[0\].*positive definite"),
        (CustomMixture(stds=None, covariances=(((1.0, 2.0), (0.0, 1.0)),) * 2), "symmetric"),
        (CustomMixture(stds=None, covariances=(((1.0,),),) * 2), "2 x 2"),
    ],
)
def test_covariances_that_are_none_are_refused(choice: CustomMixture, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(choice)


@pytest.mark.parametrize("path", ["ot", "vp"])
def test_optimal_sigma_minimises_the_measured_girsanov_integrand(path: str, x64: None) -> None:
    """Errors measured between two fields, the exact ones of two laws: E|e_u + sigma^2/2 e_s|^2/sigma^2 is least at memoryless."""
    laws = [
        Mixture(jnp.array([[-1.0], [m]]), jnp.array([[0.4], [v]]), jnp.array([0.5, 0.5]))
        for m, v in ((1, 0.4), (1.3, 0.6))
    ]
    true, wrong = (OracleField(PATHS[path](), law, (1,)) for law in laws)
    x = jnp.linspace(-2, 2, 41)[:, None]
    for t in (0.2, 0.5, 0.8):
        outputs = [jax.vmap(lambda x, f=field, t=t: f.output(x, t))(x) for field in (true, wrong)]
        e_u, e_s = outputs[1].velocity - outputs[0].velocity, outputs[1].score - outputs[0].score
        assert float(jnp.abs(e_u).max()) > 1e-3
        sigmas = np.geomspace(0.05, 20, 20_001)
        bound = [float(jnp.mean(part)) for part in (e_u**2, e_u * e_s, e_s**2)]
        integrand = bound[0] / sigmas**2 + bound[1] + bound[2] * sigmas**2 / 4
        optimal = float(Memoryless(1.0).sigma_at(t, coefficients(true.path, t)))
        assert sigmas[integrand.argmin()] == pytest.approx(optimal, rel=1e-3)
