"""What is said before anything runs: stability against its closed form, ends against the fields that are infinite there."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures, predictions
from diffsde.cli.main import main
from diffsde.datasets.mixture import Ring
from diffsde.errors import UserError
from diffsde.expressions import evaluate_expression
from diffsde.fields import NetworkField, OracleField
from diffsde.metrics.mixture import MixtureFigures, mixture_figures
from diffsde.mixtures import Mixture
from diffsde.paths import GAUSSIAN, PATHS, Expression, GaussianPath, coefficients, written
from diffsde.samplers import SAMPLERS, LoopSettings, simulate_compiled, times
from diffsde.samplers.diffusions import Constant, Memoryless, Vanishing
from diffsde.samplers.exponential import DDIM, Exponential
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import prior
from diffsde.samplers.ode import Euler, Heun
from diffsde.samplers.sampler import Sampler
from diffsde.samplers.sde import EulerMaruyama, StochasticHeun
from diffsde.stability import UntrainedField, amplification_factor, choose_last_step, instability
from diffsde.types import Moments, PredictionType, register

MOMENTS = Moments(jnp.zeros(2), jnp.asarray(1.0))


@pytest.mark.parametrize("name", [name for name in GAUSSIAN if name != "expression"])
def test_what_is_written_is_what_is_computed(name: str, x64: None) -> None:
    """A path's formula, read back by the grammar of expressions with its numbers put in, is its alpha and beta."""
    path = PATHS[name]()
    alpha_text, beta_text = written(path)
    for t in (0.0, 0.3, 0.8, 1.0):
        alpha = evaluate_expression(alpha_text, {"t": jnp.asarray(t)})
        beta = evaluate_expression(beta_text, {"t": jnp.asarray(t), "alpha": alpha})
        np.testing.assert_allclose([alpha, beta], [path.alpha(t), path.beta(t)], rtol=1e-5, atol=1e-6)


def test_an_expression_is_written_as_the_user_wrote_it() -> None:
    assert written(Expression(alpha_t="t**2", beta_t="1-t")) == ("t**2", "1-t")
    assert written(Expression(alpha_t="t", variance_t="1-t**2")) == ("t", "sqrt(1-t**2)")


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_growth_on_a_point_is_its_closed_form(sigma: float, x64: None) -> None:
    """Data at one point, on ot: a step of Euler-Maruyama multiplies x by 1 - h/(1-t) - h sigma^2/(2 (1-t)^2)."""
    path = PATHS["ot"]()
    at = times(UniformGrid(), 50, path)
    t, h = np.asarray(at[:-1]), np.diff(np.asarray(at))
    expected = 1 - h / (1 - t) - h * sigma**2 / (2 * (1 - t) ** 2)
    np.testing.assert_allclose(
        amplification_factor(EulerMaruyama(Constant(sigma)), path, at, 0.0), expected, rtol=1e-9, atol=1e-9
    )


def test_the_unstable_steps_are_those_past_the_known_limit(x64: None) -> None:
    """sigma = 0.5 on ot, data at a point: |amplification_factor| > 1 where h sigma^2/(2 b^2) + h/b > 2, b = 1 - t; the message names them."""
    path = PATHS["ot"]()
    at = times(UniformGrid(), 200, path)
    b = 1 - np.arange(200) / 200
    wild = np.flatnonzero(0.005 * 0.25 / (2 * b**2) + 0.005 / b > 2.05)
    message = instability(EulerMaruyama(Constant(0.5)), path, at, "mean", 0.0)
    assert message is not None
    assert f"unstable in {len(wild)} of 200 steps, t={wild[0] / 200:g} to 1" in message
    assert "by up to 25" in message  # the last step multiplies by -sigma^2/(2h)
    assert f"in {len(wild) - 1} of 200" in str(instability(EulerMaruyama(Constant(0.5)), path, at, "denoise", 0.0))


def test_what_is_said_to_mend_it_does() -> None:
    """Fewer noise near the data, the exponential step, thick data, or no noise: nothing to warn of."""
    path = PATHS["ot"]()
    at = times(UniformGrid(), 200, path)
    for sampler in (
        Exponential(Constant(0.5)),
        EulerMaruyama(Vanishing(1.0)),
        EulerMaruyama(Constant(0.0)),
        Euler(),
        DDIM(),
    ):
        assert instability(sampler, path, at, "mean", 0.0) is None
    assert instability(EulerMaruyama(Constant(0.5)), path, at, "mean", 1.0) is None


def test_trap_one_is_real() -> None:
    """Data at nearly a point: where instability is said, more steps make it worse; where it is not, the samples are right."""
    path = PATHS["ot"]()
    field = OracleField(path, Mixture(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-8), jnp.ones(1)), (1,))
    x = jax.random.normal(jax.random.key(0), (4000, 1))

    def spread(sampler: EulerMaruyama, steps: int) -> float:
        at = times(UniformGrid(), steps, path)
        return float(simulate_compiled(sampler, field, x, at, jax.random.key(1)).x.std())

    unstable, stable = EulerMaruyama(Constant(0.5)), EulerMaruyama(Vanishing(1.0))
    assert spread(unstable, 200) > 5 * spread(unstable, 50) > 1
    assert spread(stable, 200) < spread(stable, 50) < 0.1


def test_even_polynomials_are_seen_too() -> None:
    """Stochastic Heun's factor is 1 - z + z^2/2, never negative: it is amplification_factor beyond the law's own that is said."""
    path = PATHS["ot"]()
    at = times(UniformGrid(), 250, path)
    assert "unstable" in str(instability(StochasticHeun(Constant(2.0)), path, at, "mean", 0.0025))
    assert "a smaller sigma" in str(instability(EulerMaruyama(Vanishing(50.0)), path, at, "mean", 0.0025))


def untrained(path: str, kind: str, precondition: bool) -> UntrainedField:
    return UntrainedField(PATHS[path](), MOMENTS, kind, precondition)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "kind", "precondition", "sampler", "expected"),
    [
        ("ot", "velocity", True, Heun(), "mean"),
        ("sqrt", "velocity", True, Euler(), "mean"),
        ("sqrt", "velocity", True, Heun(), "denoise"),  # its velocity is infinite at t = 1
        ("ot", "velocity", True, DDIM(), "mean"),
        ("vp", "noise", False, DDIM(), "mean"),  # alpha(0) > 0
        ("ot", "noise", False, DDIM(), "grid.start"),  # from noise, nothing is known of the data at alpha = 0
        ("ot", "velocity", True, EulerMaruyama(Memoryless(1.0)), "grid.start"),
        ("ot", "data", False, Euler(), "mean"),
        ("ot", "data", False, Heun(), "denoise"),  # from data, nothing is known of the noise at beta = 0
    ],
)
def test_ends(path: str, kind: str, precondition: bool, sampler: object, expected: str) -> None:
    """The policy that `auto` takes, or what is refused, follows from the determinant and the coefficients alone."""
    field = untrained(path, kind, precondition)
    at = times(UniformGrid(), 20, field.path)
    if expected == "grid.start":
        with pytest.raises(UserError, match=expected):
            choose_last_step(sampler, field, at, "auto")  # type: ignore[arg-type]
    else:
        assert choose_last_step(sampler, field, at, "auto") == expected  # type: ignore[arg-type]


@partial(register, static=["kind", "precondition"])
@dataclasses.dataclass(frozen=True)
class NearlyExact(NetworkField):
    """A network that is right about a mixture but for error sin(3 x) in its output: what training leaves."""

    path: GaussianPath
    moments: Moments
    kind: PredictionType
    precondition: bool
    mixture: Mixture
    error: float

    def network(self, x: jax.Array, t: jax.Array) -> jax.Array:
        c = coefficients(self.path, t)
        wrong = self.error * jnp.sin(3 * x)
        if self.precondition:
            x = x * predictions.total_std(c, self.moments) + c.alpha * self.moments.mean
        known = mixtures.predict(self.mixture, x, c)
        if self.precondition:
            return predictions.network_target(known.data, known.noise, c, self.moments) + wrong
        return getattr(known, self.kind) + wrong


def nearly_exact(path: str, kind: str, precondition: bool, error: float = 0.02) -> NearlyExact:
    mixture = Ring().mixture()
    return NearlyExact(PATHS[path](), mixtures.moments(mixture), kind, precondition, mixture, error)  # type: ignore[arg-type]


def figures_of(
    sampler: Sampler, field: NearlyExact | OracleField, grid: UniformGrid, steps: int = 250
) -> MixtureFigures:
    """Of 4000 samples of gmm that start where `sample` lets them, by the last step that is decided."""
    at, data = times(grid, steps, field.path), Ring()
    last = choose_last_step(sampler, field, at, "auto")
    z = data.draw_by_index(data.load(), jax.random.key(4), 4_000) if grid.start else None
    x0 = prior(field.path, at[0], (2,), jax.random.key(4), 4_000, z)
    return mixture_figures(
        data.mixture(), simulate_compiled(sampler, field, x0, at, jax.random.key(5), settings=LoopSettings(last)).x
    )


def advised(words: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"grid\.(start|end)=([0-9.]*[0-9])", words)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "field", "steps"),
    [
        (Heun(), nearly_exact("ot", "noise", False), 250),
        (DDIM(), nearly_exact("ot", "score", False), 250),
        (EulerMaruyama(Constant(0.5)), nearly_exact("trig", "noise", False), 250),
        (SAMPLERS["adaptive"](), nearly_exact("ot", "noise", False), 1),
        (EulerMaruyama(Memoryless(1.0)), nearly_exact("ot", "velocity", True), 250),
        (StochasticHeun(Memoryless(1.0)), OracleField(PATHS["ot"](), Ring().mixture(), (2,)), 250),
        (SAMPLERS["edm"](), nearly_exact("ot", "velocity", True), 250),
        (SAMPLERS["ald"](), OracleField(PATHS["ot"](), Ring().mixture(), (2,)), 250),
        (SAMPLERS["adaptive"](), nearly_exact("sqrt", "velocity", True), 1),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else None,
)
def test_the_start_and_the_end_that_are_advised_are_right(
    sampler: Sampler, field: NearlyExact | OracleField, steps: int
) -> None:
    """Followed to the letter, on a network with an error of 0.02: within-mode std and weights of the mixture to a few percent."""
    with pytest.raises(UserError) as refused:
        figures_of(sampler, field, UniformGrid(), steps)
    said = advised(str(refused.value))
    assert said
    found = figures_of(sampler, field, dataclasses.replace(UniformGrid(), **said), steps)
    assert found.within_mode_std == pytest.approx(1, abs=0.05)
    assert found.cross_entropy == pytest.approx(5.222, abs=0.08)
    assert found.mode_weight_kl < 0.005


@pytest.mark.slow
def test_a_trained_network_of_the_noise_samples_as_it_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """objective=noise precondition=false on ot: within-mode std 1 within 6%; from t = 0.001, once advised, it was 1.9."""
    monkeypatch.chdir(tmp_path)
    train = "train dataset=gmm path=ot objective=noise precondition=false steps=2000 hydra.run.dir=run"
    assert main(train.split()) == 0
    capsys.readouterr()
    words = ["sample", "run=run", "n=4000", "plots=false", "hydra.run.dir=out"]
    assert main(words) == 2
    ((name, value),) = advised(capsys.readouterr().err).items()
    assert main([*words, f"grid.{name}={value}"]) == 0
    with np.load("out/samples.npz") as archive:
        found = mixture_figures(Ring().mixture(), jnp.asarray(archive["x"]))
    assert found.within_mode_std == pytest.approx(1, abs=0.06)
    assert found.mode_weight_kl < 0.01


def test_what_is_said_of_the_last_step_is_right() -> None:
    """A mean step to t = 1 of a raw network of the data is refused, and denoise is right in its place; so are 50 steps for one."""
    field = nearly_exact("ot", "data", False)
    at = times(UniformGrid(), 50, field.path)
    with pytest.raises(UserError, match="say last=denoise"):
        choose_last_step(Heun(), field, at, "mean")
    assert choose_last_step(Heun(), field, at, "denoise") == "denoise"
    with pytest.raises(UserError, match="steps=50"):
        choose_last_step(Heun(), field, times(UniformGrid(), 1, field.path), "auto")
    assert figures_of(Heun(), field, UniformGrid(), 50).within_mode_std == pytest.approx(1, abs=0.05)


UNSTABLE = [
    (EulerMaruyama(Constant(2.0)), [EulerMaruyama(Vanishing(2.0)), Exponential(Constant(2.0))], 1),
    (EulerMaruyama(Vanishing(50.0)), [EulerMaruyama(Vanishing(5.0)), Exponential(Vanishing(50.0))], 16),
    (SAMPLERS["ald"](step_size=3.0), [SAMPLERS["ald"](step_size=0.3), Exponential()], 1),
]


@pytest.mark.parametrize(("sampler", "instead", "more"), UNSTABLE, ids=["constant", "vanishing", "ald"])
def test_each_thing_that_mends_an_unstable_step_does(sampler: Sampler, instead: list[Sampler], more: int) -> None:
    """Data of variance 1/400: the words of the message, one after another, leave nothing to say."""
    path, start = PATHS["ot"](), UniformGrid(start=0.01)
    said = str(instability(sampler, path, times(start, 250, path), "mean", 0.0025))
    assert "unstable" in said and "sampler=exponential" in said
    for other in instead:
        assert instability(other, path, times(start, 250, path), "mean", 0.0025) is None
    if more > 1:
        assert "more steps" in said
        assert instability(sampler, path, times(start, more * 250, path), "mean", 0.0025) is None


def test_one_step_through_an_infinite_end_is_refused() -> None:
    field = untrained("sqrt", "velocity", True)
    for sampler, says in (
        (Heun(), r"the one step.*take more, e\.g\. steps=50"),
        (SAMPLERS["adaptive"](), r"infinite at t=1; .*grid\.end"),
    ):
        with pytest.raises(UserError, match=says):
            choose_last_step(sampler, field, times(UniformGrid(), 1, field.path), "auto")


EXPLAINED = [
    (
        "",
        [
            r"x_t = \(t\) z \+ \(1-t\) eps",
            r"order 2, 32 steps \(for the exact field\), 64 evaluations",
            "nothing speaks against it",
        ],
    ),
    (
        "path=sqrt sampler=em",
        [
            "dbeta is infinite",
            "weight: balanced",
            r"weak order 1, 128 steps \(for the exact field\), 128 eval",
            r"sigma_t\n",
        ],
    ),
    ("sampler=em diffusion=memoryless", ["refused: grid.start"]),
    ("sampler=pc grid.start=0.01", [r"128 steps \(for Gaussian data\), 255 evaluations"]),
    ("sampler=adaptive sampler.rtol=0 sampler.atol=1e-12", ["refused: .*loosen sampler.rtol"]),
    (
        "path=vp objective=score objective.weight=unit time=uniform",
        [r"y = -eps/\(sqrt\(1-alpha\*\*2\)\)", "warning: the score loss"],
    ),
    ("path=ve", [r"beta = 0\.01, not 0: samples keep noise", r"50/0\.01|0\.01\*\(50"]),
    ("sampler=adaptive", ["as many evaluations as the tolerance needs"]),
]


@pytest.mark.parametrize(("line", "says"), EXPLAINED, ids=[line or "default" for line, _ in EXPLAINED])
def test_explain(
    line: str, says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The equations, limits, cost and warnings are printed; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main(["explain", *line.split()]) == 0
    text = capsys.readouterr().out
    for part in says:
        assert re.search(part, text), (part, text)
    assert list(tmp_path.iterdir()) == []


def test_sample_warns_of_a_thin_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """run=oracle of finite data by Euler-Maruyama: one line on stderr, before the samples."""
    monkeypatch.chdir(tmp_path)
    np.save("points.npy", np.random.default_rng(0).normal(size=(50, 2)))
    words = "run=oracle dataset=array dataset.file=points.npy path=ot n=20 plots=false"
    assert main(["sample", *words.split(), "sampler=em"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: on data on a thin set") and error.count("\n") == 1
    assert main(["sample", *words.split(), "sampler=exponential"]) == 0
    assert capsys.readouterr().err == ""
