"""Tab completion, computed from configs/ alone, without slow imports, since a shell calls it at every press of the key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from diffsde import knobs
from diffsde.cli import help_text
from diffsde.errors import UserError

SHELLS = ("bash", "zsh")
FILES = (
    "file",
    "folder",
    "labels",
    "test",
    "data_dir",
    "truth",
    "samples",
    "matrix",
    "cache_dir",
)  # knobs that name a file or a folder
RUNS = ("run", "guide", "init")  # knobs that name a run folder
SCRIPT = """_diffsde_complete() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(COMP_LINE="${COMP_LINE:0:$COMP_POINT}" diffsde)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _diffsde_complete diffsde"""
ZSH = "autoload -U +X compinit && compinit; autoload -U +X bashcompinit && bashcompinit\n"


def script(word: str) -> str:
    """The script that a shell evaluates once to enable completion; word: install=bash or install=zsh, else UserError."""
    shell = word.removeprefix("install=")
    if shell == word or shell not in SHELLS:
        raise UserError(f"-sc {word}: say -sc install=bash or -sc install=zsh")
    return (ZSH if shell == "zsh" else "") + SCRIPT


def completions(configs: Path, verbs: Iterable[str], flags: Iterable[str], line: str) -> list[str]:
    """The words that may complete the end of the line: a verb, then knobs and groups with their =, then a value."""
    words = line.split()[1:]
    typed = "" if not words or line[-1].isspace() else words.pop()
    if not words:
        return starting(typed, [f"{verb} " for verb in verbs] + (["--help ", "--version "] if typed else []))
    if words[0] not in verbs:
        return []
    if "=" not in typed:
        keys = [key for key in help_text.known_keys(configs, words[0]) if "." not in key or "." in typed]
        return starting(typed, [f"{key}=" for key in keys] + ([f"{flag} " for flag in flags] if typed else []))
    key, _, value = typed.partition("=")
    before = value[: len(value) - len(re.split(r"[,\[]", value)[-1])]  # of a list or a sweep, all but its last entry
    found = values(configs, words[0], key) + (named_like(value[len(before) :]) if key.split(".")[-1] in FILES else [])
    return starting(typed, [f"{key}={before}{each}" for each in found])


def values(configs: Path, verb: str, key: str) -> list[str]:
    """The words that a key may be set to, where they are known; else []."""
    if key in help_text.groups(configs, verb):
        return help_text.choices(configs, f"experiment/{verb}" if key == "experiment" else key)
    if key in RUNS:
        found = sorted(str(path.parent) for path in Path("outputs", "train").glob("*/*/config.json"))
        return ["latest", *(["oracle"] if key == "run" and verb != "train" else []), *found]
    group, _, name = key.rpartition(".")
    knob = knobs.knob(name, group.rpartition(".")[2])
    if isinstance(knob, knobs.Switch):
        return ["true", "false"]
    return list(knob.choices) if isinstance(knob, knobs.Word) else []


def named_like(start: str) -> list[str]:
    """The paths of files and folders that begin with `start`; folders end in /, hidden ones are left out."""
    where = Path(start if start.endswith("/") else os.path.dirname(start) or ".")
    try:
        inside = sorted(where.iterdir())
    except OSError:
        return []
    shown = [f"{os.path.join(os.path.dirname(start), path.name)}{'/' if path.is_dir() else ''}" for path in inside]
    return [path for path in shown if not os.path.basename(path.rstrip("/")).startswith(".")]


def starting(typed: str, words: Iterable[str]) -> list[str]:
    """The words that begin with `typed`."""
    return [word for word in words if word.startswith(typed)]
