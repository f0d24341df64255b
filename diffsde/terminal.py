"""What a command prints: lost without harm where nobody reads it, and said once where many steps would say it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

LONGEST = 2000  # letters of a line that is printed; what is between its ends is left out
DEBUG = "DIFFSDE_DEBUG"  # set to anything, an error that is said in a line has its traceback above it
BROKEN_PIPE = 141  # the status of a command that SIGPIPE ended, which a shell knows

OF_CACHE = re.compile(r"Error (reading|writing) persistent compilation cache entry for '.*?': (.*)", re.DOTALL)

_said: ContextVar[set[str] | None] = ContextVar("said", default=None)  # of this command


class Output:
    """A stream that never raises: once it cannot be written, what is printed there goes nowhere, and work goes on.

    error: why it could not, if that happened.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.error = stream, None  # type: tuple[TextIO, OSError | None]

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:  # a file's name may hold what a terminal's encoding does not
                encoding = self.stream.encoding or "ascii"
                self.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _give_up(self, error: OSError) -> None:
        """What is still in the stream's buffer, and what others write to its descriptor, goes to the null device."""
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
            self.stream.flush()
        if error.errno != errno.EPIPE and self.stream is not sys.__stderr__:
            print(f"warning: what is printed is lost from here on ({error.strerror})", file=sys.stderr, flush=True)


@contextlib.contextmanager
def guarded() -> Iterator[list[Output]]:
    """stdout and stderr as Outputs, which the caller may ask how it went; closed ones are the null device."""
    if isinstance(sys.stdout, Output):
        yield []
        return
    before, token = (sys.stdout, sys.stderr), _said.set(set())
    outputs = [Output(stream if stream is not None else _nowhere(number)) for number, stream in enumerate(before, 1)]
    sys.stdout, sys.stderr = outputs
    try:
        with _cache_said_once():
            yield outputs
    finally:
        for output in outputs:
            output.flush()
        sys.stdout, sys.stderr = before
        _said.reset(token)


@contextlib.contextmanager
def _cache_said_once() -> Iterator[None]:
    """A context in which jax's warnings of its cache of programs, one for each program, are a line of ours, once."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Any, *about: Any, **more: Any) -> None:
            found = OF_CACHE.match(str(message))
            if found is None:
                before(message, *about, **more)
            elif first_time(found[1]):
                did = {"reading": "read", "writing": "written"}[found[1]]
                why = printable(found[2])
                said = f"the cache of compiled programs cannot be {did} ({why}); cache_dir=FOLDER is another, cache=false none"
                print(f"warning: {said}", file=sys.stderr, flush=True)

        warnings.showwarning = show
        yield


def _nowhere(number: int) -> TextIO:
    """The null device under the number of a stream that was closed, which the next file would have been given otherwise."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    if descriptor != number:
        try:
            os.fstat(number)  # taken by a file by now
        except OSError:
            os.dup2(descriptor, number)
            os.close(descriptor)
            descriptor = number
    os.set_inheritable(descriptor, True)
    return open(descriptor, "w", closefd=False)


def first_time(message: str) -> bool:
    """Whether this command has not said so yet."""
    said = _said.get()
    if said is None:
        return True
    new = message not in said
    said.add(message)
    return new


def traced(error: BaseException) -> None:
    """Where DEBUG is set, print the traceback of an error that is said in a line, and of those that it was made of."""
    if os.environ.get(DEBUG):
        print(lines("".join(traceback.format_exception(error)).rstrip()), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """On one line, whatever is in it: control characters, of a file's name for one, are written as escapes, and of a line longer
    than LONGEST the middle is left out.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... ({len(text) - LONGEST:,} letters) ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def lines(text: str) -> str:
    """Several lines, each printable; tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
