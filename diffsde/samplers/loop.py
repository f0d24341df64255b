"""Where samples start (`prior`), and the one loop that repeats a sampler's step: as one program (`simulate`), or in parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.ensembles import member
from diffsde.fields import Field, bound
from diffsde.paths import GaussianPath
from diffsde.samplers.chunks import Chunks, chunks, fitting
from diffsde.samplers.sampler import Increment, Noise, Sampler
from diffsde.types import Array, Key, Scalar, on_device

BROWNIAN_LEVELS = 20  # a coupled path is resolved to 2^-20 of [0, 1], finer than any grid in use
LENGTH = 1024  # steps that a program holds times for, or this times a power of two: one serves every smaller number


class Trajectory(NamedTuple):
    """times (m,) and states (m, k, *shape) of the first k samples."""

    times: Array
    x: Array


class Simulated(NamedTuple):
    """x (n, *shape) at the last time; the trajectory where one was asked for; nfe (n,) where it differs by sample."""

    x: Array
    trajectory: Trajectory | None
    nfe: Array | None


class Saving(NamedTuple):
    """Which states of a simulation are kept: those after every so many steps and at both ends, of the first `keep` samples.

    states: how many there are but for the ends, (steps - 1) // every; needed where the number of steps is traced.
    """

    every: int
    keep: int | None = None
    states: int | None = None


class LoopSettings(NamedTuple):
    """How `simulate` goes through its steps; a program is compiled for each.

    last: the policy for the last step, a key of LAST_STEPS.
    coupled: the noise is the increments of one Brownian path on [0, 1] a sample, which other grids with the same key
    share: a finer grid refines the same path, instead of being another draw.
    saving: the trajectory that is returned besides.
    chunk: at most so many samples go through the steps together, the others after them; None: as many as fit the cache
    (chunks.fitting). It changes no sample beyond rounding. len(x) for all at once, as where x is spread over devices.
    """

    last: str = "mean"
    coupled: bool = False
    saving: Saving | None = None
    chunk: int | None = None


PLAIN = LoopSettings()


class LoopInputs(NamedTuple):
    """What every step takes, and no step changes; keys and `condition`, what samples are conditioned on, by chunks.

    steps: how many there are, to times[steps]; a traced number, and times may hold more.
    """

    sampler: Sampler
    field: Field
    times: Array
    steps: Scalar
    keys: Array
    condition: Any


class ChunkedLoop(NamedTuple):
    """What each part of the loop is compiled for: the samples' chunks, the last step's policy, and whether noise is coupled."""

    parts: Chunks
    last: str
    coupled: bool


def padded(times: Array) -> tuple[Array, Array]:
    """The times with the last repeated up to LENGTH times a power of two steps, and how many steps there are."""
    steps, length = len(times) - 1, LENGTH
    while length < steps:
        length *= 2
    filled = np.pad(
        np.asarray(times), (0, length - steps), mode="edge"
    )  # by numpy, which compiles nothing for each length
    return on_device(filled), on_device(steps, np.int32)


def chunked(field: Field, x: Array, condition: Any, chunk: int | None = None) -> Chunks:
    """The chunks that samples x (n, *shape) go through the steps in: of at most so many, None: of as many as fit the cache."""
    return chunks(x.shape[0], fitting(bound(field, member(condition, 0)), x) if chunk is None else chunk)


def loop_start(
    sampler: Sampler, field: Field, x: Array, times: Array, key: Key, condition: Any, steps: Scalar, loop: ChunkedLoop
) -> tuple[LoopInputs, Any]:
    """The inputs, and the state before the first step: sample i's key is fold_in(key, i)."""
    parts = loop.parts
    keys = parts.split(jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(x.shape[0])))
    state = parts.map(jax.vmap(sampler.start), parts.split(jnp.copy(x)))  # a copy, as the state may be given away
    return LoopInputs(sampler, field, jnp.asarray(times), steps, keys, jax.tree.map(parts.split, condition)), state


def alike(sampler: Sampler, loop: ChunkedLoop) -> bool:
    """Whether the last step is one like all others, so that the program holds no step apart from that of the loop."""
    return loop.last == "step" or (loop.last == "mean" and not sampler.stochastic)


def step(inputs: LoopInputs, loop: ChunkedLoop, state: Any, keys: Array, condition: Any, j: Scalar) -> Any:
    """Step j of the samples of one chunk; the noise of a sample at step j is that of fold_in(its key, j)."""
    sampler, field, times, *_ = inputs
    t, h = times[j], times[j + 1] - times[j]

    def noise(key: Key, x: Array) -> Noise:
        if not loop.coupled:
            return jax.random.fold_in(key, j)
        return Increment(brownian_path(key, x.shape, x.dtype)(times[j], times[j + 1]) / jnp.sqrt(h))

    def one(state: Any, key: Key, condition: Any) -> Any:
        return sampler.step(bound(field, condition), state, t, h, noise(key, sampler.point(state)))

    return jax.vmap(one)(state, keys, condition)


def loop_steps(inputs: LoopInputs, state: Any, first: Scalar, count: Scalar, loop: ChunkedLoop) -> Any:
    """The state after steps first, first + 1, ..., `count` of them, traced numbers; short of a last step that is not alike."""

    def through(state: Any, keys: Array, condition: Any) -> Any:
        return jax.lax.fori_loop(
            0, count, lambda j, state: step(inputs, loop, state, keys, condition, first + j), state
        )

    return loop.parts.map(through, state, inputs.keys, inputs.condition)


def loop_end(inputs: LoopInputs, state: Any, loop: ChunkedLoop) -> Simulated:
    """Where the samples end, by the last step's policy, from the state after all steps that are alike."""
    (sampler, field, times, steps, *_), parts = inputs, loop.parts

    def end(state: Any, keys: Array, condition: Any) -> tuple[Array, Array | None]:
        t, h = times[steps - 1], times[steps] - times[steps - 1]
        if loop.last == "denoise":
            spent = sampler.spent(state)
            x = jax.vmap(lambda state, condition: bound(field, condition).data(sampler.point(state), t))(
                state, condition
            )
            return x, None if spent is None else spent + 1
        if not alike(sampler, loop):
            state = jax.vmap(lambda x, condition: sampler.step(bound(field, condition), x, t, h, None))(
                state, condition
            )
        return jax.vmap(sampler.point)(state), sampler.spent(state)

    x, spent = jax.tree.map(parts.join, parts.map(end, state, inputs.keys, inputs.condition))
    return Simulated(x, None, spent)


def loop_points(sampler: Sampler, state: Any, loop: ChunkedLoop, keep: int | None = None) -> Array:
    """The first so many samples (keep, *shape) of a state."""
    return loop.parts.join(loop.parts.map(jax.vmap(sampler.point), state))[:keep]


@partial(jax.jit, static_argnames=("shape", "n"))
def prior(
    path: GaussianPath, start: Array, shape: tuple[int, ...], key: Key, n: int, data: Array | None = None
) -> Array:
    """n points (n, *shape) at t0 = start: N(0, beta^2) without data, alpha z + beta eps ~ p_t0 of the data z (n, *shape).

    Point i depends on its own index, and on z_i, alone.
    """
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))
    noise = path.beta(start) * jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    return noise if data is None else path.alpha(start) * data + noise


def simulate(
    sampler: Sampler,
    field: Field,
    x: Array,
    times: Array,
    key: Key,
    condition: Any = None,
    steps: Scalar | None = None,
    settings: LoopSettings = PLAIN,
) -> Simulated:
    """Take points x (n, *shape) from times[0] to times[-1] in len(times) - 1 steps of one loop.

    condition: what each sample is conditioned on, leaves (n, ...), to which the field is bound (Field.bind); None: nothing.
    Sample i's randomness at step j is fold_in(fold_in(key, i), j): it depends neither on n nor on its neighbours.
    steps: stop after so many, at times[steps]; a traced number, so that one program serves every number of steps.
    Memory is flat in the number of steps unless a trajectory is saved, and then grows with what is saved.
    """
    saving = settings.saving
    if steps is not None and saving is not None and saving.states is None:
        raise ValueError(
            "a trajectory's length is fixed when it is compiled: say how many states it has with Saving.states"
        )
    count = times.shape[0] - 1 if steps is None else steps
    loop = ChunkedLoop(chunked(field, x, condition, settings.chunk), settings.last, settings.coupled)
    inputs, state = loop_start(sampler, field, x, times, key, condition, count, loop)
    loops = count if alike(sampler, loop) else count - 1
    if saving is None:
        return loop_end(inputs, loop_steps(inputs, state, 0, loops, loop), loop)

    every, keep = saving.every, saving.keep
    blocks = (times.shape[0] - 2) // every if saving.states is None else saving.states

    def block(state: Any, b: Array) -> tuple[Any, Array]:
        state = loop_steps(inputs, state, b * every, every, loop)
        return state, loop_points(sampler, state, loop, keep)

    state, saved = jax.lax.scan(block, state, jnp.arange(blocks))
    done = blocks * every
    found = loop_end(inputs, loop_steps(inputs, state, done, loops - done, loop), loop)
    saved_at = jnp.append(jnp.arange(blocks + 1) * every, count)
    states = jnp.concatenate([x[None, :keep], saved, found.x[None, :keep]])
    return found._replace(trajectory=Trajectory(times[saved_at], states))


def brownian_path(key: Key, shape: tuple[int, ...], dtype: Any) -> Callable[[Scalar, Scalar], Array]:
    """The increments W(t') - W(t) on [0, 1] of a Brownian path found from the key alone, not stored (2405.06464)."""
    from diffrax import VirtualBrownianTree  # here: it takes 0.4 s, which uncoupled noise need not wait for

    return VirtualBrownianTree(0.0, 1.0, 2.0**-BROWNIAN_LEVELS, jax.ShapeDtypeStruct(shape, dtype), key).evaluate


simulate_compiled = jax.jit(simulate, static_argnames="settings")
loop_start_compiled = jax.jit(loop_start, static_argnames="loop")


@partial(jax.jit, static_argnames="loop", donate_argnames="state")
def loop_steps_compiled(
    inputs: LoopInputs, state: Any, first: Scalar, count: Scalar, loop: ChunkedLoop
) -> tuple[Any, Scalar]:
    """loop_steps, and the step that it came to, which tells its end where the state has been given away by then."""
    return loop_steps(inputs, state, first, count, loop), first + count


loop_end_compiled = jax.jit(loop_end, static_argnames="loop")
loop_points_compiled = jax.jit(loop_points, static_argnames=("loop", "keep"))
