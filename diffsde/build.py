"""Plain dicts to objects, from closed tables: the one door for configs, whether composed by Hydra or read from a run.

No import by name, no instantiation of anything that is not in a table. Every refusal is one line for the user.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from diffsde import knobs, plugins
from diffsde.couplings import COUPLINGS, Coupling
from diffsde.datasets import DATASETS, Dataset
from diffsde.datasets.common_scaling import ScaledDataset
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.snapshots import Snapshot
from diffsde.errors import UserError, suggestion
from diffsde.interpolants import Reversed
from diffsde.inverse import MEASUREMENTS, POSTERIORS, Measurement, Posterior
from diffsde.loggers import LOGGERS, Logger
from diffsde.nets import Net
from diffsde.objectives import OBJECTIVES, Objective
from diffsde.optimizers import OPTIMIZERS, Optimizer
from diffsde.paths import PATHS, GaussianPath
from diffsde.paths.piecewise import Piecewise
from diffsde.processes import PROCESSES, Process
from diffsde.samplers import DIFFUSIONS, GRIDS, SAMPLERS, Diffusion, Grid, Sampler
from diffsde.time_distributions import TIME_DISTRIBUTIONS, TimeDistribution

T = TypeVar("T")

MOST = 100  # choices of a group that a refusal lists: all

GROUPS: dict[type, str] = {
    Dataset: "dataset",
    GaussianPath: "path",
    Objective: "objective",
    Coupling: "coupling",
    TimeDistribution: "time",
    Optimizer: "optimizer",
    Logger: "logger",
    Process: "process",
    Sampler: "sampler",
    Diffusion: "diffusion",
    Grid: "grid",
    Measurement: "measurement",
    Posterior: "posterior",
    Net: "net",
}
INNER = tuple(
    kind for kind in GROUPS if kind is not Net
)  # of a choice that may stand inside another; Net is a protocol
TABLES: dict[type, dict[str, Any]] = {
    Dataset: DATASETS,
    GaussianPath: PATHS,
    Objective: OBJECTIVES,
    Coupling: COUPLINGS,
    TimeDistribution: TIME_DISTRIBUTIONS,
    Optimizer: OPTIMIZERS,
    Logger: LOGGERS,
    Process: PROCESSES,
    Sampler: SAMPLERS,
    Diffusion: DIFFUSIONS,
    Grid: GRIDS,
    Measurement: MEASUREMENTS,
    Posterior: POSTERIORS,
}


def table(kind: type) -> dict[str, Any]:
    """The choices of a group by their names, and the user's own; a net's are imported here, and flax with them, only when
    asked for.
    """
    return own_table(kind) | plugins.parts(GROUPS[kind])


def own_table(kind: type) -> dict[str, Any]:
    """The choices of a group that diffsde has."""
    if kind is Net:
        from diffsde.nets import NETS

        return NETS
    return TABLES[kind]


def read(cls: type[T], config: dict[str, Any], where: str = "") -> T:
    """A dataclass from a dict: every key a field, every field without a default given, every value of its type and range.

    Fields whose type is an abstract choice are built from its table, by their `name`. Raises UserError.
    """
    knobs.check(config, where)
    return _read(cls, config, where)


def read_parts(config: dict[str, Any], *parts: type) -> tuple[Any, ...]:
    """The parts of a config, each a dataclass, in whose fields every key of it stands once. Raises UserError.

    A part with a field of an earlier part's type holds that part there.
    """
    knobs.check(config)
    keys = keys_of(parts)
    owners = {key: part for part in parts for key in keys[part]}
    assert len(owners) == sum(map(len, keys.values())), "a key stands in two parts"
    for key in config:
        if key not in owners:
            raise UserError(f"{key} is not known{suggestion(str(key), owners)}")
    made: dict[type, Any] = {}
    for part in parts:
        made[part] = _read(part, {key: value for key, value in config.items() if key in keys[part]}, "", made)
    return tuple(made.values())


def keys_of(parts: Iterable[type]) -> dict[type, set[str]]:
    """The keys of a config that each part takes: its fields, but for those that hold an earlier part."""
    found: dict[type, set[str]] = {}
    for part in parts:
        hints = typing.get_type_hints(part)
        found[part] = {field.name for field in dataclasses.fields(part) if hints[field.name] not in found}
    return found


def _read(cls: type[T], config: dict[str, Any], where: str, parts: Mapping[type, Any] = MappingProxyType({})) -> T:
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in config:
        if key not in fields:
            raise UserError(f"{prefix}{key} is not known{suggestion(str(key), fields)}")
    values = {}
    for name, field in fields.items():
        if hints[name] in parts:
            values[name] = parts[hints[name]]
        elif name in config:
            values[name] = _value(hints[name], config[name], prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{prefix}{name} is missing; give {prefix}{name}=...")
    built = cls(**values)
    try:
        if check := getattr(built, "check", None):
            check()
    except (ValueError, UserError) as error:
        said = str(error).replace("dataset.", prefix) if issubclass(cls, Dataset) else str(error)  # of source= too
        named = where and not said.startswith(prefix)
        raise UserError(f"{prefix.rstrip('.') + ': ' if named else ''}{said}") from None
    return built


def choose(kind: type[T], value: Any, where: str) -> T:
    """The entry of a group's table that a config {name: ..., field: ...} stands for. Raises UserError."""
    if isinstance(value, dict):
        knobs.check(value, where)
    return typing.cast("T", _choose(kind, value, where))


def check(choice: T) -> T:
    """A choice that was made in Python, once its numbers and words are held against their ranges. Raises UserError."""
    kind = next(kind for kind in GROUPS if type(choice) in table(kind).values())
    return typing.cast("T", choose(kind, as_config(choice), GROUPS[kind]))


def as_config(choice: Any) -> dict[str, Any]:
    """The config {name: ..., field: ...} that `choose` makes the choice from, choices inside it likewise."""

    def plain(value: Any) -> Any:
        return as_config(value) if isinstance(value, INNER) else value

    return {"name": name_of(choice)} | {name: plain(value) for name, value in vars(choice).items()}


def yaml_of(group: str, word: str, cls: type) -> str:
    """The config of a choice as YAML, from its class: name, and fields with their defaults; a field without any is ???, and one
    that has a short word (sigma=, lr=) takes it.
    """
    short = {
        place.rpartition(".")[2]: key
        for key, places in knobs.SHORT.items()
        for place in places
        if f".{group}." in f".{place}"
    }
    inner, lines = [], []
    for field in dataclasses.fields(cls):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING:
            lines.append(f"{field.name}: ???")
        elif isinstance(default, INNER):
            group = next(group for kind, group in GROUPS.items() if kind in INNER and isinstance(default, kind))
            inner.append(f"  - /{group}@{field.name}: {name_of(default)}")
            if default != type(default)():
                lines.append(f"{field.name}: {_flow(as_config(default))}")
        else:
            value = _flow(default)
            lines.append(
                f"{field.name}: " + (f"${{default:${{{short[field.name]}}},{value}}}" if field.name in short else value)
            )
    about = (cls.__doc__ or "").strip().partition("\n")[0]
    head = [f"# {about}"] if about and not about.startswith(f"{cls.__name__}(") else []
    return "\n".join([*head, *(["defaults:", *inner, "  - _self_"] if inner else []), f"name: {word}", *lines, ""])


def _flow(value: Any) -> str:
    import yaml

    as_lists = json.loads(json.dumps(value))  # tuples as lists
    return yaml.safe_dump(as_lists, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def _choose(kind: type, value: Any, where: str) -> Any:
    group, choices = GROUPS[kind], table(kind)
    if not isinstance(value, dict) or "name" not in value:
        raise UserError(f"{where} is {value!r}; choose {where}=..., one of {', '.join(choices)}")
    name = value["name"]
    if not isinstance(name, str):
        raise UserError(f"{where}.name is {name!r}; choose one of {', '.join(choices)}")
    if name not in choices:
        raise UserError(f"{where} '{name}' is not a {group}{suggestion(str(name), choices, MOST)}")
    return _read(choices[name], {key: item for key, item in value.items() if key != "name"}, where)


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value as the type says, or a UserError that says what would be right."""
    if hint in GROUPS:
        return _choose(hint, value, where)
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in members:
            return None
        rest = [member for member in members if member is not type(None)]
        if len(rest) > 1:
            rest = [
                member for member in rest if (typing.get_origin(member) is tuple) == isinstance(value, list | tuple)
            ]
        return _value(rest[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            quote = "; quote an item with spaces or brackets, 'key=[\"a (b)\",c]'" if str(value)[:1] == "[" else ""
            raise UserError(f"{where} is {value!r}; it must be a list, e.g. {where}=[...]{quote}")
        return tuple(_value(members[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where} is {value!r}; it must be true or false")
        return value
    if hint is str:
        if value is None or isinstance(value, dict | list):
            raise UserError(f"{where} is {value!r}; it must be a string")
        return str(value)
    return _number(hint, value, where)


def _number(hint: type, value: Any, where: str) -> float | int:
    wanted = "a whole number" if hint is int else "a number"
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"{where} is '{value}'; it must be {wanted}") from None
    number = knobs.as_number(value)  # None also for a whole number beyond all floats
    if number is None or not math.isfinite(number):
        raise UserError(f"{where} is {value!r}; it must be {wanted}")
    if hint is int:
        if value != int(value):
            raise UserError(f"{where} is {value}; it must be a whole number")
        return int(value)
    return float(value)


def name_of(choice: object) -> str:
    """The name that a choice has in its group's table; of a dataset in other units that of the dataset itself, of a path through
    snapshots that of the path from each to the next, of one with its time turned round `bridge backward`.
    """
    if isinstance(choice, Snapshot):
        return f"{name_of(choice.series)}[{choice.index}]"
    if isinstance(choice, Piecewise):
        return name_of(choice.each)
    if isinstance(choice, Reversed):
        return f"{name_of(choice.forward)} backward"
    if isinstance(choice, StandardNormal):
        return "normal"
    of = type(choice.inner if isinstance(choice, ScaledDataset) else choice)
    return next(name for kind in GROUPS for name, each in table(kind).items() if each is of)
