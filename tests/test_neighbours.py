"""What others left under outputs/ is passed over with one warning, and the command does its work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from diffsde.cli.main import main
from diffsde.cli.sweep_end import end_sweep
from diffsde.runs import folder

QUICK = ["steps=2", "batch_size=32", "net.widths=[8]"]
DRAW = ["n=9", "steps=2", "plots=false"]


def file(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def huge(path: Path) -> None:
    with open(path, "w") as opened:
        opened.write('{"format": 3, "verb": "train", "config": "')
        opened.truncate(100 * 2**20)


LEFT_OUT = "is left out"

SORTS: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "deep": file("[" * 100_000 + "]" * 100_000),
    "many digits": file('{"format": 3, "verb": "train", "config": {"steps": ' + "1" * 5000 + "}}"),
    "huge": huge,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "half written": file('{"format": 3, "ver'),
}
QUIET = {  # JSON, and of something else
    "a list": file("[1, 2]"),
    "a word": file('"x"'),
    "null": file("null"),
    "another version": file('{"format": 1}'),
    "no config": file('{"format": 3, "verb": "train", "config": [1]}'),
    "no objective": file('{"format": 3, "verb": "train", "config": {"objective": 3, "resume": {}}}'),
}


TOLD = {*SORTS, *QUIET} - {"another version"}  # of config.json, whose entries have types


def test_unreadable_configs_are_passed_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By every command that looks among its neighbours; a warning for each that cannot be read, once."""
    assert main(["train", *QUICK]) == 0
    (run,) = (here / "outputs" / "train").glob("*/*")
    for name, spoil in (SORTS | QUIET).items():
        for finished in (False, True):
            other = run.with_name(f"{name}\n[b]{finished}")
            (other / "checkpoints").mkdir(parents=True)
            spoil(other / "config.json")
            if finished:
                (other / "summary.json").write_text("{}")
    capsys.readouterr()
    assert main(["sample", *DRAW, "hydra.run.dir=drawn"]) == 0
    said = capsys.readouterr()
    assert str(run.relative_to(here)) in said.out
    told = sorted(line.split(r"\n[b]")[0].rpartition("/")[2] for line in said.err.splitlines() if LEFT_OUT in line)
    assert told == sorted(TOLD) and said.err.count(r"\n[b]True/config.json' is left out: ") == len(TOLD)
    assert main(["train", *QUICK, "seed=3"]) == 0
    told = [
        line.split(r"\n[b]")[0].rpartition("/")[2] for line in capsys.readouterr().err.splitlines() if LEFT_OUT in line
    ]
    linked = {"a link to nothing", "a link to itself"}  # which a glob may not find
    assert len(set(told)) == len(told) and TOLD - linked <= set(told) <= TOLD
    assert main(["train", "run=latest"]) == 0
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sort", ["a folder", *(pytest.param(sort, marks=pytest.mark.slow) for sort in ("a pipe", "a link to itself"))]
)
def test_an_odd_lock_is_left_alone(sort: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder that would be gone on with; given as one's own it is refused."""
    assert main(["train", *QUICK]) == 0
    (run,) = (here / "outputs" / "train").glob("*/*")
    (run / "summary.json").unlink()
    (run / ".lock").unlink()
    SORTS[sort](run / ".lock")
    capsys.readouterr()
    assert main(["train", *QUICK]) == 0
    error = capsys.readouterr().err
    assert "its folder is left alone" in error and error.count("\n") == 1
    assert main(["train", f"run={run}"]) == 2
    error = capsys.readouterr().err
    assert ".lock' cannot be written" in error and "remove it" in error and error.count("\n") == 1
    (run / ".lock").rmdir() if sort == "a folder" else (run / ".lock").unlink()
    assert main(["train", f"run={run}"]) == 0  # the advice


def test_unreadable_sweeps_are_passed_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, spoil in (SORTS | QUIET).items():
        other = here / "outputs" / "sample" / "2026-01-01" / name
        other.mkdir(parents=True)
        spoil(other / "sweep.json")
    assert main(["sample", "-m", "seed=0,1", "run=oracle", "dataset=gmm", "path=ot", *DRAW]) == 0
    error = capsys.readouterr().err
    assert len(SORTS) - 2 <= error.count(LEFT_OUT) <= len(SORTS)
    assert len(list((here / "outputs").rglob("sweep.csv"))) == 1


ODD_SUMMARIES = {
    "a list": "[1]",
    "nothing": "{}",
    "no value": '{"metric": {"name": "loss"}, "loss": {}}',
    "no loss": '{"metric": {"name": "loss", "value": 1.0}}',
    "words": '{"metrics": {"a": {"value": "x"}}}',
    "a number": '{"metrics": {"a": 3}}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("sort", ODD_SUMMARIES)
def test_an_odd_summary_among_a_sweeps_jobs_is_passed_over(
    sort: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("0", "²"):
        (here / "sweep" / name).mkdir(parents=True)
        (here / "sweep" / name / "summary.json").write_text(ODD_SUMMARIES[sort])
    (here / "sweep" / "1").mkdir()
    (here / "sweep" / "1" / "summary.json").write_text('{"metrics": {"a": {"value": 2.0}, "b": {"value": null}}}')
    (here / "sweep" / "1" / ".hydra" / "overrides.yaml").mkdir(parents=True)
    assert end_sweep(here / "sweep") == []
    said = capsys.readouterr()
    assert "swept 1 of 1 jobs" in said.out and said.err.count("; remove it, and the run is finished again") == 2
    (here / "sweep" / "0" / "config.json").write_text("[]")
    assert "nan" not in (here / "sweep" / "sweep.csv").read_text()


def test_the_newest_is_a_file_that_is_there(here: Path) -> None:
    for name in ("old", "new", "gone", "folder"):
        (here / name).mkdir()
    (here / "old" / "x").write_text("")
    (here / "new" / "x").write_text("")
    os.utime(here / "old" / "x", (1, 1))
    (here / "gone" / "x").symlink_to("nowhere")
    (here / "folder" / "x").mkdir()
    assert folder.newest(here / name / "x" for name in ("old", "gone", "new", "folder", "absent")) == here / "new"
    assert folder.newest([here / "gone" / "x"]) is None and folder.newest([]) is None


def test_a_summary_of_null_figures_is_read_as_no_number(here: Path) -> None:
    content = {"metric": {"name": "w2", "value": None}, "loss": {"value": 1.5}, "note": None}
    (here / "summary.json").write_text(json.dumps(content))
    found = folder.read_summary(here)
    assert (
        found["metric"]["value"] != found["metric"]["value"]
        and found["note"] is None
        and found["loss"] == {"value": 1.5}
    )
