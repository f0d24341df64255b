"""What becomes of folders that are there."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The knobs of configs/knobs/outputs.yaml, which documents each; folder.claim and the command line go by them."""

    resume: bool
