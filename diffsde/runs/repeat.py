"""Whether two folders hold the same result, to the bit, what differs, and what may have made the difference."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde import checkpoints
from diffsde.nested import flatten
from diffsde.runs.drawn_arrays import read_archive
from diffsde.runs.files import read_json
from diffsde.runs.record import Record
from diffsde.runs.run_log import lines_of
from diffsde.runs.shapes import SUMMARY

# Entries of a summary that are of the clock, also inside of other entries, as those of a likelihood or a coupling; ...
CLOCK = frozenset(("seconds", "cpu_seconds", "seconds_compile", "seconds_likelihood", "solver_ms", "step_ms", "waited"))
# ... and of the machine, of folders' places, and of the search for a sampler, which is not repeated.
PLACES = ("field", "run", "samples", "members", "device", "devices", "found")
PARTS = ("versions", "machine", "git", "used")  # of a provenance: what may change the bits
NO_MATTER = ("machine.host", "git.directory")  # entries of these that cannot


class Part(NamedTuple):
    """One part of a result in two folders: an array, a figure or a curve; whether it is the same to the bit, and what is said."""

    name: str
    same: bool
    said: str


def compared(before: Path, after: Path) -> list[Part]:
    """The parts of the result in `before`, each held against that in `after`."""
    return [*arrays(before, after), *parameters(before, after), *logged(before, after), *figures(before, after)]


def arrays(before: Path, after: Path) -> Iterator[Part]:
    """The arrays of the .npz files, one pair of files in memory at a time."""
    for path in sorted(before.glob("*.npz")):
        other = after / path.name
        if not other.exists():
            yield Part(path.name, False, "is not there again")
            continue
        mine, theirs = read_archive(path), read_archive(other)
        for name, values in mine.items():
            yield difference(f"{path.stem}.{name}", values, theirs.get(name))


def parameters(before: Path, after: Path) -> Iterator[Part]:
    """The state of training in the newest checkpoints: parameters, their averages and the optimizer's."""
    places = [folder / "checkpoints" for folder in (before, after)]
    steps = [checkpoints.steps(place) for place in places]
    if not steps[0]:
        return
    if not steps[1] or steps[0][-1] != steps[1][-1]:
        yield Part("parameters", False, f"of step {steps[0][-1]} there, of {steps[1][-1] if steps[1] else 'none'} here")
        return
    try:
        mine, theirs = (checkpoints.read_checkpoint((place / str(steps[0][-1])).resolve()) for place in places)
    except checkpoints.Damaged as error:
        yield Part("parameters", False, f"cannot be read: {error}")
        return
    for name in ("params", "ema", "opt_state"):
        pairs = [tree["state"][name] for tree in (mine, theirs)]
        flat = [flat_numbers(pair) for pair in pairs]
        yield difference({"params": "parameters", "ema": "averages", "opt_state": "optimizer"}[name], *flat)


def flat_numbers(tree: Any) -> np.ndarray:
    """All numbers of a tree, one after another."""
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def logged(before: Path, after: Path) -> Iterator[Part]:
    """The losses, and what else of metrics.jsonl is no time."""
    lines = [numbers_logged(folder / "metrics.jsonl") for folder in (before, after)]
    if lines[0] is not None:
        yield difference("metrics.jsonl", lines[0], lines[1])


def numbers_logged(path: Path) -> np.ndarray | None:
    """The numbers of a log, but for times, line after line, 8 bytes each; None where there is none."""
    if not path.exists():
        return None
    found = array("d")
    for line, _ in lines_of(path):
        found.extend(value for key, value in line.items() if key not in CLOCK)
    return np.array(found)


def figures(before: Path, after: Path) -> Iterator[Part]:
    """The entries of summary.json in either folder, but for times."""
    mine, theirs = (flat_summary(folder / "summary.json") for folder in (before, after))
    for name in dict.fromkeys([*mine, *theirs]):
        value, other = (shown(each[name]) if name in each else "nothing" for each in (mine, theirs))
        label = name.removeprefix("metrics.").removesuffix(".value")
        same = name in mine and name in theirs and mine[name] == theirs[name]
        yield Part(label, same, value if same else f"{value} there, {other} here")


def shown(value: Any) -> str:
    """An entry of a summary as text."""
    return f"{value:.9g}" if isinstance(value, float) else json.dumps(value)


def flat_summary(path: Path) -> dict[str, Any]:
    """The entries of a summary by dotted names, but for times."""
    content = read_json(path, neighbour=True, shape=SUMMARY) or {}
    flat = flatten({key: value for key, value in content.items() if key not in PLACES})
    return {name: value for name, value in flat.items() if CLOCK.isdisjoint(name.split("."))}


def difference(name: str, mine: np.ndarray, theirs: np.ndarray | None) -> Part:
    """An array held against another, to the bit; and by how much they differ."""
    if theirs is None or mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        other = "nothing" if theirs is None else f"{theirs.dtype} {theirs.shape}"
        return Part(name, False, f"{mine.dtype} {mine.shape} there, {other} here")
    if mine.tobytes() == theirs.tobytes():
        return Part(name, True, f"the same {mine.size:,} numbers")
    if mine.dtype.kind not in "biuf":
        return Part(name, False, f"other {mine.dtype} {mine.shape}")
    differ = (mine != theirs) & ~((mine != mine) & (theirs != theirs))
    gap = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))[differ]
    finite = gap[np.isfinite(gap)]
    most = f", by up to {finite.max():.2g}" if finite.size else ""
    scale = np.abs(mine[np.isfinite(mine)]).max(initial=0)
    return Part(
        name, False, f"{int(differ.sum()):,} of {mine.size:,} numbers differ{most} (the largest is {scale:.3g})"
    )


def reasons(before: Record, after: Record) -> list[str]:
    """What is not as it was and may change bits: versions, machine, git revisions, threads, and runs that were used."""
    found = []
    if "versions" not in before.provenance:
        found.append("with which versions and on which machine it ran is not recorded there")
    for part in PARTS:
        pairs = [flatten({part: record.provenance.get(part) or {}}) for record in (before, after)]
        for key in dict.fromkeys([*pairs[0], *pairs[1]]) if pairs[0] else ():
            mine, theirs = (pair.get(key) for pair in pairs)
            if mine != theirs and not key.startswith(NO_MATTER):
                found.append(f"{key.replace('versions.', '')}: {mine} there, {theirs} here")
    if (fields := [record.summary.get("field") for record in (before, after)])[0] != fields[1]:
        found.append(f"field: {fields[0]} there, {fields[1]} here")
    if (together := before.summary.get("members", 1)) != after.summary.get("members", 1):
        found.append(f"it ran with {together - 1} others as one program there, alone here")
    return found


def changed_code(before: Record, after: Record) -> list[str]:
    """That diffsde's own files were changed since their revision, of which no more is known."""
    of = [((record.provenance.get("git") or {}).get("diffsde") or {}).get("changed") for record in (before, after)]
    where = [name for name, changed in zip(("there", "here"), of, strict=True) if changed]
    return [f"diffsde's own files differ from their git revision {' and '.join(where)}"] if where else []
