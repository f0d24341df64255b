"""The log of a run: what is read of it, what is cut off, and that neither memory nor work grows faster than its lines."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from diffsde.plots import loss
from diffsde.runs import repeat, training_loop
from diffsde.runs.run_log import LONGEST, RunLog, best_step, log_line, read_log

LINE = {"loss": 0.5, "seconds": 1.5, "cpu_seconds": 2.5}


def written(path: Path, count: int) -> Path:
    path.write_text("".join(log_line({"step": step, **LINE}) for step in range(1, count + 1)))
    return path


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"step": 3, "lo',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b'{"loss": 1.0}\n',
        b'{"step": "3", "loss": 1.0}\n',
        b'{"step": 3, "loss": [1.0]}\n',
        b'{"step": 3, "loss": true}\n',
        b'{"step": NaN, "loss": 1.0}\n',
        b'{"step": 3, "loss": 1' + b"0" * 400 + b"}\n",
        b'{"step": 3, "loss": 1.0, "note": ' + b"1" * LONGEST + b"}\n",
    ],
    ids=["half", "bytes", "deep", "stepless", "word", "list", "true", "nan", "digits", "long"],
)
def test_a_log_is_read_up_to_its_first_damaged_line(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = log_line({"step": 1, "loss": 0.5, "score": math.nan}) + log_line({"step": 2, "loss": 0.25, "score": 3.0})
    path.write_bytes(whole.encode() + damaged + log_line({"step": 4, "loss": 9.0}).encode())
    found = read_log(path)
    assert found.column("loss").tolist() == [0.5, 0.25] and best_step(found.scores, [1, 2]) == 2
    assert repeat.numbers_logged(path) is not None and len(repeat.numbers_logged(path)) == 6  # type: ignore[arg-type]
    log = RunLog(path)
    log.cut(3)
    assert path.read_text() == whole
    log.write({"step": 3, "loss": 0.125})
    assert read_log(path).column("loss").tolist() == [0.5, 0.25, 0.125]


def test_a_line_without_an_end_is_given_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}')
    log = RunLog(path)
    log.cut(1)
    log.write({"step": 2, "loss": 0.25})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_reading_a_log_takes_a_few_bytes_a_line(tmp_path: Path) -> None:
    """As a list of dicts it took some 300."""
    count = 20_000
    path = written(tmp_path / "metrics.jsonl", count)
    for read in (lambda: read_log(path).column("loss"), lambda: repeat.numbers_logged(path)):
        tracemalloc.start()
        found = read()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found is not None and len(found) >= count and most < 50 * count + 2 * LONGEST


def test_a_dispatch_looks_at_the_last_line_alone(tmp_path: Path) -> None:
    """What is shown beside the progress is read after every dispatch: of all lines it would be quadratic in a run's length."""

    class Column(list[float]):
        read = 0

        def __getitem__(self, at: Any) -> Any:
            Column.read += 1
            return super().__getitem__(at)

        def __iter__(self) -> Any:
            raise AssertionError("all lines were read")

    log = RunLog(tmp_path / "metrics.jsonl")
    log.columns |= {"loss": cast(Any, Column([9.0, 0.5])), "validation_loss": cast(Any, Column([9.0, 0.75]))}
    members = [cast(Any, SimpleNamespace(log=log, failed=None))]
    assert training_loop.latest_losses(members) == "loss 0.5000, validation 0.7500" and Column.read == 2


def test_a_long_curve_is_drawn_by_means_of_its_lines() -> None:
    count = 3 * loss.MOST - 1
    values = np.arange(count, dtype=float)
    at = np.stack([values + 1, values + 1], axis=1)
    figure = loss.loss_curve(values, 10, 10 * count, None, "a run", values + 1, at)
    curve, held_out = (line.get_xydata() for line in figure.axes[0].lines)
    assert len(curve) == loss.MOST and curve[0].tolist() == [30, 1] and held_out[0].tolist() == [30, 2]
    assert curve[-1].tolist() == [10 * count, count - 1.5]  # the last has what was left, two lines
    regret = figure.axes[1].lines[0].get_xydata()
    assert len(regret) <= loss.MOST and regret[0, 0] == 1 and regret[-1, 0] == count
