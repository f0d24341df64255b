"""Translation of typed words for Hydra: text is quoted where Hydra's grammar would misread it, and glob(...) is expanded to
the run folders that it matches.
"""

from __future__ import annotations

import functools
import glob
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from diffsde.cli import choice_texts, help_text
from diffsde.cli.other_names import our_name
from diffsde.errors import UserError
from diffsde.plugins import GROUP_OF

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
FOLDERS = {"run": "train", "guide": "train", "samples": "sample"}  # knobs that name a folder, and its verb
NOT_TEXT = re.compile(r"[-+]?\.?\d.*|true|false|\[.*|\{.*|\$\{.*")  # defaults that are numbers, switches, lists


def hydra_words(configs: Path, verb: str, words: list[str], sweeping: bool) -> list[str]:
    """The words of a verb, translated for Hydra. Raises UserError for a glob(...) that matches no suitable folder."""
    groups = help_text.groups(configs, verb)
    spelled = [
        expanded(verb, listed(chosen(configs, groups, renamed(verb, word), sweeping), sweeping), sweeping)
        for word in words
    ]
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
    default = "text" if key in PLACES else _defaults(configs, verb).get(key, "")
    if not equals or not default:
        return word
    is_text = default == "text"
    pieces = _pieces(value)
    if sweeping and key not in PLACES and len(pieces) > 1:
        return f"{key}=" + ",".join(_spelled(piece, is_text, one=True) for piece in pieces)
    return f"{key}={_spelled(value, is_text, one=len(pieces) == 1)}"


def _spelled(value: str, is_text: bool, one: bool) -> str:
    """A value, in quotes where Hydra would misread it. one: whether the value has no comma outside brackets."""
    from hydra.core.override_parser.types import ChoiceSweep
    from hydra.errors import HydraException

    try:
        override = _parser().parse_override(f"x={value}")
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


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _quote(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value.strip(), quote=Quote.single).with_quotes()


def _pieces(value: str) -> list[str]:
    """A value split at its commas outside brackets and quotes; whole where its brackets do not match."""
    pieces, depth, inside = [""], 0, ""
    for i, letter in enumerate(value):
        if inside:
            inside = "" if letter == inside and value[i - 1] != "\\" else inside
        elif letter in "'\"" and not pieces[-1].strip():
            inside = letter
        depth += 0 if inside else (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not inside:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [value] if depth or inside else pieces


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
    print(f"{key}= is called {RENAMED[key]}= now", file=sys.stderr)
    return f"{RENAMED[key]}={value}"


def chosen(configs: Path, groups: Iterable[str], word: str, sweeping: bool) -> str:
    """group=choice with diffsde's name for each choice that is named as elsewhere (other_names.py), which is reported."""
    key, equals, value = word.partition("=")
    group = GROUP_OF.get(key, key)
    if not equals or not {key, group} & {*groups} or group == "experiment" or re.search(r"[(\[{$'\"]", value):
        return word
    known, names = help_text.choices(configs, group), value.split(",") if sweeping else [value]
    ours = [name if name in known else our_name(group, name, known) or name for name in names]
    for name, each in zip(names, ours, strict=True):
        if name != each:
            print(f"{key}={name} is called {key}={each} here", file=sys.stderr)  # stdout may be a config, for --cfg
    return f"{key}={','.join(ours)}"


def listed(word: str, sweeping: bool) -> str:
    """metrics=frechet, times=0.5 or pictures=film,marginals written as a list; in a sweep commas separate the sweep's values instead."""
    key, _, value = word.partition("=")
    if key not in LISTS or not value or value[0] in "[$" or value == "null" or ("," in value and sweeping):
        return word
    return (
        word if key in ("pictures", "coordinates") and "," not in value else f"{key}=[{value}]"
    )  # which have words too


def expanded(verb: str, word: str, sweeping: bool) -> str:
    """run=glob(...), guide=glob(...) or samples=glob(...) expanded to the folders that it matches, one value per folder.

    Raises UserError where no folder matches, for several folders without -m, and for `train`.
    """
    key, _, value = word.partition("=")
    if key not in FOLDERS or not (value.startswith("glob(") and value.endswith(")")):
        return word
    if verb == "train":
        raise UserError(f"{key}= goes on with one run; it cannot be combined with {value}")
    what = "runs" if FOLDERS[key] == "train" else "sample folders"
    there = _matches(value)
    taken = [place for place in there if _is_wanted(key, place)]
    if not taken:
        found = f"none of the {len(there)} that it matches is" if there else "it matches nothing; it takes"
        raise UserError(f"{word}: {found} {'a folder of ' if there else 'folders of '}finished {what}")
    if len(taken) > 1 and not sweeping:
        raise UserError(f"{word} is {len(taken)} {what}; -m takes each of them: diffsde {verb} -m {shlex.quote(word)}")
    rest = f", {len(there) - len(taken)} other matches left out" if len(there) > len(taken) else ""
    print(f"{word}: {len(taken)} {what if len(taken) > 1 else what.removesuffix('s')}{rest}", flush=True)
    return f"{key}=" + ",".join(_quote(place) for place in taken)


def _matches(value: str) -> list[str]:
    """The paths that glob(pattern), or glob([pattern, ...], exclude=pattern), matches, folders 2 before folders 10."""
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    include, exclude = [value[len("glob(") : -1]], []
    try:
        read = _parser().parse_override(f"x={value}").value()
        if isinstance(read, Glob):
            include, exclude = read.include, read.exclude
    except HydraException:  # a pattern that Hydra cannot parse, e.g. with brackets
        pass
    found = {str(Path(path)) for pattern in include for path in glob.glob(pattern, recursive=True)}
    return sorted((path for path in found if not any(fnmatch(path, pattern) for pattern in exclude)), key=_natural)


def _natural(path: str) -> list[Any]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", path)]


def _is_wanted(key: str, place: str) -> bool:
    from diffsde.runs import folder

    wanted: Callable[[Path], bool] = {"run": folder.is_field, "guide": folder.is_trained, "samples": folder.is_drawn}[
        key
    ]
    return wanted(Path(place))
