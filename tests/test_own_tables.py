"""Five tables as people have them, through the commands with every default: samples in the tables' own units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffsde.cli.main import main

N = 3000


def correlated(random: np.random.Generator, d: int) -> np.ndarray:
    """Gaussian, of mean 0 and std about 1, with d/3 factors in common."""
    return (
        random.normal(size=(N, max(1, d // 3))) @ random.normal(size=(max(1, d // 3), d)) + random.normal(size=(N, d))
    ) / 2


def moons(random: np.random.Generator) -> np.ndarray:
    angle, upper = np.pi * random.random(N), random.random(N) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)), np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack(x, axis=1) + 0.05 * random.normal(size=(N, 2))


def table(name: str) -> np.ndarray:
    """Columns of scales from 0.001 to 10^6 and offsets up to 10^9."""
    random = np.random.default_rng(7)
    match name:
        case "gaussian":
            return correlated(random, 3) * [1e-3, 1.0, 1e6] + [0.0, 1e9, -5.0]
        case "skewed":
            columns = random.lognormal(0, 0.5, N), random.exponential(1, N), random.random(N), np.full(N, 42.0)
            return np.stack(columns, axis=1) * [1e6, 1e-3, 10.0, 1.0] + [0.0, 7.0, 1e9, 0.0]
        case "counts":
            groups = random.integers(0, 3, N)
            rows = (
                20 * groups + random.poisson(5, N),
                np.round(random.normal(1.7e9, 86400, N)),
                0.01 * groups + 1e-3 * random.normal(size=N),
            )
            return np.stack(rows, axis=1)
        case "ten":
            return correlated(random, 10) * np.logspace(-3, 6, 10) + random.choice([-1e9, -1e3, 0, 1e6, 1e9], 10)
        case "moons":
            return moons(random) * [1e-3, 1e5] + [1e6, 0.0]
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "skewed", "counts", "ten", "moons"])
def test_samples_have_the_tables_means_and_stds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 5% of a column's std, after the default run of the default net; a constant column is the constant."""
    monkeypatch.chdir(tmp_path)
    data = table(name)
    header = ",".join(f"c{i}" for i in range(data.shape[1]))
    np.savetxt("table.csv", data, delimiter=",", header=header, comments="", fmt="%.17g")
    assert main(["train", "dataset=array", "dataset.file=table.csv", "hydra.run.dir=run"]) == 0
    assert main(["sample", "run=run", "plots=false", "hydra.run.dir=samples"]) == 0
    with np.load("samples/samples.npz") as archive:
        x = archive["x"]
    columns = json.loads(Path("samples/summary.json").read_text())["columns"]
    for i, (mine, true) in enumerate(zip(x.T, data.T, strict=True)):
        found = columns[f"c{i}"]
        if np.ptp(true) == 0:
            np.testing.assert_array_equal(mine, true[0])
            continue
        mean, std = (mine.mean() - true.mean()) / true.std(), mine.std() / true.std()
        print(
            f"{name} c{i}: mean {mean:+.3f} std, std x {std:.3f}, KS {found['ks']:.3f} (floor {found['ks_floor']:.3f})"
        )
        assert abs(mean) < 0.05 and abs(std - 1) < 0.05, name
        assert found["mean"] == pytest.approx(mine.mean(), rel=1e-12, abs=1e-6 * true.std())
