"""The adaptive sampler: its error against exact flow maps, and its count of evaluations against a count of our own."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffsde.build import check
from diffsde.errors import UserError
from diffsde.fields import Field, OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS
from diffsde.samplers import LoopSettings, simulate
from diffsde.samplers.adaptive import PAIRS, Adaptive
from diffsde.samplers.ode import RK4
from diffsde.types import Array, Prediction, Scalar, register

run = jax.jit(partial(simulate, settings=LoopSettings(last="step")))
GRID = (0.1, 0.9)


def two_components(path: str) -> OracleField:
    law = Mixture(jnp.array([[-2.0], [1.5]]), jnp.array([[0.3], [1.0]]), jnp.array([0.4, 0.6]))
    return OracleField(PATHS[path](), law, (1,))


SOLVED = [(pair, "ot") for pair in PAIRS]
REST = [(pair, path) for pair in PAIRS for path in ("sqrt", "vp")]


@pytest.mark.parametrize(("pair", "path"), [*SOLVED, *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)])
def test_the_error_follows_the_tolerance(pair: str, path: str, x64: None) -> None:
    """Against a fine RK4: below 30 tolerances (median over points), and a tighter one costs more and errs less."""
    field, x, grid = two_components(path), jnp.linspace(-2, 2, 31)[:, None], jnp.array(GRID)
    truth = run(RK4(), field, x, jnp.linspace(*GRID, 2001), jax.random.key(0)).x
    errors, costs = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = run(Adaptive(pair, tolerance, tolerance), field, x, grid, jax.random.key(0))
        errors.append(float(jnp.median(jnp.abs(found.x - truth))))
        costs.append(float(found.nfe.mean()))
        assert errors[-1] < 30 * tolerance
    assert errors == sorted(errors, reverse=True) and costs == sorted(costs)


@pytest.mark.parametrize(("pair", "method"), [("dopri5", "RK45"), ("bosh3", "RK23"), ("dopri8", "DOP853")])
def test_cost_and_error_are_those_of_scipy(pair: str, method: str, x64: None) -> None:
    """The same pair at the same tolerance in scipy: evaluations within 1.3, median error no more than 3 times as large."""
    field, x, tolerance = two_components("ot"), jnp.linspace(-2, 2, 15)[:, None], 1e-5
    truth = run(RK4(), field, x, jnp.linspace(*GRID, 2001), jax.random.key(0)).x
    ours = run(Adaptive(pair, tolerance, tolerance), field, x, jnp.array(GRID), jax.random.key(0))
    velocity = jax.jit(field.velocity)
    options = {"method": method, "rtol": tolerance, "atol": tolerance, "first_step": 0.01}
    theirs = [solve_ivp(lambda t, y: np.asarray(velocity(y, t)), GRID, np.asarray(point), **options) for point in x]
    assert 1 / 1.3 < float(ours.nfe.mean()) / np.mean([each.nfev for each in theirs]) < 1.3
    errors = jnp.abs(ours.x - truth), jnp.abs(jnp.array([each.y[:, -1] for each in theirs]) - truth)
    assert float(jnp.median(errors[0])) < 3 * float(jnp.median(errors[1]))


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class Counted(Field):
    """A field that tells the host of every evaluation."""

    field: OracleField

    path = property(lambda self: self.field.path)  # type: ignore[assignment]
    shape = property(lambda self: self.field.shape)  # type: ignore[assignment]

    def output(self, x: Array, t: Scalar) -> Prediction:
        jax.debug.callback(count)
        return self.field.output(x, t)


evaluated = 0


def count() -> None:
    global evaluated
    evaluated += 1


COUNTED = [
    pytest.param(pair, segments, marks=[] if (pair, segments) in (("bosh3", 3), ("tsit5", 1)) else pytest.mark.slow)
    for pair in PAIRS
    for segments in (1, 3)
]


@pytest.mark.parametrize(("pair", "segments"), COUNTED)
def test_the_evaluations_reported_are_those_made(pair: str, segments: int) -> None:
    """Counted on the host, for one sample, so that no other's evaluations are among them."""
    global evaluated
    evaluated = 0
    x, grid = jnp.array([[0.7]]), jnp.linspace(*GRID, segments + 1)
    found = run(Adaptive(pair, 1e-3, 1e-3), Counted(two_components("ot")), x, grid, jax.random.key(0))
    jax.effects_barrier()
    assert evaluated == int(found.nfe[0]) > 0


def test_each_sample_takes_its_own_steps() -> None:
    """The same sample ends in the same place, with the same count, alone and among others that need more."""
    field, x, grid = two_components("ot"), jnp.linspace(-2, 2, 9)[:, None], jnp.array(GRID)
    among, alone = (run(Adaptive(), field, part, grid, jax.random.key(0)) for part in (x, x[:1]))
    assert int(among.nfe.max()) > int(among.nfe.min())
    assert int(among.nfe[0]) == int(alone.nfe[0])
    np.testing.assert_allclose(among.x[:1], alone.x, rtol=1e-5)


def test_a_field_that_is_infinite_gives_nan_not_a_wrong_answer() -> None:
    """Past 4096 steps the result is NaN, which the verb refuses; never the point where it gave up."""

    class Blows(Counted):
        def output(self, x: Array, t: Scalar) -> Prediction:
            velocity = jnp.where(t > 0.5, jnp.inf, 1.0) * jnp.ones_like(x)
            return Prediction(velocity, velocity, velocity, velocity)

    state = Adaptive().step(Blows(two_components("ot")), Adaptive().start(jnp.zeros(1)), 0.1, 0.8, None)
    assert bool(jnp.isnan(state.x).all())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(Adaptive(pair="rk45"), "choose one of bosh3"), (Adaptive(rtol=-1.0), "rtol"), (Adaptive(atol=0.0), "atol")],
)
def test_refusals(wrong: Adaptive, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(wrong)
