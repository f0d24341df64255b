"""What a job that a signal stopped leaves: its folder tidied, what is kept there, and the command that goes on, in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffsde.atomic_files import clear_partial
from diffsde.runs import locks, progress
from diffsde.runs.record import read_record
from diffsde.state import STATE

NOTHING = "nothing is kept"


def left_by_job(verb: str, places: list[Path], again: bool) -> str:
    """Tidy the folder of one job, and say what is kept there. places: the new folder, and the one of the run that goes on, if that is
    another. again: whether the same command finds a training run by itself; with resume=false it begins another.
    """
    where = places[-1]
    if where != places[0]:
        tidied(places[0])
    if not tidied(where):
        return f"{NOTHING}; the same command begins again"
    shown, record = progress.shown_path(where), read_record(where)
    if record is not None and record.summary and record.state == "whole":
        return f"{shown} is whole, but for pictures that were still to be drawn"
    if verb == "train":
        command = "the same command" if again else f"`diffsde train {progress.word('run', where)}`"
        return f"{shown} is kept, {last_checkpoint(where)}; {command} goes on from there"
    return f"{shown} is half done; with {progress.word('hydra.run.dir', where)} the same command does it again"


def last_checkpoint(where: Path) -> str:
    """Where the last checkpoint of a training run is, in words."""
    there = where / "checkpoints"
    steps = [int(entry.name) for entry in there.iterdir() if entry.name.isdecimal()] if there.is_dir() else []
    return f"saved at step {max(steps)}" if steps else "without a checkpoint"


def left_in_sweep(out: Path) -> str:
    """Tidy the folder of a job of a sweep, which itself says what is kept."""
    tidied(out)
    return ""


def left_unbegun(places: list[Path], begun: list[str]) -> str:
    """Remove the folder that was made for a job that has not begun, and say so; one that has says it itself."""
    if begun:
        return ""
    for place in places:
        remove_empty(place)
    return f"{NOTHING}; the same command begins again"


def left_by_sweep(where: Path | None, again: bool) -> str:
    """Tidy the folder of a sweep, and say how many of its jobs are done."""
    jobs = [entry for entry in where.iterdir() if entry.is_dir()] if where and where.is_dir() else []
    kept = [job for job in jobs if job.name.startswith(".") or tidied(job)]
    if where is not None:
        clear_partial(where, own=True)
    if where is None or not kept:
        if where is not None and where.is_dir():
            remove_sweep(where)
        return f"{NOTHING}; the same command begins again"
    done = sum((job / "summary.json").is_file() for job in kept)
    how = "the same command goes on"
    if not again:
        how = f"with {progress.word('hydra.sweep.dir', where)} instead of resume=false the same command goes on"
    return f"{done} job{'s are' if done != 1 else ' is'} done, in {progress.shown_path(where)}; {how}"


def left_by_files(where: Path, again: str) -> str:
    """Tidy a folder that only files are written into; again: what makes them."""
    clear_partial(where, own=True)
    if not where.is_dir() or not any(where.iterdir()):
        remove_empty(where)
        return f"{NOTHING}; {again}"
    return f"not all files are in {progress.shown_path(where)}; {again}"


def tidied(out: Path) -> bool:
    """Remove what is half written in a job's folder, and the folder where nothing is kept in it; whether something is."""
    clear_partial(out, own=True)
    if (out / "config.json").exists() or (out / "error.json").exists():
        return True
    remove_empty(out)
    return False


def of_job(verb: str, places: list[Path], in_sweep: bool, again: bool) -> Callable[[], str]:
    """What tidies a job's folder and says what is kept there, for signals.leaving."""
    if verb == "explain" and not in_sweep:  # it has no folder
        return lambda: f"{NOTHING}; the same command begins again"
    return partial(left_in_sweep, places[0]) if in_sweep else partial(left_by_job, verb, places, again)


def remove_sweep(where: Path) -> None:
    """Remove the folder of a sweep in which there is no job, unless another process has just begun one there."""
    if locks.is_held(where):
        return
    for name in ("sweep.json", "multirun.yaml"):
        (where / name).unlink(missing_ok=True)
    remove_empty(where)


def will_make(folder: Path) -> None:
    """Note, before a command makes a folder for what it writes, where what is there already ends: that is the user's, empty or not."""
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        STATE.made.add(place)
        place = os.path.dirname(place)
    if place not in STATE.made:
        STATE.found.add(place)


def remove_empty(folder: Path) -> None:
    """Remove a job's empty folder, and its parents that are empty then, up to outputs/; none that was there before the command."""
    folder = Path(os.path.abspath(folder))
    for place in [folder, *folder.parents]:
        leftover = {entry.name for entry in place.iterdir()} if place.is_dir() else {"?"}
        if leftover - {"multirun.yaml", ".lock"} or place == Path.cwd():
            return
        if ".lock" in leftover and locks.is_held(place):
            return
        try:
            for name in leftover:
                (place / name).unlink()
            if str(place) in STATE.found:
                return
            place.rmdir()
        except OSError:  # a folder of that name, or no permission
            return
        if place.name == "outputs":
            return
