"""The log of a training run, metrics.jsonl: read line by line, and of each line a few numbers in memory, however long it is."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffsde import system_errors
from diffsde.runs import files, processes

LONGEST = 2**16  # bytes of a line; a longer one is none of ours
COLUMNS = ("loss", "regret", "validation_loss", "validation_error", "nfe")  # whose numbers are kept of every line
NUMBER = (int, float, type(None))


class RunLog:
    """The log of one run, and what is kept of it: the numbers of COLUMNS, 8 bytes each; wall and CPU seconds up to the last line;
    the scores of checkpoints by step; the lines of rounds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = {name: array("d") for name in (*COLUMNS, "step of regret")}
        self.seconds = 0.0, 0.0
        self.scores: dict[int, float] = {}
        self.rounds: list[dict[str, float]] = []

    def read(self, up_to: float = math.inf) -> int:
        """Take the file's lines up to a step; the file's length up to their end."""
        end = 0
        for line, length in lines_of(self.path):
            if line["step"] > up_to:
                break
            end = length
            self.take(line)
        return end

    def cut(self, step: int) -> None:
        """Take the file's lines up to a step, and cut the others off: they will be written again."""
        if not self.path.exists():
            return
        end = self.read(step)
        if processes.is_main_process():
            with system_errors.naming(self.path), open(self.path, "r+b") as file:
                file.truncate(end)
                file.seek(max(end - 1, 0))
                if end and file.read(1) != b"\n":
                    file.write(b"\n")

    def write(self, line: dict[str, float]) -> None:
        """Append a line."""
        self.take(line)
        if processes.is_main_process():
            with system_errors.naming(self.path), open(self.path, "a") as file:
                file.write(log_line(line))

    def take(self, line: dict[str, float]) -> None:
        """Keep what is kept of a line."""
        for name in COLUMNS:
            if name in line:
                self.columns[name].append(line[name])
        if "regret" in line:
            self.columns["step of regret"].append(line["step"])
        if "seconds" in line:
            self.seconds = line["seconds"], line.get("cpu_seconds", 0.0)
        if "score" in line:
            self.scores[int(line["step"])] = line["score"]
        if "round" in line:
            self.rounds.append(line)

    def column(self, *names: str) -> np.ndarray:
        """The numbers (lines,) of one of COLUMNS, or (lines, k) of k that are in the same lines."""
        found = [np.array(self.columns[name]) for name in names]
        return found[0] if len(names) == 1 else np.stack(found, axis=1)

    def last(self, name: str) -> float | None:
        """The last number of a column; None where there is none."""
        return self.columns[name][-1] if self.columns[name] else None


def read_log(path: Path) -> RunLog:
    """The log in a file; an empty one where there is none."""
    log = RunLog(path)
    if path.exists():
        log.read()
    return log


def lines_of(path: Path) -> Iterator[tuple[dict[str, float], int]]:
    """(line, the file's length up to its end) of a log, up to the first that is incomplete, e.g. cut short by a crash."""
    length = 0
    with system_errors.naming(path), open(path, "rb") as file:
        while text := file.readline(LONGEST):
            length += len(text)
            if (line := line_of(text)) is None:
                return
            yield line, length


def line_of(text: bytes) -> dict[str, float] | None:
    """A line of a log: numbers by name, null as NaN, with a finite step; None for any other text."""
    try:
        line = json.loads(text.decode())
        if type(line) is not dict or not all(type(value) in NUMBER for value in line.values()):
            return None
        if not math.isfinite(line["step"]):
            return None
        for name, value in line.items():
            line[name] = math.nan if value is None else value
            float(line[name])  # not so of an integer of 400 digits
    except (ValueError, RecursionError, KeyError, TypeError, OverflowError):
        return None
    return line


def log_line(line: dict[str, float]) -> str:
    """A line of metrics.jsonl as text; numbers that are not finite become null."""
    return json.dumps(files.strict(line), allow_nan=False) + "\n"


def best_step(scores: dict[int, float], saved: list[int]) -> int | None:
    """The step among `saved` with the lowest score; None where none has a finite score."""
    finite = [step for step in saved if math.isfinite(scores.get(step, math.nan))]
    return min(finite, key=lambda step: scores[step]) if finite else None
