"""Samplers: the loop, then a file a family."""

from __future__ import annotations

from diffsde.samplers.diffusions import DIFFUSIONS, Diffusion
from diffsde.samplers.grids import GRIDS, Grid, times
from diffsde.samplers.ode import Euler, Heun
from diffsde.samplers.sampler import LAST_STEPS, Sampler, Trajectory, simulate
from diffsde.samplers.sde import EulerMaruyama

SAMPLERS: dict[str, type[Sampler]] = {"euler": Euler, "heun": Heun, "em": EulerMaruyama}

__all__ = [
    "DIFFUSIONS",
    "GRIDS",
    "LAST_STEPS",
    "SAMPLERS",
    "Diffusion",
    "Grid",
    "Sampler",
    "Trajectory",
    "simulate",
    "times",
]
