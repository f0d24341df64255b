"""The published 11-component experiment in plain PyTorch beside ours, in one run: time and how true the samples are.

    pip install 'diffsde[bench]'
    python scripts/compare_published.py [--steps 5000] [--samples 20000]

Published: alpha = t, beta = sqrt(1-t), an MLP 1024-16 with SiLU that sees raw (x, t), Adam 1e-3, batch 1000, 5000 steps,
then Euler-Maruyama with sigma = 0.5 on 300 times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

try:
    import torch
except ImportError:
    print("PyTorch is not installed: pip install 'diffsde[bench]'", file=sys.stderr)
    sys.exit(2)

ANGLES = 2 * np.pi * np.arange(11) / 11
MEANS = 10 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SIGMA, TIMES, BATCH = 0.5, 300, 1000


def figures(x: np.ndarray) -> tuple[float, float, float]:
    """Cross-entropy in nats, within-mode std and mode-weight KL, components weighed by their posterior; float64."""
    squares = ((x[:, None].astype(np.float64) - MEANS) ** 2).sum(-1)
    logs = -squares / 2 - np.log(2 * np.pi) - np.log(len(MEANS))
    log_p = np.logaddexp.reduce(logs, axis=1)
    r = np.exp(logs - log_p[:, None])
    q = r.mean(0)
    return -log_p.mean(), np.sqrt((r * squares).sum(1).mean() / 2), float((q * np.log(q * len(MEANS))).sum())


def published(steps: int, samples: int, seed: int) -> tuple[int, float, float, np.ndarray]:
    """Parameters, wall and CPU seconds of training, samples."""
    torch.set_num_threads(1)  # its best for a net this small: two threads spend most of their CPU time waiting
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 1024), torch.nn.SiLU(), torch.nn.Linear(1024, 16), torch.nn.SiLU(), torch.nn.Linear(16, 2)
    )
    means, adam = torch.tensor(MEANS, dtype=torch.float32), torch.optim.Adam(net.parameters(), lr=1e-3)

    def slope(t: torch.Tensor) -> torch.Tensor:  # dbeta, guarded as published
        return -0.5 / (torch.sqrt(1 - t) + 1e-4)

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        z = means[torch.randint(11, (BATCH,))] + torch.randn(BATCH, 2)
        t = torch.rand(BATCH, 1)
        beta = torch.sqrt(1 - t)
        x = t * z + beta * torch.randn_like(z)
        target = (1 - slope(t) / beta * t) * z + slope(t) / beta * x
        loss = torch.mean((net(torch.cat([x, t], dim=1)) - target) ** 2)
        adam.zero_grad()
        loss.backward()
        adam.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    x = torch.randn(samples, 2)
    with torch.no_grad():
        for t, h in zip(torch.linspace(0, 1, TIMES)[:-1], torch.linspace(0, 1, TIMES).diff(), strict=True):
            u = net(torch.cat([x, t.expand(samples, 1)], dim=1))
            # u = x/t + eta s with eta = (1-t)/t + 1/2; so s = (t u - x)/(1 - t/2), regular at t = 0
            score = (t * u - x) / (1 - t / 2)
            x = x + h * (u + SIGMA**2 / 2 * score) + SIGMA * torch.sqrt(h) * torch.randn_like(x)
    return sum(p.numel() for p in net.parameters()), wall, cpu, x.numpy()


def ours(words: list[str], steps: int, samples: int, seed: int, folder: Path) -> tuple[int, float, float, np.ndarray]:
    def diffsde(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "diffsde", *words], check=True, stdout=subprocess.DEVNULL)

    diffsde("train", *words, f"steps={steps}", f"seed={seed}", f"hydra.run.dir={folder / 'run'}")
    sampler = ["sampler=em", f"sigma={SIGMA}", f"steps={TIMES - 1}", f"n={samples}", "last=step", "plots=false"]
    diffsde("sample", f"run={folder / 'run'}", *sampler, f"seed={seed}", f"hydra.run.dir={folder / 'samples'}")
    summary = json.loads((folder / "run" / "summary.json").read_text())
    x = np.load(folder / "samples" / "samples.npz")["x"]
    return summary["parameters"], summary["seconds"], summary["cpu_seconds"], x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = chosen.steps, chosen.samples, chosen.seed
    contests = {
        "diffsde experiment=gmm_reference": ["experiment=gmm_reference"],
        "diffsde path=sqrt": ["path=sqrt"],
        "diffsde path=ot objective=cfm": ["path=ot", "objective=cfm"],
    }
    print(
        "| run | parameters | cross-entropy (5.2221) | within-mode std (1) | mode-weight KL | wall s | steps / CPU s |"
    )
    print("|---|---|---|---|---|---|---|")

    def line(name: str, parameters: int, wall: float, cpu: float, x: np.ndarray) -> None:
        entropy, std, kl = figures(x)
        rate = chosen.steps / cpu
        print(
            f"| {name} | {parameters:,} | {entropy:.4f} | {std:.4f} | {kl:.5f} | {wall:.1f} | {rate:.0f} |", flush=True
        )

    line("published loop, PyTorch", *published(*settings))
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, words) in enumerate(contests.items()):
            line(name, *ours(words, *settings, Path(folder) / str(i)))


if __name__ == "__main__":
    main()
