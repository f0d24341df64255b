"""Samplers against exact answers: flow maps, recursions for the mean and variance of Gaussian targets, published tables."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures
from diffsde.datasets.mixture import Ring
from diffsde.errors import UserError
from diffsde.fields import LearnedField, OracleField
from diffsde.interpolants import OracleInterpolant
from diffsde.mixtures import Mixture
from diffsde.nets import initialise, structure
from diffsde.nets.mlp import MLP
from diffsde.paths import GAUSSIAN, OT, PATHS, Bridge, GaussianPath, Interpolant, coefficients, log_snr
from diffsde.samplers import GRIDS, SAMPLERS, LoopSettings, Saving, simulate, times
from diffsde.samplers.adaptive import Adaptive
from diffsde.samplers.chunks import CACHE, bytes_live, chunks, fitting
from diffsde.samplers.corrector import Langevin, PredictorCorrector
from diffsde.samplers.deis import DEIS3
from diffsde.samplers.diffusions import DIFFUSIONS, Bump, Constant, Diffusion, Memoryless, Vanishing
from diffsde.samplers.dpm_solver import DPMSolverPP2M, DPMSolverPP2MSDE
from diffsde.samplers.edm import EDMHeun
from diffsde.samplers.exponential import DDIM, Exponential
from diffsde.samplers.grids import ListGrid, UniformGrid
from diffsde.samplers.multistep import Memory
from diffsde.samplers.ode import RK4, Euler, Heun
from diffsde.samplers.sampler import Increment, Sampler
from diffsde.samplers.sde import EulerMaruyama, ReverseDiffusion, StochasticHeun
from diffsde.samplers.unipc import UniPC
from diffsde.types import Array, Moments, Prediction
from tests.conftest import ends

ONE_GAUSSIAN = Mixture(jnp.array([[1.5]]), jnp.array([[0.49]]), jnp.array([1.0]))
FIELD = OracleField(OT(), Ring().mixture(), (2,))
POINTS = jax.random.normal(jax.random.key(5), (12, 2))
run = jax.jit(simulate, static_argnames="settings")


SOURCE = Mixture(jnp.array([[-1.0]]), jnp.array([[0.81]]), jnp.array([1.0]))  # of a path with noise on the way


def gaussian_field(path: GaussianPath) -> Any:
    data, source = (Mixture(*(jnp.asarray(a, float) for a in law[:3])) for law in (ONE_GAUSSIAN, SOURCE))
    return OracleInterpolant(path, source, data, (1,)) if path.has_gamma else OracleField(path, data, (1,))


def exact_flow(path: GaussianPath, x: Array, t0: float, t1: float) -> Array:
    """For a Gaussian target the flow map is affine: it takes N(alpha0 m, C0) to N(alpha1 m, C1) keeping quantiles."""
    law0, law1 = (mixtures.marginal(gaussian_field(path).mixture, coefficients(path, t)) for t in (t0, t1))
    return law1.means[0] + jnp.sqrt(law1.variances[0] / law0.variances[0]) * (x - law0.means[0])


def slope(steps: list[int], errors: list[float]) -> float:
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize("path_name", [name for name in GAUSSIAN if name != "expression"])
@pytest.mark.parametrize("sampler", [Euler(), Heun()], ids=["euler", "heun"])
def test_ode_solvers_converge_with_their_order_on_every_path(sampler: Sampler, path_name: str, x64: None) -> None:
    """Error against the exact flow map from t = 0 to t = 1, where dbeta may diverge, falls as h^order."""
    path = PATHS[path_name]()
    x = path.beta(0.0) * jnp.linspace(-2, 2, 9)[:, None]
    truth = exact_flow(path, x, 0.0, 1.0)
    counts = [160, 320, 640] if path_name in ("ve", "edm") else [40, 80, 160]
    found = ends(sampler, gaussian_field(path), x, [times(UniformGrid(), count, path) for count in counts])
    errors = [float(jnp.sqrt(jnp.mean((end - truth) ** 2))) for end in found]
    assert abs(slope(counts, errors) - sampler.order) < 0.15, errors


@pytest.mark.parametrize(
    ("sampler", "table"),
    [
        (Euler(), {8: 1.124, 16: 0.538, 32: 0.264, 64: 0.131, 128: 0.065}),
        (Heun(), {8: 0.188, 16: 0.0482, 32: 0.0122, 64: 0.0031}),
    ],
    ids=["euler", "heun"],
)
def test_the_published_errors_on_the_mixture(sampler: Sampler, table: dict[int, float]) -> None:
    """rms against the exact map of the 11-component mixture on ot, from an independent computation, within 3%."""
    field = OracleField(OT(), Ring().mixture(), (2,))
    x = jax.random.normal(jax.random.key(0), (10_000, 2))
    truth, *_ = run(RK4(), field, x, times(UniformGrid(), 200, OT()), jax.random.key(0))
    found = ends(sampler, field, x, [times(UniformGrid(), count, OT()) for count in table])
    for end, (count, expected) in zip(found, table.items(), strict=True):
        rms = float(jnp.sqrt(jnp.mean(jnp.sum((end - truth) ** 2, axis=-1))))
        assert rms == pytest.approx(expected, rel=0.03, abs=0.0006), count


def affine_parts(sampler: Sampler, field: OracleField, t: Array, h: Array) -> tuple[Array, Array, Array]:
    """For a linear target a step is x' = a x + b + c xi: a and b from the step without noise, c from the noise itself."""
    at = partial(sampler.step, field, t=t, h=h)
    b = at(x=jnp.zeros(1), key=None)
    a = at(x=jnp.ones(1), key=None) - b
    key = jax.random.key(7)
    c = (at(x=jnp.zeros(1), key=key) - b) / jax.random.normal(key, (1,))
    return a[0], b[0], c[0]


def weak_errors(sampler: Sampler, path: GaussianPath, counts: list[int], start: float) -> list[float]:
    """|mean - exact| + |variance - exact| at t = 0.95 of the scheme's own law, by its recursion: no Monte Carlo."""
    field, errors = gaussian_field(path), []
    law0, law1 = (law_at(field, t) for t in (start, 0.95))
    grids = [np.linspace(start, 0.95, count + 1) for count in counts]
    at, steps = np.concatenate([grid[:-1] for grid in grids]), np.concatenate([np.diff(grid) for grid in grids])
    parts = np.stack(jax.jit(jax.vmap(lambda t, h: affine_parts(sampler, field, t, h)))(at, steps), axis=1)
    for part in np.split(parts, np.cumsum(counts)[:-1]):
        mean, variance = float(law0.means[0, 0]), float(law0.variances[0, 0])
        for a, b, c in part:
            mean, variance = a * mean + b, a**2 * variance + c**2
        errors.append(abs(mean - float(law1.means[0, 0])) + abs(variance - float(law1.variances[0, 0])))
    return errors


def law_at(field: OracleField | OracleInterpolant, t: float) -> Mixture:
    c = coefficients(field.path, t)
    if isinstance(field, OracleInterpolant):
        return mixtures.between(field.source, field.mixture, c)
    return mixtures.marginal(field.mixture, c)


WEAK = [
    (EulerMaruyama(Constant(1.0)), 0.0),
    (EulerMaruyama(Vanishing(1.5)), 0.0),
    (EulerMaruyama(Bump(1.2)), 0.0),
    (StochasticHeun(Constant(1.0)), 0.0),
    (StochasticHeun(Vanishing(2.0)), 0.0),
    (Exponential(Constant(0.5)), 0.0),
    (Exponential(Memoryless(1.0)), 0.1),
    (Exponential(Memoryless(0.5)), 0.1),
    (ReverseDiffusion(), 0.1),
    (Langevin(Constant(1.0), freeze=0.96), 0.0),  # until it freezes
]


@pytest.mark.parametrize("path_name", ["ot", "sqrt", "vp"])
@pytest.mark.parametrize(("sampler", "start"), WEAK, ids=str)
def test_sde_solvers_converge_weakly_with_their_order(
    sampler: Sampler, start: float, path_name: str, x64: None
) -> None:
    counts = [160, 320, 640]
    errors = weak_errors(sampler, PATHS[path_name](), counts, start)
    assert abs(slope(counts, errors) - sampler.order) < 0.15, errors


BETWEEN = {"bridge": Bridge(1.0), "interpolant": Interpolant("t**2", "1-t**2", "0.5*sin(pi*t)")}


@pytest.mark.parametrize("path_name", list(BETWEEN))
@pytest.mark.parametrize("sampler", [sampler for sampler, _ in WEAK if sampler.needs == "score"], ids=str)
def test_sde_solvers_have_their_order_between_two_laws(sampler: Sampler, path_name: str, x64: None) -> None:
    counts = [160, 320, 640]
    errors = weak_errors(sampler, BETWEEN[path_name], counts, 0.0)
    assert abs(slope(counts, errors) - sampler.order) < 0.15, errors


def remembering_errors(sampler: DPMSolverPP2MSDE, path: GaussianPath, counts: list[int], start: float) -> list[float]:
    """weak_errors for a method that remembers one value: the recursion of (x, value), two-dimensional and linear."""
    field, key = gaussian_field(path), jax.random.key(7)
    law0, law1 = (mixtures.marginal(field.mixture, coefficients(path, t)) for t in (start, 0.95))

    @jax.jit
    @jax.vmap
    def parts(t: Array, h: Array, before: Array, known: Array) -> tuple[Array, Array, Array]:
        def step(x: float, value: float, key: Array | None) -> Array:
            places = jnp.stack([log_snr(path, before), 0.0])
            memory = Memory(jnp.full(1, x), jnp.array([[value], [0.0]]), places, known)
            after = sampler.step(field, memory, t, h, key)
            return jnp.stack([after.x[0], after.values[0, 0]])

        b = step(0.0, 0.0, None)
        a = jnp.stack([step(1.0, 0.0, None) - b, step(0.0, 1.0, None) - b], axis=1)
        return a, b, (step(0.0, 0.0, key) - b) / jax.random.normal(key, (1,))

    errors, grids = [], [np.linspace(start, 0.95, count + 1) for count in counts]
    rows = [np.stack([grid[:-1], np.diff(grid), [grid[0], *grid[:-2]], np.arange(len(grid) - 1)]) for grid in grids]
    t, h, before, done = np.concatenate(rows, axis=1)
    found = [np.asarray(part) for part in parts(t, h, before, np.minimum(done, 2).astype(int))]
    for each in zip(*(np.split(part, np.cumsum(counts)[:-1]) for part in found), strict=True):
        mean = np.array([float(law0.means[0, 0]), 0.0])
        covariance = np.diag([float(law0.variances[0, 0]), 0.0])
        for a, b, c in zip(*each, strict=True):
            mean, covariance = a @ mean + b, a @ covariance @ a.T + np.outer(c, c)
        errors.append(abs(mean[0] - float(law1.means[0, 0])) + abs(covariance[0, 0] - float(law1.variances[0, 0])))
    return errors


@pytest.mark.parametrize("path_name", ["ot", "sqrt", "vp"])
@pytest.mark.parametrize("diffusion", [Constant(0.5), Constant(0.0), Memoryless(1.0)], ids=str)
def test_the_sde_solver_with_memory_converges_weakly(diffusion: Diffusion, path_name: str, x64: None) -> None:
    """DPM-Solver++(2M) SDE, with noise and without, where it is DPM-Solver++(2M)."""
    counts = [160, 320, 640]
    errors = remembering_errors(DPMSolverPP2MSDE(diffusion), PATHS[path_name](), counts, 0.1)
    assert abs(slope(counts, errors) - DPMSolverPP2MSDE.order) < 0.15, errors


FINEST = 512


@jax.jit
def along(sampler: Sampler, field: OracleField, x: Array, brownian: Array, steps: int) -> Array:
    """Points taken from t = 0.1 to 0.9 in steps of one size along given paths of the noise (FINEST + 1, n, 1)."""
    width, h = FINEST // steps, 0.8 / steps

    def advance(j: Array, state: Any) -> Any:
        increments = (brownian[(j + 1) * width] - brownian[j * width]) / jnp.sqrt(width)
        return jax.vmap(lambda x, w: sampler.step(field, x, 0.1 + j * h, h, Increment(w)))(state, increments)

    return jax.vmap(sampler.point)(jax.lax.fori_loop(0, steps, advance, jax.vmap(sampler.start)(x)))


@pytest.fixture(scope="module")
def fine() -> dict[str, Array]:
    """The fine solutions of the test below, one a diffusion."""
    return {}


@pytest.mark.parametrize(
    ("sampler", "counts", "diffusion"),
    [
        pytest.param(kind(diffusion), counts, diffusion, marks=marks)
        for kind, counts in (
            (EulerMaruyama, [32, 64, 128]),
            (Exponential, [32, 64, 128]),
            (StochasticHeun, [8, 16, 32]),
            (DPMSolverPP2MSDE, [32, 64]),
        )
        for diffusion, marks in ((Constant(1.0), pytest.mark.slow), (Bump(1.5), ()))
    ]
    + [pytest.param(ReverseDiffusion(), [64, 128, 256], Memoryless(1.0), marks=pytest.mark.slow)],
    ids=str,
)
def test_weak_order_on_a_mixture(
    sampler: Sampler, counts: list[int], diffusion: Diffusion, fine: dict[str, Array], x64: None
) -> None:
    """First and second moments against a fine solution along the same noise: the pairing leaves little to chance."""
    law = Mixture(jnp.array([[-1.2], [1.0]]), jnp.array([[0.3], [0.6]]), jnp.array([0.4, 0.6]))
    field = OracleField(PATHS["vp"](), law, (1,))
    x = mixtures.sample(mixtures.marginal(law, coefficients(field.path, 0.1)), jax.random.key(1), 2**15)
    brownian = jnp.cumsum(jax.random.normal(jax.random.key(2), (FINEST, *x.shape)), axis=0)
    brownian = jnp.concatenate([jnp.zeros((1, *x.shape)), brownian])
    if str(diffusion) not in fine:
        fine[str(diffusion)] = along(StochasticHeun(diffusion), field, x, brownian, FINEST)
    truth, errors = fine[str(diffusion)], []
    for count in counts:
        end = along(sampler, field, x, brownian, count)
        errors.append(abs(float(jnp.mean(end - truth))) + abs(float(jnp.mean(end**2 - truth**2))))
    assert abs(slope(counts, errors) - sampler.order) < 0.15, errors


FINITE = [sampler for name, cls in SAMPLERS.items() if not (sampler := cls()).stochastic and sampler.order] + [
    DEIS3("log_rho"),
    DEIS3("rho"),
    UniPC("bh2"),
    UniPC("vary"),
    EDMHeun(),
    StochasticHeun(Constant(0.0)),
    Exponential(Constant(0.0)),
    EulerMaruyama(Constant(0.0)),
]


@pytest.mark.parametrize("sampler", FINITE, ids=lambda sampler: type(sampler).__name__)
def test_every_ode_solver_converges_with_its_order(sampler: Sampler, x64: None) -> None:
    """On vp from t = 0.1 to 0.9, against a fine RK4, on a target whose field is not linear: two unequal components."""
    path = PATHS["vp"]()
    field = OracleField(
        path, Mixture(jnp.array([[-2.0], [1.5]]), jnp.array([[0.3], [1.0]]), jnp.array([0.4, 0.6])), (1,)
    )
    x = jnp.linspace(-2, 2, 41)[:, None]
    counts = [60, 120, 240]
    (truth,) = ends(RK4(), field, x, [jnp.linspace(0.1, 0.9, 1001)], last="step")
    found = ends(sampler, field, x, [jnp.linspace(0.1, 0.9, count + 1) for count in counts], last="step")
    errors = [float(jnp.sqrt(jnp.mean((end - truth) ** 2))) for end in found]
    assert abs(slope(counts[-2:], errors[-2:]) - sampler.order) < 0.15, errors


@pytest.mark.parametrize(
    ("stochastic", "plain"),
    [
        (Exponential(Constant(0.0)), DDIM()),
        (DPMSolverPP2MSDE(Constant(0.0)), DPMSolverPP2M()),
        (StochasticHeun(Constant(0.0)), Heun()),
    ],
    ids=["exponential", "dpmpp", "heun"],
)
def test_without_sigma_each_sde_solver_is_its_ode_solver(stochastic: Sampler, plain: Sampler) -> None:
    grid = times(UniformGrid(), 12, OT())
    a, b = (run(sampler, FIELD, POINTS, grid, jax.random.key(1))[0] for sampler in (stochastic, plain))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_ddim_is_euler_in_its_own_variables(x64: None) -> None:
    """d(x/alpha) = E[eps|x] d(beta/alpha): an Euler step there, from t = 0.3 to 0.5 on vp."""
    path = PATHS["vp"]()
    field = gaussian_field(path)
    x, c, end = jnp.array([0.7]), coefficients(path, 0.3), coefficients(path, 0.5)
    euler = x / c.alpha + (end.beta / end.alpha - c.beta / c.alpha) * field.noise(x, 0.3)
    np.testing.assert_allclose(DDIM().step(field, x, 0.3, 0.2, None) / end.alpha, euler, rtol=1e-12)


def test_ddpm_is_the_exponential_step_with_memoryless_sigma(x64: None) -> None:
    """Mean and variance of q(x_s | x_t, z = E[z|x_t]), the posterior of the forward chain (2006.11239, eq. 7)."""
    path = PATHS["vp"]()
    field = gaussian_field(path)
    x, c, end = jnp.array([0.7]), coefficients(path, 0.3), coefficients(path, 0.5)
    data = field.data(x, 0.3)
    ratio2 = (c.alpha / end.alpha) ** 2  # 1 - rate of the forward step from s to t
    mean = (end.alpha * (1 - ratio2) * data + jnp.sqrt(ratio2) * end.beta**2 * x) / c.beta**2
    variance = end.beta**2 / c.beta**2 * (1 - ratio2)
    sampler = Exponential(Memoryless(1.0))
    np.testing.assert_allclose(sampler.step(field, x, 0.3, 0.2, None), mean, rtol=1e-10)
    noise = sampler.step(field, x, 0.3, 0.2, jax.random.key(3)) - mean
    np.testing.assert_allclose(noise / jax.random.normal(jax.random.key(3), (1,)), jnp.sqrt(variance), rtol=1e-10)


def test_edm_reproduces_its_papers_algorithm(x64: None) -> None:
    """Algorithm 2 of 2206.00364 on its own path: the stochastic jump, the Heun step, evaluations at the jumped level."""
    path, gamma, noise_scale = PATHS["edm"](), 0.3, 1.003
    field = gaussian_field(path)
    x, t, h = jnp.array([0.4]), 0.5, 0.05
    level, lower = float(path.beta(t)), float(path.beta(t + h))
    sampler = EDMHeun(churn=gamma, s_noise=noise_scale)
    done = sampler.step(field, x, t, h, jax.random.key(5))

    def denoiser(x: Array, level: float) -> Array:  # D(x; sigma) of a Gaussian with mean 1.5 and variance 0.49
        return (0.49 * x + level**2 * 1.5) / (0.49 + level**2)

    raised = level * (1 + gamma)
    jumped = x + np.sqrt(raised**2 - level**2) * noise_scale * jax.random.normal(jax.random.key(5), (1,))
    d = (jumped - denoiser(jumped, raised)) / raised
    euler = jumped + (lower - raised) * d
    d_lower = (euler - denoiser(euler, lower)) / lower
    np.testing.assert_allclose(done, jumped + (lower - raised) * (d + d_lower) / 2, rtol=1e-6)


@pytest.mark.parametrize("diffusion", [Memoryless(1.0), Constant(0.7)], ids=lambda d: type(d).__name__)
def test_ends_of_the_process_are_as_correlated_as_theory_says(diffusion: Constant, x64: None) -> None:
    """For a Gaussian target corr(X_0, X_1) = exp(-1/2 integral of sigma^2/C_t dt); memoryless forgets X_0 altogether."""
    path = PATHS["ot"]()
    field, sampler = gaussian_field(path), EulerMaruyama(diffusion)
    start, end = 0.02, 0.98
    grid = jnp.linspace(start, end, 6001)
    parts = jax.jit(jax.vmap(lambda t, h: affine_parts(sampler, field, t, h)))(grid[:-1], jnp.diff(grid))
    variance = float(mixtures.marginal(field.mixture, coefficients(path, start)).variances[0, 0])
    spread, gain = variance, 1.0
    for a, _, c in np.stack(parts, axis=1):
        spread, gain = a**2 * spread + c**2, gain * a
    found = float(gain * np.sqrt(variance / spread))

    def rate(t: Array) -> Array:
        at = coefficients(path, t)
        return diffusion.sigma_at(t, at) ** 2 / mixtures.marginal(field.mixture, at).variances[0, 0]

    points = jnp.linspace(start, end, 20_001)
    theory = float(jnp.exp(-jnp.trapezoid(jax.vmap(rate)(points), points) / 2))
    assert found == pytest.approx(theory, rel=0.02)


def test_langevin_keeps_the_law_that_it_holds() -> None:
    """Frozen at t = 0.9 from p_0.9, 300 steps of Langevin leave mean 0.9 mu and the mixture's within-mode spread."""
    mixture = Ring().mixture()
    held = mixtures.marginal(mixture, coefficients(OT(), 0.9))
    field = OracleField(OT(), mixture, (2,))
    x = mixtures.sample(held, jax.random.key(1), 4000)
    grid = times(UniformGrid(start=0.9), 300, OT())
    end, *_ = run(Langevin(Constant(2.0), freeze=0.9), field, x, grid, jax.random.key(2), settings=LoopSettings("step"))
    from diffsde.metrics.mixture import mixture_figures

    assert float(mixture_figures(held, end).within_mode_std) == pytest.approx(1.0, abs=0.03)
    assert float(jnp.mean((end - x) ** 2)) > 0.1  # and it did move


def test_the_corrector_does_not_look_at_its_neighbours() -> None:
    """A sample's Langevin step size comes from its own norms: the same alone and in a batch."""
    grid = times(UniformGrid(start=0.05), 10, OT())
    sampler = PredictorCorrector()
    alone, *_ = run(sampler, FIELD, POINTS[:1], grid, jax.random.key(1))
    among, *_ = run(sampler, FIELD, POINTS, grid, jax.random.key(1))
    np.testing.assert_allclose(alone, among[:1], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_every_sigma_keeps_the_marginals_of_the_mixture(name: str) -> None:
    """Fine Euler-Maruyama from t = 0.02: cross-entropy at the entropy 5.2221, within-mode std 1, whatever sigma_t is."""
    from diffsde.metrics.mixture import mixture_figures

    mixture = Ring().mixture()
    field = OracleField(OT(), mixture, (2,))
    start = mixtures.marginal(mixture, coefficients(OT(), 0.02))
    x = mixtures.sample(start, jax.random.key(1), 4000)
    grid = times(UniformGrid(start=0.02), 800, OT())
    end, *_ = run(EulerMaruyama(DIFFUSIONS[name]()), field, x, grid, jax.random.key(2))
    figures = mixture_figures(mixture, end)
    assert float(figures.cross_entropy) == pytest.approx(5.222092, abs=4 * float(figures.cross_entropy_error))
    assert float(figures.within_mode_std) == pytest.approx(1.0, abs=0.03)
    assert float(figures.mode_weight_kl) < 5 * 10 / 8000


def test_memoryless_is_the_reverse_of_the_forward_process(x64: None) -> None:
    """On vp, eta = rate/2, so sigma^2 is the forward rate at 1 - t (2011.13456): 0.1 + (1-t) 19.9."""
    for t in (0.1, 0.5, 0.9):
        sigma = Memoryless().sigma_at(t, coefficients(PATHS["vp"](), t))
        assert float(sigma) ** 2 == pytest.approx(0.1 + (1 - t) * 19.9, rel=1e-10)


def test_em_without_sigma_is_euler_to_the_bit() -> None:
    field = OracleField(OT(), Ring().mixture(), (2,))
    x, grid = jax.random.normal(jax.random.key(0), (64, 2)), times(UniformGrid(), 30, OT())
    euler, *_ = run(Euler(), field, x, grid, jax.random.key(1))
    em, *_ = run(EulerMaruyama(Constant(0.0)), field, x, grid, jax.random.key(1))
    assert np.array_equal(euler, em)


def test_increments_of_the_noise_are_normal() -> None:
    """Kurtosis 3 and variance sigma^2 h: not a product of two normals, which keeps the variance but has kurtosis 9."""
    sampler, field = EulerMaruyama(Constant(0.5)), OracleField(OT(), Ring().mixture(), (2,))
    x, h = jnp.array([1.0, 2.0]), 0.01
    step = jax.jit(jax.vmap(lambda key: sampler.step(field, x, 0.3, h, key)))
    noise = np.asarray(
        step(jax.random.split(jax.random.key(3), 200_000)) - sampler.step(field, x, 0.3, h, None)
    ).ravel()
    assert noise.var() == pytest.approx(0.25 * h, rel=0.015)
    assert np.mean(noise**4) / noise.var() ** 2 == pytest.approx(3.0, abs=0.06)
    assert abs(np.corrcoef(noise[::2], noise[1::2])[0, 1]) < 0.01


def test_a_sample_depends_on_its_own_index_alone() -> None:
    grid = times(UniformGrid(), 20, OT())
    few, *_ = run(EulerMaruyama(), FIELD, POINTS[:5], grid, jax.random.key(1))
    many, *_ = run(EulerMaruyama(), FIELD, POINTS, grid, jax.random.key(1))
    np.testing.assert_allclose(few, many[:5], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("every", "expected"), [(3, [0, 3, 6, 9, 10]), (50, [0, 10])])
def test_a_trajectory_holds_the_states_asked_for(every: int, expected: list[int]) -> None:
    """Every k-th state and both ends, equal to the states of shorter runs of the same seed."""
    grid = times(UniformGrid(), 10, OT())
    end, saved, _ = run(
        EulerMaruyama(), FIELD, POINTS, grid, jax.random.key(1), settings=LoopSettings(saving=Saving(every, keep=4))
    )
    plain, none, _ = run(EulerMaruyama(), FIELD, POINTS, grid, jax.random.key(1))
    assert none is None
    np.testing.assert_allclose(end, plain, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(saved.times, grid[jnp.array(expected)])
    assert saved.x.shape == (len(expected), 4, 2)
    np.testing.assert_array_equal(saved.x[0], POINTS[:4])
    np.testing.assert_array_equal(saved.x[-1], end[:4])
    for i, steps in enumerate(expected[1:-1], 1):
        short, *_ = run(
            EulerMaruyama(), FIELD, POINTS, grid[: steps + 1], jax.random.key(1), settings=LoopSettings("step")
        )
        np.testing.assert_allclose(saved.x[i], short[:4], rtol=2e-5, atol=2e-5)


def test_memory_is_flat_in_the_number_of_steps() -> None:
    """The compiled program's temporaries do not grow with the steps unless a trajectory is kept."""
    x = jnp.zeros((10_000, 2))

    def temporaries(count: int, saving: Saving | None = None) -> int:
        grid, settings = times(UniformGrid(), count, OT()), LoopSettings(saving=saving)
        program = run.lower(Euler(), FIELD, x, grid, jax.random.key(0), settings=settings)
        analysis = program.compile().memory_analysis()
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    assert temporaries(1000) - temporaries(10) < 100_000
    assert temporaries(1000, Saving(10)) - temporaries(10) > 90 * x.nbytes


@pytest.mark.parametrize(
    ("sampler", "chunk", "options"),
    [
        (EulerMaruyama(), 1, {}),
        (EulerMaruyama(), 6, {}),
        pytest.param(EulerMaruyama(), 11, {"coupled": True, "last": "step"}, marks=pytest.mark.slow),
        pytest.param(EulerMaruyama(), 5, {"saving": Saving(3, keep=8)}, marks=pytest.mark.slow),
        (DPMSolverPP2MSDE(), 5, {"saving": Saving(4), "last": "denoise"}),
        pytest.param(Adaptive(), 5, {"last": "step"}, marks=pytest.mark.slow),
    ],
    ids=["one by one", "halves", "coupled", "kept", "memory", "adaptive"],
)
def test_chunks_change_no_sample(sampler: Sampler, chunk: int, options: dict[str, Any], x64: None) -> None:
    """12 samples in chunks that fit and in chunks that need filling up: end, trajectory and cost are the same."""
    x, grid, key = POINTS.astype(float), jnp.linspace(0.05, 1.0, 12), jax.random.key(1)
    whole, parts = (
        run(sampler, FIELD, x, grid, key, settings=LoopSettings(**options, chunk=size)) for size in (len(x), chunk)
    )
    assert jax.tree.structure(whole) == jax.tree.structure(parts)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "most"), [(1, 1), (7, 3), (10, 4), (11, 10), (12, 5), (12, 100), (10_000, 999)])
def test_chunks_hold_every_sample_once(n: int, most: int) -> None:
    """Splitting and joining is the identity, and so is a function of each sample between the two."""
    x = jnp.arange(2 * n).reshape(n, 2)
    parts = chunks(n, most)
    assert parts.size <= most and parts.number * parts.size - n < parts.number
    np.testing.assert_array_equal(parts.join(parts.split(x)), x)
    np.testing.assert_array_equal(parts.join(parts.map(lambda x, y: x * y, parts.split(x), parts.split(x))), x * x)


def learned(widths: tuple[int, ...], shape: tuple[int, ...]) -> LearnedField:
    net = MLP(widths)
    params = initialise(net, shape, jax.random.key(0))
    return LearnedField(OT(), params, Moments(jnp.zeros(shape), jnp.ones(())), structure(net, shape)[0], "data", True)


def test_the_largest_product_of_matrices_sets_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 bytes a number: 160 -> 320 in a small net, 3 * 9 features + 8 of time -> 8 in a flat one; twice the threads, twice the samples."""
    wide, flat = learned((160, 320, 16), (2,)), learned((8,), (3, 1))
    assert bytes_live(wide, (2,), jnp.float32) == 4 * (160 + 320)
    assert bytes_live(flat, (3, 1), jnp.float32) == 4 * (3 * 9 + 8 + 8)
    sizes = []
    for count in (1, 2):
        monkeypatch.setenv("NPROC", str(count))
        sizes.append(fitting(wide, jnp.zeros((1_000_000, 2))))
    assert sizes[0] * 4 * (160 + 320) == pytest.approx(CACHE, rel=1e-3) and sizes[1] in (
        2 * sizes[0],
        2 * sizes[0] + 1,
    )
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert fitting(wide, jnp.zeros((1_000_000, 2))) == 1_000_000


def test_memory_is_small_and_flat_in_steps_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 points through a net of 3 x 64 take under 5 MB, as much for 100 steps as for 1000; ten times as many points
    no more than a chunk and a few copies of themselves.
    """
    monkeypatch.setenv("NPROC", "1")
    field = learned((64, 64, 64), (2,))

    def temporaries(count: int, n: int) -> int:
        x, grid = jax.ShapeDtypeStruct((n, 2), jnp.float32), times(UniformGrid(), count, OT())
        program = jax.jit(simulate).lower(Euler(), field, x, grid, jax.random.key(0))
        return program.compile().memory_analysis().temp_size_in_bytes

    few, many = temporaries(100, 10_000), temporaries(1000, 10_000)
    assert few == many < 5e6
    assert temporaries(100, 100_000) < CACHE + 4 * (100_000 * 2 * 4)


def test_one_program_takes_any_number_of_steps() -> None:
    """A grid padded to the longest, cut where `steps` says, ends where the grid of so many steps ends."""
    traced = []

    @jax.jit
    def program(at: Array, steps: Array) -> Array:
        traced.append(at)
        return simulate(EulerMaruyama(), FIELD, POINTS, at, jax.random.key(1), steps=steps).x

    for count in (1, 2, 7, 16):
        grid = times(UniformGrid(), count, OT())
        plain = run(EulerMaruyama(), FIELD, POINTS, grid, jax.random.key(1))
        end = program(jnp.pad(grid, (0, 16 - count)), jnp.asarray(count))
        np.testing.assert_allclose(end, plain.x, rtol=2e-4, atol=2e-4)
    assert len(traced) == 1
    with pytest.raises(ValueError, match="trajectory"):
        simulate(Euler(), FIELD, POINTS, grid, jax.random.key(1), steps=3, settings=LoopSettings(saving=Saving(1)))


def test_the_last_step_leaves_no_noise_unless_asked() -> None:
    """`mean` is the step without noise, `denoise` is E[z|x], `step` differs from `mean` by sigma sqrt(h) xi."""
    grid = times(UniformGrid(), 4, OT())
    sampler = EulerMaruyama(Constant(2.0))
    before, *_ = run(sampler, FIELD, POINTS, grid[:-1], jax.random.key(1), settings=LoopSettings("step"))
    end = {
        last: run(sampler, FIELD, POINTS, grid, jax.random.key(1), settings=LoopSettings(last))[0]
        for last in ("step", "mean", "denoise")
    }
    np.testing.assert_allclose(end["denoise"], jax.vmap(lambda x: FIELD.data(x, 0.75))(before), rtol=1e-5, atol=1e-5)
    step = jax.vmap(lambda x: sampler.step(FIELD, x, 0.75, 0.25, None))(before)
    np.testing.assert_allclose(end["mean"], step, rtol=1e-4, atol=1e-4)
    noise = np.asarray(end["step"] - end["mean"]) / (2.0 * 0.5)
    assert 0.6 < noise.std() < 1.5 and abs(noise.mean()) < 0.7


@pytest.mark.parametrize("name", [name for name in GRIDS if name not in ("list", "auto", "optimised")])
@pytest.mark.parametrize("path_name", ["ot", "vp", "edm"])
def test_grids_reach_both_ends_in_steps_that_are_exact_in_float32(name: str, path_name: str) -> None:
    grid = np.asarray(times(GRIDS[name](), 50, PATHS[path_name]()), np.float32)
    assert len(grid) == 51 and grid[0] == 0 and grid[-1] == 1
    steps = np.diff(grid)
    assert (steps > 0).all()
    assert np.array_equal(grid[:-1] + steps, grid[1:])  # t + h is the next time, to the bit


def test_the_log_snr_grid_is_uniform_in_log_snr() -> None:
    grid = times(dataclasses.replace(GRIDS["log_snr"](), low=-3.0, high=2.0), 40, OT())
    levels = np.log(grid[1:-1]) - np.log1p(-grid[1:-1])
    np.testing.assert_allclose(np.diff(levels), 5 / 40, rtol=2e-3)


def test_the_rho_grid_is_edms() -> None:
    """On the edm path a grid uniform in t is EDM's grid in the noise level, so both are one."""
    path = PATHS["edm"]()
    rho = times(dataclasses.replace(GRIDS["rho"](), noise_min=0.002, noise_max=80.0), 20, path)
    np.testing.assert_allclose(rho, times(UniformGrid(), 20, path), atol=2e-5)


def test_a_grid_too_fine_for_float32_is_refused() -> None:
    with pytest.raises(UserError, match="do not increase"):
        times(UniformGrid(start=0.5, end=0.500001), 1000, OT())
    with pytest.raises(UserError, match="steps=2"):
        times(ListGrid(times=(0.0, 0.5, 1.0)), 5, OT())


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("adaptive", "best")])
def test_every_sampler_states_its_cost(name: str) -> None:
    """`evaluations` is what a step really calls, and `evaluates_end` whether at t + h: counted on a field that counts."""
    calls: list[float] = []

    @dataclasses.dataclass(frozen=True)
    class Counting(OracleField):
        def output(self, x: Array, t: Array) -> Prediction:
            calls.append(float(t))
            return super().output(x, t)

        def jump(self, x: Array, s: Array, t: Array) -> Array:
            calls.append(float(s))
            return x

    sampler = SAMPLERS[name]()
    field = Counting(OT(), Ring().mixture(), (2,))
    sampler.step(field, sampler.start(jnp.ones(2)), 0.25, 0.25, jax.random.key(0))
    assert len(calls) == sampler.evaluations
    assert (max(calls) == 0.5) == sampler.evaluates_end
