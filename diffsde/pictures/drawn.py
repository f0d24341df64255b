"""The samples that pictures are drawn of, with the arguments to simulate them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.build import name_of
from diffsde.couplings import Coupling
from diffsde.datasets import Dataset, Snapshots
from diffsde.datasets.scaling import Scaling, to_own
from diffsde.ensembles import member
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.interpolants import path_times
from diffsde.pictures.between import Between
from diffsde.samplers import LoopSettings, Sampler, Saving, simulate_compiled
from diffsde.samplers.diffusions import Diffusion
from diffsde.samplers.flow_map import FlowMapJumps
from diffsde.samplers.loop import Simulated
from diffsde.samplers.ode import Euler
from diffsde.samplers.sde import EulerMaruyama
from diffsde.types import Array, Key


class Drawn(NamedTuple):
    """Samples x (n, *shape) from starting points x0 (n, *shape), and the arguments of `simulate` that they were drawn with.

    about: a one-line description for the pictures' titles. known: whether the data can be read. coordinates: those that
    pictures show of points of more than two, the words of coordinates=. source: the law at t = 0, None for N(0, I); coupling: how
    its points go with the data's, `paired` of them at a time, None for independently.
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
    coordinates: tuple[int | str, ...] | str | None = None
    source: Dataset | None = None
    coupling: Coupling | None = None
    paired: int = 256

    @property
    def between(self) -> Between:
        """How x_t of the data comes about."""
        series = self.dataset if isinstance(self.dataset, Snapshots) else None
        return Between(self.field.path, self.source, self.coupling, self.paired, series)

    def path_times(self, times: Any) -> Any:
        """The path's own t at times of the samples' simulation."""
        return path_times(self.field, times)

    def own(self, x: Any) -> np.ndarray:
        """Points (..., *shape) in the data's own units."""
        return to_own(self.scaling, x)

    def times_kept(self, frames: int) -> np.ndarray:
        """Times for a simulation whose trajectory is saved: the samples' own; for an adaptive sampler 2 frames + 1 uniform ones.

        An adaptive sampler takes its steps within one segment, whose two ends alone are no trajectory.
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
    """Simulate `sampler` from x0 (n, *shape) over `times`, point i under the condition of sample rows[i].

    The one place in which pictures simulate.
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
    """A map from images in the model's units to [-1, 1], black to white, for display.

    The identity without a scaling; else the 0.1% and 99.9% quantiles of `data` (n, *shape), in the data's own units, become
    black and white.
    """
    if scaling is None:
        return np.asarray
    low, high = np.quantile(to_own(scaling, data), [0.001, 0.999])
    return lambda x: (2 * (to_own(scaling, x) - low) / (high - low) - 1).astype(np.float32)


def labels_given(drawn: Drawn) -> np.ndarray | None:
    """The labels (n,) of the samples; None where the condition is something else or nothing."""
    condition = drawn.condition
    if condition is None or not hasattr(condition, "dtype") or condition.ndim != 1 or condition.dtype.kind not in "iu":
        return None
    return np.asarray(condition)


def names_of(dataset: Dataset) -> Callable[[int], str]:
    """What a label of the dataset is called: by the name of its class, where the data's files have names."""
    try:
        names = dataset.class_names()
    except UserError:  # the files are not here
        names = ()
    return lambda label: names[label] if label < len(names) else f"label {label}"


def described_sampler(sampler: Sampler) -> str:
    """A sampler's name, and its diffusion with sigma if it has one, as text."""
    diffusion = getattr(sampler, "diffusion", None)
    return name_of(sampler) + (f", {name_of(diffusion)} sigma = {float(diffusion.sigma):g}" if diffusion else "")


def ode_and_sde(sampler: Sampler, diffusion: Diffusion) -> dict[str, Sampler]:
    """An ODE sampler and an SDE sampler to compare, by title; one is the chosen sampler, `diffusion` is for an added SDE. Jumps with
    fresh noise are compared with jumps alone.
    """
    if sampler.jumps and sampler.stochastic:
        return {f"jumps: {name_of(FlowMapJumps())}": FlowMapJumps(), f"jumps and noise: {name_of(sampler)}": sampler}
    if not sampler.stochastic:
        sde = EulerMaruyama(diffusion)
        return {
            f"{'jumps' if sampler.jumps else 'ODE'}: {name_of(sampler)}": sampler,
            f"SDE: {described_sampler(sde)}": sde,
        }
    ode: Sampler = Euler()
    if isinstance(sampler, EulerMaruyama):  # with sigma = 0 it is Euler, by the program already compiled
        ode = dataclasses.replace(sampler, diffusion=dataclasses.replace(sampler.diffusion, sigma=0.0))  # type: ignore[type-var]
    return {f"ODE: {name_of(Euler())}": ode, f"SDE: {described_sampler(sampler)}": sampler}
