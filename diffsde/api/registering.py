"""diffsde.register: a class of the user's own as a choice of a group, held against what the group's classes must be."""

from __future__ import annotations

import abc
import dataclasses
import inspect
import re
import types
import typing
from typing import Any

import jax

from diffsde import plugins
from diffsde.api.refusals import refusals
from diffsde.build import GROUPS, INNER, name_of, own_table
from diffsde.errors import UserError, suggestion
from diffsde.evaluation.metric import Metric
from diffsde.evaluation.table import METRICS

WORD = re.compile(r"[a-z0-9][a-z0-9_]*")
ROUTES = (int, float, bool, str)  # types of fields that a config can hold


@refusals
def register(group: str, word: str, cls: type) -> None:
    """Add a class of your own as a choice of a group: `group=word` on the command line, `group="word"` in Python.

    group: path, dataset, sampler, net, metric, diffusion, grid, ... The class is one of the group's abstract class, decorated with
    `diffsde.types.choice` (a metric: with `dataclasses.dataclass(frozen=True)`); its fields and defaults are its config.
    Registering a class again after its cell or file is run again replaces it. Raises ValueError in a line for a class that
    the group cannot have.

    >>> import diffsde
    >>> from diffsde.paths import OT
    >>> from diffsde.types import choice
    >>> @choice
    ... class Slow(OT):
    ...     power: float = 2.0
    ...     formula = ("t**power", "1-t**power")
    ...     def alpha(self, t): return t**self.power
    ...     def beta(self, t): return 1 - t**self.power
    ...     def variance(self, t): return (1 - t**self.power) ** 2
    >>> diffsde.register("path", "slow", Slow)
    >>> diffsde.check("path", "slow")
    []
    """
    kind, table = kind_and_table(group)
    if not WORD.fullmatch(word):
        raise UserError(f"register: '{word}' is not a word; take small letters, digits and _, e.g. 'my_{group}'")
    if word in table:
        raise UserError(f"register: {group} '{word}' is diffsde's own {table[word].__name__}; take another word")
    if why := unfit(group, kind, cls):
        raise UserError(f"register: {why}")
    plugins.add(group, word, cls)


def kind_and_table(group: str) -> tuple[type, dict[str, type]]:
    """A group's abstract class and diffsde's own choices. Raises UserError for what is no group."""
    if group == "metric":
        return Metric, METRICS
    kinds = {name: kind for kind, name in GROUPS.items()}
    if group not in kinds:
        raise UserError(f"register: '{group}' is not a group{suggestion(group, [*kinds, 'metric'])}")
    return kinds[group], own_table(kinds[group])


def unfit(group: str, kind: type, cls: Any) -> str | None:
    """Why a class cannot be a choice of a group, and what would be right; None where it can."""
    named = f"{getattr(cls, '__name__', repr(cls))}"
    if not isinstance(cls, type):
        return f"{named} is not a class; give the class itself, not an object of it"
    protocol = not issubclass(type(kind), abc.ABCMeta) or getattr(kind, "_is_protocol", False)
    if not (protocol or issubclass(cls, kind)):
        return f"{named} is not a {group}; write class {named}({kind.__name__}), from {kind.__module__}"
    lacking = [name for name in asked_of(kind) if not hasattr(cls, name)]
    lacking += sorted(getattr(cls, "__abstractmethods__", ()))
    if protocol:
        lacking += [name for name, each in vars(kind).items() if inspect.isfunction(each) and not hasattr(cls, name)]
    if lacking:
        return (
            f"{named} has no {' and no '.join(dict.fromkeys(lacking))}, which a {group} must have ({kind.__module__})"
        )
    how = "@dataclasses.dataclass(frozen=True)" if group == "metric" else "@choice, from diffsde.types"
    if not dataclasses.is_dataclass(cls) or "__dataclass_fields__" not in vars(cls):
        return f"{named} is not a dataclass; decorate it with {how}"
    if not vars(cls)["__dataclass_params__"].frozen:
        return f"{named} is not frozen; decorate it with {how}"
    if group != "metric" and jax.tree_util.all_leaves([object.__new__(cls)]):
        return f"{named} is no pytree, which compiled programs need; decorate it with {how}"
    return unfit_fields(named, cls)


def asked_of(kind: type) -> list[str]:
    """The class variables that a group's abstract class leaves to its classes."""
    hints = typing.get_type_hints(kind) if kind.__module__ != "diffsde.nets.net" else {}
    return [
        name for name, hint in hints.items() if typing.get_origin(hint) is typing.ClassVar and not hasattr(kind, name)
    ]


def unfit_fields(named: str, cls: type) -> str | None:
    """Why a config cannot hold the fields of a class; None where it can."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not readable(hints[field.name]):
            said = getattr(hints[field.name], "__name__", hints[field.name])
            return (
                f"{named}.{field.name} is of type {said}, which no config holds; take float, int, bool, str,"
                " tuple[float, ...], one of these | None, or a choice of a group"
            )
        if isinstance(field.default, INNER):
            try:
                name_of(field.default)
            except StopIteration:
                return f"{named}.{field.name}: register {type(field.default).__name__} first"
    return None


def readable(hint: Any) -> bool:
    """Whether `build` reads a field of this type from a config."""
    if hint in GROUPS or hint in ROUTES:
        return True
    members = [member for member in typing.get_args(hint) if member not in (type(None), Ellipsis)]
    plain = typing.get_origin(hint) in (types.UnionType, typing.Union, tuple)
    return plain and bool(members) and all(map(readable, members))
