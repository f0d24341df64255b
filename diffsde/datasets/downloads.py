"""Files from the network: whole and checked, or not at all."""

from __future__ import annotations

import http.client
import os
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError

TIMEOUT = 20.0  # seconds that a mirror may be silent
PIECE = 1 << 16  # bytes at a time


def download(name: str, folder: Path, mirrors: Sequence[str], most: int, check: Callable[[Path], object]) -> None:
    """Bring folder/name from the first mirror that has it and whose copy passes `check`, which raises ValueError.

    most: bytes after which a mirror is not believed. Raises OSError with the reason of each mirror.
    """
    partial, reasons = folder / f".{name}.{os.getpid()}", []
    try:
        for mirror in mirrors:
            try:
                _copy(mirror + name, partial, most)
                try:
                    check(partial)
                except ValueError as error:
                    raise OSError(f"what it sends {error}") from None
                os.replace(partial, folder / name)
                return
            except (OSError, http.client.HTTPException) as error:
                reasons.append(f"{mirror}: {_brief(error)}")
    finally:
        partial.unlink(missing_ok=True)
    raise OSError("; ".join(reasons))


def _copy(address: str, partial: Path, most: int) -> None:
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        partial.parent.mkdir(parents=True, exist_ok=True)
        total, done, shown = int(answer.headers.get("Content-Length") or 0), 0, -1
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        print(f"downloading {address}{size} to {partial.parent}", file=sys.stderr, flush=True)
        with open(partial, "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
                done += len(piece)
                if done > most:
                    raise OSError("it sends more than the file has")
                if sys.stderr.isatty() and total and done * 100 // total > shown:
                    shown = done * 100 // total
                    print(f"\r  {shown} %", end="\r" if done == total else "", file=sys.stderr, flush=True)
        if total and done < total:
            raise OSError(f"it broke off after {done} of {total} bytes")


def _brief(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return (str(reason).splitlines() or [type(error).__name__])[0]
