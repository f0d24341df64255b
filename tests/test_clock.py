"""The wait that a command reports: all of it, by what it went into."""

import re
import time
from pathlib import Path

import pytest

from diffsde.cli.main import main
from diffsde.runs import clock


def test_laps_leave_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds since the start are given to the first lap, those of compiling apart; the parts sum to the wait."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock.begin()
    for seconds, what, compiling in ((2.0, "starting", 0.0), (5.0, "sampling", 1.5), (0.5, "drawing", 0.0)):
        now[0] += seconds
        clock.lap(what, compiling=compiling)
    assert clock.parts() == {"starting": 2.0, "compiling": 1.5, "sampling": 3.5, "drawing": 0.5}
    assert clock.said() == "7.5 s: 2.0 starting, 1.5 compiling, 3.5 sampling, 0.5 drawing"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "steps=2", "net.widths=[8]", "batch_size=16"], {"starting", "training", "figures", "drawing"}),
        (
            ["sample", "run=oracle", "dataset=gmm", "path=ot", "n=20", "steps=4", "pictures=none"],
            {"starting", "sampling", "figures"},
        ),
    ],
)
def test_the_time_that_is_said_is_the_whole_wait(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], parts: set[str]
) -> None:
    begin = time.perf_counter()
    assert main(words) == 0
    wait = time.perf_counter() - begin
    line = capsys.readouterr().out.splitlines()[-1]
    said = re.fullmatch(r"time: ([\d.]+) s: (.*)", line)
    assert said and parts <= {part.split(" ")[1] for part in said[2].split(", ")}
    assert float(said[1]) == pytest.approx(wait, abs=0.3)
    assert sum(float(part.split(" ")[0]) for part in said[2].split(", ")) == pytest.approx(float(said[1]), abs=0.3)
