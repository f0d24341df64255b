"""The record of one job's folder: what was run, when, from which words, and how it ended; read from files alone, without jax."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.errors import UserError
from diffsde.runs import files, formats, locks, progress, shapes

OUTPUTS = Path("outputs")
MOST_FOLDERS = 50_000  # that are no run's: days, sweeps and studies
MOST_LEFT_OUT = 4  # folders of so many, each of which costs the time of a large disk
DEEPEST = 6  # folders below outputs/ that are looked through: outputs/study/DAY/TIME/STAGE/JOB is five
# An id has no vowels, so that it spells no word, and begins with a letter, so that it is no number.
LETTERS = "bcdfghjkmnpqrstvwxz"
SIGNS = LETTERS + "23456789"
LENGTH = 7  # of an id: among 10,000 runs two agree once in a hundred times
STAMP = re.compile(r"(\d{4}-\d\d-\d\d)/(\d\d)-(\d\d)-(\d\d)(?:-(\d+))?(?:-sweep)?(?:/[^/]+)?$")
MARKS = (
    "config.json",
    "error.json",
    "summary.json",
    ".lock",
)  # files that only a job's folder has, but for a sweep's .lock


class Record(NamedTuple):
    """What a job's folder says.

    id: seven letters and digits, made of the folder's absolute path when the job began and kept in config.json, so that
    the id stays where the folder is moved. date: when the job began, ISO. state: whole, stopped, failed or running (its
    folder is locked). words: the words that were typed for this job. config: as in config.json, in the words of now; {} where
    that cannot be read. summary: {} where there is none. error: why the job failed. name, tags: of name= and tag=.
    sweep: the folder of the sweep of which this is a job. provenance: versions, command and machine, and the directory in which the job
    began, which alone is known of folders of before. format: of its config.json.
    """

    folder: Path
    id: str
    verb: str
    date: str
    state: str
    words: dict[str, str]
    config: dict[str, Any]
    summary: dict[str, Any]
    error: str
    name: str
    tags: tuple[str, ...]
    sweep: Path | None
    provenance: dict[str, Any] = {}
    format: int = formats.FORMAT


def new_folder(verb: str) -> Path:
    """The folder of what a verb begins to write now, outputs/VERB/DAY/TIME."""
    return OUTPUTS / verb / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}"


def id_of(folder: Path) -> str:
    """The id of a job that begins in the folder."""
    rest = int.from_bytes(hashlib.sha256(os.fsencode(os.path.abspath(folder))).digest()[:8], "big")
    rest, first = divmod(rest, len(LETTERS))
    found = LETTERS[first]
    for _ in range(LENGTH - 1):
        rest, sign = divmod(rest, len(SIGNS))
        found += SIGNS[sign]
    return found


def read_record(folder: Path) -> Record | None:
    """The record of a job's folder; None where the folder is not a job's."""
    try:
        there = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return None
    return record_of(folder, there) if is_job(folder, there) else None


def is_job(folder: Path, there: set[str]) -> bool:
    """Whether a folder with these entries is a job's, a half-written one too; not a sweep's or a study's."""
    return not (there.isdisjoint(MARKS) or there & {"sweep.json", "study.json"} or folder.name.endswith("-sweep"))


def folders(where: Path, depth: int = DEEPEST) -> Iterator[tuple[Path, set[str]]]:
    """(folder, names of its entries) of every job in a folder, or below it.

    A folder in it that holds more than MOST_FOLDERS of no run is left out from there on, with a warning. Raises UserError where
    that is the folder itself, or MOST_LEFT_OUT in it, as in /, which would be looked through for hours.
    """
    if (yield from _below(where, depth, [])) > MOST_FOLDERS:
        raise UserError(
            f"'{where}' holds more than {MOST_FOLDERS:,} folders that are no run's; give one nearer to the runs"
        )


def _below(place: Path, depth: int, left_out: list[Path]) -> Generator[tuple[Path, set[str]], None, int]:
    """What `folders` gives; and how many folders of no run there are, but for those in left_out, at most one more than MOST_FOLDERS."""
    try:
        entries = list(os.scandir(place))
    except OSError:
        return 1
    there = {entry.name for entry in entries}
    if is_job(place, there):
        yield place, there
        return 0
    others = 1
    inside = [Path(each.path) for each in entries if not each.name.startswith(".") and is_folder(each)] if depth else []
    for each in inside:
        below = yield from _below(each, depth - 1, left_out)
        if below > MOST_FOLDERS and len(left_out) < MOST_LEFT_OUT:
            left_out.append(each)
            progress.warn_once(
                f"'{each}' holds more than {MOST_FOLDERS:,} folders that are no run's; the rest of it is left out"
            )
        else:
            others += below
        if others > MOST_FOLDERS:
            break
    return others


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder that can be looked at: a link may lead where this user may not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def record_of(folder: Path, there: set[str]) -> Record | None:
    """The record of a job's folder with these entries; None where its config.json is none of ours, which a warning says."""
    place = os.fspath(folder)
    kept = _content(f"{place}/config.json", formats.fault) if "config.json" in there else {}
    if kept is None:
        return None
    summary = _read(f"{place}/summary.json", shapes.SUMMARY) if "summary.json" in there else {}
    error = _read(f"{place}/error.json", shapes.ERROR) if "error.json" in there else {}
    if why := formats.too_new(kept):
        progress.warn_once(f"the choices of '{place}' are left out: {why}")
    known = formats.is_readable(kept) and isinstance(kept.get("config"), dict)
    config = formats.in_format_of_now(kept)["config"] if known else {}
    about = kept["provenance"] if isinstance(kept.get("provenance"), dict) else {}
    if "directory" in kept:
        about = {"directory": kept["directory"], **about}
    sweep = folder.parent if os.path.exists(f"{os.path.dirname(place) or '.'}/sweep.json") else None
    typed = about.get("words") or error.get("overrides") or _typed(folder, there)
    words = clean(typed if isinstance(typed, list) else [])
    return Record(
        folder=folder,
        id=str(about.get("id") or id_of(folder)),
        verb=str(kept.get("verb") or _verb(folder, sweep)),
        date=str(about.get("date") or _date(folder)),
        state=_state(folder, there, config, summary),
        words=words,
        config=config,
        summary=summary,
        error=str(error.get("error", "")) if not summary else "",
        name=str(config.get("name") or words.get("name", "")),
        tags=_tags(config.get("tag")),
        sweep=sweep,
        provenance=about,
        format=kept["format"] if known else formats.FORMAT,
    )


def _tags(kept: Any) -> tuple[str, ...]:
    return tuple(map(str, kept if isinstance(kept, list | tuple) else [kept] if kept is not None else []))


def _read(path: Path | str, shape: Any) -> dict[str, Any]:
    return _content(path, shape) or {}


def _content(path: Path | str, shape: Any) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none of the shape, of which a warning says why."""
    content: dict[str, Any] | None = files.read_json(path, neighbour=True, shape=shape)
    return content


def _state(folder: Path, there: set[str], config: dict[str, Any], summary: dict[str, Any]) -> str:
    """A run that was given more steps has the summary of fewer until it is done."""
    steps = summary.get("steps")
    whole = bool(summary) and not ("checkpoints" in there and "metric" in summary and _more(config.get("steps"), steps))
    if not whole and ".lock" in there and locks.is_held(folder):
        return "running"
    return "whole" if whole else "failed" if "error.json" in there else "stopped"


def _more(asked: Any, done: Any) -> bool:
    try:
        return float(asked) > float(done)
    except (TypeError, ValueError):
        return False


def _verb(folder: Path, sweep: Path | None) -> str:
    """The verb of a job that ended before its config was written: its sweep's, or that of outputs/VERB/."""
    if sweep is not None and (verb := _read(sweep / "sweep.json", shapes.SWEEP).get("verb")):
        return str(verb)
    place = os.path.abspath(folder)
    found = STAMP.search(place)
    return os.path.basename(place[: found.start()].rstrip("/")) if found else ""


def _date(folder: Path) -> str:
    """The date in the folder's own name; else that of its oldest file."""
    if found := STAMP.search(os.path.abspath(folder)):
        day, hour, minute, second, fraction = found.groups()
        return f"{day}T{hour}:{minute}:{second}" + (f".{fraction}" if fraction else "")
    try:
        oldest = min(entry.stat().st_mtime for entry in os.scandir(folder))
    except (OSError, ValueError):
        return ""
    return datetime.fromtimestamp(oldest).isoformat()


def _typed(folder: Path, there: set[str]) -> list[str]:
    """The words in .hydra/overrides.yaml: a list with an entry a line, which needs no reader of YAML but for quotes."""
    if ".hydra" not in there:
        return []
    try:
        text = (folder / ".hydra" / "overrides.yaml").read_text()
    except (OSError, ValueError):
        return []
    lines = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    return [line[1:-1].replace("''", "'") if line[:1] == line[-1:] == "'" else line for line in lines]


def clean(words: list[Any]) -> dict[str, str]:
    """{key: value} of words as Hydra keeps them: without its quotes, and with the group's name as typed."""
    pairs = (str(word).partition("=") for word in words)
    return {key_typed(key): unquoted(value) for key, equals, value in pairs if equals}


def key_typed(key: str) -> str:
    """The key that was typed for a word's key as Hydra has it: source of dataset@source, experiment of experiment/train@_global_."""
    group, _, package = key.lstrip("+~").partition("@")
    if group == "dataset" and package.partition(".")[0] in ("dataset", "source"):
        return package
    return group.partition("/")[0]


def unquoted(value: str) -> str:
    """A value without the quotes around the whole of it."""
    inside = value[1:-1]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and value[0] not in inside.replace("\\'", ""):
        return inside.replace("\\'", "'")
    return value


def as_found(config: dict[str, Any], summary: Any) -> dict[str, Any]:
    """The config with the sampler, the grid, the steps and the last step that a search found, as the job's summary has them."""
    found = summary.get("found") if isinstance(summary, dict) else None
    if not isinstance(found, dict):
        return config
    return config | {key: found[key] for key in ("sampler", "grid", "steps", "last")}
