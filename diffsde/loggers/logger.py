"""What every tracker has in common: how one is opened, and the recorder that keeps its failures away from training."""

from __future__ import annotations

import abc
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, NamedTuple

from diffsde.atomic_files import write_atomically
from diffsde.errors import UserError, first_line
from diffsde.extras import require
from diffsde.nested import flatten
from diffsde.types import choice

RETRY = 60.0  # seconds until a tracker that failed is tried again
SHARE = 0.1  # of the time of a run that may go into its tracker; lines wait for one another beyond that

Outcome = Literal["finished", "stopped", "failed"]


class LoggedStep(NamedTuple):
    """Figures of one step, at `time` in seconds since 1970."""

    time: float
    step: int
    values: dict[str, float]


class Session(abc.ABC):
    """One run as its tracker knows it. Methods raise whatever the tracker's library raises.

    about: the command or address that shows it, "" for none.
    """

    about: str = ""

    @abc.abstractmethod
    def take(self, lines: list[LoggedStep]) -> None:
        """Keep these lines; a step that a stopped run has left there already is not kept twice."""

    @abc.abstractmethod
    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        """Keep the figures and pictures of the finished run."""

    @abc.abstractmethod
    def close(self, outcome: Outcome) -> None:
        """Let go; a run that is not finished may be opened again from the same folder."""


class Logger(abc.ABC):
    """`begin(folder, config, begin_step)` starts a session, or takes up again the one of this run folder.

    extra: what pip calls it, the name in LOGGERS too; modules: what is imported with it.
    """

    extra: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def begin(self, folder: Path, config: dict[str, Any], begin_step: int) -> Session: ...

    def require(self) -> None:
        """Raise UserError where the tracker is not installed."""
        for module in self.modules:
            require(module, self.extra, f"logger={self.extra}")

    def open(self, folder: Path, config: dict[str, Any], begin_step: int, warn: Callable[[str], None]) -> Recorder:
        """A recorder for the steps after `begin_step`. Raises UserError where the tracker cannot begin."""
        self.require()
        try:
            session = self.begin(folder, config, begin_step)
        except Exception as error:
            raise UserError(f"logger={self.extra}: {first_line(error).rstrip('.')} (or take logger=none)") from error
        return Recorder(self.extra, session, begin_step, warn)


class Recorder:
    """What training writes to. A tracker that fails is warned of once and tried again each minute; nothing is raised.

    Lines that the tracker has no time for wait, so that training never spends more than about a tenth of its time here.
    """

    def __init__(self, name: str, session: Session, begin_step: int, warn: Callable[[str], None]) -> None:
        self.about = session.about
        self._name, self._session, self._step, self._warn = name, session, begin_step, warn
        self._waiting: list[LoggedStep] = []
        self._next = 0.0
        self._failed = self._finished = False

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._send()
        outcome: Outcome = "finished" if self._finished and kind is None else "stopped"
        if kind is not None and issubclass(kind, Exception):
            outcome = "failed"
        self._guarded(lambda: self._session.close(outcome))
        if self._waiting:
            self._warn(f"logger={self._name} lacks the last {len(self._waiting)} lines of metrics.jsonl")

    def log(self, step: int, values: dict[str, float]) -> None:
        """The figures of a step."""
        self._step = step
        self._waiting.append(LoggedStep(time.time(), step, values))
        if time.monotonic() >= self._next:
            self._send()

    def finish(self, summary: dict[str, Any], pictures: list[Path]) -> None:
        """The numbers in the run's summary, however nested, and its pictures; nothing is logged after that."""
        self._send()
        self._finished = True
        self._guarded(lambda: self._session.finish(self._step, figures(summary), pictures))

    def _send(self) -> None:
        if self._waiting and self._guarded(lambda: self._session.take(self._waiting)):
            self._waiting = []

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Whether it went well; says when it may next be tried."""
        begin, well = time.monotonic(), True
        try:
            act()
        except Exception as error:  # of whatever kind: a run of days must not end because a tracker is away
            well = False
            if not self._failed:
                self._failed = True
                self._warn(
                    f"logger={self._name}: {first_line(error).rstrip('.')}; training goes on, and metrics.jsonl has every line"
                )
        now = time.monotonic()
        self._next = now + (now - begin) * (1 - SHARE) / SHARE + (0.0 if well else RETRY)
        return well


class Nothing(Session):
    """The session of no tracker."""

    def take(self, lines: list[LoggedStep]) -> None:
        """metrics.jsonl has them."""

    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        """summary.json and plots/ have them."""

    def close(self, outcome: Outcome) -> None:
        """Nothing was open."""


@choice
class NoLogger(Logger):
    """none: metrics.jsonl, summary.json and plots/ only."""

    extra: ClassVar[str] = "none"

    def begin(self, folder: Path, config: dict[str, Any], begin_step: int) -> Session:
        return Nothing()


def flat_config(config: dict[str, Any]) -> dict[str, str | float | bool]:
    """A config in dotted keys; lists and nulls as JSON, which every tracker takes."""
    pairs = flatten(config).items()
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in pairs}


def figures(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers of a summary, as summary/loss.value and the like, apart from the curves."""
    return {
        f"summary/{key}": float(value)
        for key, value in flat_config(summary).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def run_title(config: dict[str, Any]) -> str:
    """gmm ot cfm: what a list of runs shows."""
    return " ".join(str(config[group]["name"]) for group in ("dataset", "path", "objective") if group in config)


def remember(path: Path, value: dict[str, Any]) -> None:
    """Write a small JSON file, whole or not at all."""
    write_atomically(path, lambda partial: partial.write_text(json.dumps(value) + "\n"))


def remembered(path: Path) -> dict[str, Any] | None:
    """What `remember` wrote there, if it did."""
    return json.loads(path.read_text()) if path.is_file() else None
