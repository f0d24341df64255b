"""Keyword arguments of a Python call as a verb's config: composed by Hydra like the words of a command line, refused like them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffsde import knobs, plugins
from diffsde.cli import choice_texts, help_text, run_words, spelling, word_forms
from diffsde.cli.job import add_resolver, config_folder, plain
from diffsde.cli.main import qualified
from diffsde.errors import UserError
from diffsde.runs import flow_words


def config_of(verb: str, words: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a verb with knobs and groups as given: choices by their word, as dicts as in YAML, or as objects.

    Raises UserError with the message of the command line.
    """
    given = {key: in_yaml(key, value) for key, value in words.items()}
    if named := given.pop("plugins", None):
        plugins.load([named] if isinstance(named, str) else named)
    groups = help_text.groups(config_folder(), verb)
    chosen: list[str] = []
    values: list[tuple[str, Any]] = []
    for key, value in given.items():
        value = as_folders(verb, key, listed(key, value))
        if key in groups and value is not None:
            chosen += choice_words(key, value)
            values += choice_values(key, value)
        else:
            if value is None and key in groups:
                word_forms.refuse_value(config_folder(), verb, f"{key}=null", key, "null", "")
            values.append((key, value))
    config = composed_with(verb, chosen, values)
    knobs.check(config)
    flow_words.refuse(verb, config, [*given])
    return config


def composed_with(verb: str, chosen: list[str], values: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hydra's config of a verb, with choices of groups and then values at keys. Raises UserError."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ConfigTypeError, OmegaConfBaseException

    add_resolver()
    choice_texts.offer(config_folder())
    theirs = GlobalHydra.instance().hydra  # of a program whose own main is Hydra's
    GlobalHydra.instance().hydra = None
    try:
        spelled = spelling.hydra_words(config_folder(), verb, chosen, sweeping=False)
        with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = hydra.compose(verb, [qualified(verb, word) for word in spelled])
        for key, value in values:
            try:
                OmegaConf.update(config, renamed(key), value, merge=False)
            except (ConfigAttributeError, ConfigKeyError, ConfigTypeError, TypeError):
                raise UserError(unknown(key, verb)) from None
        return plain(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(help_text.composition_error(str(error), config_folder(), verb)) from None
    finally:
        GlobalHydra.instance().hydra = theirs


def unknown(key: str, verb: str) -> str:
    """The command line's message for a key that a config does not have."""
    return help_text.composition_error(f"Could not override '{key}'", config_folder(), verb)


def renamed(key: str) -> str:
    """A key's current name."""
    return spelling.RENAMED.get(key, f"sampler.{key}" if key.startswith("diffusion.") else key)


def in_yaml(key: str, value: Any) -> Any:
    """A Python value as YAML has it: numbers of numpy and jax, paths, tuples and arrays as numbers, text and lists; a choice
    as its config.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(name): in_yaml(f"{key}.{name}", each) for name, each in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy, jax
        return in_yaml(key, value.tolist())
    if isinstance(value, Sequence | set | frozenset | range):
        return [in_yaml(key, each) for each in value]
    from diffsde.build import INNER, as_config

    try:
        return in_yaml(key, as_config(value))
    except (StopIteration, TypeError):
        kind, name = key.rpartition(".")[2], type(value).__name__
    if isinstance(value, INNER):
        raise UserError(f"{key}: {name} is no choice yet; diffsde.register('{kind}', 'my_{kind}', {name}) makes it one")
    raise UserError(f"{key} is a {name}; give a number, text, a list, or a dict with a name as its YAML has it")


def listed(key: str, value: Any) -> Any:
    """grid=[0, 0.5, 1] as the grid `list`; metrics="w2" as a list of one."""
    if key == "grid" and isinstance(value, list):
        return {"name": "list", "times": value}
    return [value] if key == "metrics" and isinstance(value, str) else value


def as_folders(verb: str, key: str, value: Any) -> Any:
    """The folder that run="name", an id or a filter names, and for a list those of each; other values unchanged."""
    if key not in knobs.RUNS or not isinstance(value, str | list):
        return value
    if isinstance(value, list):
        return [as_folders(verb, key, each) for each in value]
    found = run_words.named(verb, key, value, sweeping=False)
    return value if found is None else found.folders[0]


def choice_words(key: str, value: Any) -> list[str]:
    """The words group=choice of a group's value, and of the choices inside it. Raises UserError for a dict without a name."""
    if isinstance(value, list):
        points = "; points of your own are read from a file: {'name': 'array', 'file': 'points.npy'}"
        group = plugins.GROUP_OF.get(key, key)
        raise UserError(
            f"{key} is a list or an array; give a choice's word, or a dict with its name{points * (group == 'dataset')}"
        )
    if not isinstance(value, dict):
        return [f"{key}={value}"]
    if not isinstance(value.get("name"), str):
        raise UserError(f"{key} is {value!r}; give its name too, e.g. {key}={{'name': ..., ...}}")
    words = [f"{key}={value['name']}"]
    for field, group in inner_groups(key, str(value["name"])).items():
        if isinstance(inner := value.get(field), dict | str):
            name = inner.get("name") if isinstance(inner, dict) else inner
            if name is not None:
                words.append(f"{group}@{key}.{field}={name}")
    return words


def inner_groups(group: str, choice: str) -> dict[str, str]:
    """{field: group} of the choices inside a choice."""
    if choice not in choice_texts.names(config_folder(), group):
        return {}
    text = choice_texts.text(config_folder(), group, choice)
    return {field: inner for inner, field in re.findall(r"^  - /(\w+)@(\w+): \w+", text, flags=re.M)}


def choice_values(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of the numbers of a choice that is a dict."""
    if not isinstance(value, dict):
        return
    inner = inner_groups(key, str(value["name"]))
    for field, each in value.items():
        if field in inner:
            yield from (
                ((f"{key}.{field}.{name}", one) for name, one in each.items() if name != "name")
                if isinstance(each, dict)
                else ()
            )
        elif field != "name":
            yield f"{key}.{field}", each
