"""diffsde simulate on the command line: what it writes and says, and what it refuses."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.processes.linear import OU
from diffsde.processes.process import Start

SMALL = "simulate process=ou theta=0.7 sigma=0.9 x0=3.0 t_end=2.0 steps=40 n=500"


def say(line: str) -> int:
    return main(shlex.split(line))


def test_what_a_simulation_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(f"{SMALL} save_every=10 keep=7 pictures=all hydra.run.dir=out") == 0
    x, way = np.load("out/samples.npz")["x"], np.load("out/trajectory.npz")
    assert x.shape == (500, 1) and way["x"].shape == (5, 7, 1)
    np.testing.assert_allclose(way["times"], [0, 0.5, 1, 1.5, 2], rtol=1e-6)
    np.testing.assert_array_equal(way["x"][-1], x[:7])
    np.testing.assert_array_equal(way["x"][0], 3)
    summary = json.loads(Path("out/summary.json").read_text())
    figures, process, start = summary["metrics"], OU(0.7, 0.0, 0.9), Start(np.array(3.0), np.zeros(()))
    assert figures["mean"]["value"] == pytest.approx(x.mean(), rel=1e-5)
    assert figures["variance"]["value"] == pytest.approx(x.var(ddof=1), rel=1e-5)
    assert figures["mean_t0.5"]["exact"] == pytest.approx(float(process.mean(0.5, start)))
    assert figures["autocovariance_t1_t2"]["exact"] == pytest.approx(float(process.covariance(1.0, 2.0, start)))
    assert summary["steps"] == 40 and summary["nfe"] == 40
    assert {path.name for path in Path("out/plots").iterdir()} == {"paths.png", "law.png", "autocorrelation.png"}
    said = capsys.readouterr().out
    assert "mean at t=0.5" in said and "40 of 0.05 to t=2 by em, weak order 1" in said


def test_a_last_step_keeps_its_noise(here: Path) -> None:
    assert say("simulate process=brownian n=400 steps=1 pictures=none hydra.run.dir=out") == 0
    assert np.load("out/samples.npz")["x"].std() == pytest.approx(1, abs=0.15)


def test_starts_are_points_in_turn_or_draws_of_a_dataset(here: Path) -> None:
    words = "simulate process=brownian sigma=0 sampler=euler n=5 steps=2 pictures=none"
    assert say(f"{words} 'x0=[[-1],[4]]' hydra.run.dir=turn") == 0
    np.testing.assert_array_equal(np.load("turn/samples.npz")["x"][:, 0], [-1, 4, -1, 4, -1])
    assert say(f"{words} 'x0=[1,2,3]' hydra.run.dir=point") == 0
    np.testing.assert_array_equal(np.load("point/samples.npz")["x"], [[1, 2, 3]] * 5)
    assert say(f"{words} source=gaussian 'source.mean=[100,0]' source.std=0.1 hydra.run.dir=law") == 0
    np.testing.assert_allclose(np.load("law/samples.npz")["x"], [[100, 0]] * 5, atol=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("process=expression drift=-x", "drift is not known (did you mean 'process.drift'?)"),
        ("process=ou sampler=heun", "sampler=heun solves an ODE, but this process has noise"),
        ("process=ou sampler=ddim", "sampler=ddim needs a field on a path"),
        ("process=geometric_brownian sampler=stochastic_heun", "Stratonovich"),
        ("process=expression process.diffusion=x sampler=stochastic_heun", "Stratonovich"),
        ("process=expression sigma=1", "process=expression has none; it has process.drift, process.diffusion"),
        ("process=brownian theta=1", "theta is 1, but process=brownian has none; it has process.sigma, process.mu"),
        ("process=ou sigma=0.5 process.sigma=0.7", "sigma=0.5 and process.sigma=0.7 set one number and disagree"),
        ("process=ou 'sigma=[1,2]' 'process.sigma=[1,3]'", "set one number and disagree"),
        ("process=ou 'sigma=[1,2]' 'theta=[1,2,3]'", "lists of 2 and 3 numbers"),
        ("process=ou 'sigma=[1,2]' 'x0=[1,2,3]'", "x0 has points of 3 coordinates, but the process is of 2"),
        ("process=ou diffusion=memoryless", "diffusion= is of the generative SDE of a field"),
        ("process=ou dataset=gmm", "dataset: of the processes langevin alone has one"),
        ("process=langevin dataset=moons", "process=langevin needs a density"),
        ("x0=3 source=gaussian", "give one of them"),
        ("source=gaussian source.std=-1", "source.std is -1; it must be positive"),
        ("'x0=[[1],[2,3]]'", "x0 must be a number, a list of numbers, or a list of points"),
        ("x0=here", "x0 is 'here'; it must be a number"),
        ("keep=3", "keep says of how many paths"),
        ("t_end=0", "t_end is 0; it must be positive"),
        ("pictures=[film]", "'film' is not a picture of paths on a line"),
        ("process=expression process.drift=y", "'y' in 'y' is unknown"),
        ("process=brown", "'brown' is not a choice (did you mean 'brownian'?)"),
    ],
    ids=lambda words: words[:50],
)
def test_what_is_refused(words: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(f"simulate {words}") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not Path("outputs").exists()


def test_a_step_that_is_too_long_is_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say("simulate process=ou theta=5 x0=1 steps=2 n=50 pictures=none hydra.run.dir=out") == 0
    said = capsys.readouterr()
    assert "em is unstable above 2: take steps=10 or more" in said.out + said.err


def test_slow_mixing_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "dataset=gmm dataset.components=5 source=gaussian source.std=8 t_end=10 n=200 steps=200"
    assert say(f"simulate process=langevin {words} pictures=[film,law] hydra.run.dir=out") == 0
    said = capsys.readouterr().out
    assert "slow mixing" in said and "mode weight kl" in said and "changes its mode" in said
    assert {path.name for path in Path("out/plots").iterdir()} == {"cloud.gif", "law.png"}


def test_a_sweep_is_one_picture_and_as_one_program_the_same_paths(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "simulate -m process=ou theta=0.5,2 sigma=0.5,1 n=30 steps=16"
    assert say(f"{words} hydra.sweep.dir=each") == 0
    assert say(f"{words} hydra/launcher=batch hydra.launcher.together=vmap hydra.sweep.dir=one") == 0
    assert "for 4 jobs at once" in capsys.readouterr().out
    for job in range(4):
        one, each = (np.load(f"{where}/{job}/samples.npz")["x"] for where in ("one", "each"))
        np.testing.assert_allclose(one, each, atol=1e-5)
        assert not Path(f"each/{job}/plots").exists()
    assert Path("each/paths.png").exists()


def test_what_nothing_is_known_of_has_figures_by_coordinate(here: Path) -> None:
    """An angle and a velocity have no mean in common: x1 moves by 1 in unit time, x2 by 3."""
    words = ["process=expression", "process.drift=[1,3]", "process.diffusion=[0,0]", "sampler=euler", "x0=[0,0]"]
    assert main(["simulate", *words, "n=4", "steps=8", "pictures=none", "hydra.run.dir=out"]) == 0
    found = json.loads((here / "out" / "summary.json").read_text())["metrics"]
    assert found["mean_x1"]["value"] == pytest.approx(1, rel=1e-6)
    assert found["mean_x2"]["value"] == pytest.approx(3, rel=1e-6) and "mean" not in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("process.drift=1/x x0=0", "the drift is not a finite number at the start x0=[0.]"),
        ("process.drift=x**2 process.diffusion=0 sampler=euler x0=2 t_end=3", "or an earlier t_end"),
    ],
)
def test_what_is_infinite_is_named(words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "process=expression", *words.split(), "n=5"]) == 2
    assert message in capsys.readouterr().err


def test_paths_that_grow_have_no_autocorrelation_time(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "theta=100", "steps=20", "n=50", "pictures=none", "hydra.run.dir=out"]) == 0
    assert "em is unstable" in capsys.readouterr().err
    assert not any("autocorrelation" in name for name in json.loads((here / "out/summary.json").read_text())["metrics"])
