"""Pictures of points, and films: every dot in its place, nothing cut off, and the truth beside what was sampled."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from matplotlib.figure import Figure
from PIL import Image

from diffsde.cli.main import main
from diffsde.couplings import COUPLINGS
from diffsde.datasets import DATASETS, ArrayFile
from diffsde.datasets.mixture import CustomMixture
from diffsde.fields import EmpiricalField, OracleField
from diffsde.interpolants import OracleInterpolant
from diffsde.paths import PATHS, VE, GaussianPath
from diffsde.pictures import Between, Drawn, TrainedRun, chosen_pictures, sweep_grid, training
from diffsde.pictures.points import PIXELS, PointScene
from diffsde.pictures.table import IMAGES, LINE, PICTURES, PLANE, RUN_IN_PLANE, SETS, TABLE
from diffsde.plots import film, grid, images, marginals
from diffsde.plots.style import LETTERS, Extent, HeatMap, in_lines, window
from diffsde.runs.results import Cell
from diffsde.samplers import EulerMaruyama, Heun, Sampler, simulate_compiled
from diffsde.samplers.flow_map import FlowMapJumps
from diffsde.samplers.loop import prior
from diffsde.samplers.ode import Euler
from diffsde.types import register

CONFIGS = Path(__file__).parent.parent / "configs"
RANDOM = np.random.default_rng(0)

# Discs of ink


def test_a_disc_hides_its_area_about_its_centre() -> None:
    """pi r^2 and the centre of mass, of an edge that a pixel's width softens, wherever in a pixel the centre lies."""
    for x, y in RANDOM.uniform(8, 12, (20, 2)):
        hidden = -np.expm1(-film.discs(np.array([[x, y]]), (20, 24))) / film.COVER
        assert hidden.sum() == pytest.approx(np.pi * (film.DISC**2 + 1 / 12), rel=0.08)
        columns, rows = np.meshgrid(np.arange(24) + 0.5, np.arange(20) + 0.5)
        assert (hidden * columns).sum() / hidden.sum() == pytest.approx(x, abs=0.06)
        assert (hidden * rows).sum() / hidden.sum() == pytest.approx(y, abs=0.06)


def test_one_disc_over_another_lets_the_product_through() -> None:
    points = RANDOM.uniform(0, 9, (7, 2))
    each = np.prod([np.exp(-film.discs(point[None], (9, 9))) for point in points], axis=0)
    np.testing.assert_allclose(np.exp(-film.discs(points, (9, 9))), each, rtol=1e-12)
    assert not film.discs(np.array([[-5.0, 3.0], [30.0, 3.0], [3.0, 1e9]]), (9, 9)).any()


# Films


def decoded(film: film.Film) -> tuple[list[np.ndarray], list[int]]:
    """The frames that a reader of the GIF sees, and how long it sees each."""
    file = BytesIO()
    film.save(file)
    read, frames, pauses = Image.open(file), [], []
    for i in range(read.n_frames):  # type: ignore[attr-defined]
        read.seek(i)
        frames.append(np.asarray(read.convert("RGB")))
        pauses.append(read.info["duration"])
    assert read.info["loop"] == 0
    return frames, pauses


def test_a_film_shows_every_state_and_holds_the_last() -> None:
    """Of grey images: each pixel is there, to the few shades that words take of the palette, over every other frame's."""
    moving = {each: RANDOM.uniform(-1, 1, (4, 4, 5, 5, 1)).astype(np.float32) for each in ("x", "z")}
    frames, pauses = decoded(images.film_of_images(moving, np.array([0.0, 0.25, 0.5, 1.0]), 2, "about"))
    assert len(frames) == 4 and pauses == [60] * 3 + [pauses[-1]]
    assert pauses[-1] == pytest.approx((1 + film.HOLD) * film.PAUSE, abs=10)
    side = 2 * images.scale_of((5, 5)) * 5 + images.GAP
    for i, frame in enumerate(frames):
        top = next(
            row
            for row in range(len(frame))
            if (frame[row, images.SPACE : images.SPACE + side] < 255).all(axis=1).sum() > 99
        )
        for j, each in enumerate(moving.values()):
            left = images.SPACE + j * (side + 2 * images.SPACE)
            off = frame[top : top + side, left : left + side].astype(int) - images.mosaic(each[i], 2)
            assert np.abs(off).max() <= 6


def test_dots_of_a_film_lie_where_their_axes_say() -> None:
    """One dot, known by the pixels that differ from a frame without any; and none on the border of what lies outside."""
    times = np.linspace(0, 1, 3)
    extent = window([np.array([[-3.0, -1.0], [1.0, 3.0]])])
    flat = HeatMap(np.ones((4, 4)), extent)
    places = np.array([[-2.0, 2.5], [0.5, -0.5], [50.0, 0.0]])
    one = marginals.film_of_points({"a": places[:, None], "b": np.full((3, 1, 2), 99.0)}, times, flat, extent)
    none = marginals.film_of_points({"a": np.full((3, 1, 2), 99.0), "b": np.full((3, 1, 2), 99.0)}, times, flat, extent)
    seen = []
    for i in range(3):
        differs = (one.palette[one.frames[i]] != none.palette[none.frames[i]]).any(axis=-1)
        seen.append(np.argwhere(differs).mean(axis=0) if differs.any() else None)
    assert seen[2] is None
    assert seen[0] is not None and seen[1] is not None
    moved = seen[1] - seen[0]  # rows, columns: the scale is one for both, and downwards is less
    assert moved[1] / (places[1, 0] - places[0, 0]) == pytest.approx(
        -moved[0] / (places[1, 1] - places[0, 1]), rel=0.02
    )
    assert moved[1] > 100


def test_words_of_a_film_are_grey_and_its_ground_white() -> None:
    """Whatever colours the shades take: red ones would give the titles a tint."""
    ramp = np.add.outer(np.linspace(0, 1, 60), np.linspace(0, 1, 60))
    extent = window([np.array([[0.0, 0.0], [1.0, 1.0]])])
    made = marginals.film_of_points({"title": np.zeros((1, 5, 2))}, np.zeros(1), HeatMap(ramp, extent), extent, "about")
    frame = made.palette[made.frames[0]].astype(int)
    assert (frame[0, 0] == 255).all()
    title = frame[: len(frame) // 8].reshape(-1, 3)
    assert title.min() < 100 and np.ptp(title, axis=1).max() < 40


# The window, and the truth


@pytest.mark.parametrize(("name", "path"), [("gmm", "ve"), ("moons", "ot")])
def test_no_noise_is_cut_off(name: str, path: str) -> None:
    """All but a thousandth of the data, of the noise and of the samples lie in the window at every time."""
    scene = points_of(name, path)
    left, right, bottom, top = scene.extent[:4]
    for run in scene.runs.values():
        for x in [*run.x, scene.truth, *scene.true]:
            inside = (x[:, 0] > left) & (x[:, 0] < right) & (x[:, 1] > bottom) & (x[:, 1] < top)
            assert inside.mean() >= 0.999


@cache
def points_of(name: str, path: str = "ot", sampler: Sampler | None = None) -> PointScene:
    """Samples of a mixture's exact field; of other data those of gmm's field stand in, which a window does not tell."""
    dataset, chosen = DATASETS[name](), VE() if path == "ve" else PATHS[path]()
    mixture = (dataset if hasattr(dataset, "mixture") else DATASETS["gmm"]()).mixture()
    field, times, key = OracleField(chosen, mixture, (2,)), jnp.linspace(0, 1, 13), jax.random.key(3)
    x0 = prior(chosen, times[0], (2,), jax.random.key(1), 500)
    x = simulate_compiled(sampler or Heun(), field, x0, times, key).x
    return PointScene(Drawn(sampler or Heun(), field, dataset, x0, x, times, key, "mean"))


def test_between_two_laws_p_t_goes_from_the_source_to_the_data() -> None:
    """Exact between mixtures, with the source's density at t = 0; x_t is drawn of both; a field without a score has no SDE."""
    source, dataset, times = DATASETS["gmm"](2, 3.0, 0.5), DATASETS["gmm"](3, 5.0), jnp.linspace(0, 1, 5)
    field = OracleInterpolant(PATHS["bridge"](), source.mixture(), dataset.mixture(), (2,))
    x0 = source.draw(source.load(), jax.random.key(1), 50)
    drawn = Drawn(Heun(), field, dataset, x0, x0, times, jax.random.key(3), "mean", source=source)
    scene = PointScene(drawn)
    assert scene.knows_density
    vars(scene)["edges"] = [np.linspace(-6, 6, 41)] * 2
    middles = [(each[1:] + each[:-1]) / 2 for each in scene.edges]
    grid = np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2)
    for density, dataset_there in zip(scene.densities(np.array([0.0, 1.0])), (source, dataset), strict=True):
        law = dataset_there.mixture()
        exact = sum(
            w * scipy.stats.multivariate_normal(m, v[0]).pdf(grid)
            for w, m, v in zip(law.weights, law.means, law.variances, strict=True)
        )
        np.testing.assert_allclose(density.ravel(), exact, rtol=2e-3, atol=1e-6)
    start, end = scene.true_at(np.array([0.0, 1.0], np.float32), 5000)
    radii = np.hypot(*start.T).mean(), np.hypot(*end.T).mean()
    assert radii == (pytest.approx(3.04, abs=0.05), pytest.approx(5.1, abs=0.08))
    unknown = PointScene(
        drawn._replace(
            source=DATASETS["circles"](), field=NoScore(PATHS["ot"](), source.mixture(), dataset.mixture(), (2,))
        )
    )
    assert not unknown.knows_density and list(unknown.runs) == ["ODE: heun"]
    assert unknown.how_known(0.5) == "histogram of 20,000 draws"
    made = PointScene(unknown.drawn._replace(coupling=COUPLINGS["iterated"]()))
    assert made.how_known(0.5) == "of independent pairs, not the run's" and "draws" in made.how_known(1.0)


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class NoScore(OracleInterpolant):
    """A field that knows neither its score nor labels."""

    knows_score = False  # type: ignore[assignment]
    classes = 0  # type: ignore[assignment]


@pytest.mark.slow
def test_a_run_is_drawn_beside_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of x_t and one of samples, at the same times: here of the exact field, so that both have the same moments."""
    monkeypatch.setattr(training, "DRAWN", 4001)  # the least that is counted, not scattered
    monkeypatch.setattr(training, "MARGINAL_STEPS", 20)
    source, dataset = DATASETS["gmm"](2, 3.0, 0.5), DATASETS["gmm"](3, 5.0)
    field = NoScore(PATHS["ot"](), source.mixture(), dataset.mixture(), (2,))
    between = Between(field.path, source)
    run = TrainedRun([], 1, 1, None, "a run", [], [], field, dataset, jax.random.key(0), between)  # type: ignore[arg-type]
    figure = PICTURES[RUN_IN_PLANE]["marginals"].draw(run)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"{row}, t = {t:g}" for row in ("data", "samples") for t in (0, 0.25, 0.5, 0.75, 1)]
    assert "alpha z + beta y" in figure.get_suptitle().replace("\n", " ")
    images = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    for above, below in zip(images[:5], images[5:], strict=True):
        centre, other = (np.array(scipy.ndimage.center_of_mass(each)) for each in (above, below))
        assert np.abs(centre - other).max() < 1.5  # pixels of 64


def test_the_true_row_is_data_with_noise() -> None:
    """Mean alpha E z and variance alpha^2 var z + beta^2, which no sampler had a part in; over the samples at the same times."""
    scene = points_of("moons", "ot")
    z = scene.truth
    for t, x in zip(
        scene.samples.times[scene.shown], scene.true_at(scene.samples.times[scene.shown], 20_000), strict=True
    ):
        np.testing.assert_allclose(x.mean(axis=0), t * z.mean(axis=0), atol=0.03)
        np.testing.assert_allclose(x.var(axis=0), t**2 * z.var(axis=0) + (1 - t) ** 2, rtol=0.05, atol=1e-6)
    drawn = PICTURES[PLANE]["marginals"].draw(scene)
    titles = [axis.get_title() for axis in drawn.axes]
    rows = ("histogram of 20,000 draws", "500 samples")
    assert titles == [f"{row}, t = {t:.3g}" for row in rows for t in (0, 0.33, 0.67, 1)]
    for axis, i in zip(drawn.axes[4:], scene.shown, strict=True):
        np.testing.assert_allclose(axis.collections[0].get_offsets(), scene.samples.x[i])


@pytest.mark.parametrize("name", ["gmm", "moons", pytest.param("table", marks=pytest.mark.slow)])
def test_the_density_under_the_samples_integrates_to_one(name: str) -> None:
    """Exact of a mixture and of a finite set, counted of other data."""
    scene = scene_of_table() if name == "table" else points_of(name)
    left, right, bottom, top = scene.extent[:4]
    pixel = (right - left) * (top - bottom) / PIXELS**2
    for density in scene.maps:
        assert density.values.sum() * pixel == pytest.approx(1, abs=0.01)


def scene_of_table(d: int = 2, **changes: Any) -> PointScene:
    """Samples of the exact field of 40 points in d columns of unlike units, a quarter of them held out."""
    random = np.random.default_rng(1)
    x = np.float32(random.normal(size=(40, d)) * np.geomspace(1, 100, d) + 7)
    path = Path(tempfile.mkdtemp()) / "table.csv"
    path.write_text("\n".join([",".join(f"c{i}" for i in range(d)), *(",".join(map(str, row)) for row in x)]))
    dataset, chosen, key = ArrayFile(str(path), test="0.25"), PATHS["ot"](), jax.random.key(3)
    field, times = dataset.exact_field(chosen), jnp.linspace(0, 0.9, 13)
    x0 = prior(chosen, times[0], (d,), jax.random.key(1), 300)
    x1 = simulate_compiled(Heun(), field, x0, times, key).x
    how = Heun(), field, dataset, x0, x1, times, key, "mean"
    return PointScene(Drawn(*how, scaling=dataset.scaling((d,)), **changes))


def test_the_density_of_a_table_is_its_exact_field_s() -> None:
    """exp log_prob of the field, in the model's units, over the product of the stds."""
    scene = scene_of_table()
    drawn, t = scene.drawn, 0.5
    assert drawn.scaling is not None and isinstance(drawn.field, EmpiricalField)
    density, places = scene.densities(np.array([t]))[0], [(e[1:] + e[:-1]) / 2 for e in scene.edges]
    for row, column in ((80, 80), (70, 95), (50, 60)):
        own = np.array([places[0][column], places[1][row]])
        model = jnp.asarray((own - drawn.scaling.mean) / drawn.scaling.std, jnp.float32)
        exact = np.exp(drawn.field.log_prob(model, t)) / np.prod(drawn.scaling.std)
        assert density[row, column] == pytest.approx(exact, rel=0.02)


def line(path: GaussianPath) -> PointScene:
    dataset = CustomMixture(means=((-2.0,), (1.5,)), stds=(0.5, 0.3))
    field, times, key = OracleField(path, dataset.mixture(), (1,)), jnp.linspace(0, 1, 13), jax.random.key(3)
    x0 = prior(path, times[0], (1,), jax.random.key(1), 500)
    x = simulate_compiled(Heun(), field, x0, times, key).x
    return PointScene(Drawn(Heun(), field, dataset, x0, x, times, key, "mean", about="heun, 12 steps, 24 NFE"))


def test_lines_are_the_exact_densities() -> None:
    """Of scipy, at the samples' end and at their start, with the axes named and nothing of the noise cut off."""
    scene = line(PATHS["ot"]())
    figure = PICTURES[LINE]["samples"].draw(scene)
    (axis,) = figure.axes
    end, start = axis.lines
    normal = scipy.stats.norm.pdf
    places = np.asarray(end.get_xdata())
    law = (normal(places, -2, 0.5) + normal(places, 1.5, 0.3)) / 2
    np.testing.assert_allclose(end.get_ydata(), law, atol=1e-5)
    np.testing.assert_allclose(start.get_ydata(), normal(places), atol=1e-5)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("$x$", "density")
    low, high = axis.get_xlim()
    for x in (*scene.true, np.asarray(scene.drawn.x0), np.asarray(scene.drawn.x)):
        assert ((x > low) & (x < high)).mean() >= 0.999
    moving = PICTURES[LINE]["trajectories"].draw(scene)
    low, high = moving.axes[0].get_ylim()
    assert ((scene.true[0] > low) & (scene.true[0] < high)).mean() >= 0.999
    texts = [text.get_text() for text in moving.legends[0].get_texts()]
    assert texts == ["exact $p_t$, t = 0", "exact $p_t$, t = 1"]
    middle = PICTURES[LINE]["marginals"].draw(scene).axes[1]  # t = 1/3: means t mu, variances t^2 s^2 + (1 - t)^2
    t = float(scene.samples.times[scene.shown[1]])
    stds = np.sqrt(t**2 * np.array([0.5, 0.3]) ** 2 + (1 - t) ** 2)
    law = (normal(places, -2 * t, stds[0]) + normal(places, 1.5 * t, stds[1])) / 2
    np.testing.assert_allclose(middle.lines[0].get_ydata(), law, atol=1e-5)


@pytest.mark.parametrize(
    ("chosen", "names", "about"),
    [
        (None, ["c0", "c1", "c2", "c3"], "the first 4 of 6 coordinates"),
        (("c4", "0", "3"), ["c4", "c0", "c3"], "3 of 6 coordinates"),
        ("principal", None, "4 principal components of 6 coordinates"),
    ],
)
def test_a_corner_plot_holds_every_sample_against_held_out_points(chosen: Any, names: Any, about: str) -> None:
    scene = scene_of_table(6, coordinates=chosen, about="heun, 12 steps, 24 NFE")
    many = np.concatenate([np.tile(np.asarray(scene.drawn.x), (27, 1)), np.full((1, 6), 300.0)])  # one far outside
    scene = PointScene(scene.drawn._replace(x=many))
    figure = PICTURES[TABLE]["corner"].draw(scene)
    assert figure.get_suptitle().replace("\n", " ") == f"heun, 12 steps, 24 NFE, {about}"
    k = len(scene.view.names)
    axes = np.array(figure.axes).reshape(k, k)
    if names:
        assert [axis.get_xlabel() for axis in axes[-1]] == names
        assert [axis.get_ylabel() for axis in axes[1:, 0]] == names[1:]
        columns = [int(name[1]) for name in names]
        np.testing.assert_allclose(scene.own(scene.drawn.x), scene.drawn.own(scene.drawn.x)[:, columns], rtol=1e-5)
    else:
        assert all(re.fullmatch(r"component \d \(\d+%\)", axis.get_xlabel()) for axis in axes[-1])
        covariance = np.cov(scene.own(scene.truth).T)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)
        assert (np.diff(np.diag(covariance)) < 0).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["8,101 samples", "10 held-out points"]
    for i in range(k):
        heights, edges = bars_of(axes[i, i].patches[0])
        counts = heights * np.diff(edges) * 8101
        np.testing.assert_allclose(
            counts, np.histogram(scene.own(many)[:, i], edges)[0], atol=1.1
        )  # a sample on an edge
        assert counts.sum() == pytest.approx(8101, rel=1e-6)
        assert (scene.own(scene.drawn.x)[:, i] >= edges[0]).all() and (
            scene.own(scene.drawn.x)[:, i] <= edges[-1]
        ).all()


def bars_of(patch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Heights and edges of a filled histogram's bars, from its outline: up and down again at each edge, and back along 0."""
    outline = patch.get_xy()
    edges = np.unique(outline[:, 0])
    middles = (edges[1:] + edges[:-1]) / 2
    tops = []
    for middle in middles:
        crossing = (np.minimum(outline[:-1, 0], outline[1:, 0]) < middle) & (
            middle < np.maximum(outline[:-1, 0], outline[1:, 0])
        )
        tops.append(outline[:-1][crossing][:, 1].max())
    return np.array(tops), edges


def test_the_line_of_a_corner_plot_is_the_marginal() -> None:
    """Of a mixture in three dimensions: scipy's, of each coordinate."""
    means, stds = ((-2.0, 0.0, 1.0), (2.0, 3.0, 1.0)), (0.5, 1.0)
    dataset, key = CustomMixture(means=means, stds=stds), jax.random.key(3)
    field, times = OracleField(PATHS["ot"](), dataset.mixture(), (3,)), jnp.linspace(0, 1, 3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    scene = PointScene(Drawn(Heun(), field, dataset, x, x, times, key, "mean", coordinates=("2", "0")))
    figure = PICTURES[TABLE]["corner"].draw(scene)
    for axis, i in ((figure.axes[0], 2), (figure.axes[3], 0)):
        places, density = axis.lines[0].get_data()
        law = sum(scipy.stats.norm.pdf(places, mean[i], std) for mean, std in zip(means, stds, strict=True)) / 2
        np.testing.assert_allclose(density, law, atol=1e-5)


def test_ode_and_sde_start_at_one_noise_and_one_of_them_is_the_samples() -> None:
    """Without its sigma Euler-Maruyama is Euler, to the bit: the two are one program."""
    sampler = EulerMaruyama()
    scene = points_of("gmm", sampler=sampler)
    ode, sde = scene.runs.values()
    assert (ode.x[0] == sde.x[0]).all() and (sde.x[0] == np.asarray(scene.drawn.x0)).all()
    np.testing.assert_allclose(sde.x[-1], scene.drawn.x, atol=1e-4)
    drawn = scene.drawn
    euler = simulate_compiled(Euler(), drawn.field, drawn.x0, drawn.times, drawn.key).x
    np.testing.assert_allclose(ode.x[-1], euler, atol=1e-4)
    assert list(scene.runs) == ["ODE: euler", "SDE: em, constant sigma = 0.5"]


def test_beside_jumps_no_sde_is_drawn() -> None:
    """At the two times of one jump its paths would be straight lines."""
    assert list(points_of("gmm", sampler=FlowMapJumps()).runs) == ["jumps: flow_map"]


def test_no_word_is_left_alone_in_the_small_line() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve"
    width = (len(words) - 1) / LETTERS  # inches, in which all but the last word fit
    first, last = in_lines(words, width)
    assert f"{first} {last}" == words and abs(len(first) - len(last)) <= len("twelve")


def test_the_sde_beside_samples_is_stable_on_a_thin_set() -> None:
    """With sigma = 0.5 and h = 1/12, Euler-Maruyama grows deviations from data of std 0.02: sigma_t = sigma beta does not."""
    dataset = CustomMixture(means=((-1.0, 0.0), (1.0, 0.0)), stds=(0.02, 0.02))
    scene = points_of("gmm")
    field = OracleField(PATHS["ot"](), dataset.mixture(), (2,))
    thin = PointScene(scene.drawn._replace(dataset=dataset, field=field))
    assert list(thin.runs)[1] == "SDE: em, vanishing sigma = 0.5"
    assert np.abs(np.abs(thin.runs["SDE: em, vanishing sigma = 0.5"].x[-1]) - [1, 0]).max() < 0.3


# The table


def test_the_help_names_every_picture() -> None:
    """Those of each kind of data, in the comments that --help shows."""
    about = {
        verb: re.search(r"^pictures: .*# (.*)$", (CONFIGS / f"{verb}.yaml").read_text(), re.M)
        for verb in ("sample", "train", "simulate")
    }
    for kind, pictures in PICTURES.items():
        text = about["train" if kind.startswith("a run") else "simulate" if kind.startswith("paths") else "sample"]
        assert text and " ".join(pictures) in text[1], kind


def test_words_for_sets_of_pictures() -> None:
    assert list(chosen_pictures(("default",), IMAGES)) == ["samples", "denoising"]
    assert list(chosen_pictures(("film", "default"), IMAGES)) == ["samples", "denoising", "film"]
    assert list(chosen_pictures(("all",), IMAGES)) == list(PICTURES[IMAGES])
    assert not {*SETS} & {name for kind in PICTURES.values() for name in kind}


def test_titles_say_what_pictures_are_of() -> None:
    """Also a run whose folder has the signs of a formula in its name."""
    whole = points_of("gmm")
    scene = PointScene(whole.drawn._replace(about="heun, 12 steps, path ot, from runs/a$b$_c"))
    vars(scene).update(runs=whole.runs, truth=whole.truth, true=whole.true, maps=whole.maps)
    for name, picture in PICTURES[PLANE].items():
        if isinstance(drawn := picture.draw(scene), Figure):
            drawn.canvas.draw()
            assert drawn.get_suptitle().startswith(r"heun, 12 steps, path ot, from runs/a\$b\$_c")
            if name in ("trajectories", "marginals"):  # of points in the plane itself
                assert {axis.get_xlabel() for axis in drawn.axes if axis.get_xlabel()} == {"$x_1$"}


@pytest.mark.slow
def test_a_picture_that_fails_takes_nothing_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples, their summary and the other pictures are there; the table came first."""
    monkeypatch.chdir(tmp_path)
    good = PICTURES[PLANE]["marginals"]

    def fails(points: PointScene) -> Figure:
        assert (tmp_path / "out" / "summary.json").exists() and (tmp_path / "out" / "samples.npz").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(PICTURES[PLANE], "marginals", good._replace(draw=fails))
    words = "sample run=oracle dataset=gmm path=ot n=30 steps=4 hydra.run.dir=out".split()
    assert main([*words, "pictures=[marginals,film]"]) == 0
    said = capsys.readouterr()
    assert "no marginals.png: [Errno 28] No space left on device" in said.err
    assert {path.name for path in (tmp_path / "out" / "plots").iterdir()} == {"cloud.gif"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "pictures=[film,trajectory]",
            "'trajectory' is not a picture of points in the plane (did you mean 'trajectories'?)",
        ),
        ("pictures=[]", "pictures is empty"),
        ("pictures=[none,film]", "pictures is [none,film]; none stands alone"),
        ("pictures=all plots=false", "plots=false and pictures=[all] disagree"),
        ("pictures=none plots=true", "plots=true and pictures=none disagree"),
    ],
)
def test_what_is_no_picture_is_refused_before_sampling(
    words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "sample run=oracle dataset=gmm path=ot n=30 steps=4 hydra.run.dir=out"
    assert main([*command.split(), *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "out" / "samples.npz").exists()


# The grid of a sweep


def test_the_cells_of_a_sweep_s_grid_are_its_jobs_samples(here: Path) -> None:
    """In the order of the swept values, with titles that say the value, and what all jobs share."""
    cells = []
    for i, sigma in enumerate(("0", "0.5", "1")):
        (here / str(i)).mkdir()
        np.savez(here / str(i) / "samples.npz", x=RANDOM.normal(size=(30, 2)) + i)
        config = {"seed": 0, "n": 30, "run": "oracle", "guidance": None, "sampler": {"name": "em"}}
        config |= {"dataset": {"name": "gmm"}, "path": {"name": "ot"}}
        cells.append(Cell(here / str(i), {"sigma": sigma}, config, {"steps": 40, "nfe": 40, "start": 0.0}))
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_grid, "save_figure", lambda path, figure: drawn.append(figure) or path)
        assert sweep_grid.draw_grid(cells, here, np.zeros((5, 2))) == [here / "samples.png"]
    (figure,) = drawn
    titles = ["without label, sigma = 0", "sigma = 0", "sigma = 0.5", "sigma = 1"]  # the first job's, but for the label
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis, cell in zip(figure.axes[1:], cells, strict=True):
        np.testing.assert_allclose(axis.collections[0].get_offsets(), np.load(cell.job / "samples.npz")["x"])
    title = figure.get_suptitle().replace("\n", " ")
    assert title.startswith(
        "sigma varied, each from the same starting noise, em, 40 steps, 40 NFE, path ot, exact field of gmm, seed=0"
    )
    others = [*cells[:2], cells[2]._replace(config=cells[2].config | {"seed": 4})]
    assert (
        sweep_grid.seeds_of(others, ["sigma"]) == ["seed=0,0,4 in turn"] and sweep_grid.seeds_of(others, ["seed"]) == []
    )


@pytest.mark.slow
def test_guidance_swept_ends_in_a_row_without_label(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a mixture's components: samples of the same noise by the whole law's field."""
    words = "sample -m run=oracle dataset=gmm path=ot labels=[1,4] guidance=1,3 n=40 steps=6 hydra.sweep.dir=a".split()
    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_grid, "points_grid", lambda samples, *rest: given.append(samples) or Figure())
        assert main(words) == 0
    assert "a/samples.png" in capsys.readouterr().out
    assert [each.words for each in given[0]] == [("without label",), ("1",), ("3",)]
    plain = "sample run=oracle dataset=gmm path=ot n=40 steps=6 pictures=none hydra.run.dir=b".split()
    assert main(plain) == 0
    np.testing.assert_array_equal(given[0][0].x, np.load("b/samples.npz")["x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dataset=gmm coordinates=[0,1]", "pictures of points in the plane show all"),
        ("dataset=gmm coordinates=first", "coordinates is 'first'; it must be a list"),
        ("dataset=gaussian dataset.mean=[0,0,0] coordinates=[0,3]", "'3' is neither a column nor a number from 0 to 2"),
    ],
)
def test_wrong_coordinates_are_refused(
    words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "run=oracle", "path=ot", "n=30", "steps=4", *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_titles_of_a_grid_lie_over_their_own_panels() -> None:
    """Of three words that differ: no title reaches into the next one's, nor into the panel above it."""
    x = np.random.default_rng(0).normal(size=(20, 2))
    title = "path = ot, steps = 10, sampler = dpmpp_2m"
    for figure in (
        grid.clouds_grid([grid.Panel(title, x)] * 6, 3, None, window([x])),
        grid.lines_grid([title] * 6, [x[:, 0]] * 6, np.linspace(-3, 3, 9), None, "x"),
    ):
        figure.draw_without_rendering()
        boxes = [axis.title.get_window_extent() for axis in figure.axes if axis.get_visible()]
        panels = [axis.get_window_extent() for axis in figure.axes if axis.get_visible()]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in [*boxes[:i], *panels])


def test_points_of_one_label_have_no_legend(recwarn: pytest.WarningsRecorder) -> None:
    """matplotlib warns of a legend that would name nothing; of two labels there is one."""
    extent = Extent(-1.0, 1.0, -1.0, 1.0)
    truth = marginals.Truth([HeatMap(np.ones((4, 4)), extent)] * 2, ["noise", "data"], [False, False])
    mine = np.arange(9) < 5
    for groups, named in [({"3": mine}, False), ({"3": mine, "4": ~mine}, True)]:
        figure = marginals.marginals([0.0, 1.0], truth, marginals.Clouds([np.zeros((9, 2))] * 2, groups), extent)
        assert (figure.axes[2].get_legend() is not None) == named
    assert not recwarn.list
