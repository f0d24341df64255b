"""Whether a package that only some options need is installed."""

from __future__ import annotations

import importlib.util

from diffsde.errors import UserError


def require(module: str, extra: str, what: str, package: str | None = None) -> None:
    """Raise UserError where `what` cannot import a module, with the extra of diffsde that brings it."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:  # a mere folder of that name has no origin: ./wandb is common
        raise UserError(f"{what} needs {package or module}: pip install 'diffsde[{extra}]'")
