"""`diffsde study`: its stages, what it refuses before anything runs, how it goes on, and how long it says it takes."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from diffsde.cli import study_words
from diffsde.cli.main import main
from diffsde.cli.study_plan import Stage, evaluations
from diffsde.cli.study_time import Guess, Past, Timing, earlier_jobs, guess
from diffsde.errors import UserError
from diffsde.runs import locks, records
from diffsde.runs.formats import FORMAT

TRAIN = "train=path=ot seed=range(0,2) steps=3 batch_size=8 net.widths=[4] dataset=gmm posterior_points=0 pictures=none"
SMALL = "n=64 sampler=euler steps=2,3"


def study(*words: str) -> Path:
    """The folder of a study that ran."""
    assert main(["study", *words]) == 0
    return sorted(Path("outputs/study").glob("*/*"))[-1]


def of(where: Path, stage: str) -> list[records.Record]:
    return sorted(records.every(where / stage), key=lambda record: int(record.folder.name))


# What is asked for ------------------------------------------------------------------------------------------------------


def test_a_text_is_split_as_a_shell_would() -> None:
    asked = study_words.asked(
        ["train=path=ot 'dataset.means=[[-1.0], [2.0]]'", "train=seed=1", "threads=1", "out=here"]
    )
    assert asked.stages == {
        "train": [["path=ot", "dataset.means=[[-1.0], [2.0]]"], ["seed=1"]],
        "sample": [],
        "evaluate": [],
    }
    assert asked.machine == ("threads=1",) and asked.out == Path("here")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian=path=ot"], "trian is not known (did you mean 'train'?)"),
        (["path=ot"], "path is not known; choose one of train, sample, evaluate"),
        (["path"], "'path' is not a word of a study"),
        (["train=path=ot -m"], "train: '-m' has no place in a study's text; a study sweeps without -m"),
        (["train='path=ot"], "train: no closing quotation in ''path=ot'"),
        (["train=hydra.sweep.dir=x"], "out= says where a study is written"),
        (["train=seed=0 threads=2"], "train: threads=2 is of the whole study; say it beside train="),
        (["resume=no", "train=seed=0"], "resume is 'no'; it must be true or false"),
        (["out=x", "out=y"], "out= is said twice"),
        ([], "nothing is asked for"),
        (["experiment=nothing"], "experiment: 'nothing' is not a study"),
        (["train=seed=0", "sample=run=oracle"], "a study samples the runs that it trains; leave out run=oracle"),
        (["train=seed=0", "evaluate=n=5"], "evaluate: name what is measured in one list"),
        (["train=pth=ot"], "train: pth is not known"),
        (["train=experiment=icfm,fm dataset.drawn_from=moons"], "train: dataset@dataset.drawn_from is not known"),
        (["train=path=otter"], "train: path: 'otter' is not a choice"),
        (["train=seed=0,-1"], "train: seed is -1; it must be in [0, 2^31)"),
        (["train=seed=0", "sample=sampler=heun steps=5,0"], "sample: steps is 0; it must be 1 or more"),
        (["train=seed=0", "sample=sampler=heun steps=5,0", "evaluate=metrics=[w2]"], "evaluate: steps is 0"),
        (
            ["train=seed=0", "sample=steps=5", "evaluate=steps=7 metrics=[w2]"],
            "sample says steps=5 and evaluate says steps=7",
        ),
        (
            ["train=seed=0", "sample=coupled=true", "evaluate=metrics=[w2]"],
            "coupled= is a word of diffsde sample, not of eval",
        ),
    ],
)
def test_a_word_is_refused_before_anything_runs(
    words: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with status 2, and nothing written; by the words of any stage, the last one's too."""
    assert main(["study", *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not list(here.iterdir())


def test_a_name_of_no_metric_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "train=seed=0", "evaluate=metrics=[w3]"]) == 2
    assert "evaluate: metrics: 'w3' is not a metric" in capsys.readouterr().err and not list(here.iterdir())


def test_what_is_of_the_field_is_measured_once_a_run() -> None:
    """Metrics of samples for each sampler, by jobs that draw for themselves; the likelihood for each checkpoint alone."""
    asked = study_words.asked(
        ["train=seed=0", "sample=sampler=heun,em steps=5 checkpoint=best", "evaluate=metrics=[w2,likelihood] n_test=10"]
    )
    assert evaluations(asked) == [
        (["sampler=heun,em", "steps=5", "checkpoint=best", "n_test=10", "metrics=[w2]"], True),
        (["checkpoint=best", "n_test=10", "metrics=[likelihood]"], True),
    ]


def test_words_beside_an_experiment_replace_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"train": ["path=ot seed=range(0,5)", "path=vp"], "sample": ["steps=5"], "evaluate": []}
    monkeypatch.setattr(study_words, "read_experiment", lambda name: content)
    asked = study_words.asked(["experiment=any", "train=seed=7"])
    assert asked.stages == {
        "train": [["path=ot", "seed=7"], ["path=vp", "seed=7"]],
        "sample": [["steps=5"]],
        "evaluate": [],
    }


# What is done -----------------------------------------------------------------------------------------------------------


def test_every_run_is_judged_with_every_sampler_and_nothing_twice(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command goes on where it stopped: jobs that are done are left as they are, others are done; a finished one is."""
    words = [TRAIN, f"sample={SMALL}", "evaluate=metrics=[mode_weight_kl]", "out=study"]
    assert main(["study", *words]) == 0
    first = capsys.readouterr().out
    assert "study: 6 jobs (2 of train, 4 of evaluate), in study" in first and "study: 6 jobs in" in first
    judged, trained = of(Path("study"), "evaluate"), of(Path("study"), "train")
    assert [record.config["seed"] for record in trained] == [0, 1]
    found = [(records.trained(r).folder.name, r.config["steps"]) for r in judged]  # type: ignore[union-attr]
    assert found == [("0", 2), ("0", 3), ("1", 2), ("1", 3)]
    assert {record.folder for record in records.every(Path("study"))} == {r.folder for r in judged + trained}
    assert "4 jobs of evaluate: steps compared" in first and "sd over 2 seeds (run.seed)" in first
    assert len(Path("study/compare/compare.csv").read_text().splitlines()) == 5
    assert not list(Path("study").glob("evaluate/*.png"))  # compared once, at the end
    written = {path: path.stat().st_mtime_ns for path in Path("study").glob("*/*/summary.json")}
    gone = Path("study/evaluate/2/summary.json")
    value = json.loads(gone.read_text())["metrics"]
    gone.unlink()
    Path("study/evaluate/sweep.csv").unlink()
    shutil.copytree("study/evaluate/0", "study/evaluate/a copy of mine")  # is no job of the study's
    assert main(["study", *words]) == 0
    again = capsys.readouterr().out
    assert "5 done" in again and "compiling" not in again.partition("job 0")[0] and "by the jobs that are done" in again
    assert json.loads(gone.read_text())["metrics"] == value
    assert {path for path, time in written.items() if path.stat().st_mtime_ns != time} == {gone}
    assert main(["study", *words]) == 0
    assert "job 0" not in capsys.readouterr().out
    assert main(["study", TRAIN, "out=study"]) == 2
    assert "holds another study" in capsys.readouterr().err
    kept = json.loads(Path("study/study.json").read_text())
    assert kept["finished"] and kept["spent"]["evaluate"]["jobs"] == 5 and kept["spent"]["train"]["cpu_seconds"] > 0


def test_jobs_that_fail_are_said_and_tried_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of exact fields, without train; the others are done, the status is 2, and the same words go on in the same folder."""
    words = ["sample=run=oracle dataset=gmm path=ot sampler=euler steps=2 n=50 seed=0,1 plots=false"]
    where = study(*words)
    assert [record.state for record in of(where, "sample")] == ["whole", "whole"]
    assert study(*words) != where  # a finished study is not gone on with
    content = json.loads((where / "study.json").read_text()) | {"finished": False}
    (where / "study.json").write_text(json.dumps(content))
    for name in ("summary.json", "config.json"):
        (where / "sample/1" / name).unlink()
    (where / "sample/1/error.json").write_text(json.dumps({"error": "no memory", "overrides": []}))
    capsys.readouterr()
    assert main(["study", *words]) == 0
    assert f"resuming the study in {where}" in capsys.readouterr().out
    assert [record.state for record in of(where, "sample")] == ["whole", "whole"]


# How long it takes ------------------------------------------------------------------------------------------------------


def test_an_earlier_job_is_timed_from_its_beginning(here: Path) -> None:
    """config.json of sample and evaluate is written at their end: the date in it says when they began."""
    folder = Path("outputs/evaluate/2026-05-04/10-00-00-000001")
    folder.mkdir(parents=True)
    for date, seconds in (("2026-05-04T10:00:00+00:00", 7.0), ("2026-05-05T10:00:00+00:00", None)):
        kept = {"format": FORMAT, "verb": "evaluate", "config": {}}
        kept["provenance"] = {"date": date, "machine": {"host": platform.node()}}
        (folder / "config.json").write_text(json.dumps(kept))
        (folder / "summary.json").write_text(json.dumps({"metrics": {}, "seconds": 2.0, "steps": 4}))
        ended = datetime.fromisoformat("2026-05-04T10:00:07+00:00").timestamp()
        os.utime(folder / "summary.json", (ended, ended))
        found = earlier_jobs(records.every())["evaluate"]
        assert found == ([Past({}, seconds, 2.0, 4)] if seconds else [])


def past(seconds: float, of_steps: float = 0.0, steps: int = 0, **config: Any) -> Past:
    return Past(config, seconds, of_steps, steps)


def test_a_training_is_guessed_from_steps_of_the_same_net() -> None:
    """Overhead and time of a step of earlier jobs: 3 s and 10 ms; those of another net are left aside while there are some."""
    mine = {"net": "small", "batch_size": 8, "posterior_points": None, "dataset": "moons"}
    stage = Stage("train", "train", (), 2, False, (mine | {"steps": 100}, mine | {"steps": 300}))
    alike, other = past(4.0, 1.0, 100, **mine), past(100.0, 90.0, 100, net="large")
    assert guess(stage, [alike, other]) == Guess(pytest.approx(5.0), 1, True)
    assert guess(stage, [other]) == Guess(pytest.approx(10 + 200 * 0.9), 1, False)
    assert guess(stage, []) == Guess(0.0, 0, False)


def test_the_time_left_is_corrected_by_the_jobs_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first from earlier jobs; then from those after the first, which waited for compilation; the unknown is said."""
    stages = [Stage("train", "train", (), 5, False, ()), Stage("evaluate", "evaluate", (), 2, True, ())]
    timing = Timing(stages, 5, {})
    timing.guesses = {"train": Guess(2.0, 3, False)}
    assert timing.jobs == 15
    seconds, basis = timing.left({})
    assert seconds == 10 and "3 earlier jobs" in basis and "roughly" in basis and "without 10 jobs" in basis
    for clock in (("time", "perf_counter"), ("os", "times")):
        module = sys.modules[clock[0]]
        ticks = iter([0.0, 20.0, 21.0])
        monkeypatch.setattr(
            module, clock[1], lambda ticks=ticks, name=clock[1]: next(ticks) if name == "perf_counter" else os_times()
        )
    timing.begin()
    timing.ended(stages[0])
    assert timing.left({"train": 1})[0] == 4 * 20  # nothing better is known
    timing.ended(stages[0])
    seconds, basis = timing.left({"train": 2, "evaluate": 10})
    assert seconds == 3 * 1 and basis == "by the jobs that are done"
    assert timing.spent["train"]["first"] == 20


def os_times() -> Any:
    return os.times_result((0.0, 0.0, 0.0, 0.0, 0.0))


def test_refusals_know_the_stage() -> None:
    with pytest.raises(UserError, match=r"^sample: 'x'"):
        study_words.split("sample", "x")


def test_a_folder_with_other_jobs_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep of other words would be taken for the study's own."""
    (here / "out" / "train" / "0").mkdir(parents=True)
    (here / "out" / "train" / "0" / "config.json").write_text("{}")
    assert main(["study", TRAIN, "out=out"]) == 2
    assert "out: 'out' holds jobs of no study; nothing is overwritten, give another folder" in capsys.readouterr().err


def test_a_study_that_is_being_run_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another command of the same words is refused, and writes nothing."""
    (here / "out").mkdir()
    about = {"asked": study_words.asked([TRAIN, "out=out"]).kept(), "spent": {"train": {"jobs": 1}}}
    (here / "out" / "study.json").write_text(json.dumps(about))
    with locks.held(here / "out"):
        assert main(["study", TRAIN, "out=out"]) == 2
    assert "is being written by another process" in capsys.readouterr().err
    assert json.loads((here / "out" / "study.json").read_text()) == about
