"""What keeping the allocator's memory saves (diffsde/memory.py): gradients of two small image networks, with and without.

    python scripts/bench_allocator.py [--rounds 5]

A process each, one after another in turn; medians over the rounds of each process's median of 9 runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def work(keep: bool) -> None:
    """Run both networks in this process and print CPU seconds, wall seconds and page faults of a run, medians of 9."""
    if keep:
        from diffsde import memory

        memory.tune_malloc()
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 9)
    convolutions = [0.1 * jax.random.normal(keys[i], (3, 3, 32 if i else 1, 32)) for i in range(3)]
    images = jax.random.normal(keys[3], (128, 28, 28, 1))
    mixing = [0.1 * jax.random.normal(key, shape) for key, shape in zip(keys[4:], SHAPES, strict=False)]
    patches = jax.random.normal(keys[8], (128, 49, 64))

    def convolve(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for kernel in kernels:
            layers = ("NHWC", "HWIO", "NHWC")
            x = jax.nn.silu(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layers))
        return jnp.mean(x**2)

    def mix(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for _ in range(4):
            x += jnp.swapaxes(jax.nn.gelu(jnp.swapaxes(x, 1, 2) @ kernels[0]) @ kernels[1], 1, 2)
            x += jax.nn.gelu(x @ kernels[2]) @ kernels[3]
        return jnp.mean(x**2)

    found = {}
    for name, loss, kernels, x in (("convolutions", convolve, convolutions, images), ("mixer", mix, mixing, patches)):
        step = jax.jit(jax.grad(loss))
        jax.block_until_ready(step(kernels, x))
        runs = []
        for _ in range(9):
            cpu, wall, faults = time.process_time(), time.perf_counter(), page_faults()
            jax.block_until_ready(step(kernels, x))
            runs.append((time.process_time() - cpu, time.perf_counter() - wall, page_faults() - faults))
        found[name] = [statistics.median(column) for column in zip(*runs, strict=True)]
    print(json.dumps(found))


SHAPES = ((49, 196), (196, 49), (64, 256), (256, 64))


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=("kept", "default"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return work(asked.worker == "kept")
    rounds: dict[str, list[dict[str, list[float]]]] = {"default": [], "kept": []}
    for _ in range(asked.rounds):
        for how, found in rounds.items():
            said = subprocess.run(
                [sys.executable, __file__, "--worker", how], check=True, capture_output=True, text=True
            )
            found.append(json.loads(said.stdout))
    print(
        "| gradient of | CPU s, default | kept | ratio | wall s, default | kept | ratio | page faults, default | kept |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in rounds["kept"][0]:
        cells = []
        for i, form in enumerate(("{:.3f}", "{:.3f}", "{:.0f}")):
            default, kept = (statistics.median(each[name][i] for each in rounds[how]) for how in ("default", "kept"))
            cells += [form.format(default), form.format(kept)] + ([f"**{default / kept:.2f}**"] if i < 2 else [])
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
