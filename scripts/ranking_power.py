"""How well each metric of samples tells slightly wrong samples from true ones: the table in docs/evaluating.md.

Run: python scripts/ranking_power.py. Of each metric: (figure - what true points score)/their errors in quadrature, the mean over
seeds, for 10,000 samples; and CPU seconds a measurement, once compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import numpy as np

from diffsde.datasets import DATASETS
from diffsde.evaluation.metric import Metric, Subject
from diffsde.evaluation.table import METRICS
from diffsde.evaluation.transport import W2

N, SEEDS = 10_000, 5
MEASURED: dict[str, Metric] = {
    **{
        name: METRICS[name]()
        for name in ("mixture", "modes", "energy_distance", "mmd", "c2st", "sliced_w2", "sinkhorn", "w1", "w2")
    },
    "w2, 2,000 points": W2(points=2000),
}
Wrong = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# By the data and what is wrong with its samples.
CASES: dict[tuple[str, str], Wrong] = {
    ("gmm", "true"): lambda x, rng: x,
    ("gmm", "noise of 0.3 stds of a mode"): lambda x, rng: x + rng.normal(size=x.shape) * 0.3,
    ("gmm", "half of the plane 5% rarer"): lambda x, rng: x[(x[:, 0] < 0) | (rng.uniform(size=len(x)) > 0.05)],
    ("gmm", "all 1% wider"): lambda x, rng: x * 1.01,
    ("moons", "true"): lambda x, rng: x,
    ("moons", "noise of 0.05"): lambda x, rng: x + rng.normal(size=x.shape) * 0.05,
    ("moons", "half of the plane 5% rarer"): lambda x, rng: x[(x[:, 0] < 0.5) | (rng.uniform(size=len(x)) > 0.05)],
    ("moons", "all 1% wider"): lambda x, rng: x * 1.01,
}


def main() -> None:
    print(f"{'metric':38}", *(f"{data}: {what}" for data, what in CASES), "CPU s", sep=" | ")
    for name, metric in MEASURED.items():
        rows: dict[str, list[list[float]]] = {}
        spent = []
        for column, ((data, _), wrong) in enumerate(CASES.items()):
            for seed in range(SEEDS):
                dataset = DATASETS[data]()
                if metric.unavailable(Subject(dataset, n=N)):
                    continue
                x = np.asarray(dataset.draw(dataset.load(), jax.random.key(seed), N + N // 10))
                x = wrong(x, np.random.default_rng(seed))[:N]
                begun = time.process_time()
                found = metric.measure(Subject(dataset, n=len(x), x=x), jax.random.key(100 + seed)).figures
                spent.append(time.process_time() - begun)
                for figure, (value, error, reference, _) in found.items():
                    assert reference is not None
                    both = np.hypot(error or 0.0, reference.error or 0.0)
                    rows.setdefault(figure, [[] for _ in CASES])[column].append((value - reference.value) / both)
        for figure, cells in rows.items():
            said = (f"{np.mean(cell):.1f}" if cell else "" for cell in cells)
            print(f"{name + ': ' + figure:38}", *said, f"{np.median(spent):.2f}", sep=" | ", flush=True)


if __name__ == "__main__":
    main()
