"""Ctrl-C, SIGTERM and SIGHUP: the first stops a command, in training after saving; a second ends it whatever it is doing.

The handler of the first raises Stopped in the main thread, as soon as that runs Python: XLA compiles and computes in C, and is not
interrupted. What swallows the exception, an import or a C callback, is asked again until the command has ended. A thread
of its own sees a second signal even while the main one is in C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

from diffsde import terminal
from diffsde.errors import Stopped

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
NUDGE = getattr(signal, "SIGURG", 0)  # asks the main thread again; by default a process ignores it. Windows has none
AGAIN = 0.25  # seconds until it is asked again
BURST = 0.3  # seconds in which signals are one: a terminal, a shell and a launcher may each pass on the same Ctrl-C
PATIENCE = 2.0  # seconds until someone at a terminal is told what the command waits for


class Watch:
    """The signals of one command. first: the number of the first one, 0 before. seen: the main thread has run its handler; raised:
    as an exception. over: it has been answered. waiting: the list of one who asks by himself instead of being interrupted, as the
    training loop does. left: for each job that has begun, what tidies its folder and says what is kept there.
    """

    def __init__(self) -> None:
        self.first, self.raised, self.over, self.seen = 0, False, threading.Event(), threading.Event()
        self.waiting: list[int] | None = []
        self.left: list[Callable[[], str]] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread: raise Stopped, or leave it to the one who asks."""
        if number != NUDGE:
            self.first = self.first or number
            self.seen.set()
        if not self.first or self.over.is_set():
            return
        if self.waiting is not None:
            self.waiting[:] = [self.first]
        elif not being_stopped():
            self.stop()

    def stop(self) -> None:
        """Raise Stopped."""
        self.raised = True
        raise Stopped("", self.first)

    def follow(self, reading: int) -> None:
        """In a thread: see every signal as it arrives, until a zero is written."""
        since = None
        while True:
            for number in os.read(reading, 64):
                if number == 0:
                    os.close(reading)
                    return
                if number not in NUMBERS:
                    continue
                if since is None:
                    since = time.monotonic()
                    threading.Thread(target=self.insist, daemon=True).start()
                elif time.monotonic() - since > BURST and not self.over.is_set():
                    self.end(number)

    def insist(self) -> None:
        """In a thread: ask the main thread until the first signal is answered, and say what it waits for."""
        since, said = time.monotonic(), False
        while not self.over.wait(AGAIN):
            if NUDGE:
                signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)
            if not said and not self.seen.is_set() and time.monotonic() - since > PATIENCE and os.isatty(2):
                said = True
                os.write(
                    2, b"\rstopping when what is compiled or computed now is done; a second signal ends it at once\n"
                )

    def end(self, number: int) -> None:
        """End the process now. What is tidied is what can be without the main thread, which may be anywhere."""
        stop = Stopped("at once", number)
        for tidy in reversed(self.left):
            with contextlib.suppress(Exception):
                stop.add(tidy())
        clear = "\r\x1b[?25h" if os.isatty(2) else ""  # a bar may have hidden the cursor
        with contextlib.suppress(OSError):
            os.write(2, f"{clear}diffsde: {shown(str(stop))}\n".encode(errors="backslashreplace"))
        os._exit(128 + number)


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)  # of the command


def forget() -> None:
    """In a process that was forked off a command, a worker of a library: signals are for it what they are for any other, and what it is
    sent is not told to the command, whose pipe it has.
    """
    if _watch.get() is not None:
        signal.set_wakeup_fd(-1)
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _watch.set(None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=forget)


def being_stopped() -> bool:
    """Whether the code that runs now is part of the way out: a Stopped is being handled."""
    error, seen = sys.exception(), 0
    while error is not None and seen < 100:
        if isinstance(error, Stopped):
            return True
        error, seen = error.__context__, seen + 1
    return False


@contextmanager
def handled() -> Iterator[Watch]:
    """A context in which signals are handled; inside another, the same one. What is ignored stays so, as under nohup."""
    there = _watch.get()
    if there is not None or threading.current_thread() is not threading.main_thread():
        yield there or Watch()
        return
    watch = Watch()
    token = _watch.set(watch)
    ours = [number for number in NUMBERS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    follower = threading.Thread(target=watch.follow, args=(reading,), daemon=True)
    hook, sys.unraisablehook = sys.unraisablehook, _but_for_stops(sys.unraisablehook)
    before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, watch.handle) for number in [*ours, NUDGE] if number}
    follower.start()  # which waits for the thread, and may be interrupted
    try:
        yield watch
    finally:
        watch.over.set()
        signal.set_wakeup_fd(before_fd)
        os.write(writing, b"\0")
        follower.join()
        os.close(writing)
        sys.unraisablehook = hook
        _watch.reset(token)
        for number, handler in before.items():
            signal.signal(number, handler)


def _but_for_stops(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """The hook for exceptions that nobody can catch, silent of Stopped: it will be raised again."""
    return lambda about: None if isinstance(about.exc_value, Stopped) else hook(about)


def answered(work: Callable[[], int]) -> int:
    """The exit status of a command: its work's, or 128 + the number of the signal that stopped it, which a line on stderr says."""
    with handled() as watch:
        said: str | None = None
        try:
            watch.waiting = None
            check()
            status = work()
            watch.over.set()
            number = watch.first
            if number and status == 0:
                said = "at its very end; everything is written"
        except BaseException as error:
            watch.over.set()
            number = watch.first
            if isinstance(error, Stopped):
                number = error.number  # of another process of the run, it may be
            elif not watch.raised:
                raise
            said = str(error) if isinstance(error, Stopped) else ""  # else whatever it was made into on its way here
            said = said or "before anything was written"
        if said is not None:
            with contextlib.suppress(OSError, ValueError):
                print(f"diffsde: {shown(said)}", file=sys.stderr, flush=True)
        return 128 + number if number else status


def shown(said: str) -> str:
    """What is said of a stop, in a sentence."""
    said = terminal.printable(said)
    return f"stopped {said}" if said.startswith(("at ", "before ")) else f"stopped: {said}"


def check() -> None:
    """Raise Stopped where a signal has been received, whatever became of its exception."""
    watch = _watch.get()
    if watch is not None and watch.first and not watch.over.is_set() and watch.waiting is None:
        watch.stop()


def again() -> None:
    """Raise Stopped where it was raised before: what is being handled was made of it on its way here."""
    watch = _watch.get()
    if watch is not None and watch.raised and not watch.over.is_set():
        watch.stop()


@contextmanager
def leaving(tidy: Callable[[], str]) -> Iterator[None]:
    """A context of a job. tidy: tidies its folder and says what is kept there; called where a signal ends the job, for the line
    that says so.
    """
    watch = _watch.get()
    if watch is not None:
        watch.left.append(tidy)
    try:
        yield
    except BaseException as error:
        stop = error if isinstance(error, Stopped) else None
        if stop is None and watch is not None and watch.raised:
            stop = Stopped("", watch.first)  # what the signal's exception was made into on its way here
        if stop is None:
            raise
        stop.add(tidy())
        raise stop from None
    finally:
        if watch is not None:
            watch.left.remove(tidy)


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """The list that a signal's number is put into, for one who stops by himself. Leaving with one raises Stopped.

    Signals reach the main thread only, and outside a command a second one raises at once.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    watch = _watch.get()
    if watch is None:
        with _collected(asked):
            yield asked
        if asked:
            raise Stopped("", asked[0])
        return
    watch.waiting = asked
    try:
        yield asked
    finally:
        watch.waiting = None
    check()


@contextmanager
def _collected(asked: list[int]) -> Iterator[None]:
    """A context of a call in Python, which is no command: SIGINT and SIGTERM go into the list."""

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise Stopped("at once: what came after the last checkpoint is lost", number)
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
