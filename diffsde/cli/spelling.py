"""Translation of typed words for Hydra: text is quoted where Hydra's grammar would misread it, and run= is given
the folders that its value names.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from diffsde import knobs, terminal
from diffsde.cli import choice_texts, help_text, run_words
from diffsde.cli.other_names import our_name
from diffsde.errors import UserError, suggestion
from diffsde.plugins import GROUP_OF
from diffsde.runs.record import unquoted

PRINTED = {"--cfg", "-c", "--info", "-i"}  # options whose answer is what stdout is for
# Hydra's own words that are text with one value each, in a sweep too:
PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
PREFIXES = {
    "sampler.diffusion": "diffusion",
    "sampler.predictor": "sampler",
    "process.dataset": "dataset",
}  # a group's numbers inside another's
LISTS = (
    "metrics",
    "tag",
    "pictures",
    "paths",
    "times",
    "window",
    "coordinates",
    "z",
)  # knobs that are lists of names or numbers
RENAMED = {  # words of before, which still work
    "measurements": "n_measurements",
    "process": "rank",
    "sampler.diffusion.scale": "sampler.diffusion.sigma",
    "sampler.predictor.diffusion.scale": "sampler.predictor.diffusion.sigma",
}
NOT_TEXT = re.compile(r"[-+]?\.?\d.*|true|false|\[.*|\{.*|\$\{.*")  # defaults that are numbers, switches, lists


def hydra_words(configs: Path, verb: str, words: list[str], sweeping: bool) -> list[str]:
    """The words of a verb, translated for Hydra. Raises UserError for a run= that names no suitable folder."""
    groups = help_text.groups(configs, verb)
    spelled = []
    with contextlib.redirect_stdout(sys.stderr) if PRINTED & {*words} else contextlib.nullcontext():
        for word in words:
            ours = chosen(configs, groups, renamed(verb, word), sweeping)
            spelled.append(expanded(verb, listed(ours, sweeping), sweeping))
    return [quoted(configs, verb, word, sweeping) for word in spelled]


def without_plugins(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """The words but plugins=[...], which is for no config, and the plugins that it names."""
    rest, named = [], []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+") == "plugins":
            inside = value.strip().removeprefix("[").removesuffix("]").split(",")
            named += [name.strip().strip("'\"") for name in inside]
            if not all(named):
                raise UserError(f"'{word}' names no plugin; say e.g. plugins=[my_parts.py]")
        else:
            rest.append(word)
    return rest, named


def quoted(configs: Path, verb: str, word: str, sweeping: bool) -> str:
    """The word with its text quoted, where Hydra would refuse or misread it.

    A comma outside brackets separates the values of a sweep; choice(), range(), interval(), glob() keep their meaning.
    """
    key, equals, value = word.partition("=")
    if key in PLACES:
        value = os.path.expanduser(value)
    default = "text" if key in PLACES else _defaults(configs, verb).get(key, "")
    if not equals or not default:
        return word
    is_text = default == "text"
    pieces = run_words.pieces(value)
    if sweeping and key not in PLACES and len(pieces) > 1:
        return f"{key}=" + ",".join(_spelled(piece, is_text, one=True) for piece in pieces)
    return f"{key}={_spelled(value, is_text, one=len(pieces) == 1)}"


def _spelled(value: str, is_text: bool, one: bool) -> str:
    """A value, in quotes where Hydra would misread it. one: whether the value has no comma outside brackets."""
    from hydra.core.override_parser.types import ChoiceSweep
    from hydra.errors import HydraException

    try:
        override = run_words.parser().parse_override(f"x={value}")
        read = override.value()
    except HydraException:
        return _quote(value)
    if override.is_sweep_override():
        if one:  # choice(...), range(...) etc.
            return value
        numbers = isinstance(read, ChoiceSweep) and all(isinstance(item, int | float) for item in read.list)
        return value if numbers and not is_text else _quote(value)  # for numbers, Hydra's error explains -m
    if not is_text or read is None or isinstance(read, str) or str(read) == value:
        return value
    return _quote(value)  # e.g. 1e5 as a name, [a] as a file


def _quote(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value.strip(), quote=Quote.single).with_quotes()


def _defaults(configs: Path, verb: str) -> dict[str, str]:
    """{key: 'text' or 'null'} for the keys of a verb and of its groups whose default is a word, or null."""
    texts = help_text.sources(configs, verb)
    found = {"name": "text"} | {key: kind for text in texts.values() for key, kind in _kinds(text).items()}
    groups = re.findall(r"^  - (?:\w+@)?(\w+): \w+", texts[verb], flags=re.M)
    prefixes = {group: GROUP_OF.get(group, group) for group in groups} | (PREFIXES if "sampler" in groups else {})
    for prefix, group in prefixes.items():
        for text in choice_texts.texts(configs, group).values():
            for key, kind in _kinds(text).items():
                if found.get(f"{prefix}.{key}") != "text":
                    found[f"{prefix}.{key}"] = kind
    return found


def _kinds(text: str) -> dict[str, str]:
    """{key: 'text' or 'null'} for the keys of a config file whose default is a word, or null."""
    lines = re.findall(r"^(\w+): +(\S.*?)(?: +#.*)?$", text, flags=re.M)
    return {
        key: "null" if value == "null" else "text"
        for key, value in lines
        if key not in ("defaults", "name") and not NOT_TEXT.fullmatch(value)
    }


def renamed(verb: str, word: str) -> str:
    """A word with its key's current name; a former name is reported."""
    key, equals, value = word.partition("=")
    if not equals or key not in RENAMED:
        return word
    if key == "process" and (verb == "simulate" or not value.isdecimal()):  # simulate's group; a rank is a number
        return word
    print(f"{key}= is called {RENAMED[key]}= now", flush=True)
    return f"{RENAMED[key]}={value}"


def chosen(configs: Path, groups: Iterable[str], word: str, sweeping: bool) -> str:
    """group=choice with diffsde's name for each choice that is named as elsewhere (other_names.py), which is reported."""
    key, equals, value = word.partition("=")
    group = GROUP_OF.get(key, key)
    if not equals or not {key, group} & {*groups} or group == "experiment" or re.search(r"[(\[{$'\"]", value):
        return word
    known, names = help_text.choices(configs, group), value.split(",") if sweeping else [value]
    known += [choice_texts.NORMAL] * (key == "source" and "process" not in groups)
    ours = [name if name in known else our_name(group, name, known) or name for name in names]
    for name, each in zip(names, ours, strict=True):
        if name != each:
            print(f"{key}={name} is called {key}={each} here", flush=True)
    if group == "dataset":
        refuse_unknown(key, [name for name in ours if name not in (*known, "null", "") and "," not in name], known)
    return f"{key}={','.join(ours)}"


def refuse_unknown(key: str, names: list[str], known: list[str]) -> None:
    """Raise UserError for names that are no choice of dataset= or source=, which Hydra would both call dataset; and for a file's."""
    for name in names:
        file = "." in name or "/" in name
        named = f"; for a file say {key}=array {key}.file={name}" if file else suggestion(name, known, most=100)
        raise UserError(f"{key}: '{name}' is not a choice{named}")


def listed(word: str, sweeping: bool) -> str:
    """metrics=frechet, times=0.5 or pictures=film,marginals written as a list; in a sweep commas separate the sweep's values instead."""
    key, _, value = word.partition("=")
    if key == "tag" and value not in ("", "null", "[]") and value[0] != "$" and ("," not in value or not sweeping):
        inside = value.removeprefix("[").removesuffix("]")  # text, whatever a tag such as 1e5 or inf looks like
        return "tag=[" + ",".join(_quote(unquoted(each)) for each in run_words.pieces(inside)) + "]"
    if key not in LISTS or not value or value[0] in "[$" or value == "null" or ("," in value and sweeping):
        return word
    return (
        word if key in ("pictures", "coordinates") and "," not in value else f"{key}=[{value}]"
    )  # which have words too


def expanded(verb: str, word: str, sweeping: bool) -> str:
    """run=, guide=, init= or samples= with the folders that its value names (run_words.py), one value per folder."""
    key, equals, value = word.partition("=")
    if not equals or key not in knobs.RUNS:
        return word
    if key == "run" and verb == "show" and value.startswith("["):
        inside = [
            run_words.named(verb, key, each, True) or run_words.Named([each]) for each in run_words.pieces(value[1:-1])
        ]
        return f"{key}=[" + ",".join(_quote(unquoted(place)) for each in inside for place in each.folders) + "]"
    found = run_words.named(verb, key, value, sweeping)
    if found is None:
        return word
    print(terminal.printable(run_words.said(word, found)), flush=True)
    return f"{key}=" + ",".join(place if run_words.is_left(place) else _quote(place) for place in found.folders)
