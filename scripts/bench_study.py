"""The time of three paths x three samplers x two seeds on moons as one command, beside a sweep of train and one of sample by hand.

    python scripts/bench_study.py [--steps 4000]

Prints seconds of wall and of CPU (user and system) of each; each begins in an empty folder, with the same cache of programs, which
a first short run fills.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = "sampler=heun,em,dpmpp_2m steps=20"


def timed(commands: list[list[str]], where: Path) -> tuple[float, float]:
    """Seconds of wall and of CPU of commands one after another."""
    wall, before = time.perf_counter(), os.times()
    for words in commands:
        command = [sys.executable, "-m", "diffsde", *words]
        subprocess.run(command, check=True, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - wall, cpu


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", default="4000")
    steps = asked.parse_args().steps
    with tempfile.TemporaryDirectory() as place:
        where = Path(place)
        own = ["threads=1", f"cache_dir={where / 'cache'}"]
        train = f"path=ot,vp,trig seed=0,1 dataset=moons steps={steps}"
        by_hand = [
            ["train", "-m", *train.split(), *own, "hydra.sweep.dir=trained"],
            ["sample", "-m", "run=glob(trained/*)", *SAMPLE.split(), *own, "hydra.sweep.dir=drawn"],
        ]
        drawn = [["study", f"train={train}", f"sample={SAMPLE}", *own, "out=drawn_study"]]
        judged = [["study", f"train={train}", f"sample={SAMPLE}", "evaluate=metrics=[w2]", *own, "out=judged_study"]]
        timed(
            [
                [
                    "study",
                    f"train={train} log_every=10".replace(f"steps={steps}", "steps=20"),
                    *drawn[0][2:-1],
                    "out=warm",
                ]
            ],
            where,
        )
        for name, commands in (
            ("train -m, sample -m", by_hand),
            ("study train= sample=", drawn),
            ("study train= sample= evaluate=", judged),
        ):
            wall, cpu = timed(commands, where)
            print(f"{name:<32} {wall:6.0f} s of wall {cpu:6.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
