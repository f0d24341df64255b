"""python -m diffsde, and the command diffsde: signals are handled before anything else is imported."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the handlers are there Ctrl-C ends Python without a traceback

from diffsde import signals


def main() -> int:
    """Run the command line of this process and return its exit status."""
    status = signals.answered(_imported)
    for number in signals.NUMBERS:  # from here on nothing is left to be said: Python only ends
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    return status


def _imported() -> int:
    from diffsde.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
