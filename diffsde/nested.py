"""Nested dicts as one dict of dotted keys."""

from __future__ import annotations

from typing import Any


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"path": {"rate_min": 0.1}} as {"path.rate_min": 0.1}."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
