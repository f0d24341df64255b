"""What the site adds to the pages of docs/: the choices of each group, from the docstrings and configs of the code itself."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

from diffsde import build
from diffsde.cli import help_text
from diffsde.cli.job import config_folder
from diffsde.knobs import Number, knob

MARK = re.compile(r"<!-- choices: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with the choices of a group in the place of its mark."""
    return MARK.sub(lambda found: choices(found[1]), markdown)


def choices(group: str) -> str:
    """A section for each choice of a group: its docstring, and a table of its numbers."""
    kind = next(kind for kind, name in build.GROUPS.items() if name == group)
    table, parts = build.table(kind), []
    named = [*table, *(name for name in help_text.choices(config_folder(), group) if name not in table)]
    for name in named:
        lines = [f"## {name}", ""]
        if name in table and (about := inspect.getdoc(table[name])):
            lines += ["```text", about, "```", ""]
        parts.append("\n".join([*lines, *numbers(group, name)]))
    return "\n\n".join(parts)


def numbers(group: str, name: str) -> list[str]:
    """The lines on a choice's numbers; of a second name, what it stands for."""
    comment = help_text.choice_comment(config_folder(), group, name)
    lines = [comment, ""] if comment else []
    rows = help_text.choice_numbers(config_folder(), group, name)
    if rows:
        lines += ["| number | default | range | meaning |", "|---|---|---|---|"]
    for key, value, meaning in rows:
        found = knob(key.rpartition(".")[2], group, name)
        bounded = isinstance(found, Number) and (found.low, found.high) != (-math.inf, math.inf)
        within = found.range() if bounded and isinstance(found, Number) else ""
        lines.append(f"| `{key}` | `{value}` | {within} | {meaning} |")
    return lines
