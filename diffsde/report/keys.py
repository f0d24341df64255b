"""The choices in which jobs differ, of their configs and of the runs that they sampled from, as a command line names them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diffsde import terminal
from diffsde.nested import flatten
from diffsde.runs import formats, progress
from diffsde.runs.flow_words import NETS, OF_FIELDS
from diffsde.runs.folder import MACHINE
from diffsde.runs.record import key_typed
from diffsde.runs.records import Record

# Knobs that say how a job is computed and what is drawn or measured of it, not what it computes.
LONGEST = 200  # letters of a choice that is a text
APART = (
    *(*MACHINE, "resume", "checkpoint_every", "keep", "save_every", "logger", "log_every", "name", "tag"),
    *("pictures", "plots", "coordinates", "metrics"),
)
FOLDERS = ("run", "samples")  # whose content says more than their names
SAMPLING = ("sampler", "diffusion", "steps", "grid", "sigma", "last", "n", "coupled")  # of jobs that drew samples
SEEDS = ("run.seed", "seed")  # the outer first: a trained run, and samples of it
WEIGHT = "objective.weight"
ORACLE, TRAINED, NORMAL = "oracle", "trained", "normal"
# Names of groups within a group, as the command line shortens them.
SHORT = {"sampler.diffusion": "diffusion"}


def choices_of(record: Record, parent: Record | None) -> dict[str, str]:
    """The choices of a job as text, by key; parent: the run that it sampled from, whose keys have the prefix `run.` where the job
    has the same. Keys of a typed word that is in no config (experiment=) are choices too.
    """
    own = choices_alone(record, record.config if parent is None else parent.config)
    theirs = {} if parent is None else choices_alone(parent, parent.config)
    groups = {key.partition(".")[0] for key in theirs if "." in key or key in ("dataset", "path", "objective", "net")}
    found = {key: value for key, value in own.items() if not (parent and value == "null" and key in groups)}
    taken = {key.partition(".")[0] for key in (*found, *named(record.config))}
    for key, value in theirs.items():
        if key not in FOLDERS:
            found[f"run.{key}" if key.partition(".")[0] in taken else key] = value
    for key in FOLDERS:
        if record.verb == "train":
            found.pop(key, None)  # of run= it goes on with itself
        elif key in found:
            found[key] = folder_word(record, key, found[key], parent)
    if "path" in found:  # which has a law at t = 0, said by no key where that is N(0, I)
        found.setdefault("source", NORMAL)
    flow = is_flow(record.config if parent is None else parent.config)
    if record.verb in ("sample", "evaluate") and not flow:  # nor is the direction of samples of before
        found.setdefault("direction", "forward")
    for word, value in record.words.items():
        if (key := key_of(word)) == "experiment":
            found[key] = terminal.printable(value)
    if record.verb == "evaluate" and "n" not in record.summary:  # figures of the field alone
        found = {key: value for key, value in found.items() if key.partition(".")[0] not in SAMPLING}
    return found


def choices_alone(record: Record, trained: dict[str, Any]) -> dict[str, str]:
    """The choices of a record's own config (`without_moot`); the weights of an earlier version's losses are not today's `auto`."""
    found = without_moot(record.verb, record.config, trained)
    of_before = formats.weighted_otherwise({"format": record.format, "verb": record.verb})
    if of_before and found.get(WEIGHT) == "auto":
        found[WEIGHT] = f"auto (format {record.format})"
    return found


def without_moot(verb: str, config: dict[str, Any], trained: dict[str, Any]) -> dict[str, str]:
    """`named` without the keys that are of fields, where the run `trained` is of a discrete flow, which they do not change."""
    found = named(config)
    if not is_flow(trained):
        return found
    moot = {"diffusion", *OF_FIELDS.get(verb, {})}
    return {
        key: value
        for key, value in found.items()
        if key.partition(".")[0] not in moot and not key.startswith("objective.")
    }


def is_flow(trained: dict[str, Any]) -> bool:
    """Whether a run's config is of a discrete flow."""
    return (trained.get("net") or {}).get("name") in NETS


def folder_word(record: Record, key: str, value: str, parent: Record | None) -> str:
    """The value of a key that names a folder: `trained` where the choices of the run in it are known, else its id or the folder."""
    if value in ("null", ORACLE):
        return value
    return TRAINED if key == "samples" or parent is not None else called(record, key)


def called(record: Record, key: str) -> str:
    """The id of the job whose folder a record's key names; the folder where that is not known, '' for none."""
    value, kept = record.config.get(key), record.provenance.get("used", {}).get(key)
    return kept if isinstance(kept, str) else shown_value(str(value or ""))


def named(config: dict[str, Any]) -> dict[str, str]:
    """A config by dotted keys, as text; a group's choice by the group's own name."""
    found = {key: as_text(value) for key, value in flatten(config).items() if key.partition(".")[0] not in APART}
    return {short(key.removesuffix(".name")): value for key, value in found.items()}


def short(key: str) -> str:
    """A key with the short names of groups within groups."""
    for long, name in SHORT.items():
        if key == long or key.startswith(f"{long}."):
            return name + key.removeprefix(long)
    return key


def as_text(value: Any) -> str:
    """A value of a config as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_text, value))}]"
    text = terminal.printable(str(value))
    if len(text) > LONGEST:  # which no picture has room for; another of the same beginning is another choice
        text = f"{text[:LONGEST]}... ({hashlib.sha256(str(value).encode(errors='replace')).hexdigest()[:8]})"
    return text


def key_of(word: str) -> str:
    """The key of a typed word, `key` or `key=value`, as configs have it; of dataset@source, as Hydra has it, source."""
    return short(key_typed(word.partition("=")[0]))


def differing(choices: Sequence[dict[str, str]], typed: Iterable[str]) -> list[str]:
    """The keys whose values differ between jobs, without seeds: those that were typed for any of the jobs, in the order in which
    they were, and any other that these do not determine (as path= does the grid that suits it).
    """
    order = {key: i for i, key in enumerate(dict.fromkeys(map(key_of, typed)))}
    keys = dict.fromkeys(key for each in choices for key in each)
    differ = [key for key in keys if key not in SEEDS and len({each[key] for each in choices if key in each}) > 1]
    said = sorted((key for key in differ if plain(key) in order), key=lambda key: order[plain(key)])
    found = list(said)
    for key in differ:
        if key not in said and not (determined(choices, key, said) if said else repeated(choices, key, found)):
            found.append(key)
    return found


def plain(key: str) -> str:
    """A key without the prefix of the run that was sampled from."""
    return key.removeprefix("run.")


def determined(choices: Sequence[dict[str, str]], key: str, by: Sequence[str]) -> bool:
    """Whether jobs with equal values of the keys `by` have equal values of a key, so far as they have it."""
    values: dict[tuple[str | None, ...], str] = {}
    for each in choices:
        if key in each and values.setdefault(tuple(each.get(other) for other in by), each[key]) != each[key]:
            return False
    return True


def repeated(choices: Sequence[dict[str, str]], key: str, found: Sequence[str]) -> bool:
    """Whether a key says what a key of the same last word says (sigma and diffusion.sigma)."""
    last = key.rpartition(".")[2]
    return any(other.rpartition(".")[2] == last and determined(choices, key, [other]) for other in found)


def shown_value(text: str) -> str:
    """A name, or a folder relative to the working directory, where it lies inside."""
    path = Path(text)
    return progress.shown_path(path) if path.is_absolute() else text
