"""What a page shows, as plain data: rows and figures of a comparison, every job's command and config, pictures."""

from __future__ import annotations

import base64
import json
import math
import shlex
from pathlib import Path
from typing import Any

from diffsde.metrics.figures import KINDS, Reference
from diffsde.report.rows import Comparison, Folded, Row
from diffsde.runs.files import strict
from diffsde.runs.records import Record, Trained, remembered, trained

SUFFIXES = {".png": "image/png", ".gif": "image/gif"}
BEGINS = {".png": b"\x89PNG\r\n\x1a\n", ".gif": b"GIF8"}  # the first bytes of such files


def rows_of(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows: choices, figures, and the numbers of their jobs, which are counted in the order of the rows."""
    found, first = [], 0
    for row in comparison.rows:
        jobs = list(range(first, first + len(row.records)))
        first += len(jobs)
        figures = {name: _figure(folded) for name, folded in row.figures.items()}
        found.append({"keys": row.keys, "figures": figures, "jobs": jobs})
    return found


def _figure(folded: Folded) -> dict[str, Any]:
    value, error, reference, _ = folded.figure
    return {"value": value, "error": error, "sd": folded.sd, "n": folded.n, "reference": _reference(reference)}


def _reference(reference: Reference | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    kind = {"floor": "true sample"}.get(reference.kind, KINDS.get(reference.kind, reference.kind))
    return {"kind": kind, "value": reference.value, "error": reference.error}


def jobs_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Every job, in the order of the rows; jobs of one row are told apart by their seeds."""
    found, run_of = [], remembered(trained)
    for row in comparison.rows:
        seeds = [_seeds(record, run_of) for record in row.records]
        varied = [key for key in seeds[0] if len({each.get(key) for each in seeds}) > 1] if seeds else []
        for record, own in zip(row.records, seeds, strict=True):
            found.append(_job(row, record, [f"{key}={own.get(key)}" for key in varied]))
    return found


def _seeds(record: Record, run_of: Trained) -> dict[str, Any]:
    """The seeds of a job: of the run that it sampled from, and its own."""
    run = run_of(record)
    return {"run.seed": None if run is None else run.config.get("seed"), "seed": record.config.get("seed")}


def _job(row: Row, record: Record, seeds: list[str]) -> dict[str, Any]:
    """A job: what it is called, how it was begun, where it comes from, its config and its summary as text to copy."""
    words = [f"{key}={value}" for key, value in row.keys.items() if value] + seeds
    return {
        "title": " ".join(words) or f"{record.verb} {record.name or record.id}",
        "verb": record.verb,
        "id": record.id,
        "date": record.date[:19].replace("T", " "),
        "state": record.state,
        "name": record.name,
        "tags": list(record.tags),
        "folder": str(record.folder),
        "directory": str(record.provenance.get("directory") or ""),
        "command": command_of(record),
        "config": _text(record.config),
        "summary": _text(record.summary) if record.summary else "",
        "origin": _text(record.provenance) if record.provenance else "",
        "error": record.error,
    }


def slimmed(report: dict[str, Any], room: int) -> None:
    """Leave texts of jobs out of a report that is larger than `room` as JSON: first of those that are not the first of their
    row, of all in the end; a text that is left out is None.
    """
    firsts = {row["jobs"][0] for row in report["rows"] if row["jobs"]}
    others = [job for i, job in enumerate(report["jobs"]) if i not in firsts]
    for jobs in (others, report["jobs"]):
        for name in ("origin", "summary", "config"):
            if len(as_json(report)) <= room:
                return
            for job in jobs:
                job[name] = None


def command_of(record: Record) -> str:
    """The command that runs this one job, quoted for a shell."""
    words = [f"{key}={value}" for key, value in record.words.items()]
    return shlex.join(["diffsde", record.verb, *words])


def _text(value: Any) -> str:
    return json.dumps(strict(value), indent=2, ensure_ascii=False, default=str)


def pictures_of(jobs: list[tuple[str, Path]], where: Path, room: int) -> tuple[list[dict[str, str]], str]:
    """(the pictures beside the page, then those in the jobs' folders, in `room` bytes together; what was left out, in words).

    jobs: the title and the folder of each.
    """
    found: list[dict[str, str]] = []
    left = 0
    places = [(_pictures_in(where, where), "")]
    places += [(_pictures_in(folder / "plots", folder), title if len(jobs) > 1 else "") for title, folder in jobs]
    seen: set[Path] = set()
    for files, of in places:
        for file in files:
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            size = file.stat().st_size * 4 // 3
            if size > room:
                left += 1
                continue
            room -= size
            source = f"data:{SUFFIXES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
            found.append({"title": f"{file.stem} {of}".replace("_", " ").strip(), "source": source})
    if not left:
        return found, ""
    return found, f"{left} more {'is' if left == 1 else 'are'} in the jobs' folders, too large for a page of 6 MB."


def _pictures_in(place: Path, folder: Path) -> list[Path]:
    """The pictures in a place of a job's folder; no files that are none, nor links that lead out of the folder: a page that is given
    away would have in it what they lead to.
    """
    if not place.is_dir():
        return []
    inside = folder.resolve()
    found = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES and path.is_file())
    return [path for path in found if path.resolve().is_relative_to(inside) and _begins_as(path)]


def _begins_as(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(8).startswith(BEGINS[path.suffix])
    except OSError:
        return False


def as_json(value: Any) -> str:
    """A value as JSON that ends no script it stands in: the signs of markup are escaped; what is not finite is null."""
    text = json.dumps(_strict(value), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
