"""Targets of less variance: E[z | x_t], were the data the points at hand alone, in the place of the one z behind x_t.

Let z_1, ..., z_m be drawn independently and x_t = alpha z_J + beta eps of one of them. Given x_t and the set of points, J is
j with probability w_j ~ exp(-|x_t - alpha z_j|^2/(2 beta^2)), and sum_j w_j z_j is E[z_J | x_t, z_1, ..., z_m]. Its mean
given x_t is E[z | x_t] again, so that the gradient of a squared error keeps its expectation for every m (Rao-Blackwell), and
loses the variance that the choice of J has: most of it at small t, none where x_t tells z. As a target of diffusion models:
the stable target field (2302.00670), which this is with the points of the batch in the place of a large reference batch.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffsde.types import Array, Moments

POINTS = 1024  # of a set, where none are asked for, and the coordinates of points up to which there is a set at all:
DIMENSION = 16  # beyond, x_t tells z among so few points at almost every t
EXACT = 2.0**17  # of d (alpha s/beta)^2, up to which float32 has log w_j to 0.01; beyond, z itself is the target


class Points(NamedTuple):
    """Points z (m, *shape) that targets are averaged over, and the label (m,) that a network is given with each, or None."""

    z: Array
    label: Array | None = None


def default_points(size: int) -> int:
    """How many points, where none are asked for, of so many coordinates."""
    return POINTS if size <= DIMENSION else 0


def posterior_groups(batch_size: int, points: int) -> int:
    """Into how many equal parts a batch is cut, each averaged over its own points: as many as leave `points` in each."""
    return next(n for n in range(max(1, batch_size // points), 0, -1) if batch_size % n == 0)


def posterior_means(z: Array, eps: Array, ratio: Array, points: Points, moments: Moments, label: Array | None) -> Array:
    """E[z_J | x_t, points] of each example (n, *shape), the points in the n examples' z among them.

    ratio (n,): alpha/beta. label (n,): what the network is given, -1 for an example whose label is hidden; the average is over
    the points of an equal label, and there over all. None: it is given none.
    """
    rows, at = (((x - moments.mean) / moments.std).reshape(len(x), -1) for x in (z, points.z))
    noise, r = eps.reshape(rows.shape), (ratio * moments.std)[:, None]
    exact = r**2 * rows.shape[1] < EXACT
    r = jnp.where(exact, r, 0.0)
    # log w_j = -|y - r z_j|^2/2 with y = eps + r z, up to a number that all j have
    left = jnp.concatenate([r * (noise + r * rows), -(r**2) / 2], axis=1)
    right = jnp.concatenate([at, jnp.sum(at**2, axis=1, keepdims=True)], axis=1)
    precise = partial(
        jnp.matmul, precision=jax.lax.Precision.HIGHEST
    )  # a GPU's usual 10 bits would shift log w_j by 100
    logits = precise(left, right.T)
    if label is not None and points.label is not None:
        logits = jnp.where((label[:, None] == points.label) | (label[:, None] < 0), logits, -jnp.inf)
    mean = precise(jax.nn.softmax(logits, axis=1), at).reshape(z.shape) * moments.std + moments.mean
    return jnp.where(
        exact.reshape(-1, *[1] * (z.ndim - 1)), mean, z
    )  # z to the bit: alpha/beta times a rounding is large
