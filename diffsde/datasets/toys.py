"""Two-dimensional toys, each after a named source; all are drawn in the compiled program and need no arrays."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from diffsde.datasets.dataset import Dataset
from diffsde.types import Array, Key, choice


class Toy(Dataset):
    """A dataset that is drawn by a formula, without arrays."""

    def load(self) -> tuple[()]:
        return ()


@choice
class Moons(Toy):
    """moons as scikit-learn's make_moons: (cos a, sin a) and (1 - cos a, 1/2 - sin a), a uniform on [0, pi], plus noise.

    The angles are drawn independently, where scikit-learn spaces them evenly. All of it times `scale` (the course MIT 6.S184
    has 5), plus `shift` in each coordinate ([SF]2M, 2307.03672, has scale 2 and shift -1).
    """

    noise: float = 0.05
    scale: float = 1.0
    shift: float = 0.0

    def least_variance(self) -> float:
        return (self.scale * self.noise) ** 2

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_moon, key_angle, key_noise = jax.random.split(key, 3)
        angle = jax.random.uniform(key_angle, (count,), maxval=jnp.pi)
        upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], axis=-1)
        moon = jnp.where(jax.random.bernoulli(key_moon, shape=(count, 1)), upper, lower)
        return self.scale * (moon + self.noise * jax.random.normal(key_noise, (count, 2))) + self.shift


@choice
class Circles(Toy):
    """circles as scikit-learn's make_circles: the unit circle and one of radius `factor`, equally likely, plus noise.

    The angles are uniform and drawn independently, where scikit-learn spaces them evenly. All of it times `scale`: the course
    MIT 6.S184 has factor 0.5, noise 0.05 and scale 5, FFJORD (1810.01367) has 0.5, 0.08 and 3.
    """

    factor: float = 0.5
    noise: float = 0.05
    scale: float = 1.0

    def least_variance(self) -> float:
        return (self.scale * self.noise) ** 2

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_circle, key_angle, key_noise = jax.random.split(key, 3)
        angle = jax.random.uniform(key_angle, (count,), maxval=2 * jnp.pi)
        radius = jnp.where(jax.random.bernoulli(key_circle, shape=(count, 1)), 1.0, self.factor)
        circle = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return self.scale * (circle + self.noise * jax.random.normal(key_noise, (count, 2)))


@choice
class Spirals(Toy):
    """spirals as FFJORD's 2spirals (1810.01367): (r1/2 - a cos a, r2/2 + a sin a)/3 or its negative, a = 3 pi sqrt(u), plus noise.

    r1, r2 and u are uniform on [0, 1]; both arms are equally likely.
    """

    noise: float = 0.1

    def least_variance(self) -> float:
        return self.noise**2 + (1 / 6) ** 2 / 12  # of the noise, and of r/6, uniform on [0, 1/6]

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_arm, key_angle, key_width, key_noise = jax.random.split(key, 4)
        angle = 3 * jnp.pi * jnp.sqrt(jax.random.uniform(key_angle, (count,)))
        curve = angle[:, None] * jnp.stack([-jnp.cos(angle), jnp.sin(angle)], axis=-1)
        arm = (curve + jax.random.uniform(key_width, (count, 2)) / 2) / 3
        sign = jax.random.rademacher(key_arm, (count, 1), arm.dtype)
        return sign * arm + self.noise * jax.random.normal(key_noise, (count, 2))


@choice
class SwissRoll(Toy):
    """swiss_roll as FFJORD's (1810.01367), scikit-learn's without its depth: (a cos a, a sin a)/5, plus noise.

    a is uniform on [3 pi/2, 9 pi/2]. The noise is in these units: FFJORD's 1.0 before the division by 5.
    """

    noise: float = 0.2

    def least_variance(self) -> float:
        return self.noise**2

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_angle, key_noise = jax.random.split(key)
        angle = jax.random.uniform(key_angle, (count, 1), minval=1.5 * jnp.pi, maxval=4.5 * jnp.pi)
        curve = angle * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1) / 5
        return curve + self.noise * jax.random.normal(key_noise, (count, 2))


@choice
class Pinwheel(Toy):
    """pinwheel as FFJORD's (1810.01367; 1603.06277): 2 (r, s) turned clockwise by 2 pi k/arms + rate e^r, k a uniform arm.

    r ~ N(1, radial_std^2) runs along an arm, s ~ N(0, tangential_std^2) across it.
    """

    arms: int = 5
    radial_std: float = 0.3
    tangential_std: float = 0.1
    rate: float = 0.25

    def least_variance(self) -> float:
        r = (
            1 + 2 * self.radial_std
        )  # far out, where the arm is turned most: it leans by r rate e^r, and is thinner by as much
        return (2 * self.tangential_std) ** 2 / (1 + (r * self.rate * math.exp(r)) ** 2)

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_arm, key_noise = jax.random.split(key)
        r, s = jnp.moveaxis(jax.random.normal(key_noise, (count, 2)), -1, 0)
        r, s = 1 + self.radial_std * r, self.tangential_std * s
        arm = jax.random.randint(key_arm, (count,), 0, self.arms)
        angle = 2 * jnp.pi * arm / self.arms + self.rate * jnp.exp(r)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return 2 * jnp.stack([r * cos + s * sin, s * cos - r * sin], axis=-1)


@choice
class SCurve(Toy):
    """scurve as scikit-learn's make_s_curve without its depth: a = 3 pi (u - 1/2), (sin a, sign(a)(cos a - 1)), plus noise.

    All of it times `scale` ([SF]2M, 2307.03672, has 1.5), plus `shift` in each coordinate.
    """

    noise: float = 0.05
    scale: float = 1.0
    shift: float = 0.0

    def least_variance(self) -> float:
        return (self.scale * self.noise) ** 2

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_angle, key_noise = jax.random.split(key)
        angle = jax.random.uniform(key_angle, (count,), minval=-1.5 * jnp.pi, maxval=1.5 * jnp.pi)
        curve = jnp.stack([jnp.sin(angle), jnp.sign(angle) * (jnp.cos(angle) - 1)], axis=-1)
        return self.scale * (curve + self.noise * jax.random.normal(key_noise, (count, 2))) + self.shift


@choice
class Checkerboard(Toy):
    """checkerboard as FFJORD's toy data (1810.01367): the eight dark unit squares of a 4 x 4 board, times `scale` = 2."""

    scale: float = 2.0

    def least_variance(self) -> float:
        return self.scale**2 / 12  # of a uniform square

    def draw(self, arrays: tuple[()], key: Key, count: int) -> Array:
        key_x, key_y, key_row = jax.random.split(key, 3)
        x = jax.random.uniform(key_x, (count,), minval=-2.0, maxval=2.0)
        row = jnp.where(jax.random.bernoulli(key_row, shape=(count,)), -2.0, 0.0)
        y = jax.random.uniform(key_y, (count,)) + row + jnp.floor(x) % 2
        return self.scale * jnp.stack([x, y], axis=-1)
