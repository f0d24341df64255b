"""Refusals of Python calls: what a command says in a line is raised as a ValueError with the same line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from diffsde import system_errors
from diffsde.errors import InputError, UserError

P = ParamSpec("P")
T = TypeVar("T")


def refusals(call: Callable[P, T]) -> Callable[P, T]:
    """The function, which raises InputError, a ValueError, in the place of UserError."""

    @wraps(call)
    def refusing(*args: P.args, **words: P.kwargs) -> T:
        try:
            with system_errors.as_user_errors():
                return call(*args, **words)
        except InputError:
            raise
        except UserError as error:
            said = InputError(str(error))
        raise said

    return refusing
