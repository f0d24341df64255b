"""Samplers: the table of all, by name; the loop is in loop.py, the methods in one file per family."""

from __future__ import annotations

from diffsde.samplers.adams import AB2, AB3
from diffsde.samplers.adaptive import Adaptive
from diffsde.samplers.best import Best
from diffsde.samplers.corrector import AnnealedLangevin, Langevin, PredictorCorrector
from diffsde.samplers.deis import DEIS2, DEIS3, IPNDM
from diffsde.samplers.diffusions import DIFFUSIONS, Diffusion
from diffsde.samplers.dpm_solver import DPMSolverPP2M, DPMSolverPP2MSDE, DPMSolverPP3M
from diffsde.samplers.edm import EDMHeun
from diffsde.samplers.exponential import DDIM, Exponential
from diffsde.samplers.flow_map import Consistency, FlowMapJumps
from diffsde.samplers.grids import GRIDS, Grid, times
from diffsde.samplers.loop import LoopSettings, Saving, Trajectory, prior, simulate, simulate_compiled
from diffsde.samplers.ode import RK4, Euler, Heun, Midpoint
from diffsde.samplers.sampler import LAST_STEPS, Sampler
from diffsde.samplers.sde import EulerMaruyama, ReverseDiffusion, StochasticHeun
from diffsde.samplers.unipc import UniPC

SAMPLERS: dict[str, type[Sampler]] = {
    # of the ODE
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "rk4": RK4,
    "ab2": AB2,
    "ab3": AB3,
    "ddim": DDIM,
    "dpmpp_2m": DPMSolverPP2M,
    "dpmpp_3m": DPMSolverPP3M,
    "unipc": UniPC,
    "deis2": DEIS2,
    "deis3": DEIS3,
    "ipndm": IPNDM,
    "edm": EDMHeun,
    "adaptive": Adaptive,
    "best": Best,
    # of flow maps
    "flow_map": FlowMapJumps,
    "consistency": Consistency,
    # of the SDE
    "em": EulerMaruyama,
    "stochastic_heun": StochasticHeun,
    "exponential": Exponential,
    "dpmpp_2m_sde": DPMSolverPP2MSDE,
    "reverse_diffusion": ReverseDiffusion,
    "pc": PredictorCorrector,
    "ald": AnnealedLangevin,
    "langevin": Langevin,
}

__all__ = [
    "DIFFUSIONS",
    "GRIDS",
    "LAST_STEPS",
    "SAMPLERS",
    "Diffusion",
    "Grid",
    "LoopSettings",
    "Sampler",
    "Saving",
    "Trajectory",
    "prior",
    "simulate",
    "simulate_compiled",
    "times",
]
