"""What a run is judged by, from the command line: where the data is found, what its number is called, what it costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.evaluation import features
from diffsde.metrics.classifier import Recipe
from diffsde.verbs import sample

SMALL = "net.widths=[8] steps=4 batch_size=16 pictures=none threads=1".split()


@pytest.mark.slow
def test_a_run_judged_by_its_samples_goes_on_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of its file is relative to the folder that it was begun in."""
    np.save("own.npy", np.random.default_rng(0).standard_normal((64, 2)))
    words = ["dataset=array", "dataset.file=own.npy", "metric=w2", "optimizer.schedule=constant", "hydra.run.dir=run"]
    assert main(["train", *SMALL, *words]) == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["train", f"run={os.path.join('..', 'run')}", "steps=8", "threads=1"]) == 0
    assert json.loads((here / "run/summary.json").read_text())["steps"] == 8


@pytest.mark.slow
def test_the_classifier_of_a_metric_is_trained_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint is scored by it."""
    trained, train = [], features.train
    monkeypatch.setattr(features, "Recipe", lambda: Recipe(steps=2))
    monkeypatch.setattr(features, "train", lambda *words: trained.append(words) or train(*words))
    words = (
        "dataset=digits net=mlp metric=frechet best=true checkpoint_every=2 cache_dir=kept hydra.run.dir=run".split()
    )
    assert main(["train", *SMALL, *words]) == 0
    assert len(trained) == 1 and list((here / "kept/classifiers").glob("digits-*.npz"))


@pytest.mark.slow
def test_a_distance_from_a_target_is_not_called_by_the_name_of_the_figure(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The least is the best of metric=cross_entropy: how far the cross-entropy is from the entropy. So too in a sweep."""
    assert main(["train", "-m", "seed=0,1", *SMALL, "metric=cross_entropy", "hydra.sweep.dir=sweep"]) == 0
    said = capsys.readouterr().out
    metric = json.loads((here / "sweep/0/summary.json").read_text())["metric"]
    assert metric["name"] == "cross_entropy_gap" and f"cross entropy gap  {metric['value']:.4f}" in said
    assert "best     cross entropy gap" in said and "guided" not in said


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("metrics=[mode_weight_kl,w2] labels=all", "mode_weight_kl"),
        ("metrics=[w2,label_probability]", "label_probability"),
    ],
)
def test_a_figure_that_was_named_is_found_or_refused(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, missing: str
) -> None:
    drawn = "evaluate run=oracle dataset=gmm path=ot sampler=euler steps=2 n=20 threads=1".split()
    assert main([*drawn, *words.split()]) == 2
    assert f"metrics: {missing} is not available" in capsys.readouterr().err


def test_a_batch_writes_a_job_before_it_copies_the_next(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host holds the arrays of one job at a time."""
    written, arrays = [], sample.sample_arrays

    def counted(*words: Any) -> dict[str, Any]:
        written.append(len(list(here.glob("sweep/*/summary.json"))))
        return arrays(*words)

    monkeypatch.setattr(sample, "sample_arrays", counted)
    words = "run=oracle dataset=gmm path=ot sampler=euler steps=2 n=20 threads=1 hydra.sweep.dir=sweep".split()
    assert main(["sample", "-m", *words, "seed=0,1,2", "hydra/launcher=batch", "hydra.launcher.together=vmap"]) == 0
    assert written == [0, 1, 2]
