"""The forms of typed words: what is no key=value is refused in one line that shows the word to type, before Hydra reads it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from diffsde import knobs
from diffsde.cli import choice_texts, help_text, spelling
from diffsde.errors import UserError, suggestion
from diffsde.terminal import printable

MULTIRUN = {"-m", "--multirun"}
ALONE = (*MULTIRUN, "--resolve", "--version", "--hydra-help", "-sc", "--shell-completion", "-r", "--run")
# Hydra's options that a value follows, and what it may be, where that is one of some words:
WITH_VALUE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    **dict.fromkeys(("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"), ()),
    **dict.fromkeys(("--package", "-p", "--experimental-rerun"), ()),
}
HYDRA_FLAGS = sorted(option for option in (*ALONE, *WITH_VALUE) if option.startswith("--"))
MINUS = "\u2212\u2013\u2014"  # minus sign and dashes, as a page or a word processor has them
KEY = re.compile(r"[A-Za-z_][\w-]*([./][\w-]+)*(@[\w.-]+)?")
QUOTES = "\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
OF_NUMBERS = set("0123456789.,eE+-[] " + MINUS)
TEXTS = (*knobs.RUNS, "name", "tag")  # keys whose text may hold key=value


def read(configs: Path, verb: str, words: Sequence[str], sweeping: bool) -> list[str]:
    """A verb's words as Hydra takes them. Raises UserError for one that is neither an option nor key=value.
    sweeping: whether commas part the values of a sweep.
    """
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-") or (word and word[0] in MINUS):
            found += option(configs, verb, word, rest)
        else:
            found.append(key_value(configs, verb, word, next((each for each in rest[:2] if each != "="), "")))
    say_twice(found)
    for word in found:
        refuse_commas(configs, verb, word, sweeping)
    return found


def option(configs: Path, verb: str, word: str, rest: list[str]) -> list[str]:
    """An option with its value, which is taken out of `rest`, the words after it."""
    name, equals, value = word.partition("=")
    if word in ALONE:
        return [word]
    if name not in WITH_VALUE:
        raise UserError(
            f"{shown(word)} is not an option{meant_by(configs, verb, word, rest)}; see diffsde {verb} --help"
        )
    wanted = WITH_VALUE[name]
    if not equals:
        if not rest or rest[0].startswith("-"):
            raise UserError(f"{name} needs a value: {name} {' or '.join(wanted) or name.strip('-').upper()}")
        value = rest.pop(0)
    if wanted and value not in wanted:
        raise UserError(f"{name} {shown(value)}{suggestion(value, wanted)}")
    return [name, os.path.expanduser(value)]


def meant_by(configs: Path, verb: str, word: str, rest: Sequence[str]) -> str:
    """What a word that begins with a dash may have been meant for: ' (write steps=5)'."""
    bare = word.lstrip("-" + MINUS)
    name, equals, value = bare.partition("=")
    if word[0] in MINUS:
        plain = "-" * (1 if len(name) == 1 else 2) + bare
        return f": it begins with '{word[0]}', which is no hyphen; type {plain}"
    near = normal(configs, verb, name)
    if near:
        value = value if equals else next((each for each in rest[:1] if "=" not in each and each[:1] != "-"), "...")
        return f": words have no dashes; write {typed(near, value) if value != '...' else f'{near}=...'}"
    if name in ("help", "halp", "hlep", "?"):
        return " (did you mean '--help'?)"
    return suggestion(word, [*HYDRA_FLAGS, "--help"], most=0)


def normal(configs: Path, verb: str, key: str) -> str:
    """The key of a verb that a word is, but for capital letters, - and blanks; empty where there is none."""
    known = [*help_text.groups(configs, verb), *help_text.known_keys(configs, verb)]
    return next((each for each in (key, key.strip().lower().replace("-", "_")) if each in known), "")


def key_value(configs: Path, verb: str, word: str, after: str) -> str:
    """A word key=value, without blanks around = and without + before a key. Raises UserError for a word that is none."""
    key, equals, value = (part.strip() for part in word.partition("="))
    if not word.strip() or not key:
        raise UserError(f"{shown(word)} is not key=value; write e.g. path=ot or steps=100")
    if key.startswith("~"):
        raise UserError(f"{shown(word)} would take {key[1:]} out of the config, which needs it; leave the word out")
    if not equals:
        raise UserError(f"{shown(word)} is not key=value; {instead(configs, verb, word, after)}")
    if key.endswith(":"):
        raise UserError(f"{shown(word)} has a colon before '='; write {typed(key.rstrip(':'), value)}")
    if value.startswith("="):
        raise UserError(f"{shown(word)} has two '='; write {typed(key, value.lstrip('='))}")
    bare = key.lstrip("+")
    if not KEY.fullmatch(bare):
        whole = "; a list is given whole, key=[...]" if "[" in bare else ""
        raise UserError(f"{shown(word)}: '{printable(bare)}' is not a key{whole}; see diffsde {verb} --help")
    if not bare.startswith("hydra"):
        key = bare
    if set(value) <= OF_NUMBERS:
        value = value.translate(dict.fromkeys(map(ord, MINUS), "-"))
    refuse_value(configs, verb, word, key, value, after)
    return f"{key}={'null' if value == 'None' and not os.path.exists(value) else value}"


def instead(configs: Path, verb: str, word: str, after: str) -> str:
    """What to write in the place of a word without '='."""
    key = normal(configs, verb, word)
    if key:
        value = after.lstrip("=") if after and ("=" not in after or after.startswith("=")) else ""
        return f"write {typed(key, value)}, without blanks" if value else f"write e.g. {key}=..."
    for mark in (":", " "):
        before, there, value = word.partition(mark)
        if there and (key := normal(configs, verb, before)):
            return f"write {typed(key, value)}"
    if word in help_text.EXAMPLES:
        return "it is a verb, and a command has one"
    groups = [group for group in help_text.groups(configs, verb) if word in help_text.choices(configs, group, verb)]
    if groups:
        return f"it is a choice of {' and '.join(f'{group}=' for group in groups)}; write {groups[0]}={word}"
    if os.path.isdir(os.path.expanduser(word)) and normal(configs, verb, "run"):
        return f"write {typed('run', word)}"
    if os.path.isfile(os.path.expanduser(word)) and word.endswith((".npy", ".npz", ".csv", ".tsv", ".txt")):
        return f"write dataset=array {typed('dataset.file', word)}"
    near = suggestion(word, [*help_text.groups(configs, verb), *help_text.known_keys(configs, verb)], most=0)
    return f"write e.g. path=ot or steps=100{near}"


def refuse_value(configs: Path, verb: str, word: str, key: str, value: str, after: str) -> None:
    """Raise UserError for a value that is empty, ends in a comma, holds another word, or has the quotes of a page."""
    parted = not value and after and "=" not in after
    if value in ("", "null", "None") and key in help_text.groups(configs, verb) and not parted:
        names = ", ".join(help_text.choices(configs, key, verb))
        raise UserError(f"{printable(word)}: a group needs one of its choices: {names}")
    if not value and ("." not in key or key.startswith("hydra.")):
        better = f"write {typed(key, after)}, without a blank" if parted else "give it one"
        raise UserError(f"{shown(word)} has no value; {better}, or leave the word out")
    if re.search(r"(?<!\\)\$\{[^}]*$", value):
        text = typed(key, re.sub(r"(?<!\\)\$\{", r"\${", value))
        raise UserError(
            f"{shown(word)} has a ${{ without }}, which stands for the value of a key; the very text is {text}"
        )
    if os.path.exists(value):  # a file may have any name
        return
    if value.endswith(","):
        raise UserError(f"{shown(word)} ends in a comma; write {typed(key, value.rstrip(', '))}")
    if (inner := re.search(r",\s*\]$", value)) and value.startswith("["):
        raise UserError(f"{shown(word)} has a comma before ']'; write {typed(key, value[: inner.start()] + ']')}")
    if marks := [mark for mark in QUOTES if mark in value]:
        raise UserError(f"{shown(word)} has the quotes of a page, {marks[0]}; type ' or \" in their place")
    inner = re.search(r"\s([A-Za-z_][\w.]*)=", value)
    if inner and key not in TEXTS and normal(configs, verb, inner[1]):
        first, second = value[: inner.start()].rstrip(), value[inner.start() :].lstrip()
        raise UserError(f"{shown(word)} is one word, by its quotes; write two: {key}={first} {second}")


def refuse_commas(configs: Path, verb: str, word: str, sweeping: bool) -> None:
    """Raise UserError for a comma in the place of a decimal point, or between thousands, of a knob that is one number."""
    key, _, value = word.partition("=")
    group, _, last = key.rpartition(".")
    knob = knobs.knob(last, group.rpartition(".")[2])
    if (
        not re.fullmatch(r"-?\d+(,\d+)+", value)
        or not isinstance(knob, knobs.Number)
        or takes_list(configs, verb, group, last)
    ):
        return
    if knob.whole and re.fullmatch(r"\d{1,3}(,\d{3})+", value) and (not sweeping or ",000" in value):
        raise UserError(f"{shown(word)}: thousands have no comma; write {key}={value.replace(',', '')}")
    if not knob.whole and not sweeping and value.count(",") == 1:
        point = value.replace(",", ".")
        raise UserError(f"{shown(word)}: a decimal point is a dot, {key}={point}; -m sweeps over several values")


def takes_list(configs: Path, verb: str, group: str, key: str) -> bool:
    """Whether a key may hold a list: its default is one in some file, or is null or text, and so says nothing."""
    texts = choice_texts.texts(configs, group.rpartition(".")[2]) if group else help_text.sources(configs, verb)
    known = [
        value for text in texts.values() for value in re.findall(rf"^{re.escape(key)}: *([^#]*)", text, flags=re.M)
    ]
    own = key in ("ema", "mean", "std", *spelling.LISTS)
    return own or any(value.strip().startswith("[") for value in known)


def say_twice(words: Sequence[str]) -> None:
    """Say which word counts where two set a key to different values: the last, as with Hydra."""
    printed = bool(spelling.PRINTED & {*words})  # the config is what stdout is for
    last = {word.partition("=")[0]: word for word in words if "=" in word and not word.startswith("-")}
    for word in words:
        if (counts := last.get(word.partition("=")[0], word)) != word:
            print(
                f"{printable(word)} is replaced by {printable(counts)}, which follows it",
                file=sys.stderr if printed else sys.stdout,
            )


def typed(key: str, value: str) -> str:
    """A word as it is typed in a shell."""
    return shlex.quote(f"{key}={value}")


def shown(word: str) -> str:
    """A word as a message quotes it."""
    return f"'{printable(word)}'"
