"""What the player of a page moves: a cloud's states over t and over sigma, the law under it, and the field from which a click starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import choose, name_of
from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling, to_own
from diffsde.errors import UserError
from diffsde.fields import VELOCITY_ALONE, Field
from diffsde.nets.net import Net
from diffsde.paths import GaussianPath, coefficients
from diffsde.report.live_field import grid_numbers, law_of_mixture, law_of_points, live_field
from diffsde.report.packing import packed, quantised
from diffsde.runs.starting import choose_grid, stds_met
from diffsde.samplers import Grid, LoopSettings, Saving, simulate_compiled, times
from diffsde.samplers.diffusions import Constant, Diffusion, Vanishing
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.sde import StochasticHeun
from diffsde.stability import choose_last_step, instability
from diffsde.types import Array

STEPS, EVERY = 128, 4  # steps of the states, and after how many of them one is kept
POINTS = 224  # samples in the cloud
SIGMAS = (0.0, 0.25, 0.5, 1.0, 2.0)
DATA = 1500  # points of the data, for the density where it is not known, and for conditional paths
WIDENED = 0.05  # of the data's std: by how much each of the points is widened
ZOOM = 6.0  # ratio of the largest to the smallest scale of x_t above which the window follows t


class Source(NamedTuple):
    """What a player is of: a field with its dataset and path, the diffusion and grid of the job, and what the field is called.

    net: the net of a trained field; None for an exact one.
    """

    field: Field
    dataset: Dataset
    path: GaussianPath
    net: Net | None
    diffusion: Diffusion
    grid: Grid
    title: str


def source_key(verb: str, where: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """What two jobs must share for one player to be of both: the field, the diffusion, and where the grid begins and ends."""
    sampler, grid = config.get("sampler") or {}, config.get("grid") or {}
    diffusion = {"name": "constant", **(sampler.get("diffusion") or {}), "sigma": None}
    rest = *map(str, sorted(diffusion.items())), str(grid.get("start", 0.0)), str(grid.get("end", 1.0))
    if verb == "train":
        return (str(where.resolve()), "last", "None", *rest)
    if config.get("run") == "oracle":
        return ("oracle", str(config.get("dataset")), str(config.get("path")), *rest)
    return (str(where.resolve()), str(config.get("checkpoint", "last")), str(config.get("ema")), *rest)


def load_source(verb: str, where: Path, config: dict[str, Any], directory: Path) -> Source:
    """The source of a job's player. where: the folder of the trained run; unused for the exact field. Raises UserError."""
    sampler = config.get("sampler") if verb != "train" else None
    diffusion: Diffusion = Constant()
    if sampler and sampler.get("diffusion"):
        diffusion = choose(Diffusion, sampler["diffusion"], "diffusion")  # type: ignore[type-abstract]
    grid: Grid = AutoGrid()
    if verb != "train" and config.get("grid") and config["grid"].get("name") not in ("list", "optimised"):
        grid = choose(Grid, config["grid"], "grid")  # type: ignore[type-abstract]
    if config.get("source") is not None or config.get("direction") == "backward":
        raise UserError("it shows fields from N(0, I) to the data, and none between two other laws")
    for knob in ("guidance", "measurement", "labels"):
        if config.get(knob) is not None:
            raise UserError(f"samples with {knob}= follow another field than the run's own")
    if verb != "train" and config.get("run") == "oracle":
        dataset = choose(Dataset, config["dataset"], "dataset").found_from(directory)  # type: ignore[type-abstract]
        path = choose(GaussianPath, config["path"], "path")  # type: ignore[type-abstract]
        if path.has_gamma:
            raise UserError("it shows Gaussian paths, and none with noise on the way")
        exact = dataset.exact_field(path)
        if exact is None:
            raise UserError(f"the exact field of dataset={name_of(dataset)} is not known")
        title = f"exact field of {name_of(dataset)}, path {name_of(path)}"
        return Source(exact, dataset, path, None, diffusion, grid, title)
    from diffsde.runs.restore import recorded_net, restore  # here: they import flax and optax

    which = str(config.get("checkpoint") or "last") if verb != "train" else "last"
    ema = config.get("ema") if verb != "train" else None
    trained, field, step = restore(where, ema, which, "float32")
    if not field.follows_path:
        raise UserError(f"the player shows p_t beside the points, and {VELOCITY_ALONE}")
    if not field.gaussian:
        raise UserError("it shows fields from N(0, I) to the data, and none between two other laws")
    if trained.label_dropout == 0:
        raise UserError("this run needs a label, and the player has none")
    objective, data = name_of(trained.objective), name_of(trained.dataset)
    title = f"trained on {data}, path {name_of(trained.path)}, objective {objective}, step {step:,}"
    return Source(field, trained.dataset, trained.path, recorded_net(where), diffusion, grid, title)


def player(source: Source) -> dict[str, Any]:
    """The player of a source, ready for JSON. Raises UserError for points that are not of one or two coordinates."""
    field, dataset = source.field, source.dataset
    if len(field.shape) != 1 or field.shape[0] > 2:
        shape = " x ".join(map(str, field.shape))
        what = f"points of {shape} coordinates" if len(field.shape) == 1 else f"images of {shape}"
        raise UserError(f"the player shows points on a line and in the plane; these are {what}")
    d, scaling = field.shape[0], dataset.scaling(field.shape)
    z = _points(dataset)
    grid = choose_grid(source.grid, field, stds_met(field, dataset))
    at = times(grid, STEPS, field.path)
    diffusion, sigmas, note = _stable(source.diffusion, field, at, dataset)
    rng = np.random.default_rng(0)
    eps = rng.normal(size=(POINTS, d)).astype(np.float32)
    chosen_z = z[rng.integers(len(z), size=POINTS)]
    start = coefficients(field.path, at[0])
    x0 = np.float32(start.beta) * eps + (np.float32(start.alpha) * chosen_z if float(at[0]) > 0 else 0)
    states = np.stack([_states(field, diffusion, sigma, x0, at) for sigma in sigmas])
    if not np.isfinite(states).all():
        raise UserError("its states are not finite")
    kept = [*range(0, STEPS, EVERY), STEPS]
    numbers, why = live_field(field, source.net)
    law, about = _law(dataset, z, d)
    return {
        "title": source.title,
        "dimension": d,
        "names": list(dataset.column_names()) or (["x"] if d == 1 else ["x1", "x2"]),
        "scaling": _scaling(scaling, d),
        "grid": grid_numbers(field.path, np.asarray(at)),
        "kept": kept,
        "sigmas": list(sigmas),
        "diffusion": name_of(diffusion),
        "rates": packed(_rates(diffusion, field.path, at), "f64"),
        "note": note,
        "states": quantised(states),
        "eps": packed(eps, "f32"),
        "z": packed(chosen_z, "f32"),
        "window": _window(to_own(scaling, states), to_own(scaling, z), scaling is None),
        "law": law,
        "law_note": about,
        "field": numbers,
        "field_note": why,
    }


def _points(dataset: Dataset) -> np.ndarray:
    """DATA points of the data (n, d), in the model's units."""
    return np.asarray(dataset.draw_given(dataset.load(), None, jax.random.key(1), DATA), np.float32)


def _law(dataset: Dataset, z: np.ndarray, d: int) -> tuple[dict[str, Any], str]:
    """The law of the data for the density under the cloud, and what it is, in words."""
    if (mixture := dataset.law()) is not None:
        return law_of_mixture(mixture) | {"smoothing": 0.0}, "exact density p_t"
    smoothing = (WIDENED * float(np.sqrt(np.mean((z - z.mean(axis=0)) ** 2)))) ** 2
    found = law_of_points(z, d) | {"smoothing": smoothing}
    return found, f"p_t of {len(z):,} true points, each widened by {WIDENED:g} of the data's std"


def _stable(
    diffusion: Diffusion, field: Field, at: Array, dataset: Dataset
) -> tuple[Diffusion, tuple[float, ...], str]:
    """The diffusion, the sigmas whose steps are stable on the data, and what was left out, in words."""
    variance = dataset.least_variance()

    def stable(kind: Diffusion) -> tuple[float, ...]:
        found = []
        for sigma in SIGMAS:
            sampler = StochasticHeun(dataclasses.replace(kind, sigma=sigma))  # type: ignore[type-var]
            if sigma == 0 or instability(sampler, field.path, at, "mean", variance) is None:
                found.append(sigma)
        return tuple(found)

    sigmas = stable(diffusion)
    if len(sigmas) == len(SIGMAS):
        return diffusion, sigmas, ""
    if len(sigmas) == 1 and not isinstance(diffusion, Vanishing):
        gentle = Vanishing()
        why = f"sigma_t vanishes with beta: {STEPS} steps of a {name_of(diffusion)} one are unstable on these data"
        return gentle, stable(gentle), why
    left = ", ".join(f"{sigma:g}" for sigma in SIGMAS if sigma not in sigmas)
    return diffusion, sigmas, f"sigma = {left} is left out: {STEPS} steps are unstable there"


def _states(field: Field, diffusion: Diffusion, sigma: float, x0: np.ndarray, at: Array) -> np.ndarray:
    """The states (frames, n, d) at one sigma. Raises UserError.

    On one grid the normals of a step depend on the key alone: at every sigma it is the same Brownian path that bends.
    """
    sampler = StochasticHeun(dataclasses.replace(diffusion, sigma=sigma))  # type: ignore[type-var]
    last = choose_last_step(sampler, field, at, "auto")
    settings = LoopSettings(last, saving=Saving(EVERY))
    found = simulate_compiled(sampler, field, x0, at, jax.random.key(2), settings=settings)
    assert found.trajectory is not None
    return np.asarray(found.trajectory.x, np.float64)


@jax.jit
def _rates(diffusion: Diffusion, path: GaussianPath, at: Array) -> Array:
    """sigma_t/sigma (m,) at the times."""
    unit = dataclasses.replace(diffusion, sigma=1.0)  # type: ignore[type-var]
    return jax.vmap(lambda t: jnp.asarray(unit.sigma_at(t, coefficients(path, t))))(at)


def _scaling(scaling: Scaling | None, d: int) -> dict[str, list[float]] | None:
    if scaling is None:
        return None
    return {name: np.broadcast_to(each, (d,)).astype(float).tolist() for name, each in scaling._asdict().items()}


def _window(states: np.ndarray, z: np.ndarray, square: bool) -> dict[str, Any]:
    """The window's centre (d,), and its half widths (d,) at each frame: the same at all, or following t where x_t's scale does.

    square: one half width for both coordinates, where they have one unit. near: the half widths that hold the data alone.
    """
    centre = (z.max(axis=0) + z.min(axis=0)) / 2
    half = 1.12 * np.quantile(np.abs(states - centre), 0.995, axis=(0, 2))  # (frames, d)
    half[-1] = np.maximum(half[-1], 1.12 * np.abs(z - centre).max(axis=0))
    if square:
        half[:] = half.max(axis=1, keepdims=True)
    if (half.max(axis=0) < ZOOM * half.min(axis=0)).all():
        half[:] = half.max(axis=0)
    near = 1.25 * np.abs(z - centre).max(axis=0)
    near = np.full(len(near), near.max()) if square else near
    return {"centre": centre.astype(float).tolist(), "half": _rounded(half), "near": _rounded(near[None])[0]}


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in row] for row in values]
