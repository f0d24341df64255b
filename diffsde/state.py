"""What this process remembers from one call to the next, all of it: no other module holds anything that changes."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class State:
    """machine: the knobs of the machine that the process was begun with, which XLA reads once. joined: coordinator, number and
    rank of the processes that it joined. rank: its own, asked of JAX only once they have joined, since the question would
    start its devices. programs: those compiled so far, of which jobs of one structure share one. parts: choices of the user's
    own, by group and word, and plugins: what they came from, by file or module (plugins.py). asked: whether the user's own words
    named data that can be downloaded, or a run's folder alone, by name and data_dir (named_files.py). made, found:
    folders that commands made for what they write, and those that they made them in, which stay though they are empty (runs/leaving.py).
    """

    machine: Any = None
    joined: tuple[str | None, int | None, int | None] | None = None
    rank: int = 0
    programs: dict[Any, Any] = dataclasses.field(default_factory=dict)
    parts: dict[tuple[str, str], Any] = dataclasses.field(default_factory=dict)
    plugins: dict[str, Any] = dataclasses.field(default_factory=dict)
    asked: dict[tuple[str, Any], bool] = dataclasses.field(default_factory=dict)
    made: set[str] = dataclasses.field(default_factory=set)
    found: set[str] = dataclasses.field(default_factory=set)


STATE = State()
