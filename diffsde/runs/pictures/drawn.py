"""What pictures are drawn of, and beside what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling, to_own
from diffsde.fields import Field
from diffsde.runs import folder
from diffsde.samplers import Sampler
from diffsde.samplers.diffusions import Diffusion
from diffsde.samplers.ode import Euler
from diffsde.samplers.sde import EulerMaruyama
from diffsde.types import Array, Key


class Drawn(NamedTuple):
    """Samples x (n, *shape) from x0 (n, *shape), and how they were drawn: the arguments of `simulate`."""

    sampler: Sampler
    field: Field
    dataset: Dataset
    x0: Array
    x: Array
    times: Array
    key: Key
    last: str
    coupled: bool = False
    given: Any = None
    scaling: Scaling | None = None

    def own(self, x: Any) -> np.ndarray:
        """Points (..., *shape) in the data's own units."""
        return to_own(self.scaling, x)


def on_screen(scaling: Scaling | None, data: np.ndarray) -> Callable[[Any], np.ndarray]:
    """From images in the model's units to [-1, 1], which is black to white: as they are without a scaling, else what all but
    a thousandth of the data's own numbers at either end lie within. data: images (n, *shape).
    """
    if scaling is None:
        return np.asarray
    low, high = np.quantile(to_own(scaling, data), [0.001, 0.999])
    return lambda x: (2 * (to_own(scaling, x) - low) / (high - low) - 1).astype(np.float32)


def labels_of(drawn: Drawn) -> np.ndarray | None:
    """The label (n,) of each sample, where labels are what they are given."""
    given = drawn.given
    if given is None or not hasattr(given, "dtype") or given.ndim != 1 or given.dtype.kind not in "iu":
        return None
    return np.asarray(given)


def save_figure(path: Path, figure: Figure) -> Path:
    return folder.write(path, lambda partial: figure.savefig(partial))


def beside(sampler: Sampler, diffusion: Diffusion) -> dict[str, Sampler]:
    """The ODE and the SDE to show side by side, the chosen sampler being one of them; `diffusion` is for the other."""
    if not sampler.stochastic:
        about = f"{name_of(diffusion)} sigma = {float(diffusion.scale):g}"
        return {"ODE": sampler, f"SDE, {about}": EulerMaruyama(diffusion)}
    about = name_of(sampler)
    if chosen := getattr(sampler, "diffusion", None):
        about += f", {name_of(chosen)} sigma = {float(chosen.scale):g}"
    return {"ODE": Euler(), f"SDE: {about}": sampler}
