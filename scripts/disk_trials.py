"""Disks that are full at some moment of a command: one line and status 2, nothing half-written, and the same bits once there is room.

    python scripts/disk_trials.py [--trials 40] [--seed 0] [--out outputs/disk-trials]

Each trial runs a verb where a file, or with root's rights the whole disk (a tmpfs of its own), takes no more than a random number of bytes,
from 1 kB to 1.4 MB, and then the same command without the limit. Prints each trial that goes wrong, and counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

TRAIN = "train dataset=moons steps=120 batch_size=64 threads=1 log_every=20 checkpoint_every=20 keep=2 pictures=none"
COMMANDS = {
    "train": TRAIN,
    "sample": "sample run=oracle dataset=gmm path=ot n=5000 steps=8 threads=1 save_every=2",
    "evaluate": "evaluate run=oracle dataset=gmm path=ot n=500 steps=8 threads=1 metrics=[mixture]",
    "simulate": "simulate process=ou n=500 steps=50 threads=1",
    "show": "show what=density dataset=gmm path=ot threads=1",
    "sweep": "sample -m run=oracle dataset=gmm path=ot n=500 steps=8,9 threads=1",
}


def run(place: Path, words: str, largest: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a folder; largest: bytes of a file, None: as many as there is room for."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest or 0, largest or 0))

    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path[1:2]])}
    return subprocess.run(
        [sys.executable, "-m", "diffsde", *words.split()],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit if largest else None,
    )


def results(place: Path) -> dict[str, object]:
    """What the finished jobs of a folder found: every array, and the losses of every log."""
    found: dict[str, object] = {}
    for path in sorted(place.rglob("*.npz")):
        with np.load(path) as archive:
            found |= {f"{path.parent.name[-2:]}/{path.name}/{name}": archive[name].tobytes() for name in archive.files}
    for path in sorted(place.rglob("metrics.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        found["losses"] = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    names = sorted(found)  # folders are named by the time: what they hold is compared in order
    return {str(i): found[name] for i, name in enumerate(names)}


def faults(place: Path, done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is wrong with a command that found no room."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    wrong = [] if done.returncode in (0, 2) else [f"status {done.returncode}"]
    if done.returncode and not (lines and all(line.startswith("diffsde: ") for line in lines)):
        wrong.append("more than its lines: " + " | ".join(lines[-3:])[:300])
    for path in place.rglob("*"):
        if path.is_file() and path.name.startswith(".") and path.name != ".lock":
            wrong.append(f"left over: {path.name}")
        try:
            if path.suffix == ".json" and ".orbax" not in str(path) and "checkpoints" not in path.parts:
                json.loads(path.read_text())
            elif path.suffix == ".npz" and zipfile.ZipFile(path).testzip():
                wrong.append(f"half-written: {path.name}")
        except (ValueError, zipfile.BadZipFile):
            wrong.append(f"half-written: {path.name}")
    return wrong


def trial(verb: str, size: int, place: Path, expected: dict[str, object]) -> tuple[list[str], int]:
    """What goes wrong in one trial, and the status of the command that had too little room."""
    place.mkdir(parents=True)
    disk = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False)  # fmt: skip
    mounted = disk.returncode == 0
    try:
        done = run(place, COMMANDS[verb], None if mounted else size)
        wrong = faults(place, done)
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=200M", str(place)], check=True)
        again = run(place, COMMANDS[verb])
        if again.returncode:
            wrong.append(f"the same command with room: status {again.returncode}: {again.stderr.strip()[-300:]}")
        elif expected and set(expected.values() if verb != "train" else [str(expected)]) - set(
            results(place).values() if verb != "train" else [str(results(place))]
        ):
            wrong.append("other numbers than without the limit")
        return wrong, done.returncode
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/disk-trials"))
    asked = parser.parse_args()
    chance, expected = random.Random(asked.seed), {}
    base = asked.out.resolve()
    for verb, words in COMMANDS.items():
        (base / f"whole-{verb}").mkdir(parents=True)
        done = run(base / f"whole-{verb}", words)
        assert done.returncode == 0, done.stderr
        expected[verb] = results(base / f"whole-{verb}")
    full = bad = 0
    for i in range(asked.trials):
        verb, size = list(COMMANDS)[i % len(COMMANDS)], int(1000 * 1400 ** chance.random())
        wrong, status = trial(verb, size, base / f"{i:03d}", expected[verb])
        full, bad = full + (status != 0), bad + bool(wrong)
        print(f"{i:3d} {verb:8s} {size:8d} bytes: status {status}", *wrong, sep="; ", flush=True)
    print(f"{asked.trials} commands, of which {full} found no room; {bad} went wrong (seed {asked.seed})")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
