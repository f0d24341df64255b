"""Checkpoints of a run, a folder a step; the only file that imports orbax."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from diffsde.errors import UserError

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax logs every save there


def save(folder: Path, step: int, tree: Any) -> None:
    """Write a pytree of arrays as folder/<step>; it appears whole or not at all."""
    ocp.save((folder / str(step)).resolve(), tree)


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def load(folder: Path) -> tuple[int, Any]:
    """(step, tree) of the newest checkpoint, as nested dicts of arrays. Raises UserError."""
    saved = steps(folder)
    if not saved:
        raise UserError(f"run: '{folder.parent}' has no checkpoint; train it to the end first, or give another run=")
    path = (folder / str(saved[-1])).resolve()
    try:
        kept = ocp.metadata(path).metadata  # shapes and types, so that arrays come back on this machine's device
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), kept)
        return saved[-1], ocp.load(path, like)
    except Exception as error:  # orbax raises many kinds for a damaged or foreign folder
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"run: checkpoint '{path}' cannot be read, it is damaged ({reason})") from error
