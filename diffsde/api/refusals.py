"""Refusals of Python calls: what a command says in a line is raised as a ValueError with the same line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from diffsde import plugins, system_errors
from diffsde.errors import InputError, UserError
from diffsde.terminal import DEBUG

P = ParamSpec("P")
T = TypeVar("T")


def refusals(call: Callable[P, T]) -> Callable[P, T]:
    """The function, which raises InputError, a ValueError, in the place of UserError."""

    @wraps(call)
    def refusing(*args: P.args, **words: P.kwargs) -> T:
        try:
            return call(*args, **words)
        except InputError:
            raise
        except Exception as error:
            if (said := line_of(error, [*args, *words.values()])) is None:
                raise
            refused, made_of = InputError(said), error if os.environ.get(DEBUG) else None
        raise refused from made_of

    return refusing


def line_of(error: Exception, given: Sequence[object]) -> str | None:
    """The line of a refusal, or of an error of the system; None for any other, and for those of the user's own code."""
    if isinstance(error, UserError):
        return str(error)
    if plugins.place_in_plugin(error) is not None:
        return None
    names = [name for each in given for name in (each if isinstance(each, list | tuple) else [each])]
    return system_errors.line(error, names)
