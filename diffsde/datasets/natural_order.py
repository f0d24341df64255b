"""The order in which a person counts names: 1, 2, 10, where an alphabet has 1, 10, 2."""

from __future__ import annotations

import re
from collections.abc import Iterable


def naturally(names: Iterable[str]) -> list[str]:
    """The names in natural order: runs of digits compare as numbers, whole and decimal ones with a sign by their value."""
    return sorted(names, key=_key)


def _key(name: str) -> tuple[object, ...]:
    try:
        value = float(name)
        if value == value:  # NaN has no place among numbers
            return 0, value, (), name
    except ValueError:
        pass
    # digits stand at the odd places, so that numbers are only ever compared with numbers
    words = re.split(r"([0-9]+)", name)
    parts = tuple(int(word) if i % 2 else word.casefold() for i, word in enumerate(words))
    return 1, 0.0, parts, name
