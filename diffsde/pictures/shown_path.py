"""`diffsde show what=path`: alpha, beta, gamma, their derivatives, the signal-to-noise ratio, eta and sigma_t of several paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import name_of
from diffsde.paths import GaussianPath, coefficients, log_snr, written
from diffsde.pictures.subjects import Shown
from diffsde.plots.paths import path_curves
from diffsde.runs.show_config import ShowConfig
from diffsde.samplers import Diffusion
from diffsde.samplers.diffusions import Constant, Memoryless
from diffsde.types import Array

TIMES = 401
TITLES = {  # and the label of the axis
    "alpha": ("coefficient of the data", r"$\alpha$"),
    "beta": ("coefficient of the noise", r"$\beta$"),
    "log10 SNR": ("signal-to-noise ratio", r"$\log_{10}(\alpha^2/\beta^2)$"),
    "dalpha": ("derivative of alpha", r"$d\alpha/dt$"),
    "dbeta": ("derivative of beta", r"$d\beta/dt$"),
    "eta": (r"$\eta = \beta^2 \dot\alpha/\alpha - \beta\dot\beta$", r"$\eta$"),
}
WORDS = ("alpha", "beta", "gamma")
OF_GAMMA = {
    "gamma": ("noise on the way", r"$\gamma$"),
    "dgamma": ("derivative of gamma", r"$d\gamma/dt$"),
}


def path(chosen: ShowConfig) -> Shown:
    """A panel for each quantity, a curve for each path."""
    paths = _paths(chosen)
    diffusion = _diffusion(chosen)
    titles = dict(TITLES)
    if any(each.has_gamma for each in paths.values()):  # of which eta, of noise at t = 0, says nothing
        titles = {name: each for name, each in titles.items() if name != "eta"} | OF_GAMMA
        titles["beta"] = "coefficient of the source", titles["beta"][1]
    if diffusion is not None:
        words = f"diffusion {name_of(diffusion)}, sigma = {float(diffusion.sigma):g}"
        titles["sigma_t"] = words, r"$\sigma_t$"
    times = np.linspace(0.0, 1.0, TIMES)
    found = {name: _along(each, diffusion, jnp.asarray(times, float)) for name, each in paths.items()}
    curves = {
        quantity: {name: np.where(np.isfinite(each[quantity]), each[quantity], np.nan) for name, each in found.items()}
        for quantity in titles
    }
    arrays = {"times": times} | {
        f"{name}_{quantity}".replace(" ", "_"): values
        for quantity, each in curves.items()
        for name, values in each.items()
    }
    about = "paths x_t = alpha z + beta eps: " + ", ".join(paths)
    if "gamma" in titles:
        about = "paths x_t = alpha z + beta y + gamma eps: " + ", ".join(paths)
    rows = [
        (name, ", ".join(f"{word} = {text}" for word, text in zip(WORDS, written(each), strict=False)))
        for name, each in paths.items()
    ]
    return Shown(arrays, lambda: path_curves(times, curves, titles, about), f"paths {', '.join(paths)}", rows)


def _paths(chosen: ShowConfig) -> dict[str, GaussianPath]:
    """The paths by their titles: the words, numbered where one stands twice."""
    if chosen.runs:
        from diffsde.runs.restore import read_train_config

        several = tuple(read_train_config(Path(run)).path for run in chosen.runs)
    else:
        several = chosen.paths or ((chosen.path,) if chosen.path is not None else ())
    names = [name_of(each) for each in several]
    return {
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}": each
        for i, (name, each) in enumerate(zip(names, several, strict=True))
    }


def _diffusion(chosen: ShowConfig) -> Diffusion | None:
    if chosen.diffusion is None and chosen.sigma is not None:
        return Constant(chosen.sigma)
    return chosen.diffusion


@jax.jit
def _along(path: GaussianPath, diffusion: Any, times: Array) -> dict[str, Array]:
    """Each quantity (m,) at times (m,)."""

    def at(t: Array) -> dict[str, Array]:
        c = coefficients(path, t)
        eta = Memoryless(1.0).sigma_at(t, c) ** 2 / 2  # sigma_t^2 = 2 eta
        found = {"alpha": c.alpha, "beta": c.beta, "dalpha": c.dalpha, "dbeta": c.dbeta, "eta": eta}
        found |= {"gamma": c.gamma, "dgamma": c.dgamma}
        found["log10 SNR"] = 2 / jnp.log(10.0) * log_snr(path, t)
        if diffusion is not None:
            found["sigma_t"] = diffusion.sigma_at(t, c)
        return {name: value + 0 * t for name, value in found.items()}

    return jax.vmap(at)(times)
