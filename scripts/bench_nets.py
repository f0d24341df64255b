"""Cost of a training step of the networks for images, the mixer's beside PyTorch's and torchcfm's U-Net, on one thread.

    python scripts/bench_nets.py [--quick] [--batch 128] [--rounds 7] [--nets mixer torch torchcfm dit unet]

Forward, backward and Adam on random images of 28 x 28 pixels: milliseconds of CPU time a step, medians over rounds in
which the contestants, a process each, take turns. Ours is `train_step` whole (data, noise, schedule, EMA included);
PyTorch's is the same mixer (adaLN, windows by unfold and fold, tanh gelu, fused Adam), torchcfm's the U-Net of its MNIST
example (32 channels, one residual block a level, classes), the data made outside their clocks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable

from contest import machine, workers

NETS = ("mixer", "torch", "torchcfm", "dit", "unet")
THEIRS = {"torch": "mixer, PyTorch", "torchcfm": "U-Net, torchcfm"}
SIDE = 28
CHUNK = 2  # steps in one dispatch of ours


def ours(name: str, batch: int, accumulate: int | None) -> Callable[[], int]:
    """A function that runs CHUNK steps of `diffsde train` and waits for them."""
    import jax
    import jax.numpy as jnp

    from diffsde.datasets.arrays import ArrayFile
    from diffsde.datasets.dataset import Examples
    from diffsde.nets import NETS as TABLE
    from diffsde.nets import initialise, structure
    from diffsde.objectives import Problem, VelocityMatching
    from diffsde.optimizers import Adam
    from diffsde.paths import OT
    from diffsde.time_distributions import Uniform
    from diffsde.training import Run, start, train_steps
    from diffsde.types import Moments

    shape, net = (SIDE, SIDE, 1), TABLE[name]()
    problem = Problem(
        OT(),
        VelocityMatching("unit"),
        Uniform(),
        Moments(jnp.zeros(shape), jnp.ones(())),
        structure(net, shape)[0],
        True,
    )
    images = Examples(jax.random.normal(jax.random.key(0), (1000, *shape)))
    run = Run(
        problem,
        ArrayFile("none"),
        images,
        Adam(lr=1e-3),
        jax.random.key(1),
        jnp.asarray(10**6),
        jnp.asarray([0.999]),
        batch,
        micro_batches=accumulate,
    )
    state, count = start(run, initialise(net, shape, jax.random.key(2))), jnp.asarray(CHUNK)
    program = train_steps.lower(run, state, count, chunk=CHUNK).compile()

    def steps() -> int:
        nonlocal state
        state, losses = program(run, state, count)
        jax.block_until_ready(losses)
        return CHUNK

    return steps


def torchs(batch: int) -> Callable[[], int]:
    """The default mixer in PyTorch, eagerly: one step a call."""
    import torch
    from torch import nn
    from torch.nn import functional

    from diffsde.nets.mixer import Mixer

    torch.set_num_threads(1)
    sizes = Mixer()
    patch, window, width = sizes.patch, sizes.patch + 2 * sizes.overlap, sizes.width
    tokens = (SIDE // patch) ** 2
    frequencies = torch.pi * torch.arange(1, sizes.time_frequencies + 1)

    def norm(h: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(h, (width,), eps=1e-6) * (1 + scale) + shift

    def gelu(h: torch.Tensor) -> torch.Tensor:
        return functional.gelu(h, approximate="tanh")

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.modulation = nn.Linear(width, 6 * width)
            self.tokens_in, self.tokens_out = nn.Linear(tokens, sizes.mix), nn.Linear(sizes.mix, tokens)
            self.channels_in = nn.Linear(width, sizes.expand * width)
            self.channels_out = nn.Linear(sizes.expand * width, width)

        def forward(self, h: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            a1, b1, g1, a2, b2, g2 = self.modulation(c)[:, None].chunk(6, -1)
            h = h + g1 * self.tokens_out(gelu(self.tokens_in(norm(h, a1, b1).transpose(1, 2)))).transpose(1, 2)
            return h + g2 * self.channels_out(gelu(self.channels_in(norm(h, a2, b2))))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time_in, self.time_out = nn.Linear(2 * len(frequencies), width), nn.Linear(width, width)
            self.stem, self.head = nn.Linear(window**2, width), nn.Linear(width, window**2)
            self.blocks = nn.ModuleList([Block() for _ in range(sizes.depth)])
            self.modulation = nn.Linear(width, 2 * width)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            angles = t[:, None] * frequencies
            features = torch.cat([angles.cos(), angles.sin()], 1)
            c = functional.silu(self.time_out(functional.silu(self.time_in(features))))
            how = {"kernel_size": window, "padding": sizes.overlap, "stride": patch}
            h = self.stem(functional.unfold(x, **how).transpose(1, 2))
            for block in self.blocks:
                h = block(h, c)
            scale, shift = self.modulation(c)[:, None].chunk(2, -1)
            return functional.fold(self.head(norm(h, scale, shift)).transpose(1, 2), (SIDE, SIDE), **how)

    torch.manual_seed(0)
    net = Network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    x, y, t = torch.randn(batch, 1, SIDE, SIDE), torch.randn(batch, 1, SIDE, SIDE), torch.rand(batch)

    def step() -> int:
        loss = functional.mse_loss(net(x, t), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return 1

    return step


def torchcfms(batch: int) -> Callable[[], int]:
    """The U-Net of torchcfm's MNIST example: one step a call."""
    import torch
    from torch.nn import functional
    from torchcfm.models.unet import UNetModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = UNetModel(dim=(1, SIDE, SIDE), num_channels=32, num_res_blocks=1, num_classes=10, class_cond=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    x, y, t = torch.randn(batch, 1, SIDE, SIDE), torch.randn(batch, 1, SIDE, SIDE), torch.rand(batch)
    label = torch.randint(0, 10, (batch,))

    def step() -> int:
        loss = functional.mse_loss(net(t, x, label), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return 1

    return step


def work(name: str, batch: int, accumulate: int | None) -> None:
    """A worker: for each line read, answer with the CPU seconds of a step."""
    made = {"torch": torchs, "torchcfm": torchcfms}
    step = made[name](batch) if name in made else ours(name, batch, accumulate)
    step()
    print(json.dumps(0.0), flush=True)
    for line in sys.stdin:
        begin, done = time.process_time(), 0
        while time.process_time() - begin < float(line):
            done += step()
        print(json.dumps((time.process_time() - begin) / done), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--accumulate", type=int, help="as in train: cut the batch of ours into so many parts")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--worker", choices=NETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return work(asked.worker, asked.batch, asked.accumulate)
    for name in THEIRS:
        if name in asked.nets and importlib.util.find_spec(name) is None:
            print(
                f"bench_nets: {name} is missing; pip install 'diffsde[bench]', or leave it out of --nets",
                file=sys.stderr,
            )
            sys.exit(2)
    more = ["--batch", str(asked.batch), *(["--accumulate", str(asked.accumulate)] if asked.accumulate else [])]
    commands = {name: [__file__, "--worker", name, *more] for name in asked.nets}
    with workers(commands, dict.fromkeys(asked.nets, "1"), {}) as running:
        for name in asked.nets:
            running[name].ask()
        turns = range(3 if asked.quick else asked.rounds)
        rounds = [{name: running[name].ask("0.5") for name in asked.nets} for _ in turns]
    print(f"{machine('jax', 'jaxlib', 'torch')}; batch {asked.batch}, one thread, medians of {len(rounds)} rounds\n")
    print("| net | CPU ms a step | spread |\n|---|---:|---:|")
    for name in asked.nets:
        times = sorted(1000 * each[name] for each in rounds)
        print(f"| {THEIRS.get(name, name)} | {statistics.median(times):.0f} | {times[0]:.0f} to {times[-1]:.0f} |")


if __name__ == "__main__":
    main()
