"""Where samples start: in noise at the path's start, in p_t inside it."""

from __future__ import annotations

import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures
from diffsde.cli.main import main
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.mixture import CustomMixture, Ring
from diffsde.datasets.toys import Moons
from diffsde.metrics.mixture import mixture_figures
from diffsde.paths import PATHS
from diffsde.samplers.loop import prior

OT, KEY = PATHS["ot"](), jax.random.key(3)


@pytest.mark.parametrize(("path", "std"), [("ve", 50), ("edm", 80), ("ot", 1)])
def test_at_the_path_s_own_start_it_is_the_published_prior(path: str, std: float) -> None:
    """N(0, beta(0)^2), whatever the data: of ve std 50 (2011.13456, appendix C), of edm 80 (2206.00364, table 1)."""
    x = np.asarray(prior(PATHS[path](), jnp.asarray(0.0), (2,), KEY, 20_000))
    np.testing.assert_allclose(x.std(axis=0), std, rtol=4 / np.sqrt(40_000))
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=4 * std / np.sqrt(20_000))


@pytest.mark.parametrize("path", ["ot", "vp"])
def test_inside_it_is_p_t(path: str) -> None:
    """The cross-entropy of the points under the exact p_t is its entropy, by a sample from the mixture itself."""
    chosen, t, n = PATHS[path](), jnp.asarray(0.9), 20_000
    data = Ring()
    x = prior(chosen, t, (2,), KEY, n, data.draw_by_index(data.load(), KEY, n))
    alpha, beta = chosen.alpha(t), chosen.beta(t)
    mixture = data.mixture()
    law = mixture._replace(means=alpha * mixture.means, variances=alpha**2 * mixture.variances + beta**2)
    found, true = (mixture_figures(law, each) for each in (x, mixtures.sample(law, jax.random.key(9), n)))
    error = np.hypot(found.cross_entropy_error, true.cross_entropy_error)
    assert abs(found.cross_entropy - true.cross_entropy) < 4 * error
    assert found.within_mode_std == pytest.approx(1, abs=4 / np.sqrt(4 * n))
    assert found.mode_weight_kl < 30 / (2 * n)  # chi^2 of 10 degrees of freedom, over 2 n: below 30 with 99.9%


def points(folder: Path) -> ArrayFile:
    np.savez(folder / "points.npz", x=np.arange(12.0).reshape(6, 2), y=np.array([0, 1, 2, 0, 1, 0]))
    return ArrayFile(standardise=False, file=str(folder / "points.npz"))


def test_a_point_depends_on_its_own_index_and_label_alone(tmp_path: Path) -> None:
    """Of mixtures, toys and finite data: more points, and other labels of the others, change none."""
    labels = jnp.array([2, 0, 1, 1, 0, 2, 2, 0])
    for data in (Ring(components=3), Moons(), points(tmp_path)):
        arrays = data.load()
        told = None if isinstance(data, Moons) else labels
        many = data.draw_by_index(arrays, KEY, 8, told)
        few = data.draw_by_index(arrays, KEY, 3, None if told is None else told[:3])
        np.testing.assert_array_equal(many[:3], few)
        assert len(np.unique(np.asarray(many)[:, 0])) > 2
    assert np.all(prior(OT, jnp.asarray(0.5), (2,), KEY, 8, many)[:3] == prior(OT, jnp.asarray(0.5), (2,), KEY, 3, few))


def test_labelled_starts_are_of_their_labels(tmp_path: Path) -> None:
    data = points(tmp_path)
    labels = jnp.resize(jnp.array([0, 1, 2]), 3000)
    z = np.asarray(data.draw_by_index(data.load(), KEY, 3000, labels))
    for label, rows in enumerate(([0, 3, 5], [1, 4], [2])):
        found, counts = np.unique(z[label::3, 0] / 2, return_counts=True)
        assert found.tolist() == rows
        assert counts.min() > 0.8 * 1000 / len(rows)  # equally likely
    mixture = CustomMixture(((-50.0,), (50.0,)), stds=(1.0, 1.0))
    z = np.asarray(mixture.draw_by_index(mixture.load(), KEY, 100, jnp.resize(jnp.array([0, 1]), 100)))
    assert (z[::2] < 0).all() and (z[1::2] > 0).all()


@pytest.mark.parametrize("start", ["0.98", "0.3"])
def test_sampling_that_starts_inside_the_path_is_exact(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """gmm by the exact field: entropy 5.2221, within-mode std 1 and weights 1/11, where a start in noise had within-mode std 9."""
    monkeypatch.chdir(tmp_path)
    words = f"sample run=oracle dataset=gmm path=ot steps=100 plots=false hydra.run.dir=out grid.start={start}"
    assert main(words.split()) == 0
    assert capsys.readouterr().err == ""
    with np.load("out/samples.npz") as archive:
        found = mixture_figures(Ring().mixture(), jnp.asarray(archive["x"]))
    assert abs(found.cross_entropy - 5.222092) < 4 * found.cross_entropy_error
    assert found.within_mode_std == pytest.approx(1, abs=4 / np.sqrt(40_000))
    assert found.mode_weight_kl < 30 / 20_000


@pytest.mark.slow
def test_a_guided_start_inside_the_path_is_said_to_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its p_t is not the data's; at t = 0.001 nothing of the data is seen, and nothing is said."""
    monkeypatch.chdir(tmp_path)
    words = "sample run=oracle dataset=gmm path=ot labels=all guidance=2 n=20 steps=50 plots=false grid.start="
    assert main((words + "0.5").split()) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "p_t of the data, which is not that of a field guided; start at 0" in error
    assert main((words + "0.001").split()) == 0
    assert capsys.readouterr().err == ""
    measured = "sample run=oracle dataset=gmm path=ot n=20 steps=50 plots=false measurement=linear grid.start=0.5"
    assert main(shlex.split(measured + " measurement.matrix=[[1,0]]")) == 0
    assert "which is not that of a field given what is measured" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_run_starts_inside_the_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From points of a file: after 2 steps a network knows little, and from t = 0.99 need not: samples are the data, noised."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(400, 2)) + np.repeat([[-9.0, 0.0], [9.0, 3.0]], 200, axis=0)
    np.savez("points.npz", x=x, y=np.repeat([0, 1], 200))
    train = "train dataset=array dataset.file=points.npz dataset.conditional=true path=ot net.widths=[8] steps=2 batch_size=8"
    assert main(f"{train} log_every=1 hydra.run.dir=run".split()) == 0
    words = "sample run=run n=4000 steps=5 plots=false grid.start=0.99 labels=all hydra.run.dir=out"
    assert main(words.split()) == 0
    with np.load("out/samples.npz") as archive:
        samples, y = archive["x"], archive["y"]
    for label in (0, 1):
        mine, true = samples[y == label], x[200 * label : 200 * label + 200]
        np.testing.assert_allclose(mine.mean(axis=0), true.mean(axis=0), atol=0.2)
        np.testing.assert_allclose(mine.std(axis=0), true.std(axis=0), rtol=0.1)
    Path("points.npz").rename("elsewhere.npz")
    assert main([*words.split(), "hydra.run.dir=gone"]) == 0
