"""Memory that sampling takes against the number of steps: what XLA sets aside, and the peak of a fresh process.

    python scripts/bench_memory.py [--steps 100 1000 10000] [--rounds 3]

10,000 points in the plane, an MLP of 3 layers of 64, Euler's method, as in bench_sample; without a trajectory, and with
the state after every 10 steps kept. Temporaries and output as the compiled program states them; the peak as the system
counted it (ru_maxrss), less that of the fewest steps, the median of some processes each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

from bench_sample import N, compiled

LIMIT = 5e6  # bytes beyond the run of the fewest steps, without a trajectory


def work(steps: int, save_every: int | None) -> None:
    """Compile, run once, and print the bytes."""
    import jax

    program, given, _ = compiled("euler", steps, save_every=save_every)
    jax.block_until_ready(program(*given))
    stated = program.memory_analysis()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([stated.temp_size_in_bytes, stated.output_size_in_bytes, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=(100, 1000, 10_000), help="from few to many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, type=int, metavar=("STEPS", "EVERY"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return work(asked.worker[0], asked.worker[1] or None)
    print("| trajectory | steps | temporaries, MB | output, MB | peak beyond the fewest steps, MB |")
    print("|---|---:|---:|---:|---:|")
    worst = 0.0
    for every in (0, 10):
        least = None
        for steps in asked.steps:
            command = [sys.executable, __file__, "--worker", str(steps), str(every)]
            found = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(asked.rounds)
            ]
            temporaries, output, peak = (statistics.median(column) for column in zip(*found, strict=True))
            least = peak if least is None else least
            if not every:
                worst = max(worst, peak - least)
            kept = f"every {every} steps" if every else "none"
            print(f"| {kept} | {steps} | {temporaries / 1e6:.2f} | {output / 1e6:.2f} | {(peak - least) / 1e6:+.1f} |")
    print(f"\n{N:,} points. Aim: no more than {LIMIT / 1e6:g} MB without a trajectory; found {worst / 1e6:+.1f} MB.")


if __name__ == "__main__":
    main()
