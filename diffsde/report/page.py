"""A report as one HTML page that holds all it needs: table, chart, player, pictures, and the config of every run."""

from __future__ import annotations

import base64
import hashlib
import html
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from diffsde import __version__
from diffsde.atomic_files import write_text
from diffsde.report.page_data import as_json, command_of, jobs_of, pictures_of, rows_of, slimmed
from diffsde.report.page_players import players_of, samples_of
from diffsde.report.rows import Comparison
from diffsde.runs.files import write

FILE = "report.html"
TITLE = 160  # letters of the command that the page of one run is called by
LARGEST = 5_800_000  # bytes of a page, to which pictures fill it up
SCRIPTS = (
    "plotly-basic.min.js",
    "field.js",
    "dom.js",
    "cloud.js",
    "table.js",
    "runs.js",
    "chart.js",
    "player.js",
    "main.js",
)


def write_page(comparison: Comparison, where: Path) -> Path:
    """Write the page of a comparison into the folder `where`, as report.html; its path. An older one is replaced."""
    text = page_of(report_of(comparison, where))
    return write(where / FILE, lambda partial: write_text(partial, text))


def report_of(comparison: Comparison, where: Path) -> dict[str, Any]:
    """All that the page shows, ready for JSON."""
    records = [record for row in comparison.rows for record in row.records]
    jobs = jobs_of(comparison)
    firsts = _firsts(comparison)
    players, of_job, players_note = players_of(records, firsts)
    for i, job in enumerate(jobs):
        job["player"] = of_job[i]
        if i in firsts:
            job |= samples_of(records[i])
    verbs = sorted({record.verb for record in records})
    report: dict[str, Any] = {
        "title": comparison.title if len(records) > 1 else command_of(records[0])[:TITLE],
        "about": f"{len(records)} {'job' if len(records) == 1 else 'jobs'} of diffsde {', '.join(verbs)}",
        "made": f"Written by diffsde {__version__}. This page is whole: it opens from the disk and asks for nothing.",
        "keys": list(comparison.keys),
        "columns": [column._asdict() for column in comparison.columns],
        "rows": rows_of(comparison),
        "best": comparison.best,
        "remarks": list(comparison.remarks) if len(comparison.rows) > 1 else [],  # one row is compared with nothing
        "jobs": jobs,
        "players": players,
        "players_note": players_note,
        "cells_note": "The first job of each row."
        + (" Points over the density of the data; click one to see it in the player." if players else ""),
    }
    room = LARGEST - sum(len(_web(name)) for name in SCRIPTS)
    slimmed(report, room)
    places = [(job["title"], record.folder) for job, record in zip(jobs, records, strict=True)]
    report["pictures"], report["pictures_note"] = pictures_of(places, where, room - len(as_json(report)))
    return report


def _firsts(comparison: Comparison) -> list[int]:
    """The number of each row's first job."""
    found, first = [], 0
    for row in comparison.rows:
        found += [first] * bool(row.records)
        first += len(row.records)
    return found


def page_of(report: dict[str, Any]) -> str:
    """The page's text. Its policy lets scripts run by their hashes alone, and lets nothing be fetched from anywhere."""
    scripts = [_web(name) for name in SCRIPTS]
    for name, text in zip(SCRIPTS, scripts, strict=True):
        assert "</script" not in text.lower(), f"{name} would end the script that it stands in"
    parts = {
        "title": html.escape(str(report["title"])),
        "script_hashes": " ".join(f"'sha256-{_hash(text)}'" for text in scripts),
        "style": _web("page.css"),
        "data": as_json(report),
        "scripts": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    pieces = _web("page.html").split("{{")
    text = pieces[0]
    for piece in pieces[1:]:  # not by replacing one after another: a value may have {{name}} in it
        name, _, rest = piece.partition("}}")
        text += parts[name] + rest
    return text


def _web(name: str) -> str:
    return (resources("diffsde.report") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
