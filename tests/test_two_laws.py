"""Sampling between two laws, with the exact field: the equations, the marginals for every sigma_t, both ways in time, refusals."""

from __future__ import annotations

import dataclasses
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffsde
from diffsde import mixtures
from diffsde.cli.from_python import config_of
from diffsde.cli.main import composed, main
from diffsde.datasets.mixture import CustomMixture
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.toys import Moons
from diffsde.evaluation.likelihood import Likelihood
from diffsde.evaluation.metric import Subject
from diffsde.fields import OracleField, divergence
from diffsde.interpolants import Backward, OracleInterpolant
from diffsde.metrics.mixture import mixture_figures
from diffsde.paths import ICFM, OT, Bridge, GaussianPath, Interpolant, Trig
from diffsde.runs.sample_config import resolve_latest
from diffsde.runs.starting import starting_points
from diffsde.samplers import SAMPLERS, simulate_compiled, times
from diffsde.samplers.diffusions import Bump, Constant, Diffusion, ExpressionDiffusion, SquareRoot, Vanishing
from diffsde.samplers.generative import GenerativeProcess
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import prior_from
from diffsde.samplers.sampler import Sampler
from diffsde.samplers.sde import EulerMaruyama
from diffsde.stability import mend
from diffsde.verbs import explain

SOURCE = CustomMixture(((-2.0, 1.0), (2.0, 0.0)), stds=((0.7, 0.5), (0.6, 0.8)))
TURNED = CustomMixture(SOURCE.means, stds=None, covariances=(((0.5, 0.2), (0.2, 0.4)), ((0.3, 0.0), (0.0, 0.6))))
DATA = CustomMixture(((0.0, 3.0), (-3.0, -1.0), (3.0, -2.0)), stds=(0.5, 0.7, 0.6), weights=(0.5, 0.3, 0.2))
PATHS: dict[str, GaussianPath] = {
    "ot": OT(),
    "trig": Trig(),
    "bridge": Bridge(1.0),
    "icfm": ICFM(0.3),
    "interpolant": Interpolant("t**2", "1-t**2", "sqrt(2*t*(1-t))"),
}
KEY, N, STEPS = jax.random.key(3), 3000, 250


def exact(path: GaussianPath) -> OracleInterpolant:
    return OracleInterpolant(path, SOURCE.mixture(), DATA.mixture(), (2,))


@jax.jit
def equations(field: Any, process: GenerativeProcess, x: Any, t: Any) -> Any:
    """Each (n,), to be 0: of the score, the continuity equation, and the Fokker-Planck equation of the process, over p."""

    def of_one(x: Any, t: Any) -> Any:
        change, (gradient, score) = (
            jax.grad(field.log_prob, 1)(x, t),
            (jax.grad(field.log_prob)(x, t), field.score(x, t)),
        )
        velocity, (drift, sigma) = field.velocity(x, t), process.at(x, t)

        def spread(vector: Any) -> Any:
            return jnp.trace(jax.jacfwd(vector)(x))

        diffused = sigma**2 / 2 * (spread(lambda x: field.score(x, t)) + score @ score)
        continuity = change + divergence(field, x, t) + velocity @ score
        return (
            score - gradient,
            continuity,
            change + spread(lambda x: process.drift_at(x, t)) + drift @ score - diffused,
        )

    return jax.vmap(of_one)(x, t)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("bridge", SOURCE),
        ("interpolant", TURNED),
        *(pytest.param(name, source, marks=pytest.mark.slow) for name in PATHS for source in (SOURCE, TURNED)),
    ],
    ids=str,
)
def test_continuity_and_fokker_planck(x64: None, name: str, source: CustomMixture) -> None:
    """By autodiff of log p_t, in x and in t: for the ODE, and for the SDE with a sigma_t of its own, both ways in time."""
    rng = np.random.default_rng(0)
    x, t = jnp.asarray(2 * rng.normal(size=(12, 2))), jnp.asarray(rng.uniform(0.02, 0.98, 12))
    forward = OracleInterpolant(PATHS[name], source.mixture(), DATA.mixture(), (2,))
    for field in (forward, Backward(forward)) if source is TURNED else (forward,):
        for found in equations(field, GenerativeProcess(field, Bump(1.3)), x, t):
            np.testing.assert_allclose(found, 0, atol=1e-9)


DIFFUSIONS: list[Diffusion] = [
    Constant(1.0),
    Bump(1.5),
    Vanishing(2.0),
    SquareRoot(0.7),
    ExpressionDiffusion(1.5, "alpha*beta+gamma"),
]
QUICK = [("heun", None, "ot"), ("em", Constant(1.0), "bridge"), ("stochastic_heun", Bump(1.5), "interpolant")]
REST = [
    *((name, None, path) for name in ("euler", "midpoint", "rk4", "ab2", "ab3") for path in ("trig", "bridge")),
    *((name, each, path) for name in ("em", "stochastic_heun") for each in DIFFUSIONS for path in PATHS),
]


@pytest.mark.parametrize(
    ("name", "diffusion", "path"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)], ids=str
)
@pytest.mark.parametrize("backward", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_marginals_are_kept(name: str, diffusion: Diffusion | None, path: str, backward: bool) -> None:
    """Samples score what true samples of the law at the end do, whatever sigma_t: the data, backward the source."""
    sampler: Any = SAMPLERS[name]()
    sampler = sampler if diffusion is None else dataclasses.replace(sampler, diffusion=diffusion)
    field: Any = exact(PATHS[path])
    data, source = (SOURCE, DATA) if backward else (DATA, SOURCE)
    field = Backward(field) if backward else field
    at = times(UniformGrid(), STEPS, field.path)
    x0, _ = starting_points(field, data, 0.0, KEY, N, None, source)
    gamma = float(field.path.gamma(jnp.asarray(1.0)))
    law = data.mixture()._replace(variances=data.mixture().variances + gamma**2)
    found = mixture_figures(law, simulate_compiled(sampler, field, x0, at, jax.random.key(4)).x)
    assert abs(float(found.cross_entropy) - mixtures.entropy(law).value) < 4 * float(found.cross_entropy_error) + 0.02
    assert abs(float(found.within_mode_std) - 1) < 4 / np.sqrt(4 * N) + 0.01
    assert 2 * N * float(found.mode_weight_kl) < 30


@pytest.mark.parametrize("t", [0.0, 0.4])
def test_samples_start_from_the_source(t: float) -> None:
    """At t = 0 the source with the noise of the path, widened by it; later p_t; a point depends on its own index alone."""
    field, n = exact(PATHS["icfm"]), 20_000
    x, absent = starting_points(field, DATA, t, KEY, n, None, SOURCE)
    law = mixtures.between(SOURCE.mixture(), DATA.mixture(), diffsde_coefficients(field.path, t))
    found = mixture_figures(law, x)
    assert absent is None and abs(float(found.within_mode_std) - 1) < 4 / np.sqrt(4 * n)
    error = float(found.cross_entropy_error)
    assert abs(float(found.cross_entropy) - mixtures.entropy(law).value) < 4 * error
    few, _ = starting_points(field, DATA, t, KEY, 3, None, SOURCE)
    np.testing.assert_array_equal(few, x[:3])


def diffsde_coefficients(path: GaussianPath, t: float) -> Any:
    from diffsde.paths import coefficients

    return coefficients(path, t)


def test_a_normal_source_is_the_gaussian_path(x64: None) -> None:
    """source=normal on path=ot stays what it was; the same law as a mixture at t = 0 gives the same field."""
    x, t = jnp.asarray([[0.3, -1.0], [2.0, 1.0]]), jnp.asarray([0.2, 0.7])
    normal = StandardNormal((2,)).law()
    assert normal is not None
    fields: list[Any] = [OracleField(OT(), DATA.mixture(), (2,)), OracleInterpolant(OT(), normal, DATA.mixture(), (2,))]
    one, other = (jax.jit(jax.vmap(field.output))(x, t) for field in fields)
    for part in ("data", "velocity", "score"):
        np.testing.assert_allclose(getattr(one, part), getattr(other, part), rtol=1e-12)
    np.testing.assert_allclose(one.noise, other.source, rtol=1e-12)
    turned = jax.jit(jax.vmap(Backward(fields[0]).output))(x, 1 - t)
    for ours, theirs in zip(turned, jax.jit(jax.vmap(Backward(fields[1]).output))(x, 1 - t), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)


MIXTURES: dict[str, Any] = {
    "source": {"name": "mixture", "means": [[-2.0], [2.0]], "stds": [0.5, 0.4]},
    "dataset": {"name": "mixture", "means": [[0.0], [3.0]], "stds": [0.7, 0.3], "weights": [1, 3]},
}


def test_the_exact_field_in_python() -> None:
    """The issue's own call; log p_t is a density, the score its slope; the ODE's likelihood ends in the source's density."""
    path = {"name": "interpolant", "alpha_t": "t", "beta_t": "1-t", "gamma_t": "sqrt(t*(1-t))"}
    run = diffsde.oracle(**MIXTURES, path=path, precision="float64")
    x = np.linspace(-12, 12, 4001)[:, None]
    density = np.exp(run.log_prob(x, 0.3))
    assert np.trapezoid(density, x[:, 0]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        np.gradient(np.log(density), x[:, 0])[1900:2100], run.score(x, 0.3)[1900:2100, 0], atol=1e-3
    )
    assert np.isfinite(run.velocity(x, 0.0)).all() and run.noise(x[:5], 0.5).shape == (5, 1)
    with pytest.raises(ValueError, match="source= would name another field"):
        run.sample(source="gmm")
    with pytest.raises(ValueError, match=r"diffsde.oracle\(..., direction='backward'\)"):
        run.sample(direction="backward")


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_figures_between_two_laws(direction: str) -> None:
    """Of the law at the end; KL is 0, its ODE ending in the density at the start."""
    words: dict[str, Any] = {"run": "oracle", **MIXTURES, "path": "bridge", "direction": direction, "steps": 64}
    judged = diffsde.evaluate(**words, n=2000, n_test=200, solver_steps=24, metrics=["likelihood", "mixture"])
    assert abs(judged.figures["kl"].value) < 1e-3
    assert judged.figures["within_mode_std"].value == pytest.approx(1, abs=4 / np.sqrt(4000))


@pytest.mark.slow
def test_budget_and_straightness_between_two_laws() -> None:
    """The exact field has no error; straight lines between two points are straight: of N(0, s^2) and N(3, s^2) npe is 0."""
    ends = [{"name": "gaussian", "mean": [mean], "std": 0.5} for mean in (0.0, 3.0)]
    words: dict[str, Any] = {
        "run": "oracle",
        "source": ends[0],
        "dataset": ends[1],
        "path": "ot",
        "steps": 64,
        "n": 500,
    }
    judged = diffsde.evaluate(**words, metrics=["budget", "straightness"])
    assert judged.figures["field_error"].value < 1e-9 and "kl_bound" not in judged.figures
    # x_t = s_t xi + 3 t with s_t^2 = (t^2 + (1-t)^2)/4: X_1 - X_0 = 3, int |u|^2 = 9 + int s_t'^2 dt, as s_0 = s_1
    slopes = [(2 * t - 1) ** 2 / (4 * (t**2 + (1 - t) ** 2)) for t in np.linspace(0, 1, 10001)]
    assert judged.figures["path_energy"].value == pytest.approx(9 + np.trapezoid(slopes, dx=1e-4), abs=0.02)
    assert judged.figures["straightness"].value == pytest.approx(np.trapezoid(slopes, dx=1e-4), abs=0.005)


def test_log_prob_by_the_ode_ends_in_the_source() -> None:
    """Of a field that is not known to be exact: bound backwards twice, log p comes from the ODE and the source's density."""
    run = diffsde.oracle(**MIXTURES, path="bridge", precision="float64")
    assert run.field is not None
    solved = dataclasses.replace(run, field=Backward(Backward(run.field)))
    for t in (0.0, 0.4, 1.0):
        x = np.array([[-1.0], [0.5], [3.0]])
        np.testing.assert_allclose(solved.log_prob(x, t), run.log_prob(x, t), atol=1e-6)


def explained(words: str) -> str:
    config = composed("explain", shlex.split(words))
    return "\n".join(explain.result_of(config).report().lines)


def test_explain_says_the_equations_and_what_is_refused() -> None:
    """alpha, beta, gamma and their derivatives at t = 1/4; what is infinite at the ends; which sampler the objective serves."""
    said = explained("source=gaussian source.std=2 dataset=gaussian path=bridge path.sigma=2 steps=20")
    assert "x_t = (t) z + (1-t) y + (2*sqrt(t*(1-t))) eps" in said and "- gamma dgamma score" in said
    row = next(line.split() for line in said.splitlines() if line.strip().startswith("0.25"))
    assert [float(each) for each in row] == pytest.approx([0.25, 0.25, 0.75, 0.866, 1, -1, 1.155], rel=1e-3)
    assert "at t=0 and 1, dgamma is infinite, gamma dgamma is not" in said and "nothing speaks against it" in said
    said = explained("source=gaussian dataset=gaussian path=ot sampler=em steps=20")
    assert "refused: sampler=em needs the score" in said and "dgamma is infinite" not in said
    said = explained(
        "source=gaussian dataset=gaussian dataset.std=0.1 path=icfm objective=cfm+score sampler=em steps=99"
    )
    assert "widened by noise of std 0.1" in said and "1.41 times its std of 0.1" in said


def test_a_likelihood_needs_the_sources_density() -> None:
    """Of a source that is no mixture it is refused in a line, by its name; so is the exact field's part of a budget."""
    run = diffsde.oracle(**MIXTURES, path="ot")
    assert run.field is not None and run.dataset is not None
    subject = Subject(run.dataset, run.field, 10, source=Moons())
    assert "the ODE ends in source=moons, whose density is not known" in (Likelihood().unavailable(subject) or "")
    assert subject.exact is None
    known = dataclasses.replace(run, field=Backward(Backward(run.field)), source=Moons())
    with pytest.raises(ValueError, match="ends in source=moons, whose density is not known"):
        known.log_prob([[0.0]], 0.5)
    assert Subject(run.dataset, run.field, source=run.source).exact is not None


REFUSED = {
    "path=bridge sampler=ddim": "sampler=ddim takes alpha and beta for those of a Gaussian path",
    "path=bridge sampler=em diffusion=memoryless": "diffusion=memoryless is of a Gaussian path",
    "path=ve source=gmm": "alpha(0)=1 and beta(0)=50; between two laws they must be 0 and 1",
    "path=ve direction=backward": "direction=backward: alpha(0)=1",
    "path=bridge source=moons": "source=moons: the exact field between two laws is known of mixtures only",
    "path=bridge source=gaussian source.mean=[0,0,0]": "its points have 3 coordinates, those of the dataset 2",
    "path=bridge measurement=linear measurement.matrix=[[1,0]]": "inverse problems are solved on Gaussian paths",
    "path=ot direction=sideways": "direction is 'sideways'; choose one of forward, backward",
}


@pytest.mark.parametrize("words", list(REFUSED))
def test_what_cannot_be_is_refused_in_a_line(words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "run=oracle", "dataset=gmm", *shlex.split(words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and REFUSED[words] in said[0]


def test_a_source_belongs_to_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "source=gmm"]) == 2
    assert "train" in capsys.readouterr().err


def test_the_words_of_a_source() -> None:
    """A group of datasets, with their numbers; normal is no key at all, as in a config.json of before."""
    words = ["run=oracle", "dataset=gmm", "path=ot"]
    chosen = composed("sample", [*words, "source=eight-gaussians", "source.std=0.3"])
    assert chosen["source"] == {"name": "8gaussians", "radius": 5.0, "std": 0.3, "conditional": False}
    assert composed("sample", [*words, "source=normal"]) == composed("sample", words)
    assert "source" not in composed("sample", words)
    python: dict[str, Any] = {"run": "oracle", "dataset": "gmm", "path": "ot"}
    assert config_of("sample", {**python, "source": {"name": "8gaussians", "std": 0.3}}) == chosen
    assert config_of("sample", {**python, "source": "normal"}) == composed("sample", words)


@pytest.mark.parametrize(
    ("words", "sigma"),
    [
        (["path=bridge", "path.sigma=0.7", "sampler=em"], 0.7),
        (["path=bridge", "sampler=em", "sigma=0.2"], 0.2),
        (["path=bridge", "sampler=em", "sampler.diffusion.sigma=0.3"], 0.3),
        (["path=bridge", "sampler=em", "sampler.diffusion.sigma=0.5"], 0.5),  # the default, typed
        (["path=bridge", "sampler=em", "diffusion=bump"], 1.0),
        (["path=icfm", "sampler=em"], 0.5),
    ],
    ids=str,
)
def test_sigma_is_that_of_the_bridge(words: list[str], sigma: float) -> None:
    """Where nothing says another; icfm is no Brownian bridge."""
    config, _ = resolve_latest(composed("sample", ["run=oracle", "dataset=gmm", *words]))
    assert config["sampler"]["diffusion"]["sigma"] == sigma


def test_noise_that_is_left_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The samples of icfm follow the data widened by its sigma: 1.41 times a std that is as small."""
    words = "sample run=oracle dataset=gaussian dataset.std=0.1 path=icfm n=4000 steps=100 pictures=none"
    assert main(words.split()) == 0
    said = capsys.readouterr()
    assert "samples follow the data widened by it, 1.41 times its std of 0.1" in said.err
    assert "within mode std  1.4" in said.out
    assert main([*words.split(), "last=denoise", "seed=1"]) == 0
    said = capsys.readouterr()
    assert "widened" not in said.err and "within mode std  0.7" in said.out  # E[z|x] alone is narrower: 1/1.41


def test_the_bridge_process_has_its_drift() -> None:
    """u + sigma^2/2 s with the bridge's own sigma is (E[z|x] - x)/(1 - t), regular at t = 0 (Brownian bridge to E[z|x])."""
    field = exact(Bridge(0.8))
    x = jax.random.normal(KEY, (6, 2))
    process = GenerativeProcess(field, Constant(0.8))
    for t in (0.0, 0.3, 0.9):
        drift, data = (np.asarray(jax.vmap(partial(one, t=t))(x)) for one in (process.drift_at, field.data))
        np.testing.assert_allclose(drift, (data - x) / (1 - t), rtol=2e-4, atol=2e-4)


def test_prior_from_adds_the_paths_noise() -> None:
    y, z = jnp.ones((5000, 1)), 3 * jnp.ones((5000, 1))
    x = np.asarray(prior_from(Bridge(2.0), jnp.asarray(0.25), y, KEY, z))
    assert x.mean() == pytest.approx(0.75 + 0.75, abs=0.06) and x.std() == pytest.approx(2 * np.sqrt(3) / 4, rel=0.05)
    assert np.ptp(np.asarray(prior_from(OT(), jnp.asarray(0.25), y, KEY, z))) == 0


def needs(sampler: Sampler) -> str:
    return sampler.needs


def test_what_samplers_need_of_a_field() -> None:
    """Those that step any process take a field between two laws: the ODE's by its velocity alone."""
    found = {name: needs(kind()) for name, kind in SAMPLERS.items()}
    assert {name for name, need in found.items() if need == "score"} == {"em", "stochastic_heun", "langevin"}
    velocity = {"euler", "midpoint", "heun", "rk4", "ab2", "ab3", "adaptive", "best"}
    assert {name for name, need in found.items() if need == "velocity"} == velocity
    assert needs(EulerMaruyama()) == "score"


def test_backward_says_the_paths_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """From t=1 to 0, printed and written; no weights of one mode; advice that is not refused."""
    monkeypatch.chdir(tmp_path)
    words = "run=oracle source=gaussian dataset=8gaussians path=bridge sampler=em sigma=3 steps=8 n=20 save_every=4 pictures=none"
    assert main(["sample", *words.split(), "direction=backward", "hydra.run.dir=out"]) == 0
    said = capsys.readouterr()
    assert "from t=1 to 0" in said.out and "mode weight kl" not in said.out
    assert not any(word in said.out + said.err for word in ("sampler=exponential", "sampler=ddim"))
    np.testing.assert_allclose(np.load("out/trajectory.npz")["times"], [1, 0.5, 0])


def test_advice_between_two_laws_runs_there() -> None:
    """Neither sampler=exponential, which is refused, nor diffusion=vanishing where no noise is added."""
    for sigma in (0.0, 3.0):
        said = mend(EulerMaruyama(Constant(sigma)), gaussian=False)
        assert "exponential" not in said and ("vanishing" in said) == (sigma > 0)
