"""How long `diffsde compare` takes, and how much memory, over many jobs, which it makes: python scripts/bench_compare.py 1000;
and a question as one command, three paths x three samplers x two seeds on the moons: python scripts/bench_compare.py question.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SAMPLERS, SEEDS, POINTS = ("heun", "em", "dpmpp_2m", "ddim"), 5, 2000


def make(count: int, points: bool) -> None:
    """Jobs of evaluate, of four samplers, as many numbers of steps as it takes and five seeds; points: with -log p of 2,000 points."""
    from diffsde.cli.main import composed

    config = composed("evaluate", ["run=oracle", "dataset=moons", "path=ot"])
    draw, where = np.random.default_rng(0), Path("jobs")
    where.mkdir()
    (where / "sweep.json").write_text(json.dumps({"verb": "evaluate", "words": []}))
    x, hard = draw.normal(size=(POINTS, 2)), draw.normal(size=POINTS)
    seeds = 1 if points else SEEDS
    for i in range(count):
        sampler, steps, seed = SAMPLERS[i // seeds % 4], 2 + i // (4 * seeds), i % seeds
        words = {"run": "oracle", "sampler": sampler, "steps": steps, "seed": seed}
        folder = where / str(i)
        folder.mkdir()
        log_p = hard + 0.1 * draw.normal(size=POINTS)
        figures: dict[str, Any] = {
            "w2": {"value": 0.2 + 1 / steps, "error": 0.02, "floor": 0.15, "floor_error": 0.01, "points": 500}
        }
        figures["w2"]["value"] += 0.01 * draw.normal()
        figures["nll"] = {"value": float(-log_p.mean()), "error": 0.02}
        summary = {
            "metrics": figures,
            "units": {"nll": "nats"},
            "directions": {"w2": "lower", "nll": "lower"},
            "n": 500,
        }
        summary |= {"steps": steps, "nfe": 2 * steps, "seconds": 0.1, "cpu_seconds": 0.1 * steps}
        kept = {"format": 4, "verb": "evaluate", "directory": str(Path.cwd())}
        kept["config"] = config | {"sampler": {"name": sampler}, "steps": steps, "seed": seed}
        kept["provenance"] = {
            "date": f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}",
            "words": [f"{k}={v}" for k, v in words.items()],
        }
        (folder / "config.json").write_text(json.dumps(kept))
        (folder / "summary.json").write_text(json.dumps(summary))
        if points:
            np.savez(folder / "likelihood.npz", log_p=log_p, x=x)


def timed(verb: str, *words: str) -> list[str]:
    """Print wall and CPU seconds and the memory of one command; what it printed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "diffsde", verb, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = f"{wall:5.1f} s, CPU {spent:5.1f} s, at most {after.ru_maxrss / 1024:4.0f} MB"
    print(f"  diffsde {verb} {' '.join(words):<22} {said}")
    return done.stdout.splitlines()


def question() -> None:
    """Train, sample and compare, by one command; the table."""
    words = ("train=dataset=moons path=ot,vp,trig seed=0,1", "sample=sampler=heun,em,dpmpp_2m")
    said = timed("study", *words)
    print("\n".join(said[next(i for i, line in enumerate(said) if " compared (" in line) :]))


if __name__ == "__main__":
    if sys.argv[1:] == ["question"]:
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            question()
            os.chdir("/")
        sys.exit()
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for points in (False, True):
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            make(number, points)
            print(
                f"{number:,} jobs, {'of one seed, with 2,000 test points each' if points else f'{SEEDS} seeds a row'}"
            )
            timed("compare", "jobs", "pictures=false")
            timed("compare", "jobs")
            os.chdir("/")
