"""Cost of coupling a batch: exact solvers beside one another, and training steps with optimal transport beside torchcfm's.

    python scripts/bench_couplings.py [--quick] [--rounds 5] [--seconds 3]     (pip install 'diffsde[bench]' lapx ott-jax)

First table: plans of n points from eight Gaussians to two moons (or from N(0, I) to a mixture of two in 32 dimensions), squared
Euclidean cost, one thread, CPU ms: `assign` is what coupling=ot calls; scipy's own; lapx's four; POT's network simplex; those that
are not installed are left out. Each plan costs the same as scipy's, or the script ends.

Second: entropic plans at several epsilon: `entropic` (coupling=sinkhorn) on the host beside ott-jax in a compiled program, both to
marginals within 1e-3.

Third: training steps between eight Gaussians and moons, 3 x 64 SELU, batch 256, wall and CPU ms a step: the step alone
(coupling=independent), the plan alone, the step with the plan made ahead (ot), and torchcfm's 2-D tutorial loop with its
ExactOptimalTransportConditionalFlowMatcher. Contestants take turns; a thread of PyTorch's, and of XLA's, and one that solves.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from contest import KEEP_MEMORY, machine, workers

SIZES = (64, 128, 256, 512, 1024)
EPSILONS = (2.0, 0.5, 0.1)
BATCH = 256
OURS = (
    "train source=8gaussians source.radius=5 source.std=0.316 dataset=moons dataset.noise=0.2 path=ot time=uniform"
    f" objective.weight=unit net=mlp net.widths=[64,64,64] net.activation=selu batch_size={BATCH} steps=1000000"
    " net.time_frequencies=0 net.space_frequencies=0"
).split()
COUPLINGS = {
    "step": [],
    "ot": ["coupling=ot"],
    "ot, blocks of 64": ["coupling=ot", "coupling.block=64"],
    "sinkhorn, epsilon 2": ["coupling=sinkhorn", "coupling.epsilon=2"],
}
PLANS = {"plan": "ot", "plan, blocks of 64": "ot, blocks of 64", "plan, sinkhorn": "sinkhorn, epsilon 2"}
TORCH = "torchcfm, ot"
CHUNK = 100  # steps in one dispatch of ours
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def clouds(n: int, d: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) of both ends."""
    if d == 2:
        angles, arc, side = (
            random.integers(0, 8, n) * np.pi / 4,
            random.random(n) * np.pi,
            np.sign(random.normal(size=n)),
        )
        y = 5 * np.stack([np.cos(angles), np.sin(angles)], 1) + 0.316 * random.normal(size=(n, 2))
        z = np.stack([side * np.cos(arc) + (1 - side) / 2, side * np.sin(arc) + (1 - side) / 4], 1)
        return y, 3 * (z + 0.2 * random.normal(size=(n, 2))) - 1
    return random.normal(size=(n, d)), random.normal(size=(n, d)) + 2 * (random.random((n, 1)) < 0.5)


def exact_solvers() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Functions from costs (n, n) to the column of each row, of what is installed."""
    from scipy.optimize import linear_sum_assignment

    from diffsde.couplings.assignment import assign

    found = {"`assign`": lambda costs: assign(costs[None])[0], "scipy": lambda costs: linear_sum_assignment(costs)[1]}
    if importlib.util.find_spec("ot"):
        import ot

        def pot(costs: np.ndarray) -> np.ndarray:
            each = np.full(len(costs), 1 / len(costs))
            return ot.emd(each, each, costs, numItermax=10**8).argmax(1)

        found["POT"] = pot
    if importlib.util.find_spec("lap"):
        import lap

        found["lapx lapjv"] = lambda costs: lap.lapjv(costs, return_cost=False)[0]
        found["lapx lapjvs"] = lambda costs: lap.lapjvs(costs, return_cost=False, jvx_like=False)[0]
        found["lapx lapjvc"] = lambda costs: lap.lapjvc(costs, return_cost=False)[1]
    return found


def spent(function: Callable[[], object]) -> float:
    """CPU ms."""
    began = time.process_time()
    function()
    return 1000 * (time.process_time() - began)


def exact_table(quick: bool) -> Iterator[str]:
    from diffsde.couplings.coupling import squared_distances

    solvers, random = exact_solvers(), np.random.default_rng(0)
    yield "| d | n | " + " | ".join(solvers) + " |"
    yield "|" + "---|" * (len(solvers) + 2)
    for d in (2, 32):
        for n in SIZES[: 3 if quick else None]:
            times: dict[str, list[float]] = {name: [] for name in solvers}
            for _ in range(3 if quick else 5 if n > 256 else 21):
                costs, rows = squared_distances(*clouds(n, d, random)), np.arange(n)
                totals = []
                for name, solve in solvers.items():
                    columns: list[np.ndarray] = []
                    times[name].append(spent(lambda: columns.append(solve(costs.copy()))))  # noqa: B023
                    totals.append(costs[rows, columns[0]].sum())
                assert np.allclose(totals, totals[0], rtol=1e-9), f"plans of different cost: {totals}"
            yield f"| {d} | {n} | " + " | ".join(f"{statistics.median(found):.2f}" for found in times.values()) + " |"


def entropic_table(quick: bool) -> Iterator[str]:
    import jax
    import jax.numpy as jnp

    from diffsde.couplings.coupling import squared_distances
    from diffsde.couplings.scaling import entropic

    theirs = None
    if importlib.util.find_spec("ott"):
        from ott.geometry import pointcloud
        from ott.solvers import linear

        theirs = jax.jit(
            lambda y, z, epsilon: (
                linear.solve(pointcloud.PointCloud(y, z, epsilon=epsilon), threshold=1e-3, max_iterations=10_000).f
            )
        )
    yield "| n | epsilon | `entropic` | ott-jax, compiled |"
    yield "|---|---|---|---|"
    for n in (64, 256, 512)[: 2 if quick else None]:
        random, y, z = np.random.default_rng(0), *clouds(n, 2, np.random.default_rng(n))
        points = [(y, z), *(clouds(n, 2, random) for _ in range(4))]
        for epsilon in EPSILONS:
            ours = [spent(lambda: entropic(squared_distances(*pair), epsilon)) for pair in points]  # noqa: B023
            other = "not installed"
            if theirs:
                on_device = [[jnp.asarray(end, jnp.float32) for end in pair] for pair in points]
                jax.block_until_ready(theirs(*on_device[0], epsilon))
                found = [spent(lambda: jax.block_until_ready(theirs(*pair, epsilon))) for pair in on_device]  # noqa: B023
                other = f"{statistics.median(found):.2f}"
            yield f"| {n} | {epsilon:g} | {statistics.median(ours):.2f} | {other} |"


def our_steps(words: list[str]) -> Callable[[], int]:
    """A function that trains CHUNK steps, as `diffsde train` does, and waits for them."""
    from diffsde import memory

    memory.tune_malloc()
    import dataclasses

    import jax

    from diffsde.cli.main import composed
    from diffsde.pairs_ahead import PairsAhead
    from diffsde.runs.train_config import train_choices
    from diffsde.training import start, train_steps
    from diffsde.verbs.train_setup import prepare

    run, params = prepare(train_choices(composed("train", [*OURS[1:], *words])))
    state, count, step = start(run, params), np.int32(CHUNK), 0
    ahead = PairsAhead([run], CHUNK, (0, 10**6)) if run.coupling else None
    if ahead:
        run = dataclasses.replace(run, pairs=ahead.empty())
        count = np.int32(min(CHUNK, ahead.capacity))
    program = train_steps.lower(run, state, count, chunk=CHUNK).compile()

    def segment() -> int:
        nonlocal state, step
        given = dataclasses.replace(run, pairs=ahead.buffer(step)) if ahead else run
        state, losses = program(given, state, count)
        step += int(count)
        jax.block_until_ready(losses)
        return int(count)

    return segment


def plans(words: list[str]) -> Callable[[], int]:
    """A function that pairs the points of CHUNK steps, drawn before."""
    import jax

    from diffsde.cli.main import composed
    from diffsde.pairs_ahead import couple, draw_groups
    from diffsde.runs.train_config import train_choices
    from diffsde.verbs.train_setup import prepare

    run, _ = prepare(train_choices(composed("train", [*OURS[1:], *words])))
    drawn = jax.tree.map(np.asarray, draw_groups(run, np.int32(0), CHUNK, BATCH))

    def segment() -> int:
        for step in range(CHUNK):
            couple(run, jax.tree.map(lambda leaf: leaf[step], drawn), np.random.default_rng(step))  # noqa: B023
        return CHUNK

    return segment


def tutorial_loop() -> Callable[[], int]:
    """torchcfm's tutorial with its exact optimal transport, one step a call."""
    import torch
    from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
    from torchcfm.models.models import MLP
    from torchcfm.utils import sample_8gaussians, sample_moons

    torch.set_num_threads(1)
    net = MLP(dim=2, time_varying=True)
    optimizer, matcher = torch.optim.Adam(net.parameters()), ExactOptimalTransportConditionalFlowMatcher(sigma=0.1)

    def step() -> int:
        optimizer.zero_grad()
        t, x, u = matcher.sample_location_and_conditional_flow(sample_8gaussians(BATCH), sample_moons(BATCH))
        torch.mean((net(torch.cat([x, t[:, None]], -1)) - u) ** 2).backward()
        optimizer.step()
        return 1

    return step


def work(name: str) -> None:
    """A worker: for each number of seconds read, run that long and answer with wall and CPU ms a step."""
    if name == TORCH:
        step = tutorial_loop()
    else:
        step = plans(COUPLINGS[PLANS[name]]) if name in PLANS else our_steps(COUPLINGS[name])
    step()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        for _ in range(4):  # what was made ahead while the others ran is used up
            step()
        began, cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < float(line):
            steps += step()
        figures = (time.perf_counter() - began) / steps, (time.process_time() - cpu) / steps
        print(json.dumps([1000 * figure for figure in figures]), flush=True)


def step_table(rounds: int, seconds: float) -> Iterator[str]:
    names = [*COUPLINGS, *PLANS, *([TORCH] if importlib.util.find_spec("torchcfm") else [])]
    commands = {name: [__file__, "--worker", name] for name in names}
    with workers(commands, dict.fromkeys(names, "1"), KEEP_MEMORY | ONE_THREAD) as running:
        for worker in running.values():
            worker.ask()
        segments = [{name: running[name].ask(str(seconds)) for name in names} for _ in range(rounds)]
    found = {name: [statistics.median(one[name][i] for one in segments) for i in range(2)] for name in names}
    yield "| | wall ms | CPU ms | |"
    yield "|---|---|---|---|"
    for name, (wall, cpu) in found.items():
        notes = []
        for plan, with_plan in PLANS.items():
            if name == with_plan:
                notes.append(f"{wall / max(found[plan][0], found['step'][0]):.2f} x the larger of plan and step")
        if name in COUPLINGS and name != "step" and TORCH in found:
            notes.append(f"{found[TORCH][1] / cpu:.1f} x torchcfm's steps per CPU second")
        yield f"| {name} | {wall:.2f} | {cpu:.2f} | {', '.join(notes)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tables", nargs="+", default=["exact", "entropic", "steps"])
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    if (
        os.environ.get("OMP_NUM_THREADS") != "1" or os.environ.get("NPROC") != "1"
    ):  # read when numpy and jax are imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD | {"NPROC": "1"})
    print(machine("jax", "numpy", "scipy"), flush=True)
    tables = {
        "exact": lambda: exact_table(options.quick),
        "entropic": lambda: entropic_table(options.quick),
        "steps": lambda: step_table(2 if options.quick else options.rounds, 1.0 if options.quick else options.seconds),
    }
    for name in options.tables:
        print()
        for line in tables[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
