"""Inverse problems: posteriors against closed forms, on Gaussians, mixtures and finite data; measurements as linear maps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import empirical, mixtures
from diffsde.cli.main import main
from diffsde.datasets import Dataset, Ring
from diffsde.errors import UserError
from diffsde.evaluation.reconstruction import reconstruction_figures
from diffsde.fields import EmpiricalField, Field, OracleField
from diffsde.inverse import measure
from diffsde.inverse.measurements import Inpaint, Linear, Superresolution
from diffsde.inverse.operators import BlockMean, Mask, Operator, from_matrix, operator_matrix
from diffsde.inverse.posteriors import DPS, MMPS, Exact, Observed, Posterior, conjugate_gradients
from diffsde.inverse.problem import InverseProblem, pose
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS, coefficients
from diffsde.plots import inverse as plots
from diffsde.samplers import LoopSettings, simulate_compiled, times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import Euler, Heun
from diffsde.stability import likelihood_instability
from diffsde.types import Array, Moments, Prediction

MATRIX = np.array([[1.0, 0.5]])
MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])


@jax.jit
def output(field: Field, x: Array, t: Any) -> Prediction:
    """What a field says at one point; compiled, as op by op it takes seconds."""
    return field.output(x, t)


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Mixture:
    return mixtures.with_covariances(jnp.asarray(mean)[None], jnp.asarray(covariance)[None], jnp.ones(1))


def conditioned(matrix: np.ndarray, y: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of N(MEAN, COVARIANCE) given y, by the Kalman gain."""
    gain = COVARIANCE @ matrix.T @ np.linalg.inv(matrix @ COVARIANCE @ matrix.T + noise**2 * np.eye(len(matrix)))
    return MEAN + gain @ (y - matrix @ MEAN), COVARIANCE - gain @ matrix @ COVARIANCE


def skew() -> Mixture:
    """Two components of unequal weight with full covariances."""
    covariances = jnp.array([[[1.0, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]]])
    return mixtures.with_covariances(jnp.array([[0.0, 0.0], [1.0, 2.0]]), covariances, jnp.array([0.7, 0.3]))


def moments(dataset: Dataset, seed: int) -> Moments:
    return dataset.moments(dataset.load(), jax.random.key(seed))


def operators() -> dict[str, Operator]:
    seen = np.zeros((4, 4, 2))
    seen[1:3, :3] = 1
    return {
        "mask": Mask(jnp.asarray(seen)),
        "blocks": BlockMean(2, (4, 4, 2)),
        "matrix": from_matrix(np.random.default_rng(0).normal(size=(5, 32)), (4, 4, 2)),
        "singular": from_matrix(np.ones((3, 32)), (4, 4, 2)),
        "mask of scaled": Mask(jnp.asarray(seen)).scaled(SCALE),
        "blocks of scaled channels": BlockMean(2, (4, 4, 2)).scaled(np.array([0.1, 30.0])),
        "blocks of scaled pixels": BlockMean(2, (4, 4, 2)).scaled(SCALE),
    }


SCALE = np.random.default_rng(1).lognormal(size=(4, 4, 2))


def test_a_scaled_operator_measures_scaled_points() -> None:
    """A diag(scale) z = A (scale z), and its largest singular value is its gain."""
    z, plain = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4, 2))), operators()
    for operator in (plain["mask"], plain["blocks"], plain["matrix"]):
        scaled = operator.scaled(SCALE)
        np.testing.assert_allclose(scaled.apply(z), operator.apply(jnp.asarray(SCALE) * z), rtol=1e-4, atol=1e-5)
        largest = np.linalg.norm(np.asarray(operator_matrix(scaled, z.shape, z.dtype)), 2)
        assert scaled.gain == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize(
    "name",
    ["mask", "blocks", "matrix", "singular", "mask of scaled", "blocks of scaled channels", "blocks of scaled pixels"],
)
def test_operators_are_linear_maps_with_their_pseudo_inverse(name: str, x64: None) -> None:
    """Against numpy's pinv, rank and 2-norm of the dense matrix."""
    operator = operators()[name]
    matrix = np.asarray(operator_matrix(operator, (4, 4, 2), jnp.dtype(float)))
    z = np.random.default_rng(1).normal(size=(4, 4, 2))
    y = np.asarray(operator.apply(jnp.asarray(z)))
    np.testing.assert_allclose(y.ravel(), matrix @ z.ravel(), atol=1e-12)
    expected = np.linalg.pinv(matrix) @ y.ravel()
    np.testing.assert_allclose(np.asarray(operator.pseudo_inverse(jnp.asarray(y))).ravel(), expected, atol=1e-12)
    assert operator.rank == np.linalg.matrix_rank(matrix)
    assert operator.gain == pytest.approx(np.linalg.norm(matrix, 2))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["full", "isotropic", "diagonal"])
def test_the_posterior_of_a_mixture_is_bayes_rule(kind: str, count: int, x64: None) -> None:
    """log p(z) + log p(y|z) - log p(z|y) is one number for every z, the log of the evidence as scipy has it."""
    law = {
        "full": skew(),
        "isotropic": Mixture(jnp.array([[0.0, 1.0], [2.0, -1.0]]), jnp.array([[0.5], [2.0]]), jnp.array([0.2, 0.8])),
        "diagonal": Mixture(jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 3.0]]), jnp.ones(1)),
    }[kind]
    matrix = np.array([[1.0, 0.5], [-0.3, 2.0]])[:count]
    y, noise = np.array([0.7, 1.5])[:count], 0.3
    posterior = jax.jit(mixtures.posterior)(law, jnp.asarray(matrix), jnp.asarray(y), noise)
    rotations = np.eye(2)[None] if law.rotations is None else np.asarray(law.rotations)
    spreads = rotations * np.broadcast_to(law.variances, law.means.shape)[:, None] @ rotations.swapaxes(-1, -2)
    evidence = sum(
        weight * stats.multivariate_normal(matrix @ mean, matrix @ spread @ matrix.T + noise**2 * np.eye(count)).pdf(y)
        for weight, mean, spread in zip(np.asarray(law.weights), np.asarray(law.means), spreads, strict=True)
    )
    log_prob = jax.jit(mixtures.log_prob)
    for z in np.random.default_rng(0).normal(size=(5, 2)) * 2:
        likelihood = stats.multivariate_normal(matrix @ z, noise**2 * np.eye(count)).logpdf(y)
        found = log_prob(law, jnp.asarray(z)) + likelihood - log_prob(posterior, jnp.asarray(z))
        assert float(found) == pytest.approx(np.log(evidence), abs=1e-9)


def test_the_posterior_keeps_small_variances_in_single_precision() -> None:
    """Noise 1e-3 on a unit Gaussian: the variance measured is 1e-6, six orders below the other; to 1%."""
    law = jax.jit(mixtures.posterior)(
        gaussian(MEAN, COVARIANCE), jnp.asarray(MATRIX, jnp.float32), jnp.array([3.0]), 1e-3
    )
    _, covariance = conditioned(MATRIX, np.array([3.0]), 1e-3)
    np.testing.assert_allclose(np.sort(np.asarray(law.variances)[0]), np.linalg.eigvalsh(covariance), rtol=1e-2)


@pytest.mark.parametrize(("name", "path"), [("matrix", "ot"), ("mask", "vp"), ("blocks", "ve")])
def test_moment_matching_is_exact_for_a_gaussian(name: str, path: str, x64: None) -> None:
    """All four predictions, images of random covariance: those of the posterior's own field, to rounding, at every t."""
    operator, shape = operators()[name], (4, 4, 2)
    rng = np.random.default_rng(2)
    root = rng.normal(size=(32, 32)) / 4
    prior = OracleField(PATHS[path](), gaussian(rng.normal(size=32), root @ root.T + 0.1 * np.eye(32)), shape)
    y = operator.apply(jnp.asarray(rng.normal(size=shape)))
    approximate = MMPS(iterations=24).field(prior, operator, 0.3, y)
    exact = Exact().field(prior, operator, 0.3, y)
    for t in (0.001, 0.4, 0.95):
        x = jnp.asarray(rng.normal(size=shape)) * (1 + float(prior.path.beta(t)))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8),
            output(approximate, x, t),
            output(exact, x, t),
        )


QUICK = [("ot", MMPS()), ("vp", Exact())]
DEARER = [("ot", Exact()), ("vp", MMPS()), ("sqrt", MMPS()), ("sqrt", Exact())]


@pytest.mark.parametrize(
    ("path", "posterior"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in DEARER)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__.lower(),
)
def test_samples_have_the_posterior_mean_and_covariance(path: str, posterior: Posterior, x64: None) -> None:
    """The ODE of a Gaussian is affine in the prior noise: its images of 0 and of unit vectors are mean and root, without chance."""
    field = posterior.field(
        OracleField(PATHS[path](), gaussian(MEAN, COVARIANCE), (2,)), from_matrix(MATRIX, (2,)), 0.2, jnp.array([3.0])
    )
    start = jnp.concatenate([jnp.zeros((1, 2)), field.path.beta(0.0) * jnp.eye(2)])
    end = np.asarray(
        simulate_compiled(
            Heun(),
            field,
            start,
            times(UniformGrid(end=0.9999), 400, field.path),
            jax.random.key(0),
            settings=LoopSettings(last="denoise"),
        ).x
    )
    mean, covariance = conditioned(MATRIX, np.array([3.0]), 0.2)
    root = end[1:] - end[0]
    np.testing.assert_allclose(end[0], mean, atol=0.02)
    np.testing.assert_allclose(root.T @ root, covariance, atol=0.01)


def test_a_finite_posterior_is_the_data_weighed_by_the_likelihood(x64: None) -> None:
    """In three chunks: atoms with weights from scipy, through the formula of mixtures; the log density too."""
    points = jax.random.normal(jax.random.key(3), (600, 4, 4, 2), float)
    operator, y, noise = operators()["blocks"], jnp.zeros((2, 2, 2)), 0.4
    prior = EmpiricalField(PATHS["ot"](), empirical.arrange(points), 600, (4, 4, 2))
    ours = Exact().field(prior, operator, noise, y).law()
    logs = stats.norm(0, noise).logpdf(np.asarray(jax.jit(jax.vmap(operator.apply))(points))).sum(axis=(1, 2, 3))
    atoms = Mixture(points.reshape(600, -1), jnp.zeros((600, 1)), jax.nn.softmax(jnp.asarray(logs)))
    theirs = OracleField(PATHS["ot"](), atoms, (4, 4, 2))
    x = jax.random.normal(jax.random.key(4), (4, 4, 2), float)
    both = jax.jit(lambda field, t: (field.output(x, t), field.log_prob(x, t)))
    for t in (0.2, 0.8):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8),
            both(ours, t),
            both(theirs, t),
        )


def test_the_jacobian_of_finite_data_is_tweedies_covariance(x64: None) -> None:
    """dE[z|x]/dx = alpha/beta^2 Cov[z|x], the covariance summed over the points by numpy."""
    points = jax.random.normal(jax.random.key(5), (300, 3), float)
    field = EmpiricalField(PATHS["ot"](), empirical.arrange(points), 300, (3,))
    x, t = jnp.array([0.2, -0.5, 0.4]), 0.6
    c = coefficients(field.path, t)
    logs = -np.sum((np.asarray(x) - t * np.asarray(points)) ** 2, axis=1) / (2 * float(c.beta) ** 2)
    weights = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    covariance = np.cov(np.asarray(points).T, aweights=weights, bias=True)
    np.testing.assert_allclose(jax.jit(jax.jacrev(lambda x: field.data(x, t)))(x), t / 0.4**2 * covariance, rtol=1e-9)


@pytest.mark.slow
def test_on_a_mixture_moment_matching_is_near_exact_and_dps_is_not() -> None:
    """11 components of which x is measured, by W2 from exact samples over that between two exact sets, 8 truths."""
    problem = pose(Linear(matrix=((1.0, 0.0),), noise=2.0), None, 8, Ring(), moments(Ring(), 3), jax.random.key(0))
    prior, n = OracleField(PATHS["ot"](), Ring().mixture(), (2,)), 8 * 128
    ratio = {}
    for name, posterior in {"exact": Exact(), "mmps": MMPS(iterations=1), "dps": DPS()}.items():
        field = posterior.field(prior, problem.operator, 2.0, problem.y[0])
        x0, grid = jax.random.normal(jax.random.key(1), (n, 2)), times(UniformGrid(), 25, prior.path)
        x = simulate_compiled(Heun(), field, x0, grid, jax.random.key(2), condition=problem.condition(n)).x
        found = reconstruction_figures(problem, x, Ring(), jax.random.key(3))
        ratio[name] = found["w2"].value / found["w2"].reference.value
    assert ratio["exact"] < 1.15 and ratio["mmps"] < 1.35 and ratio["dps"] > 1.6, ratio


def test_the_field_before_begin_is_that_at_begin(x64: None) -> None:
    """On ot, where alpha(0) = 0: finite, and within `begin` of the exact velocity."""
    prior = OracleField(PATHS["ot"](), skew(), (2,))
    operator, y, x = from_matrix(MATRIX, (2,)), jnp.array([1.0]), jnp.array([0.3, 0.1])
    # at t = 0 z is independent of x: E[z|y] of a mixture is not that of its moments, and mmps says the latter
    mean, between = np.array([0.3, 0.6]), 0.7 * 0.3 * np.outer([1, 2], [1, 2])
    moments = 0.7 * np.array([[1.0, 0.6], [0.6, 0.5]]) + 0.3 * np.array([[0.3, -0.1], [-0.1, 0.2]]) + between
    gain = moments @ MATRIX.T / (MATRIX @ moments @ MATRIX.T + 0.25)
    linear = mean + gain @ (np.array([1.0]) - MATRIX @ mean) - np.asarray(x)
    for begin in (1e-2, 1e-3):
        found = output(MMPS(begin=begin).field(prior, operator, 0.5, y), x, 0.0).velocity
        np.testing.assert_allclose(found, linear, atol=5 * begin)
    exact = output(Exact().field(prior, operator, 0.5, y), x, 0.0).velocity
    assert np.abs(np.asarray(exact) - linear).max() > 0.05


def test_conjugate_gradients_solve_in_as_many_steps_as_numbers(x64: None) -> None:
    root = np.random.default_rng(6).normal(size=(6, 6))
    matrix, b = jnp.asarray(root @ root.T), jnp.arange(6.0)
    solved = jnp.linalg.solve(matrix + 0.3 * jnp.eye(6), b)

    @jax.jit
    def after(iterations: int) -> Array:
        return conjugate_gradients(lambda v: matrix @ v, 0.3, b, iterations)

    np.testing.assert_allclose(after(6), solved, rtol=1e-6)
    np.testing.assert_allclose(after(40), solved, rtol=1e-6)  # nor does it leave it
    off = [after(n) - solved for n in range(6)]
    errors = [float(each @ (matrix + 0.3 * jnp.eye(6)) @ each) for each in off]
    assert errors == sorted(errors, reverse=True)


def test_conjugate_gradients_stay_where_the_curvature_is_negative(x64: None) -> None:
    """C = diag(2, -1): of b along the first axis the solution, of b along the second nothing, and never a long step."""
    c, shift = jnp.diag(jnp.array([2.0, -1.0])), 1.0 - 1e-6
    np.testing.assert_allclose(
        conjugate_gradients(lambda v: c @ v, shift, jnp.array([1.0, 0.0]), 5), [1 / (2 + shift), 0]
    )
    assert not conjugate_gradients(lambda v: c @ v, shift, jnp.array([0.0, 1.0]), 5).any()
    assert float(jnp.abs(conjugate_gradients(lambda v: c @ v, shift, jnp.array([1.0, 0.9]), 5)).max()) < 2


def test_each_sample_has_the_measurement_and_the_label_it_is_given() -> None:
    """A batch of two is two runs alone; the label of a mixture is its component, whose posterior is a Gaussian's."""
    prior = OracleField(PATHS["ot"](), skew(), (2,))
    operator, ys = from_matrix(MATRIX, (2,)), jnp.array([[3.0], [-1.0]])
    field = MMPS().field(prior, operator, 0.3, ys[0])
    x0, grid = jax.random.normal(jax.random.key(0), (2, 2)), times(UniformGrid(), 50, prior.path)
    together = simulate_compiled(Heun(), field, x0, grid, jax.random.key(1), condition=Observed(ys)).x
    for i in range(2):
        alone = MMPS().field(prior, operator, 0.3, ys[i])
        x = simulate_compiled(Heun(), alone, x0[i : i + 1], grid, jax.random.key(1)).x[0]
        np.testing.assert_allclose(together[i], x, rtol=1e-4, atol=1e-4)
    component = OracleField(prior.path, jax.tree.map(lambda leaf: leaf[1:], skew())._replace(weights=jnp.ones(1)), (2,))
    bound = field.bind(Observed(ys[1], jnp.asarray(1)))
    ours, theirs = (output(each, x0[0], 0.4) for each in (bound, MMPS().field(component, operator, 0.3, ys[1])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


def halves(keep: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Inpaint(keep=keep).operator(shape).seen)[..., 0]


def test_what_is_kept_is_what_is_said(tmp_path: Path) -> None:
    np.testing.assert_array_equal(halves("left", (2, 4, 1)), [[1, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(halves("right", (2, 3, 1)), [[0, 1, 1]] * 2)
    np.testing.assert_array_equal(halves("top", (4, 1, 1)), [[1], [1], [0], [0]])
    np.testing.assert_array_equal(halves("bottom", (4, 1, 1)), [[0], [0], [1], [1]])
    box = np.asarray(Inpaint(keep="all", hide=(0, 1, 1, 2)).operator((2, 3, 1)).seen)[..., 0]
    np.testing.assert_array_equal(box, [[1, 0, 0], [1, 1, 1]])
    mask = np.array([[True, False], [False, True]])
    np.save(tmp_path / "mask.npy", mask)
    np.testing.assert_array_equal(halves(str(tmp_path / "mask.npy"), (2, 2, 3)), mask)
    from PIL import Image

    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(halves(str(tmp_path / "mask.png"), (2, 2, 1)), mask)


def test_measurements_have_their_noise_where_anything_is_measured() -> None:
    """The residuals of 400 measurements are normal with the stated std; a mask's hidden pixels are 0."""
    for operator in (operators()["mask"], operators()["blocks"]):
        z = jax.random.normal(jax.random.key(0), (400, 4, 4, 2))
        rest = np.asarray(jax.jit(measure)(operator, 0.3, z, jax.random.key(1)) - jax.jit(jax.vmap(operator.apply))(z))
        if isinstance(operator, Mask):
            seen = np.asarray(operator.seen, bool)
            assert not rest[:, ~seen].any()
            rest = rest[:, seen]
        assert stats.kstest(rest.ravel() / 0.3, "norm").pvalue > 1e-3


def test_the_figures_of_exact_samples_are_their_exact_values() -> None:
    """Truths of the law, samples of the exact posteriors: calibration 1, misfit of the truths 1, w2 and weights at their floors."""
    dataset, count, each = Ring(components=4, radius=2.0), 40, 200
    problem = pose(
        Linear(matrix=((1.0, 0.5),), noise=0.5), None, count, dataset, moments(dataset, 2), jax.random.key(0)
    )
    matrix = jnp.array([[1.0, 0.5]])

    def draws(y: Array, key: Array) -> Array:
        return mixtures.sample(mixtures.posterior(dataset.mixture(), matrix, y, 0.5), key, each)

    x = jax.jit(jax.vmap(draws))(problem.y, jax.random.split(jax.random.key(1), count))
    found = reconstruction_figures(problem, x.swapaxes(0, 1).reshape(-1, 2), dataset, jax.random.key(2))
    assert found["calibration"].value == pytest.approx(1, abs=0.2)  # of 40 truths: two to three standard deviations
    assert found["misfit"].reference.value == pytest.approx(1, abs=4 / np.sqrt(2 * count))
    assert found["w2"].value == pytest.approx(found["w2"].reference.value, rel=0.1)
    assert found["mode_weight_kl"].value == pytest.approx(found["mode_weight_kl"].reference.value, rel=0.4)
    assert found["rmse_unmeasured"].value < found["rmse_unmeasured"].reference.value
    wrong = reconstruction_figures(problem, x.swapaxes(0, 1).reshape(-1, 2)[::-1], dataset, jax.random.key(2))
    assert wrong["w2"].value > 2 * wrong["w2"].reference.value


def test_rmse_is_of_what_is_seen_and_of_what_is_not(tmp_path: Path) -> None:
    """Samples that are the truth plus 2 where it is seen and minus 3 where not: 2 and 3, whatever the mask."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(9, 4, 4, 2)))
    from diffsde.datasets import ArrayFile

    operator = operators()["mask"]
    truth = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 4, 2)), jnp.float32)
    data = ArrayFile(file=str(tmp_path / "data.npy"))
    problem = InverseProblem(truth, jax.vmap(operator.apply)(truth), operator, 0.5, moments(data, 0))
    x = jnp.tile(truth + jnp.where(operator.seen > 0, 2.0, -3.0), (2, 1, 1, 1))
    found = reconstruction_figures(problem, x, data, jax.random.key(0))
    assert found["rmse_measured"].value == pytest.approx(2, rel=1e-5)
    assert found["rmse_unmeasured"].value == pytest.approx(3, rel=1e-5)
    assert found["misfit"].value == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize(("noise", "steps", "steep"), [(0.05, 50, True), (0.5, 50, False)])
def test_a_likelihood_too_steep_is_said_and_is_so(noise: float, steps: int, steep: bool) -> None:
    """Euler on a Gaussian with dps: what is warned of grows, what is not does not; mmps is fine with either."""
    law = Mixture(jnp.zeros((1, 2)), jnp.ones((1, 1)), jnp.ones(1))
    prior, operator = OracleField(PATHS["ot"](), law, (2,)), from_matrix(np.array([[1.0, 0.0]]), (2,))
    grid = times(UniformGrid(), steps, prior.path)
    for posterior, warned in ((DPS(), steep), (MMPS(), False)):
        field = posterior.field(prior, operator, noise, jnp.array([0.5]))
        said = likelihood_instability(Euler(), field, grid, "mean", 1.0)
        x = simulate_compiled(Euler(), field, jnp.array([[3.0, 0.0]]), grid, jax.random.key(0)).x
        assert (said is not None) == warned
        assert (abs(float(x[0, 0]) - 0.5) > 100) == warned
        if said is not None:  # as many steps as it says are enough
            enough = re.search(r"take (\d+) times as many steps", said)
            assert enough
            finer = times(UniformGrid(), int(enough[1]) * steps, prior.path)
            x = simulate_compiled(Euler(), field, jnp.array([[3.0, 0.0]]), finer, jax.random.key(0)).x
            assert abs(float(x[0, 0]) - 0.5) < 1


COMMAND = "sample run=oracle dataset=digits path=ot n=12 steps=12 n_measurements=3".split()


def test_sample_writes_the_problem_and_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Digits of the test split, half seen: the truths are the split's first, and samples of each agree with what it shows."""
    out = tmp_path / "out"
    words = ["measurement=inpaint", "measurement.noise=0.3", "posterior=exact", f"hydra.run.dir={out}"]
    assert main([*COMMAND, *words]) == 0
    from diffsde.datasets import Digits

    saved = np.load(out / "samples.npz")
    np.testing.assert_allclose(saved["truth"], np.asarray(Digits().held_out().x[:3]) / 127.5 - 1, atol=1e-6)
    assert not saved["measured"][:, :, 4:].any()
    rest = saved["x"][:, :, :4] - saved["measured"][np.arange(12) % 3][:, :, :4]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"]["misfit"]["value"] == pytest.approx(np.sqrt(np.mean(rest**2)) / 0.3, rel=1e-5)
    own = [np.abs(rest[i]).mean() for i in range(3)]
    swapped = [np.abs(saved["x"][i, :, :4] - saved["measured"][(i + 1) % 3, :, :4]).mean() for i in range(3)]
    assert max(own) < min(swapped)
    assert (out / "plots" / "posterior.png").stat().st_size > 10_000


@pytest.mark.slow
def test_samples_told_a_label_are_not_held_against_the_whole_laws_posterior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    honest = plots.clouds

    def clouds(*args: Any, **words: Any) -> Any:
        shown.append(args[3])
        return honest(*args, **words)

    monkeypatch.setattr(plots, "clouds", clouds)
    words = (
        "sample run=oracle dataset=gmm path=ot measurement=linear measurement.matrix=[[1.0,0.0]] n=32 steps=4".split()
    )
    for label, known in (("null", True), ("[3]", False)):
        out = tmp_path / str(known)
        assert main([*words, "n_measurements=2", f"labels={label}", f"hydra.run.dir={out}"]) == 0
        found = json.loads((out / "summary.json").read_text())["metrics"]
        assert ("w2" in found) == known and ("exact" in found["calibration"]) == known
        assert {each is not None for each in shown.pop()} == {known}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["posterior=dps"], "say what is measured with measurement="),
        (["measurement=inpaint", "measurement.keep=middle"], "it must be left, right, top, bottom, all, or a mask"),
        (["measurement=inpaint", "measurement.keep=all"], "hide a rectangle"),
        (["measurement=inpaint", "measurement.hide=[5,5,4,4]"], "reaches beyond images of 8 x 8"),
        (["measurement=inpaint", "measurement.noise=0"], "must be positive"),
        (["measurement=superresolution", "measurement.factor=3"], "divides not both sides"),
        (["measurement=linear"], "say measurement.matrix="),
        (["measurement=linear", "measurement.matrix=[[1,0]]"], "must be (m, 64)"),
        (["measurement=inpaint", "truth=none.npy"], "truth: 'none.npy' is not a file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main([*(word for word in COMMAND if "measurements" not in word), *words, f"hydra.run.dir={out}"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error, error
    assert not (out / "samples.npz").exists() and not (out / "config.json").exists()


def test_shapes_and_splits_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="take measurement=linear"):
        Superresolution().operator((2,))
    np.save(tmp_path / "mask.npy", np.ones((3, 3)))
    with pytest.raises(UserError, match=r"shape \(3, 3\); the images have \(8, 8\)"):
        Inpaint(keep=str(tmp_path / "mask.npy")).operator((8, 8, 1))
    np.save(tmp_path / "data.npy", np.zeros((5, 2)))
    from diffsde.datasets import ArrayFile

    with pytest.raises(UserError, match=r"no test split.*truth=<file.npy>"):
        pose(
            Linear(matrix=((1.0, 0.0),)),
            None,
            2,
            ArrayFile(file=str(tmp_path / "data.npy")),
            moments(Ring(), 0),
            jax.random.key(0),
        )
    spatial = Moments(jnp.zeros(3), jnp.ones(()))
    with pytest.raises(UserError, match=r"truth: .* has shape \(5, 2\); it must be \(k, 3\)"):
        pose(Linear(matrix=((1.0, 0.0, 0.0),)), str(tmp_path / "data.npy"), 2, Ring(), spatial, jax.random.key(0))
    learned = MMPS().field(OracleField(PATHS["ot"](), skew(), (2,)), from_matrix(MATRIX, (2,)), 0.3, jnp.zeros(1))
    with pytest.raises(UserError, match="posterior=exact needs run=oracle"):
        Exact().field(learned, from_matrix(MATRIX, (2,)), 0.3, jnp.zeros(1))
