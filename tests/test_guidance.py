"""Labels in training and sampling, and guidance, against the exact conditional laws of a mixture."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import mixtures, predictions
from diffsde.datasets.digits import Digits
from diffsde.datasets.finite import as_points
from diffsde.datasets.mixture import CustomMixture, Ring
from diffsde.errors import UserError
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.table import METRICS, name_of_fit
from diffsde.fields import Field, LearnedField, OracleField
from diffsde.guidance import Autoguided, Classifier, ClassifierFree, ClassifierGuided
from diffsde.learned_interpolant import LearnedInterpolant
from diffsde.metrics.figures import Figure
from diffsde.mixtures import Mixture
from diffsde.nets import MLP, Mixer, initialise, structure
from diffsde.nets import ClassifierNet as WithLogits
from diffsde.objectives import Classification, Draw, Problem, VelocityMatching, loss
from diffsde.optimizers import Adam, hidden
from diffsde.paths import GAUSSIAN, OT, PATHS, coefficients
from diffsde.runs.load_field import check_alike
from diffsde.samplers import SAMPLERS, LoopSettings, simulate_compiled
from diffsde.samplers.ode import Heun
from diffsde.time_distributions import Uniform
from diffsde.training import Run, examples, loss_floor, start, train_steps
from diffsde.types import Array, Moments, Prediction

LAW = CustomMixture(means=((-2.0, 0.0), (1.0, 1.5), (0.5, -2.0)), stds=(0.4, 0.7, 0.5), weights=(0.5, 0.2, 0.3))
MIXTURE = LAW.mixture()
NAMED = [name for name in GAUSSIAN if name != "expression"]
POINT = jnp.array([0.4, -0.3])
MOMENTS = Moments(jnp.array([0.3, -0.2]), jnp.asarray(1.9))


@jax.jit
def output(field: Field, x: Array, t: Any) -> Prediction:
    """What a field says at one point; compiled, as op by op it takes seconds."""
    return field.output(x, t)


def oracle(path: str = "ot") -> OracleField:
    return OracleField(PATHS[path](), MIXTURE, (2,))


def close(one: Prediction, other: Prediction, **how: float) -> None:
    for name, a, b in zip(Prediction._fields[:4], one[:4], other[:4], strict=True):
        np.testing.assert_allclose(a, b, err_msg=name, **how)  # type: ignore[arg-type]


def alone(label: int) -> Mixture:
    return Mixture(MIXTURE.means[label][None], MIXTURE.variances[label][None], jnp.ones(1))


def test_a_label_leaves_one_component() -> None:
    for label in range(3):
        by_itself = OracleField(OT(), alone(label), (2,))
        close(output(oracle().bind(label), POINT, 0.4), output(by_itself, POINT, 0.4), rtol=1e-5)
    for none in (3, None):
        close(output(oracle().bind(none), POINT, 0.4), output(oracle(), POINT, 0.4), rtol=1e-6)


def test_labels_drawn_are_the_components() -> None:
    x, k = mixtures.sample_labelled(MIXTURE, jax.random.key(0), 100_000)
    for label in range(3):
        mine = np.asarray(x)[np.asarray(k) == label]
        error = 4 * 0.7 / np.sqrt(len(mine))
        np.testing.assert_allclose(mine.mean(axis=0), MIXTURE.means[label], atol=error)
        assert abs(len(mine) / 100_000 - float(MIXTURE.weights[label])) < 0.007


def test_samples_of_labels_lie_in_their_components() -> None:
    labels = jnp.array([2, 0, 1] * 3000)
    x0 = jax.random.normal(jax.random.key(0), (9000, 2))
    x = simulate_compiled(Heun(), oracle(), x0, jnp.linspace(0, 1, 41), jax.random.key(1), labels).x
    for label in range(3):
        mine, law = np.asarray(x)[np.asarray(labels) == label], alone(label)
        spread = float(jnp.sqrt(law.variances[0, 0]))
        np.testing.assert_allclose(mine.mean(axis=0), law.means[0], atol=4 * spread / np.sqrt(3000))
        np.testing.assert_allclose(mine.std(axis=0), spread, rtol=0.06)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("unipc", "pc")]


@pytest.mark.parametrize("name", ["heun", "em", "ab3", *SLOW])
def test_each_sample_has_its_own_label(name: str) -> None:
    """With labels bound sample by sample, each comes out as it does when all are given its label; in chunks too."""
    sampler, labels = SAMPLERS[name](), jnp.array([0, 2, 1, 3, 1])
    x0, times, key = jax.random.normal(jax.random.key(0), (5, 2)), jnp.linspace(0.01, 0.99, 9), jax.random.key(1)
    mixed = simulate_compiled(sampler, oracle(), x0, times, key, labels, settings=LoopSettings(chunk=2)).x
    for label in range(4):
        every = simulate_compiled(sampler, oracle().bind(label), x0, times, key, settings=LoopSettings(chunk=5)).x
        np.testing.assert_allclose(mixed[labels == label], every[labels == label], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", NAMED)
def test_a_guided_field_is_consistent(path: str) -> None:
    """Its four predictions are still one prediction: each gives the others by the 2x2 solve."""
    field = ClassifierFree(oracle(path).bind(1), 2.5)
    t = 0.6
    found, c = output(field, POINT, t), coefficients(field.path, t)
    close(predictions.expand(found.data, POINT, c, "data"), found, rtol=2e-4, atol=2e-4)
    with_likelihood_score = predictions.with_likelihood_score(found, jnp.array([0.3, -0.8]), c)
    close(
        predictions.expand(with_likelihood_score.velocity, POINT, c, "velocity"),
        with_likelihood_score,
        rtol=2e-3,
        atol=2e-3,
    )


def test_guidance_by_itself() -> None:
    """score = (1 - w) grad log p(x) + w grad log p(x|label), by autodiff of the exact densities."""
    t, c = 0.3, coefficients(OT(), 0.3)
    densities = [partial(mixtures.log_prob, mixtures.marginal(law, c)) for law in (MIXTURE, alone(2))]
    unguided, toward = (jax.jit(jax.grad(density))(POINT) for density in densities)
    for weight in (0.0, 1.0, 3.0):
        field = ClassifierFree(oracle(), weight).bind(2)
        np.testing.assert_allclose(output(field, POINT, t).score, (1 - weight) * unguided + weight * toward, rtol=1e-4)


def test_guidance_in_an_interval() -> None:
    guided = ClassifierFree(oracle(), 3.0, 0.2, 0.7).bind(0)
    for t in (0.1, 0.19, 0.71, 0.95):
        close(output(guided, POINT, t), output(oracle().bind(0), POINT, t), rtol=1e-6)
    for t in (0.2, 0.5, 0.7):
        close(output(guided, POINT, t), output(ClassifierFree(oracle(), 3.0).bind(0), POINT, t), rtol=1e-6)


def test_a_guide_knows_what_the_field_knows() -> None:
    """Between two laws a field of the velocity alone and one of the score too do not guide one another, nor one of a Gaussian path."""
    moments, nothing = Moments(jnp.zeros(2), 1.0), None
    blind, seeing = (
        LearnedInterpolant(PATHS["bridge"](), nothing, moments, moments, nothing, both, False, True)  # type: ignore[arg-type]
        for both in (False, True)
    )
    for guide, field in ((blind, seeing), (seeing, blind), (OracleField(OT(), MIXTURE, (2,)), seeing)):
        with pytest.raises(UserError, match="train both with the same objective= and coupling="):
            check_alike("run", guide, field)
    for field in (blind, seeing):
        check_alike("run", field, field)


def test_guidance_by_a_worse_field() -> None:
    """Of fields equal everywhere it changes nothing; else it leaves the worse one further behind, told the label too."""
    same = Autoguided(oracle(), oracle(), 4.0).bind(1)
    close(output(same, POINT, 0.4), output(oracle().bind(1), POINT, 0.4), rtol=1e-4)
    broad = OracleField(OT(), MIXTURE._replace(variances=4 * MIXTURE.variances), (2,))
    found = output(Autoguided(oracle(), broad, 2.0).bind(1), POINT, 0.4).data
    expected = 2 * output(oracle().bind(1), POINT, 0.4).data - output(broad.bind(1), POINT, 0.4).data
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class ExactClassifier(Classifier):
    """Responsibilities of the mixture as a classifier, in place of a network."""

    def of_estimate(self, estimate: Array, t: Any) -> Array:
        c = coefficients(self.path, t)
        gain = c.alpha * predictions.linear_gain(c, self.moments)
        x = c.alpha * self.moments.mean + estimate / gain
        return jnp.log(mixtures.responsibilities(mixtures.marginal(MIXTURE, c), x))


@pytest.mark.parametrize("path", NAMED)
def test_an_exact_classifier_makes_the_conditional_field(path: str) -> None:
    """Bayes: grad log p(x) + grad log p(label|x) = grad log p(x|label), for all four predictions."""
    classifier = ExactClassifier(PATHS[path](), None, MOMENTS, None, 3)

    @jax.jit
    def guided(label: Array, t: Array) -> Prediction:
        return ClassifierGuided(oracle(path), classifier, 1.0, label=label).output(POINT, t)  # the field is not told it

    for t in (0.2, 0.7):
        for label in range(3):
            close(guided(label, t), output(oracle(path).bind(label), POINT, t), rtol=3e-3, atol=3e-3)


def small_classifier(path: str = "ot") -> Classifier:
    net = WithLogits(MLP((16,)))
    graph, _ = structure(net, (2,), classes=3)
    return Classifier(PATHS[path](), initialise(net, (2,), jax.random.key(0), 3), MOMENTS, graph, 3)


@pytest.mark.parametrize("path", ["ot", "vp"])  # on every path an exact one is tried above
def test_the_pull_of_a_classifier_is_its_gradient(path: str) -> None:
    classifier = small_classifier(path)

    @jax.jit
    def both(t: Array) -> tuple[Array, Array, Array]:
        log_probs, gradients = classifier.log_probs(POINT, t), jax.jacrev(classifier.log_probs)(POINT, t)
        alpha = coefficients(classifier.path, t).alpha
        return alpha * classifier.likelihood_score(POINT, t, 1), gradients[1], log_probs

    for t in (0.3, 0.8):
        likelihood_score, gradient, log_probs = both(t)
        np.testing.assert_allclose(likelihood_score, gradient, rtol=1e-3, atol=1e-6)
        assert np.isclose(jnp.exp(log_probs).sum(), 1)


@pytest.mark.parametrize("path", ["ot", "sqrt", "trig", "vp"])
def test_classifier_guidance_has_limits_at_both_ends(path: str) -> None:
    """What is regular of the exact field stays so, and is near its value just beside."""
    field = ClassifierGuided(oracle(path), small_classifier(path), 2.0).bind(0)
    for end, beside in ((0.0, 1e-4), (1.0, 1 - 1e-4)):
        at, near = output(field, POINT, end), output(field, POINT, beside)
        for name in ("data", "velocity", "score") if path != "vp" else ("data", "score"):
            np.testing.assert_allclose(getattr(at, name), getattr(near, name), rtol=0.03, atol=0.03, err_msg=name)


def learned(classes: int) -> LearnedField:
    net = MLP((8,))
    params = initialise(net, (2,), jax.random.key(0), classes)
    return LearnedField(OT(), params, MOMENTS, structure(net, (2,), classes=classes)[0], "velocity", True, classes)


def test_an_unconditional_field_takes_no_label() -> None:
    unconditional: list[Field] = [learned(0), ClassifierFree(learned(0), 2.0)]
    for field in unconditional:
        assert field.classes == 0
        with pytest.raises(TypeError, match="unconditional"):
            field.bind(1)
    assert learned(3).classes == 3
    told = [output(learned(3).bind(label), POINT, 0.5).data for label in (0, 1, 3)]
    assert not np.allclose(told[0], told[1])
    np.testing.assert_array_equal(told[2], output(learned(3), POINT, 0.5).data)


def run_of(objective: Any, net: Any, classes: int, dropout: float, steps: int) -> Run:
    graph, _ = structure(net, (2,), classes=classes)
    data = dataclasses.replace(LAW, conditional=True)
    problem = Problem(OT(), objective, Uniform(), mixtures.moments(MIXTURE), graph, True)
    key, average = jax.random.key(1), jnp.asarray([0.99])
    return Run(problem, data, data.load(), Adam(lr=3e-3), key, jnp.asarray(steps), average, 512, classes, dropout)


def test_labels_are_hidden_at_their_rate() -> None:
    run = run_of(VelocityMatching("unit"), MLP((8,)), 3, 0.3, 1)
    drawn = jax.jit(examples, static_argnums=2)(run, jax.random.key(0), 40_000)
    assert drawn.label is not None
    labels = np.asarray(drawn.label)
    assert abs(np.mean(labels == 3) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 40_000)
    for label in range(3):
        np.testing.assert_allclose(np.asarray(drawn.z)[labels == label].mean(axis=0), MIXTURE.means[label], atol=0.05)


def test_the_floor_of_a_conditional_loss_lies_between_those_of_its_parts() -> None:
    """With the chance p of being hidden it is (1 - p) of the conditional floor and p of the unconditional one."""
    floors = {
        dropout: loss_floor(
            run_of(VelocityMatching("unit"), MLP((8,)), 3, dropout, 1), MIXTURE, jax.random.key(2), 50_000
        )
        for dropout in (0.0, 0.25, 0.999999)
    }
    told, between, hidden = (float(value) for value, _ in floors.values())
    assert told < 0.8 * hidden
    assert abs(between - (0.75 * told + 0.25 * hidden)) < 4 * max(float(error) for _, error in floors.values())


def trained(run: Run, net: Any) -> Any:
    state = start(run, initialise(net, (2,), jax.random.key(0), run.classes))
    steps = int(run.steps)
    state, losses = train_steps(run, state, jnp.asarray(steps), chunk=steps)
    return jax.tree.map(lambda leaf: leaf[0], state.ema), np.asarray(losses)


def test_training_learns_each_label() -> None:
    net = MLP((48, 48))
    run = run_of(VelocityMatching("unit"), net, 3, 0.1, 800)
    params, _ = trained(run, net)
    field = LearnedField(OT(), params, run.problem.moments, run.problem.graph, "velocity", True, 3)
    labels = jnp.arange(3).repeat(1000)
    x0 = jax.random.normal(jax.random.key(5), (3000, 2))
    x = simulate_compiled(Heun(), field, x0, jnp.linspace(0, 1, 31), jax.random.key(6), labels).x
    for label in range(3):
        np.testing.assert_allclose(x[labels == label].mean(axis=0), MIXTURE.means[label], atol=0.15)


def test_a_classifier_reaches_the_loss_of_bayes() -> None:
    """-E log p(label | x_t, t) under the exact responsibilities is the least cross-entropy there is."""
    net = WithLogits(MLP((48, 48)))
    run = run_of(Classification(), net, 3, 0.0, 800)
    params, losses = trained(run, net)
    batch = jax.jit(examples, static_argnums=2)(run, jax.random.key(7), 20_000)

    def bayes(sample: Draw) -> Array:
        c = coefficients(OT(), sample.t)
        r = mixtures.responsibilities(mixtures.marginal(MIXTURE, c), c.alpha * sample.z + c.beta * sample.eps)
        return -jnp.log(r[sample.label])

    least = float(jax.jit(jax.vmap(bayes))(batch).mean())
    reached = float(jax.jit(jax.vmap(partial(loss, run.problem, params)))(batch).mean())
    assert least - 0.003 < reached < 1.03 * least < 0.9 * np.log(3) < losses[0]


@pytest.mark.slow
def test_every_network_becomes_a_classifier() -> None:
    """A mixer's output is 0 before it is trained, and so are its logits: the loss is log(classes) exactly."""
    net, shape = WithLogits(Mixer(patch=4, overlap=2, width=16, depth=1)), (8, 8, 1)
    graph, _ = structure(net, shape, classes=10)
    params = initialise(net, shape, jax.random.key(0), 10)
    moments = Moments(jnp.zeros(shape), jnp.ones(()))
    asked = Problem(OT(), Classification(), Uniform(), moments, graph, True)
    draw = Draw(jnp.ones(shape), jnp.ones(shape), jnp.asarray(0.3), jnp.asarray(7))
    value, gradient = jax.jit(jax.value_and_grad(lambda params: loss(asked, params, draw)))(params)
    np.testing.assert_allclose(value, np.log(10), rtol=1e-6)
    assert any(float(jnp.abs(leaf).max()) > 0 for name, leaf in gradient.items() if name.startswith("body/"))


def test_only_keeps_the_labels_asked_for() -> None:
    kept = mixtures.only(Ring().mixture(), np.array([4, 4, 4, 9]))
    np.testing.assert_allclose(kept.weights, [0.75, 0.25])
    np.testing.assert_array_equal(kept.means, Ring().mixture().means[jnp.array([4, 9])])


def figures(x: Any, dataset: Any, key: Any, labels: Any = None) -> dict[str, Figure]:
    """What `sample` measures of samples."""
    subject = Subject(dataset, n=len(x), x=x, labels=None if labels is None else np.asarray(labels))
    return METRICS[name_of_fit(subject)]().measure(subject, key).figures


def test_samples_in_the_wrong_component_are_told_apart() -> None:
    """Points each in another component than asked for are as probable as right ones; their labels' probability is not."""
    labels = jnp.tile(jnp.arange(3), 400)
    eps = jax.random.normal(jax.random.key(0), (1200, 2))
    right, wrong = (mixtures.place(MIXTURE, k, eps) for k in (labels, (labels + 1) % 3))
    found = [figures(x, LAW, jax.random.key(1), labels)["label_probability"] for x in (right, wrong)]
    errors = np.hypot(found[0].error, found[0].reference.error)
    assert abs(found[0].value - found[0].reference.value) < 4 * errors and errors < 0.005
    assert found[1].value < 0.1 < 0.9 < found[1].reference.value


def test_labelled_samples_are_compared_with_points_of_their_labels() -> None:
    """Training images of a label are as near to those of that label as two such sets are; to all images they are not."""
    digits = Digits()
    arrays = digits.load()
    threes = as_points(arrays.x[np.asarray(arrays.y) == 3])[:100]
    labels = jnp.full(100, 3)
    alike = figures(threes, digits, jax.random.key(0), labels)["w2"]
    apart = figures(threes, digits, jax.random.key(0))["w2"]
    assert alike.value < 1.1 * alike.reference.value < 0.9 * apart.value
    drawn = digits.draw_given(arrays, np.array([3, 8]), jax.random.key(1), 50)
    images = np.asarray(as_points(arrays.x))
    for label, x in zip([3, 8] * 25, drawn, strict=True):
        rows = np.flatnonzero((images == x).all(axis=(1, 2, 3)))
        assert label in np.asarray(arrays.y)[rows]


def test_a_classifier_keeps_its_own_input_and_output_from_muon() -> None:
    for net in (MLP((16, 16)), Mixer(patch=4, overlap=2, width=16, depth=1)):
        shape = (8, 8, 1)
        plain = hidden(list(structure(net, shape)[1]))
        assert hidden(list(structure(WithLogits(net), shape, classes=3)[1])) == {f"body/{name}" for name in plain}
