"""`diffsde rerun` and what a run's folder says of where it comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.cli.rerun import alone, rerun
from diffsde.runs import locks, repeat
from diffsde.runs.record import Record, id_of, read_record

TRAIN = ["dataset=moons", "net=mlp", "net.widths=[8]", "steps=4", "log_every=2", "posterior_points=0", "pictures=none"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and samples from it."""
    where = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        assert main(["train", *TRAIN, "seed=3", "name=base", "tag=a,b", "dataset.noise=0.1"]) == 0
        drawn = ["n=20", "steps=3", "sampler=em", "seed=7", "metrics=null"][:4]
        assert main(["sample", "run=base", *drawn, "pictures=none", "hydra.run.dir=drawn"]) == 0
    return where


def test_a_folder_says_where_its_run_comes_from(place: Path) -> None:
    (folder,) = place.glob("outputs/train/*/*")
    about = json.loads((folder / "config.json").read_text())["provenance"]
    assert about["id"] == id_of(folder) and about["date"][:10] == folder.parent.name
    assert about["command"].startswith("diffsde train dataset=moons") and "tag=a,b" in about["command"]
    assert "dataset.noise=0.1" in about["words"] and about["seeds"] == {"seed": 3}
    assert about["versions"]["diffsde"] == diffsde.__version__ and about["versions"]["jax"]
    assert about["machine"]["devices"] and about["machine"]["host"] and about["git"]["directory"] is None
    assert len(about["git"]["diffsde"]["revision"]) == 40 if about["git"]["diffsde"] else True
    record = read_record(folder)
    assert record is not None and (record.name, record.tags) == ("base", ("a", "b"))
    assert json.loads((place / "drawn" / "config.json").read_text())["provenance"]["used"] == {"run": record.id}


def test_a_name_makes_no_other_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    drawn = ["n=20", "steps=3", "sampler=em", "seed=7", "pictures=none"]
    assert main(["sample", "run=base", *drawn, "name=another", "hydra.run.dir=drawn"]) == 0
    assert "already finished: drawn" in capsys.readouterr().out


def test_a_run_is_repeated_to_the_bit(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From another working directory too, where the run's own folder is named as the first was."""
    monkeypatch.chdir(place)
    found = rerun(["base"], tmp_path / "again")
    assert found.same and {part.name for part in found.parts} >= {"parameters", "averages", "metrics.jsonl", "loss"}
    record = read_record(tmp_path / "again")
    assert record is not None and record.name == "" and record.words["rerun"] == found.run
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "outputs", tmp_path / "outputs")  # moved, to where the directory of then has no run
    drawn = shutil.copytree(place / "drawn", tmp_path / "outputs/sample/day/drawn")
    (tmp_path / "empty").mkdir()
    kept = json.loads((drawn / "config.json").read_text())
    (drawn / "config.json").write_text(json.dumps(kept | {"directory": str(tmp_path / "empty")}))
    found = diffsde.rerun(drawn, folder="drawn again")
    assert found.same and {part.name for part in found.parts} >= {"samples.x", "w2"}
    assert found.folder == tmp_path / "drawn again" and Path.cwd() == tmp_path


def test_a_process_that_has_begun_repeats_with_its_own_threads(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XLA reads their number once: what the run had is said beside what it is repeated with."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "outputs", "outputs")
    (path,) = Path("outputs").glob("train/*/*/config.json")
    kept = json.loads(path.read_text())
    (own,) = {kept["config"]["threads"]}
    path.write_text(json.dumps(kept | {"config": kept["config"] | {"threads": 7}}))
    found = diffsde.rerun("base", folder="again")
    assert found.same and f"threads: 7 there, {own} here, with which this process had begun" in found.reasons[0]
    record = read_record(Path("again"))
    assert record is not None and record.config["threads"] == own


def test_what_differs_is_said_and_why_it_may(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    kept = json.loads((place / "drawn" / "config.json").read_text())
    arrays = dict(np.load(place / "drawn" / "samples.npz"))
    other = Path("other")
    other.mkdir()
    (other / "summary.json").write_bytes((place / "drawn" / "summary.json").read_bytes())
    kept["provenance"]["versions"]["jax"] = "0.1"
    kept["provenance"]["machine"]["cpu"] = "abacus"
    (other / "config.json").write_text(json.dumps(kept))
    arrays["x"][0, 0] = np.nextafter(arrays["x"][0, 0], np.float32(9))  # one bit of one number
    np.savez(other / "samples.npz", **arrays)
    assert main(["rerun", "other", f"out={tmp_path}/again"]) == 0
    said = capsys.readouterr().out
    assert "1 of " in said and "samples.x   1 of 40 numbers differ, by up to" in said
    assert "jax: 0.1 there" in said and "machine.cpu: abacus there" in said
    assert main(["rerun", "other", f"out={tmp_path}/again"]) == 2
    assert "already holds a run; nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([], "which run? Give a folder, an id, a name or latest"),
        (["outputs", "drawn"], "rerun repeats one run, and outputs drawn is 2; the newest is "),
        (
            ["stopped"],
            "has no result to be compared with; diffsde train run=stopped goes on with it",
        ),  # not under outputs/
        (["running"], "running is running, and has no result to be compared with; another process writes it"),
    ],
)
def test_what_cannot_be_repeated_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], wrong: str
) -> None:
    monkeypatch.chdir(place)
    (folder,) = place.glob("outputs/train/*/*")
    for name in ("stopped", "running"):
        Path(name).mkdir(exist_ok=True)
        Path(name, "config.json").write_bytes((folder / "config.json").read_bytes())
    with locks.held(Path("running")):
        assert main(["rerun", *words]) == 2
    error = capsys.readouterr().err
    assert wrong in error and error.count("\n") == 1


def test_of_run_and_a_name_the_name_alone_is_the_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run=NAME is what was made of the run, which may be several folders."""
    monkeypatch.chdir(place)
    assert alone(["run=base"]).startswith("diffsde rerun base is the run itself")
    assert not any(map(alone, (["base"], ["run=nowhere"], ["run=base", "n=20"])))


def test_what_a_job_used_is_found_where_it_was_moved(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its id, for samples= of `evaluate` and for rerun; where it is nowhere, a line names it."""
    shutil.copytree(place / "outputs", tmp_path / "outputs")
    shutil.copytree(place / "drawn", tmp_path / "outputs" / "drawn")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "outputs/drawn/config.json",):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"directory": str(tmp_path / "empty")}))
    monkeypatch.chdir(tmp_path)
    (run,) = Path("outputs").glob("train/*/*")
    run.rename("outputs/kept")
    quick = ["metrics=[w2]", "hydra.run.dir=outputs/judged"]
    assert main(["evaluate", "samples=outputs/drawn", *quick]) == 0
    record = read_record(Path("outputs/judged"))
    assert record is not None and record.config["run"] == "outputs/kept"
    Path("outputs/drawn").rename("outputs/points")
    for which in ("judged", "points"):
        assert rerun([f"outputs/{which}"], tmp_path / f"{which} again").same
    shutil.rmtree("outputs/kept")
    capsys.readouterr()
    assert main(["rerun", "outputs/points", "out=third"]) == 2
    error = capsys.readouterr().err
    assert f"run= was '{run}' (id {id_of(place / run)})" in error and error.count("\n") == 1


@pytest.mark.parametrize("changed", ["bandwidths", "note", "nan", "more"])
def test_what_a_summary_has_beside_numbers_counts_too(tmp_path: Path, changed: str) -> None:
    """A list, a word, a figure that was NaN, one that was not there."""
    summary = {"bandwidths": [1.0, 0.5], "note": "one", "metrics": {"w2": {"value": 0.5}, "nan": {"value": None}}}
    other: dict[str, Any] = json.loads(json.dumps(summary))
    if changed == "nan":
        other["metrics"]["nan"]["value"] = 0.1
    else:
        other[changed] = [1.0, 0.25] if changed == "bandwidths" else "two"
    for name, content in (("before", summary), ("same", summary), ("after", other)):
        (tmp_path / name).mkdir()
        clocked = {"seconds": len(name), "coupling": {"name": "ot", "step_ms": {"value": len(name), "unit": "CPU ms"}}}
        clocked["likelihood"] = {"n": 20, "seconds": len(name)}
        (tmp_path / name / "summary.json").write_text(json.dumps(content | clocked))
    assert all(part.same for part in repeat.compared(tmp_path / "before", tmp_path / "same"))
    assert [part.name for part in repeat.compared(tmp_path / "before", tmp_path / "after") if not part.same] == [
        changed
    ]


def test_another_run_that_was_used_is_a_reason() -> None:
    before, after = (
        Record(Path(), "", "sample", "", "whole", {}, {}, {}, "", "", (), None, {"versions": {}, "used": {"run": each}})
        for each in ("bcdfghj", "jhgfdcb")
    )
    assert repeat.reasons(before, after) == ["used.run: bcdfghj there, jhgfdcb here"]
