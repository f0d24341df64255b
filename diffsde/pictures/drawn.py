"""What pictures are drawn of: samples, how they came about, and simulations beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling, to_own
from diffsde.ensembles import member
from diffsde.fields import Field
from diffsde.samplers import LoopSettings, Sampler, Saving, simulate_compiled
from diffsde.samplers.diffusions import Diffusion
from diffsde.samplers.loop import Simulated
from diffsde.samplers.ode import Euler
from diffsde.samplers.sde import EulerMaruyama
from diffsde.types import Array, Key


class Drawn(NamedTuple):
    """Samples x (n, *shape) from x0 (n, *shape), and how they were drawn: the arguments of `simulate`.

    about: that in a line, for the pictures' titles. known: whether the data are here.
    """

    sampler: Sampler
    field: Field
    dataset: Dataset
    x0: Array
    x: Array
    times: Array
    key: Key
    last: str
    coupled: bool = False
    condition: Any = None
    scaling: Scaling | None = None
    about: str = ""
    known: bool = True

    def own(self, x: Any) -> np.ndarray:
        """Points (..., *shape) in the data's own units."""
        return to_own(self.scaling, x)

    def times_kept(self, frames: int) -> np.ndarray:
        """The times of a simulation of which at least so many states are kept: those of the samples, but an adaptive
        sampler's own steps are not the grid's, and one of them is no way.
        """
        times = np.asarray(self.times)
        return np.linspace(times[0], times[-1], 2 * frames + 1, dtype=times.dtype) if self.sampler.adaptive else times


def simulated(
    drawn: Drawn,
    sampler: Sampler,
    x0: np.ndarray,
    rows: np.ndarray,
    times: np.ndarray,
    save_every: int | None = None,
    keep: int | None = None,
) -> Simulated:
    """Where a sampler takes x0 (n, *shape) over these times, sample i being conditioned on what sample rows[i] was; the one
    place in which pictures simulate.
    """
    condition = jax.tree.map(np.asarray, drawn.condition)
    saving = None if save_every is None else Saving(save_every, keep)
    return simulate_compiled(
        sampler,
        drawn.field,
        x0,
        times,
        drawn.key,
        member(condition, rows),
        settings=LoopSettings(drawn.last, drawn.coupled and sampler.coupled, saving),
    )


def on_screen(scaling: Scaling | None, data: np.ndarray) -> Callable[[Any], np.ndarray]:
    """From images in the model's units to [-1, 1], which is black to white: as they are without a scaling, else what all but
    a thousandth of the data's own numbers at either end lie within. data: images (n, *shape).
    """
    if scaling is None:
        return np.asarray
    low, high = np.quantile(to_own(scaling, data), [0.001, 0.999])
    return lambda x: (2 * (to_own(scaling, x) - low) / (high - low) - 1).astype(np.float32)


def labels_given(drawn: Drawn) -> np.ndarray | None:
    """The label (n,) of each sample, where labels are what they are given."""
    condition = drawn.condition
    if condition is None or not hasattr(condition, "dtype") or condition.ndim != 1 or condition.dtype.kind not in "iu":
        return None
    return np.asarray(condition)


def described_sampler(sampler: Sampler) -> str:
    """A sampler's name, and its sigma_t where it has one."""
    diffusion = getattr(sampler, "diffusion", None)
    return name_of(sampler) + (f", {name_of(diffusion)} sigma = {float(diffusion.sigma):g}" if diffusion else "")


def ode_and_sde(sampler: Sampler, diffusion: Diffusion) -> dict[str, Sampler]:
    """The ODE and the SDE to show side by side, the chosen sampler being one of them; `diffusion` is for the other."""
    if not sampler.stochastic:
        sde = EulerMaruyama(diffusion)
        return {f"ODE: {name_of(sampler)}": sampler, f"SDE: {described_sampler(sde)}": sde}
    ode: Sampler = Euler()
    if isinstance(sampler, EulerMaruyama):  # which is Euler without its sigma, by the program that there is
        ode = dataclasses.replace(sampler, diffusion=dataclasses.replace(sampler.diffusion, sigma=0.0))  # type: ignore[type-var]
    return {f"ODE: {name_of(Euler())}": ode, f"SDE: {described_sampler(sampler)}": sampler}
