"""Ctrl-C and SIGTERM during training: noted at any moment, acted on between two dispatches, after saving."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from diffsde.errors import Stopped


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """A list that collects the signals received; a second signal raises Stopped at once. Signals reach the main thread only."""
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
