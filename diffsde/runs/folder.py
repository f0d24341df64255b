"""The run folder: every file appears whole or not at all, and nothing that is there is overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsde.errors import UserError

FORMAT = 1  # of config.json


def claim(folder: Path, holds: str) -> None:
    """Make the folder, or refuse one that already holds a run. `holds`: the file that tells."""
    if (folder / holds).exists():
        raise UserError(f"hydra.run.dir: '{folder}' already holds a run; nothing is overwritten, give another folder")
    folder.mkdir(parents=True, exist_ok=True)


def write(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file by `save(temporary path)` and move it into place; the suffix is kept for those that look at it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        save(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    return write(path, lambda partial: partial.write_text(json.dumps(value, indent=2) + "\n"))


def write_config(folder: Path, verb: str, config: dict[str, Any]) -> None:
    write_json(folder / "config.json", {"format": FORMAT, "verb": verb, "config": config})


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a train run. Raises UserError for a folder that is not one."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"run: there is no folder '{folder}'; give a run folder, latest or oracle")
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT or content["verb"] != "train" or not isinstance(content["config"], dict):
            raise ValueError
    except FileNotFoundError:
        raise UserError(f"run: '{folder}' is not a run folder (it has no config.json)") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"run: '{path}' is not the config of a train run of this version") from None
    return content["config"]


def latest(outputs: Path) -> Path:
    """The train run under outputs/train that finished last. Raises UserError where there is none."""
    finished = [path for path in outputs.glob("train/**/summary.json") if (path.parent / "checkpoints").is_dir()]
    if not finished:
        raise UserError(
            f"run=latest: no trained run under '{outputs / 'train'}'; run `diffsde train` first,"
            " or give run=<folder> or run=oracle"
        )
    return max(finished, key=lambda path: path.stat().st_mtime_ns).parent
