"""Snapshots of known dynamics: a mixture that a linear SDE turns, spreads and blurs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from diffsde import memory
from diffsde.datasets.scaling import Scaling
from diffsde.datasets.snapshots import Series, Snapshots
from diffsde.mixtures import Mixture
from diffsde.types import choice, on_device

MOST_GROWTH = 25.0  # of all distances by e to this, 7e10: beyond, single precision has no use for the points


@choice
class Drifting(Snapshots):
    """drifting: `size` points at each of the times 0, 1, ..., `snapshots` - 1, of dX = A X ds + sigma dW in the plane.

    A = growth I + 2 pi turn J, J the quarter turn. At time 0 a mixture of `components` of std `std` on a ring of `radius`, with
    weights in proportion 1, 2, ...; at time s one whose means are turned by s `turn` of a circle and multiplied by
    e^(growth s), of variance e^(2 growth s) std^2 + sigma^2 (e^(2 growth s) - 1)/(2 growth). Points are drawn anew at each time.
    """

    snapshots: int = 5
    size: int = 2000
    components: int = 3
    radius: float = 2.0
    std: float = 0.3
    turn: float = 0.05
    growth: float = 0.2
    sigma: float = 0.2
    split_seed: int = 0
    leave_out: float | None = None

    def check(self) -> None:
        numbers = 2 * self.snapshots * self.size
        memory.require(8 * numbers, f"dataset.size={self.size:,} of {self.snapshots} snapshots", "take a smaller size")
        if abs(self.growth) * (self.snapshots - 1) > MOST_GROWTH:
            raise ValueError(
                f"growth is {self.growth:g}: by the last of {self.snapshots} snapshots all distances are exp(growth *"
                f" {self.snapshots - 1}) times what they were; take one of at most {MOST_GROWTH / (self.snapshots - 1):.3g}"
            )

    def series(self) -> Series:
        return _drawn(self)

    def own_law_at(self, time: float) -> tuple[np.ndarray, float, np.ndarray]:
        """Means (components, 2), std and weights (components,) at a time, in the data's own units."""
        angles = 2 * np.pi * (np.arange(self.components) / self.components + self.turn * time)
        means = self.radius * np.exp(self.growth * time) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        squared = np.exp(2 * self.growth * time)
        noise = time if self.growth == 0 else (squared - 1) / (2 * self.growth)
        weights = np.arange(1, self.components + 1) / (self.components * (self.components + 1) / 2)
        return means, float(np.sqrt(squared * self.std**2 + self.sigma**2 * noise)), weights

    def law_at(self, time: float) -> Mixture:
        means, std, weights = self.own_law_at(time)
        scaling = self.scaling((2,))
        assert isinstance(scaling, Scaling)
        variances = np.broadcast_to((std / scaling.std) ** 2, means.shape)
        return Mixture(*(on_device(each, float) for each in ((means - scaling.mean) / scaling.std, variances, weights)))


@lru_cache(maxsize=4)
def _drawn(dataset: Drifting) -> Series:
    random, times = np.random.default_rng(dataset.split_seed), np.arange(dataset.snapshots, dtype=np.float64)

    def points(time: float) -> np.ndarray:
        means, std, weights = dataset.own_law_at(time)
        rows = random.choice(len(means), dataset.size, p=weights)
        return means[rows] + std * random.normal(size=(dataset.size, 2))

    return Series(times, tuple(points(float(time)) for time in times))
