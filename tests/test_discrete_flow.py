"""Coupling flows and the densities that they make, against Jacobians, integrals and closed forms, in float64."""

from __future__ import annotations

import dataclasses
import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.discrete_flow import DiscreteFlow, log_probs, samples
from diffsde.errors import UserError
from diffsde.nets import CouplingNet, RealNVP, Spline, initialise, structure
from diffsde.nets.coupling_flow import halves
from diffsde.nets.spline import LEAST, knots_of
from diffsde.types import Moments

NETS: dict[str, CouplingNet] = {
    "realnvp": RealNVP(layers=3, widths=(8,), activation="tanh"),
    "spline": Spline(layers=2, widths=(8,), activation="tanh", bins=5),
}
CASES = [
    ("realnvp", (5,)),
    ("spline", (1,)),
    pytest.param("spline", (3, 2, 1), marks=pytest.mark.slow),
]  # of images, too


def flow_of(net: CouplingNet, shape: tuple[int, ...], noise: float, classes: int = 0) -> DiscreteFlow:
    """A flow whose parameters are its first ones with noise of this std, of data of mean 3 and std 7."""
    graph, _ = structure(net, shape, "float64", classes)
    params = initialise(net, shape, jax.random.key(0), classes)
    params = {
        name: value.astype(float) + noise * jax.random.normal(jax.random.key(i), value.shape, float)
        for i, (name, value) in enumerate(sorted(params.items()))
    }
    return DiscreteFlow(params, Moments(jnp.full(shape, 3.0), jnp.asarray(7.0)), graph, classes)


@cache
def programs(shape: tuple[int, ...]) -> Any:
    """Of a flow and points (n, *shape): images, log-determinants, the points back from them, and the Jacobians (n, d, d)."""

    def jacobian(flow: DiscreteFlow, x: jax.Array) -> jax.Array:
        return jax.jacfwd(lambda flat: flow.forward(flat.reshape(shape))[0].ravel())(x.ravel())

    @jax.jit
    def all_of(flow: DiscreteFlow, x: jax.Array) -> Any:
        z, log_det = jax.vmap(flow.forward)(x)
        return z, log_det, jax.vmap(flow.backward)(z), jax.vmap(partial(jacobian, flow))(x), log_probs(flow, x, None)

    return all_of


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_inverse_and_the_determinant_are_those_of_the_map(name: str, shape: tuple[int, ...], x64: None) -> None:
    """Back and forth to rounding, for points in the tails too; log |det| by LU of the Jacobian, and log p by the change of
    variables with that; every Jacobian's determinant is positive.
    """
    x = 3 + 7 * 1.5 * jax.random.normal(jax.random.key(9), (50, *shape))
    flow = flow_of(NETS[name], shape, 0.6)
    z, log_det, back, jacobians, log_p = map(np.asarray, programs(shape)(flow, x))
    assert np.abs(z - (x - 3) / 7).max() > 0.3  # it moves points
    np.testing.assert_allclose(back, x, atol=1e-10)
    sign, exact = np.linalg.slogdet(jacobians)
    assert (sign == 1).all()
    np.testing.assert_allclose(log_det, exact, atol=1e-10)
    square = (z.reshape(len(z), -1) ** 2).sum(axis=1)
    d = math.prod(shape)
    np.testing.assert_allclose(log_p, exact - square / 2 - d / 2 * math.log(2 * math.pi), atol=1e-10)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_untrained_flow_is_the_gaussian_of_the_datas_moments(name: str, shape: tuple[int, ...], x64: None) -> None:
    x = 3 + 7 * jax.random.normal(jax.random.key(9), (50, *shape))
    log_p = programs(shape)(flow_of(NETS[name], shape, 0.0), x)[4]
    square, d = (((x - 3) / 7) ** 2).reshape(50, -1).sum(axis=1), math.prod(shape)
    gaussian = -square / 2 - d * math.log(7 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(log_p, gaussian, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_the_density_integrates_to_1_and_samples_follow_it(name: str, x64: None) -> None:
    """Over a grid in the plane to 1e-4; E log p and both means over samples are those of the grid, within their errors."""
    flow = flow_of(NETS[name], (2,), 0.8)
    side = 3 + 7 * np.linspace(-9, 9, 450)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    log_p = np.asarray(log_probs(flow, jnp.asarray(grid), None))
    weight = np.exp(log_p) * (side[1] - side[0]) ** 2
    assert abs(weight.sum() - 1) < 1e-4
    untrained = -(((grid - 3) / 7) ** 2).sum(axis=1) / 2 - math.log(2 * math.pi * 49)
    assert weight @ (log_p - untrained) > 0.1  # KL from the density of an untrained flow: it is another
    drawn = samples(flow, jax.random.key(1), None, 20_000)
    values = np.column_stack([drawn, log_probs(flow, drawn, None)])
    error = values.std(axis=0) / math.sqrt(len(values))
    found = (values.mean(axis=0) - np.append(weight @ grid, weight @ log_p)) / error
    assert np.abs(found).max() < 4
    np.testing.assert_allclose(samples(flow, jax.random.key(1), None, 3), drawn[:3], atol=1e-12)


def test_a_label_has_a_density_of_its_own(x64: None) -> None:
    """As many as there are labels and one without; no label is the label `classes`. An unconditional flow takes none."""
    x, flow = jnp.array([[1.0, 5.0]]), flow_of(NETS["realnvp"], (2,), 0.4, classes=2)
    each = np.asarray(log_probs(flow, jnp.repeat(x, 3, axis=0), jnp.arange(3))).tolist()
    assert len({round(value, 6) for value in each}) == 3
    assert float(log_probs(flow, x, None)[0]) == pytest.approx(each[2], abs=1e-12)
    with pytest.raises(TypeError, match="unconditional"):
        dataclasses.replace(flow, classes=0).bind(0)


def test_splines_are_monotone_through_their_knots_and_the_identity_beyond(x64: None) -> None:
    """At each knot value and slope are the knot's; the slope is the derivative; outside [-bound, bound] nothing moves."""
    net = Spline(bins=6, bound=2.5)
    theta = 1.5 * jax.random.normal(jax.random.key(3), (50, net.numbers))
    knots = jax.vmap(lambda theta: knots_of(theta, net.bins, net.bound))(theta)
    assert (np.diff(knots.x) >= 2 * net.bound * LEAST - 1e-12).all() and (np.diff(knots.y) > 0).all()
    each = jax.jit(jax.vmap(jax.vmap(net.forward, (0, None)), (0, 0)))
    inner = knots.x[:, 1:-1]
    value, log_slope = each(inner, theta)
    np.testing.assert_allclose(value, knots.y[:, 1:-1], atol=1e-12)
    np.testing.assert_allclose(np.exp(log_slope), knots.slope[:, 1:-1], rtol=1e-9)
    x = jnp.broadcast_to(jnp.linspace(-4, 4, 401), (50, 401))
    value, log_slope = each(x, theta)
    derivative = jax.jit(jax.vmap(jax.vmap(jax.grad(lambda b, theta: net.forward(b, theta)[0]), (0, None)), (0, 0)))
    np.testing.assert_allclose(np.exp(log_slope), derivative(x, theta), rtol=1e-9)
    assert (np.diff(value, axis=1) > 0).all()
    beyond = np.abs(np.asarray(x)) >= net.bound
    np.testing.assert_array_equal(np.asarray(value)[beyond], np.asarray(x)[beyond])
    np.testing.assert_array_equal(np.asarray(log_slope)[beyond], 0)
    np.testing.assert_allclose(each(x, jnp.zeros_like(theta))[0], x, atol=1e-12)


def test_two_layers_move_every_coordinate_by_others() -> None:
    for size in range(2, 9):
        for layer in range(0, 8, 2):
            (kept, moved), (kept_next, moved_next) = halves(layer, size), halves(layer + 1, size)
            assert sorted([*kept, *moved]) == sorted([*moved, *moved_next]) == list(range(size))
            assert list(kept) == list(moved_next) and list(moved) == list(kept_next)
    assert any(list(halves(0, 8)[0]) != list(halves(layer, 8)[0]) for layer in (2, 4, 6))


def test_realnvp_on_a_line_is_refused() -> None:
    """Where there is nothing to move a coordinate by, it would be a Gaussian for ever."""
    with pytest.raises(UserError, match="net=spline"):
        structure(RealNVP(), (1,))
