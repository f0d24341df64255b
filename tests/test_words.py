"""Words as people type them, quoted for the shell alone, and folders with any name."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from diffsde.cli import spelling
from diffsde.cli.main import config_folder, main

QUICK = ["steps=2", "batch_size=32", "net.widths=[8]"]
DRAW = ["n=9", "steps=2", "plots=false"]


def meant(word: str, sweeping: bool, verb: str = "train") -> list[object]:
    """What Hydra reads of a word once it is spelled for it: a value, or the choices of a sweep."""
    override = OverridesParser.create().parse_override(spelling.quoted(config_folder(), verb, word, sweeping))
    if not override.is_sweep_override():
        return [override.value()]
    return list(override.sweep_iterator(transformer=lambda value: getattr(value, "text", value)))


TEXT = [
    "sqrt(1-t)", "1-t**2", "sin(pi*t/2)", "(1-t)*(1+t)", "exp(-t)", "t^2", "my data (1).csv", "a,b.csv", "r[/b]z",
    "[red].npy", "{a}.npy", "a=b.csv", "it's.csv", 'say "x" (1).csv', "größe.csv", "~/x.csv", "a#b;c&d.csv", "1e5", "007",
    "back\\slash (1).csv", "ends(1)\\", "a'b,c", "1.50", "true", "x y", "50%.csv",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXT)
def test_text_means_itself(text: str) -> None:
    for key in ("dataset.file", "path.beta_t", "hydra.run.dir"):
        if key == "hydra.run.dir" and text.startswith("~"):  # the home folder
            continue
        assert [str(value) for value in meant(f"{key}={text}", False)] == [text]
    if "," not in text:  # each choice of a sweep, too
        other = "sqrt(1-t)"
        assert [str(value) for value in meant(f"dataset.file={text},{other}", True)] == [text, other]


@pytest.mark.parametrize(
    ("word", "sweeping", "values"),
    [
        ("path.beta_t=sqrt(1-t),1-t,pow(t,2)", True, ["sqrt(1-t)", "1-t", "pow(t,2)"]),
        ("dataset.file=a (1).csv,[b,c].csv", True, ["a (1).csv", "[b,c].csv"]),
        ("dataset.file='a,b',c", True, ["a,b", "c"]),
        ("hydra.sweep.dir=a,b (1)", True, ["a,b (1)"]),
        ("net.activation=choice(silu,relu)", True, ["silu", "relu"]),
        ("lr=0.1,0.2", True, [0.1, 0.2]),
        ("seed=range(0,3)", True, [0, 1, 2]),
        ("labels=[0,1]", False, [[0, 1]]),
        ("dataset.file='x y'", False, ["x y"]),
        ('path.alpha_t="t**2"', False, ["t**2"]),
        ("hydra.run.dir=out/${now:%Y}", False, ["out/${now:%Y}"]),
        ("run=null", False, [None]),
    ],
)
def test_words_that_hydra_reads_as_meant_keep_their_meaning(word: str, sweeping: bool, values: list[object]) -> None:
    assert meant(word, sweeping) == values


@pytest.mark.parametrize("word", ["path=ot", "lr=1e-3", "steps=5", "lr=interval(0.1,0.2)", "+x=sqrt(t)", "~path.beta_t",
                                  "path.rate_min=[", "++path.beta_t=sqrt(t)", "-m", "dataset=glob(*)"])  # fmt: skip
def test_other_words_are_left_as_they_are(word: str) -> None:
    assert spelling.quoted(config_folder(), "train", word, True) == word


def test_every_text_of_every_verb_is_known_as_one() -> None:
    """Against the types in the code: of each field that holds text the spelling knows that it may be text."""
    import typing

    from diffsde.build import GROUPS, table
    from diffsde.runs.machine import Machine
    from diffsde.runs.sample_config import SampleConfig
    from diffsde.runs.train_config import TrainConfig
    from diffsde.verbs import evaluate

    def texts(cls: type, prefix: str) -> set[str]:
        hints = typing.get_type_hints(cls)
        return {prefix + name for name, hint in hints.items() if hint is str or hint == str | None}

    for verb, classes in {
        "train": [Machine, TrainConfig],
        "sample": [Machine, SampleConfig],
        "evaluate": evaluate.PARTS,
    }.items():
        known = spelling._defaults(config_folder(), verb)
        assert set().union(*(texts(cls, "") for cls in classes)) <= known.keys()
        for kind, group in GROUPS.items():
            if any(key.startswith(f"{group}.") for key in known):
                assert set().union(*(texts(cls, f"{group}.") for cls in table(kind).values())) <= known.keys()


@pytest.mark.slow
def test_the_published_path_as_it_is_typed(here: Path) -> None:
    """Quoted for the shell alone; it is the built-in sqrt path: alpha = t, beta = sqrt(1-t)."""
    words = ["path=expression", "path.alpha_t=t", "path.beta_t=sqrt(1-t)", *QUICK, "hydra.run.dir=my run (1), [a]"]
    assert main(["train", *words]) == 0
    run = here / "my run (1), [a]"
    assert json.loads((run / "config.json").read_text())["config"]["path"]["beta_t"] == "sqrt(1-t)"
    assert main(["train", "path=sqrt", *QUICK, "hydra.run.dir=plain"]) == 0
    ours, theirs = (
        json.loads((place / "summary.json").read_text())["loss"]["value"] for place in (run, here / "plain")
    )
    assert ours == pytest.approx(theirs, rel=1e-5)
    np.savetxt(here / "my data (1), b.csv", np.random.default_rng(0).normal(size=(50, 2)), delimiter=",")
    assert main(["train", "dataset=array", "dataset.file=my data (1), b.csv", *QUICK, "hydra.run.dir=x=y"]) == 0
    assert (here / "x=y" / "summary.json").exists()
    sweep = ["path=expression", "path.beta_t=sqrt(1-t),1-t,(1-t)*(1+t)", *QUICK, "hydra.sweep.dir=a sweep (2)"]
    assert main(["train", "-m", *sweep]) == 0
    kept = [json.loads((here / "a sweep (2)" / job / "config.json").read_text())["config"]["path"] for job in "012"]
    assert [path["beta_t"] for path in kept] == ["sqrt(1-t)", "1-t", "(1-t)*(1+t)"]


def test_plus_and_tilde_still_get_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("+path.alpha=sqrt(t)", "++path.alpha=t", "+nonsense=1", "~nonsense"):
        assert main(["train", word, *QUICK]) == 2, word
        assert capsys.readouterr().err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs under every sort of name, and what else lies about there."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("run 2", "run 10", "a, b=c (1)"):
            assert main(["train", *QUICK, f"hydra.run.dir=all/{name}"]) == 0
        assert main(["train", "objective=classifier", *QUICK, "hydra.run.dir=all/judge"]) == 0
        assert main(["train", "-m", "seed=0,1", *QUICK, "hydra.sweep.dir=all/sweep"]) == 0
    (place / "all" / "begun").mkdir()
    (place / "all" / "begun" / "config.json").write_text((place / "all" / "run 2" / "config.json").read_text())
    (place / "all" / "notes.txt").write_text("x")
    return place


def drawn_from(sweep: Path) -> list[str]:
    jobs = sorted((path for path in sweep.iterdir() if path.is_dir()), key=lambda path: int(path.name))
    return [json.loads((job / "config.json").read_text())["config"]["run"] for job in jobs]


@pytest.mark.slow
def test_glob_takes_the_runs_among_its_matches(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(runs)
    assert main(["sample", "-m", "run=glob(all/*)", *DRAW, f"hydra.sweep.dir={tmp_path}/one"]) == 0
    assert drawn_from(tmp_path / "one") == ["all/a, b=c (1)", "all/run 2", "all/run 10"]
    assert "run=glob(all/*): 3 runs, 4 other matches left out" in capsys.readouterr().out
    assert (
        main(
            [
                "evaluate",
                "-m",
                "run=glob(all/sweep/*)",
                "metrics=[distance]",
                *DRAW[:2],
                f"hydra.sweep.dir={tmp_path}/two",
            ]
        )
        == 0
    )
    assert drawn_from(tmp_path / "two") == ["all/sweep/0", "all/sweep/1"]
    words = ["run=all/run 2", "guide=glob([all/run*,all/a*],exclude=*10)", "guidance=1.5", *DRAW]
    assert main(["sample", "-m", *words, f"hydra.sweep.dir={tmp_path}/three"]) == 0
    guides = {json.loads(path.read_text())["config"]["guide"] for path in (tmp_path / "three").glob("*/config.json")}
    assert guides == {"all/run 2", "all/a, b=c (1)"}
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "-m", "samples=glob(one/*)", "metrics=[distance]", "hydra.sweep.dir=judged"]) == 2
    assert "there is no folder 'all/" in capsys.readouterr().err  # their runs are named as they lay
    monkeypatch.chdir(runs)
    words = [
        "evaluate",
        "-m",
        f"samples=glob({tmp_path}/one/*)",
        "metrics=[distance]",
        f"hydra.sweep.dir={tmp_path}/again",
    ]
    assert main(words) == 0
    assert len(drawn_from(tmp_path / "again")) == 3


def test_glob_without_m_or_without_a_match(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(runs)
    assert main(["sample", "run=glob(all/run 1*)", *DRAW, f"hydra.run.dir={tmp_path}/one"]) == 0
    assert json.loads((tmp_path / "one" / "config.json").read_text())["config"]["run"] == "all/run 10"
    capsys.readouterr()
    for line, says in {
        "sample|run=glob(all/run*)": "is 2 runs; -m takes each of them: diffsde sample -m 'run=glob(all/run*)'",
        "sample|-m|run=glob(none/*)": "it matches nothing",
        "sample|-m|run=glob(all/n*)": "none of the 1 that it matches is a folder of finished runs",
        "evaluate|-m|samples=glob(all/*)": "a folder of finished sample folders",
        "train|run=glob(all/*)": "it cannot be combined with glob(all/*)",
        "train|-m|run=glob(all/*)": "it cannot be combined with glob(all/*)",
    }.items():
        assert main(line.split("|")) == 2, line
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, error
    assert not (runs / "outputs").exists()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("[red], 'a' (1)", "r[/b]z", "a b $HOME", ":smile: #1")],
)
def test_the_next_command_works_when_it_is_pasted(name: str, here: Path) -> None:
    """As a terminal shows it, to a shell of its own."""
    command = [sys.executable, "-m", "diffsde"]
    line = shlex.join([*command, "train", *QUICK, f"hydra.run.dir={name}"])
    code = (
        "from diffsde.runs import progress; from diffsde.cli.main import main; import sys, shlex;"
        "progress.on_terminal = lambda: True; sys.exit(main(shlex.split(sys.argv[1])[3:]))"
    )
    wide = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run([sys.executable, "-c", code, line], capture_output=True, text=True, env=wide)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout and (here / name / "summary.json").exists()
    (shown,) = [text for text in done.stdout.splitlines() if " next " in text]
    pasted = shown[shown.index("diffsde sample") :].rstrip("│┃ ") + " n=9 steps=2 plots=false"
    again = subprocess.run(
        pasted.replace("diffsde", shlex.join(command), 1), shell=True, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    (drawn,) = (here / "outputs").glob("sample/*/*/config.json")
    assert json.loads(drawn.read_text())["config"]["run"] == name


@pytest.mark.parametrize(
    ("word", "sweeping", "spelled"),
    [
        ("pictures=film,marginals", False, "pictures=[film,marginals]"),
        ("pictures=film", False, "pictures=film"),
        ("pictures=film,none", True, "pictures=film,none"),
        ("metrics=frechet", False, "metrics=[frechet]"),
        ("metrics=frechet", True, "metrics=[frechet]"),
        ("metrics=[frechet,balls]", False, "metrics=[frechet,balls]"),
        ("metrics=null", False, "metrics=null"),
        ("n=1,2", False, "n=1,2"),
    ],
)
def test_lists_of_names_as_they_are_typed(word: str, sweeping: bool, spelled: str) -> None:
    assert spelling.listed(word, sweeping) == spelled


def test_words_of_before_still_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Under their name of now, which is said."""
    words = spelling.hydra_words(config_folder(), "sample", ["measurements=3", "n=4"], sweeping=False)
    assert words == ["n_measurements=3", "n=4"]
    assert capsys.readouterr().out == "measurements= is called n_measurements= now\n"
