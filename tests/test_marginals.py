"""Every sampler keeps the marginals: samples of the exact field score what true samples of the mixture score."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from diffsde import mixtures
from diffsde.datasets.mixture import Ring
from diffsde.fields import OracleField
from diffsde.metrics.mixture import mixture_figures
from diffsde.paths import GAUSSIAN, PATHS
from diffsde.samplers import DIFFUSIONS, SAMPLERS, simulate_compiled, times
from diffsde.samplers.edm import EDMHeun
from diffsde.samplers.grids import LogSNRGrid, UniformGrid
from diffsde.samplers.loop import prior
from diffsde.samplers.sampler import Sampler

LAW = Ring().mixture()
ENTROPY = mixtures.entropy(LAW).value
N = 4000
EVERY_PATH = [name for name in GAUSSIAN if name != "expression"]


def keeps_the_marginals(sampler: Sampler, path_name: str, steps: int, start: float) -> None:
    """Cross-entropy, within-mode std and mode weights of N samples within 4 standard errors, and 0.02 for the steps."""
    field = OracleField(PATHS[path_name](), LAW, (2,))
    grid = LogSNRGrid(start, 1.0, -6.0, 4.0) if path_name in ("ve", "edm") else UniformGrid(start)
    at = times(grid, steps, field.path)
    x0 = prior(field.path, at[0], field.shape, jax.random.key(3), N)
    found = mixture_figures(LAW, simulate_compiled(sampler, field, x0, at, jax.random.key(4)).x)
    assert abs(float(found.cross_entropy) - ENTROPY) < 4 * float(found.cross_entropy_error) + 0.02
    assert abs(float(found.within_mode_std) - 1) < 4 / np.sqrt(4 * N) + 0.01
    # 2 N KL is about chi-squared with 10 degrees of freedom: beyond 40 once in 50,000
    assert 2 * N * float(found.mode_weight_kl) < 40


FINITE_STEPS = {"ald": 250}
NOT_HERE = (
    "langevin",
    "adaptive",
    "best",
    "flow_map",
    "consistency",
)  # langevin stops at t = 0.9 by design; others have tests of their own


@pytest.mark.parametrize("path_name", ["ot", pytest.param("vp", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in NOT_HERE])
def test_every_sampler_with_its_defaults(name: str, path_name: str) -> None:
    """As `diffsde sample sampler=NAME` takes it, but for the start, where alpha must not be 0."""
    keeps_the_marginals(SAMPLERS[name](), path_name, FINITE_STEPS.get(name, 400), 0.05 if name == "ald" else 1e-3)


@pytest.mark.parametrize("path_name", ["ve", "edm"])
def test_paths_that_start_in_wide_noise(path_name: str) -> None:
    """Of std 50 and 80: the noise that they start from is as wide, whatever the data."""
    keeps_the_marginals(SAMPLERS["heun"](), path_name, 200, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("path_name", EVERY_PATH)
@pytest.mark.parametrize("diffusion", [name for name in DIFFUSIONS if name != "expression"])
@pytest.mark.parametrize("name", ["em", "stochastic_heun", "exponential", "dpmpp_2m_sde"])
def test_every_cell(name: str, diffusion: str, path_name: str) -> None:
    """Every sampler that takes a sigma_t, every sigma_t, every path."""
    sampler = dataclasses.replace(SAMPLERS[name](), diffusion=DIFFUSIONS[diffusion]())  # type: ignore[type-var]
    keeps_the_marginals(sampler, path_name, 1000, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("path_name", EVERY_PATH)
@pytest.mark.parametrize("name", [name for name, kind in SAMPLERS.items() if name not in NOT_HERE and name != "ald"])
def test_every_sampler_on_every_path(name: str, path_name: str) -> None:
    keeps_the_marginals(SAMPLERS[name](), path_name, 1000, 1e-3)


def test_churn_keeps_the_marginals() -> None:
    """EDM's stochastic sampler, which jumps back in noise at every step."""
    keeps_the_marginals(EDMHeun(churn=0.2), "vp", 200, 1e-3)
