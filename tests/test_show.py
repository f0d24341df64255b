"""diffsde show: what is drawn is what it says, in the data's own units; each picture has a title and named axes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from scipy.stats import multivariate_normal

from diffsde import knobs as knob_ranges
from diffsde.cli.main import composed, main
from diffsde.datasets import draw_many
from diffsde.datasets.drifting import Drifting
from diffsde.errors import UserError
from diffsde.fields import Field, OracleField
from diffsde.interpolants import OracleInterpolant
from diffsde.knobs import WHAT
from diffsde.paths import GAUSSIAN, PATHS, coefficients
from diffsde.pictures.places import densities, places, reached, vectors
from diffsde.pictures.shown import SHOWN
from diffsde.pictures.shown_conditional import given
from diffsde.pictures.shown_density import _by_the_ode
from diffsde.pictures.subjects import Shown, clouds_at, subject
from diffsde.plots.arrows import ArrowScale
from diffsde.plots.densities import lines_of_densities
from diffsde.plots.style import Extent
from diffsde.runs import folder
from diffsde.runs.restore import restore
from diffsde.runs.results import Report, Result, deliver
from diffsde.runs.show_config import TAKES, ShowConfig, resolve_run, show_choices
from diffsde.verbs import show
from diffsde.verbs.show import ShowJob, shown_of

TWO = ["dataset=mixture", "dataset.means=[[-1.0,0.5],[1.0,-0.5]]", "dataset.stds=[0.5,0.7]"]
ONE = ["dataset=mixture", "dataset.means=[[3.0]]", "dataset.stds=[0.5]", "path=ot"]
FROM = ["source=mixture", "source.means=[[-2.0,0.0],[0.0,2.0]]", "source.stds=[0.4,0.6]"]
LINE = ["dataset=mixture", "dataset.means=[[-1.0],[2.0]]", "dataset.stds=[0.3,0.5]"]


@cache
def composed_once(words: tuple[str, ...]) -> dict[str, Any]:
    return composed("show", list(words))


def choices(*words: str) -> tuple[dict[str, Any], ShowConfig]:
    """The config and the choices that words stand for; groups are composed once for all tests, knobs are read as YAML."""
    groups = tuple(word for word in words if word.startswith(("dataset", "source", "path", "diffusion", "sampler")))
    knobs = dict(word.split("=", 1) for word in words if word not in groups)
    read = {key: yaml.safe_load(value.replace(",", ", ")) for key, value in knobs.items()}
    config, _ = resolve_run(composed_once(groups) | read)
    knob_ranges.check(config)
    return config, show_choices(config)


def shown(*words: str) -> Shown:
    """The picture, computed and not drawn; nothing is written."""
    return shown_of(ShowJob(*choices(*words), Path()))


def check_named(figure: Figure, corner: bool = False) -> None:
    """A title over all, one over each panel (of a corner, its first); every axis named, or sharing a named one's side."""
    assert figure.get_suptitle()
    bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    panels = [axis for axis in figure.axes if axis not in bars and axis.axison]
    assert panels and all(axis.get_title() for axis in panels if axis.get_subplotspec().is_first_row() or not corner)  # type: ignore[union-attr]
    for axis in panels:
        row = axis.get_subplotspec().rowspan.start  # type: ignore[union-attr]
        column = axis.get_subplotspec().colspan.start  # type: ignore[union-attr]
        in_column = [one for one in panels if one.get_subplotspec().colspan.start == column]  # type: ignore[union-attr]
        in_row = [one for one in panels if one.get_subplotspec().rowspan.start == row]  # type: ignore[union-attr]
        assert any(one.get_xlabel() for one in in_column) and any(one.get_ylabel() for one in in_row)


# What is drawn


@pytest.fixture
def stretched(here: Path) -> list[str]:
    """Words of a dataset whose two coordinates have units that are a thousand times apart, and a mean far from 0."""
    points = np.random.default_rng(0).normal(size=(6, 2)) * [20.0, 0.02] + [100.0, 0.0]
    np.save("points.npy", points)
    return ["dataset=array", "dataset.file=points.npy"]


@pytest.mark.parametrize(("path", "t", "own"), [("vp", 0.7, False), ("ot", 0.4, True)])
def test_the_drawn_velocity_moves_the_drawn_density(
    path: str, t: float, own: bool, stretched: list[str], x64: None
) -> None:
    """dp/dt = -div(p u), by differences of the arrays of two pictures, on places that are equal; in the data's own units."""
    h, data = 1e-3, stretched if own else TWO
    words = [*data, f"path={path}", "resolution=121", "window=" + ("[30,170,-0.075,0.075]" if own else "[-4,4,-4,4]")]
    density = shown("what=density", *words, f"times=[{t - h},{t},{t + h}]").arrays
    field = shown("what=field", *words, f"times=[{t}]").arrays
    x, y, p = field["x"], field["y"], np.exp(density["log_prob"])
    np.testing.assert_array_equal(density["x"], x)
    change = (p[2] - p[0]) / (2 * h)
    flux = p[1][..., None] * field["velocity"][0]
    divergence = np.gradient(flux[..., 0], x, axis=1) + np.gradient(flux[..., 1], y, axis=0)
    assert np.abs(change + divergence)[2:-2, 2:-2].max() < 0.02 * np.abs(change).max()
    assert p[1].sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=0.01)


def test_the_score_is_the_gradient_of_the_drawn_density(stretched: list[str], x64: None) -> None:
    words = [*stretched, "path=trig", "times=[0.5]", "resolution=101", "window=[60,140,-0.04,0.04]"]
    log_p = shown("what=density", *words).arrays["log_prob"][0]
    field = shown("what=field", "quantity=score", *words).arrays
    gradient = np.stack([np.gradient(log_p, field["x"], axis=1), np.gradient(log_p, field["y"], axis=0)], axis=-1)
    inside = gradient[2:-2, 2:-2], field["score"][0][2:-2, 2:-2]
    for k in range(2):
        np.testing.assert_allclose(inside[0][..., k], inside[1][..., k], atol=0.01 * np.abs(inside[1][..., k]).max())


def test_the_density_of_a_gaussian_is_scipys() -> None:
    """p_t = N(alpha m, alpha^2 S + beta^2 I), and the law alone, which has no t."""
    words = ["dataset=mixture", "dataset.means=[[1.0,-2.0]]", "dataset.stds=[[2.0,0.5]]", "resolution=20"]
    drawn = shown("what=density", *words, "path=trig", "times=[0,0.3,1]").arrays
    places = np.stack(np.meshgrid(drawn["x"], drawn["y"]), axis=-1)
    mean, squares = np.array([1.0, -2.0]), np.array([4.0, 0.25])
    for t, values in zip(drawn["times"], drawn["log_prob"], strict=True):
        alpha, beta = np.sin(np.pi / 2 * t), np.cos(np.pi / 2 * t)
        exact = multivariate_normal(alpha * mean, np.diag(alpha**2 * squares + beta**2)).logpdf(places)
        np.testing.assert_allclose(values, exact, rtol=1e-4, atol=1e-4)
    law = shown("what=density", *words).arrays
    exact = multivariate_normal(mean, np.diag(squares)).logpdf(np.stack(np.meshgrid(law["x"], law["y"]), axis=-1))
    np.testing.assert_allclose(law["log_prob"][0], exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("words", [[*TWO, "path=ot"], [*FROM, *TWO, "path=icfm", "path.sigma=0.4"]])
def test_a_runs_density_goes_by_its_ode(words: list[str]) -> None:
    """With the exact field in the place of a trained one, log p_t by the ODE is the exact log p_t, from t = 0 on."""
    _, chosen = choices("what=density", *words, "resolution=8", "window=[-3,3,-3,3]")
    found, times = subject(chosen), np.array([0.0, 0.5, 1.0])
    assert isinstance(found.exact, OracleField | OracleInterpolant)
    at = places(found, chosen, [], np.zeros(2))
    by_the_ode = _by_the_ode(found, found.exact, at, times, 64)
    np.testing.assert_allclose(by_the_ode, densities(found, found.exact, at, times), atol=2e-3)


def test_the_field_given_z_is_the_conditional_one() -> None:
    """u_t(x|z) = (dalpha - alpha dbeta/beta) z + dbeta/beta x, and s_t(x|z) = -(x - alpha z)/beta^2; the ODE ends in z."""
    z = np.array([2.0, -1.0])
    made = shown("what=conditional", *TWO, "path=ot", "z=[2,-1]", "steps=20")
    check_named(made.draw())
    drawn = made.arrays
    x = np.stack(np.meshgrid(drawn["x"], drawn["y"]), axis=-1)
    for t, values in zip(drawn["times"], drawn["given_0_velocity"], strict=True):
        c = coefficients(PATHS["ot"](), float(t))
        exact = (c.dalpha - c.alpha * c.dbeta / c.beta) * z + c.dbeta / c.beta * x
        np.testing.assert_allclose(values, exact, rtol=1e-3, atol=1e-3)
    _, chosen = choices("what=conditional", *TWO, "path=cosine", "resolution=8", "window=[-2,2,-2,2]")
    found, times = subject(chosen), np.array([0.0, 0.4, 0.9])
    at = places(found, chosen, [], np.zeros(2))
    for t, values in zip(times, vectors(found, given(found, z), at, times, "score"), strict=True):
        c = coefficients(PATHS["cosine"](), float(t))
        np.testing.assert_allclose(values, -(at.points - c.alpha * z) / c.beta**2, rtol=1e-3, atol=1e-3)
    assert np.abs(drawn["given_0_ode"][-1] - z).max() < 1e-4
    assert np.abs(drawn["marginal_ode"][-1] - z).max() > 0.5


@pytest.mark.slow
def test_trajectories_given_z_have_its_marginals() -> None:
    """Of the ODE and of the SDE with a large sigma: alpha z + beta eps, at every time, by 600 of each."""
    made = shown("what=conditional", *LINE, "path=ot", "z=[2]", "sigma=1.5", "n=600", "steps=50")
    check_named(made.draw())
    drawn = made.arrays
    for kind in ("ode", "sde"):
        times, x = drawn[f"given_0_{kind}_times"], drawn[f"given_0_{kind}"][..., 0]
        # at each of 51 times: means to 4.5 standard errors, variances too
        assert (np.abs(x.mean(axis=1) - 2 * times) <= 4.5 * (1 - times) / np.sqrt(600) + 1e-5).all(), kind
        assert (np.abs(x.std(axis=1) - (1 - times)) <= 4.5 * (1 - times) / np.sqrt(1200) + 1e-5).all(), kind
    roughness = [np.abs(np.diff(drawn[f"given_0_{kind}"], axis=0)).mean() for kind in ("ode", "sde")]
    assert roughness[1] > 3 * roughness[0]


def test_trajectories_given_z_begin_where_its_law_does() -> None:
    """At t = 0 at alpha z + beta eps, where alpha is 1/2 there."""
    _, chosen = choices("what=conditional", *LINE, "path=ot", "z=[2]", "n=600", "steps=20")
    path = PATHS["expression"](alpha_t="0.5+0.5*t", beta_t="1-t", variance_t=None)  # type: ignore[call-arg]
    drawn = SHOWN["conditional"](dataclasses.replace(chosen, path=path)).arrays
    means, times = drawn["given_0_ode"][..., 0].mean(axis=1), drawn["given_0_ode_times"]
    assert (np.abs(means - 2 * (0.5 + 0.5 * times)) <= 4.5 * (1 - times) / np.sqrt(600) + 1e-5).all()


def test_the_curves_of_paths() -> None:
    """SNR rises along every path; eta of ot is (1 - t)/t; memoryless is sigma_t^2 = 2 eta; what is infinite is left out."""
    every = [name for name in GAUSSIAN if name != "expression"]
    found = shown("what=path", f"paths=[{','.join(every)}]", "diffusion=memoryless").arrays
    t = found["times"]
    for name in every:
        ratio = found[f"{name}_log10_SNR"]
        assert (np.diff(ratio[np.isfinite(ratio)]) > 0).all(), name
        sigma, eta = found[f"{name}_sigma_t"], found[f"{name}_eta"]
        np.testing.assert_allclose((sigma**2)[1:-1], 2 * eta[1:-1], rtol=1e-3, atol=1e-6)
        assert not np.isinf(np.stack([found[f"{name}_{each}"] for each in ("dalpha", "dbeta", "eta", "sigma_t")])).any()
    np.testing.assert_allclose(found["ot_eta"][1:], (1 - t[1:]) / t[1:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found["sqrt_log10_SNR"][200], np.log10(t[200] ** 2 / (1 - t[200])), rtol=1e-4)
    assert np.isnan(found["sqrt_dbeta"][-1]) and np.isfinite(found["sqrt_dbeta"][:-1]).all()


def test_marginals_are_at_their_times() -> None:
    """Of N(3, 0.5^2): mean and std of truth and samples at each time, in 4.5 standard errors, whatever the grid."""
    made = shown("what=marginals", *ONE, "n=4000", "times=[0.1,0.33,0.8,1]", "steps=50")
    check_named(made.draw())
    found = made.arrays
    for row in ("truth", "samples"):
        for t, x in zip(found["times"], found[row][..., 0], strict=True):
            std = np.hypot(0.5 * t, 1 - t)
            assert abs(x.mean() - 3 * t) < 4.5 * std / np.sqrt(4000) + 0.005, (row, t)
            assert abs(x.std() - std) < 4.5 * std / np.sqrt(8000) + 0.005, (row, t)


def test_times_of_the_grid_itself_change_no_samples() -> None:
    """A time of times= that float32 rounds beside one of the grid must not make a step of 1e-8, which ab3 cannot take."""
    words = ["what=marginals", *ONE, "sampler=ab3", "steps=10", "n=50"]
    ends, more = (shown(*words, f"times={times}").arrays["samples"][-1] for times in ("[0,1]", "[0,0.1,0.3,0.7,1]"))
    np.testing.assert_allclose(more, ends, atol=1e-4)


@pytest.mark.parametrize("words", [ONE, ["dataset=swiss_roll", "path=ot"]])
def test_draws_of_x_t_have_noise_of_their_own(words: list[str]) -> None:
    """Noise by a key of which the data are made too is the data's own noise: x_t would have (alpha s + beta)^2 for a variance."""
    _, chosen = choices("what=noising", *words)
    eps, z = clouds_at(subject(chosen), np.array([0.0, 1.0]), jax.random.key(0))  # of ot
    assert abs(np.corrcoef(eps.T, z.T)[: eps.shape[1], eps.shape[1] :]).max() < 0.07  # 4 errors of 4000 draws


def test_a_line_for_every_density() -> None:
    rows = {f"run {i}": np.zeros((2, 5)) for i in range(6)}
    drawn = lines_of_densities(rows, np.array([0.2, 0.8]), np.linspace(0, 1, 5), None, "x").axes[0]
    assert len(drawn.get_lines()) == 12


def test_noise_on_chosen_points() -> None:
    found = shown("what=noising", *TWO, "path=ot", "z=[[3,0],[0,-3]]", "times=[0.5,1]", "n=2000").arrays
    np.testing.assert_allclose(found["x"][1], found["z"], atol=1e-6)
    assert found["x"][0, ::2].mean(axis=0) == pytest.approx([1.5, 0], abs=4.5 * 0.5 / np.sqrt(1000))


def test_no_line_through_spikes(here: Path) -> None:
    """Of 20 points on a line: p_t integrates to 1 where it is drawn, and is not drawn where it is narrower than the places."""
    np.save("points.npy", np.random.default_rng(0).normal(3, 50, size=(20, 1)))
    made = shown("what=noising", "dataset=array", "dataset.file=points.npy", "path=ot", "times=[0.5,0.9999,1]", "n=900")
    half, late, end = (axis.get_lines()[0].get_xydata().T for axis in made.draw().axes)
    assert np.trapezoid(half[1], half[0]) == pytest.approx(1, abs=1e-2)
    assert np.isnan(late[1]).all() and np.isnan(end[1]).all()


def test_data_are_the_datas_own(here: Path) -> None:
    """A finite set is drawn as it is, not with replacement, in its own units; its test split beside it."""
    points = np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 5]
    np.save("points.npy", points)
    made = shown("what=data", "dataset=array", "dataset.file=points.npy", "dataset.test=0.2")
    check_named(made.draw(), corner=True)
    found = made.arrays
    assert found["x"].shape == (40, 3) and found["x_test"].shape == (10, 3)
    both = np.concatenate([found["x"], found["x_test"]])
    np.testing.assert_allclose(np.sort(both, axis=0), np.sort(points, axis=0), rtol=1e-5, atol=1e-5)
    some = shown("what=data", "dataset=array", "dataset.file=points.npy", "n=45").arrays["x"]
    assert some.shape == (45, 3) and len(np.unique(some[:, 0])) == 45


# Between two laws


def test_between_two_laws_the_drawn_velocity_moves_the_drawn_density(x64: None) -> None:
    """dp/dt = -div(p u) along a bridge, from one mixture to another; its score is the gradient of log p."""
    h, t = 1e-3, 0.4
    words = [*FROM, *TWO, "path=bridge", "path.sigma=0.7", "resolution=121", "window=[-5,4,-4,5]"]
    density = shown("what=density", *words, f"times=[{t - h},{t},{t + h}]").arrays
    field = shown("what=field", *words, f"times=[{t}]").arrays
    x, y, p = field["x"], field["y"], np.exp(density["log_prob"])
    change, flux = (p[2] - p[0]) / (2 * h), p[1][..., None] * field["velocity"][0]
    divergence = np.gradient(flux[..., 0], x, axis=1) + np.gradient(flux[..., 1], y, axis=0)
    assert np.abs(change + divergence)[2:-2, 2:-2].max() < 0.02 * np.abs(change).max()
    assert p[1].sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=0.01)


def test_x_t_goes_from_the_source_to_the_data() -> None:
    """The unit circle at t = 0, the board at t = 1, and between them the mean of both with noise gamma."""
    words = ["source=circles", "source.noise=0.0", "source.factor=0.999", "dataset=checkerboard", "n=4000"]
    found = shown("what=noising", *words, "path=interpolant", "path.gamma_t=0.8*t*(1-t)", "times=[0,0.5,1]").arrays["x"]
    np.testing.assert_allclose(np.hypot(*found[0].T), 1, atol=2e-3)
    column, row = np.floor(found[2].T / 2)
    assert np.abs(found[2]).max() <= 4 and ((column + row) % 2 == 0).all()
    middle = found[1] - (found[0] + found[2]) / 2
    assert middle.std() == pytest.approx(0.2, rel=0.05)


def test_the_path_given_z_from_a_source_ends_in_z() -> None:
    """From N(nu, R): u_t(x|z) = dm + (C'/2C) (x - m), m = t z + (1 - t) nu, C = (1 - t)^2 R + sigma^2 t (1 - t); from y it goes to z."""
    z, nu, r = np.array([2.0, -1.0]), np.array([-1.0, 1.0]), 0.25
    words = ["source=mixture", "source.means=[[-1.0,1.0]]", "source.stds=[0.5]", *TWO, "path=bridge", "path.sigma=0.6"]
    made = shown("what=conditional", *words, "z=[2,-1]", "steps=50", "sigma=0.6")
    check_named(made.draw())
    drawn = made.arrays
    x = np.stack(np.meshgrid(drawn["x"], drawn["y"]), axis=-1)
    for t, values in zip(drawn["times"], drawn["given_0_velocity"], strict=True):
        variance = (1 - t) ** 2 * r + 0.36 * t * (1 - t)
        slope = -(1 - t) * r + 0.18 * (1 - 2 * t)
        exact = z - nu + slope / variance * (x - t * z - (1 - t) * nu)
        np.testing.assert_allclose(values, exact, rtol=2e-3, atol=2e-3)
    for way in ("ode", "sde"):
        start, end = drawn[f"given_0_{way}"][[0, -1]]
        assert np.abs(start.mean(axis=0) - nu).max() < 0.4 and np.abs(end - z).max() < 0.25


def test_what_is_not_known_between_two_laws_is_said() -> None:
    with pytest.raises(UserError, match="noising with z="):
        shown("what=conditional", "source=circles", "dataset=checkerboard", "path=ot")
    with pytest.raises(UserError, match="known between mixtures"):
        shown("what=field", "source=circles", *TWO, "path=ot")
    with pytest.raises(UserError, match="beta\\(0\\)=50"):
        shown("what=field", *FROM, *TWO, "path=ve")


def test_snapshots_are_drawn_in_their_times() -> None:
    """All of them, coloured by time; x_t between the two about each time, by pairs of those."""
    made = shown("what=data", "dataset=drifting", "dataset.size=50", "dataset.leave_out=2")
    check_named(made.draw())
    assert np.bincount(made.arrays["time"].astype(int)).tolist() == [50] * 5
    assert made.rows[2] == ("time 2", "50 drawn, left out of training")
    words = [
        "what=noising",
        "dataset=drifting",
        "dataset.components=1",
        "dataset.std=0.01",
        "dataset.sigma=0.0",
        "path=ot",
    ]
    x = shown(*words, "times=[0,0.125,0.25,1]", "n=50").arrays["x"].mean(axis=1)
    means = np.stack([Drifting(components=1).own_law_at(time)[0][0] for time in (0.0, 1.0, 4.0)])
    np.testing.assert_allclose(x, [means[0], (means[0] + means[1]) / 2, means[1], means[2]], atol=0.02)
    with pytest.raises(UserError, match="begin at the first"):
        shown("what=noising", "source=moons", "dataset=drifting", "path=ot")


# Trained runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on five points, whose exact field is known, and whose training measures little."""
    where = tmp_path_factory.mktemp("runs")
    np.save(where / "five.npy", np.random.default_rng(1).normal(size=(5, 2)))
    words = [f"dataset.file={where / 'five.npy'}", "dataset.standardise=false", "steps=1", "batch_size=8"]
    words += ["net=mlp", "net.widths=[8]", "pictures=none", f"hydra.run.dir={where / 'flow'}"]
    assert main(["train", "dataset=array", *words]) == 0
    yield where / "flow"


@partial(jax.jit, static_argnames="quantity")
def at_each(field: Field, quantity: str, x: jax.Array, t: float) -> jax.Array:
    """Velocity or score at points (..., 2)."""
    return jax.vmap(lambda x: getattr(field, quantity)(x, t))(x.reshape(-1, 2)).reshape(x.shape)


def test_learned_minus_exact_is_their_difference(run: Path) -> None:
    """Rows exact, learned, difference: each what the field itself says at the places that are drawn; rms as by hand."""
    quantity = "score"
    words = ["what=field", f"run={run}", "of=difference", f"quantity={quantity}", "times=[0.2,0.8]", "resolution=9"]
    drawn = shown(*words)
    exact, learned, difference = (drawn.arrays[quantity + end] for end in ("", "_2", "_3"))
    np.testing.assert_array_equal(difference, learned - exact)
    config, field, _ = restore(run)
    oracle = config.dataset.exact_field(config.path)
    assert oracle is not None
    x = jnp.stack(jnp.meshgrid(*(jnp.asarray(drawn.arrays[name], jnp.float32) for name in ("x", "y"))), axis=-1)
    for one, values in ((field, learned), (oracle, exact)):
        for t, each in zip((0.2, 0.8), values, strict=True):
            np.testing.assert_allclose(each, at_each(one, quantity, x, t), rtol=1e-3, atol=1e-4)
    z = draw_many(config.dataset, config.dataset.load(), jax.random.key(5), 4000)
    c = coefficients(config.path, 0.8)
    x_t = c.alpha * z + c.beta * jax.random.normal(jax.random.key(6), z.shape)
    off = at_each(field, quantity, x_t, 0.8) - at_each(oracle, quantity, x_t, 0.8)
    assert drawn.summary["rms_at_0.8"] == pytest.approx(float(jnp.sqrt((off**2).sum(axis=-1).mean())), rel=0.15)


@pytest.mark.slow
def test_the_learned_field_stands_under_the_conditional_one(run: Path) -> None:
    """Its arrows are the run's own, its trajectories start from the noise of all the others."""
    words = [f"run={run}", "times=[0.2,0.8]", "resolution=8", "z=[1,0]"]
    drawn = shown("what=conditional", *words, "steps=20")
    check_named(drawn.draw())
    found = drawn.arrays
    _, field, _ = restore(run)
    x = jnp.stack(jnp.meshgrid(*(jnp.asarray(found[name], jnp.float32) for name in ("x", "y"))), axis=-1)
    exact = at_each(field, "velocity", x, 0.8)
    np.testing.assert_allclose(found["learned_0_velocity"][1], exact, rtol=1e-3, atol=1e-3)
    for law in ("given_0", "marginal"):
        np.testing.assert_array_equal(found[f"{law}_ode"][0], found["learned_0_ode"][0])


def test_all_arrows_have_one_scale(run: Path) -> None:
    """Exact, learned and difference at two times: every arrow's length and colour mean the same, and the bar says what."""
    figure = shown("what=field", f"run={run}", "of=difference", "times=[0.2,0.8]", "resolution=9").draw()
    check_named(figure)
    quivers = [each for axis in figure.axes for each in axis.collections if isinstance(each, Quiver)]
    assert len(quivers) == 12  # of each panel those that x_t reaches, and the pale ones
    assert len({(each.scale, each.norm.vmin, each.norm.vmax) for each in quivers}) == 1
    assert "units of x per unit of t" in figure.axes[-1].get_ylabel()


def test_two_runs_beside_one_another(run: Path) -> None:
    """A run minus itself is nothing, at every place."""
    drawn = shown(
        "what=field", f"run=[{run},{run}]", "of=difference", "quantity=score", "times=[0.2,0.8]", "resolution=9"
    )
    assert not drawn.arrays["score_3"].any() and drawn.arrays["score"].any()
    titles = [axis.get_title() for axis in drawn.draw().axes[:6:2]]
    assert [title.split(",")[0] for title in titles] == ["run 1 (cfm)", "run 2 (cfm)", "difference"]


def test_the_longest_arrow_is_of_where_x_is() -> None:
    """A field that grows without bound far away, where no x_t is, leaves the scale as it is."""
    extent = Extent(-10, 10, -10, 10)
    side = np.linspace(-10, 10, 21)
    vectors = np.stack(np.meshgrid(side, side), axis=-1)[None]
    near = reached(np.random.default_rng(0).uniform(-2, 2, (1, 5000, 2)), extent, (side, side))
    assert near.sum() == 25
    scale = ArrowScale(extent, 21, "velocity", [vectors], near)
    assert 2 <= scale.longest <= np.hypot(2, 2)
    wide = ArrowScale(extent._replace(right=30), 21, "score", [vectors], near)
    np.testing.assert_allclose(wide.on_screen(np.array([1.0, 1.0])), [40, 20])  # a gradient, of an axis twice as long


# Pictures

# Of those that no other test draws:
PICTURES = {
    "contours": ["what=density", *TWO, "path=vp", "style=both", "scale=log", "resolution=30"],
    "law": ["what=density", *LINE],
    "density of a line": ["what=density", *LINE, "path=vp"],
    "field of a line": ["what=field", *LINE, "path=ot", "quantity=score"],
    "conditional of moons": ["what=conditional", "dataset=moons", "path=ot", "steps=20"],
    "data of a line": ["what=data", *LINE, "n=100"],
    "noising of a line": ["what=noising", *LINE, "path=ot", "n=100"],
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_labelled(name: str) -> None:
    check_named(shown(*PICTURES[name]).draw())


@pytest.mark.parametrize("what", ["data", "noising"])
def test_images_are_labelled(what: str) -> None:
    path = [] if what == "data" else ["path=ot", "times=[0,0.5,1]", "n=4"]
    drawn = shown(f"what={what}", "dataset=digits", *path)
    words = [text.get_text() for text in drawn.draw().texts]
    assert any("digits" in word for word in words) and {"0", "3"} <= set(words)
    assert drawn.arrays["x"].shape[-3:] == (8, 8, 1)
    if what == "noising":
        assert {"t = 0", "0.5", "1"} <= set(words) and drawn.arrays["x"].shape == (3, 4, 8, 8, 1)


COMMANDS = {
    "density": [*TWO, "path=vp", "resolution=30"],
    "field": [*TWO, "path=ot"],
    "conditional": [*TWO, "path=ot", "steps=20"],
    "path": ["path=ot"],
    "data": [*TWO, "n=100"],
    "noising": ["dataset=moons", "path=ot", "n=100"],
    "marginals": [*ONE, "n=4000", "times=[0.1,0.33,0.8,1]", "steps=50"],
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if what == "conditional" else ()) for what in WHAT]
)
def test_the_command_writes_picture_and_arrays(what: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Figure] = []
    monkeypatch.setattr(show, "_figures", lambda shown, name: {name: made.append(shown.draw()) or made[-1]})  # type: ignore[func-returns-value]
    words = [f"what={what}", *COMMANDS[what], "format=svg", "hydra.run.dir=out"]
    assert main(["show", *words]) == 0
    if what == "path":  # it is there, and is not drawn again
        assert main(["show", *words]) == 0
    assert len(made) == 1
    check_named(made[0])
    assert Path(f"out/{what}.svg").read_text().startswith("<?xml")
    with np.load("out/show.npz") as saved:
        assert all(np.isfinite(saved[name]).any() for name in saved.files) and saved.files
    assert json.loads(Path("out/summary.json").read_text())["title"]
    assert {path.name for path in Path("out").iterdir() if path.is_file()} - {".lock"} == {
        *("config.json", "show.npz", "summary.json", f"{what}.svg")
    }


def test_a_picture_that_fails_is_not_finished(here: Path) -> None:
    """Where a picture is the result, summary.json, which says that a job is finished, comes after it."""

    def fails() -> dict[str, Any]:
        raise KeyError("while drawing")

    result = Result(lambda: Report("", [], {"metrics": {}}, 0.0), {"show": {"x": np.ones(1)}}, figures=fails)
    with pytest.raises(KeyError):
        deliver(result, "show", {}, here)
    assert (here / "show.npz").exists() and not (here / "summary.json").exists()


def test_samples_of_a_folder(here: Path) -> None:
    """The saved states at the times nearest to those that are asked for; what drew them cannot be said again."""
    words = ["run=oracle", *TWO, "path=ot", "n=50", "save_every=2"]
    (here / "drawn").mkdir()
    folder.write_config(here / "drawn", "sample", composed("sample", words))
    kept, x = np.linspace(0, 1, 5), np.random.default_rng(0).normal(size=(5, 50, 2))
    np.savez("drawn/trajectory.npz", times=kept, x=x)
    found = shown("what=marginals", "samples=drawn", "times=[0,0.3,1]").arrays
    np.testing.assert_array_equal(found["times"], [0, 0.25, 1])
    np.testing.assert_array_equal(found["samples"], x[[0, 1, 4]])
    with pytest.raises(UserError, match="cannot be combined with n="):
        shown("what=marginals", "samples=drawn", "n=5")


def test_saved_samples_of_some_labels_are_beside_data_of_these(here: Path) -> None:
    """Of a mixture at -10, 0 and 10: samples of the last two, two to one, under data of the same, not of all."""
    three = ["dataset=mixture", "dataset.means=[[-10.0],[0.0],[10.0]]", "dataset.stds=[0.1,0.1,0.1]"]
    (here / "drawn").mkdir()
    words = ["run=oracle", *three, "path=ot", "n=300", "save_every=1", "labels=[1,1,2]"]
    folder.write_config(here / "drawn", "sample", composed("sample", words))
    np.savez("drawn/trajectory.npz", times=np.array([0.0, 1.0]), x=np.zeros((2, 300, 1)))
    np.savez("drawn/samples.npz", x=np.zeros((300, 1)), y=np.resize([1, 1, 2], 300))
    found = shown("what=marginals", "samples=drawn", "times=[1]").arrays
    assert np.mean(np.abs(found["truth"]) < 5) == pytest.approx(2 / 3) and found["truth"].min() > -5
    assert "density" not in found


def test_every_knob_belongs_to_a_picture() -> None:
    assert tuple(TAKES) == WHAT and {*SHOWN, "marginals"} == set(WHAT)
    taken = {name for names in TAKES.values() for name in names.split()}
    assert taken == {field.name for field in dataclasses.fields(ShowConfig)} - {"what", "format", "machine"}


class Watched(ShowConfig):
    """Choices that note which of them are read."""

    def __getattribute__(self, name: str) -> Any:
        READ.add(name)
        return super().__getattribute__(name)


READ: set[str] = set()


@pytest.mark.parametrize("what", WHAT)
def test_no_knob_does_nothing(what: str) -> None:
    """Every knob that a picture takes is read when it is made; those of a checkpoint only where there is one."""
    config, chosen = choices(f"what={what}", *COMMANDS[what])
    watched = Watched(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)})
    READ.clear()
    shown_of(ShowJob(config, watched, Path()))
    assert set(TAKES[what].split()) - READ <= {"checkpoint", "ema"}


REFUSED = [
    ("", "what: say which picture"),
    ("what=feild", "what is 'feild'; choose one of density, field"),
    ("what=field dataset=gmm", "needs a path="),
    ("what=data", "needs a dataset="),
    ("what=field", "no trained run"),
    ("what=field dataset=gmm path=ot of=run", "of=run needs a trained run"),
    ("what=field dataset=gmm path=ot times=[0,1.5]", "times[1] is 1.5; it must be in [0, 1]"),
    ("what=field dataset=gmm path=ot times=[0.5,0.2]", "they must increase"),
    ("what=field dataset=gmm path=ot sigma=1", "sigma is not of what=field; it is of what=conditional"),
    ("what=field dataset=gmm path=ot window=[0,1]", "here it is [left,right,bottom,top]"),
    ("what=field dataset=gmm path=ot window=[1,0,0,1]", "each pair increasing"),
    ("what=field dataset=gmm path=ot label=11", "11 is not a label of this field"),
    ("what=field dataset=gmm path=ot checkpoint=best", "checkpoint= and ema= are of a trained run"),
    ("what=field dataset=moons path=ot", "the exact field of dataset=moons is not known"),
    ("what=field dataset=digits path=ot", "needs points on a line or in the plane"),
    ("what=conditional dataset=gmm path=ot z=[1,2,3]", "here a point has 2 coordinates"),
    ("what=density dataset=moons", "the density of dataset=moons alone is not known"),
    ("what=density dataset=gmm times=[0.5]", "the law of a dataset alone has none"),
    ("what=path paths=[ot,vpp]", "'vpp' is not a path (did you mean 'vp'?)"),
    ("what=path paths=[ot] path=vp", "leave out path="),
    ("what=noising dataset=digits path=ot window=[0,1,0,1]", "window= is of points"),
    ("what=marginals dataset=gmm path=ot sampler=heun diffusion=sqrt", "this sampler solves the ODE"),
    ("what=marginals samples=nothere", "there is no folder 'nothere'"),
    ("what=data dataset=gmm coordinates=[0,2]", "'2' is neither a column nor a number from 0 to 1"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_refusals(words: str, message: str, here: Path) -> None:
    with pytest.raises(UserError) as error:
        shown(*words.split())
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_time_at_which_the_field_is_infinite_is_refused(
    stretched: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 2, and no folder."""
    assert main(["show", "what=field", *stretched, "path=ot", "times=[0.5,1]"]) == 2
    assert "at t=1 the velocity is infinite" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["points.npy"]
