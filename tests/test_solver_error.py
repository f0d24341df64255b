"""The sampler's own error on Gaussian data: against a linear recursion in numpy, against samples, and its advice run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.datasets import DATASETS
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.mixture import CustomMixture, Ring
from diffsde.datasets.toys import Moons
from diffsde.paths import GAUSSIAN, PATHS
from diffsde.samplers import SAMPLERS, LoopSettings, simulate_compiled, times
from diffsde.samplers.corrector import Langevin
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import AutoGrid, LogSNRGrid, UniformGrid
from diffsde.samplers.loop import prior
from diffsde.samplers.ode import Heun
from diffsde.solver_error import SamplingPlan, data_stds, of_std, std_ratios
from diffsde.solver_remedies import resolve_grid, solver_error

OT = PATHS["ot"]()
KEY = jax.random.key(0)


def heun_on_ot(std: float, at: np.ndarray) -> float:
    """Heun's method on x' = a(t) x, a = (t s^2 - (1 - t))/(t^2 s^2 + (1 - t)^2), from x = 1: x/s at the end."""
    a = (at * std**2 - (1 - at)) / (at**2 * std**2 + (1 - at) ** 2)
    h = np.diff(at)
    return abs(float(np.prod(1 + h / 2 * (a[:-1] + a[1:] * (1 + h * a[:-1]))))) / std


@pytest.mark.parametrize("steps", [50, 250])
def test_an_ode_is_its_linear_recursion(steps: int) -> None:
    stds = (0.001, 0.05, 1.0, 7.1414, 100.0, 1000.0)
    expected = [heun_on_ot(std, np.linspace(0, 1, steps + 1)) for std in stds]
    found = std_ratios(SamplingPlan(Heun(), UniformGrid(), steps, "mean"), OT, stds)
    np.testing.assert_allclose([each.ratio for each in found], expected, rtol=2e-3)
    if steps == 250:
        np.testing.assert_allclose(expected[-1], 0.354, atol=5e-4)  # what a user's samples had


CASES = [
    (name, last, path, start)
    for name in ("em", "exponential", "stochastic_heun", "reverse_diffusion", "edm", "dpmpp_2m_sde", "pc", "ald")
    for last, path, start in (("mean", "ot", 0.05), ("denoise", "vp", 0.0), ("step", "trig", 0.02))
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last", "path", "start"), CASES)
def test_the_predicted_std_is_that_of_samples(name: str, last: str, path: str, start: float) -> None:
    """In 12 steps, which are wrong: 20,000 samples of N(0, s^2) by `simulate`, from where they start, have the std that is said."""
    sampler, chosen, n = SAMPLERS[name](), PATHS[path](), 20_000
    grid = UniformGrid(start, 0.98)
    at = times(grid, 12, chosen)
    for std, said in zip(
        (0.3, 4.0), std_ratios(SamplingPlan(sampler, grid, 12, last), chosen, (0.3, 4.0)), strict=True
    ):
        data = std * jax.random.normal(jax.random.key(3), (n, 1)) if start else None
        x0 = prior(chosen, at[0], (1,), jax.random.key(1), n, data)
        x = simulate_compiled(
            sampler, of_std(chosen, jnp.asarray(std)), x0, at, jax.random.key(2), settings=LoopSettings(last)
        ).x
        end = np.hypot(float(chosen.alpha(at[-1])) * std, float(chosen.beta(at[-1])))
        ratio = float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2))) / end
        assert abs(ratio - said.ratio) < 4 * ratio / np.sqrt(2 * n) + 1e-4


@pytest.mark.parametrize("name", ["dpmpp_3m", "unipc"])
def test_a_method_with_memory_is_linear_too(name: str) -> None:
    """On Gaussian data it takes x to a x: one sample, by `simulate`, ends where the recursion says, to rounding."""
    grid, x0 = UniformGrid(0.05, 0.98), jnp.ones((1, 1))
    said = std_ratios(SamplingPlan(SAMPLERS[name](), grid, 9, "mean"), OT, (0.3, 4.0))
    for each in said:
        field = of_std(OT, jnp.asarray(each.std))
        x = simulate_compiled(SAMPLERS[name](), field, x0, times(grid, 9, OT), KEY).x
        begin, end = (np.hypot(t * each.std, 1 - t) for t in (0.05, 0.98))
        assert abs(float(x[0, 0])) * begin / end == pytest.approx(each.ratio, rel=1e-4)


def test_the_stds_of_data(tmp_path: Path) -> None:
    """Coordinates, the axes of the whole and of the parts; none of a constant column; of images one."""
    ring = data_stds(Ring(), KEY)
    assert min(ring) == pytest.approx(1.0) and max(ring) == pytest.approx(np.sqrt(51), rel=1e-4)
    turned = CustomMixture(((0.0, 0.0),), stds=None, covariances=(((5.0, 4.0), (4.0, 5.0)),))
    np.testing.assert_allclose(sorted({round(std, 3) for std in data_stds(turned, KEY)}), np.sqrt([1, 5, 9]), atol=1e-3)
    moons = data_stds(Moons(), KEY)
    assert moons[0] == pytest.approx(0.05) and moons[-1] == pytest.approx(0.868, abs=0.02)
    random = np.random.default_rng(0)
    columns = random.normal(size=(500, 3)) * [1e-3, 0, 1e3]
    np.save(tmp_path / "points.npy", columns)
    found = data_stds(ArrayFile(str(tmp_path / "points.npy"), standardise=False), KEY)
    np.testing.assert_allclose(found, columns.std(axis=0)[[0, 2]], rtol=1e-4)
    np.testing.assert_allclose(data_stds(ArrayFile(str(tmp_path / "points.npy")), KEY), 1, rtol=1e-6)
    images = random.integers(0, 256, (50, 4, 4, 1), np.uint8)
    images[:, 0, 0] = 0
    images[0, 0, 0] = 1  # a pixel of std 0.001
    np.save(tmp_path / "images.npy", images)
    (one,) = data_stds(ArrayFile(str(tmp_path / "images.npy")), KEY)
    assert 0.4 < one < 0.7


@pytest.mark.parametrize("path", [name for name in GAUSSIAN if name != "expression"])
def test_the_grid_is_uniform_for_data_of_usual_scale(path: str) -> None:
    for stds in ((1.0, 7.1414), (0.5623, 3.58), (0.3, 1.0)):
        assert resolve_grid(AutoGrid(0.01, 0.99), PATHS[path](), stds, "mean") == UniformGrid(0.01, 0.99)


@pytest.mark.parametrize("path", ["ot", "trig", "sqrt", "cosine"])
@pytest.mark.parametrize("std", [1000.0, 0.001])
def test_the_grid_follows_the_scale_of_the_data(path: str, std: float) -> None:
    """Where times that are multiples of 2^-24 can reach it: 1 - t ~ std^2 on sqrt and cosine cannot at 0.001."""
    if std < 1 and path in ("sqrt", "cosine"):
        pytest.skip("no grid of float32 times resolves it")
    grid = resolve_grid(AutoGrid(), PATHS[path](), (std,), "mean")
    assert isinstance(grid, LogSNRGrid)
    (said,) = std_ratios(SamplingPlan(Heun(), grid, 250, "mean"), PATHS[path](), (std,))
    assert abs(said.ratio - 1) < 0.01
    if path == "ot":  # by the recursion in numpy too
        assert abs(heun_on_ot(std, np.asarray(times(grid, 250, OT), np.float64)) - 1) < 0.01


def test_langevin_is_said_to_stay_behind(x64: None) -> None:
    """Held at t = 0.9 its samples have the std of p_0.9, sqrt(0.82) of N(0, 1), and no grid or number of steps mends that."""
    said = str(solver_error(SamplingPlan(Langevin(Constant(0.5)), UniformGrid(), 250, "mean"), OT, (1.0,)))
    assert "samples would have 0.9" in said and "sampler=heun mends that" in said


MIXTURE = "dataset=mixture 'dataset.means=[[0,0]]' 'dataset.stds=[{std}]' path=ot"


def warned(error: str) -> tuple[float, str]:
    """The ratio that is said, and the words that mend it."""
    found = re.search(r"samples would have (\S+) times that.*; (.*) mends that", error)
    assert found, error
    return float(found[1]), found[2]


def stds_of(folder: Path) -> np.ndarray:
    with np.load(folder / "samples.npz") as archive:
        return archive["x"].std(axis=0)


@pytest.mark.parametrize("std", [1000.0, 100.0, 0.001])
def test_the_default_is_right_at_any_scale(
    std: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """N(0, s^2 I) on ot, the exact field and every default: 10,000 samples have the data's std, within 4 standard errors."""
    monkeypatch.chdir(tmp_path)
    words = f"sample run=oracle {MIXTURE.format(std=std)} plots=false hydra.run.dir=out"
    assert main(shlex.split(words)) == 0
    out, error = capsys.readouterr()
    np.testing.assert_allclose(stds_of(Path("out")) / std, 1, atol=4 / np.sqrt(20_000))
    assert error == ""
    assert "grid=log_snr low=" in out
    assert json.loads(Path("out/summary.json").read_text())["grid"]["name"] == "log_snr"


ADVICE = [
    (1000.0, "grid=uniform"),
    (1000.0, "grid=uniform steps=50"),
    (0.001, "grid=uniform"),
    (1000.0, "grid=uniform sampler=em"),
    (1.0, "sampler=euler steps=8"),
    (0.05, "sampler=em"),
    (0.05, "sampler=euler grid.start=0.01 grid.end=0.999 steps=10"),
    (30.0, "grid=list 'grid.times=[0,0.5,1]'"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("std", "words"), ADVICE)
def test_the_advice_mends_it(
    std: float, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The samples are as wrong as is said, and with the words of the message within 3% and the scatter of 10,000."""
    monkeypatch.chdir(tmp_path)
    command = f"sample run=oracle {MIXTURE.format(std=std)} plots=false {words} "
    assert main(shlex.split(command + "hydra.run.dir=wrong")) == 0
    ratio, mend = warned(capsys.readouterr().err)
    np.testing.assert_allclose(stds_of(Path("wrong")) / std, ratio, rtol=0.03)
    kept = [
        word
        for word in shlex.split(command)
        if word.partition("=")[0] not in {w.partition("=")[0] for w in mend.split()}
    ]
    if "grid=" in mend:
        kept = [word for word in kept if not word.startswith(("grid.times", "grid="))]
    assert main([*kept, *mend.split(), "hydra.run.dir=right"]) == 0
    assert "solver" not in capsys.readouterr().err
    np.testing.assert_allclose(stds_of(Path("right")) / std, 1, atol=0.03 + 4 / np.sqrt(20_000))


def test_explain_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(f"explain {MIXTURE.format(std=1000.0)} grid=uniform steps=250")) == 0
    assert warned(capsys.readouterr().out)[0] == pytest.approx(0.354, abs=1e-3)
    assert main(shlex.split(f"explain {MIXTURE.format(std=1000.0)}")) == 0
    out = capsys.readouterr().out
    assert "nothing speaks against it" in out and "grid=log_snr" in out


@pytest.mark.slow
def test_train_says_it_of_the_default_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = "train net.widths=[8] steps=2 batch_size=8 log_every=1 "
    assert main(shlex.split(train + MIXTURE.format(std=1e7))) == 0
    error = capsys.readouterr().err
    assert "by default: the solver's own error" in error and "scale the data" in error
    assert main(shlex.split(train + MIXTURE.format(std=1000.0))) == 0
    assert "solver" not in capsys.readouterr().err


QUIET = [
    "dataset=gmm path=vp sampler=heun steps=20",
    "dataset=gmm path=ot sampler=em",
    "dataset=gmm path=sqrt sampler=em steps=299 last=step",
    "dataset=8gaussians path=ot",
    "dataset=digits path=ot n=100",
]


@pytest.mark.slow
@pytest.mark.parametrize("words", QUIET)
def test_usual_commands_do_not_warn(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "digits" in words:
        pytest.importorskip("sklearn")
    assert words.split()[0].partition("=")[2] in DATASETS
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(f"sample run=oracle n=200 plots=false {words}")) == 0
    assert capsys.readouterr().err == ""
