"""Multistep methods: the weights against quadrature, published coefficients, and fewer values where steps widen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import lagrange
from scipy.optimize import brentq

from diffsde.datasets.mixture import Ring
from diffsde.fields import OracleField
from diffsde.paths import OT, VP, GaussianPath, coefficients, log_snr
from diffsde.samplers import SAMPLERS, Sampler, simulate_compiled, times
from diffsde.samplers.deis import DEIS3
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.multistep import Memory
from diffsde.samplers.ode import RK4
from diffsde.samplers.step_moments import rising_moments
from diffsde.samplers.unipc import UniPC
from diffsde.types import Array

LAW = Ring().mixture()
FIELD = OracleField(VP(), LAW, (2,))
X: Any = np.array([0.4, -0.3])  # double where a test is; so is what a test makes of them
OLD: Any = np.array([[1.0, 0.2], [-0.5, 0.7]])


def rho(path: GaussianPath, t: float) -> float:
    return float(path.beta(t) / path.alpha(t))


PLACE = {"t": lambda t: t, "rho": lambda t: rho(VP(), t), "log_rho": lambda t: np.log(rho(VP(), t))}


@pytest.mark.parametrize("variable", PLACE)
def test_deis_integrates_the_polynomial_in_its_variable(variable: str, x64: None) -> None:
    """x'/alpha' = x/alpha + sum of eps_j times the integral of the Lagrange polynomial of time j, by scipy."""
    path, place, known = VP(), PLACE[variable], [0.6, 0.53, 0.48]
    t, end = known[0], 0.66
    step = DEIS3(variable).step(FIELD, Memory(X, OLD, jnp.array(known[1:]), jnp.array(2)), t, end - t, None)
    values = [FIELD.noise(X, t), *OLD]
    slope = jax.jit(jax.grad(lambda r: path.beta(r) / path.alpha(r)))
    y = X / path.alpha(t)
    for j in range(3):
        basis = lagrange([place(r) for r in known], np.eye(3)[j])
        y += values[j] * quad(lambda r, basis=basis: float(basis(place(r)) * slope(r)), t, end, epsabs=1e-12)[0]
    np.testing.assert_allclose(step.x, path.alpha(end) * y, rtol=1e-8)


@pytest.mark.parametrize(("t", "end"), [(0.0, 0.1), (0.3, 0.6), (0.9, 1.0)])
def test_moments_of_a_step_with_alpha_or_beta_zero(t: float, end: float, x64: None) -> None:
    """On ot kappa = r/(1 - r) and dkappa = dr/(1 - r)^2; over kappa at the end, and in the limit of end = 1: 1, h and h^2."""
    h = end - t
    if end == 1:
        wanted = [1.0, h, h**2]
    else:
        wanted = [quad(lambda r, i=i: (r - t) ** i / (1 - r) ** 2, t, end)[0] * (1 - end) / end for i in range(3)]
    np.testing.assert_allclose(np.array(rising_moments(OT(), t, h)), np.array(wanted), rtol=1e-9)


@pytest.mark.parametrize("coefficients_", ["bh1", "bh2"])
def test_the_published_weights_of_unipc(coefficients_: str, x64: None) -> None:
    """2302.04867, algorithms 1 and 2 at order 1 and 2: one difference is weighed by B(h)/2, B1 = h, B2 = 1 - e^-h."""
    path, sampler, (t0, t1, t2) = VP(), UniPC(coefficients_), (0.4, 0.47, 0.55)
    first = sampler.step(FIELD, sampler.start(X), t0, t1 - t0, None)
    second = sampler.step(FIELD, first, t1, t2 - t1, None)
    widths = [float(log_snr(path, b) - log_snr(path, a)) for a, b in ((t0, t1), (t1, t2))]
    b1, b2 = (h if coefficients_ == "bh1" else -np.expm1(-h) for h in widths)
    d0, d1 = FIELD.data(X, t0), FIELD.data(first.memory.x, t1)
    c0, c1, c2 = (coefficients(path, t) for t in (t0, t1, t2))
    again = c1.beta / c0.beta * X + c1.alpha * (-np.expm1(-widths[0]) * d0 + b1 / 2 * (d1 - d0))
    following = -np.expm1(-widths[1]) * d1 + b2 / 2 * widths[1] / widths[0] * (d1 - d0)
    np.testing.assert_allclose(second.memory.x, c2.beta / c1.beta * again + c2.alpha * following, rtol=1e-10)


@pytest.mark.parametrize(("name", "over"), [("deis3", 1.5), ("dpmpp_3m", 3.0), ("unipc", 3.0)])
def test_a_step_much_wider_than_the_last_uses_fewer_values(name: str, over: float, x64: None) -> None:
    """The ratio in t (deis3, on vp) or lambda just below and above the limit: above it the oldest value, for the others any, is
    without effect.
    """
    path, sampler, t = VP(), SAMPLERS[name](), 0.5
    place = (lambda r: r) if name == "deis3" else lambda r: float(log_snr(path, r))

    def effect(ratio: float) -> float:
        end = brentq(lambda r: place(r) - place(t) - ratio * (place(t) - place(0.49)), t, 0.999)
        moved = []
        for shift in (0.0, 1.0):
            values = OLD + np.array([[0.0], [shift]]) if name == "deis3" else OLD + np.array([[shift], [0.0]])
            memory = Memory(X, values, jnp.array([0.49, 0.48]), jnp.array(2))
            if isinstance(sampler, UniPC):
                return abs(float(sampler.predictor(path, memory, t, end - t)))
            moved.append(sampler.step(FIELD, memory, t, end - t, None).x)
        return float(jnp.abs(moved[1] - moved[0]).max())

    assert effect(0.99 * over) > 1e-4
    assert effect(1.01 * over) == 0


def error(sampler: Sampler, steps: int) -> float:
    """rms distance from the exact map on ot, uniform steps from t = 0.001 to 0.999, 200 points."""
    field, grid = OracleField(OT(), LAW, (2,)), UniformGrid(0.001, 0.999)
    x = jax.random.normal(jax.random.key(0), (200, 2))

    def end(sampler: Sampler, steps: int) -> Array:
        at = jnp.pad(times(grid, steps, OT()), (0, 1000 - steps))
        return simulate_compiled(sampler, field, x, at, jax.random.key(0), steps=jnp.asarray(steps)).x

    return float(jnp.sqrt(jnp.mean(jnp.sum((end(sampler, steps) - end(RK4(), 1000)) ** 2, axis=-1))))


@pytest.mark.parametrize(("third", "second"), [("deis3", "deis2"), ("dpmpp_3m", "dpmpp_2m"), ("unipc", "dpmpp_2m")])
def test_order_three_is_no_worse_than_order_two_in_few_steps(third: str, second: str) -> None:
    """On even steps of ot, which are the most uneven in rho and lambda."""
    for steps in (5, 10):
        assert error(SAMPLERS[third](), steps) < error(SAMPLERS[second](), steps)
