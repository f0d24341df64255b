"""Coupled noise: one Brownian path per sample, which every grid reads."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde.fields import OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS
from diffsde.samplers import SAMPLERS, LoopSettings, simulate
from diffsde.samplers.diffusions import Bump, Constant, Diffusion, Memoryless
from diffsde.samplers.dpm_solver import DPMSolverPP2MSDE
from diffsde.samplers.exponential import Exponential
from diffsde.samplers.loop import brownian_path
from diffsde.samplers.sampler import Sampler
from diffsde.samplers.sde import EulerMaruyama, ReverseDiffusion, StochasticHeun
from tests.conftest import ends

run = jax.jit(partial(simulate, settings=LoopSettings(last="step", coupled=True)))
START, END = 0.1, 0.9


def increments(grid: np.ndarray, count: int) -> np.ndarray:
    """W(t') - W(t) over the grid's steps, (count, steps, 2)."""

    def one(key: jax.Array) -> jax.Array:
        path = brownian_path(key, (2,), jnp.float32)
        return jax.vmap(path)(jnp.asarray(grid[:-1], jnp.float32), jnp.asarray(grid[1:], jnp.float32))

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), count)))


def test_a_finer_grid_refines_the_same_path() -> None:
    """The increments over a coarse, uneven grid are the sums of those over a finer one that contains it."""
    coarse = np.array([0.0, 0.1, 0.35, 0.375, 0.8, 1.0])
    fine = np.unique(np.concatenate([coarse, np.linspace(0, 1, 65)]))
    sums = np.add.reduceat(increments(fine, 50), np.searchsorted(fine, coarse[:-1]), axis=1)
    np.testing.assert_allclose(increments(coarse, 50), sums, atol=3e-6)


def test_increments_are_brownian() -> None:
    """Normal with variance h, kurtosis 3, and uncorrelated between steps, coordinates and samples."""
    grid = np.array([0.0, 0.013, 0.3, 0.31, 0.99, 1.0])
    scaled = increments(grid, 20_000) / np.sqrt(np.diff(grid))[:, None]
    flat = scaled.reshape(len(scaled), -1)
    for column in flat.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    assert abs(stats.kurtosis(flat, axis=None, fisher=False) - 3) < 4 * np.sqrt(24 / flat.size)
    assert np.abs(np.corrcoef(flat.T) - np.eye(10)).max() < 4.5 / np.sqrt(len(flat))
    assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 4.5 / np.sqrt(len(flat))


# edm's churn is a normal a step too, but at another time, and that of consistency is no increment; `sample` refuses both
APART = ("edm", "consistency")
NOT_COUPLED = [name for name, kind in SAMPLERS.items() if kind.stochastic and not kind.coupled and name not in APART]
ONE, BUMP = Constant(1.0), Bump(1.5)
LONG = [
    (EulerMaruyama(ONE), ONE),
    (StochasticHeun(ONE), ONE),
    (DPMSolverPP2MSDE(BUMP), BUMP),
    (ReverseDiffusion(), Memoryless()),
]
STRONG = [(Exponential(BUMP), BUMP), *(pytest.param(*each, marks=pytest.mark.slow) for each in LONG)]


@pytest.mark.parametrize(("sampler", "diffusion"), STRONG, ids=str)
def test_paths_converge_strongly_with_order_one(sampler: Sampler, diffusion: Diffusion, x64: None) -> None:
    """The noise is additive, so every scheme that sees the increments alone has strong order 1; on a target of two modes."""
    law = Mixture(jnp.array([[-2.0], [1.5]]), jnp.array([[0.3], [1.0]]), jnp.array([0.4, 0.6]))
    field = OracleField(PATHS["vp"](), law, (1,))
    x = jnp.linspace(-2, 2, 100)[:, None]

    def at(sampler: Sampler, counts: list[int]) -> list[jax.Array]:
        grids = [jnp.linspace(START, END, count + 1) for count in counts]
        return ends(sampler, field, x, grids, seed=3, last="step", coupled=True)

    counts = [16, 32, 64]
    found = at(sampler, counts)
    (truth,) = at(StochasticHeun(diffusion), [1024])
    errors = [float(jnp.sqrt(jnp.mean((end - truth) ** 2))) for end in found]
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - 1) < 0.2, errors


@pytest.mark.parametrize("name", NOT_COUPLED)
def test_samplers_of_other_noise_say_so(name: str) -> None:
    """A sampler that draws more than the increment cannot be coupled."""
    field = OracleField(PATHS["vp"](), Mixture(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones(1)), (1,))
    with pytest.raises(TypeError, match="more than the increment"):
        run(SAMPLERS[name](), field, jnp.zeros((3, 1)), jnp.array([0.1, 0.5, 0.9]), jax.random.key(0))
