"""Nested dicts and dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"path": {"rate_min": 0.1}} as {"path.rate_min": 0.1}."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def get(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    value: Any = tree
    for word in key.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return value


def put(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The tree with another value at a dotted key; the tree itself is left as it was."""
    first, _, rest = key.partition(".")
    return {**tree, first: put(tree[first], rest, value) if rest else value}
