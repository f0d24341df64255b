"""The training step, the compiled program of many steps, and losses on fixed examples."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffsde import mixtures
from diffsde.consecutive import draw_consecutive, times_within
from diffsde.couplings.coupling import Coupling
from diffsde.couplings.pairs import PairSet, draw
from diffsde.datasets import Batch, Buffer, Dataset
from diffsde.ensembles import over_members
from diffsde.marginal_targets import with_marginal_targets
from diffsde.objectives import (
    DiscreteLikelihood,
    Draw,
    FlowMapObjective,
    Likelihood,
    Objective,
    Problem,
    Regression,
    SemigroupObjective,
    exact_between,
    irreducible,
    irreducible_between,
    likelihood_nfe,
    loss,
    regret_between,
    time_at,
    training_losses,
)
from diffsde.optimizers import Optimizer
from diffsde.paths import coefficients
from diffsde.paths.piecewise import Piecewise
from diffsde.posterior_targets import Points, posterior_groups, posterior_means
from diffsde.sharding import Sharding, constrain_batch, constrain_parameters
from diffsde.time_distributions import draw_uniforms
from diffsde.types import Array, Key, Scalar, register

FEW = 8192  # examples at a time of the exact field between two laws, which has J K components
CACHED = 1024  # most examples for which the activations of a network of common size fit a core's cache


class Pairs(NamedTuple):
    """The two ends of B examples, paired: source y (B, *shape), data z (B, *shape), the data's labels (B,) or None."""

    y: Array
    z: Array
    label: Array | None

    def at(self, step: Scalar) -> Pairs:
        """The pairs of a step (), of pairs (C, B, ...) of C consecutive steps; those of step s are at s mod C."""
        return Pairs(*jax.tree.map(lambda leaf: leaf[step % len(leaf)], tuple(self)))


@partial(register, static=["batch_size", "classes", "micro_batches", "sharding", "points"])
@dataclasses.dataclass(frozen=True)
class Run:
    """The constant inputs of every training step; numbers are traced.

    arrays: the dataset's arrays (Dataset.load), or the Buffer with the examples of this step and its neighbours.
    ema: (k,) decays of the k parameter averages. classes: number of classes of the network; 0: unconditional.
    label_dropout: probability that an example's label is replaced by `classes`, which means no label. micro_batches: number
    of micro-batches of a batch, whose gradients are accumulated; None: by `micro_batches_on_cpu`. points: least number of
    data points over which a target is the posterior mean (posterior_targets.py); 0: targets from the example's own z.
    source, source_arrays: the law at t = 0 of a run between two laws, and its arrays; None: noise, by a Gaussian path.
    coupling: how the points of a batch's two ends are paired; None: independently of each other. pairs: the coupled pairs of
    this step and its neighbours (pairs_ahead.py), which examples are made of instead of draws. pair_set: pairs that were made
    before, from which examples are drawn.
    """

    problem: Problem
    dataset: Dataset
    arrays: Any
    optimizer: Optimizer
    key: Key
    steps: Scalar
    ema: Array
    batch_size: int
    classes: int = 0
    label_dropout: Scalar = 0.0
    micro_batches: int | None = None
    sharding: Sharding | None = None
    points: int = 0
    source: Dataset | None = None
    source_arrays: Any = None
    coupling: Coupling | None = None
    pairs: Pairs | None = None
    pair_set: PairSet | None = None


class TrainState(NamedTuple):
    """The state of training after `step` () steps; a leaf of `ema` is (k, *shape), k averages of a parameter (*shape,).

    frozen: the first average at the end of the last round, of an objective that learns in rounds; else None.
    """

    step: Array
    params: Any
    ema: Any
    opt_state: Any
    frozen: Any = None


@jax.jit
def start(run: Run, params: Any) -> TrainState:
    """The state before the first step. The EMA begins at the initial parameters, which the warm-up (ema_decay) forgets."""
    opt_state = run.optimizer.transform(run.steps).init(params)
    ema = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(run.ema), axis=0), params)
    frozen = jax.tree.map(jnp.copy, params) if learns_in_rounds(run.problem.objective) else None
    return TrainState(jnp.zeros((), jnp.int32), params, ema, opt_state, frozen)


def learns_in_rounds(objective: Objective) -> bool:
    """Whether the objective learns in rounds, each from the network as it was at the end of the one before."""
    return isinstance(objective, SemigroupObjective) and objective.in_rounds


def at_step(run: Run, problem: Problem, step: Array, frozen: Any) -> Problem:
    """The problem of a flow map at a step (): how far training is, and what it learns from."""
    return dataclasses.replace(problem, progress=step / run.steps, frozen=frozen)


def next_frozen(run: Run, state: TrainState, averages: Any) -> Any:
    """What is frozen after the step of `state`: the first of the new averages where a round ends with it."""
    objective = run.problem.objective
    if not learns_in_rounds(objective):
        return None
    assert isinstance(objective, SemigroupObjective)
    now, then = (objective.round_at(at_step(run, run.problem, state.step + i, None)) for i in (0, 1))
    return jax.tree.map(lambda old, new: jnp.where(now == then, old, new[0]), state.frozen, averages)


def examples(run: Run, key: Key, count: int, points: int = 0) -> Draw:
    """A batch of `count` training examples, fields (count, ...); the times are stratified if the distribution of t is.

    points: if not 0, each example gets the posterior mean over at least this many drawn data points (Draw.mean).
    """
    key_data, key_noise, key_time, key_label = jax.random.split(key, 4)
    u = draw_uniforms(key_time, count, run.problem.time.stratified)
    if run.source is None:
        drawn = Points(*run.dataset.draw_labelled(run.arrays, key_data, max(count, points)))
        y, z, label = None, drawn.z[:count], None if drawn.label is None else drawn.label[:count]
    else:
        y, z, label = draw_ends(run, key, count) if run.pairs is None else run.pairs
    problem = run.problem
    interval = label if isinstance(problem.path, Piecewise) else None
    if not run.classes:
        label = None
    elif label is not None:
        label = jnp.where(jax.random.bernoulli(key_label, run.label_dropout, (count,)), run.classes, label)
    if interval is None:
        t = jax.vmap(partial(time_at, problem))(u)
    else:
        t = times_within(problem, interval, u, jax.random.fold_in(key_time, 1))
    if y is None or problem.path.has_gamma:
        eps = jax.random.normal(key_noise, (z[0].size, count), z.dtype).T  # the batch last: vectorised over it on CPU
    else:
        eps = jnp.zeros_like(z)
    until = share = None
    if isinstance(problem.objective, FlowMapObjective):
        *more, share = jax.random.uniform(jax.random.fold_in(key_time, 2), (3, count))
        t, until = jax.vmap(partial(problem.objective.jump_times, problem))(u, jnp.stack(more, axis=1))
    batch = Draw(z, eps.reshape(z.shape), t, label, y=y, until=until, share=share)
    if points:
        batch = batch._replace(mean=target_means(run, batch, drawn, points))
    return constrain_batch(run.sharding, batch)


def draw_ends(run: Run, key: Key, count: int) -> Pairs:
    """The two ends of `count` examples of a run between two laws: drawn from its set of pairs, or each from its law, not coupled;
    between snapshots the number of the interval in the place of a label.
    """
    assert run.source is not None
    if isinstance(run.problem.path, Piecewise):
        return Pairs(*draw_consecutive(run.source_arrays, key, count))
    key_data, key_source = jax.random.split(key, 4)[0], jax.random.fold_in(key, 4)
    if run.pair_set is not None:
        return Pairs(*draw(run.pair_set, key_data, count))
    z, label = run.dataset.draw_labelled(run.arrays, key_data, count)
    return Pairs(run.source.draw(run.source_arrays, key_source, count), z, label)


def target_means(run: Run, batch: Draw, drawn: Points, points: int) -> Array:
    """E[z | x_t] (count, *shape) of each example, over all drawn points; above 2 `points` examples, within equal groups."""
    moments = run.problem.moments
    c = jax.vmap(partial(coefficients, run.problem.path))(jnp.asarray(batch.t))
    label = None if batch.label is None else jnp.where(jnp.asarray(batch.label) == run.classes, -1, batch.label)
    rows = batch.z, batch.eps, jnp.asarray(c.alpha / c.beta), label
    parts = posterior_groups(len(batch.z), points)

    def of_part(part: tuple[tuple[Array, Array, Array, Array | None], Points]) -> Array:
        (z, eps, ratio, label), own = part
        return posterior_means(z, eps, ratio, own, moments, label)

    if parts == 1:
        return of_part((rows, drawn))
    cut = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), (rows, drawn))
    return jax.lax.map(of_part, cut).reshape(batch.z.shape)


def train_step(run: Run, state: TrainState) -> tuple[TrainState, Scalar]:
    """One optimizer step on a fresh batch, drawn with fold_in(run.key, step): the new state, and the mean loss ()."""
    if isinstance(run.arrays, Buffer):
        run = dataclasses.replace(run, arrays=run.arrays.at(state.step))
    if run.pairs is not None:
        run = dataclasses.replace(run, pairs=run.pairs.at(state.step))
    if isinstance(run.problem.objective, FlowMapObjective):
        run = dataclasses.replace(run, problem=at_step(run, run.problem, state.step, state.frozen))
    batch = examples(run, jax.random.fold_in(run.key, state.step), run.batch_size, run.points)
    if isinstance(objective := run.problem.objective, Regression) and objective.marginal:
        batch = with_marginal_targets(run.problem, run.arrays, batch, run.classes)
    micro_batches = run.micro_batches or (micro_batches_on_cpu(run.batch_size) if run.sharding is None else 1)
    value, gradients = mean_gradient(run.problem, state.params, batch, micro_batches)
    updates, opt_state = run.optimizer.transform(run.steps).update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(run.ema, state.step)
    average = jax.vmap(lambda decay, old, new: new + decay * (old - new), in_axes=(0, 0, None))
    ema = jax.tree.map(lambda old, new: average(decay, old, new), state.ema, params)
    frozen = next_frozen(run, state, ema)
    return constrain_parameters(run.sharding, TrainState(state.step + 1, params, ema, opt_state, frozen)), value


def mean_gradient(problem: Problem, params: Any, batch: Draw, micro_batches: int) -> tuple[Scalar, Any]:
    """The mean loss () of a batch and its gradient, accumulated over `micro_batches` equal micro-batches one after another.

    Where examples have posterior-mean targets the gradient is that of the loss against them; its expectation is the same.
    """

    def micro_batch_loss(params: Any, part: Draw) -> tuple[Scalar, Scalar]:
        against, own = training_losses(problem, params, part)
        return jnp.mean(against) / micro_batches, jnp.mean(own) / micro_batches

    def of_micro_batch(part: Draw) -> tuple[Scalar, Any]:
        (_, own), gradient = jax.value_and_grad(micro_batch_loss, has_aux=True)(params, part)
        return own, gradient

    if micro_batches == 1:
        return of_micro_batch(batch)

    def add(total: Any, part: Draw) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_micro_batch(part)), None

    def into_micro_batches(
        leaf: Array,
    ) -> Array:  # every micro_batches-th example: with a batch sharded over devices, each device splits its own shard
        return jnp.moveaxis(leaf.reshape(-1, micro_batches, *leaf.shape[1:]), 1, 0)

    cut = jax.tree.map(into_micro_batches, batch)
    nothing = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), params))
    return jax.lax.scan(add, nothing, cut)[0]


def micro_batches_on_cpu(batch_size: int) -> int:
    """Number of equal micro-batches of a batch on CPU, so that the activations of one fit the cache: 1 up to 1024 examples.

    Micro-batches have 512 to 1024 examples if the batch size has such a divisor; else the batch stays whole.
    """
    if jax.default_backend() != "cpu" or batch_size <= CACHED:
        return 1
    return next(
        (n for n in range(2, 2 * batch_size // CACHED + 1) if batch_size % n == 0 and batch_size // n <= CACHED), 1
    )


def ema_decay(ema: Scalar, step: Scalar) -> Array:
    """The averages' decay at a step, min(ema, (1 + step)/(10 + step)): a warm-up, for short runs to forget their beginning."""
    return jnp.minimum(ema, (1.0 + step) / (10.0 + step))


@partial(jax.jit, static_argnames="chunk", donate_argnames="state")
def train_steps(run: Run, state: TrainState, count: Array, chunk: int) -> tuple[TrainState, Array]:
    """`count` <= `chunk` steps in one dispatch: the new state, and the losses (chunk,), 0 after the first `count`."""

    def body(i: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, value = train_step(run, carry[0])
        return state, carry[1].at[i].set(value)

    return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(chunk)))


@partial(jax.jit, static_argnames=("chunk", "split"), donate_argnames="state")
def train_members(
    run: Run, state: TrainState, count: Array, chunk: int, split: tuple[bool, ...]
) -> tuple[TrainState, Array]:
    """train_steps for m members at once: `run`, `split` from ensembles.stack, states stacked; losses (m, chunk)."""
    return over_members(lambda run, state: train_steps(run, state, count, chunk), split, run, state)


def repeated(batch: Batch, repeats: int) -> Batch:
    """A batch with its points (n, ...) `repeats` times, one after another."""
    rows = jnp.arange(len(batch.x) * repeats) % len(batch.x)
    return Batch(*jax.tree.map(lambda leaf: leaf[rows], tuple(batch)))


@partial(jax.jit, static_argnames="repeats")
def held_out_loss(run: Run, held_out: Batch, params: Any, key: Key, repeats: int) -> tuple[Scalar, Scalar]:
    """The mean loss on held-out points, and its standard error over the points.

    Each point is used `repeats` times, with times and noise that depend on the key alone: the losses of two training steps
    differ by the parameters, not by the draw.
    """
    count = len(held_out.x)
    batch = repeated(held_out, repeats)
    drawn = examples(dataclasses.replace(run, arrays=batch, sharding=None), key, count * repeats)
    values = jax.lax.map(partial(loss, run.problem, params), drawn, batch_size=CACHED)
    of_points = jnp.mean(values.reshape(repeats, count), axis=0)
    return jnp.mean(of_points), jnp.std(of_points, ddof=1) / jnp.sqrt(count)


@jax.jit
def evaluations(run: Run, params: Any, key: Key) -> Scalar:
    """Evaluations of the network (), forward alone, by which the likelihood of a batch is solved for."""
    return likelihood_nfe(run.problem, params, examples(run, key, run.batch_size))


@partial(jax.jit, static_argnames="count")
def regret(
    run: Run, mixture: mixtures.Mixture, params: Any, key: Key, count: int, source: mixtures.Mixture | None = None
) -> Scalar:
    """E[weight(t) |y_hat - E[y|x_t]|^2/d], (), over `count` examples: the expected loss less the irreducible loss, >= 0; of a
    likelihood KL(p || p_theta)/d.

    mixture, source: the laws of the data, and between two laws of the source. The examples depend on the key alone, so that
    the values at two training steps differ by the parameters only.
    """

    def of_one(sample: Draw) -> Scalar:
        if source is not None:
            return regret_between(run.problem, params, sample, exact_between(run.problem, source, mixture, sample))
        c = coefficients(run.problem.path, sample.t)
        x = (c.alpha * sample.z + c.beta * sample.eps).reshape(-1)
        exact = mixtures.predict(
            mixtures.conditioned(mixture, sample.label), x, c
        )  # x is alpha E[z|x] + beta E[eps|x] too
        z, eps = exact.data.reshape(sample.z.shape), exact.noise.reshape(sample.z.shape)
        return loss(run.problem, params, sample._replace(z=z, eps=eps))

    batch = examples(run, key, count)
    if isinstance(run.problem.objective, Likelihood | DiscreteLikelihood):
        own = training_losses(run.problem, params, batch)[1]
        return jnp.mean(own - jax.vmap(partial(irreducible, run.problem, mixture))(batch))
    return jnp.mean(jax.vmap(of_one)(batch))


@partial(jax.jit, static_argnames="count")
def loss_floor(
    run: Run, mixture: mixtures.Mixture, key: Key, count: int, source: mixtures.Mixture | None = None
) -> tuple[Scalar, Scalar]:
    """The irreducible loss for mixture data and its standard error: the mean of `irreducible` over `count` examples.

    source: the source's law, of a run between two laws; the values are then the exact field's losses.
    """

    def between(sample: Draw) -> Scalar:
        assert source is not None
        return irreducible_between(run.problem, sample, exact_between(run.problem, source, mixture, sample))

    batch = examples(run, key, count)
    if source is not None:
        values = jax.lax.map(between, batch, batch_size=FEW)
    else:
        values = jax.vmap(partial(irreducible, run.problem, mixture))(batch)
    return jnp.mean(values), jnp.std(values) / jnp.sqrt(count)
