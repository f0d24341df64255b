"""Steps that are chosen, not said: the error by halving in closed form, and what the choice gives on a field that is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.datasets.mixture import Ring
from diffsde.errors import UserError
from diffsde.fields import OracleField
from diffsde.paths import PATHS
from diffsde.runs.starting import trial_of
from diffsde.samplers import SAMPLERS, LoopSettings, simulate_compiled, times
from diffsde.samplers.corrector import Langevin
from diffsde.samplers.diffusions import Constant, Memoryless
from diffsde.samplers.dpm_solver import DPMSolverPP2M, DPMSolverPP2MSDE
from diffsde.samplers.exponential import DDIM, Exponential
from diffsde.samplers.grids import LogSNRGrid, UniformGrid
from diffsde.samplers.loop import padded, prior
from diffsde.samplers.ode import RK4, Euler, Heun
from diffsde.samplers.sde import EulerMaruyama, StochasticHeun
from diffsde.solver_error import SamplingPlan, data_stds
from diffsde.stability import choose_last_step
from diffsde.step_choice import MOST, TOLERANCE, choose_steps, fewest, halving_error, quiet

OT = PATHS["ot"]()
ENDS = np.random.default_rng(0).normal(size=(64, 2))
SIZE = float(np.sqrt(ENDS.var(axis=0).mean()))
AWAY = np.random.default_rng(1).choice([-1.0, 1.0], size=(64, 2))  # errors of one size


def erring(by: float, order: float) -> np.ndarray:
    """A trial whose samples end `by` stds off after one step, and with the order beyond."""
    return lambda steps: ENDS + SIZE * by * AWAY / float(steps) ** order  # type: ignore[return-value]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_halving_finds_an_error_that_is_a_power_of_the_step(order: int) -> None:
    assert halving_error(erring(1.0, order), {}, 16, 4) == pytest.approx(16.0**-order, rel=0.05)


def test_the_error_by_halving_is_on_the_safe_side() -> None:
    """An order that is only stated makes no error small, nor does a ratio above it; and few points of another mode make none large."""
    assert halving_error(erring(1.0, 1), {}, 16, 4) == pytest.approx(1 / 16, rel=0.05)
    plain = halving_error(erring(1.0, 2), {}, 16, 2)
    assert halving_error(erring(16.0, 3), {}, 16, 2) > plain
    assert halving_error(lambda steps: ENDS, {}, 16, 2) == 0

    def flipping(steps: int) -> np.ndarray:
        ends = np.array(erring(1.0, 2)(steps))
        ends[steps % 3] += 5  # of 16 and 32 steps another point
        return ends

    assert halving_error(flipping, {}, 16, 2) < 1.2 * plain
    assert halving_error(lambda steps: ENDS * (np.nan if steps > 16 else 1), {}, 16, 2) == np.inf


@pytest.mark.parametrize(("by", "order", "steps"), [(1.0, 1, 256), (0.3, 1, 128), (10.0, 1, MOST)])
def test_the_fewest_steps_within_the_tolerance_are_chosen(by: float, order: int, steps: int) -> None:
    """by/N <= 0.004; 512 where none of them reaches it, which is said."""
    how = SamplingPlan(Euler(), UniformGrid(), MOST, "mean")
    found = choose_steps(how, OT, (), erring(by, order))
    assert found.steps == steps and found.error == pytest.approx(by / steps, rel=0.05)
    assert found.accurate == (by / steps <= TOLERANCE) and found.std_error is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sampler", [Euler(), EulerMaruyama(Constant(1.0)), Exponential(Memoryless(1.0))])
def test_steps_that_the_grid_cannot_place_are_not_chosen(sampler: Euler) -> None:
    """On vp 512 steps of this grid coincide near t = 1 in float32: fewer are taken, tried by halving once only at the finest."""
    grid, vp = LogSNRGrid(0.0, 1.0, -5.0, 8.0), PATHS["vp"]()
    with pytest.raises(UserError, match="do not increase"):
        times(grid, MOST, vp)

    def trial(steps: int) -> np.ndarray:
        times(grid, steps, vp)
        return erring(100.0, 1)(steps)  # type: ignore[operator]

    found = choose_steps(SamplingPlan(sampler, grid, MOST, "mean"), vp, (0.05, 0.8), trial)
    assert found.error is not None and np.isfinite(found.error) and found.error >= 0.99 * 100 / found.steps
    assert len(times(grid, found.steps, vp)) == found.steps + 1


def test_the_data_least_scale_counts_too() -> None:
    """Where the ends agree at once, Euler's (1 - 1/N)-like ratio of the least std decides, 1% of it and 3% of the greatest."""
    how = SamplingPlan(Euler(), UniformGrid(), MOST, "mean")
    found = choose_steps(how, OT, (1.0, 7.1414), erring(0.0, 1))
    assert found.steps == 128 and found.error == 0
    assert found.std_error is not None and 0.01 < found.std_error < 0.03
    assert choose_steps(how, OT, (1.0,), erring(0.0, 1)).steps == 128
    assert choose_steps(how, OT, (0.1,), erring(0.0, 1)).steps > 128


def test_a_sampler_that_no_steps_make_right_takes_those_that_more_would_not_change() -> None:
    """Langevin's stays at t = 0.9, at 0.906 of the std; a grid that has no more times takes what there are."""
    how = SamplingPlan(Langevin(Constant(0.5)), UniformGrid(), MOST, "mean")
    found = choose_steps(how, OT, (1.0,), erring(0.0, 1))
    assert found.steps < MOST and found.std_error == pytest.approx(0.09, abs=0.02)

    def stuck(steps: int) -> np.ndarray:
        raise UserError("times do not increase")

    assert choose_steps(how, OT, (1.0,), stuck).error == np.inf


@pytest.mark.slow
def test_a_quiet_sampler_is_that_of_the_ode() -> None:
    for noisy, plain in (
        (EulerMaruyama(Constant(0.5)), Euler()),
        (StochasticHeun(Constant(2.0)), Heun()),
        (Exponential(Memoryless(1.0)), DDIM()),
        (DPMSolverPP2MSDE(Memoryless(1.0)), DPMSolverPP2M()),
    ):
        field = OracleField(OT, Ring().mixture(), (2,))
        x, at = jnp.asarray(ENDS[:8], float), times(UniformGrid(0.1, 1.0), 6, OT)
        ends = [
            simulate_compiled(each, field, x, at, jax.random.key(0), settings=LoopSettings("step")).x
            for each in (quiet(noisy), plain)
        ]
        np.testing.assert_allclose(*ends, atol=2e-3)
    assert quiet(SAMPLERS["reverse_diffusion"]()) is None and quiet(SAMPLERS["adaptive"]()) is None
    assert [fewest(each) for each in (Euler(), Heun(), RK4())] == [64, 32, 16]


def within(ends: np.ndarray) -> float:
    """The std of points about the component of the ring that each is nearest to."""
    means = np.asarray(Ring().mixture().means)
    off = ends[:, None] - means
    return float(np.sqrt(np.square(off).sum(axis=-1).min(axis=1).mean() / 2))


CHOSEN = [
    (name, path)
    for path in ("ot", "vp", "ve", "edm")
    for name in ("heun", "rk4", "midpoint", "dpmpp_2m", "unipc", "stochastic_heun", "dpmpp_2m_sde")
] + [(name, path) for path in ("ot", "vp") for name in ("euler", "ddim", "em", "exponential", "ab2", "deis3")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), CHOSEN)
def test_chosen_steps_keep_the_modes_as_they_are(name: str, path: str) -> None:
    """The exact field of the 11 components: within-mode std is 1 within 1% and 3 standard errors of 16,384 points."""
    sampler, chosen, n = SAMPLERS[name](), PATHS[path](), 16_384
    field, grid = OracleField(chosen, Ring().mixture(), (2,)), UniformGrid()
    last = choose_last_step(sampler, field, times(grid, 64, chosen), "auto")
    x0 = prior(chosen, jnp.asarray(0.0), (2,), jax.random.key(1), n)
    how, stds = SamplingPlan(sampler, grid, MOST, last), data_stds(Ring(), jax.random.key(0))
    found = choose_steps(how, chosen, stds, trial_of(sampler, field, grid, last, x0[:64], None))
    assert found.accurate and found.std_error is not None and found.std_error < 0.03
    at, steps = padded(times(grid, found.steps, chosen))
    ends = simulate_compiled(sampler, field, x0, at, jax.random.key(2), None, steps, LoopSettings(last)).x
    assert abs(within(np.asarray(ends)) - 1) < 0.01 + 3 / np.sqrt(4 * n)
