"""Whether two checkouts give the same answers: some commands of every verb, what came out of them, and what differs.

    python scripts/same_answers.py keep DIR [--checkout PATH]    run them in DIR, new, to stay there; PATH: this checkout
    python scripts/same_answers.py compare DIR1 DIR2             exit status 1 where anything differs

Seeds are fixed and there is one thread, so two sets of one checkout on one machine are the same to the bit. DIR/NAME.txt has
a command, its messages and its exit status; DIR/NAME/ is what it wrote. Seconds and speeds are not compared.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

# NAME VERB WORDS; train_longer goes on in the folder of train_short
COMMANDS = """
train_gmm train dataset=gmm steps=300
train_moons train dataset=moons objective=noise path=vp steps=200 log_every=50 metric=w2 best=true pictures=none
train_own train dataset=array dataset.file=own.npy dataset.test=0.1 path=trig objective=v steps=200 seed=3
train_digits train dataset=digits dataset.conditional=true net=mixer net.width=32 net.depth=2 optimizer=muon batch_size=32 steps=100 log_every=25 checkpoint_every=50
train_short train steps=200 optimizer.schedule=constant metric=cross_entropy_gap best=true pictures=none
train_longer train run=train_short steps=300
train_sweep train -m seed=0,1 steps=100 time=uniform posterior_points=0 pictures=none
sample_heun sample run=train_gmm n=1000 seed=1
sample_em sample run=train_gmm n=500 sampler=em sigma=0.5 steps=64 save_every=16 pictures=none
sample_adaptive sample run=train_moons n=200 sampler=adaptive grid.end=0.999 pictures=none
sample_dpmpp sample run=train_moons n=500 sampler=dpmpp_2m_sde checkpoint=best pictures=none
sample_own sample run=train_own n=500 sampler=ab2 grid=log_snr grid.end=0.999 pictures=[trajectories]
sample_longer sample run=train_short n=500 sampler=ddpm steps=50 ema=0 pictures=none
sample_guided sample run=train_digits labels=all guidance=2 n=20 steps=10 sampler=unipc
sample_oracle sample run=oracle dataset=gmm path=vp n=500 sampler=exponential diffusion=memoryless pictures=none
sample_sweep sample -m run=oracle dataset=gmm path=ot sampler=em sigma=0,0.5 seed=0,1 n=300 steps=50 hydra/launcher=batch
inverse_oracle sample run=oracle dataset=gmm path=ot measurement=linear measurement.matrix=[[1,0]] posterior=exact n=64 steps=20 pictures=none
inverse_digits sample run=train_digits measurement=inpaint measurement.keep=left n=16 n_measurements=4 steps=5
evaluate_points evaluate run=train_gmm n=500 n_test=50
evaluate_images evaluate run=train_digits n=100 steps=5 labels=all guidance=2 metrics=[frechet,balls,labels,neighbours]
evaluate_samples evaluate samples=sample_em n_test=50
explain explain path=sqrt objective=score sampler=em
error_range train lr=-1
error_group train path=otto
error_metric train metric=foo
error_metrics evaluate run=train_gmm metrics=[foo]
error_run sample run=nowhere
error_sigma sample run=train_gmm sampler=heun sigma=0.5
"""
# Hydra's own files, and what is inside a checkpoint: its step is compared, its parameters by the samples drawn from it.
SKIPPED = re.compile(r"/(\.hydra|\.lock|multirun\.yaml|checkpoints/.+/.*)")
MASKS = {  # of the messages, what the clock has a part in
    r"^(\w+) (\d+)/(?!\2 )\d+  .* s left\n": "",  # progress but for its last line: training shows what a time slice held
    r"^sample \d+/\d+  .* s left\n": "",  # shown only where sampling takes long
    r"\b\d+(\.\d+)? (\w+/s|s)\b": r"# \2",  # 588 steps/s, 0.1 s
    r"(?<=[:,] )\d+\.\d (?=[a-z ]+(,|$))": "# ",  # time: # s: # starting, # compiling
}


def keep(where: Path, checkout: Path) -> None:
    """Run the commands with the package of the checkout, in a new folder."""
    where.mkdir(parents=True)
    rows = np.random.default_rng(0).standard_normal((2000, 2))
    np.save(where / "own.npy", np.where(rows[:, :1] > 0, rows + 3, rows) * [100.0, 0.01])  # two clusters, two scales
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    env = os.environ | {"PYTHONPATH": str(checkout), "PYTHONUNBUFFERED": "1"}
    env |= {"NPROC": "1"}  # what threads=1 sets, also where a verb has no such knob
    env |= {"XDG_CACHE_HOME": str(where / "cache")}  # here the classifier is trained anew; programs and fonts are not
    env |= {"JAX_COMPILATION_CACHE_DIR": str(home / "diffsde/programs"), "MPLCONFIGDIR": str(home / "matplotlib")}

    def run(*words: str) -> tuple[str, int]:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run([sys.executable, *words], cwd=where, env=env, text=True, **pipes)
        return done.stdout.replace(str(where), "DIR").replace(str(checkout), "CHECKOUT"), done.returncode

    if (found := run("-c", "import diffsde; print(diffsde.__file__)")[0].strip()) != "CHECKOUT/diffsde/__init__.py":
        sys.exit(f"--checkout {checkout}: Python takes diffsde from elsewhere: {found}")
    for name, command in (line.split(" ", 1) for line in COMMANDS.strip().splitlines()):
        begin = time.perf_counter()
        out = f"hydra.{'sweep' if ' -m ' in command else 'run'}.dir={name}"
        said, status = run("-m", "diffsde", *shlex.split(command), *([] if name == "train_longer" else [out]))
        (where / f"{name}.txt").write_text(f"$ diffsde {command}\n{said}exit status {status}\n")
        print(f"{name:<17} {time.perf_counter() - begin:5.1f} s  exit status {status}", flush=True)


def contents(where: Path, path: str) -> dict[str, Any]:
    """What is compared of a file, by its place in it: arrays, the pixels of all frames, numbers and words."""
    file, kind = where / path, Path(path).suffix
    if kind == ".npz":
        with np.load(file) as arrays:
            return dict(arrays)
    if kind in (".png", ".gif"):
        with Image.open(file) as image:
            return {"pixels": np.stack([np.array(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)])}
    if kind not in (".csv", ".json", ".jsonl"):
        return {"bytes": np.fromfile(file, np.uint8)} if file.is_file() else {}
    text = file.read_text().replace(str(where.resolve()), "DIR")
    if kind == ".csv":
        return flat(list(csv.DictReader(text.splitlines())))
    return flat([json.loads(line) for line in text.splitlines()] if kind == ".jsonl" else json.loads(text))


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists by their places, such as metrics.w2.value, without seconds."""
    if not isinstance(value, dict | list) or not value:
        return {at: value}
    items = [(str(key), leaf) for key, leaf in (value.items() if isinstance(value, dict) else enumerate(value))]
    inner = [flat(leaf, f"{at}.{key}".lstrip(".")) for key, leaf in items if "seconds" not in key]
    return {place: leaf for leaves in inner for place, leaf in leaves.items()}


def difference(old: Any, new: Any) -> str:
    """How two leaves differ; '' where they are the same to the bit."""
    shown = [f"{leaf.dtype} {leaf.shape}" if isinstance(leaf, np.ndarray) else repr(leaf) for leaf in (old, new)]
    if shown[0] != shown[1]:
        return " -> ".join(shown)
    if not isinstance(old, np.ndarray) or old.tobytes() == new.tobytes():
        return ""
    apart = np.abs(old.astype(float) - new.astype(float)) if old.dtype.kind in "fiub" else (old != new).astype(float)
    return f"{np.count_nonzero(apart):,} of {apart.size:,} differ, by up to {np.nanmax(apart):.3g}"


def came_out(where: Path, name: str) -> tuple[list[str], list[str]]:
    """The paths that a command wrote, in `where`, and the lines that it said, masked."""
    paths = [str(path.relative_to(where)) for path in sorted((where / name).rglob("*"))]
    text = (where / f"{name}.txt").read_text() if (where / f"{name}.txt").exists() else ""
    for pattern, mask in MASKS.items():
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return [path for path in paths if not SKIPPED.search(path)], text.splitlines()


def compare(old: Path, new: Path) -> int:
    """Say of each command whether it is the same, and what is not; the number of commands that differ."""
    names = sorted({file.stem for where in (old, new) for file in where.glob("*.txt")})
    differing = 0
    for name in names:
        (before, said), (after, says) = came_out(old, name), came_out(new, name)
        lines = [f"{path}: only in {old if path in before else new}" for path in sorted({*before} ^ {*after})]
        for path in (path for path in before if path in after):
            mine, theirs = contents(old, path), contents(new, path)
            found = {at: difference(mine.get(at, "absent"), theirs.get(at, "absent")) for at in {**mine, **theirs}}
            lines += [f"{path}: {at}: {how}" for at, how in found.items() if how]
        lines += difflib.unified_diff(said, says, "messages", "messages", n=0, lineterm="")
        print("\n    ".join([f"{name:<17} {'DIFFERS' if lines else 'the same to the bit'}", *lines]))
        differing += bool(lines)
    print(f"{len(names) - differing} of {len(names)} commands are the same to the bit")
    return differing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    keeping, comparing = verbs.add_parser("keep"), verbs.add_parser("compare")
    keeping.add_argument("folder", type=Path)
    keeping.add_argument("--checkout", type=Path, default=Path(__file__).parent.parent)
    comparing.add_argument("folders", type=Path, nargs=2)
    asked = parser.parse_args()
    if asked.verb == "compare":
        sys.exit(bool(compare(*asked.folders)))
    keep(asked.folder.resolve(), asked.checkout.resolve())
