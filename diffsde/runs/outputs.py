"""The knobs about existing output folders."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The knobs of configs/knobs/outputs.yaml, which documents each; used by folder.claim and the command line."""

    resume: bool
    name: str | None = None  # the meaning of an older config.json without these knobs
    tag: str | tuple[str, ...] | None = None
