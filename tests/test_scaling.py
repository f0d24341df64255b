"""Points of a user's own, in any units: what the model sees is of unit size, what comes out is in the units of the file."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from diffsde.cli.main import main
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.scaling import Scaling, log_volume, sample_moments, to_model, to_own
from diffsde.errors import UserError
from diffsde.metrics.columns import columns, ks

DATA = Path(__file__).parent / "data"
MEAN, STD = np.array([1e6, -3.0, 0.5]), np.array([0.001, 1e6, 2.0])  # of the affine images below
ORACLE = ["run=oracle", "dataset=array", "path=ot", "n=40", "steps=8", "plots=false", "threads=1"]
TRAIN = ["train", "dataset=array", "steps=20", "batch_size=32", "net=mlp", "net.widths=[16]", "threads=1"]


@pytest.fixture
def here(here: Path) -> Path:
    """A folder with 200 points of three correlated coordinates of mean 0 and std 1, and an affine image of them."""
    plain = np.random.default_rng(0).normal(size=(200, 3)) @ np.array([[1, 0.8, 0], [0, 0.6, 0.3], [0, 0, 1]])
    plain = (plain - plain.mean(0)) / plain.std(0)
    np.save("plain.npy", plain)
    np.save("image.npy", MEAN + STD * plain)
    return here


def run(*words: str) -> None:
    assert main(list(words)) == 0


def arrays(folder: str, name: str = "samples") -> dict[str, np.ndarray]:
    with np.load(Path(folder) / f"{name}.npz") as archive:
        return dict(archive)


def summary(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "summary.json").read_text())


# The map itself --------------------------------------------------------------------------------------------------------


def test_moments_in_one_pass_keep_their_digits() -> None:
    """An offset of 10^12 stds, in blocks of any sizes: integers, whose moments are known without rounding."""
    steps = np.random.default_rng(0).integers(0, 100, (1000, 2))
    x = 2.0**40 + steps
    found = sample_moments(np.split(x, [1, 7, 400, 401]), per_channel=False)
    np.testing.assert_allclose(found.mean - 2.0**40, steps.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std, steps.std(0), rtol=1e-6)
    np.testing.assert_array_equal(found.least, x.min(0))
    np.testing.assert_array_equal(found.most, x.max(0))


def test_many_points_are_brought_into_own_units_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no more memory than what comes out and a few blocks; as float64 as a whole where one number needs it."""
    monkeypatch.setattr("diffsde.datasets.scaling.BLOCK", 2**10)
    scaling = Scaling(np.array([3.0, -2.0]), np.array([0.5, 40.0]))
    x = np.random.default_rng(0).normal(size=(100_001, 2)).astype(np.float32)
    tracemalloc.start()
    own = to_own(scaling, x)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert own.dtype == np.float32 and most < own.nbytes + 100 * 2**10
    np.testing.assert_array_equal(own, (scaling.mean + scaling.std * x.astype(np.float64)).astype(np.float32))
    np.testing.assert_array_equal(to_own(scaling, x[7]), own[7])
    x[-1, 1] = 1e38
    assert to_own(scaling, x).dtype == np.float64 and to_own(scaling, x)[-1, 1] == pytest.approx(4e39)


def test_there_and_back() -> None:
    """To 10^-6 of a std, in float64 where float32 could not hold it, in float32 where it can."""
    x = np.random.default_rng(0).normal(size=(100, 3)) * STD + MEAN + np.array([1e9, 0, 0])
    scaling = Scaling(MEAN + np.array([1e9, 0, 0]), STD)
    back = to_own(scaling, to_model(scaling, x))
    assert back.dtype == np.float64
    np.testing.assert_array_less(np.abs(back - x) / STD, 1e-6)
    mild = Scaling(np.array([3.0, -20.0, 0.0]), np.array([1.0, 10.0, 1e-6]))
    assert to_own(mild, np.ones((2, 3), np.float32)).dtype == np.float32
    assert log_volume(Scaling(np.zeros(2), np.array([np.e**2, 0.0])), (2,)) == pytest.approx(2)


@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, 1e6 + 0.1, 1e-9])
def test_a_constant_coordinate_comes_back_exactly(here: Path, constant: float) -> None:
    """It is divided by 1 on the way in, not by the rounding of its std, and whatever a network makes of it is not shown."""
    np.save("x.npy", np.column_stack([np.full(50, constant), np.arange(50.0)]))
    data = ArrayFile(file="x.npy")
    np.testing.assert_array_equal(np.asarray(data.load().x)[:, 0], 0)
    own = to_own(data.scaling((2,)), np.array([[0.03, 1.0], [-0.2, 0.0]], np.float32))
    np.testing.assert_array_equal(own[:, 0], constant)


@pytest.mark.parametrize("name", ["unix-seconds", "two-scales"])
def test_every_row_is_still_another(name: str) -> None:
    """Seconds since 1970 with a std of 9.5, and columns of stds 1018 and 0.0098."""
    file, values = DATA / f"{name}.npy", np.load(DATA / f"{name}.npy")
    x = np.asarray(ArrayFile(file=str(file)).load().x, np.float64)
    np.testing.assert_allclose(x, (values - values.mean(0)) / values.std(0), atol=1e-5)
    assert len(np.unique(x, axis=0)) == len(np.unique(values, axis=0))


def test_what_float32_cannot_hold_is_refused(here: Path, x64: None) -> None:
    """Without a scaling; float64 holds it. Nanoseconds since 1970 not even float64 holds as they are."""
    import jax

    file = str(DATA / "unix-seconds.npy")
    np.testing.assert_array_equal(ArrayFile(file=file, standardise=False).load().x, np.load(file))
    np.save("ns.npy", np.random.default_rng(0).integers(0, 5000, (500, 1)) + 1_700_000_000_000_000_000)
    with pytest.raises(UserError, match=r"float64 is rounded by 1.9e\+02.*take an offset off"):
        ArrayFile(file="ns.npy").load()
    np.save("ns.npy", np.load("ns.npy") - 1_700_000_000_000_000_000)  # the advice
    assert len(np.unique(ArrayFile(file="ns.npy").load().x)) == len(np.unique(np.load("ns.npy")))
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(UserError, match=r"coordinate 0 has a std of 9.53.*standardise=true, or precision=float64"):
        ArrayFile(file=file, standardise=False).load()


@pytest.mark.parametrize("standardise", ["true", "false"])
def test_numbers_whose_squares_vanish_are_not_called_equal(
    standardise: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("tiny.npy", 1e-300 * np.load("plain.npy"))
    assert main([*TRAIN, "dataset.file=tiny.npy", f"dataset.standardise={standardise}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("diffsde: dataset.file: 'tiny.npy': the numbers of coordinate 0 are no further apart than ")
    assert said.count("\n") == 1 and "multiply them in the file itself" in said


def test_images_in_floats_are_scaled_by_channel(here: Path) -> None:
    """So that a pixel that hardly varies is not blown up beside its neighbours."""
    x = np.random.default_rng(0).normal(size=(30, 4, 5, 3)) * [1, 10, 100] + [0, 5, 1000]
    np.save("x.npy", x)
    scaling = ArrayFile(file="x.npy").scaling((4, 5, 3))
    assert scaling is not None
    np.testing.assert_allclose(scaling.mean, x.mean((0, 1, 2)))
    np.testing.assert_allclose(scaling.std, x.std((0, 1, 2)))


def test_a_stream_has_the_moments_of_all_rows(here: Path) -> None:
    """Those of the rows that are trained on: the test rows are not among them."""
    x = np.random.default_rng(0).normal(size=(40_000, 2)) * [1, 1e-4] + [1e6, 0]
    np.save("x.npy", x)
    plain, streamed = (ArrayFile(file="x.npy", stream=stream, test="0.25").scaling((2,)) for stream in (False, True))
    for one, other in zip(plain, streamed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    kept = ArrayFile(file="x.npy", test="0.25")
    rows = to_own(kept.scaling((2,)), kept.load().x), to_own(kept.scaling((2,)), kept.held_out().x)
    assert [len(each) for each in rows] == [30_000, 10_000]
    np.testing.assert_allclose(np.sort(np.concatenate(rows)[:, 0]), np.sort(x[:, 0]), atol=1e-3)
    np.testing.assert_allclose(plain.mean, rows[0].mean(0), atol=1e-6)


# What comes out --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_samples_of_an_affine_image_are_the_image_of_samples(here: Path) -> None:
    """By the exact field, ODE and SDE, along the whole trajectory: x_own = mean + std x_model at every t."""
    for sampler in ("heun", "em"):
        for name in ("plain", "image"):
            words = [
                f"sampler={sampler}",
                f"dataset.file={name}.npy",
                "save_every=4",
                f"hydra.run.dir={sampler}/{name}",
            ]
            run("sample", *ORACLE, *words)
        plain, image = (arrays(f"{sampler}/{name}")["x"] for name in ("plain", "image"))
        np.testing.assert_allclose((image - MEAN) / STD, plain, atol=2e-4)
        plain, image = (arrays(f"{sampler}/{name}", "trajectory")["x"] for name in ("plain", "image"))
        np.testing.assert_allclose((image - MEAN) / STD, plain, atol=2e-4)
        found = [summary(f"{sampler}/{name}")["columns"] for name in ("plain", "image")]
        for i in "012":
            assert found[0][i]["ks"] == pytest.approx(found[1][i]["ks"], abs=0.02)
            assert found[1][i]["data_std"] == pytest.approx(STD[int(i)], rel=1e-6)


@pytest.mark.slow
def test_a_posterior_is_measured_in_own_units(here: Path) -> None:
    """y = A z + noise of the points in their own units: A diag(std) and the offset A mean are the model's concern."""
    truth = np.load("plain.npy")[:4]
    np.save("plain_truth.npy", truth)
    np.save("image_truth.npy", MEAN + STD * truth)
    for posterior in ("mmps", "exact"):
        for name, matrix, noise in (("plain", [0.0, 1.0, 2.0], 0.2), ("image", [0.0, 1e-6, 1.0], 0.2)):
            words = [
                "measurement=linear",
                f"measurement.matrix=[{matrix}]",
                f"measurement.noise={noise}",
                f"posterior={posterior}",
                f"truth={name}_truth.npy",
                "n_measurements=4",
                f"dataset.file={name}.npy",
                f"hydra.run.dir={posterior}/{name}",
            ]
            run("sample", *ORACLE, *words)
        plain, image = (arrays(f"{posterior}/{name}") for name in ("plain", "image"))
        np.testing.assert_allclose((image["x"] - MEAN) / STD, plain["x"], atol=2e-3)
        np.testing.assert_allclose((image["truth"] - MEAN) / STD, truth, atol=1e-6)
        np.testing.assert_allclose(image["measured"][:, 0] + 3e-6 - 0.5, plain["measured"][:, 0], atol=1e-5)
        for figure in ("misfit", "calibration"):
            values = [summary(f"{posterior}/{name}")["metrics"][figure]["value"] for name in ("plain", "image")]
            assert values[0] == pytest.approx(values[1], rel=0.05) or figure == "calibration"


@pytest.mark.slow
def test_training_and_likelihood_in_own_units(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The losses are the model's; log p_own = log p_model - sum log std, and the points are kept beside it."""
    for name in ("plain", "image"):
        run(*TRAIN, f"dataset.file={name}.npy", "dataset.test=0.2", f"hydra.run.dir=runs/{name}")
        run(
            "evaluate", f"run=runs/{name}", "metrics=[likelihood]", "solver_steps=10", "threads=1",
            f"hydra.run.dir=judged/{name}",
        )  # fmt: skip
    said = capsys.readouterr().out
    assert said.count("(x - mean)/std") == 2 and "sigma is in units of std" in said
    losses = [summary(f"runs/{name}")["loss"]["value"] for name in ("plain", "image")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    plain, image = (arrays(f"judged/{name}", "likelihood") for name in ("plain", "image"))
    # the 160 rows that are trained on have moments of their own, by which both runs see the same numbers
    np.testing.assert_allclose(plain["log_p"] - image["log_p"], np.log(STD).sum(), atol=1e-2)
    np.testing.assert_allclose((image["x"] - MEAN) / STD, plain["x"], atol=1e-4)
    assert len(plain["x"]) == 40


@pytest.mark.slow
def test_a_run_keeps_its_scaling(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the file has other rows by now, samples are as they were; going on with the training is refused."""
    run(*TRAIN, "dataset.file=image.npy", "hydra.run.dir=runs/a")
    words = ["sample", "run=runs/a", "n=30", "steps=5", "plots=false", "threads=1"]
    run(*words, "hydra.run.dir=before")
    (here / "runs/a/summary.json").unlink()
    np.save("image.npy", 2 * np.load("image.npy"))
    run(*words, "hydra.run.dir=after")
    np.testing.assert_array_equal(arrays("before")["x"], arrays("after")["x"])
    capsys.readouterr()
    assert main([*TRAIN, "dataset.file=image.npy", "hydra.run.dir=runs/a"]) == 2
    assert "the data have changed since 'runs/a' was begun" in capsys.readouterr().err.replace(str(here) + "/", "")


def test_a_guide_of_other_units_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its field is of other numbers than the field that it guides."""
    for name in ("plain", "image"):
        run(*TRAIN, f"dataset.file={name}.npy", f"hydra.run.dir=runs/{name}")
    assert main(["sample", "run=runs/plain", "guide=runs/image", "guidance=2", "n=10", "threads=1"]) == 2
    assert "trained on data of another mean and std" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.mean=[1,2]"], "mean and std go together"),
        (["dataset.mean=[1,2]", "dataset.std=[1,2]"], "dataset.mean has 2 numbers"),
        (["dataset.mean=[1,2,3]", "dataset.std=[1,2,-3]"], "dataset.std[2] is -3; it must be 0 or more"),
        (["dataset.mean=[1,2,3]", "dataset.std=[1,2,3]", "dataset.standardise=false"], "leave out mean and std"),
        (["dataset.test=1.5"], "dataset.test is 1.5; it must be in (0, 1), or a file"),
        (["dataset.test=0.001"], "0.001 of 200 rows are 0, and 200 are left"),
        (["dataset.test=absent.npy"], "dataset.test: 'absent.npy' is not a file"),
        (["dataset.test=two.npy"], "dataset.test: 'two.npy' has float64 of shape (5, 2)"),
    ],
)
def test_refusals(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    np.save("two.npy", np.arange(10.0).reshape(5, 2))
    code = main([*TRAIN, "dataset.file=plain.npy", *words])
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.count("\n") == 1


# Columns ---------------------------------------------------------------------------------------------------------------


def test_ks_is_scipy_s_and_its_floor_is_what_true_sets_have() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=300), random.normal(0.3, 1, 170)
    assert ks(x, y) == pytest.approx(scipy.stats.ks_2samp(x, y).statistic, abs=1e-12)
    x, y = random.integers(0, 5, 100), random.integers(0, 6, 90)  # ties
    assert ks(x, y) == pytest.approx(scipy.stats.ks_2samp(x, y).statistic, abs=1e-12)
    sets = [columns(random.exponential(size=(500, 1)), random.exponential(size=(800, 1)))[0] for _ in range(300)]
    values = np.array([each.ks for each in sets])
    assert abs(values.mean() - sets[0].ks_floor) < 3 * values.std() / np.sqrt(300) + 0.02 * sets[0].ks_floor


def test_samples_are_drawn_where_the_data_is_no_longer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In its units all the same, which the run has kept; what cannot be compared with it is left out, and that is said."""
    run(*TRAIN, "dataset.file=image.npy", "hydra.run.dir=runs/a")
    words = ["sample", "run=runs/a", "n=30", "steps=5", "threads=1"]
    run(*words, "hydra.run.dir=before")
    (here / "image.npy").unlink()
    capsys.readouterr()
    run(*words, "hydra.run.dir=after")
    np.testing.assert_array_equal(arrays("before")["x"], arrays("after")["x"])
    assert "no figures, and no picture beside the data, which is not here" in capsys.readouterr().err
    assert summary("after")["metrics"] == {}


def test_test_points_have_the_classes_of_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the whole file are counted, also one that the test points alone have; a file of other classes is refused."""
    x, y = np.random.default_rng(0).normal(size=(100, 2)), np.arange(100) % 2
    apart = np.setdiff1d(np.arange(100), np.flatnonzero(np.isin(np.arange(100), _kept_rows(100, 0.2))))
    y[apart[0]] = 2
    np.savez("cls.npz", x=x, y=y)
    data = ArrayFile(file="cls.npz", test="0.2", conditional=True)
    assert data.classes(data.load()) == 3 and int(np.asarray(data.load().y).max()) == 1
    np.savez("more.npz", x=x, y=y + (y == 2))
    np.save("none.npy", x)
    words = [*TRAIN, "dataset.file=cls.npz", "dataset.conditional=true"]
    for file, said in (
        ("more.npz", "has labels up to 3; those of 'cls.npz' are 0 to 2"),
        ("none.npy", "has no labels"),
    ):
        y_file = np.where(y == 2, 3, y)
        np.savez("more.npz", x=np.concatenate([x, x[:1]]), y=np.append(y_file, 2))
        assert main([*words, f"dataset.test={file}"]) == 2
        assert said in capsys.readouterr().err


def _kept_rows(count: int, share: float) -> np.ndarray:
    """The rows that are trained on, found from points that are their own numbers."""
    np.save("rows.npy", np.arange(float(count))[:, None])
    kept = ArrayFile(file="rows.npy", test=str(share), standardise=False).load().x
    return np.asarray(kept)[:, 0].astype(int)


@pytest.mark.slow
def test_what_has_no_density_or_a_scale_already_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The likelihood of points with a constant column; a mean and std for images in bytes."""
    x = np.random.default_rng(0).normal(size=(100, 1))
    np.savetxt("c.csv", np.column_stack([x, np.full(100, 7.0)]), delimiter=",", header="a,b", comments="")
    run(*TRAIN, "dataset.file=c.csv", "dataset.test=0.2", "hydra.run.dir=c")
    capsys.readouterr()
    assert main(["evaluate", "run=c", "metrics=[likelihood]", "threads=1"]) == 2
    error = capsys.readouterr().err
    assert "column" in error or "coordinate b is constant, and has no density" in error
    run(*TRAIN, "dataset.file=c.csv", "dataset.test=0.2", "dataset.columns=[a]", "hydra.run.dir=a")  # the advice
    run("evaluate", "run=a", "metrics=[likelihood]", "solver_steps=4", "threads=1")
    np.save("bytes.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8))
    assert main([*TRAIN, "dataset.file=bytes.npy", "dataset.mean=[10]", "dataset.std=[5]"]) == 2
    assert "images in bytes have a scale of their own" in capsys.readouterr().err


@pytest.mark.slow
def test_the_noise_of_a_measurement_follows_the_scale_of_the_data(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.05 stds of what is measured, whatever the units; a smaller one than the field is exact is said, and what mends it."""
    for name, factor in (("small", 1.0), ("large", 100.0)):
        np.save(f"{name}.npy", factor * np.load("plain.npy"))
        np.save(f"{name}_truth.npy", factor * (np.load("plain.npy")[:4] + 0.3))  # which the data do not have
        words = ["measurement=linear", "measurement.matrix=[[3,0,4]]", f"truth={name}_truth.npy", "n_measurements=4"]
        run("sample", *ORACLE, *words, f"dataset.file={name}.npy", f"hydra.run.dir={name}")
        assert f"measurement.noise: {0.25 * factor * np.linalg.norm([0.6, 0.8]):.3g} in" in capsys.readouterr().out
    misfits = [summary(name)["metrics"]["misfit"]["value"] for name in ("small", "large")]
    assert misfits[0] == pytest.approx(misfits[1], rel=1e-3)
    ask = ["sample", *ORACLE, *words, "dataset.file=large.npy", "posterior=exact"]
    run(*ask, "measurement.noise=0.001")
    assert "take a larger measurement.noise" in capsys.readouterr().err
    run(*ask, "measurement.noise=100")
    assert "measurement.noise" not in capsys.readouterr().err


@pytest.mark.slow
def test_data_are_looked_for_where_the_run_was_begun(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder, where another file of that name lies; data that have changed are said to have."""
    run(*TRAIN, "dataset.file=image.npy", "hydra.run.dir=runs/a")
    words = ["sample", "n=30", "steps=5", "plots=false", "threads=1"]
    run(*words, "run=runs/a", "hydra.run.dir=here")
    (here / "other").mkdir()
    np.save(here / "other" / "image.npy", np.zeros((5, 3)))
    monkeypatch.chdir(here / "other")
    run(*words, "run=../runs/a", "hydra.run.dir=there")
    assert summary("there")["columns"] == summary("../here")["columns"]
    (here / "runs/a/summary.json").unlink()
    run("train", "run=../runs/a", "threads=1")
    assert "have changed" not in capsys.readouterr().err
    np.save(here / "image.npy", 2 * np.load(here / "image.npy"))
    run(*words, "run=../runs/a")
    assert "the data have changed since the run was trained on them" in capsys.readouterr().err


def test_a_mean_and_std_of_ones_own_are_no_change_of_the_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["dataset.mean=[1000000,0,0]", "dataset.std=[0.01,1000000,3]"]
    run(*TRAIN, "dataset.file=image.npy", *own, "hydra.run.dir=runs/a")
    run("sample", "run=runs/a", "n=30", "steps=5", "plots=false", "threads=1")
    assert "have changed" not in capsys.readouterr().err
