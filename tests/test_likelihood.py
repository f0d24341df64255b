"""The likelihood by the ODE against densities that are known, and the bits of images against what they must be."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde import mixtures
from diffsde.cli.main import main
from diffsde.datasets import DATASETS
from diffsde.datasets.finite import dequantised
from diffsde.errors import UserError
from diffsde.evaluation.likelihood import Likelihood
from diffsde.evaluation.metric import Subject
from diffsde.fields import Field, OracleField
from diffsde.likelihood import SOLVERS, bits_per_dim, choose_end, choose_probe, coarser, log_likelihood_compiled
from diffsde.paths import PATHS
from diffsde.samplers import GRIDS, loop, times
from diffsde.stability import UntrainedField
from diffsde.types import Moments


def grid_of(field: Field, steps: int, end: float = 1.0) -> jax.Array:
    return times(GRIDS["uniform"](end=end), steps, field.path)


def oracle(name: str = "ot", dimension: int = 2) -> tuple[OracleField, jax.Array, np.ndarray]:
    """A field, 64 points of its mixture and their exact log-densities."""
    if dimension == 2:
        mixture = DATASETS["gmm"]().mixture()
    else:
        means = 2 * jax.random.normal(jax.random.key(5), (3, dimension))
        factors = jax.random.normal(jax.random.key(6), (3, dimension, dimension)) / math.sqrt(dimension)
        covariances = jnp.einsum("kij,klj->kil", factors, factors) + 0.2 * jnp.eye(dimension)
        mixture = mixtures.with_covariances(means, covariances, jnp.array([0.5, 0.3, 0.2]))
    field = OracleField(PATHS[name](), mixture, (dimension,))
    x = mixtures.sample(mixture, jax.random.key(0), 64)
    exact = jax.jit(jax.vmap(lambda x: mixtures.log_prob(mixture, x)))(x)
    return field, x, np.asarray(exact)


@pytest.mark.parametrize(("name", "dimension"), [("ot", 12), ("sqrt", 2), ("trig", 2)])
def test_it_is_the_mixtures_density(name: str, dimension: int) -> None:
    field, x, exact = oracle(name, dimension)
    found = log_likelihood_compiled(SOLVERS["rk4"](), field, x, grid_of(field, 100), jax.random.key(1))
    assert np.abs(found.log_p - exact).max() / dimension < 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dimension", [10, *(pytest.param(d, marks=pytest.mark.slow) for d in range(1, 10))])
def test_it_is_right_to_a_hundred_thousandth(dimension: int) -> None:
    """Of every point, in double precision, by 200 steps on the grid that `evaluate` takes."""
    field, x, exact = oracle("ot", dimension)
    at = times(GRIDS["quadratic"](), 200, field.path)
    found = log_likelihood_compiled(SOLVERS["rk4"](), field, x, at, jax.random.key(1))
    assert np.abs(found.log_p - exact).max() < 1e-5


@pytest.mark.slow
def test_the_error_of_kl_covers() -> None:
    """Of 20 seeds, at least 17 have the closed form of two Gaussians' KL within two standard errors."""
    mean, std = 0.3, 1.1
    true = 1 / std**2 - 1 + mean**2 / (2 * std**2) + 2 * math.log(std)
    data, other = DATASETS["gaussian"](), DATASETS["gaussian"](mean=(mean, 0.0), std=std)
    subject = Subject(data, other.exact_field(PATHS["ot"]()))
    found = [Likelihood().measure(subject, jax.random.key(100 + seed)).figures["kl"] for seed in range(20)]
    assert sum(abs(each.value - true) < 2 * float(each.error or 0) for each in found) >= 17
    assert np.std([each.value for each in found]) > 0.5 * np.mean([float(each.error or 0) for each in found])


def test_an_adaptive_solver_keeps_its_tolerance_and_counts() -> None:
    field, x, exact = oracle()
    errors, spent = [], []
    for tolerance in (1e-3, 1e-5):
        solver = SOLVERS["adaptive"](rtol=tolerance, atol=tolerance)
        found = log_likelihood_compiled(solver, field, x, grid_of(field, 1), jax.random.key(1))
        errors.append(np.abs(found.log_p - exact).mean())
        spent.append(float(found.nfe.mean()))
    assert errors[1] < errors[0] / 10 and errors[1] < 1e-3
    assert spent[1] > spent[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name", ["rk4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("euler", "midpoint", "heun"))]
)
def test_it_converges_with_the_solvers_order(name: str) -> None:
    field, x, exact = oracle(dimension=3)
    solver = SOLVERS[name]()
    errors = [
        np.abs(log_likelihood_compiled(solver, field, x, grid_of(field, n), jax.random.key(1)).log_p - exact)
        for n in (64, 128)
    ]
    order = math.log2(errors[0].mean() / errors[1].mean())
    assert abs(order - solver.order) < 0.25, order


def test_a_label_gives_the_density_of_its_component() -> None:
    field, x, _ = oracle(dimension=3)
    labels = jnp.arange(64) % 3
    found = log_likelihood_compiled(SOLVERS["rk4"](), field, x, grid_of(field, 100), jax.random.key(1), labels)
    exact = [stats.multivariate_normal(*law).logpdf(np.asarray(x)) for law in components(field)]
    assert np.abs(found.log_p - np.choose(np.asarray(labels), exact)).max() < 1e-2


def components(field: OracleField) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and covariance of each."""
    means, variances, _, rotations = (np.asarray(leaf, np.float64) for leaf in field.mixture)
    return [(mean, r * v @ r.T) for mean, v, r in zip(means, variances, rotations, strict=True)]


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_the_mean_over_probes_is_the_exact_trace(probe: str) -> None:
    field, x, _ = oracle(dimension=12)
    many = jnp.repeat(x[:1], 4000, axis=0)  # every copy of the point has a probe of its own
    at, solver = grid_of(field, 24), SOLVERS["heun"]()
    exact = float(log_likelihood_compiled(solver, field, x[:1], at, jax.random.key(1)).log_p[0])
    found = np.asarray(
        log_likelihood_compiled(solver, field, many, at, jax.random.key(2), probe=probe).log_p, np.float64
    )
    error = found.std() / math.sqrt(len(found))
    assert 0.001 < error < 0.2, "the probes differ"
    assert abs(found.mean() - exact) < 4 * error


@pytest.mark.parametrize("name", ["ot", "sqrt"])
def test_a_gaussian_of_images_is_exact_whatever_the_signs_of_the_probe(name: str) -> None:
    """A network of 0 is the field of N(m, s^2), whose derivative is diagonal: v^T J v is its trace for v = +-1."""
    mean = jnp.linspace(-1, 1, 48).reshape(4, 4, 3)
    field = UntrainedField(PATHS[name](), Moments(mean, 0.5), "velocity", True)
    grid = choose_end(field, GRIDS["quadratic"]())
    assert grid.end == pytest.approx(1 - 1e-5 if name == "sqrt" else 1, abs=1e-9)
    x = mean + 0.5 * jax.random.normal(jax.random.key(0), (5, 4, 4, 3))
    solver, at = SOLVERS["rk4"](), times(grid, 100, field.path)
    found = log_likelihood_compiled(solver, field, x, at, jax.random.key(1), probe="rademacher")
    exact = -(((x - mean) / 0.5) ** 2).reshape(5, -1).sum(1) / 2 - 24 * math.log(2 * math.pi * 0.25)
    assert np.abs(found.log_p - exact).max() / 48 < 1e-3


def test_a_point_depends_on_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    field, x, _ = oracle(dimension=12)
    at = grid_of(field, 8)

    def found(count: int, chunk: int) -> np.ndarray:
        monkeypatch.setattr(loop, "fitting", lambda field, x: chunk)
        found = log_likelihood_compiled(SOLVERS["heun"](), field, x[:count], at, jax.random.key(3), probe="rademacher")
        return np.asarray(found.log_p)

    np.testing.assert_allclose(found(64, 64)[:10], found(10, 3), rtol=2e-5)


def test_fewer_steps_by_the_same_program() -> None:
    field, x, _ = oracle()
    coarse, key = grid_of(field, 12), jax.random.key(0)
    found, direct = (
        log_likelihood_compiled(SOLVERS["heun"](), field, x, at, key, None, 12).log_p
        for at in (coarser(grid_of(field, 30), coarse), coarse)
    )
    np.testing.assert_allclose(found, direct, rtol=1e-5)


def test_what_cannot_be_solved_backwards_is_refused() -> None:
    assert choose_probe("auto", (4, 4)) == "exact" and choose_probe("auto", (28, 28, 1)) == "rademacher"
    with pytest.raises(UserError, match="probe is 'sobol'; choose one of auto, exact, rademacher, gaussian"):
        choose_probe("sobol", (2,))
    raw = UntrainedField(PATHS["ot"](), Moments(jnp.zeros(2), 1.0), "noise", False)
    with pytest.raises(UserError, match=r"infinite at t=0, .* precondition=true"):
        choose_end(raw, GRIDS["uniform"]())


def test_a_density_uniform_over_the_bytes_has_8_bits() -> None:
    """The 256 bins, each 1/127.5 wide, tile [-128/127.5, 128/127.5): the density there is 127.5/256."""
    d = 50
    assert bits_per_dim(jnp.asarray(-d * math.log(256 / 127.5)), d) == pytest.approx(8.0, abs=1e-6)
    every = jnp.arange(256, dtype=jnp.uint8).reshape(1, 256)
    x = np.asarray(dequantised(jnp.repeat(every, 4000, axis=0), jax.random.key(0)), np.float64)
    bins = (x + 128 / 127.5) * 127.5  # byte k fills [k, k + 1)
    assert (np.abs(bins - np.arange(256) - 0.5) <= 0.5 + 1e-4).all()
    assert np.histogram(bins, bins=512, range=(0, 256))[0] == pytest.approx(2000, abs=6 * math.sqrt(1000))


def test_bits_of_bytes_whose_law_is_known() -> None:
    """Independent bytes, each a rounded N(mu, sigma^2) in units of bytes: the mean over u of the bits lies above their
    entropy by what the smooth density differs from constant over a bin, about log2(e)/(24 sigma^2).
    """
    sigma, d, n = 2.0, 16, 20_000
    k = np.clip(np.round(np.random.default_rng(0).normal(127.5, sigma, (n, d))), 0, 255).astype(np.uint8)
    z = np.arange(-40, 41) + 0.5
    edges = 0.5 * (1 + np.vectorize(math.erf)(np.stack([z - 0.5, z + 0.5]) / sigma / math.sqrt(2)))
    p = edges[1] - edges[0]
    entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
    x = np.asarray(dequantised(jnp.asarray(k), jax.random.key(1)), np.float64)
    scale = sigma / 127.5
    log_p = (-((x / scale) ** 2) / 2 - math.log(scale * math.sqrt(2 * math.pi))).sum(1)
    bits = np.asarray(bits_per_dim(jnp.asarray(log_p), d))
    error = bits.std() / math.sqrt(n)
    expected = entropy + math.log2(math.e) / (24 * sigma**2)
    assert abs(bits.mean() - expected) < 4 * error + 1e-3, (bits.mean(), entropy, expected, error)


@pytest.mark.slow
def test_a_solver_that_cannot_see_the_data_is_said_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """N(0, 1000^2) on ot: rk4 in 50 steps makes log p 19 nats too small a coordinate; what is advised gives the entropy."""
    monkeypatch.chdir(tmp_path)
    words = "evaluate run=oracle dataset=mixture dataset.means=[[0]] dataset.stds=[1000.0] path=ot metrics=[likelihood] n_test=500"
    assert main([*words.split(), "hydra.run.dir=wrong"]) == 0
    found = re.search(r"adds (\S+) nats per coordinate .*; (\S+) mends that", capsys.readouterr().err)
    assert found
    assert main([*words.split(), found[2], "hydra.run.dir=right"]) == 0
    assert "likelihood" not in capsys.readouterr().err
    nll = [json.loads(Path(name, "summary.json").read_text())["metrics"]["nll"] for name in ("wrong", "right")]
    assert nll[1]["value"] == pytest.approx(nll[1]["true"], abs=0.03)
    assert nll[1]["true"] - nll[0]["value"] == pytest.approx(float(found[1]), rel=0.15)
