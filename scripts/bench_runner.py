"""What `diffsde train` costs around its compiled steps: its loop, with log and progress, and its checkpoints.

    python scripts/bench_runner.py [--rounds 7] [--steps 5000]

The same compiled program, called bare in a Python loop and by fitting.fit, in turns in one process. A turn is a whole
run of so many steps, with the checkpoint at its end, which is timed apart: a long run writes one every 30 s.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from diffsde import memory

memory.tune_malloc()

import jax  # noqa: E402  # after the allocator is told
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from diffsde.cli.main import composed  # noqa: E402
from diffsde.loggers import NoLogger  # noqa: E402
from diffsde.runs import progress  # noqa: E402
from diffsde.runs.train_config import train_choices  # noqa: E402
from diffsde.runs.training_loop import EVERY, RunWriter, Schedule, fit  # noqa: E402
from diffsde.training import Run, TrainState, start, train_steps  # noqa: E402
from diffsde.verbs.train import plan_of  # noqa: E402
from diffsde.verbs.train_setup import prepare  # noqa: E402

RAW = ["net.time_frequencies=0", "net.space_frequencies=0"]
CONFIGS = {"default": [], "64x3@256": ["net.widths=[64,64,64]", "batch_size=256", *RAW]}
AIM = 0.05


class Spent:
    """Wall and CPU seconds between `begin` and `end`, all threads of the process together."""

    def __init__(self) -> None:
        self.total = np.zeros(2)

    def __enter__(self) -> None:
        self.began = np.array([time.perf_counter(), time.process_time()])

    def __exit__(self, *_: Any) -> None:
        self.total += np.array([time.perf_counter(), time.process_time()]) - self.began


def bare(program: Any, run: Run, state: TrainState, plan: Schedule) -> np.ndarray:
    """(wall, CPU) seconds of the steps alone."""
    spent, count = Spent(), np.int32(plan.log_every)
    with spent:
        for _ in range(plan.steps // plan.log_every):
            state, losses = program(run, state, count)
        jax.block_until_ready(losses)
    return spent.total


def whole(program: Any, run: Run, state: TrainState, plan: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """(wall, CPU) seconds of the run's loop without its checkpoint, and of the checkpoint."""
    loop, saving = Spent(), Spent()
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        member = RunWriter(Path(out), plan, run.problem.moments, run.classes)
        member.recorder = NoLogger().open(Path(out), {}, 0, progress.warn)
        save, wait = member.save, member.manager.wait
        member.save = lambda *words: _timed(saving, save, *words)  # type: ignore[method-assign]
        member.manager.wait = lambda: _timed(saving, wait)  # type: ignore[method-assign]
        with loop:
            fit(program, run, state, [member], plan, lambda i, state: 0.0)
    return loop.total - saving.total, saving.total


def _timed(spent: Spent, function: Any, *words: Any) -> None:
    with spent:
        function(*words)


def measure(words: list[str], steps: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds: seconds a step, bare, the loop's own share, and seconds of a checkpoint, wall and CPU."""
    chosen = train_choices(composed("train", [f"steps={steps}", *words]))
    run, params = prepare(chosen)
    plan, count = plan_of(chosen), np.int32(chosen.log_every)

    def fresh() -> TrainState:
        return start(run, jax.tree.map(jnp.copy, params))  # a run gives its state's memory away

    program = train_steps.lower(run, fresh(), count, chunk=plan.log_every).compile()
    turns = [(bare(program, run, fresh(), plan), *whole(program, run, fresh(), plan)) for _ in range(rounds + 1)][1:]
    found = {}
    for i, kind in enumerate(("wall", "cpu")):
        found[f"{kind} a step"] = statistics.median(alone[i] for alone, _, _ in turns) / steps
        found[f"{kind} share"] = statistics.median(loop[i] / alone[i] for alone, loop, _ in turns) - 1
        found[f"{kind} a checkpoint"] = statistics.median(saving[i] for _, _, saving in turns)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5000)
    asked = parser.parse_args()
    print(
        "| config | ms a step, wall | CPU | loop's share, wall | CPU | a checkpoint, wall | CPU | one each 30 s, CPU |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, words in CONFIGS.items():
        found = measure(words, asked.steps, asked.rounds)
        cells = [f"{1e3 * found[f'{kind} a step']:.3f}" for kind in ("wall", "cpu")]
        cells += [f"**{found[f'{kind} share']:+.1%}**" for kind in ("wall", "cpu")]
        cells += [f"{1e3 * found[f'{kind} a checkpoint']:.0f} ms" for kind in ("wall", "cpu")]
        print(f"| {name} | {' | '.join(cells)} | {found['cpu a checkpoint'] / EVERY:.1%} |", flush=True)
    print(f"\nAim: the loop and its checkpoints at most {AIM:.0%}.")


if __name__ == "__main__":
    main()
