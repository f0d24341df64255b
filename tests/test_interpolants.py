"""Between two laws: paths with gamma and the exact field between mixtures, against values computed elsewhere with 50 digits."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures, predictions
from diffsde.build import check
from diffsde.errors import UserError
from diffsde.expressions import evaluate_expression, evaluate_square
from diffsde.interpolants import Backward, OracleInterpolant
from diffsde.paths import ICFM, OT, PATHS, VE, Bridge, GaussianPath, Interpolant, check_ends, coefficients, written

CASES = json.loads((Path(__file__).parent / "data" / "bridges.json").read_text())["interpolants"]
BETWEEN: dict[str, GaussianPath] = {
    "linear": OT(),
    "brownian_1": Bridge(1.0),
    "brownian_0.5": Bridge(0.5),
    "trig_bump": Interpolant("sin(pi*t/2)", "cos(pi*t/2)", "0.3*sin(pi*t)"),
}
WIDENED = {name: PATHS[name]() for name in PATHS if PATHS[name]().has_gamma}


def law(components: list[dict[str, Any]]) -> mixtures.Mixture:
    means, covariances, weights = (
        jnp.asarray([each[key] for each in components]) for key in ("mean", "covariance", "weight")
    )
    return mixtures.with_covariances(means, covariances, weights)


@partial(jax.jit, static_argnames="shape")
def everything(path: GaussianPath, source: Any, data: Any, shape: tuple[int, ...], x: Any, t: Any) -> Any:
    field = OracleInterpolant(path, source, data, shape)
    return coefficients(path, t), field.output(x, t), field.log_prob(x, t)


@pytest.mark.parametrize("number", range(32))
def test_reference_interpolants(x64: None, number: int) -> None:
    case = CASES[number]
    path, shape = BETWEEN[case["path"]], (len(case["x"]),)
    source, data = law(case["source"]), law(case["data"])
    c, found, log_prob = everything(path, source, data, shape, jnp.asarray(case["x"]), jnp.asarray(case["t"]))
    for name, expected in case["coefficients"].items():
        np.testing.assert_allclose(getattr(c, name), expected, rtol=1e-12, atol=1e-15, err_msg=name)
    wanted = {"data": "expected_data", "source": "expected_source", "noise": "expected_noise"}
    for name in ("data", "source", "noise", "velocity", "score"):
        np.testing.assert_allclose(
            getattr(found, name), case[wanted.get(name, name)], rtol=1e-10, atol=1e-10, err_msg=name
        )
    assert float(log_prob) == pytest.approx(case["log_prob"], rel=1e-10)


def test_two_predictions_give_the_rest(x64: None) -> None:
    """From the drift E[dalpha z + dbeta y | x] and the score: the one solve gives what the exact field does."""
    case = next(case for case in CASES if case["path"] == "trig_bump" and len(case["x"]) == 2)
    x, c = jnp.asarray(case["x"]), coefficients(BETWEEN["trig_bump"], case["t"])
    exact = jax.jit(mixtures.predict_between)(law(case["source"]), law(case["data"]), x, c)
    assert exact.score is not None and exact.source is not None
    drift = c.dalpha * exact.data + c.dbeta * exact.source
    found = predictions.between(drift, exact.score, x, c)
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11)
    still = coefficients(OT(), 0.3)  # gamma = 0: the velocity alone gives both ends, and no score
    exact = jax.jit(mixtures.predict_between)(law(case["source"]), law(case["data"]), x, still)
    alone = predictions.between(exact.velocity, None, x, still)
    assert alone.score is None and not np.any(alone.noise)
    np.testing.assert_allclose(alone.data, exact.data, rtol=1e-11)
    np.testing.assert_allclose(alone.source, exact.source, rtol=1e-11)


@pytest.mark.parametrize("name", ["linear", "brownian_1", "trig_bump"])
def test_from_a_normal_source_it_is_a_gaussian_path(x64: None, name: str) -> None:
    """N(0, I) and independent: the law is that of the Gaussian path with beta^2 + gamma^2 (predictions.effective)."""
    data, x = law(CASES[0]["data"]), jnp.asarray([0.7])
    source = mixtures.Mixture(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones(1))
    c, between, _ = everything(BETWEEN[name], source, data, (1,), x, jnp.asarray(0.4))
    gaussian = jax.jit(mixtures.predict)(data, x, predictions.effective(c))
    for part in ("data", "velocity", "score"):
        np.testing.assert_allclose(getattr(between, part), getattr(gaussian, part), rtol=1e-12)


def test_points_of_the_interpolant_follow_its_law(x64: None) -> None:
    """Moments of alpha z + beta y + gamma eps, of drawn points, and those of the law `between`, with one density by two routes."""
    case = next(case for case in CASES if case["path"] == "brownian_1" and len(case["x"]) == 2)
    source, data, c = law(case["source"]), law(case["data"]), coefficients(Bridge(1.0), 0.3)
    keys = jax.random.split(jax.random.key(1), 3)
    n = 50_000

    @jax.jit
    def drawn() -> Any:
        z, y = mixtures.sample(data, keys[0], n), mixtures.sample(source, keys[1], n)
        mixture = mixtures.between(source, data, c)
        x = c.alpha * z + c.beta * y + c.gamma * jax.random.normal(keys[2], z.shape)
        densities = [jax.vmap(lambda x: mixtures.log_prob_between(source, data, x, c))(x[:5])]
        densities += [jax.vmap(partial(mixtures.log_prob, mixture))(x[:5])]
        return x, mixtures.moments(mixture), densities

    x, exact, (one, other) = jax.tree.map(np.asarray, drawn())
    np.testing.assert_allclose(x.mean(axis=0), exact.mean, atol=8 * exact.std / np.sqrt(n))
    assert np.sqrt(np.mean((x - x.mean(axis=0)) ** 2)) == pytest.approx(exact.std, rel=0.02)
    np.testing.assert_allclose(one, other, rtol=1e-10)


def test_time_turned_round(x64: None) -> None:
    """Backward: source and data change places, the velocity its sign; twice is the field itself."""
    case = next(case for case in CASES if case["path"] == "trig_bump" and len(case["x"]) == 2)
    field = OracleInterpolant(BETWEEN["trig_bump"], law(case["source"]), law(case["data"]), (2,))
    x, t = jnp.asarray(case["x"]), case["t"]
    swapped = OracleInterpolant(
        BETWEEN["trig_bump"], field.mixture, field.source, (2,)
    )  # sin(1-t) is cos, the bump symmetric
    turned, there = Backward(field).output(x, 1 - t), swapped.output(x, 1 - t)
    for name, ours, theirs in zip(turned._fields, turned, there, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, err_msg=name)
    for ours, theirs in zip(Backward(Backward(field)).output(x, t), field.output(x, t), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    turned_c, swapped_c = coefficients(Backward(field).path, 0.3), coefficients(swapped.path, 0.3)
    np.testing.assert_allclose(turned_c, swapped_c, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(WIDENED))
def test_a_path_with_gamma_is_what_its_formula_says(x64: None, name: str) -> None:
    path, t = WIDENED[name], np.linspace(0.01, 0.99, 33)
    c = jax.vmap(partial(coefficients, path))(jnp.asarray(t))
    for text, values in zip(written(path), (c.alpha, c.beta, c.gamma), strict=True):
        np.testing.assert_allclose(evaluate_expression(text, {"t": t}) * np.ones(33), values, rtol=1e-12)
    np.testing.assert_allclose(c.gamma_dgamma, c.gamma * c.dgamma, rtol=1e-10, atol=1e-14)
    check_ends(path)


@pytest.mark.parametrize(
    "path", [Bridge(2.0), Interpolant(gamma_t="2*sqrt(t*(1-t))"), Interpolant(gamma_t="(4*t*(1-t))**0.5")]
)
def test_gamma_dgamma_is_finite_where_dgamma_diverges(path: GaussianPath) -> None:
    """In float32 at both ends: (gamma^2)'/2 = sigma^2 (1/2 - t), with sigma 2."""
    for t, slope in ((0.0, 2.0), (1.0, -2.0)):
        c = coefficients(path, jnp.float32(t))
        assert not np.isfinite(c.dgamma) and float(c.gamma_dgamma) == slope


def test_squares_of_expressions(x64: None) -> None:
    for text in ("sqrt(t)*(1-t)/sqrt(2+t)", "-t**0.5", "3*t**2", "sqrt(t)+t", "sin(pi*t)"):
        value = float(evaluate_expression(text, {"t": 0.3}))
        assert float(evaluate_square(text, {"t": 0.3})) == pytest.approx(value**2, rel=1e-12)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (Interpolant(gamma_t="t-0.5"), "gamma is -0.5 at t=0.000; it must be >= 0"),
        (Interpolant(alpha_t="2*t"), r"alpha\(1\)=2 and beta\(1\)=0; between two laws they must be 1 and 0"),
        (Interpolant(beta_t="1+t", alpha_t="t"), "beta"),
        (Bridge(-1.0), "sigma is -1.0"),
        (ICFM(-0.1), "sigma is -0.1"),
    ],
    ids=str,
)
def test_paths_that_lead_nowhere_are_refused(path: GaussianPath, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(path)


def test_a_path_that_starts_from_data_is_none_between_two_laws() -> None:
    with pytest.raises(ValueError, match=r"alpha\(0\)=1"):
        check_ends(VE())
    for name in ("ot", "sqrt", "trig", "cosine", "vp", "subvp"):
        check_ends(PATHS[name]())
