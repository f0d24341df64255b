"""diffsde: a laboratory for flow and diffusion models. See README.md and docs/.

The names of the Python API are imported when they are first asked for: `import diffsde` imports nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it, which takes long to import: until signals are handled, Ctrl-C is Python's own

if TYPE_CHECKING:
    from diffsde.api.comparing import Compared, compare
    from diffsde.api.conformance import check
    from diffsde.api.fields import Run, load, oracle
    from diffsde.api.finding import find, rerun
    from diffsde.api.findings import Findings
    from diffsde.api.registering import register
    from diffsde.api.verbs import evaluate, explain, sample, show, simulate, train

__version__ = "0.1.0"

_PLACES = {
    **dict.fromkeys(("Run", "load", "oracle"), "diffsde.api.fields"),
    **dict.fromkeys(("train", "sample", "evaluate", "explain", "simulate", "show"), "diffsde.api.verbs"),
    **dict.fromkeys(("find", "rerun"), "diffsde.api.finding"),
    "Findings": "diffsde.api.findings",
    **dict.fromkeys(("Compared", "compare"), "diffsde.api.comparing"),
    "register": "diffsde.api.registering",
    "check": "diffsde.api.conformance",
}

__all__ = [
    "Compared",
    "Findings",
    "Run",
    "check",
    "compare",
    "evaluate",
    "explain",
    "find",
    "load",
    "oracle",
    "register",
    "rerun",
    "sample",
    "show",
    "simulate",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'diffsde' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
