"""Optimizers: the schedule's closed-form ends, and Adam against optax's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffsde.optimizers import SCHEDULES, Adam, learning_rate


def schedule(lr: float, warmup: float, name: str, steps: int) -> np.ndarray:
    """The rates of steps 0..steps."""
    return np.asarray(jax.vmap(lambda step: learning_rate(lr, warmup, name, steps, step))(jnp.arange(steps + 1)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_is_linear(name: str) -> None:
    """The first rate is lr/(warmup + 1), not 0, and the rate grows in equal steps (constant) up to lr at step
    `warmup`.
    """
    rates = schedule(0.01, 9, name, 10_000)
    assert rates[0] == pytest.approx(0.001, rel=1e-6)
    assert rates[9] == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(np.diff(rates[:10]), 0.001, rtol=1e-2)


def test_constant_stays() -> None:
    """After the warm-up a constant schedule is lr to the end; without one it is lr from the start."""
    np.testing.assert_array_equal(schedule(0.01, 9, "constant", 100)[9:], np.float32(0.01))
    np.testing.assert_array_equal(schedule(0.01, 0, "constant", 100), np.float32(0.01))


def test_cosine_falls_to_zero() -> None:
    """The cosine is lr at the start, lr/2 at half time, 0 at the end and beyond, antisymmetric about its middle:
    optax's.
    """
    rates = schedule(0.01, 0, "cosine", 100)
    assert rates[0] == np.float32(0.01) and rates[50] == pytest.approx(0.005, rel=1e-6)
    assert rates[100] == 0 and float(learning_rate(0.01, 0, "cosine", 100, 150)) == 0
    np.testing.assert_allclose(rates + rates[::-1], 0.01, rtol=1e-6)
    assert np.all(np.diff(rates) < 0)
    np.testing.assert_allclose(
        rates, [optax.cosine_decay_schedule(0.01, 100)(i) for i in range(101)], rtol=1e-6, atol=1e-8
    )


def descend(transform: optax.GradientTransformation, steps: int) -> np.ndarray:
    """Parameters along a minimisation of a lopsided quartic."""

    def move(carry: tuple, _: None) -> tuple:
        x, state = carry
        gradient = jax.grad(lambda x: jnp.sum(jnp.array([1.0, 30.0, 0.01]) * (x - 1) ** 4) + x[0] * x[1])(x)
        updates, state = transform.update(gradient, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    x = jnp.array([3.0, -2.0, 0.5])
    return np.asarray(jax.jit(lambda x: jax.lax.scan(move, (x, transform.init(x)), None, steps)[1])(x))


def test_adam_is_optax_adam() -> None:
    """With a constant rate and no warm-up the parameters follow optax.adam's, all its numbers included."""
    for numbers in ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3}):
        ours = Adam(lr=0.02, warmup=0.0, schedule="constant", **numbers).transform(50)
        np.testing.assert_allclose(descend(ours, 50), descend(optax.adam(0.02, **numbers), 50), rtol=1e-5, atol=1e-6)


def test_adam_follows_its_schedule() -> None:
    """Under constant gradients Adam's steps are the learning rates themselves: warm-up, cosine and 0 at the end."""
    adam = Adam(lr=0.01, warmup=4.0, schedule="cosine", eps=1e-12)
    transform = adam.transform(40)
    x = jnp.zeros(())
    state, steps = transform.init(x), []
    update = jax.jit(transform.update)
    for _ in range(41):
        change, state = update(jnp.float32(2.5), state, x)
        steps.append(-float(change))
    np.testing.assert_allclose(steps, schedule(0.01, 4, "cosine", 40), rtol=1e-4, atol=1e-9)


def test_one_program_serves_every_rate() -> None:
    """The numbers are traced: a second learning rate compiles nothing and gives another step."""
    traced = []

    @jax.jit
    def step(adam: Adam, steps: jax.Array) -> jax.Array:
        traced.append(adam.schedule)
        transform = adam.transform(steps)
        return transform.update(jnp.ones(()), transform.init(jnp.ones(())))[0]

    ratio = float(step(Adam(lr=0.02), 10) / step(Adam(lr=0.01), 1000))
    assert ratio == pytest.approx(2, rel=1e-5) and traced == ["cosine"]


@pytest.mark.parametrize(
    ("adam", "message"),
    [
        (Adam(lr=0.0), "lr is 0.0"),
        (Adam(lr=-1.0), "lr is -1.0"),
        (Adam(b1=1.0), "b1=1.0"),
        (Adam(b2=1.0), "b2=1.0"),
        (Adam(b1=-0.1), "b1=-0.1"),
        (Adam(warmup=-1.0), "warmup=-1.0"),
        (Adam(eps=0.0), "eps=0.0"),
        (Adam(schedule="linear"), "schedule is 'linear'; there are constant, cosine"),
    ],
    ids=repr,
)
def test_checks_refuse_bad_numbers(adam: Adam, message: str) -> None:
    """Numbers that Adam cannot have are refused, with themselves in the message; the defaults pass."""
    Adam().check()
    with pytest.raises(ValueError, match=message):
        adam.check()
