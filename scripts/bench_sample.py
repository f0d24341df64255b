"""Sampling time of diffsde beside torchdiffeq, flow_matching, diffrax and a PyTorch loop, in alternating runs on this machine.

    python scripts/bench_sample.py [--quick] [--tasks euler@100 euler@1000 em@100] [--rounds 7]
    python scripts/bench_sample.py --floor      # what bounds ours: its products of matrices alone, on one thread; needs no PyTorch

10,000 points in the plane go through one MLP of 3 layers of 64 (SiLU, raw t, the same weights for all) by Euler's
method for the ODE, or by Euler-Maruyama with sigma = 0.5 on the `ot` path. Each contestant runs in a process of its
own with 1 thread and with 2, one at a time; all must end at the same points, or with the same spread.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from contest import KEEP_MEMORY, machine, workers

TASKS = ("euler@100", "euler@1000", "em@100")
PEERS = {"euler": ("torchdiffeq", "flow_matching", "diffrax"), "em": ("torch",)}
N, WIDTHS, SIGMA = 10_000, (64, 64, 64), 0.5
AIM = 1.5  # times the speed of torchdiffeq and flow_matching

Program = Callable[[], Any]  # runs to the end and gives the points


def weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (in, out) and bias of each layer, the same for every contestant."""
    draw = np.random.default_rng(0)
    sizes = [(3, WIDTHS[0]), *itertools.pairwise(WIDTHS), (WIDTHS[-1], 2)]
    return [(draw.normal(0, 1.5 / m**0.5, (m, n)).astype(np.float32), np.zeros(n, np.float32)) for m, n in sizes]


def points() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, 2)).astype(np.float32)


def compiled(method: str, steps: int, save_every: int | None = None) -> tuple[Any, tuple[Any, ...], float]:
    """The program that `diffsde sample` runs, its arguments, and the seconds it took to compile."""
    import jax
    import jax.numpy as jnp

    from diffsde.fields import LearnedField
    from diffsde.nets import structure
    from diffsde.nets.mlp import MLP
    from diffsde.paths import OT
    from diffsde.samplers import LoopSettings, Sampler, Saving, simulate_compiled
    from diffsde.samplers.diffusions import Constant
    from diffsde.samplers.ode import Euler
    from diffsde.samplers.sde import EulerMaruyama
    from diffsde.types import Moments

    graph, _ = structure(MLP(WIDTHS, time_frequencies=0, space_frequencies=0), (2,))
    params: dict[str, Any] = {}
    for i, (kernel, bias) in enumerate(weights()):
        params |= {f"layers/{i}/kernel": jnp.asarray(kernel), f"layers/{i}/bias": jnp.asarray(bias)}
    field = LearnedField(OT(), params, Moments(jnp.zeros(2), jnp.ones(())), graph, "velocity", False)
    sampler: Sampler = Euler() if method == "euler" else EulerMaruyama(Constant(SIGMA))
    given = sampler, field, jnp.asarray(points()), jnp.linspace(0.0, 1.0, steps + 1), jax.random.key(0)
    saving = None if save_every is None else Saving(save_every)
    begin = time.perf_counter()
    program = simulate_compiled.lower(*given, settings=LoopSettings(saving=saving)).compile()
    return program, given, time.perf_counter() - begin


def ours(method: str, steps: int) -> tuple[Program, float]:
    import jax

    program, given, seconds = compiled(method, steps)
    return lambda: jax.block_until_ready(program(*given).x), seconds


def diffrax_loop(method: str, steps: int) -> tuple[Program, float]:
    """diffrax.diffeqsolve, one point at a time, vmapped and compiled, with our own SiLU."""
    import diffrax
    import jax
    import jax.numpy as jnp

    layers = [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in weights()]

    def velocity(t: Any, x: Any, layers: Any) -> Any:
        h = jnp.concatenate([x, jnp.asarray(t, x.dtype)[None]])
        for kernel, bias in layers[:-1]:
            h = h @ kernel + bias
            h = h * (0.5 + 0.5 * jnp.tanh(0.5 * h))
        return h @ layers[-1][0] + layers[-1][1]

    def solve(x: Any, layers: Any) -> Any:
        at = diffrax.StepTo(ts=jnp.linspace(0.0, 1.0, steps + 1))
        term = diffrax.ODETerm(velocity)
        return diffrax.diffeqsolve(
            term, diffrax.Euler(), 0.0, 1.0, None, x, layers, stepsize_controller=at, max_steps=steps
        ).ys[0]

    given = jnp.asarray(points()), layers
    begin = time.perf_counter()
    program = jax.jit(jax.vmap(solve, (0, None))).lower(*given).compile()
    seconds = time.perf_counter() - begin
    return lambda: jax.block_until_ready(program(*given)), seconds


def torch_loop(name: str, threads: int, method: str, steps: int) -> tuple[Program, float]:
    """The solvers of torchdiffeq and flow_matching, and a loop written out for Euler-Maruyama, all eager."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    parts: list[torch.nn.Module] = []
    for kernel, bias in weights():
        layer = torch.nn.Linear(*kernel.shape)
        layer.weight.copy_(torch.tensor(kernel.T))
        layer.bias.copy_(torch.tensor(bias))
        parts += [layer, torch.nn.SiLU()]
    net, start = torch.nn.Sequential(*parts[:-1]), torch.tensor(points())

    def velocity(t: Any, x: Any) -> Any:
        return net(torch.cat([x, t.expand(len(x), 1)], 1))

    if name == "torchdiffeq":
        from torchdiffeq import odeint

        ends = torch.tensor([0.0, 1.0])
        return lambda: odeint(velocity, start, ends, method="euler", options={"step_size": 1 / steps})[-1], 0.0
    if name == "flow_matching":
        from flow_matching.solver import ODESolver
        from flow_matching.utils import ModelWrapper

        class Wrapped(ModelWrapper):
            def forward(self, x: Any, t: Any, **extras: Any) -> Any:
                return velocity(t, x)

        return partial(ODESolver(Wrapped(net)).sample, start, 1 / steps, method="euler"), 0.0

    def euler_maruyama() -> Any:
        x, times = start, torch.linspace(0, 1, steps + 1)
        for j, t in enumerate(times[:-1]):
            h, u = times[j + 1] - t, velocity(t, x)
            score = (t * u - x) / (1 - t)
            x = x + h * (u + SIGMA**2 / 2 * score)
            if j < steps - 1:
                x = x + SIGMA * h.sqrt() * torch.randn_like(x)
        return x

    return euler_maruyama, 0.0


def work(name: str, task: str) -> None:
    """A worker: for each line read, one run, answered with its wall and CPU seconds."""
    (name, threads), (method, steps) = name.split("-"), task.split("@")
    if name == "ours":
        program, compile_seconds = ours(method, int(steps))
    elif name == "diffrax":
        program, compile_seconds = diffrax_loop(method, int(steps))
    else:
        program, compile_seconds = torch_loop(name, int(threads), method, int(steps))
    end = np.asarray(program())
    seen = end[:3].ravel().tolist() if method == "euler" else end.std(0).tolist()
    print(json.dumps({"compile": compile_seconds, "seen": seen}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter(), time.process_time()
        program()
        print(json.dumps({"wall": time.perf_counter() - begin[0], "cpu": time.process_time() - begin[1]}), flush=True)


def measure(task: str, rounds: int, counts: list[int]) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each contestant and number of threads, one running at a time."""
    method = task.split("@")[0]
    names = [f"{name}-{threads}" for name in ("ours", *PEERS[method]) for threads in counts]
    commands = {name: [__file__, "--worker", name, "--tasks", task] for name in names}
    with workers(commands, {name: name[-1] for name in names}, KEEP_MEMORY) as running:
        first = {name: running[name].ask() for name in names}
        rtol, atol = (1e-3, 1e-3) if method == "euler" else (0.03, 0.0)
        for name in names:
            np.testing.assert_allclose(first[name]["seen"], first[names[0]]["seen"], rtol, atol, err_msg=name)
        for name in names:
            running[name].ask("warm up")
        found = [{name: running[name].ask("run") for name in names} for _ in range(rounds)]
    return {
        name: {"compile": first[name]["compile"]}
        | {kind: statistics.median(each[name][kind] for each in found) for kind in ("wall", "cpu")}
        for name in names
    }


def floor(rounds: int) -> None:
    """CPU seconds of ours by Euler in 100 steps, with SiLU and with no activation at all, and the rate of a large product."""
    os.environ["NPROC"] = "1"
    import jax
    import jax.numpy as jnp

    from diffsde.nets.mlp import ACTIVATIONS

    whole, _ = ours("euler", 100)
    silu, ACTIVATIONS["silu"] = ACTIVATIONS["silu"], lambda h: h
    jax.clear_caches()  # what was traced with the activation
    products, _ = ours("euler", 100)
    ACTIVATIONS["silu"] = silu
    square, size = jnp.ones((1024, 1024)), 1024
    large = jax.jit(lambda a: a @ a)
    runs: dict[str, Program] = {
        "whole": whole,
        "products": products,
        "large": lambda: jax.block_until_ready(large(square)),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if i:  # the first is to warm up
                found[name].append(time.process_time() - begin)
    best = {name: min(each) for name, each in found.items()}
    inside = sum(len(kernel) * len(bias) for kernel, bias in weights())
    rates = 2 * inside * N * 100 / best["products"] / 1e9, 2 * size**3 / best["large"] / 1e9
    print(machine("jax"))
    print(
        f"{best['whole']:.3f} CPU s with SiLU, {best['products']:.3f} without ({best['products'] / best['whole']:.0%}), which is"
        f" {rates[0]:.0f} GFLOP/s; a product of two matrices of {size}: {rates[1]:.0f}. The least of {rounds} alternating runs."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="euler@STEPS or em@STEPS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", nargs="+", type=int, choices=(1, 2), default=[1, 2], help="1 on a busy machine")
    parser.add_argument("--quick", action="store_true", help="100 steps, 3 rounds")
    parser.add_argument("--floor", action="store_true", help="what the products of matrices alone take")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.floor:
        return floor(asked.rounds)
    if missing := [name for name in ("torch", "torchdiffeq", "flow_matching") if not importlib.util.find_spec(name)]:
        print(f"bench_sample: {', '.join(missing)} missing; pip install 'diffsde[bench]'", file=sys.stderr)
        sys.exit(2)
    if asked.worker:
        return work(asked.worker, asked.tasks[0])
    tasks, rounds = (("euler@100", "em@100"), 3) if asked.quick else (asked.tasks, asked.rounds)

    print(machine("jax", "torch", "torchdiffeq", "flow_matching", "diffrax"))
    print(
        f"Medians of {rounds} alternating runs; in brackets the number of threads, the best of {asked.threads}. Ratio: theirs over ours.\n"
    )
    print("| sampler @ steps | program | seconds | ratio | CPU seconds | ratio | compile |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for task in tasks:
        found = measure(task, rounds, asked.threads)
        for program in dict.fromkeys(name[:-2] for name in found):
            cells = []
            for kind in ("wall", "cpu"):
                (best, threads), (mine, _) = (
                    min((found[f"{who}-{count}"][kind], count) for count in asked.threads) for who in (program, "ours")
                )
                cells += [f"{best:.3f} ({threads})", "" if program == "ours" else f"**{best / mine:.2f}**"]
            compiled = found[f"{program}-{asked.threads[0]}"]["compile"]
            cells.append(f"{compiled:.1f} s" if compiled else "")
            print(f"| {task} | {program} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nAim: {AIM:g} times the speed of torchdiffeq and flow_matching.")


if __name__ == "__main__":
    main()
