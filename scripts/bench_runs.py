"""How long `diffsde runs` takes, and how much memory, over many run folders, which it makes: python scripts/bench_runs.py 10000."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATHS, OBJECTIVES, SAMPLERS = ("ot", "vp", "trig"), ("cfm", "noise"), ("heun", "em", "dpmpp_2m")


def make(count: int) -> None:
    """Run folders as the commands leave them: half of training, half of samples, a tenth in sweeps of ten, some unfinished."""
    from diffsde.cli.main import composed

    configs = {verb: composed(verb, []) for verb in ("train", "sample")}
    for i in range(count):
        verb = ("train", "sample")[i % 2]
        day, second = f"2026-{1 + i // 28 % 12:02}-{1 + i % 28:02}", i // 28
        time_of_day = f"{second // 3600 % 24:02}-{second // 60 % 60:02}-{second % 60:02}-{i:06}"
        sweep = Path("outputs", verb, day, f"{time_of_day}-sweep")
        folder = sweep / "0" if i % 10 == 0 else Path("outputs", verb, day, time_of_day)
        words = (
            [f"path={PATHS[i % 3]}", f"seed={i}"] if verb == "train" else [f"sampler={SAMPLERS[i % 3]}", f"seed={i}"]
        )
        (folder / ".hydra").mkdir(parents=True)
        if i % 10 == 0:
            (sweep / "sweep.json").write_text(json.dumps({"verb": verb, "words": words}))
        (folder / ".lock").touch()
        (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
        chosen = {"path": {"name": PATHS[i % 3]}} if verb == "train" else {"run": "outputs/train/none", "steps": 20}
        about = {
            "id": "",
            "date": "",
            "command": f"diffsde {verb} {' '.join(words)}",
            "words": words,
            "versions": {"jax": "0"},
        }
        kept = {"format": 4, "verb": verb, "config": configs[verb] | chosen | {"seed": i}, "provenance": about}
        (folder / "config.json").write_text(json.dumps(kept, indent=2))
        figure = {"value": 0.5 + i / count, "error": 0.01, "floor": 0.4, "points": 1000}
        found = {"metric": {"name": "loss"}, "loss": figure} if verb == "train" else {"metrics": {"w2": figure}}
        if i % 50:
            (folder / "summary.json").write_text(json.dumps(found | {"steps": 20, "seconds": 1.5}, indent=2))


def timed(*words: str) -> None:
    """Print wall and CPU seconds and the memory of one command."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "diffsde", "runs", *words], capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    most = after.ru_maxrss / 1024
    print(
        f"diffsde runs {' '.join(words):<28} {wall:5.2f} s, CPU {spent:5.2f} s, up to now {most:4.0f} MB, {len(done.stdout.splitlines())} lines"
    )


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    import os

    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        make(number)
        print(f"{number:,} folders")
        for words in ([], ["path=ot", "seed=6"], ["state=stopped"], ["--json", "n=30"], ["n=all"], ["--json"]):
            timed(*words)
        os.chdir("/")
