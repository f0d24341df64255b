"""The marginal target: one gradient in expectation, L_CFM = L_FM + const, no variance but that of x_t, and the finite-data optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import made

from diffsde import empirical
from diffsde.cli.main import composed
from diffsde.datasets import DATASETS, Examples
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField
from diffsde.marginal_targets import with_marginal_targets
from diffsde.objectives import OBJECTIVES, resolve_weight, training_loss
from diffsde.runs.train_config import train_choices
from diffsde.training import Run, examples, loss_floor, mean_gradient

REGRESSIONS = ["cfm", "score"]  # a weight that is even and one that is not


def of_mixture(objective: str) -> tuple[Run, Any]:
    """A run on the mixture of 11 components, and a network's parameters."""
    run, params = made()
    dataset = DATASETS["gmm"]()
    law = dataset.load()
    moments = dataset.moments(law, jax.random.key(0))
    problem = dataclasses.replace(run.problem, objective=OBJECTIVES[objective](), moments=moments)
    return dataclasses.replace(run, dataset=dataset, arrays=law, problem=resolve_weight(problem)), params


@pytest.mark.parametrize("objective", REGRESSIONS)
def test_the_losses_differ_by_the_floor(objective: str) -> None:
    """Of one network and the same examples: E(L_CFM - L_FM) is the floor, E Var(y | x_t), by another formula (loss_floor)."""
    run, params = of_mixture(objective)
    batch = examples(run, jax.random.key(3), 4096)
    batch = with_marginal_targets(run.problem, run.arrays, batch, 0)
    against, own = jax.jit(jax.vmap(lambda part: training_loss(run.problem, params, part)))(batch)
    floor, error = loss_floor(run, run.arrays, jax.random.key(4), 16_384)
    apart = np.asarray(own - against, np.float64)
    assert abs(apart.mean() - float(floor)) < 4 * np.hypot(apart.std() / 64, float(error))
    assert against.mean() < 0.5 * own.mean() or objective in ("noise", "score")


def test_gradients_have_one_mean_and_less_variance() -> None:
    run, params = of_mixture("cfm")

    @jax.jit
    def gradients(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = examples(run, key, 64)
        both = batch, with_marginal_targets(run.problem, run.arrays, batch, 0)
        found = (mean_gradient(run.problem, params, each, 1)[1] for each in both)
        return tuple(jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(each)]) for each in found)  # type: ignore[return-value]

    plain, marginal = (np.asarray(each) for each in jax.lax.map(gradients, jax.random.split(jax.random.key(1), 200)))
    error = np.sqrt((plain - marginal).var(axis=0).sum() / 200)
    assert np.linalg.norm((plain - marginal).mean(axis=0)) < 1.5 * error
    assert marginal.var(axis=0).sum() < 0.7 * plain.var(axis=0).sum()


def test_finite_data_have_the_empirical_field() -> None:
    """E[z | x_t] over all points is that of empirical.predict, by another route, too."""
    run, _ = of_mixture("cfm")
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    batch = examples(run, jax.random.key(0), 32)
    batch = batch._replace(z=jnp.asarray(points[np.arange(32)]), t=jnp.linspace(0.05, 0.9, 32))
    found = with_marginal_targets(run.problem, Examples(jnp.asarray(points), None), batch, 0).mean
    field = EmpiricalField(run.problem.path, empirical.arrange(points), 40, (2,))
    alpha, beta = batch.t[:, None], 1 - batch.t[:, None]  # path=ot
    wanted = jax.vmap(field.data)(alpha * batch.z + beta * batch.eps, batch.t)
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dataset=moons", "of dataset=moons it is not known"),
        ("posterior_points=64", "posterior_points is 64"),
        ("source=moons", "objective.target=marginal is of Gaussian paths"),
        ("objective.target=exact", "choose one of conditional, marginal"),
    ],
)
def test_choices_that_contradict_the_marginal_target(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_choices(composed("train", ["objective.target=marginal", *words.split()]))
