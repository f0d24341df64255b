"""Averaged targets: the posterior of few points by hand, the right conditional mean whatever their number, the same loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import made

from diffsde import mixtures
from diffsde.objectives import Draw, training_loss
from diffsde.paths import coefficients
from diffsde.posterior_targets import Points, posterior_groups, posterior_means
from diffsde.training import examples, mean_gradient
from diffsde.types import Moments

MOMENTS = Moments(jnp.array([0.5, -1.0]), jnp.asarray(2.0))


def by_hand(x: np.ndarray, alpha: float, beta: float, z: np.ndarray) -> np.ndarray:
    """sum_j w_j z_j of one x, w_j the densities N(x; alpha z_j, beta^2 I), normalised."""
    w = np.array([np.exp(-np.sum((x - alpha * point) ** 2) / (2 * beta**2)) for point in z])
    return w @ z / w.sum()


def test_posterior_of_few_points() -> None:
    """Of four points, two of each label; an example whose label is hidden is averaged over all."""
    random = np.random.default_rng(0)
    z, eps = random.normal(size=(2, 4, 2))
    alpha, beta = np.array([0.1, 0.4, 0.7, 0.4]), np.array([0.9, 0.5, 0.3, 0.6])
    label, told = np.array([0, 1, 1, 0]), np.array([0, -1, 1, 0])
    found = posterior_means(*map(jnp.asarray, (z, eps, alpha / beta)), Points(z, label), MOMENTS, told)
    without = posterior_means(*map(jnp.asarray, (z, eps, alpha / beta)), Points(z), MOMENTS, None)
    for i in range(4):
        x = alpha[i] * z[i] + beta[i] * eps[i]
        np.testing.assert_allclose(without[i], by_hand(x, alpha[i], beta[i], z), rtol=1e-5)
        same = np.ones(4, bool) if told[i] < 0 else label == told[i]
        np.testing.assert_allclose(found[i], by_hand(x, alpha[i], beta[i], z[same]), rtol=1e-5)


def test_where_x_tells_z_the_target_is_z() -> None:
    z, eps = np.random.default_rng(1).normal(size=(2, 50, 2)).astype(np.float32)
    found = posterior_means(z, eps, jnp.full(50, 1e6), Points(z), MOMENTS, None)
    np.testing.assert_array_equal(found, z)  # to the bit: alpha/beta times a rounding would be added to the noise


def test_weights_are_computed_in_full_float32() -> None:
    """By a GPU's usual products of 10 bits log w_j would be wrong by 100 where alpha/beta is large; CPUs have no such."""
    z = jnp.zeros((4, 2))
    program = jax.make_jaxpr(lambda z: posterior_means(z, z, jnp.ones(4), Points(z), MOMENTS, None))(z)
    products = [each for each in program.jaxpr.eqns if each.primitive.name == "dot_general"]
    highest = jax.lax.Precision.HIGHEST
    assert products and all(each.params["precision"] == (highest, highest) for each in products)


@pytest.mark.parametrize("points", [2, 16])
def test_the_conditional_mean_stays_and_the_variance_falls(points: int) -> None:
    """z ~ N(0, 1), x = z + eps: the slope of E[z|x] is 1/2 for sets of any size, and targets scatter less about it."""
    sets, key = 20_000, jax.random.key(0)
    z, eps = jax.random.normal(key, (2, sets, points, 1))
    moments = Moments(jnp.zeros(1), jnp.asarray(1.0))

    def means(z: jax.Array, eps: jax.Array) -> jax.Array:
        return posterior_means(z, eps, jnp.ones(points), Points(z), moments, None)

    target, x = np.asarray(jax.vmap(means)(z, eps))[..., 0], np.asarray(z + eps)[..., 0]
    of_sets = np.mean(target * x, axis=1) / 2  # E[x^2] = 2; each set is independent of the others
    assert abs(of_sets.mean() - 0.5) < 4 * of_sets.std() / np.sqrt(sets)
    assert np.var(target - x / 2) < (0.45 if points == 2 else 0.1)  # of z itself 0.5


@pytest.mark.slow
def test_examples_are_the_same_and_their_mean_loss_too() -> None:
    """The points change the target of the gradient alone: not z, eps, t, nor the loss that is logged."""
    run, params = made()
    plain, averaged = (examples(run, jax.random.key(3), 64, points) for points in (0, 64))
    assert plain.mean is None and averaged.mean is not None
    for name in ("z", "eps", "t"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(averaged, name))
    assert not np.allclose(averaged.mean, plain.z, atol=0.1)
    (loss, gradient), (same, other) = (mean_gradient(run.problem, params, batch, 1) for batch in (plain, averaged))
    assert float(loss) == pytest.approx(float(same), rel=1e-6)
    assert any(not np.allclose(gradient[name], other[name], rtol=1e-3) for name in gradient)


def test_of_the_exact_mean_the_exact_field_loses_nothing() -> None:
    """Of a Gaussian the exact output is 0, and so is F* of E[z|x] with the noise that belongs to it."""
    run, params = made()
    exact = {name: leaf * 0 if name.startswith("layers/1/") else leaf for name, leaf in params.items()}
    batch = examples(run, jax.random.key(6), 64)
    c = jax.vmap(lambda t: coefficients(run.problem.path, t))(batch.t)
    x = c.alpha[:, None] * batch.z + c.beta[:, None] * batch.eps
    known = jax.vmap(lambda x, c: mixtures.predict(run.arrays, x, c))(x, c)
    against, own = jax.vmap(lambda one: training_loss(run.problem, exact, one))(batch._replace(mean=known.data))
    assert float(jnp.max(against)) < 1e-8 < 0.1 < float(jnp.mean(own))


@pytest.mark.slow
def test_gradient_keeps_its_expectation_and_loses_variance() -> None:
    """Over 300 batches of 64 the mean gradients agree within their errors; those of averaged targets scatter less."""
    run, params = made()

    def gradient(key: jax.Array, points: int) -> jax.Array:
        found = mean_gradient(run.problem, params, examples(run, key, 64, points), 1)[1]
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])

    keys = jax.random.split(jax.random.key(5), 300)
    plain, averaged = (
        np.asarray(jax.jit(lambda keys, n=n: jax.lax.map(lambda key: gradient(key, n), keys))(keys)) for n in (0, 256)
    )
    difference = plain - averaged
    error = difference.std(axis=0) / np.sqrt(len(keys)) + 1e-7
    assert np.sqrt(np.mean((difference.mean(axis=0) / error) ** 2)) < 1.5  # 1 but for what 300 batches leave open
    assert averaged.var(axis=0).sum() < 0.8 * plain.var(axis=0).sum()


def test_a_large_batch_is_averaged_in_parts() -> None:
    assert [posterior_groups(*sizes) for sizes in ((512, 1024), (4096, 1024), (1500, 512), (1000, 300), (64, 64))] == [
        1,
        4,
        2,
        2,
        1,
    ]
    run, _ = made()
    whole = examples(run, jax.random.key(4), 64, 16)
    first: Draw = jax.tree.map(lambda leaf: leaf[:16], whole)
    ratio = first.t / (1 - first.t)
    own = posterior_means(first.z, first.eps, ratio, Points(first.z), run.problem.moments, None)
    np.testing.assert_allclose(own, first.mean, rtol=1e-4, atol=1e-5)


def test_resume_of_a_run_without_points() -> None:
    """A config.json from before there were any has none of them: targets are their own."""
    from diffsde.runs.train_config import TrainConfig

    fields = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    assert fields["posterior_points"] == 0
