"""Training: the EMA's closed form, independence of the chunking, and descent to the known floor of a Gaussian."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.datasets import CustomMixture
from diffsde.nets import MLP, initialise, structure
from diffsde.objectives import Problem, VelocityMatching
from diffsde.optimizers import Adam, Optimizer
from diffsde.paths import OT
from diffsde.time_distributions import Uniform
from diffsde.training import (
    Run,
    TrainState,
    ema_decay,
    examples,
    loss_floor,
    mean_gradient,
    micro_batches_on_cpu,
    start,
    train_steps,
)
from diffsde.types import Moments

NET = MLP(widths=(8,))
DATA = CustomMixture(means=((1.0, -2.0),), stds=(0.5,))


@cache
def network() -> tuple[Any, Any]:
    """The graph and the parameters of a small network."""
    return structure(NET, (2,))[0], initialise(NET, (2,), jax.random.key(9))


def made(optimizer: Optimizer | None = None, seed: int = 0, ema: float = 0.999, steps: float = 60.0) -> tuple[Run, Any]:
    graph, params = network()
    moments = Moments(jnp.array([1.0, -2.0]), jnp.asarray(0.5))
    problem = Problem(OT(), VelocityMatching("unit"), Uniform(), moments, graph, True)
    chosen = optimizer or Adam(lr=0.01, warmup=5.0)
    run = Run(problem, DATA, DATA.load(), chosen, jax.random.key(seed), jnp.asarray(steps), jnp.asarray([ema]), 64)
    return run, params


def begin(run: Run, params: Any) -> TrainState:
    """A start whose memory may be given away."""
    return start(run, jax.tree.map(jnp.copy, params))


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def test_training_does_not_depend_on_the_chunks() -> None:
    """60 steps are 20 + 40 steps to the bit, losses, parameters, EMA and optimizer state, whatever the chunk's size."""
    run, params = made()
    whole, losses = train_steps(run, begin(run, params), jnp.asarray(60), chunk=60)
    state, first = train_steps(run, begin(run, params), jnp.asarray(20), chunk=60)
    parts, second = train_steps(run, state, jnp.asarray(40), chunk=40)
    assert int(parts.step) == int(whole.step) == 60
    for ours, theirs in zip(leaves(parts), leaves(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.concatenate([first[:20], second]), losses)
    np.testing.assert_array_equal(first[20:], 0)


def test_the_seed_is_all_the_randomness() -> None:
    """The same seed gives the same losses, another seed others."""
    losses = []
    for seed in (0, 0, 1):
        run, params = made(seed=seed)
        losses.append(np.asarray(train_steps(run, begin(run, params), jnp.asarray(3), chunk=60)[1][:3]))
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.any(losses[0] == losses[2])


def test_every_step_has_a_fresh_batch() -> None:
    """With parameters that stand still the losses differ from step to step."""
    run, params = made(Adam(lr=1e-30))
    _, losses = train_steps(run, begin(run, params), jnp.asarray(60), chunk=60)
    assert len(set(np.asarray(losses).tolist())) == 60


def test_ema_forgets_its_start_in_closed_form() -> None:
    """Over n steps of constant parameters the warm-up keeps n! 9!/(n+9)! of the start; past it, the product of the
    decays.
    """
    run, params = made(Adam(lr=1e-30), ema=0.99999)  # too small a rate to move anything in float32
    state = begin(run, params)._replace(ema=jax.tree.map(lambda leaf: leaf[None] + 1, params))
    for n in range(1, 7):
        state, _ = train_steps(run, state, jnp.asarray(1), chunk=60)
        for average, now in zip(leaves(state.ema), leaves(params), strict=True):
            np.testing.assert_allclose(average - now, 1 / math.comb(n + 9, 9), rtol=1e-4, atol=3e-7)
    for now, then in zip(leaves(state.params), leaves(params), strict=True):
        np.testing.assert_allclose(now, then, rtol=0, atol=1e-25)
    steps = jnp.arange(2000)
    capped = np.asarray(jax.vmap(partial(ema_decay, 0.99))(steps), np.float64)
    assert np.all(capped[891:] == np.float32(0.99)) and np.all(capped[:890] < 0.99)  # (1+k)/(10+k) = 0.99 at k = 890
    kept = np.prod(capped)
    assert kept == pytest.approx(0.99 ** (2000 - 890) / math.comb(890 + 9, 9), rel=1e-3)


def test_without_ema_the_average_is_the_parameters() -> None:
    """ema = 0 keeps the last parameters themselves."""
    run, params = made(ema=0.0)
    state, _ = train_steps(run, begin(run, params), jnp.asarray(5), chunk=60)
    for average, now in zip(leaves(state.ema), leaves(state.params), strict=True):
        np.testing.assert_array_equal(average[0], now)


def test_start_shares_no_memory_with_its_ema() -> None:
    """The state may be donated: parameters and EMA are equal but not one buffer."""
    run, params = made()
    state = start(run, params)
    assert int(state.step) == 0
    for average, now in zip(jax.tree.leaves(state.ema), jax.tree.leaves(state.params), strict=True):
        assert average is not now
        assert average.unsafe_buffer_pointer() != now.unsafe_buffer_pointer()


def test_floor_of_a_gaussian() -> None:
    """The velocity floor of N(m, s^2) on ot is the integral of s^2/(t^2 s^2 + (1-t)^2) = s pi/2."""
    run, _ = made()
    value, error = loss_floor(run, DATA.mixture(), jax.random.key(3), 2**14)
    assert abs(float(value) - 0.5 * math.pi / 2) < 4 * float(error) + 1e-5
    assert 0 < float(error) < 0.01


def test_training_descends_to_the_floor() -> None:
    """Fitted to one Gaussian, where F* has conditional mean 0, the loss comes down to the floor and not below."""
    run, params = made(Adam(lr=0.02, warmup=5.0), steps=240.0)
    state, means = begin(run, jax.tree.map(lambda leaf: 3 * leaf, params)), []
    for _ in range(4):
        state, losses = train_steps(run, state, jnp.asarray(60), chunk=60)
        means.append(float(jnp.mean(losses)))
    floor = 0.5 * math.pi / 2
    assert means[0] > 1.5 * floor
    assert means[0] > means[1] > means[3]
    assert abs(means[3] - floor) < 0.05 * floor


@pytest.mark.parametrize(("batch", "parts"), [(1, 1), (1000, 1), (1024, 1), (2048, 2), (4096, 4), (3000, 3), (1031, 1)])
def test_large_batches_are_cut_in_equal_parts(batch: int, parts: int) -> None:
    """Parts of 512 to 1024 examples where there are such; a prime batch stays whole."""
    assert micro_batches_on_cpu(batch) == parts


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_give_the_whole_batchs_gradient(parts: int) -> None:
    """The mean over parts is the mean over the batch, to rounding."""
    run, params = made()
    batch = examples(run, jax.random.key(3), 40)
    whole, cut = (mean_gradient(run.problem, params, batch, n) for n in (1, parts))
    for ours, theirs in zip(leaves(cut), leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
