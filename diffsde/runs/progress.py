"""What a user sees while a verb works and when it is done: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from diffsde import terminal
from diffsde.runs import processes

if TYPE_CHECKING:
    from diffsde.datasets import Dataset, Examples
    from diffsde.datasets.scaling import Scaling

LINES = 10  # progress lines off a terminal
SHOWN = 6  # coordinates whose scaling is said


def say(message: str) -> None:
    """One line for the user; of several processes only the first speaks."""
    if processes.is_main_process():
        print(message, flush=True)


def warn(message: str) -> None:
    """One line about something that works but may not do what was meant."""
    if processes.is_main_process():
        print(f"warning: {message}", file=sys.stderr, flush=True)


def warn_once(message: str) -> None:
    """A warning that a command gives once, however many of its steps come upon it; on one line, whatever is in it."""
    message = terminal.printable(message)
    if terminal.first_time(message):
        warn(message)


def streamed(dataset: Dataset, part: Examples) -> None:
    """Say what is measured of a stream, where that is not all of it."""
    held, whole = len(part.x), dataset.source().size
    if held < whole:
        say(
            f"dataset: its moments, and what samples are compared with, are of {held:,} of {whole:,} examples at random"
        )


def scaled(scaling: Scaling | None, names: tuple[str, ...] = ()) -> None:
    """Say once how the data's own units and the model's are tied, where they differ."""
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
    return sys.stdout.isatty() and processes.is_main_process()


def working(what: str) -> AbstractContextManager[Any]:
    """A line that says what works while it has no steps to count; on a terminal it moves, and goes when that is done."""
    if not on_terminal():
        begun(what)
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console().status(Text(what))


def begun(what: str) -> None:
    """Off a terminal a line that says what works now; on one a bar shows it, or a line that moves."""
    if not on_terminal():
        say(f"{what} ...")


class Steps:
    """Progress over a number of steps, or of another unit, with a note such as the loss; about ten lines where there is
    no terminal, and none of steps that will all be done in `patience` seconds.
    """

    def __init__(self, verb: str, total: int, first: int = 0, unit: str = "steps", patience: float = 0.0) -> None:
        self.total, self.verb, self.first, self.unit, self.patience = total, verb, first, unit, patience
        self.begin, self.done, self.printed = time.perf_counter(), first, first
        self.bar = bar() if on_terminal() else None

    def __enter__(self) -> Steps:
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.verb, total=self.total, note="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, note: str = "") -> None:
        self.done = done
        seconds = time.perf_counter() - self.begin
        rate = (done - self.first) / seconds if seconds else 0.0
        note = f"{note}  {rate:.0f} {self.unit}/s"
        if self.bar:
            self.bar.update(self.task, completed=done, note=note)
        elif rate and (self.total - self.first) / rate < self.patience:
            return
        elif done * LINES // self.total > self.printed * LINES // self.total or done == self.total:
            self.printed = done
            left = (self.total - done) / rate if rate else 0.0
            say(f"{self.verb} {done}/{self.total}  {note}  {left:.0f} s left")


def bar() -> Any:
    """A bar of rich's that counts steps, with a note beside it and the time that is left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), note)
    return Progress(*columns, TimeRemainingColumn(), transient=True)


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """A short two-column table."""
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        # as Text: in a string rich would take the [a] of a path for markup, and :a: for a picture
        grid = Table(title=Text(title, "table.title"), show_header=False, title_justify="left")
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")  # a path that is cut off could not be copied
        for name, value in rows:
            grid.add_row(Text(name), Text(value))
        Console().print(grid)
        return
    width = max(len(name) for name, _ in rows)
    say(title)
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")


def shown_path(path: Path) -> str:
    """A path as short as it can be said: relative to here where it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def word(key: str, path: Path) -> str:
    """key=path as it is typed into a shell."""
    return shlex.quote(f"{key}={shown_path(path)}")


def described_steps(how: dict[str, Any]) -> str:
    cost = f"{how['nfe']} evaluations of the field per sample"
    if "nfe_max" in how:
        cost = f"{how['nfe']:.1f} evaluations of the field per sample on average, {how['nfe_max']} at most"
    return (
        f"{how['steps']}{described_choice(how)} from t={how['start']:g} to {how['end']:g}, {described_grid(how['grid'])},"
        f" {cost}, last step: {how['last']}"
    )


def described_choice(how: dict[str, Any]) -> str:
    """What steps that were chosen err by; nothing of steps that the user said."""
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
    """A grid's name and its numbers but for the ends, as they stand in a config: grid=log_snr low=-5 high=5."""
    numbers = {name: value for name, value in grid.items() if name not in ("name", "start", "end", "times")}
    return " ".join([f"grid={grid['name']}", *(f"{name}={value:g}" for name, value in numbers.items())])
