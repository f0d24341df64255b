"""The prior, and the one loop that repeats a sampler's step: as one program (`simulate`), or one dispatch after another."""

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
from diffsde.processes import Process
from diffsde.samplers.chunks import Chunks, chunks, fitting
from diffsde.samplers.sampler import Increment, Noise, Sampler
from diffsde.types import Array, Key, Scalar, on_device

BROWNIAN_LEVELS = 20  # a Brownian path is resolved to 2^-20 of [0, 1], finer than any grid in use
LENGTH = 1024  # times are padded to this many steps, or it times a power of two: one program for all smaller numbers


class Trajectory(NamedTuple):
    """A saved trajectory: times (m,), and the points x (m, k, *shape) of the first k samples at these times."""

    times: Array
    x: Array


class Simulated(NamedTuple):
    """A finished simulation: x (n, *shape) at the last time, the trajectory if saved, nfe (n,) if it differs by sample."""

    x: Array
    trajectory: Trajectory | None
    nfe: Array | None


class Saving(NamedTuple):
    """Which points of a simulation are saved: at both ends and after every `every` steps, of the first `keep` samples.

    states: the number of saved times without the ends, (steps - 1) // every; needed where the number of steps is traced.
    """

    every: int
    keep: int | None = None
    states: int | None = None


class LoopSettings(NamedTuple):
    """Settings of `simulate`; static, so that one program is compiled per value.

    last: the policy for the last step, a key of LAST_STEPS.
    coupled: the noise is the increments of one Brownian path on [0, 1] per sample, the same path on every grid with the
    same key: a finer grid refines the path instead of drawing another.
    saving: which points of the trajectory are returned too; None: none.
    chunk: most samples that go through the steps together, one chunk after another; None: as many as fit the cache
    (chunks.fitting). Samples depend on it by rounding alone. len(x): all at once, as needed where x is sharded over devices.
    """

    last: str = "mean"
    coupled: bool = False
    saving: Saving | None = None
    chunk: int | None = None


PLAIN = LoopSettings()


class LoopInputs(NamedTuple):
    """The constant inputs of every step. field: a Field or a Process; keys: one per sample; condition: what each sample is conditioned on; both in chunks.

    steps: the number of steps, up to times[steps]; a traced number, and `times` may be longer.
    """

    sampler: Sampler
    field: Any
    times: Array
    steps: Scalar
    keys: Array
    condition: Any


class ChunkedLoop(NamedTuple):
    """Static settings of the loop's programs: the chunks, the last step's policy, and whether noise is coupled."""

    parts: Chunks
    last: str
    coupled: bool


def padded(times: Array) -> tuple[Array, Array]:
    """times (steps + 1,) padded with the last to LENGTH steps times a power of two, and the number of steps as an array ()."""
    steps, length = len(times) - 1, LENGTH
    while length < steps:
        length *= 2
    filled = np.pad(
        np.asarray(times), (0, length - steps), mode="edge"
    )  # by numpy, which compiles nothing for each length
    return on_device(filled), on_device(steps, np.int32)


def chunked(field: Field | Process, x: Array, condition: Any, chunk: int | None = None) -> Chunks:
    """The chunks of samples x (n, *shape): of at most `chunk` samples; None: of as many as fit the cache."""
    return chunks(x.shape[0], fitting(bound(field, member(condition, 0)), x) if chunk is None else chunk)


def loop_start(
    sampler: Sampler,
    field: Field | Process,
    x: Array,
    times: Array,
    key: Key,
    condition: Any,
    steps: Scalar,
    loop: ChunkedLoop,
) -> tuple[LoopInputs, Any]:
    """The loop's constant inputs, and the state before the first step. The key of sample i is fold_in(key, i)."""
    parts = loop.parts
    keys = parts.split(jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(x.shape[0])))
    state = parts.map(jax.vmap(sampler.start), parts.split(jnp.copy(x)))  # a copy, as the state may be given away
    return LoopInputs(sampler, field, jnp.asarray(times), steps, keys, jax.tree.map(parts.split, condition)), state


def alike(sampler: Sampler, loop: ChunkedLoop) -> bool:
    """Whether the last step is like all others, so that the loop's body is the only step in the program."""
    return loop.last == "step" or (loop.last == "mean" and not sampler.stochastic)


def step(inputs: LoopInputs, loop: ChunkedLoop, state: Any, keys: Array, condition: Any, j: Scalar) -> Any:
    """The state of one chunk after step j. A sample's noise at step j is drawn from fold_in(the sample's key, j)."""
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
    """The state after the `count` steps first, first + 1, ...; both traced. A last step that is not alike is `loop_end`'s."""

    def through(state: Any, keys: Array, condition: Any) -> Any:
        return jax.lax.fori_loop(
            0, count, lambda j, state: step(inputs, loop, state, keys, condition, first + j), state
        )

    return loop.parts.map(through, state, inputs.keys, inputs.condition)


def loop_end(inputs: LoopInputs, state: Any, loop: ChunkedLoop) -> Simulated:
    """The finished simulation, from the state after all steps that are alike: the last step by its policy, chunks joined."""
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
    """The points (keep, *shape) of the first `keep` samples of a state; None: of all."""
    return loop.parts.join(loop.parts.map(jax.vmap(sampler.point), state))[:keep]


@partial(jax.jit, static_argnames=("shape", "n"))
def prior(
    path: GaussianPath, start: Array, shape: tuple[int, ...], key: Key, n: int, data: Array | None = None
) -> Array:
    """n starting points (n, *shape) at t0 = start: beta eps ~ N(0, beta^2 I), plus alpha z if data z (n, *shape) are given.

    Point i depends on the key, i and z_i alone.
    """
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))
    noise = path.beta(start) * jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    return noise if data is None else path.alpha(start) * data + noise


@jax.jit
def prior_from(path: GaussianPath, start: Array, y: Array, key: Key, data: Array | None = None) -> Array:
    """Starting points (n, *shape) at t0 = start from points y (n, *shape) of the source: beta y + gamma eps, plus alpha z if data
    z (n, *shape) are given. Point i depends on the key, i, y_i and z_i alone.
    """
    found = path.beta(start) * y if data is None else path.alpha(start) * data + path.beta(start) * y
    if not path.has_gamma:
        return found
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(y)))
    return found + path.gamma(start) * jax.vmap(lambda key: jax.random.normal(key, y.shape[1:], y.dtype))(keys)


def simulate(
    sampler: Sampler,
    field: Field | Process,
    x: Array,
    times: Array,
    key: Key,
    condition: Any = None,
    steps: Scalar | None = None,
    settings: LoopSettings = PLAIN,
) -> Simulated:
    """Take points x (n, *shape) from times[0] to times[-1] in len(times) - 1 steps of one loop.

    condition: what each sample is conditioned on, leaves (n, ...), bound to the field (Field.bind); None: nothing.
    The noise of sample i at step j comes from fold_in(fold_in(key, i), j), which depends neither on n nor on other samples.
    steps: stop after this many, at times[steps]; a traced number, so that one program serves every number of steps.
    Memory does not grow with the number of steps, except by the trajectory that is saved.
    Raises ValueError where `steps` is given and a trajectory's length is not (Saving.states).
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
    """W(t') - W(t), as a function of (t, t'), of a Brownian path on [0, 1] recomputed from the key, not stored (2405.06464)."""
    from diffrax import VirtualBrownianTree  # here: the import takes 0.4 s, which uncoupled noise need not wait for

    return VirtualBrownianTree(0.0, 1.0, 2.0**-BROWNIAN_LEVELS, jax.ShapeDtypeStruct(shape, dtype), key).evaluate


simulate_compiled = jax.jit(simulate, static_argnames="settings")
loop_start_compiled = jax.jit(loop_start, static_argnames="loop")


@partial(jax.jit, static_argnames="loop", donate_argnames="state")
def loop_steps_compiled(
    inputs: LoopInputs, state: Any, first: Scalar, count: Scalar, loop: ChunkedLoop
) -> tuple[Any, Scalar]:
    """loop_steps with a donated state, and the index of the next step, which can be waited for after the state is donated."""
    return loop_steps(inputs, state, first, count, loop), first + count


loop_end_compiled = jax.jit(loop_end, static_argnames="loop")
loop_points_compiled = jax.jit(loop_points, static_argnames=("loop", "keep"))
