"""What a person waits for: CPU and wall seconds of whole commands, here and in another checkout, in alternation.

    python scripts/bench_wait.py [--against ../older] [--rounds 5] [--only sample explain]

Every command runs once before it is timed, so that its programs are in the compilation cache. Printed: medians over the
rounds, user and system time together as CPU seconds. The first row is what none can go below: Python importing jax and hydra
and running one operation. Each checkout runs in a folder of its own, in which it first trains the default run, which is sampled.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "import": (["-c", "import hydra, jax; jax.numpy.zeros(3) + 1"], {}),
    "completion": (["-m", "diffsde"], {"COMP_LINE": "diffsde train path=s"}),
    "refusal": (["-m", "diffsde", "train", "lr=-1"], {}),
    "explain": (["-m", "diffsde", "explain"], {}),
    "train": (["-m", "diffsde", "train", "steps=10", "resume=false"], {}),
    "sample100": (["-m", "diffsde", "sample", "run=run", "plots=false", "n=100"], {}),
    "sample": (["-m", "diffsde", "sample", "run=run", "plots=false"], {}),
    "pictures": (["-m", "diffsde", "sample", "run=run"], {}),
}


def seconds(root: Path, folder: Path, words: list[str], env: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of one command of a checkout, run in a folder."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(root)} | env, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    chosen = parser.parse_args()
    roots = {"here": HERE} | ({"other": chosen.against.resolve()} if chosen.against else {})
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place, name) for name in roots}
        for name, root in roots.items():
            folders[name].mkdir()
            wait = seconds(root, folders[name], ["-m", "diffsde", "train", "hydra.run.dir=run"], {})
            print(f"{name}: {root}, the default run: {wait[0]:.1f} CPU s, {wait[1]:.1f} s", flush=True)
        names = " | ".join(f"{name}, CPU s | wall s" for name in roots)
        print(f"\n| command | {names} |\n|---|{'---:|---:|' * len(roots)}", flush=True)
        for key in chosen.only:
            words, env = COMMANDS[key]
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
            for i in range(chosen.rounds + 1):
                for name, root in roots.items():
                    spent = seconds(root, folders[name], words, env)
                    if i:  # the first fills the cache
                        found[name].append(spent)
            cells = [f"{statistics.median(each):.2f}" for name in roots for each in zip(*found[name], strict=True)]
            print(f"| {env.get('COMP_LINE', '') or ' '.join(words[2:]) or key} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
