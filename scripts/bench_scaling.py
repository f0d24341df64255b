"""How the cost of a sample grows with the number of samples and the width of the net, all at once and in chunks.

    python scripts/bench_scaling.py [--dims 2 784] [--widths 64 128 256] [--samples 1000 10000 100000] [--chunks 500 2000]

Nanoseconds a sample and step of Euler's method with an MLP of 3 layers: all samples together, in the chunks that
`simulate` chooses, and in others where asked for. One process; each row's programs take turns, medians of the rounds.
With --batches, also the time of a training step a sample against batch and width (the loop of bench_train).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from bench_train import ours

from diffsde.fields import LearnedField
from diffsde.nets import initialise, structure
from diffsde.nets.mlp import MLP
from diffsde.paths import OT
from diffsde.samplers import LoopSettings, simulate_compiled
from diffsde.samplers.chunks import bytes_live, chunks, fitting, threads
from diffsde.samplers.ode import Euler
from diffsde.types import Moments

# Floating-point operations of one run, about, but so many steps: what is done once a run should not count.
WORK, LEAST = 3e9, 20
LARGEST = 10**7  # numbers in the points of a row; larger rows are left out


def learned(width: int, dim: int) -> LearnedField:
    """A network fresh from its initialiser, on points (dim,)."""
    net = MLP((width,) * 3, time_frequencies=0, space_frequencies=0)
    graph, _ = structure(net, (dim,))
    params = initialise(net, (dim,), jax.random.key(0))
    return LearnedField(OT(), params, Moments(jnp.zeros(dim), jnp.ones(())), graph, "velocity", False)


def medians(programs: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, tuple[float, float]]:
    """Median wall and CPU seconds of each, in turns, after one run to warm up."""
    found: dict[Any, list[tuple[float, float]]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            begin = time.perf_counter(), time.process_time()
            program()
            if turn:
                found[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return {name: tuple(map(statistics.median, zip(*each, strict=True))) for name, each in found.items()}


def sampling(width: int, dim: int, n: int, sizes: list[int], rounds: int) -> str:
    """A row: nanoseconds a sample and step, wall / CPU, for each way of taking the samples."""
    field, x = learned(width, dim), jax.random.normal(jax.random.key(1), (n, dim))
    steps = max(LEAST, round(WORK / (2 * n * (2 * width**2 + 2 * width * dim))))
    given = Euler(), field, x, jnp.linspace(0.0, 1.0, steps + 1), jax.random.key(0)
    chosen = chunks(n, fitting(field, x)).size

    def program(size: int) -> Callable[[], Any]:
        ready = simulate_compiled.lower(*given, settings=LoopSettings(chunk=size)).compile()
        return lambda: jax.block_until_ready(ready(*given))

    found = medians(
        {size: program(size) for size in dict.fromkeys([n, chosen, *(size for size in sizes if size < n)])}, rounds
    )
    shown = {size: "/".join(f"{seconds / n / steps * 1e9:.0f}" for seconds in each) for size, each in found.items()}
    others = "; ".join(f"{size}: {shown[size]}" for size in sizes if size < n)
    gain = " | ".join(f"{found[n][kind] / found[chosen][kind]:.2f}" for kind in (0, 1))
    live = bytes_live(field, (dim,), x.dtype)
    return f"| {dim} | {width} | {n} | {live} | {chosen} | {shown[n]} | {shown[chosen]} | {gain} |" + (
        f" {others} |" if sizes else ""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", nargs="+", type=int, default=(2, 784))
    parser.add_argument("--widths", nargs="+", type=int, default=(64, 128, 256))
    parser.add_argument("--samples", nargs="+", type=int, default=(1000, 10_000, 100_000))
    parser.add_argument("--chunks", nargs="+", type=int, default=[], help="also in chunks of these sizes")
    parser.add_argument("--batches", nargs="+", type=int, default=[], help="of training steps, e.g. 64 256 1024 4096")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    print(f"{threads()} threads of XLA\n")
    print(
        "| dimension | width | samples | bytes live | chunk | at once, ns wall/CPU | in chunks | gain | CPU gain |"
        + (" others |" if asked.chunks else "")
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|" + ("---|" if asked.chunks else ""))
    for dim in asked.dims:
        for width in asked.widths:
            for n in (n for n in asked.samples if n * dim <= LARGEST):
                print(sampling(width, dim, n, asked.chunks, asked.rounds), flush=True)
    if not asked.batches:
        return
    print("\n| width | batch | us a step | ns a sample |\n|---:|---:|---:|---:|")
    for width in asked.widths:
        for batch in asked.batches:
            step, _ = ours([width] * 3, batch)
            (wall, _), count = medians({0: step}, asked.rounds)[0], step()
            print(f"| {width} | {batch} | {wall / count * 1e6:.0f} | {wall / count / batch * 1e9:.0f} |", flush=True)


if __name__ == "__main__":
    main()
