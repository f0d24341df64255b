"""Tab completion, computed from configs/ and outputs/, without slow imports, since a shell calls it at every press of the key."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from diffsde import knobs
from diffsde.cli import help_text
from diffsde.cli.plain import PLAIN
from diffsde.errors import UserError

SHELLS = ("bash", "zsh")
FILES = (*knobs.FILES, "samples", "plugins")  # knobs that name a file or a folder
OFFERED = 300  # runs whose names and ids are offered: reading more would be felt at each press of the key
PLAIN_TO_SHELLS = re.compile(r"[\w./@%+:,=\[\]~^-]* ?")  # words without a meaning of their own to a shell
OPTIONS = ("--help ", "--version ", "--install-completion ")
SCRIPT = """_diffsde_complete() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        [ -z "$word" ] || COMPREPLY+=("$word")
    done <<< "$(COMP_LINE="${COMP_LINE:0:$COMP_POINT}" diffsde)"
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


def install(shell: str) -> str:
    """Write the line that enables completion into the start-up file of a shell, once; what was done, as text.

    shell: bash or zsh; empty: that of $SHELL. Raises UserError for another shell, or where the file cannot be written.
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise UserError(
            f"--install-completion: {f'{chosen!r} is' if chosen else 'no shell is set in $SHELL;'}"
            f"{' not one of' if chosen else ' say one of'} bash, zsh, e.g. diffsde --install-completion bash"
        )
    place = Path.home() / f".{chosen}rc"
    line = f'eval "$(diffsde -sc install={chosen})"'
    try:
        text = place.read_text() if place.exists() else ""
        if line in text:
            return f"{place} completes diffsde's words already"
        with open(place, "a") as file:
            file.write(("" if text.endswith("\n") or not text else "\n") + line + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--install-completion: {place} cannot be written: {error}") from None
    return f"{place} has one more line: {line}\nopen another shell, and press the tab key after diffsde"


def completions(configs: Path, verbs: Iterable[str], flags: Iterable[str], line: str) -> list[str]:
    """The words that may complete the end of the line: a verb, then knobs and groups with their =, then a value."""
    words = line.split()[1:]
    typed = "" if not words or line[-1].isspace() else words.pop()
    if not words:
        return starting(typed, [f"{verb} " for verb in [*verbs, *PLAIN]] + (list(OPTIONS) if typed else []))
    if words[0] in PLAIN:
        return plain_completions(words[0], typed)
    if words[0] not in verbs:
        return []
    if "=" not in typed:
        keys = [key for key in help_text.known_keys(configs, words[0]) if "." not in key or "." in typed]
        return starting(typed, [f"{key}=" for key in keys] + ([f"{flag} " for flag in flags] if typed else []))
    key, _, value = typed.partition("=")
    before = value[: len(value) - len(re.split(r"[,\[]", value)[-1])]  # of a list or a sweep, all but its last entry
    found = starting(typed, [f"{key}={before}{each}" for each in values(configs, words[0], key)])
    if found or key.split(".")[-1] not in FILES:
        return found
    return starting(typed, [f"{key}={before}{each}" for each in named_like(value[len(before) :])])


def plain_completions(verb: str, typed: str) -> list[str]:
    """The words that may complete `typed` after a plain verb: its own, the ids and names of runs, and files and folders."""
    about = PLAIN[verb]
    words = [*(f"{key}=" for key in about.knobs), *(f"{option} " for option in about.options if typed)]
    if about.selects:
        words += ["latest ", *(f"{word} " for word in run_words())]
    return starting(typed, [*words, *named_like(typed)])


def run_words(verb: str | None = None) -> list[str]:
    """The names and ids of the newest OFFERED runs under outputs/, of the verb."""
    from diffsde.runs import record

    places: list[tuple[Path, set[str]]] = []
    with contextlib.suppress(UserError):  # of folders without end, of which what came first is offered
        places.extend(record.folders(record.OUTPUTS / (verb or "")))
    places.sort(key=lambda each: str(each[0]), reverse=True)
    there = [found for place in places[:OFFERED] if (found := record.record_of(*place)) is not None]
    names = [each.name for each in there if each.name]
    return list(dict.fromkeys([*names, *(each.id for each in there)]))


def values(configs: Path, verb: str, key: str) -> list[str]:
    """The words that a key may be set to, where they are known; else []."""
    if key in help_text.groups(configs, verb):
        return help_text.choices(configs, f"experiment/{verb}" if key == "experiment" else key, verb)
    if key in knobs.RUNS:
        whole = [
            *Path("outputs", knobs.RUNS[key]).glob("*/*/config.json"),
            *Path("outputs", knobs.RUNS[key]).glob("*/*/*/config.json"),
        ]
        found = sorted(str(path.parent) for path in whole)
        found = [*run_words(knobs.RUNS[key]), *found]
        words = [] if key == "samples" else ["latest", *(["oracle"] if key == "run" and verb != "train" else [])]
        return [*words, *found]
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
    """The words that begin with `typed`; none that a shell would not take as it stands, such as a file's name with $ or ; in it."""
    return [word for word in words if word.startswith(typed) and PLAIN_TO_SHELLS.fullmatch(word)]
