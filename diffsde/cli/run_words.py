"""What a knob such as run= names, as folders: a folder, a sweep, an id, a name, a glob, or a filter such as path=ot."""

from __future__ import annotations

import functools
import glob
import os
import re
import shlex
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.errors import UserError, suggestion
from diffsde.knobs import RUNS
from diffsde.runs import records
from diffsde.runs.record import unquoted

APART = ("latest", "oracle", "null", "")  # words that name no folder


class Named(NamedTuple):
    """The folders that a word names, and how many others it matches that the knob does not take."""

    folders: list[str]
    others: int = 0


def named(verb: str, key: str, value: str, sweeping: bool) -> Named | None:
    """The folders that key=value names for a verb; None where it names no folder, or is one, and is left as it is.

    sweeping: whether a comma parts several, and each of several runs has a job. Raises UserError where nothing is found that the
    knob takes, for several folders without -m, and for `train run=` of a glob.
    """
    value = value.strip()
    if unquoted(value) in APART and not records.is_folder(unquoted(value)):
        return None
    pieces = [value] if not sweeping or records.is_folder(unquoted(value)) else parts(value)
    if all(is_left(piece) for piece in pieces):
        return None
    goes_on = verb == "train" and key == "run"
    if goes_on and value.startswith("glob("):
        raise UserError(f"{key}= goes on with one run; it cannot be combined with {value}")
    if goes_on and sweeping:
        return None  # each job refuses it
    found = [Named([piece]) if is_left(piece) else found_by(verb, key, piece) for piece in pieces]
    folders = list(dict.fromkeys(folder for each in found for folder in each.folders))
    if len(folders) > 1 and not sweeping:
        word = f"{key}={value}"
        takes = "" if goes_on else f"-m takes each of them: diffsde {verb} -m {shlex.quote(word)}; "
        raise UserError(f"{word} is {len(folders)} {what(key)}; {takes}the newest is {key}={newest(folders)}")
    return None if folders == pieces else Named(folders, sum(each.others for each in found))


def newest(folders: list[str]) -> str:
    """The id of the newest of the runs in the folders."""
    there = [record for folder in folders if (record := records.read_record(Path(folder))) is not None]
    return records.newest_first(there)[0].id


def parts(value: str) -> list[str]:
    """The values of a sweep; a comma list of a filter's values is the filter's."""
    found = pieces(value)
    if records.FILTER.fullmatch(found[0]) and not all(records.FILTER.fullmatch(each) for each in found):
        return [value]
    return found


def is_left(value: str) -> bool:
    """Whether a value is no name of a folder: latest, a variable, a list, or a sweep of Hydra's own."""
    return value in APART or value[0] in "$[{" or bool(re.match(r"(choice|range|interval|shuffle|sort|tag)\(", value))


def found_by(verb: str, key: str, value: str) -> Named:
    """The folders that one word names, folders 2 before folders 10. Raises UserError where it names none that the knob takes."""
    inside = unquoted(value)
    if records.is_folder(inside):
        place = os.path.expanduser(inside)
        there = [str(folder) for folder, _ in records.folders(Path(place))]
        if there in ([place], []):  # a job's folder, or nobody's: who reads it says so
            return Named([place if place != inside else value])
        return taken(verb, key, value, there)
    if value.startswith("glob(") and (places := matches(value)):
        return taken(verb, key, value, opened(places))
    try:
        words = filters(value) or [inside]
        chosen = records.select(words)
    except UserError as error:
        raise UserError(refusal(verb, key, value, str(error))) from None
    fitting = [str(record.folder) for record in chosen if record.verb == RUNS[key]]
    if not fitting:
        raise UserError(f"{key}={value} is a job of {chosen[0].verb}; {key}= takes one of {RUNS[key]}")
    if (
        len(fitting) == 1 and not filters(value) and not records.is_glob(value)
    ):  # named as a folder would be, finished or not
        return Named(fitting)
    return taken(verb, key, value, fitting)


def filters(value: str) -> list[str]:
    """The filters of a word such as 'path=ot seed=0'; [] where it is none. Raises UserError for a quote that is not closed."""
    if not records.FILTER.fullmatch(value):
        return []
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise UserError(f"{value}: {error}") from None
    return words if all(records.FILTER.fullmatch(word) for word in words) else [value]


def refusal(verb: str, key: str, value: str, why: str) -> str:
    """The message for a word that matches nothing. why: what the choice of runs says of it."""
    if records.is_glob(value):
        return f"{key}={value}: it matches nothing; it takes folders of finished {what(key)}"
    if records.FILTER.match(value):
        return f"{key}: {why}"
    close = re.search(r" \(did you mean '[^']*'\?\)", why)
    others = ", a name, latest or oracle" if key == "teacher" or (key == "run" and verb != "train") else " or a name"
    kind = f"a {'run' if RUNS[key] == 'train' else RUNS[key]} folder, an id{others}"
    if not close and " is " in why:  # several ids that begin so
        return f"{key}: {why}"
    near = close[0] if close else suggestion(value, re.findall(r"latest|oracle", others), most=0)
    return f"{key}: there is no folder '{value}', and no id or name{near}; give {kind}"


def taken(verb: str, key: str, value: str, there: Iterable[str]) -> Named:
    """Those of the folders that the knob takes: finished ones, but for `train run=`, which goes on with an unfinished one too."""
    found = sorted(there, key=natural)
    goes_on = verb == "train" and key == "run"
    fit = [place for place in found if goes_on or is_wanted(key, place)]
    if not fit:
        raise UserError(f"{key}={value}: none of the {len(found)} that it matches is a folder of finished {what(key)}")
    return Named(fit, len(found) - len(fit))


def what(key: str) -> str:
    """What a knob takes, as a plural."""
    return "runs" if RUNS[key] == "train" else "sample folders"


def said(word: str, found: Named) -> str:
    """The line that says which folders a word names."""
    key, count = word.partition("=")[0], len(found.folders)
    rest = f", {found.others} other matches left out" if found.others else ""
    if "glob(" in word or count > 1:
        return f"{word}: {count} {what(key) if count > 1 else what(key).removesuffix('s')}{rest}"
    return f"{word}: {found.folders[0]}{rest}"


def opened(places: Iterable[str]) -> list[str]:
    """The places, with the jobs of a sweep in the place of its folder."""
    found: dict[str, None] = {}
    for place in places:
        inside = (
            [str(folder) for folder, _ in records.folders(Path(place))] if Path(place, "sweep.json").exists() else []
        )
        found |= dict.fromkeys(inside or [place])
    return list(found)


def matches(value: str) -> list[str]:
    """The paths that glob(pattern), or glob([pattern, ...], exclude=pattern), matches."""
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    include, exclude = [value[len("glob(") : -1]], []
    try:
        read = parser().parse_override(f"x={value}").value()
        if isinstance(read, Glob):
            include, exclude = read.include, read.exclude
    except HydraException:  # a pattern that Hydra cannot parse, e.g. with brackets
        pass
    found = {str(Path(path)) for pattern in include for path in glob.glob(pattern, recursive=True)}
    return [path for path in found if not any(fnmatch(path, pattern) for pattern in exclude)]


def natural(path: str) -> list[Any]:
    """A key by which numbers in a path are sorted as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", path)]


def is_wanted(key: str, place: str) -> bool:
    """Whether a folder is what a knob takes: a finished field, run or set of samples."""
    from diffsde.runs import folder

    wanted: dict[str, Callable[[Path], bool]] = {
        "run": folder.is_field,
        "guide": folder.is_trained,
        "init": folder.is_trained,
        "coupling.run": folder.is_field,
        "teacher": folder.is_field,
        "samples": folder.is_drawn,
    }
    return wanted[key](Path(place))


def pieces(value: str) -> list[str]:
    """A value split at its commas outside brackets and quotes; whole where its brackets do not match."""
    found, depth, inside = [""], 0, ""
    for i, letter in enumerate(value):
        if inside:
            inside = "" if letter == inside and value[i - 1] != "\\" else inside
        elif letter in "'\"" and not found[-1].strip():
            inside = letter
        depth += 0 if inside else (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not inside:
            found.append("")
        else:
            found[-1] += letter
    return [value] if depth or inside else found


@functools.cache
def parser() -> Any:
    """Hydra's parser of words."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()
