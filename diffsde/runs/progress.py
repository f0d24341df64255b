"""Output for the user: messages, warnings, tables and progress; a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from diffsde import terminal
from diffsde.runs import processes

if TYPE_CHECKING:
    from diffsde.datasets import Dataset, Examples
    from diffsde.datasets.scaling import Scaling

LINES = 10  # lines of progress where there is no terminal
WIDTH = 72  # letters of a notebook's line of progress
SHOWN = 6  # most coordinates whose scaling is printed


# Whether messages and tables are printed: by commands; a call in Python shows warnings and bars alone.
_aloud: ContextVar[bool] = ContextVar("aloud", default=True)


@contextmanager
def quiet(wanted: bool) -> Iterator[None]:
    """A context in which, where `wanted`, nothing is printed but warnings and bars."""
    token = _aloud.set(not wanted)
    try:
        yield
    finally:
        _aloud.reset(token)


def say(message: str) -> None:
    """Print one line for the user; of several processes only the first prints."""
    if processes.is_main_process() and _aloud.get():
        print(terminal.lines(message), flush=True)


def warn(message: str) -> None:
    """Print a warning: something works but may not do what was meant."""
    if processes.is_main_process():
        print(f"warning: {terminal.printable(message)}", file=sys.stderr, flush=True)


def warn_once(message: str) -> None:
    """Print a warning at most once per command."""
    if terminal.first_time(message):
        warn(message)


def streamed(dataset: Dataset, part: Examples) -> None:
    """Print that moments and comparisons use a random subset of a stream, where `part` is not all of it."""
    held, whole = len(part.x), dataset.source().size
    if held < whole:
        say(
            f"dataset: its moments, and what samples are compared with, are of {held:,} of {whole:,} examples at random"
        )


def scaled(scaling: Scaling | None, names: tuple[str, ...] = ()) -> None:
    """Print the scaling between the data's own units and the model's, where they differ."""
    if scaling is None:
        return
    means, stds = scaling.mean.ravel(), scaling.std.ravel()
    names = tuple(f"{name} " for name in names) if len(names) == len(means) else ("",) * len(means)
    shown = [
        f"{name}{mean:.6g} +- {std:.3g}" if std else f"{name}{mean:.6g}, constant"
        for name, mean, std in zip(names, means, stds, strict=True)
    ]
    each = "; ".join(shown[:SHOWN]) + (f"; ... ({len(shown)} in all)" if len(shown) > SHOWN else "")
    say(f"data: inside the model each coordinate is (x - mean)/std (mean +- std: {each});")
    say(
        "  what comes out is in the data's own units; sigma is in units of std (dataset.standardise=false: as they are)"
    )


def on_terminal() -> bool:
    """Whether output goes to a terminal, on the process that prints."""
    return sys.stdout.isatty() and processes.is_main_process()


def in_notebook() -> bool:
    """Whether output goes into a notebook's cell."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(kernel).__name__ == "ZMQInteractiveShell"


def working(what: str) -> AbstractContextManager[Any]:
    """A context that shows what is being done when there are no steps to count; on a terminal a spinner that disappears."""
    if not on_terminal():
        begun(what)
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console().status(Text(what))


def begun(what: str) -> None:
    """Print what begins now where there is no terminal; on a terminal a bar or a spinner shows it."""
    if not on_terminal():
        say(f"{what} ...")


class Steps:
    """Progress over a number of steps (or another unit), with a note such as the loss.

    In a notebook one line that is written over. Elsewhere about ten lines, and none if all steps will take less than
    `patience` seconds.
    """

    def __init__(self, verb: str, total: int, first: int = 0, unit: str = "steps", patience: float = 0.0) -> None:
        self.total, self.verb, self.first, self.unit, self.patience = total, verb, first, unit, patience
        self.begin, self.done, self.printed = time.perf_counter(), first, first
        self.bar = bar() if on_terminal() else None
        self.cell = in_notebook()

    def __enter__(self) -> Steps:
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.verb, total=self.total, note="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        elif self.cell:
            print("\r" + " " * WIDTH + "\r", end="", flush=True)

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` steps are done, with a note."""
        self.done = done
        seconds = time.perf_counter() - self.begin
        rate = (done - self.first) / seconds if seconds else 0.0
        note = f"{note}  {rate:.0f} {self.unit}/s"
        if self.bar:
            self.bar.update(self.task, completed=done, note=note)
        elif self.cell:
            print(f"\r{f'{self.verb} {done}/{self.total}  {note}':<{WIDTH}}", end="", flush=True)
        elif rate and (self.total - self.first) / rate < self.patience:
            return
        elif done * LINES // self.total > self.printed * LINES // self.total or done == self.total:
            self.printed = done
            left = (self.total - done) / rate if rate else 0.0
            say(f"{self.verb} {done}/{self.total}  {note}  {left:.0f} s left")


def bar() -> Any:
    """A progress bar of rich that counts steps, with a note and the remaining time."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), note)
    return Progress(*columns, TimeRemainingColumn(), transient=True)


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a short two-column table."""
    if not _aloud.get():
        return
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        # as Text: in a string rich would take the [a] of a path for markup, and :a: for a picture
        grid = Table(title=Text(terminal.printable(title), "table.title"), show_header=False, title_justify="left")
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")  # a path that is cut off could not be copied
        for name, value in rows:
            grid.add_row(*(Text(terminal.printable(each)) for each in (name, value)))
        Console().print(grid)
        return
    width = max(len(name) for name, _ in rows)
    say(title)
    for name, value in ((terminal.printable(name), terminal.printable(value)) for name, value in rows):
        say(f"  {name:<{width}}  {value}")


def shown_path(path: Path) -> str:
    """A path as text, relative to the working directory if it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def word(key: str, path: Path) -> str:
    """key=path as it is typed into a shell."""
    return shlex.quote(f"{key}={shown_path(path)}")


def evaluations(count: int) -> str:
    """So many evaluations, as text."""
    return f"{count} evaluation" + ("" if count == 1 else "s")


def described_steps(how: dict[str, Any]) -> str:
    """Steps, times, grid, evaluations and last step of a simulation, as text, from how_drawn's record."""
    cost = f"{evaluations(how['nfe'])} of the field per sample"
    if "nfe_max" in how:
        cost = f"{how['nfe']:.1f} evaluations of the field per sample on average, {how['nfe_max']} at most"
    return (
        f"{how['steps']}{described_choice(how)} from t={how['start']:g} to {how['end']:g}, {described_grid(how['grid'])},"
        f" {cost}, last step: {how['last']}"
    )


def described_choice(how: dict[str, Any]) -> str:
    """The estimated error of an automatically chosen number of steps, as text; empty where the user set the number."""
    choice = how.get("steps_chosen")
    if choice is None:
        return ""
    error, most = choice["error"], choice["tolerance"]
    if error is None:
        error = choice["std_error"]
        found = "" if error is None else f"the std of Gaussian data within {error:.1%}; "
    elif not math.isfinite(error):
        found = "the trial came to no number; "
    else:
        found = f"error {error:.1%} of the samples' std" + ("" if error <= most else f", more than {most:.1%}") + "; "
    return f" ({found}steps= to choose)"


def described_grid(grid: dict[str, Any]) -> str:
    """A grid's name and numbers except its ends, as they are typed, e.g. grid=log_snr low=-5 high=5."""
    numbers = {name: value for name, value in grid.items() if name not in ("name", "start", "end", "times")}
    return " ".join([f"grid={grid['name']}", *(f"{name}={value:g}" for name, value in numbers.items())])
