"""A fault of all jobs of a sweep, and files that are not there: said once, before anything is begun."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from diffsde import named_files
from diffsde.cli.main import main
from diffsde.cli.sweep_end import end_sweep
from diffsde.errors import UserError
from diffsde.runs import files


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train -m seed=0,1 steps=many", "diffsde: steps is 'many'; it must be a whole number"),
        ("train -m seed=0,1 dataset=array dataset.file=point.csv", "'point.csv' is not a file (did you mean 'points.csv'?)"),
        ("train -m seed=0,1 net=realnvp path=ve", "diffsde: path: net=realnvp makes a discrete flow"),
        ("train -m seed=0,1 dataset=mixture dataset.stds=[1.0]", "diffsde: dataset: stds has 1 entries for 2 means"),
        ("study train='dataset=array dataset.file=none.csv seed=0,1'", "train: dataset.file: 'none.csv' is not a file"),
    ],
)  # fmt: skip
def test_said_once_before_any_job(line: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "points.csv").write_text("1,2\n3,4\n")
    assert main(shlex.split(line)) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and "job 0" not in captured.out
    assert [path.name for path in here.iterdir()] == ["points.csv"]


def test_a_fault_of_one_job_is_no_matter_to_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("explain -m path=ot steps=0,5 hydra.sweep.dir=sweep".split()) == 2
    captured = capsys.readouterr()
    assert captured.err == "diffsde: job 0 (path=ot steps=0): steps is 0; it must be 1 or more\n"
    assert "order 2, 5 steps" in captured.out and not list(here.iterdir())


def test_what_all_jobs_met_while_they_ran_is_one_line_too(here: Path) -> None:
    for job, why in (("0", "no room"), ("1", "no room")):
        (here / job).mkdir()
        files.write_json(here / job / "error.json", {"error": why, "overrides": [f"seed={job}"]})
    assert end_sweep(here) == ["all 2 jobs: no room"]
    files.write_json(here / "1" / "error.json", {"error": "no light", "overrides": ["seed=1"]})
    assert end_sweep(here) == ["job 0 (seed=0): no room", "job 1 (seed=1): no light"]


def test_a_finished_run_needs_no_file_any_more(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command says that it is done, of a run, of a sweep's jobs, and of a study; another folder is refused."""
    points = np.random.default_rng(0).normal(size=(64, 2))
    words = "dataset=array dataset.file=x.npy steps=2 batch_size=8 net.widths=[4] posterior_points=0"
    lines = [
        f"train {words} hydra.run.dir=run",
        f"train -m seed=0,1 {words} hydra.sweep.dir=sweep",
        f"study 'train={words}' out=study",
    ]
    np.save(here / "x.npy", points)
    assert [main(shlex.split(line)) for line in lines] == [0, 0, 0]
    (here / "x.npy").unlink()
    capsys.readouterr()
    for line in lines:
        assert main(shlex.split(line)) == 0
        assert re.search("already finished|1 done", capsys.readouterr().out)
    assert main(shlex.split(lines[0].replace("run.dir=run", "run.dir=other"))) == 2


def test_files_of_every_place_of_a_config(here: Path) -> None:
    """Against files that are there, and words that look like files and are none."""
    np.save(here / "x.npy", np.zeros((2, 2)))
    array = {"name": "array", "file": "x.npy", "labels": "kind", "test": "0.1"}
    sound = {"dataset": array, "measurement": {"name": "inpaint", "keep": "left"}, "cache_dir": "new", "truth": None}
    named_files.check(sound | {"source": array | {"test": "x.npy"}})
    for changed, place in [
        ({"dataset": array | {"file": "y.npy"}}, "dataset.file"),
        ({"source": array | {"labels": "y.npy"}}, "source.labels"),
        ({"dataset": array | {"test": "y.npy"}}, "dataset.test"),
        ({"dataset": {"name": "snapshots", "files": ["x.npy", "y.npy"]}}, "dataset.files[1]"),
        ({"dataset": {"name": "fixed", "drawn_from": array | {"file": "y.npy"}}}, "dataset.drawn_from.file"),
        ({"dataset": {"name": "image_folder", "folder": "x.npy"}}, "dataset.folder"),
        ({"measurement": {"name": "inpaint", "keep": "y.png"}}, "measurement.keep"),
        ({"truth": "y.npy"}, "truth"),
    ]:
        with pytest.raises(UserError, match=place.replace("[", r"\[")):
            named_files.check(sound | changed)
