"""A sweep as one program: 16 jobs of one command, beside the same jobs as commands of their own.

    python scripts/bench_sweep.py [--jobs 16] [--alone 4]

For training over seeds and for sampling over sigma: programs compiled, and seconds of the whole sweep, beside those of
jobs each run in a fresh process (`--alone` of them, scaled up) with their compilation and without. The sweep is to take
at most what the jobs take one after another less their compilations. The persistent cache is off, so that a job alone
compiles as on its first day; start-up (imports) is in a job's own time, once in the sweep's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = ["train", "steps=1000", "batch_size=256", "net.widths=[64,64,64]"]
SAMPLE = ["sample", "run=oracle", "dataset=gmm", "path=ot", "sampler=em", "steps=100", "plots=false"]
HOWS = {"each": ["hydra/launcher=batch", "hydra.launcher.together=each"],
        "vmap": ["hydra/launcher=batch", "hydra.launcher.together=vmap"]}  # fmt: skip


def timed(words: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, begin = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "diffsde", *words, "cache=false", "threads=1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, spent


def compiling(folder: Path) -> float:
    """Seconds that a job spent compiling its main program."""
    return float(json.loads((folder / "summary.json").read_text())["seconds_compile"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--alone", type=int, default=4, help="jobs that are run alone; their mean stands for all")
    asked = parser.parse_args()
    values = {
        "seed": [str(i) for i in range(asked.jobs)],
        "sigma": [f"{2 * i / asked.jobs:g}" for i in range(asked.jobs)],
    }
    print(
        f"| {asked.jobs} jobs | one by one: wall s / CPU s | ... less compilation | as a sweep, each | vmap | programs compiled |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        for words, key in ((TRAIN, "seed"), (SAMPLE, "sigma")):
            alone = []
            for i, value in enumerate(values[key][: asked.alone]):
                folder = Path(place) / f"{key}{i}"
                alone.append((*timed([*words, f"{key}={value}", f"hydra.run.dir={folder}"]), compiling(folder)))
            wall, cpu, compiled = (sum(column) * asked.jobs / asked.alone for column in zip(*alone, strict=True))
            cells, programs = [f"{wall:.0f} / {cpu:.0f}", f"{wall - compiled:.0f} / {cpu - compiled:.0f}"], []
            for how, launcher in HOWS.items():
                folder = Path(place) / f"{key}-{how}"
                sweep = [*words, "-m", f"{key}={','.join(values[key])}", *launcher, f"hydra.sweep.dir={folder}"]
                spent = timed(sweep)
                cells.append(f"{spent[0]:.0f} / {spent[1]:.0f}")
                jobs = [compiling(folder / str(i)) for i in range(asked.jobs)]
                programs.append(str(sum(seconds > 0 for seconds in jobs) if how == "each" else len(set(jobs))))
            print(f"| `{words[0]}` over {key} | " + " | ".join([*cells, ", ".join(programs)]) + " |", flush=True)


if __name__ == "__main__":
    main()
