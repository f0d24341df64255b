"""Pictures of images show what they say: every pixel in its place, and the simulations beside the samples their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from diffsde import empirical
from diffsde.cli.main import main
from diffsde.datasets import ArrayFile, Examples, Ring
from diffsde.fields import EmpiricalField, OracleField
from diffsde.guidance import Autoguided
from diffsde.paths import OT, PATHS, VE, GaussianPath
from diffsde.pictures import Drawn, draw_pictures, scene_of
from diffsde.pictures.comparison_simulations import (
    BETWEEN,
    DEGREES,
    ComparisonSimulations,
    comparison_simulations,
    denoised,
    pairs_alike,
    slerp,
)
from diffsde.pictures.images import ImageScene, image_overview, learnt_from, prediction
from diffsde.pictures.table import IMAGES, PICTURES
from diffsde.plots import images as plots
from diffsde.samplers import EulerMaruyama, Heun, LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.diffusions import Vanishing
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import Trajectory, prior
from diffsde.samplers.ode import Euler


def pictures(n: int, shape: tuple[int, ...] = (4, 4, 1), seed: int = 0) -> np.ndarray:
    """ImageScene far apart, (n, *shape), values in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, *shape)).astype(np.float32)


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure as it is saved, (h, w, 3) bytes."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


def shown(figure: Figure) -> list[np.ndarray]:
    """The tiles of a figure, (h, w, 3) each."""
    return [np.asarray(each.get_array()) for each in figure.images]


# What the pixels are


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (5, 7, 3), (100, 90, 3)])
def test_image_i_is_at_row_i_over_columns(shape: tuple[int, ...]) -> None:
    levels = np.linspace(-1, 1, 7)
    images = np.broadcast_to(levels[:, None, None, None], (7, *shape))
    scale, columns = plots.scale_of(shape), 3
    found = plots.mosaic(images, columns)
    height, width = shape[0] * scale, shape[1] * scale
    assert found.shape == (3 * height + 2 * plots.GAP, 3 * width + 2 * plots.GAP, 3)
    for i in range(9):
        top, left = i // columns * (height + plots.GAP), i % columns * (width + plots.GAP)
        cell = found[top : top + height, left : left + width]
        assert (cell == (plots.rgb(images[i])[0, 0] if i < 7 else 255)).all()
        assert (found[top : top + height, left + width : left + width + plots.GAP] == 255).all()


def test_each_pixel_becomes_a_square_of_its_own_level() -> None:
    image = pictures(1, (8, 8, 3))
    assert (plots.mosaic(image, 1)[3::8, 5::8] == plots.rgb(image[0])).all()


def test_levels_are_clipped_and_grey_is_grey() -> None:
    levels = np.array([-7.0, -1.0, 0.2, 1.0, 3.0])
    expected = np.array([0, 0, 153, 255, 255])
    grey = plots.rgb(levels.reshape(1, 5, 1))
    assert (grey == expected[None, :, None]).all() and grey.shape == (1, 5, 3)
    colour = plots.rgb(np.stack([levels, levels[::-1], 0 * levels - 1], axis=-1)[None])
    assert (colour[0] == np.stack([expected, expected[::-1], 0 * expected], axis=-1)).all()


def test_what_is_transparent_is_white() -> None:
    assert (plots.rgb(np.array([[[-1.0, -1.0], [-1.0, 1.0]]])) == [[[255] * 3, [0] * 3]]).all()
    assert (plots.rgb(np.array([[[1.0, -1.0, -1.0, 0.2]]])) == [[[255, 102, 102]]]).all()


ABOUT = "em, constant sigma = 0.5, 250 steps, path ot, guidance 2, from outputs/train/2026-11-26/12-34-56-789012"
FIGURES: dict[str, Figure] = {
    "grid": plots.grids({"": pictures(5)}, 3),
    "one": plots.grids({"a title much wider than the one image that it has": pictures(1), "b": pictures(1)}, 1),
    "classes": plots.by_class(
        {each: {"0": pictures(4), "a class with a long name": pictures(2)} for each in ("data", "samples")}, ABOUT
    ),
    "denoising": plots.denoising(np.linspace(0, 1, 6), pictures(6)[:, None], pictures(6)[:, None], "$D(x_t)$", ABOUT),
    "interpolations": plots.interpolations(pictures(30).reshape(3, 10, 4, 4, 1), DEGREES, ["7", "", "1"]),
    "neighbours": plots.neighbours(pictures(2), pictures(4).reshape(2, 2, 4, 4, 1), np.array([[0.0, 1.5], [123.4, 9]])),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_pixel_is_resampled_and_no_word_cut_off_or_covered(name: str) -> None:
    figure = FIGURES[name]
    found = pixels_of(figure)
    places = []
    for tile in figure.images:
        pixels, left = np.asarray(tile.get_array()), int(tile.ox)
        top = found.shape[0] - int(tile.oy) - pixels.shape[0]
        assert (found[top : top + pixels.shape[0], left : left + pixels.shape[1]] == pixels).all()
        places.append((left, int(tile.oy), left + pixels.shape[1], int(tile.oy) + pixels.shape[0]))
    words = [each.get_window_extent() for each in figure.texts if each.get_text()]
    assert words or name == "grid"
    for box in words:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= found.shape[1] and box.y1 <= found.shape[0]
        for left, low, right, high in places:
            assert box.x1 <= left or box.x0 >= right or box.y1 <= low or box.y0 >= high
        for other in words:
            assert other is box or not box.overlaps(other)


def test_a_row_for_each_label() -> None:
    x, labels = pictures(11), np.arange(11) % 4
    both = image_overview({"data": -x, "samples": x}, labels)
    for j, row in enumerate(shown(both)):
        expected = (-x if j < 4 else x)[j % 4 :: 4]
        assert (row == plots.mosaic(expected, len(expected))).all()


def test_wide_images_have_fewer_columns() -> None:
    assert plots.fitting_columns((28, 28, 1), 10) == 10
    assert plots.fitting_columns((256, 256, 3), 10) * (256 + plots.GAP) <= plots.WIDTH < 6 * 256
    assert plots.fitting_columns((4000, 4000, 3), 10) == 1


# What is simulated beside the samples


def drawn_by(sampler: Sampler, path: GaussianPath | None = None, n: int = 20) -> tuple[Drawn, np.ndarray]:
    """n samples of the exact field of five images, and these."""
    points, path = pictures(5), path or OT()
    field = EmpiricalField(path, empirical.arrange(jnp.asarray(points)), 5, (4, 4, 1))
    grid = times(UniformGrid(), 24, path)
    x0 = prior(path, grid[0], field.shape, jax.random.key(1), n)
    key = jax.random.key(2)
    x = simulate_compiled(sampler, field, x0, grid, key, settings=LoopSettings(last="denoise")).x
    return Drawn(sampler, field, ArrayFile(file="none.npy"), x0, x, grid, key, "denoise"), points


SDE = EulerMaruyama(Vanishing(1.0))


@pytest.fixture(scope="module", params=[Heun(), SDE], ids=["ode", "sde"])
def made(request: pytest.FixtureRequest) -> tuple[Drawn, np.ndarray, ComparisonSimulations]:
    drawn, points = drawn_by(request.param)
    return drawn, points, comparison_simulations(drawn, 6, 9)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-5)


def test_the_way_begins_at_the_noise_and_ends_at_the_samples(
    made: tuple[Drawn, np.ndarray, ComparisonSimulations],
) -> None:
    drawn, _, (way, _, _) = made
    close(way.x[0], drawn.x0[:6])
    close(way.x[-1], drawn.x[:6])
    assert way.x.shape == way.data.shape == (25, 6, 4, 4, 1)
    close(way.times, np.linspace(0, 1, 25))


def test_the_way_shows_the_posterior_mean(made: tuple[Drawn, np.ndarray, ComparisonSimulations]) -> None:
    """E[z|x_t] of five equal atoms, by Bayes' rule in float64 with numpy."""
    _, points, (way, _, _) = made
    for t, x, data in zip(way.times[:-1].astype(float), way.x, way.data, strict=False):
        off = (x[:, None].astype(float) - t * points).reshape(6, 5, -1)
        logs = -np.sum(off**2, axis=-1) / (2 * (1 - t) ** 2)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(data, np.einsum("ij,jhwc->ihwc", weights, points), atol=2e-3)
    close(way.data[-1], way.x[-1])  # where beta = 0


def test_ode_and_sde_begin_at_the_same_noise(made: tuple[Drawn, np.ndarray, ComparisonSimulations]) -> None:
    drawn, _, (_, panels, _) = made
    stochastic = drawn.sampler.stochastic
    assert [title.split()[0].strip(",:") for title in panels] == ["ODE", "SDE"]
    ode, sde = panels.values()
    other = Euler() if stochastic else SDE
    theirs = simulate_compiled(
        other, drawn.field, drawn.x0, drawn.times, drawn.key, settings=LoopSettings(last="denoise")
    ).x
    close(ode, (theirs if stochastic else drawn.x)[:9])
    close(sde, (drawn.x if stochastic else theirs)[:9])
    assert np.abs(ode - sde).max() > 0.1


def test_interpolations_end_at_the_odes_samples(made: tuple[Drawn, np.ndarray, ComparisonSimulations]) -> None:
    drawn, _, (_, panels, found) = made
    assert found.x.shape == (BETWEEN, len(DEGREES), 4, 4, 1)
    ode = next(iter(panels.values()))
    for (i, j), images in zip(found.ends, found.x, strict=True):
        for place, end in ((i, images[0]), (j, images[-1])):
            if place < len(ode):
                close(end, ode[place])
    middle = (drawn.x0[found.ends[:, 0]] + drawn.x0[found.ends[:, 1]]) / 2**0.5  # 45 degrees lie between 40 and 50
    near = simulate_compiled(
        drawn.sampler if not drawn.sampler.stochastic else Euler(),
        drawn.field,
        middle,
        drawn.times,
        drawn.key,
        settings=LoopSettings(last="denoise"),
    ).x
    same = np.abs(found.x[:, 4] - found.x[:, 5]).reshape(BETWEEN, -1).max(axis=1) < 1e-3  # one basin at both
    assert same.any()
    np.testing.assert_allclose(np.asarray(near)[same], found.x[same, 4], atol=1e-3)


def test_the_law_is_the_same_along_an_interpolation() -> None:
    """Between independent draws of N(0, 9 I): every point ~ N(0, 9 I), where a straight line would shrink to 4.5."""
    a, b = 3 * jax.random.normal(jax.random.key(0), (2, 4000, 4, 4, 2))
    found = np.asarray(slerp(a, b))
    assert (found[:, 0] == np.asarray(a)).all()
    close(found[:, -1], b)
    flat = found.reshape(4000, len(DEGREES), -1)
    for j in range(len(DEGREES)):  # 128,000 numbers: a standard error of 0.4% of the variance, of 1.4% of the kurtosis
        covariance = np.cov(flat[:, j].T)
        assert np.trace(covariance) / 32 == pytest.approx(9, rel=0.02)
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 9 * 0.08
        assert np.mean(flat[:, j] ** 4) == pytest.approx(3 * 81, rel=0.06)


def test_interpolations_are_between_samples_given_the_same() -> None:
    labels = np.arange(40) % 10
    found = pairs_alike(jnp.asarray(labels), 40)
    assert len(found) == BETWEEN and len(set(found.ravel().tolist())) == 2 * BETWEEN
    assert (labels[found[:, 0]] == labels[found[:, 1]]).all()
    assert pairs_alike(None, 5).tolist() == [[0, 1], [2, 3]]
    assert pairs_alike(
        {"y": jnp.array([0, 0, 0, 1]), "m": jnp.array([[1.0, 2], [1, 3], [1, 2], [1, 2]])}, 4
    ).tolist() == [[0, 2]]
    assert pairs_alike(None, 1).shape == pairs_alike(jnp.arange(3), 3).shape == (0, 2)


def test_one_sample_has_no_interpolation() -> None:
    drawn, _ = drawn_by(Euler(), n=1)
    way, panels, (ends, between) = comparison_simulations(drawn, 1, 1)
    assert ends.shape == (0, 2) and between.shape == (0, len(DEGREES), 4, 4, 1)
    close(way.x[-1], drawn.x)
    assert all(images.shape == (1, 4, 4, 1) for images in panels.values())


def test_states_of_a_path_that_explodes_are_of_the_size_of_data() -> None:
    """VE starts at noise of std 50; it is shown divided by (1 + beta^2)^(1/2), which leaves the end as it is."""
    path, points = VE(noise_min=1e-3), pictures(5)
    field = EmpiricalField(path, empirical.arrange(jnp.asarray(points)), 5, (4, 4, 1))
    states = jnp.stack([50 * jax.random.normal(jax.random.key(0), (5, 4, 4, 1)), jnp.asarray(points)])
    x, data = denoised(field, Trajectory(jnp.array([0.0, 1.0]), states), None)
    close(x, states / jnp.array([2501**0.5, 1.0]).reshape(2, 1, 1, 1, 1))
    close(data[1], points)


# What it was learnt from


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("bytes_", [False, True])
def test_nearest_is_brute_force(flip: bool, bytes_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffsde.metrics.neighbours.COLUMNS", 7)  # seven images at a time
    points, x = pictures(50, (3, 4, 1)), pictures(4, (3, 4, 1), seed=1)
    stored = np.rint((points + 1) * 127.5).astype(np.uint8) if bytes_ else points
    points = stored / 127.5 - 1 if bytes_ else points
    x[2] = points[31, :, ::-1] if flip else points[31]
    every = np.concatenate([points, np.flip(points, axis=2)]) if flip else points
    distances = np.sqrt(((x[:, None] - every) ** 2).sum(axis=(2, 3, 4)))
    order = np.argsort(distances, axis=1)
    near, found = learnt_from(x, stored, flip)
    order = order[:, : near.shape[1]]
    np.testing.assert_allclose(found, np.take_along_axis(distances, order, 1), atol=1e-6)
    np.testing.assert_allclose(near, every[order], atol=1e-6)
    assert found[2, 0] < 1e-6
    assert learnt_from(x, stored[:2], False)[1].shape == (4, 2)


def test_data_beside_samples_is_of_their_labels(made: tuple[Drawn, np.ndarray, ComparisonSimulations]) -> None:
    points, y = pictures(30), np.arange(30) % 3
    labels = np.array([2, 0, 1, 1, 2, 0, 0])
    dataset = made[0].dataset
    assert isinstance(dataset, ArrayFile)
    chosen = dataset.draw_given(Examples(jnp.asarray(points), jnp.asarray(y)), labels, jax.random.key(0), 7)
    rows = [int(np.flatnonzero((points == image).all(axis=(1, 2, 3)))[0]) for image in chosen]
    assert (y[rows] == labels).all()


def test_data_that_is_not_here_is_said(
    made: tuple[Drawn, np.ndarray, ComparisonSimulations], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And takes no other picture with it: samples.png has the samples alone."""
    chosen = {name: PICTURES[IMAGES][name] for name in ("neighbours", "samples")}
    drawn = made[0]._replace(known=False)
    assert draw_pictures(scene_of(drawn, chosen), chosen, tmp_path) == [tmp_path / "samples.png"]
    assert "no neighbours.png: dataset.file: 'none.npy' is not a file" in capsys.readouterr().err
    (found,) = shown(chosen["samples"].draw(ImageScene(drawn, ())))
    assert (found == plots.mosaic(np.asarray(drawn.x), 5)).all()


# The commands


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with colour images in bytes, two classes of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    x = np.rint((pictures(24, (6, 5, 3)) + 1) * 127.5).astype(np.uint8)
    np.savez(here / "colour.npz", x=x, y=np.arange(24) % 2)
    return here


def test_samples_png_is_samples_npz(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside as many images of the data; and of the other pictures there are those that were named."""
    words = "sample run=oracle dataset=array dataset.file=colour.npz path=ot n=20 steps=12 hydra.run.dir=a".split()
    assert main([*words, "pictures=[default,interpolations]"]) == 0
    drawn = {path.stem for path in (here / "a" / "plots").iterdir()}
    assert drawn == {"samples", "denoising", "interpolations"}
    said = capsys.readouterr().out
    assert all(f"picture  a/plots/{name}.png" in said for name in drawn)
    assert "or some of [film,comparison,neighbours]" in said.splitlines()[-2]
    assert said.index("samples.npz") < said.index("samples.png")
    with np.load(here / "a" / "samples.npz") as archive:
        x = archive["x"]
    found = np.rint(imread(here / "a" / "plots" / "samples.png")[..., :3] * 255).astype(np.uint8)
    expected = plots.mosaic(x, 5)
    (height, width, _), edge = expected.shape, plots.SPACE
    assert (found[-height - edge : -edge, -width - edge : -edge] == expected).all()
    data = np.load(here / "colour.npz")["x"]
    for i in range(20):
        top, left = i // 5 * CELL[0] - height - edge, edge + i % 5 * CELL[1]
        tile = found[found.shape[0] + top :, left:][: CELL[0] - plots.GAP, : CELL[1] - plots.GAP]
        assert any((tile == plots.arranged(image[None], 1, 255)).all() for image in data)


@pytest.mark.parametrize(
    ("guided", "told", "name"),
    [
        (False, False, r"z\,|\,x_t]"),
        (False, True, r"z\,|\,x_t, y]"),
        (True, True, "D_w(x_t, y)"),
        (True, False, "D_w(x_t)"),
    ],
)
def test_a_guided_prediction_is_not_called_an_expectation(guided: bool, told: bool, name: str) -> None:
    field = OracleField(PATHS["ot"](), Ring().mixture(), (2,))
    shown = Autoguided(field, field, *map(jnp.asarray, (2.0, 0.0, 1.0))) if guided else field
    x = jnp.zeros((3, 2))
    how = Heun(), shown, Ring(), x, x, jnp.linspace(0, 1, 3), jax.random.key(0), "mean", False
    assert prediction(Drawn(*how, jnp.arange(3) if told else None)).endswith(name + "$")


CELL = 6 * plots.scale_of((6, 5, 3)) + plots.GAP, 5 * plots.scale_of((6, 5, 3)) + plots.GAP


def trained(run: str) -> None:
    words = "dataset=array dataset.file=colour.npz dataset.conditional=true net=mlp net.widths=[8] steps=2".split()
    assert main(["train", *words, "batch_size=8", "log_every=1", f"hydra.run.dir={run}"]) == 0


@pytest.mark.slow
def test_training_on_images_ends_with_samples(here: Path) -> None:
    """A row of ten for each of the two labels."""
    trained("run")
    picture = imread(here / "run" / "plots" / "samples.png")
    about = picture.shape[0] - (2 * CELL[0] - plots.GAP + 2 * plots.SPACE)  # over the images
    assert 0 < about < 3 * plots.LINE
    assert 0 < picture.shape[1] - (10 * CELL[1] - plots.GAP + 2 * plots.SPACE) < 40  # and the labels' names


@pytest.mark.slow
def test_what_training_proposes_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It works, and each row of its pictures is of one label."""
    trained("run")
    said = next(line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "next")
    assert "labels=all" in said and "sigma" not in said
    assert main([*said.split()[2:], "n=6", "steps=2", "hydra.run.dir=b"]) == 0
    with np.load(here / "b" / "samples.npz") as archive:
        x, y = archive["x"], archive["y"]
    found = np.rint(imread(here / "b" / "plots" / "samples.png")[..., :3] * 255).astype(np.uint8)
    for label in (0, 1):
        bottom = found.shape[0] - plots.SPACE - (1 - label) * CELL[0]
        row = plots.mosaic(x[y == label], 3)
        assert (found[bottom - row.shape[0] : bottom, -plots.SPACE - row.shape[1] : -plots.SPACE] == row).all()
