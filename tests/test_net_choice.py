"""What net=auto chose is said once and kept with the run; and what a run says that has learnt too little."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from diffsde.cli.main import composed, main
from diffsde.nets import MLP, auto
from diffsde.runs.train_config import train_choices
from diffsde.verbs import train_setup
from diffsde.verbs.train_setup import linear_baseline, prepare, unlearnt

QUICK = ["steps=4", "batch_size=32", "log_every=2", "threads=1"]
MIXTURE = ["dataset=mixture", "dataset.means=[[-1.0],[2.0]]", "dataset.stds=[0.3,0.5]"]


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_net_is_said_once_and_kept_with_the_run(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """config.json has it, and sampling and going on take it from there, whatever auto would choose by then."""
    random = np.random.default_rng(0)
    np.save("points.npy", random.normal(size=(640, 6)).astype(np.float32))
    words = ["train", "dataset=array", "dataset.file=points.npy", *QUICK, "hydra.run.dir=run"]
    assert main(words) == 0
    said = one_line(capsys.readouterr().out)
    assert said.count("net: mlp (widths [32, 32], ") == 1 and "gated_skip 6), for 640 points of shape (6,)" in said
    kept = json.loads(Path("run/config.json").read_text())
    assert kept["net"] == {
        "name": "mlp", "widths": [32, 32], "activation": "gelu", "time_frequencies": 4, "space_frequencies": 0, "gated_skip": 6,
    }  # fmt: skip
    assert kept["config"]["net"]["name"] == "auto"
    monkeypatch.setattr(auto, "fitting_mlp", lambda dimension, points: MLP((7,)))
    assert main(["sample", "run=run", "n=10", "steps=2", "plots=false", "threads=1"]) == 0
    Path("run/summary.json").unlink()  # as if it had been stopped
    assert main(words) == 0
    assert "net: mlp" not in capsys.readouterr().out


def test_a_run_of_an_older_version_is_refused_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Format 3 recorded no net."""
    assert main(["train", *MIXTURE, *QUICK, "net.widths=[4]", "hydra.run.dir=run"]) == 0
    kept = json.loads(Path("run/config.json").read_text())
    del kept["net"]
    Path("run/config.json").write_text(json.dumps(kept | {"format": 3}))
    capsys.readouterr()
    assert main(["sample", "run=run", "threads=1"]) == 2
    assert "does not say which net net=auto chose" in one_line(capsys.readouterr().err)


def test_the_linear_baseline_is_the_floor_of_gaussian_data(here: Path) -> None:
    """Of one component of any covariance no network is better than a linear one; and of its points, by their own
    covariance.
    """
    covariance = [[4.0, 1.0, 0.0], [1.0, 1.0, 0.2], [0.0, 0.2, 0.25]]
    words = ["dataset=mixture", "dataset.means=[[1,2,3]]", "dataset.stds=null", f"dataset.covariances=[{covariance}]"]
    chosen = train_choices(composed("train", [*words, "net.widths=[4]", "path=trig"]))
    run, _ = prepare(chosen)
    floor = train_setup.known_floor(run, chosen.dataset)
    linear = linear_baseline(run)
    assert floor is not None and linear == pytest.approx(floor[0], rel=0.01)
    points = np.random.default_rng(0).multivariate_normal([1, 2, 3], covariance, 16_000)
    np.save("points.npy", points.astype(np.float32))
    words = [
        "dataset=array",
        "dataset.file=points.npy",
        "net.widths=[4]",
        "path=trig",
        f"objective.weight={run.problem.objective.weight}",
    ]  # type: ignore[attr-defined]
    run, _ = prepare(train_choices(composed("train", [*words, "dataset.standardise=false"])))
    assert linear_baseline(run) == pytest.approx(linear, rel=0.02)


@pytest.mark.parametrize(
    ("loss", "floor", "linear", "says"),
    [
        (1.480, 1.379, 2.94, "the loss 1.48 is above its floor 1.379; 6% of what a linear predictor"),
        (1.389, 1.379, 2.94, None),
        (0.505, 0.5, 0.5, "the loss 0.505 is above its floor 0.5; train longer"),
        (0.501, 0.5, 0.5, None),
        (1.1, None, 1.0, "worse than that of the best linear predictor, 1; train longer"),
        (0.99, None, 1.0, "nothing beyond the data's mean and covariance"),
        (0.97, None, 1.0, None),
        (9.0, None, None, None),
    ],
)
def test_what_a_loss_says(loss: float, floor: float | None, linear: float | None, says: str | None) -> None:
    """Too little learnt is one line that names the loss, what it is held against, and what mends it; else nothing."""
    found = unlearnt(loss, floor, linear, MLP((4, 8)))
    if says is None:
        assert found is None
    else:
        assert found is not None and says in found and "net.widths=[8,16]" in found and "\n" not in found


@pytest.mark.slow
def test_the_advice_for_a_loss_above_its_floor(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hardly trained, a tiny net says so; with the widths that it names and more steps it no longer does."""
    small = ["train", *MIXTURE, "net.widths=[32]", "batch_size=256", "threads=1"]
    assert main([*small, "steps=20", "hydra.run.dir=little"]) == 0
    said = one_line("".join(capsys.readouterr()))
    assert "is above its floor" in said
    (widths,) = re.findall(r"net\.widths=\[[\d,]+\]", said)
    assert widths == "net.widths=[64]"
    assert main([*small, widths, "steps=2000", "hydra.run.dir=more"]) == 0
    assert "above its floor" not in one_line("".join(capsys.readouterr()))


def components(dimension: int) -> list[str]:
    """Four of them, stds 0.4 to 1, means N(0, 2^2)."""
    means = 2 * np.random.default_rng(0).normal(size=(4, dimension))
    return ["dataset=mixture", f"dataset.means={means.round(4).tolist()}", "dataset.stds=[0.4,0.6,0.8,1.0]"]


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "most", "probe"), [(20, 0.05, "exact"), (50, 0.2, "rademacher")])
def test_the_default_run_learns_many_dimensions(
    here: Path, capsys: pytest.CaptureFixture[str], dimension: int, most: float, probe: str
) -> None:
    """KL(p || p_theta) of four components after the default run, and no warning of too little learnt."""
    assert main(["train", *components(dimension), "hydra.run.dir=run"]) == 0
    assert "above its floor" not in one_line("".join(capsys.readouterr()))
    words = ["evaluate", "run=run", "metrics=[likelihood]", f"probe={probe}", "hydra.run.dir=judged"]
    assert main(words) == 0
    kl = json.loads(Path("judged/summary.json").read_text())["metrics"]["kl"]
    assert kl["value"] < most and kl["error"] < most / 2


@pytest.mark.slow
def test_a_table_of_few_rows_is_not_learnt_by_heart(here: Path) -> None:
    """2000 rows of 100 correlated columns: the covariance of as many samples is as far from the law's as that of other
    rows is, within a half, and samples are no nearer to the rows than new rows are.
    """
    random = np.random.default_rng(3)
    factors = random.normal(size=(100, 20)) / np.sqrt(20)
    covariance = factors @ factors.T + 0.1 * np.diag(random.uniform(0.5, 2, 100))
    std = np.sqrt(np.diag(covariance))
    law = covariance / np.outer(std, std)
    root = np.linalg.cholesky(law)
    rows, others = (random.normal(size=(2000, 100)) @ root.T for _ in range(2))
    np.save("table.npy", rows.astype(np.float32))
    assert main(["train", "dataset=array", "dataset.file=table.npy", "hydra.run.dir=run"]) == 0
    assert main(["sample", "run=run", "n=2000", "plots=false", "hydra.run.dir=drawn"]) == 0
    x = np.load("drawn/samples.npz")["x"]

    def away(points: np.ndarray) -> float:
        return float(np.linalg.norm(np.cov(points.T) - law))

    def nearest(points: np.ndarray) -> float:
        return float(np.median([np.sqrt(np.min(((rows - point) ** 2).sum(1))) for point in points[:300]]))

    assert away(x) < 1.5 * away(others)
    assert nearest(x) > 0.97 * nearest(others)


def test_chosen_net_follows_the_stream_too(here: Path) -> None:
    """A stream counts its rows on the disk, not the part that is in memory: the same net either way."""
    pytest.importorskip("grain")
    np.save("points.npy", np.random.default_rng(0).normal(size=(3200, 6)).astype(np.float32))
    nets = []
    for stream in ("true", "false"):
        words = ["dataset=array", "dataset.file=points.npy", f"dataset.stream={stream}"]
        chosen = train_choices(composed("train", words))
        nets.append(train_setup.prepare_with(chosen, None).net)
    assert nets[0] == nets[1] == MLP((50, 50), space_frequencies=0, gated_skip=6)
