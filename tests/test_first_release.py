"""Run folders of earlier versions: those in data/first_release stay readable, and those of a later version are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.cli.sweeps import unfinished_sweep
from diffsde.errors import UserError
from diffsde.runs import folder, formats
from diffsde.runs.restore import read_train_config, restore

STORED = Path(__file__).parent / "data" / "first_release"


@pytest.fixture
def stored(here: Path) -> Path:
    """A working directory with copies of the stored folders."""
    shutil.copytree(STORED, here, dirs_exist_ok=True)
    return here


@pytest.mark.parametrize("version", [1, 4])
def test_a_stored_network_gives_the_velocities_of_the_code_that_wrote_it(version: int) -> None:
    """velocities.json was computed by that code (data/README.md)."""
    place = STORED / f"format-{version}"
    then = json.loads((place / "velocities.json").read_text())
    field = restore(place)[1]
    now = jax.vmap(field.velocity)(*(jnp.asarray(then[name], jnp.float32) for name in ("x", "t")))
    assert np.asarray(now) == pytest.approx(np.array(then["velocity"]), rel=1e-4, abs=1e-4)


def test_of_another_format_a_checkpoint_without_a_checksum_is_damaged(stored: Path) -> None:
    content = json.loads((stored / "format-1" / "config.json").read_text())
    (stored / "format-1" / "config.json").write_text(
        json.dumps(content | {"format": 4, "net": content["config"]["net"]})
    )
    with pytest.raises(UserError, match=r"20' is damaged"):
        restore(stored / "format-1")


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 4])
def test_stored_networks_are_sampled_and_evaluated(version: int, stored: Path) -> None:
    """With the samples' seed and words as they were: the numbers drawn may differ, the law may not."""
    drawn = ["n=64", "steps=4", "sampler=em", "sigma=0.5", "pictures=none"]
    assert main(["sample", f"run=format-{version}", *drawn, "hydra.run.dir=again"]) == 0
    ours, theirs = (
        json.loads((stored / place / "summary.json").read_text())["metrics"]["cross_entropy"]
        for place in ("again", f"samples-{version}")
    )
    assert ours["value"] == pytest.approx(theirs["value"], abs=4 * theirs["error"])
    words = ["n=64", "steps=4", "metrics=[cross_entropy,kl]", "hydra.run.dir=judged"]
    assert main(["evaluate", f"run=format-{version}", *words]) == 0
    assert json.loads((stored / "judged" / "summary.json").read_text())["metrics"]["kl"]["value"] > 0


@pytest.mark.parametrize("version", [1, 4])
def test_stored_folders_are_judged_compared_and_listed(
    version: int, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, drawn = f"format-{version}", f"samples-{version}"
    assert main(["evaluate", f"samples={drawn}", "metrics=[cross_entropy]", "hydra.run.dir=judged"]) == 0
    now, then = (
        json.loads((stored / place / "summary.json").read_text())["metrics"]["cross_entropy"]["value"]
        for place in ("judged", drawn)
    )
    assert now == pytest.approx(then, rel=1e-4)
    capsys.readouterr()
    assert main(["compare", run, "pictures=false"]) == 0
    assert main(["compare", drawn, "pictures=false"]) == 0
    assert main(["runs", run, drawn]) == 0
    said = capsys.readouterr().out
    assert "1 job of train" in said and "1 job of sample" in said and "net.widths=[16]" in said


def test_training_goes_on_where_it_means_the_same(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (stored / "format-4" / "metrics.jsonl").read_text()
    assert main(["train", "run=format-4", "steps=21", "pictures=none"]) == 0
    assert json.loads((stored / "format-4" / "summary.json").read_text())["steps"] == 21
    assert (stored / "format-4" / "metrics.jsonl").read_text().startswith(before)
    there = read_train_config(stored / "format-4")
    assert there.steps == 21 and there.posterior_points == 0  # which there were none of
    capsys.readouterr()
    assert main(["train", "run=format-1", "steps=21"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "cannot be resumed" in said and said.endswith("train init=format-1")


def test_folders_of_a_later_version_are_refused(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = formats.FORMAT + 1
    for place in ("format-4", "samples-4"):
        kept = json.loads((stored / place / "config.json").read_text())
        (stored / place / "config.json").write_text(json.dumps(kept | {"format": newer}))
    for words in (
        ["sample", "run=format-4", "n=4"],
        ["evaluate", "run=format-4"],
        ["evaluate", "samples=samples-4"],
        ["train", "run=format-4"],
        ["train", "init=format-4"],
        ["show", "what=field", "run=format-4"],
        ["rerun", "format-4"],
        ["compare", "format-4"],
        ["report", "format-4", "out=page"],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if not line.startswith("warning:")]
        assert len(lines) == 1 and f"a newer diffsde (format {newer}" in said, (words, said)
    assert main(["runs", "format-4", "samples-1"]) == 0
    said = capsys.readouterr()
    assert f"a newer diffsde (format {newer}" in said.err and "Traceback" not in said.err
    assert not (stored / "outputs").exists() and not (stored / "page").exists()


@pytest.mark.parametrize("content", [{"format": True}, {"format": "4"}, {"format": 0}, {"format": 4.5}, {}, [], None])
def test_what_is_no_format_is_not_read(content: object) -> None:
    assert not formats.is_readable(content) and not formats.too_new(content)


def test_runs_of_other_weights_are_neither_gone_on_with_nor_repeated(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By no command that would find the folder itself: its first steps had other losses than its next would have."""
    place = folder.OUTPUTS / "train/2026-01-01/10-00-00-000000"
    shutil.copytree(stored / "format-4", place)
    summary = (place / "summary.json").rename("summary.json")
    content = json.loads((place / "config.json").read_text())
    config = formats.in_format_of_now(content)["config"]
    assert folder.unfinished("train", config) == place and not folder.claim(place, "train", config)
    (place / "config.json").write_text(json.dumps(content | {"format": 3}))
    assert folder.unfinished("train", config) is None
    with pytest.raises(UserError, match=r"cannot be resumed: .* weighted otherwise \(format 3\)"):
        folder.claim(place, "train", config)
    sweep = folder.OUTPUTS / "train/2026-01-01/11-00-00-000000-sweep"
    shutil.copytree(place, sweep / "0")
    (sweep / "sweep.json").write_text('{"verb": "train", "words": []}')
    assert unfinished_sweep("train", []) is None
    shutil.move(summary, place / "summary.json")
    assert main(["rerun", str(place)]) == 2
    assert "cannot be repeated: it was begun by a diffsde whose losses" in capsys.readouterr().err


def test_runs_of_other_weights_are_no_seeds_of_one_row(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor are samples of them."""
    for i, version in enumerate((4, 4, 3)):
        for name in ("format-4", "samples-4"):
            place = stored / f"{name}-{i}"
            shutil.copytree(stored / name, place)
            kept = json.loads((place / "config.json").read_text())
            kept["config"]["seed"] = i if name == "format-4" else 0
            if name == "samples-4":
                kept["config"]["run"] = str(stored / f"format-4-{i}")
            else:
                kept["format"] = version
            (place / "config.json").write_text(json.dumps(kept))
    for name in ("format-4", "samples-4"):
        assert main(["compare", *(f"{name}-{i}" for i in range(3)), "pictures=false"]) == 0
        said = capsys.readouterr().out
        assert "auto (format 3)" in said and "objective.weight" in said, said
