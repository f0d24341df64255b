"""What lies between the two ends of a path, for pictures: points of the source paired with points of the data, and x_t of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.couplings import BatchCoupling, Coupling, plan_in_batches
from diffsde.datasets import Dataset, FiniteDataset, Snapshots
from diffsde.paths import GaussianPath, coefficients
from diffsde.paths.piecewise import Piecewise
from diffsde.types import Array, Key

DRAWN = 4000  # points of a source, at least, that are drawn at once: one program for all smaller numbers


class Between(NamedTuple):
    """How x_t comes about: the path; the law at t = 0, None for N(0, I); how its points are paired with the data's, `paired` of
    them at a time, None for independently; series: the snapshots of a path through several laws.
    """

    path: GaussianPath
    source: Dataset | None = None
    coupling: Coupling | None = None
    paired: int = 256
    series: Snapshots | None = None

    @property
    def two_laws(self) -> bool:
        """Whether there is more to x_t than data and noise, so that it is no Gaussian path."""
        return self.source is not None or self.coupling is not None or self.path.has_gamma

    @property
    def formula(self) -> str:
        """x_t as text."""
        if not self.two_laws:
            return "alpha z + beta eps"
        return "alpha z + beta y" + (" + gamma eps" if self.path.has_gamma else "") + self.note

    @property
    def note(self) -> str:
        """What the draws of x_t are not, as text: of a run on pairs that were made before its steps, those pairs."""
        made = self.coupling is not None and not isinstance(self.coupling, BatchCoupling)
        return " of independent pairs, not the run's" if made else ""

    def draws(self, z: Array, key: Key, times: Array, label: Array | None = None) -> Array:
        """x_t (m, n, *shape) at times (m,) for points z (n, *shape) of the data with labels (n,), one y and eps for all times."""
        if self.series is not None:
            return self._through(len(z), key, times)
        if not self.two_laws:
            return interpolated(self.path, z, key, times)
        key_source, key_plan, key_noise = jax.random.split(key, 3)
        y, z = self._paired(self.source_points(len(z), z.shape[1:], key_source), z, key_plan, label)
        return interpolated(self.path, z, key_noise, times, y)

    def source_points(self, n: int, shape: tuple[int, ...], key: Key) -> Array:
        """Points y (n, *shape) of the law at t = 0."""
        if self.source is None:
            return jax.random.normal(key, (n, *shape))
        drawn = n if isinstance(self.source, FiniteDataset) else max(n, DRAWN)
        return jnp.asarray(self.source.draw_given(self.source.load(), None, key, drawn)[:n])

    def _paired(self, y: Array, z: Array, key: Key, label: Array | None) -> tuple[Array, Array]:
        if not isinstance(self.coupling, BatchCoupling):
            return y, z
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        together = self.coupling.batch_size or self.paired
        seen = None if label is None else np.asarray(label)
        i, j, _ = plan_in_batches(self.coupling, np.asarray(y), np.asarray(z), together, random, seen)
        return y[i], z[j]

    def _through(self, n: int, key: Key, times: Array) -> Array:
        """x_t (m, n, d) between the two snapshots about each time, of pairs drawn once for each interval."""
        assert self.series is not None and isinstance(self.path, Piecewise)
        found, laws = [], self.series.trained()
        for t in jnp.asarray(times):
            k = int(self.path.place(t).interval)
            keys = jax.random.split(jax.random.fold_in(key, k), 4)
            y, z = (
                law[jax.random.randint(each, (n,), 0, len(law))]
                for law, each in zip(laws[k : k + 2], keys, strict=False)
            )
            y, z = self._paired(y, z, keys[2], None)
            found.append(interpolated(self.path, z, keys[3], t[None], y)[0])
        return jnp.stack(found)


@jax.jit
def interpolated(path: GaussianPath, z: Array, key: Key, times: Array, y: Array | None = None) -> Array:
    """alpha z + beta eps (m, n, *shape), for points z (n, *shape) and the same eps at all times (m,); with points y of another
    source alpha z + beta y + gamma eps.
    """
    eps = jax.random.normal(key, z.shape, z.dtype)

    def at(t: Array) -> Array:
        c = coefficients(path, t)
        return c.alpha * z + (c.beta * eps if y is None else c.beta * y + c.gamma * eps)

    return jax.vmap(at)(times)
