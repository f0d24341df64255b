"""W2 of samples of one jump and true points, at 10,000 points, beside that of true points and true points.

    python scripts/one_jump.py [--data gmm checkerboard] [--objectives lagrangian] [--steps 4000] [--seeds 0]

W2 is exact, by POT; the floor is the mean of several pairs of sets of true points. A flow map passes below twice the floor.
Runs are kept in --out. About a minute a value.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import numpy as np
import ot

import diffsde

POINTS = 10_000


def w2(x: np.ndarray, y: np.ndarray) -> float:
    """The exact W2 of two sets of points (n, d)."""
    cost = ot.dist(np.asarray(x, float), np.asarray(y, float))
    return float(np.sqrt(ot.emd2([], [], cost, numItermax=10**7)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["gmm", "checkerboard"])
    parser.add_argument("--objectives", nargs="+", default=["lagrangian"])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--draws", type=int, default=2, help="pairs of sets of true points")
    parser.add_argument("--out", type=Path, default=Path("outputs/one_jump"))
    asked = parser.parse_args()
    for name in asked.data:
        runs = {}
        for objective in asked.objectives:
            for seed in asked.seeds:
                folder = asked.out / f"{name}_{objective}_{asked.steps}_{seed}"
                if not (folder / "summary.json").exists():
                    words = {"dataset": name, "objective": objective, "steps": asked.steps, "seed": seed}
                    diffsde.train(folder=folder, pictures="none", **words)
                runs[objective, seed] = diffsde.load(folder)
        dataset = next(iter(runs.values())).dataset
        assert dataset is not None

        def true(seed: int, dataset: object = dataset) -> np.ndarray:
            points = dataset.true_points(None, jax.random.key(seed), POINTS)  # type: ignore[attr-defined]
            return np.asarray(points).reshape(POINTS, -1)

        floors = [w2(true(100 + 2 * i), true(101 + 2 * i)) for i in range(asked.draws)]
        floor = float(np.mean(floors))
        print(json.dumps({"data": name, "floors": floors, "twice": 2 * floor}), flush=True)
        for (objective, seed), run in runs.items():
            x = np.asarray(run.sample(n=POINTS, sampler="flow_map", steps=1, seed=9).x)
            value = w2(x.reshape(POINTS, -1), true(200 + seed))
            print(json.dumps({"objective": objective, "seed": seed, "w2": value, "floors": value / floor}), flush=True)


if __name__ == "__main__":
    main()
