"""What a user sees while a verb works and when it is done: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from diffsde.datasets import Examples, FiniteDataset
from diffsde.runs import processes

LINES = 10  # progress lines off a terminal


def say(message: str) -> None:
    """One line for the user; of several processes only the first speaks."""
    if processes.leads():
        print(message, flush=True)


def warn(message: str) -> None:
    """One line about something that works but may not do what was meant."""
    if processes.leads():
        print(f"warning: {message}", file=sys.stderr, flush=True)


def streamed(dataset: FiniteDataset, part: Examples) -> None:
    """Say what is measured of a stream, where that is not all of it."""
    held, whole = len(part.x), dataset.source().size
    if held < whole:
        say(
            f"dataset: its moments, and what samples are compared with, are of {held:,} of {whole:,} examples at random"
        )


def on_terminal() -> bool:
    return sys.stdout.isatty() and processes.leads()


def working(what: str) -> AbstractContextManager[Any]:
    """On a terminal a line that moves, while something works that has no steps to count."""
    return Console().status(what) if on_terminal() else nullcontext()


class Steps:
    """Progress over a number of steps, or of another unit, with a note such as the loss; about ten lines where there is
    no terminal.
    """

    def __init__(self, verb: str, total: int, first: int = 0, unit: str = "steps") -> None:
        self.total, self.verb, self.first, self.unit = total, verb, first, unit
        self.begin, self.done, self.printed = time.perf_counter(), first, first
        columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), transient=True) if on_terminal() else None

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
        elif done * LINES // self.total > self.printed * LINES // self.total or done == self.total:
            self.printed = done
            left = (self.total - done) / rate if rate else 0.0
            say(f"{self.verb} {done}/{self.total}  {note}  {left:.0f} s left")


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """A short two-column table."""
    if on_terminal():
        grid = Table(title=title, show_header=False, title_justify="left")
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")  # a path that is cut off could not be copied
        for name, value in rows:
            grid.add_row(name, value)
        Console().print(grid)
        return
    width = max(len(name) for name, _ in rows)
    say(title)
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")


def shown(path: Path) -> str:
    """A path as short as it can be said: relative to here where it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def described_steps(how: dict[str, Any]) -> str:
    cost = f"{how['nfe']} evaluations of the field a sample"
    if "nfe_max" in how:
        cost = f"{how['nfe']:.1f} evaluations of the field a sample on average, {how['nfe_max']} at most"
    return f"{how['steps']} from t={how['start']:g} to {how['end']:g}, {described_grid(how['grid'])}, {cost}, last step: {how['last']}"


def described_grid(grid: dict[str, Any]) -> str:
    """A grid's name and its numbers but for the ends, as they stand in a config: grid=log_snr low=-5 high=5."""
    numbers = {name: value for name, value in grid.items() if name not in ("name", "start", "end", "times")}
    return " ".join([f"grid={grid['name']}", *(f"{name}={value:g}" for name, value in numbers.items())])


BESIDE = {  # what a figure is shown beside, where its dict has it
    "exact": "exact",
    "true": "of the true law",
    "real": "real ones",
    "measurement": "the measurement alone",
    "truth": "the truth",
}


def shown_figure(figure: dict[str, float]) -> str:
    text = f"{figure['value']:.4g}" if abs(figure["value"]) < 0.1 else f"{figure['value']:.4f}"
    if "error" in figure:
        text += f" +- {figure['error']:.4f}"
    for name, what in BESIDE.items():
        if name in figure:
            text += f"  ({what}: {figure[name]:.4f})"
    if "floor" in figure:
        size = f"{figure['points']} true points" if "points" in figure else "a true sample of this size"
        text += f"  ({size}: {figure['floor']:.2g})"
    return text
