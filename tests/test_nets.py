"""The pieces that networks are made of, against closed forms."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from diffsde.nets.layers import ACTIVATIONS, fourier_features, product, time_features
from diffsde.nets.mlp import MLP


@pytest.mark.parametrize("count", [0, 1, 8, 32])
def test_harmonics_are_cosines_and_sines(count: int) -> None:
    """cos(k x) and sin(k x), k slow, coordinates fast; the recurrence loses no more than a few last bits a step."""
    x = jnp.array([-3.0, 0.0, 0.1, 2.5])
    angles = np.outer(np.arange(1, count + 1), np.asarray(x, np.float64)).ravel()
    expected = np.concatenate([np.cos(angles), np.sin(angles)])
    np.testing.assert_allclose(fourier_features(x, count), expected, atol=3e-7 * max(count, 1))


def test_features_of_time() -> None:
    """Half turns over [0, 1], at every whole multiple: at t = 1/3 cosines and sines of 60, 120, 180 degrees; none is t itself."""
    root = math.sqrt(3) / 2
    np.testing.assert_allclose(time_features(1 / 3, 3, jnp.float32), [0.5, -0.5, -1, root, root, 0], atol=1e-6)
    np.testing.assert_array_equal(time_features(0.25, 0, jnp.float32), [0.25])


def test_silu_is_x_times_the_sigmoid() -> None:
    """At any size, without overflow."""
    x = np.array([-200.0, -20.0, -1.0, 0.0, 0.5, 30.0, 200.0])
    np.testing.assert_allclose(ACTIVATIONS["silu"](jnp.asarray(x)), x / (1 + np.exp(-x)), rtol=1e-6, atol=1e-6)


def test_products_derivatives_are_those_of_a_product(x64: None) -> None:
    """First and second derivatives, forward and reverse, under vmap over points as in training."""
    key_h, key_kernel = jax.random.split(jax.random.key(0))
    h, kernel = jax.random.normal(key_h, (5, 3)), jax.random.normal(key_kernel, (3, 4))

    def many(h: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sin(jax.vmap(product, in_axes=(0, None))(h, kernel))

    np.testing.assert_allclose(many(h, kernel), np.sin(np.asarray(h) @ np.asarray(kernel)), atol=1e-14)
    check_grads(many, (h, kernel), order=2, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)


def test_the_mlp_is_its_layers() -> None:
    """The network written out in numpy, tanh between: of raw x and t alone, and with the features of both beside them."""
    x, t = np.array([0.3, -0.8]), 0.4
    of_x = [np.cos(x), np.cos(2 * x), np.cos(3 * x), np.sin(x), np.sin(2 * x), np.sin(3 * x)]
    of_t = [np.cos(np.pi * t), np.cos(2 * np.pi * t), np.sin(np.pi * t), np.sin(2 * np.pi * t)]
    for space, time, seen in ((0, 0, [*x, t]), (3, 2, np.concatenate([x, *of_x, of_t]))):
        net = MLP((5, 4), activation="tanh", time_frequencies=time, space_frequencies=space).make(
            (2,), nnx.Rngs(0), "float32", 0
        )
        h = np.asarray(seen)
        for i, layer in enumerate(net.layers):
            h = (np.tanh(h) if i else h) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
        np.testing.assert_allclose(net(jnp.asarray(x), t), h, rtol=1e-5, atol=1e-6)


def test_a_fresh_gated_skip_adds_nothing_and_then_what_its_formula_says() -> None:
    """U (g * V x): 0 at first, since g = 0; with U = A, V = A^T and g = f in the gate's bias it is A diag(f) A^T x."""
    shape, x, t = (3,), jnp.array([0.3, -0.8, 1.1]), 0.4
    plain = MLP((5, 4)).make(shape, nnx.Rngs(0), "float32", 0)
    net = MLP((5, 4), gated_skip=3).make(shape, nnx.Rngs(0), "float32", 0)
    net.layers = plain.layers
    np.testing.assert_array_equal(net(x, t), plain(x, t))
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    gains = np.array([0.5, -1.0, 2.0])
    net.skip_in.kernel[...], net.skip_out.kernel[...] = jnp.asarray(axes), jnp.asarray(axes.T)  # x @ kernel
    net.gate.bias[...] = jnp.asarray(gains)
    added = axes @ np.diag(gains) @ axes.T @ np.asarray(x)
    np.testing.assert_allclose(net(x, t) - plain(x, t), added, rtol=2e-5, atol=2e-6)


def test_a_gated_skip_opens_with_the_hidden_layer() -> None:
    """g is linear in the last hidden layer after its activation: of one unit tanh(1 . x), g = 3 tanh(x_0 + x_1)."""
    net = MLP((1,), activation="tanh", time_frequencies=0, space_frequencies=0, gated_skip=2).make(
        (2,), nnx.Rngs(0), "float32", 0
    )
    first, last = net.layers
    first.kernel[...], last.kernel[...] = jnp.array([[1.0], [1.0], [0.0]]), jnp.zeros((1, 2))
    net.gate.kernel[...] = jnp.full((1, 2), 3.0)
    x = jnp.array([0.3, -0.9])
    np.testing.assert_allclose(net(x, 0.7), 3 * np.tanh(-0.6) * np.asarray(x), rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_gated_skip_of_another_rank(rank: int) -> None:
    """U (d, r) and V (r, d): 2 d r + r + d numbers, and the gate's; nothing at first."""
    plain, net = (MLP((5,), gated_skip=r).make((3,), nnx.Rngs(0), "float32", 0) for r in (0, rank))
    net.layers = plain.layers
    x = jnp.array([0.3, -0.8, 1.1])
    np.testing.assert_array_equal(net(x, 0.4), plain(x, 0.4))
    net.gate.bias[...] = jnp.ones(rank)
    added = np.asarray(x) @ np.asarray(net.skip_in.kernel[...]) @ np.asarray(net.skip_out.kernel[...])
    np.testing.assert_allclose(net(x, 0.4) - plain(x, 0.4), added, rtol=1e-5, atol=1e-6)
    assert np.linalg.matrix_rank(np.asarray(net.skip_in.kernel[...])) == min(rank, 3)
