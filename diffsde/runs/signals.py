"""Ctrl-C and SIGTERM while there is work to save: asked for at any moment, answered between two dispatches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from diffsde.errors import Stopped


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """The signals that came meanwhile; a second one ends the process at once. Only the main thread is sent signals."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise Stopped("at once: what came after the last checkpoint is lost", number)
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
