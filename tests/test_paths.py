"""Paths: reference values, monotone signal-to-noise, regularity at the ends in float32, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REFERENCE, double_precision, known

from diffsde.build import check
from diffsde.errors import UserError
from diffsde.expressions import evaluate_expression
from diffsde.paths import (
    EDM,
    GAUSSIAN,
    OT,
    PATHS,
    VE,
    VP,
    Cosine,
    Expression,
    GaussianPath,
    Sqrt,
    SubVP,
    Trig,
    coefficients,
    written,
)

NAMED = [name for name in GAUSSIAN if name != "expression"]
TO_ZERO = [name for name in NAMED if float(PATHS[name]().beta(1.0)) < 1e-3]  # beta(1) = 0; of ve and edm 0.01 and 0.002
REFERENCED = sorted({case["path"] for case in json.loads(REFERENCE.read_text())["cases"]})
INSIDE = np.linspace(0.01, 0.99, 99)


@pytest.mark.parametrize("name", REFERENCED)
def test_reference_coefficients(x64: None, reference: list[dict[str, Any]], name: str) -> None:
    """alpha, beta and their derivatives agree with values computed elsewhere with 50 digits."""
    cases = [case for case in reference if case["path"] == name]
    assert len(cases) == 21
    c = known(PATHS[name](), np.array([case["t"] for case in cases]))[0]
    for ours, theirs in (("alpha", "alpha"), ("beta", "beta"), ("dalpha", "alpha_dot"), ("dbeta", "beta_dot")):
        expected = [case[theirs] for case in cases]
        np.testing.assert_allclose(getattr(c, ours), expected, rtol=1e-12, atol=0, err_msg=ours)


@pytest.mark.parametrize("name", NAMED)
def test_a_path_is_what_its_formula_says(x64: None, name: str) -> None:
    """`formula`, which `explain` prints with the path's numbers to 6 digits, is alpha and beta."""
    path = PATHS[name]()
    c = known(path, INSIDE)[0]
    alpha, beta = written(path)
    np.testing.assert_allclose(evaluate_expression(alpha, {"t": INSIDE}) * np.ones(99), c.alpha, rtol=1e-5)
    np.testing.assert_allclose(evaluate_expression(beta, {"t": INSIDE, "alpha": c.alpha}), c.beta, rtol=1e-5)


def test_signal_to_noise_increases_strictly(x64: None, path: GaussianPath) -> None:
    """alpha/beta increases at every step of a fine grid, and its derivative (dalpha beta - alpha dbeta)/beta^2 is
    positive.
    """
    c, log_ratio, _ = known(path, np.linspace(0, 1, 102)[1:-1])
    assert np.all(np.diff(log_ratio) > 0)
    assert np.all(c.dalpha * c.beta - c.alpha * c.dbeta > 0)


def test_log_snr_is_the_log_of_the_ratio(x64: None, path: GaussianPath) -> None:
    """exp(log_snr) beta = alpha."""
    c, log_ratio, _ = known(path, INSIDE)
    np.testing.assert_allclose(np.exp(log_ratio) * c.beta, c.alpha, rtol=1e-12)


def test_derivatives_integrate_to_the_coefficients(x64: None, path: GaussianPath) -> None:
    """The integrals of dalpha, dbeta and 2 beta_dbeta over [0.1, 0.9] are the changes of alpha, beta and beta^2."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    inner = known(path, 0.5 + 0.4 * nodes)[0]
    ends = known(path, np.array([0.1, 0.9]))[0]
    weights = 0.4 * weights
    assert weights @ inner.dalpha == pytest.approx(np.diff(ends.alpha)[0], rel=1e-10, abs=1e-12)
    assert weights @ inner.dbeta == pytest.approx(np.diff(ends.beta)[0], rel=1e-10)
    assert 2 * weights @ inner.beta_dbeta == pytest.approx(np.diff(ends.beta**2)[0], rel=1e-10)


def test_variance_and_beta_dbeta_belong_to_beta(x64: None, path: GaussianPath) -> None:
    """variance = beta^2 and beta_dbeta = beta dbeta, though each is written on its own."""
    c, _, variance = known(path, INSIDE)
    np.testing.assert_allclose(variance, c.beta**2, rtol=1e-12)
    np.testing.assert_allclose(c.beta_dbeta, c.beta * c.dbeta, rtol=1e-10)


@pytest.mark.parametrize("name", ["trig", "cosine", "vp"])
def test_variance_preserving(x64: None, name: str) -> None:
    """alpha^2 + beta^2 = 1 from end to end."""
    c = known(PATHS[name](), np.linspace(0, 1, 99))[0]
    np.testing.assert_allclose(c.alpha**2 + c.beta**2, 1, rtol=1e-14)


@pytest.mark.parametrize("name", ["ve", "edm"])
def test_variance_exploding_ends(x64: None, name: str) -> None:
    """alpha = 1 and beta runs from noise_max to noise_min."""
    path = PATHS[name]()
    c = known(path, np.array([0.0, 0.4, 1.0]))[0]
    np.testing.assert_allclose(c.alpha, 1, rtol=0)
    np.testing.assert_allclose(c.beta[np.array([0, 2])], [path.noise_max, path.noise_min], rtol=1e-12)  # type: ignore


@pytest.mark.parametrize("name", TO_ZERO)
def test_data_end(x64: None, name: str) -> None:
    """alpha(1) = 1 and beta(1) = 0 exactly: x_1 is data."""
    c = coefficients(PATHS[name](), 1.0)
    assert float(c.alpha) == pytest.approx(1, rel=1e-15)
    assert float(c.beta) == 0


SLOPES = {  # (beta^2)'/2 at t = 1 from the definitions: -rate(0)/2 for vp; -(pi/2)/(1+s) tan(pi/2 s/(1+s)) for cosine
    "sqrt": (Sqrt(), -0.5),
    "vp": (VP(), -0.05),
    "vp-steep": (VP(rate_min=3.0, rate_max=9.0), -1.5),
    "cosine": (Cosine(), -(math.pi / 2 / 1.008) * math.tan(math.pi / 2 * 0.008 / 1.008)),
}


@pytest.mark.parametrize("name", list(SLOPES))
def test_beta_dbeta_is_finite_where_dbeta_diverges(name: str) -> None:
    """In float32 at t = 1: dbeta is infinite (or undefined), beta_dbeta its exact finite limit."""
    path, slope = SLOPES[name]
    c = coefficients(path, jnp.float32(1))
    assert c.beta_dbeta.dtype == jnp.float32
    assert not np.isfinite(c.dbeta)
    assert float(c.beta_dbeta) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("name", TO_ZERO)
def test_beta_keeps_its_digits_in_float32(name: str) -> None:
    """Up to the last float32 before t = 1, beta is positive and has float32's relative accuracy."""
    path = PATHS[name]()
    times = 1 - 2.0 ** -np.arange(1, 25)
    single = known(path, times)[0]
    with double_precision():
        double = known(path, times)[0]
    assert single.beta.dtype == np.float32 and double.beta.dtype == np.float64
    assert np.all(np.asarray(single.beta) > 0)
    for name in ("alpha", "beta", "beta_dbeta"):
        np.testing.assert_allclose(getattr(single, name), getattr(double, name), rtol=3e-6, err_msg=name)


TWINS = {
    "ot": (OT(), Expression(alpha_t="t", beta_t="1-t")),
    "trig": (Trig(), Expression(alpha_t="sin(pi*t/2)", beta_t="cos(pi*t/2)")),
    "sqrt": (Sqrt(), Expression(alpha_t="t", variance_t="1-t")),
    "ve": (VE(), Expression(alpha_t="1", beta_t="0.01*5000**(1-t)")),
    "subvp": (
        SubVP(),
        Expression(alpha_t="exp(-(0.1*(1-t)+9.95*(1-t)**2)/2)", beta_t="-expm1(-(0.1*(1-t)+9.95*(1-t)**2))"),
    ),
}


@pytest.mark.parametrize("name", list(TWINS))
def test_expressions_equal_their_built_in_twins(x64: None, name: str) -> None:
    """An expression path has its twin's values and derivatives, and passes its own check."""
    built_in, expression = TWINS[name]
    check(expression)
    for ours, theirs in zip(known(expression, INSIDE)[0], known(built_in, INSIDE)[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_variance_expression_is_regular_at_the_data_end() -> None:
    """Given as variance_t, a root keeps its finite (beta^2)' at t = 1 in float32."""
    assert float(coefficients(TWINS["sqrt"][1], 1.0).beta_dbeta) == -0.5


def test_checks_accept_every_path(path: GaussianPath) -> None:
    """What the table offers passes its own check."""
    if check := getattr(path, "check", None):
        check()


REFUSED = {
    "cosine offset": (Cosine(offset=-0.01), "offset is -0.01"),
    "vp zero": (VP(rate_min=0.0), "rate_min is 0.0"),
    "vp negative": (VP(rate_min=-1.0), "rate_min is -1.0"),
    "vp order": (VP(rate_min=2.0, rate_max=1.0), "rate_max=1.0"),
    "subvp order": (SubVP(rate_min=2.0, rate_max=1.0), "rate_max=1.0"),
    "ve zero": (VE(noise_min=0.0), "noise_min is 0.0"),
    "ve equal": (VE(noise_min=1.0, noise_max=1.0), "noise_max=1.0"),
    "edm order": (EDM(noise_min=2.0, noise_max=1.0), "noise_max=1.0"),
    "edm rho": (EDM(rho=0.0), "rho is 0.0"),
    "edm negative rho": (EDM(rho=-7.0), "rho is -7.0"),
    "neither": (Expression(), "one of beta_t and variance_t"),
    "both": (Expression(beta_t="1-t", variance_t="(1-t)**2"), "one of beta_t and variance_t"),
    "reversed time": (Expression(alpha_t="1-t", beta_t="t"), "does not increase"),
    "constant": (Expression(alpha_t="0.5", beta_t="0.5"), "does not increase"),
    "hump": (Expression(alpha_t="sin(pi*t)", beta_t="1"), r"does not increase at t=0\.(49|50)"),
    "negative beta": (Expression(alpha_t="t", beta_t="0.5-t"), "beta is -0.001 at t=0.501"),
    "negative alpha": (Expression(alpha_t="t-0.5", beta_t="1-t"), "alpha is -0.5 at t=0.000"),
    "infinite": (Expression(alpha_t="t", beta_t="1/t-1"), "beta is inf at t=0.000"),
    "undefined": (Expression(alpha_t="t", variance_t="0.25-t"), "beta is nan at t=0.251"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_checks_refuse_bad_numbers(name: str) -> None:
    """A path that cannot be is refused, with its own number in the message."""
    path, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        check(path)


def test_checks_refuse_what_is_no_expression() -> None:
    """An expression that cannot be read is the user's to mend."""
    with pytest.raises(UserError, match="u"):
        check(Expression(alpha_t="u", beta_t="1-t"))


@pytest.mark.parametrize(
    ("alpha_t", "beta_t"), [("t", "(1-t)**3"), ("t", "(1-t)**4"), ("t", "1e-5*(1-t)**2"), ("1", "1-t**3")]
)
def test_checks_accept_a_beta_that_vanishes_fast(alpha_t: str, beta_t: str) -> None:
    """alpha/beta increases however fast beta vanishes or slowly it begins: the check may not lose it to rounding."""
    check(Expression(alpha_t=alpha_t, beta_t=beta_t))
