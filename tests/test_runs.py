"""`diffsde runs`, and the choice of runs by words: folders, ids, names, globs and filters."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from diffsde.cli import completion, run_words
from diffsde.cli.job import VERBS, config_folder
from diffsde.cli.main import main
from diffsde.cli.plain import PLAIN
from diffsde.errors import UserError
from diffsde.runs import locks, records
from diffsde.runs.folder import claim, latest, read_config
from diffsde.runs.formats import FORMAT
from diffsde.runs.record import id_of
from diffsde.runs.records import read_record, select, trained

DAY = "2026-05-04"


def make(
    where: str,
    verb: str = "train",
    words: list[str] | None = None,
    summary: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A job's folder as a command leaves it; summary None: of a finished run."""
    folder = Path("outputs", verb, DAY, where)
    if verb == "train":
        (folder / "checkpoints").mkdir(parents=True)
        config = {"objective": {"name": "cfm"}, **config}
    else:
        folder.mkdir(parents=True)
        (folder / "samples.npz").touch()
    (folder / ".hydra").mkdir()
    (folder / ".lock").touch()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words or []))
    kept = {"format": FORMAT, "verb": verb, "config": config, "directory": str(Path.cwd())}
    (folder / "config.json").write_text(json.dumps(kept))
    done = {"metrics": {"w2": {"value": 0.5, "error": 0.02, "floor": 0.3, "points": 9}}, "steps": config.get("steps")}
    if summary is None or summary:
        (folder / "summary.json").write_text(json.dumps(summary or done))
    return folder


def some() -> dict[str, Path]:
    """A training run along ot, and one along vp that was stopped; samples of the first, and of the exact field."""
    first = make("10-00-00-000001", words=["path=ot"], path={"name": "ot"}, seed=0, lr=1e-3, steps=20, name="base")
    second = make(
        "11-00-00-000001", words=["path=vp"], summary={}, path={"name": "vp"}, seed=1, lr=None, tag=["a", "b"]
    )
    drawn = make(
        "12-00-00-000001", "sample", ["seed=5"], path=None, seed=5, run=str(first), sampler={"name": "em", "sigma": 0.5}
    )
    exact = make("13-00-00-000001", "sample", ["run=oracle", "path=vp"], path={"name": "vp"}, seed=0, run="oracle")
    return {"first": first, "second": second, "drawn": drawn, "exact": exact}


def chosen(*words: str, verb: str | None = None) -> list[str]:
    names = {folder.resolve(): name for name, folder in some_there.items()}
    return [names[record.folder.resolve()] for record in select(words, verb)]


some_there: dict[str, Path] = {}


@pytest.fixture
def there(here: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = some()
    monkeypatch.setattr(sys.modules[__name__], "some_there", found)
    return found


def test_words_choose_runs(there: dict[str, Path]) -> None:
    assert chosen() == ["exact", "drawn", "second", "first"]
    assert chosen("path=ot") == ["drawn", "first"]  # the samples of such a run too
    assert chosen("path=vp") == ["exact", "second"]
    assert chosen("lr=0.001") == chosen("lr=1e-3") == [*chosen("run.seed=0"), "first"] == ["drawn", "first"]
    assert chosen("seed=0,1") == ["exact", "second", "first"]
    assert chosen("seed=0,1", "path=vp", "verb=sample") == ["exact"]
    assert chosen("sigma=.5") == chosen("sampler.sigma=0.5") == chosen("sampler=e?") == ["drawn"]
    assert chosen("date=2026-05-04") == chosen("date=2026-05-*") == chosen()
    assert chosen("state=stopped") == chosen("tag=b") == ["second"]
    assert chosen("base") == chosen("glob(bas*)") == chosen("b*") == ["first"]
    assert chosen(f"outputs/sample/{DAY}/*") == chosen("outputs/sample") == ["exact", "drawn"]
    own = id_of(there["second"])
    assert chosen(own) == chosen(own[:5]) == ["second"]
    assert chosen("run=base") == chosen(f"run={id_of(there['first'])}") == ["drawn"]
    assert chosen("latest") == ["exact"]
    assert chosen("latest", verb="train") == ["first"]  # the newest that is finished
    assert chosen("latest", "verb=train") == ["first"] and chosen("latest", "verb=t*,sample") == ["exact"]
    assert chosen("seed=[0,1]") == chosen("seed=0,1") and chosen("tag=[b,c]") == ["second"]
    assert chosen("base", "latest", own) == ["exact", "second", "first"]  # together, each once


def test_latest_is_of_any_folder_under_outputs(there: dict[str, Path]) -> None:
    """A study's training, a sweep's, one of a folder of its own; the time of its end counts, and only fields do."""
    assert latest() == there["first"]
    for age, where in enumerate(
        (f"study/{DAY}/10-00-00-000001/train/0", "mine", f"train/{DAY}/10-00-00-000009-sweep/3")
    ):
        place = Path("outputs", where)
        shutil.copytree(there["first"], place)
        os.utime(place / "summary.json", (4e9 + age, 4e9 + age))
        assert latest() == place
    for name, content in (("config.json", '{"format": 4, "verb": "sample", "config": {}}'), ("summary.json", "")):
        (place / name).write_text(content)
        os.utime(place / "summary.json", (5e9, 5e9))
        assert latest() == Path("outputs/mine")


def test_latest_names_a_run_that_was_stopped(there: dict[str, Path]) -> None:
    """Its checkpoints can be gone on with, or sampled as they are; a run without any cannot."""
    for place in there.values():
        (place / "summary.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=f"'{there['second']}' was stopped: .*diffsde train run={there['second']}"):
        latest()
    for name in ("first", "second"):
        shutil.rmtree(there[name] / "checkpoints")
    with pytest.raises(UserError, match=r"run `diffsde train` first"):
        latest()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "'nothing' matches no run: no folder, id or name"),
        (["bse"], r"did you mean 'base'"),
        (["pth=ot"], r"pth=ot matches no run: none has pth \(did you mean 'path'\?\)"),
        (["path=sqrt"], "path=sqrt matches no run; there path is ot, vp"),
        (["sweep=x"], r"none has sweep$"),
        (["date=2025-01-01"], f"there date is {DAY}$"),
        (["no*thing"], "no folder or name matches it"),
        (["empty"], "'empty' holds no run"),
    ],
)
def test_words_that_match_nothing_are_refused(here: Path, words: list[str], message: str) -> None:
    some()
    (here / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        select(words)


def test_two_folders_of_one_id_are_said(there: dict[str, Path]) -> None:
    """A copy of a folder has the id of the first; a prefix may be of several."""
    kept = json.loads((there["first"] / "config.json").read_text())
    for folder in ("first", "second"):
        (there[folder] / "config.json").write_text(json.dumps(kept | {"provenance": {"id": "kkkkkkk"}}))
    with pytest.raises(UserError, match=r"'kkkkkkk' is the id of 2 runs: .*10-00-00"):
        select(["kkkkkkk"])
    with pytest.raises(UserError, match="'kkkk' is how the ids begin of 2 runs"):
        select(["kkkk"])


def test_states(there: dict[str, Path]) -> None:
    def state(name: str) -> str:
        record = read_record(there[name])
        assert record is not None
        return record.state

    assert [state(name) for name in there] == ["whole", "stopped", "whole", "whole"]
    with locks.held(there["second"]):
        assert state("second") == "running"
    (there["second"] / "error.json").write_text('{"error": "the loss became nan"}')
    assert state("second") == "failed"
    # given more steps: its summary is of fewer
    (there["first"] / "summary.json").write_text('{"steps": 10, "metric": {"name": "loss"}, "loss": {"value": 1}}')
    assert state("first") == "stopped"


@pytest.mark.parametrize("text", ["{", "[]"])
def test_folders_of_any_condition(here: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Half-written, of another version, a sweep's refused job: each has a record; what is no JSON of ours is left out, with a line."""
    half = Path("outputs/sample", DAY, "09-00-00-000001")
    half.mkdir(parents=True)
    (half / ".lock").touch()
    broken = make("10-00-00-000001", summary={})
    (broken / "config.json").write_text(text)
    old = make("11-00-00-000001", path={"name": "ot"})
    (old / "config.json").write_text('{"format": 1, "verb": "train", "config": {"path": {"name": "seven"}}}')
    sweep = Path("outputs/train", DAY, "12-00-00-000001-sweep")
    (sweep / "0").mkdir(parents=True)
    (sweep / ".lock").touch()
    (sweep / "sweep.json").write_text('{"verb": "train", "words": ["lr=-1"]}')
    (sweep / "0" / "error.json").write_text('{"error": "lr is -1; it must be positive", "overrides": ["lr=-1"]}')
    found = {record.folder.name: record for record in select([])}
    assert {name: (each.verb, each.state) for name, each in found.items()} == {
        half.name: ("sample", "stopped"),
        old.name: ("train", "whole"),
        "0": ("train", "failed"),
    }
    assert (
        found["0"].sweep == sweep and found["0"].words == {"lr": "-1"} and found["0"].date == f"{DAY}T12:00:00.000001"
    )
    assert read_record(sweep) is None and [each.folder.name for each in select([str(sweep)])] == ["0"]
    capsys.readouterr()
    assert main(["runs"]) == 0
    said = capsys.readouterr()
    assert id_of(broken) not in said.out and said.err.count("is left out: it is no JSON of ours") == 1


def test_a_folder_is_a_folder_whatever_it_is_called(there: dict[str, Path]) -> None:
    for name in ("path=vp", "latest"):
        there["first"].rename(name)
        (record,) = select([name])
        assert record.name == "base"
        there["first"] = Path(name).rename(there["first"])


def test_the_run_that_was_sampled_from_is_found_where_both_were_moved(there: dict[str, Path]) -> None:
    (drawn,) = select([str(there["drawn"])])
    assert (theirs := trained(drawn)) and theirs.folder == there["first"]
    assert trained(read_record(there["exact"]) or drawn) is None
    Path("elsewhere").mkdir()
    Path("outputs").rename("elsewhere/outputs")
    (drawn,) = select(["elsewhere/outputs/sample", "sampler=em"])
    theirs = trained(drawn)
    assert theirs is not None and theirs.name == "base"
    shutil.rmtree(theirs.folder)
    assert trained(drawn) is None


def test_a_run_that_was_moved_is_found_by_its_id(
    there: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under outputs/ whatever folder, from one look for all jobs; of what is nowhere a line says so, once."""
    for name in ("first", "drawn"):
        kept = json.loads((there[name] / "config.json").read_text())
        about = {"id": id_of(there["first"])} if name == "first" else {"used": {"run": id_of(there["first"])}}
        (there[name] / "config.json").write_text(json.dumps(kept | {"provenance": about}))
    second = Path(shutil.copytree(there["drawn"], "outputs/sample/again"))
    looked: list[Path] = []
    walk = records.folders
    monkeypatch.setattr(records, "folders", lambda where: looked.append(where) or walk(where))
    moved = there["first"].rename(Path("outputs", "kept"))
    found = select(["path=ot"])
    assert {each.folder for each in found} == {moved, there["drawn"], second}
    assert len(looked) == 2  # all records, and once the ids
    moved.rename(moved.with_name("another"))
    assert main(["runs"]) == 0
    said = capsys.readouterr()
    assert said.out.count("run=base path=ot") == 2 and said.err == ""
    shutil.rmtree("outputs/another")
    assert main(["runs"]) == 0
    said = capsys.readouterr()
    assert said.err.count("is gone") == 1 and str(there["first"]) in said.err and said.err.count("\n") == 1


def test_the_table(there: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures with error and reference; what all share stands once; markup and control letters are text; lines fit."""
    kept = json.loads((there["first"] / "config.json").read_text())
    kept["config"]["name"] = "[red]<b>\x1b[2J"
    (there["first"] / "config.json").write_text(json.dumps(kept))
    for letters in (80, 160):
        monkeypatch.setenv("COLUMNS", str(letters))
        assert main(["runs"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= letters and "\x1b" not in "".join(lines)
        assert any("w2 0.500 +- 0.020 (floor 0.300)" in line for line in lines)
        assert any("[red]<b>\\x1b[2J" in line for line in lines)
        assert any(f"run={'[red]<b>'}" in line and "path=ot" in line for line in lines)
    assert main(["runs", "path=ot", "n=1"]) == 0
    out = capsys.readouterr().out
    assert id_of(there["drawn"]) in out and id_of(there["first"]) not in out and "1 older ones are not listed" in out
    assert main(["runs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in listed] == [id_of(there[name]) for name in ("exact", "drawn", "second", "first")]
    assert listed[1]["run"] == id_of(there["first"]) and listed[2]["tags"] == ["a", "b"]


def test_the_two_laws_of_a_job_are_two_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """source=, which Hydra keeps as dataset@source=, stands beside dataset= whichever was typed first; so does a law inside either."""
    typed = ["dataset=moons", "dataset@source=8gaussians", "dataset@source.drawn_from=gmm"]
    for i, words in enumerate((typed, typed[::-1])):
        make(f"10-00-00-00000{i}", words=words)
    assert main(["runs", "--json"]) == 0
    for each in json.loads(capsys.readouterr().out):
        assert each["words"] == {"dataset": "moons", "source": "8gaussians", "source.drawn_from": "gmm"}
    assert main(["train", "source=moons,gmm"]) == 2
    assert "source=moons,gmm is a list of values" in capsys.readouterr().err


def test_no_outputs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0 and "no runs under 'outputs' yet" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0 and json.loads(capsys.readouterr().out) == []
    assert main(["runs", "path=ot"]) == 2


@pytest.mark.parametrize("verb", PLAIN)
def test_every_plain_verb(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its module has main; help, overview and completion know it; an unknown option is refused in one line."""
    before = set(sys.modules)
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"diffsde {verb}: ") and all(f"{key}=" in said for key in PLAIN[verb].knobs)
    assert main(["--help"]) == 0 and PLAIN[verb].purpose in capsys.readouterr().out
    assert main([verb, "--optoin"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'--optoin' is not an option" in error
    assert f"{verb} " in completion.completions(config_folder(), VERBS, (), f"diffsde {verb[:2]}")
    assert not {name for name in set(sys.modules) - before if name.startswith(PLAIN[verb].module)}
    assert all(command.startswith(f"diffsde {verb}") for command, _ in PLAIN[verb].examples)
    assert callable(getattr(__import__(PLAIN[verb].module, fromlist=["main"]), "main"))  # noqa: B009


def test_a_plain_verb_that_is_misspelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runz"]) == 2 and "did you mean 'runs'?" in capsys.readouterr().err


def test_completion_knows_names_and_ids(there: dict[str, Path]) -> None:
    found = completion.completions(config_folder(), VERBS, (), "diffsde runs ba")
    assert found == ["base "]
    own = records.newest_first(records.every())[0].id
    assert f"{own} " in completion.completions(config_folder(), VERBS, (), f"diffsde runs {own[:2]}")
    assert completion.completions(config_folder(), VERBS, (), "diffsde sample run=ba") == ["run=base"]


def test_folders_without_end_are_left_out(
    there: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning, in whatever order they lie; what holds too many itself is refused. The tab key says nothing of either."""
    for i in range(80):
        Path(f"outputs/many/{i % 4}/{i}").mkdir(parents=True)
    known = {each.folder for each in records.every()}
    monkeypatch.setattr("diffsde.runs.record.MOST_FOLDERS", 40)
    capsys.readouterr()
    assert {each.folder for each in records.every()} == known
    assert "'outputs/many' holds more than 40 folders that are no run's" in capsys.readouterr().err
    for i in range(80):
        Path(f"outputs/{i}").mkdir()
    assert main(["runs"]) == 2 and "'outputs' holds more than 40 folders" in capsys.readouterr().err
    monkeypatch.setenv("COMP_LINE", "diffsde runs la")
    assert main([]) == 0
    shown = capsys.readouterr()
    assert "latest " in shown.out and not shown.err


def folders_of(key: str, value: str, sweeping: bool = False, verb: str = "sample") -> list[str]:
    found = run_words.named(verb, key, value, sweeping)
    return [value] if found is None else found.folders


def test_what_names_a_run(there: dict[str, Path]) -> None:
    """As run=, guide=, init= and samples= take it: of several -m takes each, of what is unfinished a folder or an id alone."""
    third = make("14-00-00-000001", path={"name": "ot"}, seed=2, name="base")
    first, second, drawn, third_place = map(str, (there["first"], there["second"], there["drawn"], third))
    for value in ("latest", "oracle", "null", "${x}", first, "choice(a,b)"):
        assert folders_of("run", value) == [value]
    assert folders_of("run", id_of(there["second"])) == [second]  # as its folder would be
    assert folders_of("run", "seed=2") == folders_of("run", "'path=ot seed=2'"[1:-1]) == [third_place]
    assert (
        folders_of("run", "path=ot,vp", sweeping=True)
        == folders_of("run", "base", sweeping=True)
        == [first, third_place]
    )
    assert folders_of("run", "outputs/train", sweeping=True) == folders_of("run", "glob(bas*)", sweeping=True)
    assert folders_of("run", "latest,seed=2", sweeping=True) == ["latest", third_place]
    assert folders_of("samples", "sampler=em") == [drawn]
    assert folders_of("init", id_of(third)) == [third_place]
    assert folders_of("run", "state=stopped", verb="train") == [second]


@pytest.mark.parametrize(
    ("verb", "word", "message"),
    [
        (
            "sample",
            "run=path=ot",
            r"run=path=ot is 2 runs; -m takes each of them: diffsde sample -m run=path=ot; the newest is run=",
        ),
        ("train", "run=base", r"run=base is 2 runs; the newest is run="),
        ("sample", "run=outputs/train", r"is 2 runs; -m takes each"),
        ("sample", "run=state=stopped", r"none of the 1 that it matches is a folder of finished runs"),
        ("sample", "run=verb=sample", r"is a job of sample; run= takes one of train"),
        (
            "sample",
            "run=bse",
            r"there is no folder 'bse', and no id or name \(did you mean 'base'\?\); give a run folder, an id",
        ),
        ("sample", "run=pth=ot", r"run: pth=ot matches no run: none has pth \(did you mean 'path'\?\)"),
        ("evaluate", "samples=run.path=vp", r"samples: run.path=vp matches no run; there run.path is ot"),
    ],
)
def test_what_names_no_run_is_refused_in_a_line(there: dict[str, Path], verb: str, word: str, message: str) -> None:
    make("14-00-00-000001", path={"name": "ot"}, seed=2, name="base")
    key, _, value = word.partition("=")
    with pytest.raises(UserError, match=message) as refused:
        folders_of(key, value, verb=verb)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("name=latest", "name is 'latest'; it must be a word of its own"),
        ("name=a*", "with none of ="),
        ("tag=[a,b/c]", "tag[1] is 'b/c'"),
    ],
)
def test_a_name_can_be_taken_for_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str], word: str, wrong: str
) -> None:
    assert main(["train", word]) == 2
    error = capsys.readouterr().err
    assert wrong in error and error.count("\n") == 1 and list(here.iterdir()) == []


def test_a_knob_left_to_the_sampler_is_not_the_runs(there: dict[str, Path]) -> None:
    """steps=null of samples is chosen for them, and keep=null is all, whatever training had; dataset=null is the run's."""
    config = {"run": str(there["first"]), "steps": None, "keep": None, "path": None}
    there["auto"] = make("14-00-00-000001", "sample", summary={"metrics": {}}, **config)
    assert chosen("steps=20") == ["drawn", "first"] and chosen("path=ot") == ["auto", "drawn", "first"]
    assert chosen("steps=null") == ["auto"]


def test_a_folder_of_another_verb_is_said_to_be_that(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what to give in its place, which is not another version's folder."""
    of_run, of_law = make("1", "sample", run="outputs/a"), make("2", "sample", run="oracle")
    trained = make("3")
    for words, said in {
        f"sample run={of_run}": f"run: '{of_run}' is a sample, of run=outputs/a; run= takes a training run",
        f"train run={of_run}": f"run: '{of_run}' is a sample, of run=outputs/a; run= takes a training run",
        f"sample run={of_law}": f"run: '{of_law}' is a sample, and run= takes a training run",
        f"evaluate samples={trained}": f"'{trained}' is a training run, and samples= takes a sample; take run={trained}",
    }.items():
        assert main(words.split()) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_wrong_number_or_word_of_a_run_is_said_with_its_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for config, said in ({"steps": "many"}, "steps is 'many'"), ({}, "dataset is missing"):
        run = make("1", **config)
        assert main(["train", f"run={run}"]) == 2
        assert f"run: '{run / 'config.json'}': {said}" in capsys.readouterr().err
        shutil.rmtree(run)


def test_a_finished_run_without_checkpoints_is_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make("1", steps=5, run=None)
    (run / "summary.json").write_text(json.dumps({"steps": 5}))
    config = read_config(run)
    assert claim(run, "train", config)
    assert f"diffsde rerun {run} trains it again" in capsys.readouterr().err
    (run / "checkpoints" / "5").mkdir()
    assert claim(run, "train", config) and capsys.readouterr().err == ""
