"""Random command lines: combinations of all groups and of extreme numbers, each of which runs or is refused in one line.

    python scripts/fuzz_configs.py [--commands 1000] [--seed 0] [--folder outputs/fuzz] [--only 17 230] [--limit 150]

Many run in one process, which is killed and begun anew where a command takes longer than the limit. What each did is a line of
records.jsonl in the folder, by which the same command line goes on where it was stopped. A command is wrong where it ends with
a traceback, another status than 0 and 2, more or less than one line of refusal, a line that is not ours, files left by a
refusal, numbers that are not finite, or a config.json that says another value than was typed. Exit status 1 where one is.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fuzz_coverage
import fuzz_space
import numpy as np

FLOW = "batch_size=64 steps=20 net=mlp net.widths=[8] pictures=none"
PREPARED = {
    "plane": f"dataset=moons {FLOW}",
    "line": f"dataset=mixture dataset.means=[[-1.0],[2.0]] dataset.stds=[0.3,0.5] {FLOW}",
    "labelled": f"dataset=gmm dataset.conditional=true {FLOW}",
    "vp": f"dataset=gmm path=vp objective=noise {FLOW}",
    "score": f"dataset=gmm path=ve objective=score {FLOW}",
    "two_laws": f"source=8gaussians dataset=moons path=icfm {FLOW}",
    "bridge": f"source=8gaussians dataset=moons path=bridge objective=cfm+score {FLOW}",
    "flow_map": f"dataset=moons objective=meanflow {FLOW}",
    "classifier": f"dataset=gmm objective=classifier {FLOW}",
    "continuous": "dataset=moons objective=likelihood batch_size=16 steps=3 net=mlp net.widths=[8] pictures=none",
    "realnvp": "dataset=moons objective=likelihood net=realnvp batch_size=64 steps=5 pictures=none",
    "images": "dataset=digits net=mixer net.width=8 net.depth=1 batch_size=8 steps=3 pictures=none",
    "snapshots": f"dataset=drifting dataset.size=200 {FLOW}",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("outputs/fuzz"))
    parser.add_argument("--only", type=int, nargs="+", help="the numbers of some commands, which are tried again")
    parser.add_argument("--limit", type=float, default=150, help="seconds a command")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records.jsonl"
    done = {each["number"]: each for each in read(records) if each["seed"] == asked.seed}
    worker = Worker(folder / "place")
    worker.prepare()
    for number in asked.only or range(asked.commands):
        if asked.only is None and number in done:
            continue
        words = fuzz_space.command(asked.seed, number)
        done[number] = {"seed": asked.seed, "number": number, "words": words, **worker.tried(words, asked.limit)}
        with open(records, "a") as file:
            file.write(json.dumps(done[number]) + "\n")
        if asked.only or done[number]["faults"]:
            print(
                f"{number}: diffsde {' '.join(words)}\n   {done[number]['faults']} {done[number]['stderr'][-1500:]}",
                flush=True,
            )
    worker.end()
    return report([each for number, each in done.items() if number < asked.commands or asked.only], asked.seed)


class Worker:
    """A process of fuzz_worker.py in a scratch folder with data and runs of every kind."""

    def __init__(self, place: Path) -> None:
        self.place, self.process = place, None  # type: tuple[Path, subprocess.Popen[bytes] | None]

    def prepare(self) -> None:
        """The files and the trained runs that commands name."""
        if (self.place / "ready").exists():
            return
        if not (self.place / "five.npy").exists():
            shutil.rmtree(self.place, ignore_errors=True)
            self.place.mkdir(parents=True)
            write_data(self.place)
        here = [sys.executable, "-m", "diffsde", "train"]
        for name in PREPARED.keys() - {each.parent.name for each in self.place.glob("runs/*/summary.json")}:
            words = PREPARED[name]
            told = [*here, *words.split(), f"hydra.run.dir=runs/{name}"]
            cache = {"XDG_CACHE_HOME": str(self.place / "cache"), "XLA_FLAGS": "--xla_backend_optimization_level=1"}
            subprocess.run(told, cwd=self.place, check=True, stdout=subprocess.DEVNULL, env=os.environ | cache)
        (self.place / "ready").touch()

    def tried(self, words: Sequence[str], limit: float) -> dict[str, Any]:
        """What a command did."""
        alone = any(word.startswith(("devices=", "threads=")) for word in words)  # which a process reads once
        if alone:
            self.end()
        if self.process is None:
            told = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py")), str(self.place)]
            self.process = subprocess.Popen(
                told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(in_place(words)).encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else b""
        if line:
            if alone:
                self.end()
            return dict(json.loads(line))
        ended = self.process.poll() if ready else None
        self.end()
        shutil.rmtree(self.place / "outputs", ignore_errors=True)
        fault = f"the process ended ({ended})" if ready else "no answer in time"
        return {"status": None, "stderr": "", "stdout": "", "seconds": limit, "faults": [fault]}

    def end(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


def in_place(words: Sequence[str]) -> list[str]:
    """The words with the prepared runs by their folders."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        found.append(
            f"{key}=runs/{value}"
            if value in PREPARED and key in ("run", "coupling.run", "init", "teacher", "guide")
            else word
        )
    return found


def write_data(place: Path) -> None:
    """Files of points of every scale, of pairs, of snapshots and of images."""
    from PIL import Image

    draw = np.random.default_rng(0)
    points = draw.normal(size=(60, 2)).astype(np.float32)
    arrays: dict[str, Any] = {
        "points": points,
        "line": points[:, :1],
        "five": draw.normal(size=(60, 5)),
        "huge": points * np.float32(1e30),
        "tiny": points * np.float32(1e-30),
        "constant": np.ones((60, 2), np.float32),
        "one_constant": np.stack([points[:, 0], np.full(60, 7.0)], 1),
        "far": points + 1e9,
        "one": points[:1],
        "two": points[:2],
        "bad": np.where(points > 2, np.nan, points),
        "widest": points.astype(np.float64) * 1e200,
        "whole": draw.integers(0, 10**12, (60, 2)),
        "images": draw.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8),
    }
    for name, each in arrays.items():
        np.save(place / f"{name}.npy", each)
    np.savez(place / "pairs.npz", y=points, z=points + 1)
    np.savez(place / "huge_pairs.npz", y=points * 1e30, z=points)
    times = np.repeat([0.0, 1.0, 2.0], 20)
    np.savez(place / "snapshots.npz", x=points, time=times)
    np.savez(place / "far_snapshots.npz", x=points * 1e30, time=times * 1e12)
    rows = "\n".join(f"{t},{a},{b}" for t, (a, b) in zip(times, points, strict=True))
    (place / "snapshots.csv").write_text(f"time,a,b\n{rows}\n")
    rows = "\n".join(f"{a},{b},{'cat' if a > 0 else 'dog'}" for a, b in points)
    (place / "labelled.csv").write_text(f"a,b,kind\n{rows}\n")
    for kind in ("cat", "dog"):
        (place / "images" / kind).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(draw.integers(0, 256, (4, 4), np.uint8)).save(place / "images" / kind / f"{i}.png")


def read(records: Path) -> list[dict[str, Any]]:
    """The records that are there."""
    return [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []


def report(records: Sequence[dict[str, Any]], seed: int) -> int:
    """Print what was tried, what came of it, and how much of the space that is."""
    outcomes = collections.Counter({0: "ran", 2: "refused"}.get(each["status"], "neither") for each in records)
    faults = collections.Counter(fault.partition(":")[0] for each in records for fault in each["faults"])
    bad = [each for each in records if each["faults"]]
    print(
        f"seed {seed}: {len(records)} commands; "
        + ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    )
    for what, (tried, ran, every) in fuzz_coverage.covered(
        (each["words"], each["status"] == 0) for each in records
    ).items():
        print(f"  {what}: {tried:,} of {every:,} tried, {ran:,} in commands that ran")
    print(f"  wrong: {len(bad)}" + "".join(f"\n    {count} {fault}" for fault, count in faults.most_common()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
