"""The players of a page: one for each field that the rows' jobs are of, as many as fit, and the jobs' own samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.errors import UserError
from diffsde.report.packing import packed, quantised
from diffsde.runs import progress
from diffsde.runs.drawn_arrays import read_drawn
from diffsde.runs.records import Record, Trained, remembered, trained

MOST = 8  # players in a page: each has some 0.4 MB
SAMPLES = 256  # of a job, beside those of other jobs
IMAGES, PIXELS = 16, 64  # ... and where they are images of at most so many pixels a side


def players_of(records: Sequence[Record], firsts: Sequence[int]) -> tuple[list[dict[str, Any]], list[int | None], str]:
    """(players, the number of each job's player or None, what is left out and why, in words).

    firsts: the jobs whose fields are shown, the first of each row; of others with the same field the player is the same.
    """
    from diffsde.report.player import load_source, player, source_key  # here: they simulate, by jax

    players: list[dict[str, Any]] = []
    known: dict[tuple[str, ...], int | None] = {}
    of_job: list[int | None] = [None] * len(records)
    why: dict[str, None] = {}
    left, run_of = 0, remembered(trained)
    for i in [*firsts, *(i for i in range(len(records)) if i not in set(firsts))]:
        record = records[i]
        where = _field_folder(record, run_of)
        if where is None:
            why.setdefault(_no_field(record))
            continue
        key = source_key(record.verb, where, record.config)
        if key not in known and i in firsts:
            known[key] = None
            if len(players) == MOST:
                left += 1
                continue
            directory = Path(str(record.provenance.get("directory") or "."))
            try:
                with progress.working("states for the player"):
                    players.append(player(load_source(record.verb, where, record.config, directory)))
                known[key] = len(players) - 1
            except UserError as error:
                why.setdefault(str(error))
        of_job[i] = known.get(key)
    notes = [f"No player for some runs: {text}." if players else f"No player: {text}." for text in list(why)[:3]]
    notes += [f"{left} more fields have no player: a page has at most {MOST}."] if left else []
    return players, of_job, " ".join(notes)


def _field_folder(record: Record, run_of: Trained) -> Path | None:
    """The folder of the trained run that a job's field is of, any folder for the exact field; None where there is none."""
    if record.verb == "train":
        return record.folder if (record.folder / "checkpoints").is_dir() else None
    if record.verb not in ("sample", "evaluate") or "run" not in record.config:
        return None
    if record.config["run"] == "oracle":
        return record.folder
    run = run_of(record)
    return run.folder if run is not None else None


def _no_field(record: Record) -> str:
    if record.verb in ("sample", "evaluate") and "run" in record.config:
        return f"the run that was sampled from ({record.config['run']}) is gone"
    return f"a job of {record.verb} has no field of its own" if record.verb != "train" else "a run has no checkpoint"


def samples_of(record: Record) -> dict[str, Any]:
    """The first samples of a job: {"samples": points in the data's own units} or {"images": bytes}; {} where it has none such."""
    try:
        x = np.asarray(read_drawn(record.folder)[0][:SAMPLES], np.float64)
    except UserError:
        return {}
    if not np.isfinite(x).all():
        return {}
    if x.ndim == 2 and x.shape[1] <= 2:
        offset = np.median(x, axis=0)  # data far from 0 would lose their digits
        return {"samples": quantised((x - offset)[None]) | {"offset": offset.tolist()}}
    if x.ndim == 4 and max(x.shape[1:3]) <= PIXELS:
        few = x[:IMAGES]
        low, high = (-1.0, 1.0) if np.abs(x).max() < 1.5 else np.quantile(few, [0.001, 0.999])
        numbers = np.clip(np.rint((few - low) / (high - low) * 255), 0, 255)
        return {"images": {"shape": list(few.shape), "bytes": packed(numbers, "u8")}}
    return {}
