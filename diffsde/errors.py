"""What ends a command early, the user's to mend or asked for; apart, so that the command line starts without importing jax."""

import difflib
from collections.abc import Iterable

AND = "\ndiffsde: "  # between the lines of a UserError of several, one for each job that was refused


class UserError(Exception):
    """One line that says what is wrong, where, and what would be right (exit status 2)."""


class InputError(UserError, ValueError):
    """A UserError of a call in Python, where what a caller can mend is a ValueError."""


class Unreadable(Exception):
    """What is wrong with a file that exists and is not what diffsde, or anyone, should have written there; a few words."""


def first_line(error: object) -> str:
    """What an error says, without its further lines; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def suggestion(word: str, known: Iterable[str], most: int = 20) -> str:
    """' (did you mean x?)' where something known is close; and what there is, where that is a list of fewer than `most`."""
    known = list(known)
    small = {each.lower(): each for each in reversed(known)}  # STEPS is near to steps
    close = [small[each] for each in difflib.get_close_matches(word.lower(), small, n=1, cutoff=0.6)]
    listing = f"; choose one of {', '.join(known)}" if len(known) < most else ""
    return (f" (did you mean '{close[0]}'?)" if close else "") + listing


class Stopped(KeyboardInterrupt):
    """Asked to stop by a signal; the message says where, what is kept, and which command goes on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    def add(self, said: str) -> None:
        """Say more, which the places on the way out know."""
        self.args = ("; ".join(part for part in (*self.args, said) if part),)
