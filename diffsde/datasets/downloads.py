"""Files from the network: whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffsde.errors import first_line

TIMEOUT = 20.0  # seconds that a mirror may be silent


class _AtMost(io.FileIO):
    """A new file of at most so many bytes: what is larger is not what was asked for, and might have no end."""

    def __init__(self, path: str, most: int) -> None:
        super().__init__(path, "w")
        self.left = most

    def write(self, content: Any, /) -> int:
        self.left -= len(content)
        if self.left < 0:
            raise OSError("what it sends is larger than the file that is published")
        return super().write(content)


def download(name: str, folder: Path, mirrors: Sequence[str], check: Callable[[Path], object], most: int) -> None:
    """Bring folder/name from the first mirror that has it and whose copy, of at most so many bytes, passes `check`, which raises
    ValueError.

    Raises OSError with the reason of each mirror.
    """
    import pooch  # here, for the 0.1 s that commands which have all their files need not wait

    def checked(address: str, partial: str, owner: Any) -> None:
        Path(partial).unlink()  # which only its owner could read
        with _AtMost(partial, most) as file:
            pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)(address, file, owner)
        try:
            check(Path(partial))
        except ValueError as error:
            raise OSError(f"what it sends {error}") from None

    pooch.get_logger().setLevel(
        "ERROR"
    )  # it would say the hash of what came, which is not asked for: `check` knows better
    reasons, made = [], not folder.exists()
    for mirror in mirrors:
        print(f"downloading {mirror}{name} to {folder}", flush=True)
        try:
            pooch.retrieve(mirror + name, known_hash=None, fname=name, path=folder, downloader=checked)
            return
        except OSError as error:
            cause = getattr(error.args[0], "reason", error) if error.args else error  # without the address once more
            reasons.append(f"{mirror}: {first_line(cause)}")
    if made:  # by pooch, for what did not come
        with contextlib.suppress(OSError):
            folder.rmdir()
    raise OSError("; ".join(reasons))
