"""Runs chosen by words: folders, sweeps, ids, names, globs and filters such as path=ot; and the run that a job sampled from."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from diffsde import nested
from diffsde.errors import UserError, suggestion
from diffsde.runs import progress
from diffsde.runs.record import OUTPUTS, folders, record_of, unquoted
from diffsde.runs.record import Record as Record
from diffsde.runs.record import read_record as read_record

FILTER = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
SHORTEST = 4  # letters of an id that may stand for the whole of it
ABOUT = ("id", "verb", "date", "state", "name", "tag", "sweep")  # keys of a filter that are no knobs
OF_RUN = ("dataset", "path", "source")  # knobs of samples whose null is the run's own
INNER = ("sampler", "process", "optimizer", "sampler.diffusion")  # choices whose numbers have short names


def every(where: Path = OUTPUTS) -> Iterator[Record]:
    """The record of every job in a folder or below it, one at a time."""
    for folder, there in folders(where):
        if (record := record_of(folder, there)) is not None:
            yield record


def newest_first(records: Iterable[Record]) -> list[Record]:
    """The records by date, newest first; of jobs of one sweep the last first."""
    return sorted(records, key=age, reverse=True)


def age(record: Record) -> tuple[str, int, str]:
    """What records are sorted by: date, then the number of the job in its sweep."""
    job = record.folder.name
    return record.date, int(job) if record.sweep and job.isdecimal() else 0, str(record.folder)


def select(words: Sequence[str], verb: str | None = None) -> list[Record]:
    """The records that the words choose, newest first; all under outputs/ where there are no words.

    A word is a job's, a sweep's or another folder, an id or the beginning of one, a name, a glob of folders or names, glob(...),
    latest, or a filter key=value; the records of all these together, of which all filters hold. verb: of this verb alone.
    Raises UserError for a word that matches nothing.
    """
    filters = [parts.groups() for word in words if not is_folder(word) and (parts := FILTER.fullmatch(word))]
    named = [word for word in words if is_folder(word) or not FILTER.fullmatch(word)]
    of_verb = verb or next((value for key, value in filters if key == "verb"), None)
    found: Iterable[Record] = chosen(named, of_verb) if named else every()
    if verb is not None:
        kept = [record for record in found if record.verb == verb]
        if named and not kept:
            raise UserError(f"{' '.join(named)}: there is no job of {verb} in it")
        found = kept
    trained_once = remembered(trained)
    for key, value in filters:
        found = filtered(found, key, value, trained_once)
    return newest_first(found)


def is_folder(word: str) -> bool:
    """Whether a word is the path of a folder that is there; such a word means the folder whatever it looks like."""
    return bool(word) and os.path.isdir(os.path.expanduser(word))


def chosen(words: Sequence[str], verb: str | None) -> list[Record]:
    """The records of folders, ids, names and globs, each once; verb: of which `latest` is the newest, as a filter has it.

    Raises UserError for a word that matches nothing.
    """
    there: list[Record] | None = None
    found: dict[str, Record] = {}
    for word in words:
        matches = in_folders(word)
        if not matches:
            there = list(every()) if there is None else there
            matches = called(
                word, [each for each in there if word != "latest" or verb is None or agrees(verb, each.verb)]
            )
        if not matches:
            raise UserError(nothing(word, there or []))
        found |= {os.path.abspath(record.folder): record for record in matches}
    return list(found.values())


def in_folders(word: str) -> list[Record]:
    """The records in the folders that a word names as a path or a glob; [] where it names none."""
    if is_folder(word):
        inside = list(every(Path(os.path.expanduser(word))))
        if not inside:
            raise UserError(f"'{word}' holds no run: neither it nor a folder in it has a config.json that can be read")
        return inside
    places = glob.glob(pattern_of(word), recursive=True) if is_glob(word) else []
    return [record for place in sorted(places) if os.path.isdir(place) for record in every(Path(place))]


def is_glob(word: str) -> bool:
    """Whether a word is glob(...), or has a glob's signs."""
    return any(sign in pattern_of(word) for sign in "*?[") or pattern_of(word) != word


def pattern_of(word: str) -> str:
    """The pattern in glob(pattern); any other word unchanged."""
    return unquoted(word[len("glob(") : -1]) if word.startswith("glob(") and word.endswith(")") else word


def called(word: str, there: list[Record]) -> list[Record]:
    """The records with this id, or of this name; else those whose id begins so, or whose name matches the glob.

    Raises UserError where several ids begin so, or several folders have one id.
    """
    if word == "latest":
        whole = newest_first(record for record in there if record.state == "whole")
        return whole[:1]
    if is_glob(word):
        return [each for each in there if fnmatchcase(each.name, pattern_of(word)) and each.name]
    if by_name := [record for record in there if record.name == word]:
        return by_name
    same = [record for record in there if record.id == word]
    starts = same or [record for record in there if len(word) >= SHORTEST and record.id.startswith(word)]
    if len(starts) > 1:
        places = ", ".join(f"{record.id} ({shown(record.folder)})" for record in starts[:4])
        raise UserError(f"'{word}' is {'the id' if same else 'how the ids begin'} of {len(starts)} runs: {places}")
    return starts


def nothing(word: str, there: list[Record]) -> str:
    """The message for a word that matches no run."""
    if word == "latest":
        return f"latest: no finished run under '{OUTPUTS}'"
    names = {record.name for record in there if record.name}
    close = suggestion(word, [*sorted(names), *(record.id for record in there)], most=0)
    kinds = "no folder or name matches it" if is_glob(word) else "no folder, id or name"
    return f"'{word}' matches no run: {kinds}{close}; diffsde runs lists what there is"


def shown(folder: Path) -> str:
    """A folder as text, relative to the working directory where it lies inside."""
    place = os.path.relpath(folder)
    return str(folder) if place.startswith("..") else place


Trained = Callable[[Record], Record | None]


def filtered(records: Iterable[Record], key: str, value: str, trained_once: Trained) -> list[Record]:
    """The records of which key=value holds. Raises UserError where it holds of none, with the values that there are."""
    kept, seen, known = [], set[str](), set[str]()
    for record in records:
        held = values_of(record, key, trained_once)
        if any(agrees(value, each) for each in held):
            kept.append(record)
        elif not kept:
            seen |= {text_of(each) for each in (held[-1:] if key == "date" else held)}  # days, not times
            known |= record.config.keys()
    if kept:
        return kept
    if seen:
        some = ", ".join(sorted(seen)[:8]) + (", ..." if len(seen) > 8 else "")
        raise UserError(f"{key}={value} matches no run; there {key} is {some}")
    close = "" if key in (*ABOUT, *known) else suggestion(key, [*sorted(known), *ABOUT], most=0)
    raise UserError(f"{key}={value} matches no run: none has {key}{close}")


def values_of(record: Record, key: str, trained_once: Trained) -> list[Any]:
    """The values that a key has in a record, of which a filter may mean any; [] where it has none.

    A key that the job's own config leaves out, or a null of OF_RUN, is that of the run it sampled from; run.key is always that.
    """
    if key == "tag":
        return list(record.tags)
    if key == "date":
        return [record.date, record.date[:10]]
    if key in ABOUT:
        held = {"sweep": record.sweep and record.sweep.name}.get(key, getattr(record, key, None))
        return [held] if held else []
    if key == "run":
        theirs = trained_once(record)
        return [each for each in (record.config.get("run"), *([theirs.id, theirs.name] if theirs else [])) if each]
    if key.startswith("run."):
        theirs = trained_once(record)
        return own_values(theirs, key.removeprefix("run.")) if theirs else []
    held = own_values(record, key)
    if (not held or (held == [None] and key in OF_RUN)) and (theirs := trained_once(record)):
        return own_values(theirs, key) or held
    return held


def own_values(record: Record, key: str) -> list[Any]:
    """The value of a key in a job's config, or a shorter key's (theta: process.theta), or the word typed."""
    for prefix in ("", *(f"{each}." for each in INNER)):
        found: Any = record.config
        for part in f"{prefix}{key}".split("."):
            found = found.get(part, ...) if isinstance(found, dict) else ...
        if found is not ... and not (found is None and key in ("sigma", "lr", "diffusion")):
            return [found]
    return [record.words[key]] if key in record.words else [None] if key in record.config else []


def agrees(asked: str, held: Any) -> bool:
    """Whether a value is one of those asked for, a comma between them: as a number, a word, or a glob.

    A list in brackets is one value where the value held is a list, else the list of those asked for.
    """
    text = text_of(held)
    several = not isinstance(held, list | tuple) and asked[:1] == "[" and asked[-1:] == "]"
    for each in (asked, *split(asked[1:-1] if several else asked)):
        if each == text or (any(sign in each for sign in "*?") and fnmatchcase(text, each)):
            return True
        try:
            if float(each) == float(text):
                return True
        except ValueError:
            pass
    return False


def split(asked: str) -> list[str]:
    """The values of a comma list; a list in brackets is one value."""
    return [asked.replace(" ", "")] if asked[:1] in "[{" else asked.split(",")


def text_of(value: Any) -> str:
    """A value of a config as it is typed: a choice by its name."""
    if isinstance(value, dict):
        return str(value.get("name", value))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text_of, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def remembered(function: Trained) -> Trained:
    """The function `trained`, which reads each run once, and finds by its id one that was moved; of the first that is gone it warns."""
    known: dict[tuple[Any, ...], Record | None] = {}
    find, told = by_id(), False

    def once(record: Record) -> Record | None:
        nonlocal told
        run, wanted = record.config.get("run"), id_used(record, "run")
        key = (str(run), str(record.provenance.get("directory")), root_of(record.folder), wanted)
        if key not in known:
            theirs = function(record) or (find(wanted, record) if record.verb != "train" else None)
            known[key] = theirs
            if theirs is None and not told and is_of_run(record):
                told = True
                progress.warn_once(
                    f"the run '{run}', from which '{shown(record.folder)}' was drawn, is gone; of such jobs the choices that"
                    " were the run's are not known"
                )
        return known[key]

    return once


def is_of_run(record: Record) -> bool:
    """Whether a job sampled from a training run."""
    run = record.config.get("run")
    return record.verb != "train" and isinstance(run, str) and run not in ("oracle", "latest", "")


def trained(record: Record) -> Record | None:
    """The record of the run that a job sampled from; None for the exact field, for training, and where the run is gone.

    A run's folder is searched where it was, from the folder in which the command was given, and beside the job's own outputs/
    where both were moved together; `remembered` also finds one that was moved elsewhere.
    """
    found = where_it_was(record, "run") if is_of_run(record) else None
    return found if found is not None and found.verb == "train" else None


def where_it_was(record: Record, knob: str) -> Record | None:
    """The record in the folder that a knob of a job named, where that is still the same job's; else None."""
    wanted = id_used(record, knob)
    for start in (Path(), Path(str(record.provenance.get("directory") or ".")), root_of(record.folder)):
        found = read_record(start / str(nested.get(record.config, knob)))
        if found is not None and wanted in (None, found.id):
            return found
    return None


def job_used(record: Record, knob: str) -> Record | None:
    """The record of the one job that a knob named, found by its id where it was moved; None where it is gone."""
    return where_it_was(record, knob) or by_id()(id_used(record, knob), record)


def id_used(record: Record, knob: str) -> str | None:
    """The id of the job whose folder a knob named; None where it is not kept."""
    used = record.provenance.get("used")
    wanted = used.get(knob) if isinstance(used, dict) else None
    return wanted if isinstance(wanted, str) else None


def by_id() -> Callable[[str | None, Record], Record | None]:
    """A function that finds an id under outputs/, else under the outputs/ in which a job lies; each is looked through once, when
    first needed.
    """
    places: dict[str, dict[str, Path]] = {}

    def find(wanted: str | None, job: Record) -> Record | None:
        for root in (Path(), root_of(job.folder)) if wanted is not None else ():
            where = os.path.abspath(root / OUTPUTS)
            if where not in places:
                places[where] = {record.id: record.folder for record in every(root / OUTPUTS)}
            if wanted in places[where]:
                return read_record(places[where][wanted])
        return None

    return find


def root_of(folder: Path) -> Path:
    """The folder that holds the outputs/ in which a job lies; its own parent where it lies in none."""
    place = Path(os.path.abspath(folder))
    return next((parent.parent for parent in place.parents if parent.name == OUTPUTS.name), place.parent)
