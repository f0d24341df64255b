"""Words as newcomers type them: each refusal is a line, and the word that it shows to type is one that works."""

from __future__ import annotations

import re
import shlex
import typing
from pathlib import Path

import numpy as np
import pytest

from diffsde import knobs
from diffsde.build import table
from diffsde.cli import word_forms
from diffsde.cli.from_python import config_of
from diffsde.cli.job import config_folder
from diffsde.cli.main import composed, main
from diffsde.datasets.dataset import Dataset
from diffsde.errors import UserError

# The words after `diffsde sample`, and the words that the message shows in their place.
ADVISED = {
    "steps 5": "steps=5", "steps =5": "steps=5", "steps = 5": "steps=5", "steps= 5": "steps=5", "'steps 5'": "steps=5",
    "steps:5": "steps=5", "steps:=5": "steps=5", "steps==5": "steps=5", "--steps=5": "steps=5", "--steps 5": "steps=5",
    "-steps=5": "steps=5", "--batch-size 5": "", "Steps:5": "steps=5", "ot": "path=ot", "path:ot": "path=ot", "path=ot,": "path=ot",
    "steps=5,": "steps=5", "steps=1,000": "steps=1000", "--name='my run'": "'name=my run'", "name 'a b'": "'name=a b'",
    "x.npy": "dataset=array dataset.file=x.npy", ".": "run=.", "'path=ot steps=5'": "path=ot steps=5",
    "grid=list grid.times=[0,1,]": "'grid.times=[0,1]'", "'my x.npy'": "dataset=array 'dataset.file=my x.npy'",
}  # fmt: skip


@pytest.mark.parametrize("line", ADVISED)
def test_the_word_that_a_refusal_shows_is_one_that_works(line: str, here: Path) -> None:
    for name in ("x.npy", "my x.npy"):
        np.save(here / name, np.zeros((2, 2)))
    with pytest.raises(UserError) as refused:
        word_forms.read(config_folder(), "sample", shlex.split(line), sweeping=False)
    message = str(refused.value)
    assert message.count("\n") == 0
    if advice := ADVISED[line]:
        assert re.search(rf"write (two: )?{re.escape(advice)}($|[,;])", message), message
        words = shlex.split(advice)
        assert word_forms.read(config_folder(), "sample", words, sweeping=False) == words


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("~steps", "leave the word out"),
        ("path=", "a group needs one of its choices: bridge, cosine"),
        ("path=None", "a group needs one of its choices: bridge, cosine"),
        ("hydra.run.dir=", "'hydra.run.dir=' has no value"),
        ("sigma=0,5", "a decimal point is a dot, sigma=0.5"),
        ("–m", "begins with '–', which is no hyphen; type -m"),
        ("path=“ot”", "has the quotes of a page"),
        ("dataset= moons", "write dataset=moons, without a blank"),
        ("dataset=", "a group needs one of its choices"),
        ("--cfg", "--cfg needs a value: --cfg job"),
        ("--cfg jobs", "--cfg 'jobs' (did you mean 'job'?)"),
        ("--config-dir", "--config-dir needs a value"),
        ("-help", "did you mean '--help'?"),
        ("=ot", "'=ot' is not key=value"),
        ("net.widths[0]=3", "'net.widths[0]' is not a key; a list is given whole"),
        ("path@=ot", "'path@' is not a key"),
        ("1=2", "'1' is not a key"),
        ("''", "'' is not key=value"),
        ("train", "it is a verb"),
        ("'a\x1b[31m'", "'a\\x1b[31m' is not key=value"),
    ],
)
def test_refused_in_a_line(line: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", *shlex.split(line)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(here.iterdir())


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("+steps=5", "steps=5"),
        ("++path.beta_t=1-t", "path.beta_t=1-t"),
        ("steps = 5", "steps=5"),
        ("steps=−5", "steps=-5"),
        ("z=[−1.5,2]", "z=[-1.5,2]"),
        ("steps=None", "steps=null"),
        ("name=a – b", "name=a – b"),
        ("grid.times=0,1", "grid.times=0,1"),
        ("dataset.means=0,1", "dataset.means=0,1"),
        ("sampler@sampler.predictor=em", "sampler@sampler.predictor=em"),
        ("hydra.job.env_set.A_B=1", "hydra.job.env_set.A_B=1"),
        ("hydra/launcher=batch", "hydra/launcher=batch"),
        ("run=path=ot seed=0", "run=path=ot seed=0"),
        ("path.beta_t=", "path.beta_t="),
        ("hydra.job.x=", None),
    ],
)
def test_read_where_it_is_unambiguous(typed: str, read: str | None) -> None:
    if read is None:
        with pytest.raises(UserError):
            word_forms.read(config_folder(), "sample", [typed], sweeping=False)
    else:
        assert word_forms.read(config_folder(), "sample", [typed], sweeping=False) == [read]


def test_of_two_words_for_a_key_the_last_counts_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["steps=5", "path=ot", "steps=6", "path=ot"]
    assert word_forms.read(config_folder(), "sample", words, sweeping=False) == words
    assert capsys.readouterr().out == "steps=5 is replaced by steps=6, which follows it\n"
    word_forms.read(config_folder(), "sample", ["--cfg", "job", *words], sweeping=False)
    assert capsys.readouterr().out == ""


def test_notes_are_no_part_of_an_error_nor_of_a_config(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "objective=epsilon", "stepz=5"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == "objective=epsilon is called objective=noise here\n"
    assert main(["train", "objective=epsilon", "--cfg", "job"]) == 0
    assert "is called" in capsys.readouterr().err


def test_the_newest_run_in_quotes_or_in_capital_letters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "run='latest'"]) == 2
    assert "no trained run under 'outputs'" in capsys.readouterr().err
    assert main(["sample", "run=LATEST"]) == 2
    assert "(did you mean 'latest'?)" in capsys.readouterr().err


def test_commas_part_the_values_of_a_sweep() -> None:
    words = ["-m", "sigma=0,5", "steps=1,100"]
    assert word_forms.read(config_folder(), "sample", words, sweeping=True) == words


@pytest.mark.parametrize(
    "word", ["seed=range(0,3", "batch_size=[1", "steps=${seed", "steps=${steps}", "steps=${oc.env:NOPE}"]
)
def test_what_cannot_be_read_is_shown(word: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", word]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1, error


def test_a_variable_of_no_key_and_the_very_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The word that the message shows is read as the file's own name."""
    for word in ("steps=${x}", "dataset.file=${x}.npy"):
        assert main(["train", "dataset=array", word]) == 2
        error = capsys.readouterr().err
        assert "there is no key x" in error and error.count("\n") == 1, error
    (advice,) = shlex.split(error.rpartition("the very text is ")[2])
    assert composed("train", ["dataset=array", advice])["dataset"]["file"] == "${x}.npy"
    assert main(["train", "dataset=array", "dataset.file=a${.npy"]) == 2
    (advice,) = shlex.split(capsys.readouterr().err.rpartition("the very text is ")[2])
    assert composed("train", ["dataset=array", advice])["dataset"]["file"] == "a${.npy"
    assert composed("train", ["steps=${log_every}"])["steps"] == composed("train", [])["log_every"]


def test_the_home_folder_in_every_knob_that_names_a_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(here))
    found = composed("train", ["dataset=array", "dataset.file=~/x.npy", "dataset.test=~/y.npy", "cache_dir=~/c"])
    assert (found["dataset"]["file"], found["cache_dir"]) == (f"{here}/x.npy", f"{here}/c")
    assert found["dataset"]["test"] == f"{here}/y.npy"
    python = config_of("train", {"dataset": {"name": "array", "file": "~/x.npy", "key": "~"}})
    assert (python["dataset"]["file"], python["dataset"]["key"]) == (f"{here}/x.npy", "~")
    for cls in table(Dataset).values():
        assert {*cls.FILES} <= {*knobs.FILES}, cls
    capsys.readouterr()
    assert main(["train", "hydra.run.dir=~/a", "--cfg", "hydra"]) == 0
    assert f"dir: {here}/a" in capsys.readouterr().out


def test_every_option_is_one_of_hydras() -> None:
    from hydra._internal.utils import get_args_parser

    theirs = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    for option in (*word_forms.ALONE, *word_forms.WITH_VALUE):
        assert option in theirs
        assert (theirs[option].nargs == 0) == (option in word_forms.ALONE)
    for option, words in word_forms.WITH_VALUE.items():
        assert typing.cast("typing.Any", theirs[option].choices or ()) in (words, [*words], ())
