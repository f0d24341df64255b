"""CPU seconds from the start of a process until its field is good: ours beside PyTorch loops, one thread.

    python scripts/bench_time_to_quality.py [--seconds 60] [--steps 250 500 ...]     (pip install 'diffsde[bench]')

On the mixture of 11 components: until KL(p || p_theta) <= 0.05, 0.02, 0.01, 0.005 nats; on the moons: until W2 from true
points is within 1.2 times what two true sets are apart. Everything a process does counts, imports and compilation too
(programs in a warm cache, as from the second run on); measuring does not.

Ours: `diffsde train steps=N` at its defaults for rising N, whole runs; the first that is good enough counts. The loops
run on and are measured at marks 15% apart: vectorised PyTorch (3 x 64 SELU, Adam 1e-3, batch 256 or 1000), the published
11-component loop with its own settings, and torchcfm's 2-D tutorial loop (from eight Gaussians to the moons, batch 256).
The KL is by the likelihood of `diffsde evaluate` on 11 x 256 true points, the same for all, those of each component a
scrambled Sobol sequence; W2 is the mean over 8 pairs of sets of 512, of samples by Heun's method in 100 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contest import KEEP_MEMORY, machine

TARGETS = (0.05, 0.02, 0.01, 0.005)  # nats
NEAR = 1.2  # times the floor of W2
POINTS, SOLVER_STEPS = 256, 40  # a component
SAMPLES, SAMPLE_STEPS = 4096, 100
STEPS = (125, 250, 500, 1000, 2000, 4000, 8000)
LOOPS = {
    "vectorised PyTorch, batch 256": "vectorised-256",
    "vectorised PyTorch, batch 1000": "vectorised-1000",
    "published loop, PyTorch": "published",
}
TUTORIAL = "torchcfm-256"
WIDTHS = {"vectorised": [64, 64, 64], "published": [1024, 16]}
TUTORIAL_NOISE = 0.2  # of its moons, which are three times as large: W2 and its floor are too
MOONS = f"dataset=moons dataset.noise={TUTORIAL_NOISE}"
GROWTH = 1.15  # from a mark to the next, in CPU seconds


def torch_loop(name: str) -> tuple[Any, Callable[[], None]]:
    """The network and a function that takes one step."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind, _, batch = name.partition("-")
    if kind == "torchcfm":
        from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
        from torchcfm.models.models import MLP
        from torchcfm.utils import sample_8gaussians, sample_moons

        net: Any = MLP(dim=2, time_varying=True)
        tutors, matcher = torch.optim.Adam(net.parameters()), ConditionalFlowMatcher(sigma=0.1)

        def tutorial_step() -> None:
            tutors.zero_grad()
            t, x, u = matcher.sample_location_and_conditional_flow(
                sample_8gaussians(int(batch)), sample_moons(int(batch))
            )
            torch.mean((net(torch.cat([x, t[:, None]], -1)) - u) ** 2).backward()
            tutors.step()

        return net, tutorial_step
    widths, size = WIDTHS[kind], int(batch or 1000)
    activation = torch.nn.SELU if kind == "vectorised" else torch.nn.SiLU
    layers: list[Any] = []
    for m, n in zip([3, *widths[:-1]], widths, strict=True):
        layers += [torch.nn.Linear(m, n), activation()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 2))
    fused = {"fused": True} if kind == "vectorised" else {}
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, **fused)
    angles = 2 * torch.pi * torch.arange(11) / 11
    means = 10 * torch.stack([torch.cos(angles), torch.sin(angles)], 1)

    def step() -> None:
        z, eps = means[torch.randint(11, (size,))] + torch.randn(size, 2), torch.randn(size, 2)
        t = torch.rand(size, 1)
        if kind == "vectorised":
            x, target = t * z + (1 - t) * eps, z - eps
        else:  # beta = sqrt(1 - t), its derivative guarded as published
            beta = torch.sqrt(1 - t)
            x, slope = t * z + beta * eps, -0.5 / (beta + 1e-4)
            target = (1 - slope / beta * t) * z + slope / beta * x
        loss = torch.nn.functional.mse_loss(net(torch.cat([x, t], 1)), target)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return net, step


def loop(name: str, seconds: float, out: Path) -> None:
    """A worker: step, and at each mark write the parameters, or the tutorial's samples, under the CPU seconds so far."""
    import torch

    net, step = torch_loop(name)
    mark, uncounted = time.process_time() + 0.25, 0.0
    while mark < seconds:
        while time.process_time() - uncounted < mark:
            step()
        began = time.process_time()
        spent = began - uncounted
        if name == TUTORIAL:
            from torchcfm.utils import sample_moons

            true = sample_moons(2 * SAMPLES).numpy()
            np.savez(out / f"{spent:.3f}.npz", x=tutorial_samples(net), true=true[:SAMPLES], other=true[SAMPLES:])
        else:
            numbers = [parameter.detach().numpy() for parameter in net.parameters()]
            np.savez(out / f"{spent:.3f}.npz", **{str(i): value for i, value in enumerate(numbers)})
        mark = max(spent * GROWTH, spent + 0.05)
        uncounted += time.process_time() - began
    del torch


def tutorial_samples(net: Any) -> np.ndarray:
    """Points of its ODE from the eight Gaussians."""
    import torch
    from torchcfm.utils import sample_8gaussians

    with torch.no_grad():
        x, h = sample_8gaussians(SAMPLES), 1 / SAMPLE_STEPS
        for i in range(SAMPLE_STEPS):
            t = torch.full((SAMPLES, 1), i * h)
            first = net(torch.cat([x, t], 1))
            x = x + h / 2 * (first + net(torch.cat([x + h * first, t + h], 1)))
    return np.asarray(x.numpy())


def marks(name: str, seconds: float, measure: Callable[[Path], float], enough: float) -> Iterator[tuple[float, float]]:
    """(CPU seconds, figure) of a loop's marks, until the figure is good enough."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--worker", name, "--seconds", str(seconds), "--out", folder]
        subprocess.run(words, check=True, env=os.environ | KEEP_MEMORY)
        for path in sorted(Path(folder).glob("*.npz"), key=lambda path: float(path.stem)):
            figure = measure(path)
            yield float(path.stem), figure
            if figure <= enough:
                return


def our_runs(dataset: str, steps: list[int], measure: Callable[[Path], float]) -> Iterator[tuple[float, float, float]]:
    """(CPU seconds of the process, of its steps, figure) of whole runs of rising length, after one that compiles what they share."""
    with tempfile.TemporaryDirectory() as folder:
        for i, count in enumerate([1000, *steps]):
            out = Path(folder) / str(i)
            words = [*dataset.split(), f"steps={count}", "threads=1", f"hydra.run.dir={out}"]
            before = os.times()
            subprocess.run(
                [sys.executable, "-m", "diffsde", "train", *words, f"cache_dir={folder}/programs"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            after = os.times()
            if not i:
                continue
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            yield spent, json.loads((out / "summary.json").read_text())["cpu_seconds"], measure(out)


class Judge:
    """The figures, by the product's own functions."""

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp
        from scipy.stats import norm, qmc

        from diffsde import mixtures
        from diffsde.datasets import DATASETS

        self.mixture = DATASETS["gmm"]().mixture()  # type: ignore[attr-defined]
        means = np.asarray(self.mixture.means)
        sets = [mean + norm.ppf(qmc.Sobol(2, rng=k).random(POINTS)) for k, mean in enumerate(means)]
        self.points = jnp.asarray(np.concatenate(sets), jnp.float32)
        self.exact = np.asarray(jax.vmap(lambda x: mixtures.log_prob(self.mixture, x))(self.points), np.float64)

    def kl(self, field: Any) -> float:
        import jax

        from diffsde.likelihood import log_likelihood_compiled
        from diffsde.samplers import times
        from diffsde.samplers.grids import CosineGrid
        from diffsde.samplers.ode import RK4

        at = times(CosineGrid(), SOLVER_STEPS, field.path)
        found = log_likelihood_compiled(RK4(), field, self.points, at, jax.random.key(0), probe="exact")
        return float(np.mean(self.exact - np.asarray(found.log_p, np.float64)))

    def kl_of_run(self, run: Path) -> float:
        return self.kl(trained(run))

    def kl_of_loop(self, kind: str, path: Path) -> float:
        """A raw network of the velocity: PyTorch's weights turned over."""
        import jax.numpy as jnp

        from diffsde.fields import LearnedField
        from diffsde.nets import MLP, structure
        from diffsde.paths import PATHS
        from diffsde.types import Moments

        activation = "selu" if kind == "vectorised" else "silu"
        graph, _ = structure(MLP(tuple(WIDTHS[kind]), activation, time_frequencies=0, space_frequencies=0), (2,))
        numbers = np.load(path)
        params = {}
        for i in range(len(numbers) // 2):
            params[f"layers/{i}/kernel"] = jnp.asarray(numbers[str(2 * i)].T)
            params[f"layers/{i}/bias"] = jnp.asarray(numbers[str(2 * i + 1)])
        way = PATHS["ot" if kind == "vectorised" else "sqrt"]()
        return self.kl(LearnedField(way, params, Moments(jnp.zeros(2), jnp.asarray(1.0)), graph, "velocity", False))

    def w2(self, x: np.ndarray, true: np.ndarray, other: np.ndarray) -> float:
        """W2 of x from true points, means over pairs of sets of 512, over that of other true points from them."""
        from diffsde.metrics.distances import MOST, w2

        sets = [np.asarray(points).reshape(-1, MOST, 2) for points in (x, true, other)]
        mine, floor = (np.mean([w2(a, b) for a, b in zip(one, sets[1], strict=True)]) for one in (sets[0], sets[2]))
        return float(mine / floor)

    def w2_of_run(self, run: Path) -> float:
        import jax

        from diffsde.datasets import draw_many
        from diffsde.datasets.toys import Moons
        from diffsde.samplers import simulate_compiled, times
        from diffsde.samplers.grids import UniformGrid
        from diffsde.samplers.ode import Heun

        field = trained(run)
        at = times(UniformGrid(), SAMPLE_STEPS, field.path)
        x0 = jax.random.normal(jax.random.key(2), (SAMPLES, 2))
        x = simulate_compiled(Heun(), field, x0, at, jax.random.key(3)).x
        true = draw_many(Moons(TUTORIAL_NOISE), (), jax.random.key(1), 2 * SAMPLES)
        return self.w2(np.asarray(x), np.asarray(true[:SAMPLES]), np.asarray(true[SAMPLES:]))

    def w2_of_tutorial(self, path: Path) -> float:
        found = np.load(path)
        return self.w2(found["x"], found["true"], found["other"])


def trained(run: Path) -> Any:
    from diffsde.runs.restore import restore

    return restore(run)[1]


def first(found: Sequence[tuple[float, ...]], target: float) -> str:
    """The seconds of the first whose figure, the last number, is at most the target."""
    good = next((one for one in found if one[-1] <= target), None)
    if good is None:
        return f"not in {found[-1][0]:.0f} ({found[-1][-1]:.3f})"
    return f"{good[0]:.1f}" + (f" ({good[1]:.1f})" if len(good) > 2 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds that a loop may take")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="of our runs")
    parser.add_argument("--parts", nargs="+", choices=("kl", "w2"), default=["kl", "w2"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return loop(asked.worker, asked.seconds, asked.out)
    judge = Judge()
    print(machine("jax", "torch"))
    if "kl" in asked.parts:
        kl_table(judge, asked.steps, asked.seconds)
    if "w2" in asked.parts:
        w2_table(judge, asked.steps, asked.seconds)


def kl_table(judge: Judge, steps: list[int], seconds: float) -> None:
    print(f"\n| CPU s from process start to KL <= | {' | '.join(map(str, TARGETS))} |")
    print(f"|---|{'---:|' * len(TARGETS)}")
    for name, found in contestants(judge, steps, seconds):
        print(f"| {name} | {' | '.join(first(found, target) for target in TARGETS)} |", flush=True)


def w2_table(judge: Judge, steps: list[int], seconds: float) -> None:
    print(f"\n| CPU s from process start to W2 <= {NEAR} x floor on the moons | |\n|---|---:|")
    ours = list(our_runs(MOONS, steps, judge.w2_of_run))
    print(f"| `diffsde train {MOONS}` (its steps alone) | {first(ours, NEAR)} |", flush=True)
    theirs = list(marks(TUTORIAL, seconds, judge.w2_of_tutorial, NEAR))
    print(f"| torchcfm's tutorial loop, from eight Gaussians | {first(theirs, NEAR)} |")


def contestants(judge: Judge, steps: list[int], seconds: float) -> Iterator[tuple[str, Sequence[tuple[float, ...]]]]:
    yield "`diffsde train` (its steps alone)", list(our_runs("dataset=gmm", steps, judge.kl_of_run))
    for name, word in LOOPS.items():
        kind = word.partition("-")[0]
        yield name, list(marks(word, seconds, lambda path, kind=kind: judge.kl_of_loop(kind, path), TARGETS[-1]))  # type: ignore[misc]


if __name__ == "__main__":
    main()
