"""Datasets: points on their published sets, files read back or refused with a reason, and measured moments."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import mixtures
from diffsde.build import check
from diffsde.datasets import (
    DATASETS,
    ArrayFile,
    Checkerboard,
    CustomMixture,
    Dataset,
    EightGaussians,
    FiniteDataset,
    FixedPoints,
    Moons,
    Ring,
    SCurve,
    draw_many,
    point_shape,
)
from diffsde.datasets.mixture import Gaussian
from diffsde.datasets.toys import Circles, Pinwheel, Spirals, SwissRoll
from diffsde.errors import UserError


def points(dataset: Dataset, seed: int = 0) -> np.ndarray:
    """20,000 points."""
    return np.asarray(draw_many(dataset, dataset.load(), jax.random.key(seed), 20_000), np.float64)


def refuses(dataset: ArrayFile, *words: str) -> None:
    """The file is refused in one line that names the file, the knob and what is wrong."""
    with pytest.raises(UserError) as refusal:
        dataset.load()
    message = str(refusal.value)
    assert "\n" not in message and message.startswith(("dataset.file:", "dataset.key:")) and dataset.file in message
    for word in words:
        assert word in message, message


# Toys ----------------------------------------------------------------------------------------------------------------


def test_moons_lie_on_two_half_circles() -> None:
    """Half of the points on the upper unit half circle about 0, half on the lower one about (1, 1/2),
    angles uniform.
    """
    x, y = points(Moons(noise=0.0)).T
    upper = (np.abs(np.hypot(x, y) - 1) < 1e-5) & (y > -1e-6)
    lower = (np.abs(np.hypot(x - 1, y - 0.5) - 1) < 1e-5) & (y < 0.5 + 1e-6)
    assert np.all(upper | lower) and np.mean(upper & lower) < 1e-3
    assert stats.binomtest(int(upper.sum()), len(x)).pvalue > 1e-3
    for angle in (np.arctan2(y[upper], x[upper]), np.arctan2(0.5 - y[lower], 1 - x[lower])):
        assert stats.kstest(angle, stats.uniform(0, np.pi).cdf).pvalue > 1e-3


def test_scurve_lies_on_three_quarters_of_two_circles() -> None:
    """Half of the points on the circle about (0, -1), half on that about (0, 1), over 270 degrees from where they
    touch.
    """
    x, y = points(SCurve(noise=0.0)).T
    below, above = (np.abs(np.hypot(x, y - centre) - 1) < 1e-5 for centre in (-1, 1))
    assert np.all(below | above) and np.mean(below & above) < 1e-2
    assert stats.binomtest(int(below.sum()), len(x)).pvalue > 1e-3
    clockwise = np.arctan2(x[below], y[below] + 1)  # from the point (0, 0), downhill first to the right
    turned = np.arctan2(-x[above], 1 - y[above])  # the same arc turned by half a turn about (0, 0)
    for angle in (clockwise, turned):
        angle = np.mod(angle, 2 * np.pi)
        angle = angle[(angle > 0.01) & (angle < 2 * np.pi - 1e-3)]  # rounding may put the first points behind the start
        assert stats.kstest(angle, stats.uniform(0.01, 1.5 * np.pi - 0.01).cdf).pvalue > 1e-3


def test_circles_are_two_of_the_named_radii() -> None:
    """Half of the points on each circle, angles uniform; `scale` multiplies all of it."""
    x, y = points(Circles(factor=0.3, noise=0.0, scale=5.0)).T
    radius = np.hypot(x, y)
    inner = radius < 3
    np.testing.assert_allclose(radius, np.where(inner, 1.5, 5.0), rtol=1e-5)
    assert stats.binomtest(int(inner.sum()), len(x)).pvalue > 1e-3
    for each in (inner, ~inner):
        angle = np.mod(np.arctan2(y[each], x[each]), 2 * np.pi)
        assert stats.kstest(angle, stats.uniform(0, 2 * np.pi).cdf).pvalue > 1e-3
    with pytest.raises(UserError, match=r"factor is 1\.0"):
        check(Circles(factor=1.0))


def test_swiss_roll_is_an_archimedean_spiral() -> None:
    """The radius of a point is a fifth of the angle that the roll has turned by, from 3/4 to 9/4 turns, uniformly."""
    x, y = points(SwissRoll(noise=0.0)).T
    turned = 5 * np.hypot(x, y)
    np.testing.assert_allclose(turned * np.cos(turned) / 5, x, atol=1e-4)
    np.testing.assert_allclose(turned * np.sin(turned) / 5, y, atol=1e-4)
    assert stats.kstest(turned, stats.uniform(1.5 * np.pi, 3 * np.pi).cdf).pvalue > 1e-3


def test_spirals_are_two_arms_of_a_known_mean() -> None:
    """The mean of an arm is 1/12 in each coordinate plus that of its curve; the angle's law shows in the mean square radius.

    E|x|^2 = (E a^2 + E|r/2|^2 + 2 E[a (-cos a, sin a)] . E(r/2))/9, with E a^2 = (3 pi)^2/2 and
    E[a (-cos a, sin a)] = 2/(9 pi^2) int_0^{3 pi} a^2 (-cos a, sin a) da = 2/(9 pi^2) (6 pi, 9 pi^2 - 4).
    """
    x = points(Spirals(noise=0.0))
    curve = 2 / (9 * np.pi**2) * np.array([6 * np.pi, 9 * np.pi**2 - 4])
    square = ((3 * np.pi) ** 2 / 2 + 2 * (1 / 4) / 3 + 2 * curve.sum() * (1 / 4)) / 9
    found = (x**2).sum(axis=1)
    assert abs(found.mean() - square) < 4 * found.std() / np.sqrt(len(x))
    assert np.all(np.abs(x.mean(axis=0)) < 4 * x.std(axis=0) / np.sqrt(len(x)))  # the other arm is the negative


@pytest.mark.parametrize("rate", [0.25, -0.4])
def test_a_pinwheel_unwound_is_a_ring_of_gaussians(rate: float) -> None:
    """Turned back by rate e^r, points fall into equally likely arms, along each N(1, 0.3^2), across it N(0, 0.1^2)."""
    exact = Pinwheel(
        arms=3, rate=rate, tangential_std=1e-3
    )  # r is then read off the radius, but for s^2, and where r > 0
    x = points(exact) / 2
    r = np.hypot(*x.T)
    assert stats.kstest((r - 1) / 0.3, "norm").pvalue > 1e-3
    arm = 3 * (-np.arctan2(x[:, 1], x[:, 0]) - rate * np.exp(r)) / (2 * np.pi)
    assert np.abs(arm - np.round(arm))[r > 0.3].max() < 0.02
    assert stats.chisquare(np.bincount(np.round(arm[r > 0.3]).astype(int) % 3)).pvalue > 1e-3
    across = points(Pinwheel(rate=0.0, arms=1))[:, 1] / 2
    assert stats.kstest(across / 0.1, "norm").pvalue > 1e-3


def test_gaussian_is_the_mixture_of_one_component() -> None:
    """Mean and std of each coordinate, as a mixture's; one std serves all coordinates."""
    wide = Gaussian(mean=(1.0, -2.0, 5.0), std=(0.5, 2.0, 1.0))
    x = points(wide)
    assert np.all(np.abs(x.mean(axis=0) - wide.mean) < 4 * np.asarray(wide.std) / np.sqrt(len(x)))
    np.testing.assert_allclose(x.std(axis=0), wide.std, rtol=0.03)
    same = CustomMixture(means=((1.0, -2.0),), stds=(0.7,))
    np.testing.assert_array_equal(points(Gaussian(mean=(1.0, -2.0), std=0.7)), points(same))
    with pytest.raises(UserError, match="std has 3 entries for 2 of mean"):
        check(Gaussian(mean=(0.0, 0.0), std=(1.0, 1.0, 1.0)))


@pytest.mark.parametrize("make", [Moons, SCurve, Circles, Spirals, SwissRoll])
def test_noise_is_added_in_its_size(make: Callable[..., Dataset]) -> None:
    """`noise` adds an independent normal of that std to the noiseless curve."""
    curve, noisy = (make(noise=noise) for noise in (0.0, 0.3))
    shift = points(noisy) - points(curve)
    assert stats.kstest(shift.ravel() / 0.3, "norm").pvalue > 1e-3
    with pytest.raises(UserError, match=r"noise is -0\.1"):
        check(make(noise=-0.1))


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_checkerboard_fills_the_squares_of_one_colour(scale: float) -> None:
    """Points fall on the eight squares whose indices have an even sum, equally often, and uniformly inside each."""
    x = points(Checkerboard(scale=scale)) / scale
    square = np.floor(x).astype(int)
    assert np.all((square >= -2) & (square <= 1)) and np.all(square.sum(1) % 2 == 0)
    index = (square[:, 0] + 2) * 4 + square[:, 1] + 2
    counts = np.bincount(index, minlength=16)
    assert np.count_nonzero(counts) == 8 and stats.chisquare(counts[counts > 0]).pvalue > 1e-3
    inside = x - square
    assert stats.kstest(inside[:, 0], "uniform").pvalue > 1e-3 and stats.kstest(inside[:, 1], "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(*inside.T).statistic) < 4 / np.sqrt(len(x))
    with pytest.raises(UserError, match=r"scale is 0\.0"):
        check(Checkerboard(scale=0.0))


# Mixtures ------------------------------------------------------------------------------------------------------------


def test_eight_gaussians_are_torchcfms() -> None:
    """Eight equal components at radius 5, 45 degrees apart, with covariance sqrt(0.1) I, in law and in samples."""
    law = EightGaussians().mixture()
    np.testing.assert_allclose(np.hypot(*law.means.T), 5, rtol=1e-6)
    gaps = np.diff(np.sort(np.arctan2(law.means[:, 1], law.means[:, 0])))
    np.testing.assert_allclose(gaps, np.pi / 4, rtol=1e-5)
    np.testing.assert_allclose(law.variances, np.sqrt(0.1), rtol=1e-6)
    x = points(EightGaussians())
    nearest = np.argmin(np.linalg.norm(x[:, None] - law.means, axis=-1), axis=1)
    assert stats.chisquare(np.bincount(nearest, minlength=8)).pvalue > 1e-3
    offsets = ((x - np.asarray(law.means)[nearest]) ** 2).ravel()
    assert abs(offsets.mean() - np.sqrt(0.1)) < 4 * stats.sem(offsets)


def test_ring_is_the_published_one() -> None:
    """Eleven equal components of std 1 at radius 10, the first at angle 0."""
    law = Ring().mixture()
    assert law.means.shape == (11, 2)
    np.testing.assert_allclose(law.means[0], [10, 0], atol=1e-5)
    turn = 2 * np.pi / 11
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(law.means @ rotation.T, jnp.roll(law.means, -1, axis=0), atol=1e-5)
    np.testing.assert_allclose(np.ravel(law.variances), 1)
    np.testing.assert_allclose(law.weights, 1 / 11, rtol=1e-6)


def test_a_mixture_of_your_own() -> None:
    """Means, stds (a number, or a list a component) and weights are taken as given, the weights made to sum to 1."""
    one = CustomMixture(means=((0.0,), (4.0,)), stds=(0.5, 2.0), weights=(3.0, 1.0)).mixture()
    law = mixtures.moments(one)
    assert float(law.mean[0]) == pytest.approx(1.0)
    assert float(law.std) ** 2 == pytest.approx(0.75 * 0.25 + 0.25 * 4 + 0.75 * 1 + 0.25 * 9)
    long = CustomMixture(means=((1.0, 2.0, 3.0),), stds=((1.0, 2.0, 0.5),))
    check(long)
    x = points(long)
    assert np.all(np.abs(x.std(0) / [1.0, 2.0, 0.5] - 1) < 4 / np.sqrt(2 * len(x)))
    np.testing.assert_allclose(CustomMixture().mixture().weights, 0.5)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Ring(components=0), "components is 0"),
        (Ring(std=0.0), "std is 0.0"),
        (Ring(radius=-1.0), "radius is -1.0"),
        (EightGaussians(std=-1.0), "std is -1.0"),
        (CustomMixture(means=()), "means must be"),
        (CustomMixture(means=((), ())), "means must be"),
        (CustomMixture(means=((0.0,), (1.0, 2.0))), "means must be"),
        (CustomMixture(stds=(1.0,)), "stds has 1 entries for 2 means"),
        (CustomMixture(stds=((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))), "stds must be a number, or each a list of 2"),
        (CustomMixture(stds=(1.0, (1.0, 2.0))), "stds must be a number, or each a list of 2"),
        (CustomMixture(stds=(1.0, 0.0)), r"stds\[1\] is 0.0; it must be positive"),
        (CustomMixture(stds=((1.0, 1.0), (1.0, -1.0))), r"stds\[1\]\[1\] is -1.0; it must be positive"),
        (CustomMixture(weights=(1.0,)), "weights has 1 entries for 2 means"),
        (CustomMixture(weights=(1.0, 0.0)), r"weights\[1\] is 0.0; it must be positive"),
        (CustomMixture(means=((0.0,), (1.0,)), stds=(0.5, (0.5,))), "stds"),
    ],
    ids=repr,
)
def test_mixtures_that_cannot_be_are_refused(dataset: Any, message: str) -> None:
    """Bad numbers are refused with a line about themselves."""
    with pytest.raises(UserError, match=message):
        check(dataset)


# Your own arrays -----------------------------------------------------------------------------------------------------

TABLE = np.array([[1.5, -2.0], [3.25, 4.0], [0.0, 1e-3], [7.0, 7.5]])


def saved(folder: Path, name: str, values: np.ndarray = TABLE) -> str:
    file = folder / name
    match file.suffix:
        case ".npy":
            np.save(file, values)
        case ".npz":
            np.savez(file, x=values)
        case ".csv":
            np.savetxt(file, values, delimiter=",")
    return str(file)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "X.NPY"])
def test_files_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    """Each kind of file gives its rows, in order, as float32."""
    Path(saved(tmp_path, name.lower())).rename(tmp_path / name)
    rows = ArrayFile(standardise=False, file=str(tmp_path / name)).load().x
    assert rows.dtype == jnp.float32
    np.testing.assert_array_equal(rows, np.float32(TABLE))


def test_draws_are_rows(tmp_path: Path) -> None:
    """What is drawn from an array is its rows exactly, first and last among them, all equally often."""
    dataset = ArrayFile(standardise=False, file=saved(tmp_path, "x.npy"))
    assert point_shape(dataset, dataset.load()) == (2,)
    drawn = np.float32(points(dataset))
    which = np.argmax(np.all(drawn[:, None] == np.float32(TABLE), axis=-1), axis=1)
    np.testing.assert_array_equal(np.float32(TABLE)[which], drawn)
    assert stats.chisquare(np.bincount(which, minlength=4)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.int8, bool])
def test_points_of_any_numbers(tmp_path: Path, dtype: type) -> None:
    """Points may be arrays of any shape, of floats, integers or booleans."""
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    dataset = ArrayFile(standardise=False, file=saved(tmp_path, "x.npy", values))
    np.testing.assert_array_equal(dataset.load().x, values.astype(np.float32))
    assert point_shape(dataset, dataset.load()) == (3, 4)


@pytest.mark.parametrize("header", ["", "x,y\n", "# x,y\n", "\n\nx , y\n\n"])
def test_a_csv_may_have_a_header(tmp_path: Path, header: str) -> None:
    """A first line of words is skipped, and so are empty lines; without one no row is lost."""
    file = tmp_path / "x.csv"
    file.write_text(header + "1,2\n3,4\n\n5,6\n")
    np.testing.assert_array_equal(ArrayFile(standardise=False, file=str(file)).load().x, [[1, 2], [3, 4], [5, 6]])


def test_a_csv_column_is_one_dimensional_data(tmp_path: Path) -> None:
    """One number a line is n points of shape (1,)."""
    file = tmp_path / "x.csv"
    file.write_text("1\n2\n3\n")
    assert ArrayFile(standardise=False, file=str(file)).load().x.shape == (3, 1)


def test_an_archive_names_its_array(tmp_path: Path) -> None:
    """With several arrays `key` chooses; without it, or with another name, the names there are listed."""
    file = tmp_path / "x.npz"
    np.savez(file, first=TABLE, second=2 * TABLE)
    np.testing.assert_array_equal(
        ArrayFile(standardise=False, file=str(file), key="second").load().x, np.float32(2 * TABLE)
    )
    refuses(ArrayFile(file=str(file)), "several arrays", "first, second")
    refuses(ArrayFile(file=str(file), key="third"), "no array 'third'", "first, second")


def test_standardise(tmp_path: Path) -> None:
    """Each coordinate gets mean 0 and std 1, whatever its units were."""
    values = np.random.default_rng(0).normal(size=(500, 3)) * [1e-6, 1.0, 1e6] + [5.0, 0.0, 1e6]
    rows = np.asarray(ArrayFile(file=saved(tmp_path, "x.npy", values), standardise=True).load().x, np.float64)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.corrcoef(rows.T), np.corrcoef(values.T), atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, 1e6 + 0.1])
def test_standardise_leaves_a_constant_coordinate_alone(tmp_path: Path, constant: float) -> None:
    """A coordinate that never changes is not divided by the rounding of its std."""
    values = np.column_stack([np.full(10, constant), np.arange(10.0)])
    rows = np.asarray(ArrayFile(file=saved(tmp_path, "x.npy", values), standardise=True).load().x)
    np.testing.assert_allclose(rows[:, 0], 0, atol=1e-6)


def written(folder: Path, name: str, content: bytes | str) -> ArrayFile:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ArrayFile(standardise=False, file=str(file))


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, or has another ending, is named with what would be right."""
    refuses(ArrayFile(file=str(tmp_path / "absent.npy")), "is not a file")
    (tmp_path / "folder.npy").mkdir()
    refuses(ArrayFile(file=str(tmp_path / "folder.npy")), "is not a file")
    refuses(written(tmp_path, "x.dat", "1,2\n3,4\n"), "'.dat'", ".npy, .npz, .csv, .tsv or .txt")
    with pytest.raises(UserError, match=r"dataset\.file="):
        check(ArrayFile())


def test_rows_with_nan_are_counted_and_named(tmp_path: Path) -> None:
    """NaN and infinity are refused with their count and the first row."""
    values = np.ones((50, 2))
    values[7, 1], values[20, 0] = np.nan, np.inf
    refuses(ArrayFile(standardise=False, file=saved(tmp_path, "x.npy", values)), "2 of 50 rows", "row 7")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(5), ["(5,)", "(n, 1)"]),
        (np.float64(1.0), ["()"]),
        (np.zeros((0, 2)), ["(0, 2)", "at least 2"]),
        (np.zeros((1, 2)), ["(1, 2)", "at least 2"]),
        (np.zeros((5, 0)), ["(5, 0)"]),
        (np.array([["a", "b"], ["c", "d"]]), ["<U1", "real numbers"]),
        (np.ones((3, 2), complex), ["complex128", "real numbers"]),
        (np.zeros((3, 2), "M8[s]"), ["datetime64", "real numbers"]),
    ],
    ids=["one-dimensional", "scalar", "empty", "one point", "no coordinates", "words", "complex", "dates"],
)
def test_arrays_that_are_no_points_are_refused(tmp_path: Path, values: np.ndarray, words: list[str]) -> None:
    """The message has the shape or the type that was found, and what it must be."""
    refuses(ArrayFile(file=saved(tmp_path, "x.npy", values)), *words)
    refuses(ArrayFile(file=saved(tmp_path, "x.npz", values)), *words)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    """A file of Python objects is refused, and nothing in it is run."""
    mark = tmp_path / "mark"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return mark.touch, ()

    objects = np.array([[Bomb(), 1], [2, 3]], object)
    for name in ("x.npy", "x.npz"):
        (np.save if name == "x.npy" else np.savez)(tmp_path / name, objects)
        refuses(ArrayFile(file=str(tmp_path / name)), "Python objects")
    for name in ("y.npy", "y.npz"):
        refuses(written(tmp_path, name, pickle.dumps(Bomb())), "cannot be read")
    assert not mark.exists()


GARBAGE = {
    "x.npy": "it is not a .npy file, by its first bytes",
    "x.npz": "not a zip file",
}  # what is wrong, not that it may be a pickle


def test_an_archive_of_nothing_is_refused(tmp_path: Path) -> None:
    """Not as one that holds several arrays."""
    np.savez(tmp_path / "x.npz")
    refuses(ArrayFile(file=str(tmp_path / "x.npz")), "holds no array")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    """Empty, cut off anywhere, or garbage: one line, never a traceback."""
    whole = Path(saved(tmp_path, name)).read_bytes()
    refuses(written(tmp_path, name, b""))
    refuses(
        written(tmp_path, name, b"no numbers at all\nnot here either\n"), *([] if name == "x.csv" else [GARBAGE[name]])
    )
    refuses(written(tmp_path, name, bytes(range(256)) * 4))
    if name != "x.csv":  # a csv that is cut off at the end of a number is a shorter csv
        for part in (0.1, 0.5, 0.9):
            refuses(written(tmp_path, name, whole[: int(part * len(whole))]), "cannot be read")


@pytest.mark.parametrize("text", ["1,2\n3\n", "1,2\n3,x\n", "1,2\n3,\n", "a,b\nc,d\n", "a,b\n", "\n\n", "1:2\n3:4\n"])
def test_csv_lines_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    """Ragged lines, words, gaps, separators that are none or nothing but a header."""
    refuses(written(tmp_path, "x.csv", text))


def test_a_gap_in_the_first_csv_line_is_no_header(tmp_path: Path) -> None:
    """A first line with a number in it is data: with a gap it is refused, not dropped without a word."""
    refuses(written(tmp_path, "x.csv", "1,\n3,4\n5,6\n7,8\n"))


def test_a_byte_order_mark_loses_no_row(tmp_path: Path) -> None:
    """A csv as spreadsheets save it, with a byte order mark, keeps its first row."""
    dataset = written(tmp_path, "x.csv", b"\xef\xbb\xbf1,2\n3,4\n5,6\n")
    np.testing.assert_array_equal(dataset.load().x, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(("content", "name"), [("x.npy", "y.npz"), ("x.npz", "y.npy")])
def test_a_file_with_the_other_ending_is_refused(tmp_path: Path, content: str, name: str) -> None:
    """A .npy called .npz, or the reverse, is the user's to mend."""
    Path(saved(tmp_path, content)).rename(tmp_path / name)
    refuses(ArrayFile(file=str(tmp_path / name)))


def test_a_damaged_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Wrong bytes inside a compressed archive are the user's to mend."""
    file = tmp_path / "x.npz"
    np.savez_compressed(file, x=np.random.default_rng(0).normal(size=(50, 2)))
    content = bytearray(file.read_bytes())
    for i in range(120, 160):
        content[i] ^= 0xFF
    refuses(written(tmp_path, "x.npz", bytes(content)), "cannot be read")


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_numbers_beyond_float32_are_refused(tmp_path: Path) -> None:
    """1e39 is finite in double precision and infinite on the device: it is refused like infinity."""
    refuses(ArrayFile(standardise=False, file=saved(tmp_path, "x.npy", np.array([[1e39, 1.0], [2.0, 3.0]]))))


# Fixed points ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Moons, SCurve])
def test_scale_and_shift_are_of_all_of_it(kind: type[Moons | SCurve]) -> None:
    """Noise included: 2 x - 1 of the same draw, and a least variance of 4 times its own."""
    plain, moved = kind(noise=0.3), kind(noise=0.3, scale=2.0, shift=-1.0)
    np.testing.assert_allclose(points(moved), 2 * points(plain) - 1, atol=1e-5)
    assert moved.least_variance() == pytest.approx(4 * plain.least_variance())


def test_fixed_points_are_three_splits_of_one_draw() -> None:
    """Always the same ones, none in two splits, of the law they are drawn from; those of tests are held out and compared with."""
    data = FixedPoints(Moons(noise=0.0, scale=2.0, shift=-1.0), size=300)
    train, validation, test = (np.asarray(data.split(name).x) for name in ("train", "validation", "test"))
    assert len(np.unique(np.concatenate([train, validation, test]), axis=0)) == 900
    np.testing.assert_array_equal(data.load().x, train)
    np.testing.assert_array_equal(data.held_out().x, test)
    np.testing.assert_array_equal(data.validated().held_out().x, validation)
    x, y = (test + 1).T / 2  # on the half circles of make_moons
    assert np.all(np.minimum(np.abs(np.hypot(x, y) - 1), np.abs(np.hypot(x - 1, y - 0.5) - 1)) < 1e-5)
    assert not np.any(np.isin(np.asarray(FixedPoints(data.drawn_from, 300, split_seed=1).load().x), train))
    drawn = points(data)  # in training: these alone, each of them
    assert {tuple(row) for row in drawn} == {tuple(np.float64(row)) for row in train}


def test_samples_are_compared_with_each_test_point_once() -> None:
    """Drawn with replacement, a third of the test points would be missing, and the floor of a distance too high."""
    data = FixedPoints(Moons(), size=300)
    found = data.true_points(None, jax.random.key(3), 300)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(np.asarray(data.held_out().x), axis=0))
    two = data.true_points(None, jax.random.key(3), 600)  # beside them true points for the floor, of another split
    np.testing.assert_array_equal(np.sort(two[300:], axis=0), np.sort(np.asarray(data.split("validation").x), axis=0))
    many = data.true_points(None, jax.random.key(3), 1000)  # then new ones: none twice, and none that was trained on
    assert len(np.unique(np.concatenate([many, np.asarray(data.load().x)]), axis=0)) == 1300


def test_fixed_points_have_equal_counts_where_asked() -> None:
    """8gaussians: as many points of each component, labelled by it; by weight alone the counts would vary."""
    data = FixedPoints(EightGaussians(std=0.1), size=400, equal_counts=True)
    x, y = (np.asarray(each) for each in data.load())
    nearest = np.round(np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)).astype(int) % 8
    np.testing.assert_array_equal(nearest, y)
    assert (np.bincount(y) == 50).all()
    assert (np.bincount(np.asarray(FixedPoints(EightGaussians(), size=400).load().y)) != 50).any()
    for wrong, why in ((FixedPoints(Moons(), equal_counts=True), "no components"), (FixedPoints(data), "finite")):
        with pytest.raises(ValueError, match=why):
            wrong.check()


# Every dataset -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gmm", "mixture"])
def test_measured_moments_are_the_exact_ones(name: str) -> None:
    """measure finds mean and std of a known law within 4 standard errors of its 65,536 draws."""
    dataset: Any = DATASETS[name]()
    exact = mixtures.moments(dataset.mixture())
    found = dataset.moments(dataset.load(), jax.random.key(1))
    std = float(exact.std)
    assert np.all(np.abs(found.mean - exact.mean) < 4 * 2 * std / np.sqrt(65_536))
    assert abs(float(found.std) / std - 1) < 4 * 0.003


def test_measured_moments_of_an_array(tmp_path: Path) -> None:
    """For an array they are its own, though far from 0: float32 cancels nothing."""
    values = np.random.default_rng(0).normal(size=(1000, 4)) * 0.5 + 300.0
    dataset = ArrayFile(standardise=False, file=saved(tmp_path, "x.npy", values))
    found = dataset.moments(dataset.load(), jax.random.key(1))
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-6)
    rows = np.float64(np.float32(values))
    assert float(found.std) == pytest.approx(np.sqrt(rows.var(0).mean()), rel=1e-6)


@pytest.mark.parametrize("name", [name for name, kind in DATASETS.items() if not issubclass(kind, FiniteDataset)])
def test_every_law_is_drawn_from(name: str) -> None:
    """As many finite points as asked for, by the key alone, that vary no less than the dataset says."""
    data: Dataset = DATASETS[name]()
    arrays, n = data.load(), 4096
    x, again, others = (np.asarray(draw_many(data, arrays, jax.random.key(seed), n)) for seed in (1, 1, 2))
    assert x.shape == (n, *point_shape(data, arrays)) and np.isfinite(x).all()
    np.testing.assert_array_equal(x, again)
    assert (np.abs(x - others).reshape(n, -1).max(axis=1) > 0).all()
    assert 0 <= data.least_variance() < 1.1 * x.var(axis=0).min()


def test_draws_are_fresh() -> None:
    """Another key gives other points; the same key the same; a longer draw is not a repetition."""
    first, again, other = (points(Moons(), seed)[:500] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.any(np.all(first == other, axis=1))
    assert len(np.unique(first, axis=0)) == 500
