"""Predictions: round trips over every pair of kinds, what each row means, and preconditioning by its own definition."""

from __future__ import annotations

from functools import cache
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EVERY_PATH, on_every_path

from diffsde import predictions
from diffsde.paths import PATHS, GaussianPath, coefficients
from diffsde.types import Array, Coefficients, Moments, PredictionType

KINDS: tuple[PredictionType, ...] = get_args(PredictionType)
MEAN, STD = 1.7, 2.3
MOMENTS = Moments(MEAN, STD)  # type: ignore[arg-type]
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def everywhere() -> Coefficients:
    """Every path at 20 times inside (0, 1), in double precision, shapes (n, 1)."""
    return jax.tree.map(lambda part: part[:, None], on_every_path(np.linspace(0.03, 0.97, 20)))


def pairs(c: Coefficients, seed: int = 0) -> tuple[Array, Array, Array]:
    """Data, noise and x_t, shapes (n, 3)."""
    z, eps = jnp.asarray(np.random.default_rng(seed).normal(size=(2, c.alpha.size, 3)))
    return z, eps, c.alpha * z + c.beta * eps


def value(kind: PredictionType, c: Coefficients, z: Array, eps: Array) -> Array:
    a, b = predictions.row(kind, c)
    return a * z + b * eps


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_conversion_knows_the_pair(x64: None, source: PredictionType, target: PredictionType) -> None:
    """From any prediction of a known (z, eps) every other one follows, on every path, and back again."""
    c = everywhere()
    z, eps, x = pairs(c)
    known = value(source, c, z, eps)
    found = predictions.convert(known, x, c, source, target)
    size = np.abs(x) + np.abs(value(target, c, jnp.abs(z), 0 * eps)) + np.abs(value(target, c, 0 * z, jnp.abs(eps)))
    worst = 1 + 1 / np.abs(predictions.determinant(source, c))  # the condition of the 2x2 solve
    assert np.max(np.abs(found - value(target, c, z, eps)) / (size * worst)) < 1e-12
    back = predictions.convert(found, x, c, target, source)
    worst = worst * (1 + 1 / np.abs(predictions.determinant(target, c)))
    assert np.max(np.abs(back - known) / ((np.abs(known) + size) * worst)) < 1e-12


def test_rows_by_their_meaning(x64: None) -> None:
    """Data is z, noise eps, velocity dx_t/dt, score the gradient of log N(x; alpha z, beta^2), v turns x by 90
    degrees.
    """
    z, eps = 0.8, -1.3
    for name, path in EVERY_PATH.items():

        @jax.jit
        def both(t: Array, path: GaussianPath = path) -> Array:
            c = coefficients(path, t)
            x, speed = jax.jvp(lambda t: path.alpha(t) * z + path.beta(t) * eps, (t,), (jnp.ones_like(t),))
            score = jax.grad(lambda x: jax.scipy.stats.norm.logpdf(x, c.alpha * z, c.beta))(x)
            rows = [value(kind, c, z, eps) for kind in ("data", "noise", "velocity", "score")]  # type: ignore[arg-type]
            return jnp.stack([jnp.stack(rows), jnp.stack([jnp.asarray(z), jnp.asarray(eps), speed, score])])

        np.testing.assert_allclose(*both(jnp.asarray(0.37)), rtol=1e-10, err_msg=name)
    for name in ("trig", "cosine", "vp"):  # alpha^2 + beta^2 = 1: a rotation of (z, eps)
        c = coefficients(PATHS[name](), 0.37)
        x, v = c.alpha * z + c.beta * eps, value("v", c, z, eps)  # type: ignore[arg-type]
        assert float(x**2 + v**2) == pytest.approx(z**2 + eps**2, rel=1e-12)
        assert float(value("v", coefficients(PATHS[name](), 1.0), z, eps)) == pytest.approx(eps, rel=1e-12)  # type: ignore


@every_kind
def test_determinant_is_that_of_the_two_rows(x64: None, kind: PredictionType) -> None:
    """determinant = det [[alpha, beta], [a, b]]."""
    c = everywhere()
    a, b = predictions.row(kind, c)
    rows = np.stack([np.stack([c.alpha, c.beta], -1), np.stack([a, b], -1)], -2)
    np.testing.assert_allclose(predictions.determinant(kind, c), np.linalg.det(rows), rtol=1e-9, atol=1e-12)


def test_the_straight_lines_velocity_is_never_singular() -> None:
    """On ot, every prediction but the score follows from the velocity at both ends, in float32."""
    z, eps = jnp.array([0.5, -2.0]), jnp.array([1.5, 0.25])
    for t in (0.0, 0.5, 1.0):
        c = coefficients(PATHS["ot"](), t)
        x = c.alpha * z + c.beta * eps
        assert float(predictions.determinant("velocity", c)) == -1
        np.testing.assert_allclose(predictions.convert(z - eps, x, c, "velocity", "data"), z, rtol=1e-6)
        np.testing.assert_allclose(predictions.convert(z - eps, x, c, "velocity", "noise"), eps, rtol=1e-6)


@every_kind
def test_expand_gives_all_four(x64: None, kind: PredictionType) -> None:
    """From one prediction, `expand` returns those of the pair (z, eps) behind it, each under its own name."""
    c = everywhere()
    z, eps, x = pairs(c)
    both = predictions.expand(value(kind, c, z, eps), x, c, kind)
    for name in ("data", "noise", "velocity", "score"):
        expected = value(name, c, z, eps)  # type: ignore[arg-type]
        worst = (1 + np.abs(x)) * (1 + 1 / np.abs(predictions.determinant(kind, c))) * (1 + np.abs(expected))
        assert np.max(np.abs(getattr(both, name) - expected) / worst) < 1e-10, name


def test_network_round_trip(x64: None) -> None:
    """A network that outputs its target F* gives back z and eps, and so the velocity and the score."""
    c = everywhere()
    z, eps, x = pairs(c)
    moments = Moments(jnp.array([0.4, -3.0, 1.0]), jnp.asarray(0.6))
    found = predictions.from_network(predictions.network_target(z, eps, c, moments), x, c, moments)
    np.testing.assert_allclose(found.data, z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.noise, eps, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.velocity, value("velocity", c, z, eps), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(found.score, value("score", c, z, eps), rtol=1e-9, atol=1e-8)


def test_network_round_trip_at_both_ends_in_float32() -> None:
    """At t = 0 and t = 1 themselves data and noise come back on every path, though other conversions are singular
    there.
    """
    z, eps = jnp.array([0.5, -2.0]), jnp.array([1.5, 0.25])
    moments = Moments(jnp.array([0.1, 0.2]), jnp.asarray(1.5))
    c = jax.tree.map(lambda part: part[:, None], on_every_path(np.array([0.0, 2.0**-24, 1 - 2.0**-24, 1.0])))
    found = predictions.from_network(
        predictions.network_target(z, eps, c, moments), c.alpha * z + c.beta * eps, c, moments
    )
    assert found.data.dtype == jnp.float32
    np.testing.assert_allclose(found.data, jnp.broadcast_to(z, found.data.shape), rtol=0, atol=2e-4)
    np.testing.assert_allclose(found.noise, jnp.broadcast_to(eps, found.data.shape), rtol=0, atol=2e-4)


def linear(function: object, c: Coefficients) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of an affine function of (z, eps) under z ~ (MEAN, STD^2), eps ~ (0, 1), and its two
    slopes, each (n,).
    """
    zero = jnp.zeros(c.alpha.shape)
    at = [np.asarray(function(zero + z, zero + eps))[:, 0] for z, eps in ((MEAN, 0), (MEAN + 1, 0), (MEAN, 1))]  # type: ignore
    return at[0], at[1] - at[0], at[2] - at[0]


def test_preconditioned_input_and_target_are_white(x64: None) -> None:
    """Input and target have mean 0, variance 1 and no correlation at every t, computed from their
    linear coefficients.
    """
    c = everywhere()
    seen = linear(lambda z, eps: predictions.network_input(c.alpha * z + c.beta * eps, c, MOMENTS), c)
    wanted = linear(lambda z, eps: predictions.network_target(z, eps, c, MOMENTS), c)
    for mean, by_z, by_eps in (seen, wanted):
        np.testing.assert_allclose(mean, 0, atol=1e-13)
        np.testing.assert_allclose((STD * by_z) ** 2 + by_eps**2, 1, rtol=1e-11)
    np.testing.assert_allclose(STD**2 * seen[1] * wanted[1] + seen[2] * wanted[2], 0, atol=1e-11)


@every_kind
def test_output_scale_is_the_residual_of_linear_regression(x64: None, kind: PredictionType) -> None:
    """|c_out| is the std of y that regression on x_t leaves: the Schur complement of their joint covariance."""
    c = everywhere()
    _, x_z, x_eps = linear(lambda z, eps: c.alpha * z + c.beta * eps, c)
    _, y_z, y_eps = linear(lambda z, eps: value(kind, c, z, eps), c)
    slopes = np.stack([np.stack([x_z, x_eps], -1), np.stack([y_z, y_eps], -1)], -2) * [STD, 1]
    joint = slopes @ slopes.transpose(0, 2, 1)
    residual = np.sqrt(np.linalg.det(joint) / joint[:, 0, 0])
    np.testing.assert_allclose(predictions.output_scale(kind, c, MOMENTS)[:, 0], residual, rtol=1e-5)


@every_kind
def test_a_silent_network_is_linear_regression(x64: None, kind: PredictionType) -> None:
    """With output 0 each prediction is the best linear one: its error is uncorrelated with x_t and has |c_out| for its
    std.
    """
    if kind == "v":
        return  # not among the four of a Prediction
    c = everywhere()

    def error(z: Array, eps: Array) -> Array:
        x = c.alpha * z + c.beta * eps
        return getattr(predictions.from_network(0 * x, x, c, MOMENTS), kind) - value(kind, c, z, eps)

    mean, by_z, by_eps = linear(error, c)
    scale = np.asarray(predictions.output_scale(kind, c, MOMENTS))[:, 0]
    alpha, beta = np.asarray(c.alpha)[:, 0], np.asarray(c.beta)[:, 0]
    std = np.sqrt((STD * alpha) ** 2 + beta**2)
    size = 1 + sum(np.abs(np.asarray(part))[:, 0] for part in predictions.row(kind, c))
    np.testing.assert_allclose(mean / size, 0, atol=1e-11)
    np.testing.assert_allclose((STD**2 * by_z * alpha + by_eps * beta) / (std * size), 0, atol=1e-10)
    np.testing.assert_allclose(np.sqrt((STD * by_z) ** 2 + by_eps**2) / size, scale / size, rtol=0, atol=1e-10)
