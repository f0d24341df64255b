"""What random command lines have covered of the space that fuzz_space.py draws them from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import fuzz_space

from diffsde.cli import help_text
from diffsde.cli.job import VERBS

Seen = dict[str, set[tuple[str, ...]]]


def covered(commands: Iterable[tuple[list[str], bool]]) -> dict[str, tuple[int, int, int]]:
    """{what: (tried, of these ran, all that there are)}: commands with whether they ran; of choices, pairs of choices and knobs."""
    tried: Seen = {"choices": set(), "pairs of choices": set(), "knobs": set()}
    ran: Seen = {what: set() for what in tried}
    for words, well in commands:
        verb, *rest = words
        said = dict(word.split("=", 1) for word in rest)
        taken = [(group, said[group]) for group in help_text.groups(fuzz_space.CONFIGS, verb) if group in said]
        seen: Seen = {
            "choices": {(verb, *each) for each in taken},
            "pairs of choices": {(verb, *first, *second) for first, second in itertools.combinations(taken, 2)},
            "knobs": {(verb, key) for key in said if key not in help_text.groups(fuzz_space.CONFIGS, verb)},
        }
        for what, each in seen.items():
            tried[what] |= each
            ran[what] |= each if well else set()
    every = everything()
    return {what: (len(tried[what] & every[what]), len(ran[what] & every[what]), len(every[what])) for what in tried}


def everything() -> Seen:
    """All choices, all pairs of choices, and all keys of all verbs."""
    found: Seen = {"choices": set(), "pairs of choices": set(), "knobs": set()}
    for verb in VERBS:
        groups = {group: fuzz_space.names(verb, group) for group in help_text.groups(fuzz_space.CONFIGS, verb)}
        for group, all_names in groups.items():
            found["choices"] |= {(verb, group, name) for name in all_names}
            for name in all_names:
                found["knobs"] |= {
                    (verb, key) for key in fuzz_space.keys(verb, {group: name}) if key not in fuzz_space.NEVER
                }
        for first, second in itertools.combinations(groups, 2):
            found["pairs of choices"] |= {
                (verb, first, one, second, two) for one in groups[first] for two in groups[second]
            }
    return found
