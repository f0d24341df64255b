"""Two-dimensional toys, each after a named source; all are drawn in the compiled program and need no arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diffsde.datasets.dataset import Dataset
from diffsde.types import Array, Key, choice


@choice
class Moons(Dataset):
    """moons as scikit-learn's make_moons: (cos a, sin a) and (1 - cos a, 1/2 - sin a), a uniform on [0, pi], plus noise.

    The angles are drawn independently, where scikit-learn spaces them evenly.
    """

    noise: float = 0.05

    def least_variance(self) -> float:
        return self.noise**2

    def load(self) -> tuple[()]:
        return ()

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_moon, key_angle, key_noise = jax.random.split(key, 3)
        angle = jax.random.uniform(key_angle, (count,), maxval=jnp.pi)
        upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], axis=-1)
        moon = jnp.where(jax.random.bernoulli(key_moon, shape=(count, 1)), upper, lower)
        return moon + self.noise * jax.random.normal(key_noise, (count, 2))


@choice
class SCurve(Dataset):
    """scurve as scikit-learn's make_s_curve without its depth: a = 3 pi (u - 1/2), (sin a, sign(a)(cos a - 1)), plus noise."""

    noise: float = 0.05

    def least_variance(self) -> float:
        return self.noise**2

    def load(self) -> tuple[()]:
        return ()

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_angle, key_noise = jax.random.split(key)
        angle = jax.random.uniform(key_angle, (count,), minval=-1.5 * jnp.pi, maxval=1.5 * jnp.pi)
        curve = jnp.stack([jnp.sin(angle), jnp.sign(angle) * (jnp.cos(angle) - 1)], axis=-1)
        return curve + self.noise * jax.random.normal(key_noise, (count, 2))


@choice
class Checkerboard(Dataset):
    """checkerboard as FFJORD's toy data (1810.01367): the eight dark unit squares of a 4 x 4 board, times `scale` = 2."""

    scale: float = 2.0

    def least_variance(self) -> float:
        return self.scale**2 / 12  # of a uniform square

    def load(self) -> tuple[()]:
        return ()

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_x, key_y, key_row = jax.random.split(key, 3)
        x = jax.random.uniform(key_x, (count,), minval=-2.0, maxval=2.0)
        row = jnp.where(jax.random.bernoulli(key_row, shape=(count,)), -2.0, 0.0)
        y = jax.random.uniform(key_y, (count,)) + row + jnp.floor(x) % 2
        return self.scale * jnp.stack([x, y], axis=-1)
