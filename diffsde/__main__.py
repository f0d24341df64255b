"""python -m diffsde, and the command diffsde: signals are handled before anything else is imported."""

import signal
import sys


def main() -> int:
    """Run the command line of this process and return its exit status; signals are handled afterwards as they were before."""
    before = _quiet_interrupt()
    try:
        return _answered()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def end() -> None:
    """Run the command line of this process, and end it with the exit status."""
    _quiet_interrupt()
    status = _answered()
    from diffsde import signals

    for number in signals.NUMBERS:  # from here on nothing is left to be said: Python only ends
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    sys.exit(status)


def _quiet_interrupt():  # type: ignore[no-untyped-def]  # typing takes long to import
    """Have Ctrl-C end Python without a traceback until the handlers are there; the handler before, where another was put in its place."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        return None
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # this is not the main thread
        return None
    return before


def _answered() -> int:
    from diffsde import signals

    return signals.answered(_imported)


def _imported() -> int:
    from diffsde.cli.main import main as run

    return run()


if __name__ == "__main__":
    end()
