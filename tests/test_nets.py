"""The pieces that networks are made of, against closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from diffsde.nets.layers import ACTIVATIONS, harmonics, product
from diffsde.nets.mlp import MLP


@pytest.mark.parametrize("count", [0, 1, 8, 32])
def test_harmonics_are_cosines_and_sines(count: int) -> None:
    """cos(k x) and sin(k x), k slow, coordinates fast; the recurrence loses no more than a few last bits a step."""
    x = jnp.array([-3.0, 0.0, 0.1, 2.5])
    angles = np.outer(np.arange(1, count + 1), np.asarray(x, np.float64)).ravel()
    expected = np.concatenate([np.cos(angles), np.sin(angles)])
    np.testing.assert_allclose(harmonics(x, count), expected, atol=3e-7 * max(count, 1))


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
    """Raw t, no harmonics, tanh: the network written out in numpy."""
    net = MLP(widths=(5, 4), activation="tanh", time_frequencies=0, space_frequencies=0).make(
        (2,), nnx.Rngs(0), "float32", 0
    )
    x, t = np.array([0.3, -0.8]), 0.4
    h = np.append(x, t)
    for i, layer in enumerate(net.layers):
        h = (np.tanh(h) if i else h) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(net(jnp.asarray(x), t), h, rtol=1e-5)
