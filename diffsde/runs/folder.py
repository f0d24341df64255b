"""The run folder: every file appears whole or not at all, and nothing that is there is overwritten."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from diffsde.errors import UserError
from diffsde.runs import processes

FORMAT = 4  # of a run folder

LOCK = ".lock"
OUTPUTS = Path("outputs")

# Knobs that say how and where a run is computed, not what it computes: a run goes on under others.
MACHINE = ("cache", "cache_dir", "threads", "coordinator", "processes", "process")
APART = {
    "train": (*MACHINE, "resume", "checkpoint_every", "keep", "logger"),
    "sample": (*MACHINE, "resume"),  # whose `keep` is of a trajectory's samples
    "evaluate": (*MACHINE, "resume"),
}


def claim(folder: Path, verb: str, config: dict[str, Any]) -> bool:
    """Make the folder for this config, or find it there, begun or finished; True: finished.

    Raises UserError where it holds another run.
    """
    if (folder / "config.json").exists():
        there = _read(folder)
        if there.get("verb") != verb or not same(verb, there.get("config"), config) or not config.get("resume", True):
            raise UserError(f"'{folder}' already holds another run; nothing is overwritten, give another folder")
        return (folder / "summary.json").exists()
    if processes.leads():
        folder.mkdir(parents=True, exist_ok=True)
    return False


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the folder meanwhile; given back by the system however this one ends.

    By a lock on a file in it, open for writing: NFS tells the other hosts of such a lock alone, of none on a folder.
    """
    if not processes.leads():
        yield
        return
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"'{folder}' is being written by another process; wait for it, or give another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process is writing the folder; those that ask at the same time do not take each other for it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def same(verb: str, one: Any, other: Any) -> bool:
    """Whether two configs of a verb are of the same run, computed here or there."""
    return isinstance(one, dict) and isinstance(other, dict) and _essence(verb, one) == _essence(verb, other)


def _essence(verb: str, config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in APART[verb]}


def unfinished(verb: str, config: dict[str, Any]) -> Path | None:
    """The newest folder outputs/<verb>/<day>/<time> of this config that was begun, is not finished and is not being
    written.
    """

    def fits(folder: Path) -> bool:
        if any((folder / end).exists() for end in ("summary.json", "error.json")) or is_held(folder):
            return False
        content = _read(folder)
        return content.get("verb") == verb and same(verb, content.get("config"), config)

    return newest(path for path in (OUTPUTS / verb).glob("*/*/config.json") if fits(path.parent))


def newest(files: Iterable[Path]) -> Path | None:
    """The folder of the file that was written last."""
    last = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    return last and last.parent


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is absent or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _read(folder: Path) -> dict[str, Any]:
    """config.json, or nothing where it is of another version or no such file."""
    content = read_json(folder / "config.json")
    return content if isinstance(content, dict) and content.get("format") == FORMAT else {}


def write(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)` and move it into place; the suffix is kept for those that look at it.

    It is on the disk before it has its name, so that a power cut does not leave an empty one.

    Of several processes only the first writes.
    """
    if not processes.leads():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        save(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    return write(path, lambda partial: partial.write_text(json.dumps(value, indent=2) + "\n"))


def write_config(folder: Path, verb: str, config: dict[str, Any], net: dict[str, Any] | None = None) -> None:
    """config.json, with the kind of device; net: of a training, the one that net=auto stood for, as a config."""
    content = {"format": FORMAT, "verb": verb, "backend": jax.default_backend(), "config": config}
    write_json(folder / "config.json", content if net is None else content | {"net": net})


def read_net(folder: Path) -> Any:
    """The config of the net that a run was begun with."""
    return _read(folder).get("net")


def read_config(folder: Path, knob: str = "run", verb: str = "train") -> dict[str, Any]:
    """The config of a verb's folder. Raises UserError for a folder that is not one; knob: the word that named it."""
    if not folder.is_dir():
        what, others = "run" if verb == "train" else verb, ", latest or oracle" if knob == "run" else ""
        raise UserError(f"{knob}: there is no folder '{folder}'; give a {what} folder{others}")
    if not (folder / "config.json").exists():
        raise UserError(f"{knob}: '{folder}' is not a run folder (it has no config.json)")
    content = _read(folder)
    if content.get("verb") != verb or not isinstance(content.get("config"), dict):
        raise UserError(f"{knob}: '{folder / 'config.json'}' is not the config of a {verb} run of this version")
    return content["config"]


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json. Raises UserError where it is not one."""
    content = read_json(folder / "summary.json")
    if not isinstance(content, dict):
        raise UserError(f"'{folder / 'summary.json'}' cannot be read; remove it, and the run is finished again")
    return content


def latest_begun() -> Path:
    """The train run under outputs/train that was begun last. Raises UserError where there is none."""
    if found := newest(OUTPUTS.glob("train/*/*/config.json")):
        return found
    raise UserError(f"run=latest: no run under '{OUTPUTS / 'train'}'; give run=<folder>")


def latest() -> Path:
    """The field under outputs/train that was trained last. Raises UserError where there is none."""

    def is_field(folder: Path) -> bool:
        config = _read(folder).get("config", {})
        return (folder / "checkpoints").is_dir() and config.get("objective", {}).get("name") != "classifier"

    if found := newest(path for path in OUTPUTS.glob("train/**/summary.json") if is_field(path.parent)):
        return found
    raise UserError(
        f"run=latest: no trained run under '{OUTPUTS / 'train'}'; run `diffsde train` first,"
        " or give run=<folder> or run=oracle"
    )
