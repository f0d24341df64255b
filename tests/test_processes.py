"""Processes against closed forms, orders of the samplers on them, and the estimator of the autocorrelation time."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import ensembles, mixtures
from diffsde.datasets.mixture import CustomMixture, Gaussian, Ring
from diffsde.errors import UserError
from diffsde.evaluation.mixing import mixing_of
from diffsde.evaluation.process_figures import closed_form_figures, stationary_moments
from diffsde.fields import OracleField
from diffsde.metrics.autocorrelation import autocorrelation
from diffsde.paths import OT
from diffsde.pictures.processes import PathScene, curves_of
from diffsde.processes import PROCESSES, Process
from diffsde.processes.expression import ExpressionProcess
from diffsde.processes.linear import OU, Brownian, GeometricBrownian
from diffsde.processes.potential import DoubleWell, Langevin
from diffsde.processes.process import Start
from diffsde.samplers import SAMPLERS, LoopSettings, Saving, simulate
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.generative import GenerativeProcess
from diffsde.samplers.sampler import Sampler
from diffsde.samplers.sde import EulerMaruyama, StochasticHeun

run = jax.jit(simulate, static_argnames="settings")
GENERAL = {name: kind() for name, kind in SAMPLERS.items() if not kind.needs_field}
CROSSED = CustomMixture(
    means=((0.0, 1.0), (2.0, -1.0)), stds=None, covariances=(((1.0, 0.3), (0.3, 0.5)), ((0.4, 0.0), (0.0, 2.0)))
)


@partial(jax.jit, static_argnames="settings")
def together(
    processes: Process, x0: jax.Array, times: jax.Array, settings: LoopSettings
) -> tuple[jax.Array, jax.Array]:
    """The trajectories of many processes of one structure, as one program."""

    def one(process: Process) -> jax.Array:
        found = simulate(EulerMaruyama(), process, x0, times, jax.random.key(3), settings=settings)
        assert found.trajectory is not None
        return found.trajectory

    return tuple(jax.vmap(one)(processes))


SETTINGS = {
    "ou": [OU(theta, mu, sigma) for theta in (0.25, 1.0, 4.0) for mu, sigma in ((0.0, 0.5), (1.0, 2.0))],
    "brownian": [Brownian(sigma, mu) for sigma in (0.3, 1.0, 3.0) for mu in (0.0, -2.0)],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_mean_variance_and_autocovariance_are_within_four_errors_of_the_closed_form(name: str) -> None:
    processes, times = SETTINGS[name], np.linspace(0, 2, 801, dtype=np.float32)
    settings = LoopSettings("step", saving=Saving(200, None, 3))
    at, x = together(ensembles.stack_all(processes), jnp.full((4000, 1), 3.0), times, settings)
    start, far = Start(np.array([3.0]), np.zeros(1)), []
    for process, own, states in zip(processes, np.asarray(at, np.float64), np.asarray(x), strict=True):
        figures = closed_form_figures(process, own, states, states[-1], start, None)
        assert len(figures) == 11 and all(figure.reference is not None for figure in figures.values())
        far += [figure.distance_from_target / (figure.error or 0) for figure in figures.values()]
    assert len(far) == 66 and max(far) < 4
    assert 0.4 < np.median(far) < 1.0, "the errors are as large as the scatter: of a normal the median is 0.67"


def ends(sampler: Sampler, process: Process, counts: list[int], x0: float = 3.0) -> list[float]:
    longest = max(counts)
    grids = [np.pad(np.linspace(0, 1, k + 1), (0, longest - k), mode="edge") for k in counts]
    at = [
        run(sampler, process, jnp.array([[x0]]), jnp.asarray(grid), jax.random.key(0), None, k, LoopSettings("step"))
        for grid, k in zip(grids, counts, strict=True)
    ]
    return [float(found.x[0, 0]) for found in at]


@pytest.mark.parametrize("name", [name for name, sampler in GENERAL.items() if not sampler.stochastic])
def test_order_on_ou_without_noise(name: str, x64: None) -> None:
    """Against e^(-theta t); the adaptive solver within its tolerance."""
    sampler, process, counts = GENERAL[name], OU(1.5, 0.5, 0.0), [16, 32, 64]
    exact = process.mean(1.0, Start(np.array(3.0), np.zeros(())))
    errors = [abs(end - exact) for end in ends(sampler, process, [4] if sampler.adaptive else counts)]
    if sampler.adaptive:
        assert errors[0] < 1e-4
    else:
        order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
        assert abs(order - sampler.order) < 0.15, errors


@pytest.mark.parametrize("name", [name for name, sampler in GENERAL.items() if sampler.stochastic])
def test_weak_order_on_ou(name: str, x64: None) -> None:
    """Mean and variance of the method's own law, by its recursion: a step is x' = a x + b + c xi, without Monte Carlo."""
    sampler, process, start, counts = (
        GENERAL[name],
        OU(1.5, 0.5, 0.8),
        Start(np.array(3.0), np.array(0.2)),
        [16, 32, 64],
    )
    errors = []
    for count in counts:
        step = partial(sampler.step, process, t=0.0, h=1 / count)
        b = float(step(x=jnp.zeros(1), key=None)[0])
        a = float(step(x=jnp.ones(1), key=None)[0]) - b
        key = jax.random.key(1)
        c = (float(step(x=jnp.zeros(1), key=key)[0]) - b) / float(jax.random.normal(key, (1,))[0])
        mean, variance = 3.0, 0.2
        for _ in range(count):
            mean, variance = a * mean + b, a**2 * variance + c**2
        errors.append(abs(mean - process.mean(1.0, start)) + abs(variance - process.covariance(1.0, 1.0, start)))
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(order - sampler.order) < 0.15, errors


def states(
    process: Process, n: int, t_end: float, steps: int, x0: jax.Array, saved: int = 0, sampler: Sampler | None = None
):
    settings = LoopSettings("step", saving=Saving(steps // saved, None) if saved else None)
    at = jnp.linspace(0.0, t_end, steps + 1)
    return run(
        sampler or EulerMaruyama(),
        process,
        jnp.broadcast_to(x0, (n, *x0.shape)),
        at,
        jax.random.key(0),
        settings=settings,
    )


def test_geometric_brownian_motion_is_itos() -> None:
    """By em; stochastic Heun, which simulate refuses here, goes to Stratonovich's solution, whose mean grows by sigma^2/2 more."""
    process, start = GeometricBrownian(0.5, 0.6), Start(np.array([2.0]), np.zeros(1))
    x = np.asarray(states(process, 20_000, 1.0, 400, jnp.array([2.0])).x, np.float64)
    squares = (x - x.mean()) ** 2
    for values, exact in ((x, process.mean(1.0, start)), (squares, process.covariance(1.0, 1.0, start))):
        assert abs(values.mean() - exact[0]) < 4 * values.std() / np.sqrt(len(values))
    other = np.asarray(states(process, 20_000, 1.0, 400, jnp.array([2.0]), sampler=StochasticHeun()).x, np.float64)
    assert abs(other.mean() - 2 * np.exp(0.5 + 0.18)) < 4 * other.std() / np.sqrt(len(other))
    grid = np.linspace(0.01, 30, 200_001)
    log = process.log_prob(grid, 1.0, Start(np.array(2.0), np.zeros(())))
    assert log is not None
    mass = np.exp(log)
    assert np.trapezoid(mass, grid) == pytest.approx(1, abs=1e-4)
    assert np.trapezoid(grid * mass, grid) == pytest.approx(2 * np.exp(0.5), rel=1e-3)


@pytest.mark.parametrize("kind", [EulerMaruyama, StochasticHeun])
def test_the_generative_process_is_the_sampler_on_the_field_to_the_bit(kind: type) -> None:
    """Whatever the diffusion of the sampler that steps it, which a process does not look at."""
    field, x = OracleField(OT(), Ring(components=2).mixture(), (2,)), jnp.linspace(-2, 2, 20).reshape(10, 2)
    times, key = jnp.linspace(0.0, 0.9, 21), jax.random.key(1)
    own = run(kind(Constant(0.7)), field, x, times, key, settings=LoopSettings("step")).x
    other = run(
        kind(Constant(9.0)), GenerativeProcess(field, Constant(0.7)), x, times, key, settings=LoopSettings("step")
    ).x
    np.testing.assert_array_equal(own, other)


LIMITS = [
    OU(0.7, 1.0, 0.9),
    DoubleWell(2.0, 0.8),
    Langevin(1.3, CustomMixture(((-1.0,), (2.0,)), (0.5, 0.7))).resolved(),
]


@pytest.mark.parametrize("process", LIMITS, ids=["ou", "double_well", "langevin"])
def test_the_drift_is_that_of_the_stationary_density(process: Process, x64: None) -> None:
    """b = sigma^2/2 (log p)': the flux of the Fokker-Planck equation is 0."""
    x, h = np.linspace(-2, 3, 11), 1e-5
    slope = (process.log_stationary(x + h) - process.log_stationary(x - h)) / (2 * h)
    drift = [float(process.drift_at(jnp.array([each]), 0.0)[0]) for each in x]
    np.testing.assert_allclose(drift, float(process.diffusion_at(jnp.zeros(1), 0.0)) ** 2 / 2 * slope, atol=1e-4)


def test_the_double_well_reaches_its_density() -> None:
    process = DoubleWell(2.0, 1.0)
    x = np.asarray(states(process, 4000, 12.0, 1200, jnp.array([1.0])).x, np.float64)
    limit = stationary_moments(process, 1)
    assert limit is not None and abs(limit.mean[0]) < 1e-12
    assert abs((x**2).mean() - limit.variance[0]) < 4 * (x**2).std() / np.sqrt(len(x))
    assert abs((x > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(x))


def test_langevin_follows_the_gradient_of_the_density(x64: None) -> None:
    process = Langevin(1.3, CROSSED).resolved()
    x = jnp.array([0.3, -0.8])
    slope = jax.grad(lambda x: mixtures.log_prob(CROSSED.mixture(), x))(x)
    np.testing.assert_allclose(process.drift_at(x, 0.0), 1.3**2 / 2 * slope, rtol=1e-10)


def test_langevin_of_a_gaussian_is_ou() -> None:
    langevin, theta = Langevin(1.2, Gaussian((1.0, -2.0), 1.5)).resolved(), 1.2**2 / (2 * 1.5**2)
    ou, x0 = OU(theta, (1.0, -2.0), 1.2), jnp.array([3.0, 0.0])
    one, other = (states(each, 200, 3.0, 100, x0).x for each in (langevin, ou))
    np.testing.assert_allclose(one, other, atol=2e-5)
    start = Start(np.array([3.0, 0.0]), np.array([0.5, 0.0]))
    np.testing.assert_allclose(langevin.mean(0.7, start), ou.mean(0.7, start), rtol=1e-6)
    np.testing.assert_allclose(langevin.covariance(0.3, 0.7, start), ou.covariance(0.3, 0.7, start), rtol=1e-6)
    assert langevin.autocorrelation_time(2) == pytest.approx(2 / theta, rel=1e-6)


def test_a_set_of_points_has_no_density_to_follow() -> None:
    from diffsde.datasets import DATASETS

    with pytest.raises(UserError, match="process=langevin needs a density"):
        Langevin(1.0, DATASETS["moons"]()).resolved()


def test_the_autocorrelation_time_of_an_ar1_series() -> None:
    """(1 + phi)/(1 - phi), also where all series are one."""
    phi, noise = 0.9, np.random.default_rng(0).standard_normal((6000, 40))
    series = np.empty_like(noise)
    series[0] = noise[0] / np.sqrt(1 - phi**2)
    for i in range(1, len(noise)):
        series[i] = phi * series[i - 1] + noise[i]
    for part in (series, series[:, :1]):
        found = autocorrelation(part)
        assert found.resolved and abs(found.time - 19) < 4 * found.error
        formula = 19 * np.sqrt(2 * (2 * found.window + 1) / part.size)  # Madras and Sokal's
        assert formula / 2 < found.error < 2 * formula
    white = autocorrelation(noise)
    assert abs(white.time - 1) < 4 * white.error < 0.1
    np.testing.assert_allclose(autocorrelation(series).rho[:10], phi ** np.arange(10), atol=0.02)


def test_a_gaussian_mixes_as_theory_says_and_five_modes_do_not() -> None:
    """On OU 2/theta less the step; a mixture with modes far apart is not forgotten in the same time, and has few effective samples."""
    theta, h = 1.0, 0.05
    way = states(OU(theta, 0.0, 1.0), 400, 60.0, 1200, jnp.zeros(1), 1200).trajectory
    mixing = mixing_of(np.asarray(way.times, np.float64), np.asarray(way.x), np.zeros(1))
    assert mixing is not None and mixing.found.resolved and mixing.forgotten
    assert abs(mixing.time.value - (2 / theta - h)) < 4 * mixing.time.error < 0.6
    five = Langevin(1.0, Ring(components=5, radius=8.0)).resolved()
    way = states(five, 400, 60.0, 1200, jnp.array([8.0, 0.0]), 300).trajectory
    slow = mixing_of(np.asarray(way.times, np.float64), np.asarray(way.x), np.zeros(2))
    assert slow is not None and not slow.forgotten and slow.ess.value < 1 < 10 < mixing.ess.value


@pytest.mark.parametrize("process", [kind() for kind in PROCESSES.values()], ids=PROCESSES)
def test_every_process_is_an_argument_of_compiled_programs(process: Process) -> None:
    """Its numbers are leaves, so that a sweep over them is one program; points keep their shape, the noise is that of a coordinate."""
    process = process.resolved()
    x = jnp.array([0.3, -0.4])
    drift, sigma = jax.jit(lambda process, x: process.at(x, 0.1))(process, x)
    assert drift.shape == (2,) and jnp.shape(sigma) in ((), (2,))
    np.testing.assert_array_equal(process.velocity(x, 0.1), process.drift_at(x, 0.1))
    if hasattr(process, "sigma"):
        other, zero = (dataclasses.replace(process, sigma=value) for value in (0.7, 0.0))
        assert ensembles.kind(process) == ensembles.kind(other)
        assert zero.noiseless and not other.noiseless
    slope = jax.jacfwd(lambda x: jnp.broadcast_to(process.diffusion_at(x, 0.1), (2,)))(x)
    assert process.additive == (not np.any(slope))


def test_expressions_by_coordinate() -> None:
    own = ExpressionProcess("-x + x1", "x**2").at(jnp.array([0.5, 3.0]), 0.0)  # x is the coordinate itself
    np.testing.assert_allclose(own, [[0.0, -2.5], [0.25, 9.0]])
    process = ExpressionProcess("[x2, -sin(x1)*t]", ("x", "2"))
    process.check()
    drift, sigma = process.at(jnp.array([0.5, 3.0]), 2.0)
    np.testing.assert_allclose(drift, [3.0, -2 * np.sin(0.5)], rtol=1e-6)
    np.testing.assert_allclose(sigma, [0.5, 2.0])
    assert process.dimension == 2 and not process.additive and not process.noiseless
    assert ExpressionProcess("-x", "0").noiseless and ExpressionProcess("-x*x3", "t").dimension == 3
    with pytest.raises(UserError, match="'y' in 'y\\*x' is unknown; the variables are x, x1, t"):
        ExpressionProcess("y*x").check()


def test_the_stationary_density_is_of_the_whole_line() -> None:
    """Of paths that have not left the left well it has half of its mass there, not all of it."""
    process, x = DoubleWell(theta=8.0), np.random.default_rng(0).normal(-1, 0.1, 500)
    start = Start(np.array([-1.0]), np.zeros(1))
    scene = PathScene(process, np.linspace(0, 0.1, 9), np.tile(x[:, None], (9, 1, 1)), x[:, None], start, None, "", "")
    at, density = curves_of(scene, x)["stationary law"]
    left = at <= 0
    assert np.trapezoid(density[left], at[left]) == pytest.approx(0.5, abs=1e-3)


def test_one_path_has_no_variance() -> None:
    x = np.random.default_rng(0).normal(size=(9, 1, 2))
    figures = closed_form_figures(Brownian(), np.linspace(0, 1, 9), x, x[-1], Start(np.zeros(2), np.zeros(2)), None)
    assert {name.split("_t")[0] for name in figures} == {"mean"}
