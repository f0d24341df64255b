"""The most that NPE can be of I-CFM from 8gaussians to moons as [SF]2M's text has them: E|z - y|^2/W2^2 - 1, y and z independent.

    python scripts/energy_bound.py [points]

The path energy of a flow that learns straight lines between pairs is at most E|z - y|^2 of the pairs, since u_t(x) = E[z - y | x].
"""

from __future__ import annotations

import sys

import numpy as np

from diffsde.datasets.fixed import FixedPoints
from diffsde.datasets.mixture import EightGaussians
from diffsde.datasets.toys import Moons
from diffsde.metrics.distances import transport


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    source = FixedPoints(EightGaussians(std=1.0), points, equal_counts=True).load()
    data = FixedPoints(Moons(scale=2.0, shift=-1.0), points).load()
    y, z = np.asarray(source.x, np.float64), np.asarray(data.x, np.float64)
    apart = np.mean(np.sum((y[:, None] - z) ** 2, axis=-1))
    least = transport(y, z).cost
    print(f"E|z - y|^2 {apart:.4g}, W2^2 {least:.4g}, NPE at most {apart / least - 1:.3g} ({points:,} points)")


if __name__ == "__main__":
    main()
