"""A clock for how long the user waits and for what, from the start of the command (in a sweep: the end of the last job)."""

from __future__ import annotations

import time
from contextvars import ContextVar


class Clock:
    """Wall seconds by activity; `lap` assigns all seconds since the last lap to one activity, so that none is left out."""

    def __init__(self) -> None:
        self.mark = time.perf_counter()
        self.parts: dict[str, float] = {}

    def lap(self, what: str, compiling: float = 0.0) -> None:
        """Assign the seconds since the last lap to `what`, except `compiling` of them, which were spent on compilation."""
        now = time.perf_counter()
        for name, seconds in (("compiling", compiling), (what, now - self.mark - compiling)):
            if seconds:
                self.parts[name] = self.parts.get(name, 0.0) + seconds
        self.mark = now


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)  # of the command, or of the current job of a sweep


def begin() -> None:
    """Start the clock: called by a command, and by a sweep for each job after the first."""
    _clock.set(Clock())


def lap(what: str, compiling: float = 0.0) -> None:
    """Clock.lap of the running clock, which is started here if a verb is called from Python."""
    if (clock := _clock.get()) is None:
        _clock.set(clock := Clock())
    clock.lap(what, compiling)


def parts() -> dict[str, float]:
    """The seconds so far, by activity."""
    clock = _clock.get()
    return dict(clock.parts) if clock else {}


def said() -> str:
    """The seconds as text, e.g. 4.1 s: 1.2 starting, 0.3 compiling, 1.6 sampling, 1.0 drawing."""
    spent = parts()
    return f"{sum(spent.values()):.1f} s: " + ", ".join(f"{seconds:.1f} {what}" for what, seconds in spent.items())
