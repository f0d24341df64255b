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


class Inputs(NamedTuple):
    """What every step takes, and no step changes; keys and `given`, what samples are conditioned on, by chunks.

    steps: how many there are, to times[steps]; a traced number, and times may hold more.
    """

    sampler: Sampler
    field: Field
    times: Array
    steps: Scalar
    keys: Array
    given: Any


class Settings(NamedTuple):
    """What a program of the loop is compiled for: the samples' chunks, the last step's policy, and whether noise is coupled."""

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


def chunked(field: Field, x: Array, given: Any, chunk: int | None = None) -> Chunks:
    """The chunks that samples x (n, *shape) go through the steps in: of at most so many, None: of as many as fit the cache."""
    return chunks(x.shape[0], fitting(bound(field, member(given, 0)), x) if chunk is None else chunk)


def begin(
    sampler: Sampler, field: Field, x: Array, times: Array, key: Key, given: Any, steps: Scalar, settings: Settings
) -> tuple[Inputs, Any]:
    """The inputs, and the state before the first step: sample i's key is fold_in(key, i)."""
    parts = settings.parts
    keys = parts.split(jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(x.shape[0])))
    state = parts.map(jax.vmap(sampler.start), parts.split(jnp.copy(x)))  # a copy, as the state may be given away
    return Inputs(sampler, field, jnp.asarray(times), steps, keys, jax.tree.map(parts.split, given)), state


def alike(sampler: Sampler, settings: Settings) -> bool:
    """Whether the last step is one like all others, so that the program holds no step apart from that of the loop."""
    return settings.last == "step" or (settings.last == "mean" and not sampler.stochastic)


def step(inputs: Inputs, settings: Settings, state: Any, keys: Array, given: Any, j: Scalar) -> Any:
    """Step j of the samples of one chunk; the noise of a sample at step j is that of fold_in(its key, j)."""
    sampler, field, times, *_ = inputs
    t, h = times[j], times[j + 1] - times[j]

    def noise(key: Key, x: Array) -> Noise:
        if not settings.coupled:
            return jax.random.fold_in(key, j)
        return Increment(brownian_path(key, x.shape, x.dtype)(times[j], times[j + 1]) / jnp.sqrt(h))

    def one(state: Any, key: Key, given: Any) -> Any:
        return sampler.step(bound(field, given), state, t, h, noise(key, sampler.point(state)))

    return jax.vmap(one)(state, keys, given)


def advance(inputs: Inputs, state: Any, first: Scalar, count: Scalar, settings: Settings) -> Any:
    """The state after steps first, first + 1, ..., `count` of them, traced numbers; short of a last step that is not alike."""

    def through(state: Any, keys: Array, given: Any) -> Any:
        return jax.lax.fori_loop(
            0, count, lambda j, state: step(inputs, settings, state, keys, given, first + j), state
        )

    return settings.parts.map(through, state, inputs.keys, inputs.given)


def finish(inputs: Inputs, state: Any, settings: Settings) -> Simulated:
    """Where the samples end, by the last step's policy, from the state after all steps that are alike."""
    (sampler, field, times, steps, *_), parts = inputs, settings.parts

    def end(state: Any, keys: Array, given: Any) -> tuple[Array, Array | None]:
        t, h = times[steps - 1], times[steps] - times[steps - 1]
        if settings.last == "denoise":
            spent = sampler.spent(state)
            x = jax.vmap(lambda state, given: bound(field, given).data(sampler.point(state), t))(state, given)
            return x, None if spent is None else spent + 1
        if not alike(sampler, settings):
            state = jax.vmap(lambda x, given: sampler.step(bound(field, given), x, t, h, None))(state, given)
        return jax.vmap(sampler.point)(state), sampler.spent(state)

    x, spent = jax.tree.map(parts.join, parts.map(end, state, inputs.keys, inputs.given))
    return Simulated(x, None, spent)


def points(sampler: Sampler, state: Any, settings: Settings, keep: int | None = None) -> Array:
    """The first so many samples (keep, *shape) of a state."""
    return settings.parts.join(settings.parts.map(jax.vmap(sampler.point), state))[:keep]


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
    given: Any = None,
    last: str = "mean",
    save_every: int | None = None,
    keep: int | None = None,
    coupled: bool = False,
    steps: Scalar | None = None,
    saves: int | None = None,
    chunk: int | None = None,
) -> Simulated:
    """Take points x (n, *shape) from times[0] to times[-1] in len(times) - 1 steps of one loop.

    given: what each sample is conditioned on, leaves (n, ...), to which the field is bound (Field.bind); None: nothing.
    Sample i's randomness at step j is fold_in(fold_in(key, i), j): it depends neither on n nor on its neighbours.
    last: the policy for the last step, a key of LAST_STEPS.
    coupled: the noise is the increments of one Brownian path on [0, 1] a sample, which other grids with the same key
    share: a finer grid refines the same path, instead of being another draw.
    save_every: also return the state after every so many steps and at both ends; keep: of the first so many samples.
    steps: stop after so many, at times[steps]; a traced number, so that one program serves every number of steps.
    saves: how many states a trajectory has but for its ends, (steps - 1) // save_every, where steps is a traced number.
    chunk: at most so many samples go through the steps together, the others after them; None: as many as fit the cache
    (chunks.fitting). It changes no sample beyond rounding. len(x) for all at once, as where x is spread over devices.
    Memory is flat in the number of steps unless a trajectory is saved, and then grows with what is saved.
    """
    if steps is not None and save_every is not None and saves is None:
        raise ValueError("a trajectory's length is fixed when it is compiled: say how many states it has with saves")
    count = times.shape[0] - 1 if steps is None else steps
    settings = Settings(chunked(field, x, given, chunk), last, coupled)
    inputs, state = begin(sampler, field, x, times, key, given, count, settings)
    loops = count if alike(sampler, settings) else count - 1
    if save_every is None:
        return finish(inputs, advance(inputs, state, 0, loops, settings), settings)

    blocks = (times.shape[0] - 2) // save_every if saves is None else saves

    def block(state: Any, b: Array) -> tuple[Any, Array]:
        state = advance(inputs, state, b * save_every, save_every, settings)
        return state, points(sampler, state, settings, keep)

    state, saved = jax.lax.scan(block, state, jnp.arange(blocks))
    done = blocks * save_every
    found = finish(inputs, advance(inputs, state, done, loops - done, settings), settings)
    saved_at = jnp.append(jnp.arange(blocks + 1) * save_every, count)
    states = jnp.concatenate([x[None, :keep], saved, found.x[None, :keep]])
    return found._replace(trajectory=Trajectory(times[saved_at], states))


def brownian_path(key: Key, shape: tuple[int, ...], dtype: Any) -> Callable[[Scalar, Scalar], Array]:
    """The increments W(t') - W(t) on [0, 1] of a Brownian path found from the key alone, not stored (2405.06464)."""
    from diffrax import VirtualBrownianTree  # here: it takes 0.4 s, which uncoupled noise need not wait for

    return VirtualBrownianTree(0.0, 1.0, 2.0**-BROWNIAN_LEVELS, jax.ShapeDtypeStruct(shape, dtype), key).evaluate


simulate_compiled = jax.jit(simulate, static_argnames=("last", "save_every", "keep", "coupled", "saves", "chunk"))
begin_compiled = jax.jit(begin, static_argnames="settings")


@partial(jax.jit, static_argnames="settings", donate_argnames="state")
def advance_compiled(
    inputs: Inputs, state: Any, first: Scalar, count: Scalar, settings: Settings
) -> tuple[Any, Scalar]:
    """advance, and the step that it came to, which tells its end where the state has been given away by then."""
    return advance(inputs, state, first, count, settings), first + count


finish_compiled = jax.jit(finish, static_argnames="settings")
points_compiled = jax.jit(points, static_argnames=("settings", "keep"))
