"""Train-step time of diffsde beside vectorised PyTorch with fused Adam, in alternating segments on this machine.

    python scripts/bench_train.py [--quick] [--sizes 64x3@256 ...] [--rounds 9] [--seconds 1]

Both fit the 11-component ring with conditional flow matching on `ot` and an MLP (SiLU, raw t), data drawn inside
the loop. Ours does what `diffsde train` does: preconditioning, stratified times, schedule and EMA included.
A segment of ours is whole dispatches of 100 steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

SIZES = ("64x3@256", "256x3@256", "256x3@1024", "256x3@4096", "112,112,80@1000")
CONTESTANTS = ("ours-1", "ours-2", "torch-1", "torch-2")  # and their threads
CHUNK = 100  # steps in one dispatch of ours
AIM = 3.0  # times torch's steps per CPU-second at the first size


def parse(size: str) -> tuple[list[int], int]:
    """'64x3@256' or '112,112,80@1000': widths and batch size."""
    net, batch = size.split("@")
    width, _, depth = net.partition("x")
    return ([int(width)] * int(depth) if depth else [int(word) for word in net.split(",")]), int(batch)


def ours(widths: list[int], batch: int) -> tuple[Callable[[], int], float]:
    """A function that runs CHUNK steps and waits for them, and the seconds it took to compile."""
    import jax
    import jax.numpy as jnp

    from diffsde.build import read
    from diffsde.cli import composed
    from diffsde.runs.train import TrainConfig, prepare
    from diffsde.training import start, train_steps

    words = [f"net.widths={widths}", "net.time_frequencies=0", "net.space_frequencies=0"]
    words += [f"batch_size={batch}", "steps=1000000"]
    run, params = prepare(read(TrainConfig, composed("train", words)))
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


def torch_loop(widths: list[int], batch: int, threads: int) -> tuple[Callable[[], int], float]:
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


def work(name: str, size: str) -> None:
    """A worker: for each number of seconds read, run that long and answer with steps, wall and CPU seconds."""
    widths, batch = parse(size)
    step, compile_seconds = ours(widths, batch) if name.startswith("ours") else torch_loop(widths, batch, int(name[-1]))
    step()
    print(json.dumps({"compile": compile_seconds}), flush=True)
    for line in sys.stdin:
        begin, cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < float(line):
            steps += step()
        figures = {"steps": steps, "wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
        print(json.dumps(figures), flush=True)


def measure(size: str, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median steps per wall-second and per CPU-second of each contestant, one running at a time."""
    workers = {}
    for name in CONTESTANTS:
        command = [sys.executable, __file__, "--worker", name, "--sizes", size]
        threads = os.environ | {"NPROC": name[-1]}  # which XLA reads; PyTorch is told by set_num_threads
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=threads)

    def ask(name: str, question: str | None) -> dict[str, float]:
        stdin, stdout = workers[name].stdin, workers[name].stdout
        assert stdin and stdout
        if question:
            print(question, file=stdin, flush=True)
        if not (line := stdout.readline()):
            sys.exit(f"bench_train: the worker '{name}' stopped (its message is above)")
        return json.loads(line)

    try:
        compiled = {name: ask(name, None)["compile"] for name in CONTESTANTS}
        for name in CONTESTANTS:
            ask(name, "0.3")
        segments = [{name: ask(name, str(seconds)) for name in CONTESTANTS} for _ in range(rounds)]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return {
        name: {"compile": compiled[name]}
        | {
            kind: statistics.median(each[name]["steps"] / each[name][kind] for each in segments)
            for kind in ("wall", "cpu")
        }
        for name in CONTESTANTS
    }


def machine() -> str:
    """One line: processor, cores, versions."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "torch"))
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxDEPTH@BATCH or WIDTH,WIDTH,...@BATCH")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a segment")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.5 s")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("bench_train: PyTorch is missing; pip install 'diffsde[bench]'", file=sys.stderr)
        sys.exit(2)
    if asked.worker:
        return work(asked.worker, asked.sizes[0])
    rounds, seconds = (3, 0.5) if asked.quick else (asked.rounds, asked.seconds)

    print(machine())
    print(
        f"Medians of {rounds} rounds of alternating {seconds:g} s segments; in brackets the better of 1 and 2 threads.\n"
    )
    print("| MLP @ batch | steps/s, ours | torch | ratio | steps/CPU-s, ours | torch | ratio | compile, ours |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for size in asked.sizes:
        found = measure(size, rounds, seconds)
        cells = []
        for kind in ("wall", "cpu"):
            best = [max(side, key=lambda name: found[name][kind]) for side in (CONTESTANTS[:2], CONTESTANTS[2:])]
            mine, theirs = (found[name][kind] for name in best)
            cells += [f"{found[name][kind]:.0f} ({name[-1]})" for name in best] + [f"**{mine / theirs:.2f}**"]
        print(f"| {size} | " + " | ".join(cells) + f" | {found['ours-1']['compile']:.1f} s |", flush=True)
    print(f"\nAim: {AIM:g} times torch's steps per CPU-second at {SIZES[0]}, and never below 1.")


if __name__ == "__main__":
    main()
