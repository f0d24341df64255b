"""Train-step time of diffsde beside PyTorch and beside the machine's peak, in alternating segments on this machine.

    python scripts/bench_train.py [--quick] [--sizes 64x3@256 ...] [--rounds 9] [--seconds 1]

First table: vectorised PyTorch with fused Adam. Both fit the 11-component ring with conditional flow matching on `ot`
and an MLP (SiLU, raw t), data drawn inside the loop. Ours does what `diffsde train` does: preconditioning, stratified
times, schedule and EMA included, but for what PyTorch's loop has not: uniform t, and each target its own z. A segment of ours is whole dispatches of 100 steps.

Second: torchcfm's 2-D tutorial loop as it stands (its examples/2D_tutorials/Flow_matching_tutorial.ipynb): SELU, batch
256, its own data. It goes from eight Gaussians to the moons; ours with the same network from noise to the moons. Most
of its time is spent drawing the Gaussians, point by point in Python.

Third: the share of the machine's float32 rate that the products of our step reach, two operations for a multiply-add,
three times the forward pass's for a step; the rate is the best of some square products, on as many threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable

from contest import KEEP_MEMORY, machine, workers

SIZES = ("64x3@256", "256x3@256", "256x3@1024", "256x3@4096", "112,112,80@1000")
TORCH = ("ours-1", "ours-2", "torch-1", "torch-2")  # contestants and their threads
TUTORIAL = ("moons-1", "moons-2", "torchcfm-1", "torchcfm-2")  # moons: ours on that data
PEAK = ("ours-1", "matmul-1", "ours-2", "matmul-2")
TUTORIAL_SIZE = "64x3@256"  # the tutorial's own
PEAK_SIZES = ("256x3@1024", "256x3@4096")
SQUARES = (256, 512, 1024, 2048)
CHUNK = 100  # steps in one dispatch of ours
AIM, TUTORIAL_AIM = 3.0, 15.0  # times the steps per CPU-second of PyTorch at the first size, and of the tutorial
PEAK_AIM = 0.45

Worker = tuple[Callable[[], int], float]  # what runs some steps and says how many, and the seconds it took to compile


def parse(size: str) -> tuple[list[int], int]:
    """'64x3@256' or '112,112,80@1000': widths and batch size."""
    net, batch = size.split("@")
    width, _, depth = net.partition("x")
    return ([int(width)] * int(depth) if depth else [int(word) for word in net.split(",")]), int(batch)


def ours(widths: list[int], batch: int, *more: str) -> Worker:
    """A function that runs CHUNK steps and waits for them."""
    from diffsde import memory

    memory.tune_malloc()
    import jax
    import jax.numpy as jnp

    from diffsde.cli.main import composed
    from diffsde.runs.train_config import train_choices
    from diffsde.training import start, train_steps
    from diffsde.verbs.train_setup import prepare

    words = [f"net.widths={widths}", "net.time_frequencies=0", "net.space_frequencies=0"]
    words += [
        f"batch_size={batch}",
        "net.activation=silu",
        "time=uniform",
        "posterior_points=0",
        "steps=1000000",
        *more,
    ]
    run, params = prepare(train_choices(composed("train", words)))
    state, count = start(run, params), jnp.asarray(CHUNK)
    begin = time.perf_counter()
    program = train_steps.lower(run, state, count, chunk=CHUNK).compile()
    compile_seconds = time.perf_counter() - begin

    def segment() -> int:
        nonlocal state
        state, losses = program(run, state, count)
        jax.block_until_ready(losses)
        return CHUNK

    return segment, compile_seconds


def torch_loop(widths: list[int], batch: int, threads: int) -> Worker:
    """The same in PyTorch, eagerly: one step a call."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    angles = 2 * torch.pi * torch.arange(11) / 11
    means = 10 * torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    layers: list[torch.nn.Module] = []
    for m, n in zip([3, *widths[:-1]], widths, strict=True):
        layers += [torch.nn.Linear(m, n), torch.nn.SiLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step() -> int:
        z = means[torch.randint(11, (batch,))] + torch.randn(batch, 2)
        eps, t = torch.randn(batch, 2), torch.rand(batch, 1)
        output = net(torch.cat([t * z + (1 - t) * eps, t], 1))
        loss = torch.nn.functional.mse_loss(output, z - eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return 1

    return step, 0.0


def tutorial_loop(batch: int, threads: int) -> Worker:
    """torchcfm's tutorial, one step a call; its network is 64x3."""
    import torch
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.models import MLP
    from torchcfm.utils import sample_8gaussians, sample_moons

    torch.set_num_threads(threads)
    net = MLP(dim=2, time_varying=True)
    optimizer, matcher = torch.optim.Adam(net.parameters()), ConditionalFlowMatcher(sigma=0.1)

    def step() -> int:
        optimizer.zero_grad()
        t, x, u = matcher.sample_location_and_conditional_flow(sample_8gaussians(batch), sample_moons(batch))
        torch.mean((net(torch.cat([x, t[:, None]], -1)) - u) ** 2).backward()
        optimizer.step()
        return 1

    return step, 0.0


def matmul() -> Worker:
    """Square float32 products, of the size that is fastest here; a step is a million operations."""
    from diffsde import memory

    memory.tune_malloc()
    import jax

    product = jax.jit(lambda a, b: a @ b)
    rates = {}
    for n in SQUARES:
        a = jax.random.normal(jax.random.key(0), (n, n))
        jax.block_until_ready(product(a, a))
        repeats, times = max(1, 2**27 // n**3), []
        for _ in range(9):
            begin = time.perf_counter()
            jax.block_until_ready([product(a, a) for _ in range(repeats)])
            times.append((time.perf_counter() - begin) / repeats)
        rates[n] = 2 * n**3 / statistics.median(times)
    n = max(rates, key=lambda n: rates[n])
    a, repeats = jax.random.normal(jax.random.key(0), (n, n)), max(1, 2**27 // n**3)

    def step() -> int:
        jax.block_until_ready([product(a, a) for _ in range(repeats)])
        return 2 * n**3 * repeats // 10**6

    return step, 0.0


def operations(size: str) -> float:
    """Millions of operations in the products of a training step: forward, and twice as many backward."""
    widths, batch = parse(size)
    return 6 * batch * sum(m * n for m, n in itertools.pairwise([3, *widths, 2])) / 1e6


def work(name: str, size: str) -> None:
    """A worker: for each number of seconds read, run that long and answer with steps, wall and CPU seconds."""
    widths, batch = parse(size)
    kind, _, threads = name.partition("-")
    step, compile_seconds = {
        "ours": lambda: ours(widths, batch),
        "moons": lambda: ours(widths, batch, "dataset=moons", "dataset.noise=0.2", "net.activation=selu"),
        "torch": lambda: torch_loop(widths, batch, int(threads)),
        "torchcfm": lambda: tutorial_loop(batch, int(threads)),
        "matmul": matmul,
    }[kind]()
    step()
    print(json.dumps({"compile": compile_seconds}), flush=True)
    for line in sys.stdin:
        begin, cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < float(line):
            steps += step()
        figures = {"steps": steps, "wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
        print(json.dumps(figures), flush=True)


def measure(names: tuple[str, ...], size: str, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median steps per wall-second and per CPU-second of each contestant, one running at a time."""
    commands = {name: [__file__, "--worker", name, "--sizes", size] for name in names}
    with workers(commands, {name: name[-1] for name in names}, KEEP_MEMORY) as running:
        compiled = {name: running[name].ask()["compile"] for name in names}
        for name in names:
            running[name].ask("0.3")
        segments = [{name: running[name].ask(str(seconds)) for name in names} for _ in range(rounds)]
    return {
        name: {"compile": compiled[name]}
        | {
            kind: statistics.median(each[name]["steps"] / each[name][kind] for each in segments)
            for kind in ("wall", "cpu")
        }
        for name in names
    }


def beside(names: tuple[str, ...], size: str, rounds: int, seconds: float) -> str:
    """A table row: the first two contestants, ours on 1 and 2 threads, beside the other two."""
    found = measure(names, size, rounds, seconds)
    cells = []
    for kind in ("wall", "cpu"):
        best = [max(side, key=lambda name: found[name][kind]) for side in (names[:2], names[2:])]
        mine, theirs = (found[name][kind] for name in best)
        cells += [f"{found[name][kind]:.0f} ({name[-1]})" for name in best] + [f"**{mine / theirs:.2f}**"]
    return f"| {size} | " + " | ".join(cells) + f" | {found[names[0]]['compile']:.1f} s |"


def share(size: str, rounds: int, seconds: float) -> str:
    """A table row: the rates of our products and of square ones in 10^9 operations a CPU-second, on 1 and 2 threads."""
    found = measure(PEAK, size, rounds, seconds)
    cells = []
    for threads in "12":
        mine, peak = operations(size) * found[f"ours-{threads}"]["cpu"], found[f"matmul-{threads}"]["cpu"]
        cells += [f"{mine / 1e3:.0f}", f"{peak / 1e3:.0f}", f"**{mine / peak:.0%}**"]
    return f"| {size} | " + " | ".join(cells) + " |"


def header(*columns: str) -> str:
    return f"\n| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="WIDTHxDEPTH@BATCH or WIDTH,WIDTH,...@BATCH")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a segment")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.5 s")
    parser.add_argument("--worker", choices=TORCH + TUTORIAL + PEAK, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for package in ("torch", "torchcfm"):
        if importlib.util.find_spec(package) is None:
            print(f"bench_train: {package} is missing; pip install 'diffsde[bench]'", file=sys.stderr)
            sys.exit(2)
    if asked.worker:
        return work(asked.worker, asked.sizes[0])
    how = (3, 0.5) if asked.quick else (asked.rounds, asked.seconds)

    print(machine("jax", "jaxlib", "torch"))
    print(
        f"Medians of {how[0]} rounds of alternating {how[1]:g} s segments; in brackets the better of 1 and 2 threads."
    )
    pair = ("ratio", "steps/CPU-s, ours", "theirs", "ratio", "compile, ours")
    print(header("MLP @ batch, beside PyTorch", "steps/s, ours", "theirs", *pair))
    for size in asked.sizes:
        print(beside(TORCH, size, *how), flush=True)
    print(f"\nAim: {AIM:g} times PyTorch's steps per CPU-second at {SIZES[0]}, and never below 1.")
    print(header("MLP @ batch, beside torchcfm's tutorial", "steps/s, ours", "theirs", *pair))
    print(beside(TUTORIAL, TUTORIAL_SIZE, *how), flush=True)
    print(f"\nAim: {TUTORIAL_AIM:g} times its steps per CPU-second.")
    rates = [f"{what}, threads={threads}" for threads in ("1", "2") for what in ("Gflop/CPU-s", "peak", "share")]
    print(header("MLP @ batch, products alone", *rates))
    for size in PEAK_SIZES:
        print(share(size, *how), flush=True)
    print(f"\nAim: {PEAK_AIM:.0%} of the peak.")


if __name__ == "__main__":
    main()
