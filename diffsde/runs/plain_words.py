"""The words of a plain verb: its own knobs apart from the words that choose runs."""

from __future__ import annotations

from collections.abc import Sequence

from diffsde.errors import UserError
from diffsde.runs.records import is_folder


def parted(words: Sequence[str], knobs: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """({knob: value} of the verb's own knobs, the other words). Raises UserError for a knob that is said twice."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in knobs or is_folder(word):
            rest.append(word)
        elif key in own:
            raise UserError(f"{key}= is said twice, {own[key]} and {value}")
        else:
            own[key] = value
    return own, rest
