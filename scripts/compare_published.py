"""The published 11-component experiment in plain PyTorch, beside ours, in one run: one table.

    python scripts/compare_published.py [--steps 5000] [--samples 20000] [--seed 0]

The published loop is written anew from its description, vectorised: MLP 3-1024-16-2 on (x, t), the path alpha = t,
beta = sqrt(1 - t) with its guard on dbeta, Adam at 1e-3, batches of 1000. Every row is sampled alike: Euler-Maruyama,
sigma 0.5, 299 steps, as the published one is. One function measures all samples, in float64.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COMPONENTS, RADIUS, BATCH, GRID_POINTS, SIGMA = 11, 10.0, 1000, 300, 0.5
ANGLES = 2 * np.pi * np.arange(COMPONENTS) / COMPONENTS
MEANS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)  # of components of weight 1/11 and std 1
ENTROPY = 5.222092  # nats, by quadrature

OURS = {
    "ours, experiment=gmm_reference": ["experiment=gmm_reference"],
    "ours, path=sqrt": ["path=sqrt"],
    "ours, path=ot": ["path=ot"],
}


class Row(NamedTuple):
    """One trained model: its samples (n, 2) and what training them took."""

    samples: np.ndarray
    parameters: int
    seconds: float
    cpu_seconds: float
    compile_seconds: float


def published(steps: int, samples: int, seed: int) -> Row:
    """The published training loop and its sampler, in PyTorch."""
    import torch
    from torch import Tensor, nn

    torch.manual_seed(seed)
    means = torch.tensor(MEANS, dtype=torch.float32)
    net = nn.Sequential(nn.Linear(3, 1024), nn.SiLU(), nn.Linear(1024, 16), nn.SiLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return net(torch.cat([x, t], dim=1))

    def path(t: Tensor) -> tuple[Tensor, Tensor, float, Tensor]:
        """alpha, beta, dalpha and the guarded dbeta."""
        return t, torch.sqrt(1 - t), 1.0, -0.5 / (torch.sqrt(1 - t) + 1e-4)

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        z = means[torch.randint(COMPONENTS, (BATCH,))] + torch.randn(BATCH, 2)
        t = torch.rand(BATCH, 1)
        alpha, beta, dalpha, dbeta = path(t)
        x = alpha * z + beta * torch.randn(BATCH, 2)
        target = (dalpha - dbeta / beta * alpha) * z + dbeta / beta * x
        loss = nn.functional.mse_loss(velocity(x, t), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    grid = torch.linspace(0, 1, GRID_POINTS)
    x = torch.randn(samples, 2)
    with torch.no_grad():
        for now, then in itertools.pairwise(grid):
            alpha, beta, dalpha, dbeta = path(now)
            u = velocity(x, now.expand(samples, 1))
            score = (alpha * u - dalpha * x) / (beta * (dalpha * beta - alpha * dbeta))
            noise = SIGMA * torch.sqrt(then - now) * torch.randn(samples, 2)
            x = x + (then - now) * (u + SIGMA**2 / 2 * score) + noise
    return Row(x.numpy(), sum(p.numel() for p in net.parameters()), wall, cpu, 0.0)


def ours(words: list[str], steps: int, samples: int, seed: int, folder: Path) -> Row:
    """A run of the command line in `folder`, with the programs compiled afresh."""

    def call(verb: str, out: Path, *more: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "diffsde", verb, f"hydra.run.dir={out}", f"seed={seed}", "cache=false", *more]
        done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"compare_published: {' '.join(command[1:])}\n{done.stderr}")
        return json.loads((out / "summary.json").read_text())

    trained = call("train", folder / "train", *words, f"steps={steps}")
    sampler = ["sampler=em", f"sigma={SIGMA}", f"steps={GRID_POINTS - 1}", f"n={samples}", "plots=false"]
    call("sample", folder / "sample", f"run={folder / 'train'}", *sampler)
    points = np.load(folder / "sample" / "samples.npz")["x"]
    return Row(points, trained["parameters"], trained["seconds"], trained["cpu_seconds"], trained["seconds_compile"])


def figures(samples: np.ndarray) -> tuple[float, float, float]:
    """Cross-entropy, within-mode std and mode-weight KL; diffsde/metrics/mixture.py has their definitions."""
    squares = ((samples.astype(np.float64)[:, None] - MEANS) ** 2).sum(-1)
    logs = -np.log(COMPONENTS) - np.log(2 * np.pi) - squares / 2
    log_p = np.logaddexp.reduce(logs, axis=1)
    posterior = np.exp(logs - log_p[:, None])
    q = posterior.mean(0)
    kl = (q[q > 0] * np.log(q[q > 0] * COMPONENTS)).sum()
    return float(-log_p.mean()), float(np.sqrt((posterior * squares).sum(1).mean() / 2)), float(kl)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("compare_published: PyTorch is missing; pip install 'diffsde[bench]'", file=sys.stderr)
        sys.exit(2)

    n = asked.samples
    print(f"{asked.steps} steps of {BATCH} examples, {n} samples, seed {asked.seed}, {os.cpu_count()} cores\n")
    columns = "cross-entropy", "within-mode std", "mode-weight KL", "train s", "CPU s", "steps/CPU-s", "compile s"
    print("| | " + " | ".join(columns) + " | parameters |\n|---|" + 8 * "---:|")
    print(f"| a true sample | {ENTROPY:.4f} | 1 | {(COMPONENTS - 1) / (2 * n):.5f} | | | | | |", flush=True)

    def show(name: str, row: Row) -> None:
        cross_entropy, std, kl = figures(row.samples)
        cells = [f"{cross_entropy:.4f}", f"{std:.4f}", f"{kl:.5f}", f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}"]
        cells += [f"{asked.steps / row.cpu_seconds:.0f}", f"{row.compile_seconds:.1f}", f"{row.parameters:,}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    show("published loop, PyTorch", published(asked.steps, asked.samples, asked.seed))
    for name, words in OURS.items():
        with tempfile.TemporaryDirectory() as folder:
            show(name, ours(words, asked.steps, asked.samples, asked.seed, Path(folder)))


if __name__ == "__main__":
    main()
