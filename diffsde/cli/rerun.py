"""diffsde rerun: repeats a run from its folder, and says whether the bits match, what differs, and what may have made the difference."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from diffsde import named_files, nested, plugins, signals
from diffsde.cli import spelling
from diffsde.cli.job import VERBS
from diffsde.errors import UserError
from diffsde.runs import files, folder, formats, leaving, progress, provenance, records
from diffsde.runs.plain_words import parted
from diffsde.runs.record import Record, as_found, new_folder
from diffsde.state import STATE

SHOWN = 12  # most parts that differ of which each has a line
OWN_CACHE = {
    "cache": True,
    "cache_dir": None,
}  # programs are read from the user's own cache, not from where a folder says
AT_START = ("threads", "devices")  # knobs that XLA reads once, when a process begins


class Rerun(NamedTuple):
    """A run that was repeated. run: the id of the first; folder: of the repetition. same: whether every bit of the result is.
    parts: what was compared (repeat.Part). reasons: what was not as it was, and may change bits.
    """

    run: str
    folder: Path
    same: bool
    parts: tuple[Any, ...]
    reasons: tuple[str, ...]


def main(words: list[str]) -> None:
    """Repeat the run that the words choose, and print what came out."""
    rest, named = spelling.without_plugins(words)
    plugins.load(named)
    own, chosen = parted(rest, ("out",))
    say(rerun(chosen, Path(own["out"]).expanduser() if "out" in own else None))


def rerun(words: Sequence[str], out: Path | None = None) -> Rerun:
    """Repeat the one run that the words choose. out: where; None: a new folder under outputs/. Raises UserError."""
    record = chosen_run(words)
    where = Path(os.path.abspath(out if out is not None else new_folder(record.verb)))
    if next(records.folders(where, 0), None) is not None:
        raise UserError(f"out: '{out}' already holds a run; nothing is overwritten, give another folder")
    leaving.will_make(where)
    first = again(record)
    config = first | as_begun(first)
    typed = [f"{key}={value}" for key, value in record.words.items() if key not in folder.LABELS]
    with (
        begun_in(record),
        signals.leaving(partial(stopped, where)),
        provenance.given("", {where: [*typed, f"rerun={record.id}"]}),
    ):
        try:
            getattr(importlib.import_module(VERBS[record.verb]), record.verb)(config, where)
        finally:
            if where.is_dir() and not (where / "config.json").exists():
                leaving.remove_empty(where)
    from diffsde.runs import repeat  # here: jax, which the verb has begun with the threads of the run

    after = records.read_record(where)
    assert after is not None, where
    parts = repeat.compared(record.folder, where)
    same = all(part.same for part in parts)
    late = [
        f"{knob}: {first[knob]} there, {config[knob]} here, with which this process had begun; in a shell, diffsde rerun"
        f" {record.id} begins with {first[knob]}"
        for knob in AT_START
        if knob in first and first[knob] != config[knob]
    ]
    reasons = [*late, *repeat.reasons(record, after), *([] if same else repeat.changed_code(record, after))]
    return Rerun(record.id, where, same, tuple(parts), tuple(reasons))


def stopped(where: Path) -> str:
    """Tidy the folder of a repetition that a signal ended, and say what is kept of it: it is not compared with anything."""
    kept = f"the repetition so far is in {progress.shown_path(where)}" if leaving.tidied(where) else leaving.NOTHING
    return f"{kept}; the same command begins another"


def alone(words: Sequence[str]) -> str:
    """What to type for the run itself, where run=NAME is all that was made of it; empty where that is not what the words say."""
    name = words[0].removeprefix("run=")
    if len(words) > 1 or name == words[0]:
        return ""
    try:
        found = records.chosen([name], None)
    except UserError:
        return ""
    return f"diffsde rerun {name} is the run itself, and run={name} what was made of it" if len(found) == 1 else ""


def chosen_run(words: Sequence[str]) -> Record:
    """The run that the words choose, its folder absolute. Raises UserError where it is not one, or cannot be repeated."""
    if not words:
        raise UserError("rerun: which run? Give a folder, an id, a name or latest; diffsde runs lists what there is")
    found = records.select(words)
    said = " ".join(words)
    if len(found) > 1:
        raise UserError(
            f"rerun repeats one run, and {said} is {len(found)}; {alone(words) or f'the newest is {found[0].id}'}"
        )
    record = found[0]._replace(folder=Path(os.path.abspath(found[0].folder)))
    if record.state != "whole":
        inside = record.folder.is_relative_to(os.path.abspath(records.OUTPUTS))  # where ids are looked for
        named = record.id if inside else shlex.quote(records.shown(record.folder))
        next_step = f"diffsde train run={named} goes on with it"
        if record.state == "running":
            next_step = "another process writes it; it can be repeated when it has ended"
        elif record.verb != "train":
            next_step = "give a finished one"
        raise UserError(f"rerun: {said} is {record.state}, and has no result to be compared with; {next_step}")
    if why := formats.too_new(files.read_json(record.folder / "config.json")):
        raise UserError(f"rerun: '{found[0].folder}' cannot be read: {why}")
    if why := formats.not_resumable({"format": record.format, "verb": record.verb}):
        raise UserError(f"rerun: '{found[0].folder}' cannot be repeated: {why}{found[0].folder}")
    if record.verb not in VERBS or not record.config:
        raise UserError(f"rerun: '{found[0].folder / 'config.json'}' is not the config of a run of this version")
    if record.config.get("coordinator") is not None:
        raise UserError(f"rerun: {said} was run by several processes, which rerun does not start")
    plugins.check_needed(files.parsed_of_user(record.folder / "config.json").get("plugins"), "rerun", said)
    return record


def again(record: Record) -> dict[str, Any]:
    """The config of a run that is to be repeated: without a name, trackers and pictures beside the result; net=auto as it was, and
    the sampler that a search found.
    """
    named_files.remember(record.config, by_user=False)
    config = as_found(record.config, record.summary) | dict.fromkeys(folder.LABELS)
    config |= {key: value for key, value in OWN_CACHE.items() if key in config}
    if record.verb == "train":
        net = folder.read_net(record.folder)
        config |= {"run": None, "logger": {"name": "none"}} | ({"net": net} if net else {})
    for knob in provenance.USED:
        if not isinstance(named := nested.get(config, knob), str) or named in ("oracle", ""):
            continue
        if (theirs := records.job_used(record, knob)) is not None:  # where it lies now
            config = nested.put(config, knob, os.path.abspath(theirs.folder))
        elif (known := records.id_used(record, knob)) and not os.path.isdir(named):
            raise UserError(
                f"rerun: {knob}= was '{named}' (id {known}), which is gone, and no folder under '{records.OUTPUTS}' has its id"
            )
    if "pictures" in config:
        config["pictures"] = "none"
    return config | ({"plots": None} if "plots" in config else {})


def as_begun(config: dict[str, Any]) -> dict[str, Any]:
    """The knobs AT_START of a process that has computed already, as a call in Python may find it; {} where it has not."""
    if STATE.machine is not None:
        return {knob: getattr(STATE.machine, knob) for knob in AT_START if knob in config}
    if "jax" in sys.modules:
        from diffsde.runs.machine import has_begun  # here: it imports jax, which a command has not begun yet

        if has_begun():
            return {knob: None for knob in AT_START if knob in config}
    return {}


def begun_in(record: Record) -> contextlib.AbstractContextManager[None]:
    """A context in the directory where the run was begun, to which its file names are relative; where that is gone, in the folder
    that holds its outputs/ now.
    """
    first = record.provenance.get("directory")
    return contextlib.chdir(first if first and os.path.isdir(first) else records.root_of(record.folder))


def say(done: Rerun) -> None:
    """Print what came out: one line where all is the same, else what differs and why it may."""
    apart = [part for part in done.parts if not part.same]
    rows = [(part.name, part.said) for part in apart[:SHOWN]]
    if len(apart) > SHOWN:
        rows.append(("...", f"{len(apart) - SHOWN} others differ"))
    if not apart:
        rows = [(part.name, part.said) for part in done.parts[:SHOWN]]
    rows += [("why it may" if apart else "though", reason) for reason in done.reasons]
    if apart and not done.reasons:
        rows.append(
            ("why it may", "versions, machine and code are as they were: a program whose result varies from run to run")
        )
    verdict = f"{len(apart)} of {len(done.parts)} parts differ" if apart else "every bit matches"
    progress.print_table(f"reran {done.run}: {verdict}", [*rows, ("folder", progress.shown_path(done.folder))])
