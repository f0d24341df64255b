"""What a sampler is: one pure step, and the one loop that repeats it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.ensembles import member
from diffsde.fields import Field, bound
from diffsde.samplers.chunks import chunks, fitting
from diffsde.types import Array, Key, Scalar

BROWNIAN_LEVELS = 20  # a coupled path is resolved to 2^-20 of [0, 1], finer than any grid in use

LAST_STEPS = {
    "step": "the sampler's own step, noise and all",
    "mean": "the sampler's own step without its noise, so that none is left in the sample",
    "denoise": "x = E[z|x] at the last time before the end",
}


class Sampler(abc.ABC):
    """`step` takes one point x (*shape,) from t to t + h > t; no sampler owns a loop.

    order: of the global error in h (weak order for an SDE). evaluations: of the field a step.
    evaluates_end: whether a step looks at the field at t + h, which may be singular at t = 1.
    stochastic: whether a step draws noise. coupled: whether all of it is one standard normal a point, the Brownian
    increment over the step divided by sqrt(h), so that it can be read off a given path.
    adaptive: whether it takes steps of its own within those of the grid, as many evaluations as these need.
    default_steps: taken where the user does not say how many.
    A method with memory carries it as the loop's state: `start` makes the state of a point, `point` reads it back.
    """

    order: ClassVar[int]
    evaluations: ClassVar[int]
    evaluates_end: ClassVar[bool]
    stochastic: ClassVar[bool] = False
    coupled: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    default_steps: ClassVar[int] = 250

    def start(self, x: Array) -> Any:
        """The state before the first step; the point itself for a method without memory."""
        return x

    def point(self, state: Any) -> Array:
        """The point x (*shape,) of a state."""
        return state

    def nfe(self, steps: int, last: str) -> int:
        """Evaluations of the field that so many steps take, the last by this policy."""
        return (steps - 1) * self.evaluations + 1 if last == "denoise" else steps * self.evaluations

    def spent(self, state: Any) -> Array | None:
        """Evaluations of the field so far, where a method decides on them as it goes; None: `evaluations` a step."""
        return None

    @abc.abstractmethod
    def step(self, field: Field, x: Any, t: Scalar, h: Scalar, key: Noise) -> Any:
        """The state at t + h. key None: the same step without its noise."""


class Increment(NamedTuple):
    """In the place of a key: the increment of a given Brownian path over the step, divided by sqrt(h)."""

    value: Array


Noise = Key | Increment | None  # where a step takes its noise from


def gaussian(key: Noise, like: Array) -> Array:
    """Standard normal noise of a point's shape; none at all without a key."""
    if isinstance(key, Increment):
        return key.value
    return jnp.zeros_like(like) if key is None else jax.random.normal(key, like.shape, like.dtype)


def split(key: Noise, count: int) -> list[Key | None]:
    """Independent keys for a step that draws more than once; none from none. Raises TypeError for an increment."""
    if isinstance(key, Increment):
        raise TypeError("this sampler draws more than the increment of one Brownian path")
    return [None] * count if key is None else list(jax.random.split(key, count))


class Trajectory(NamedTuple):
    """times (m,) and states (m, k, *shape) of the first k samples."""

    times: Array
    x: Array


class Simulated(NamedTuple):
    """x (n, *shape) at the last time; the trajectory where one was asked for; nfe (n,) where it differs by sample."""

    x: Array
    trajectory: Trajectory | None
    nfe: Array | None


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
    chunk: at most so many samples go through the steps together, the others after them; None: as many as fit the cache
    (chunks.fitting). It changes no sample beyond rounding. len(x) for all at once, as where x is spread over devices.
    Memory is flat in the number of steps unless a trajectory is saved, and then grows with what is saved.
    """
    if steps is not None and save_every is not None:
        raise ValueError("a trajectory's length is fixed when it is compiled: leave out steps and cut times instead")
    if chunk is None:
        chunk = fitting(bound(field, member(given, 0)), x)
    parts = chunks(x.shape[0], chunk)
    given = jax.tree.map(parts.split, given)
    keys = parts.split(jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(x.shape[0])))
    count = times.shape[0] - 1 if steps is None else steps

    def noise(key: Key, j: Scalar) -> Noise:
        if not coupled:
            return jax.random.fold_in(key, j)
        path = brownian_path(key, x.shape[1:], x.dtype)
        return Increment(path(times[j], times[j + 1]) / jnp.sqrt(times[j + 1] - times[j]))

    def advance(state: Any, keys: Array, given: Any, j: Scalar) -> Any:
        t, h = times[j], times[j + 1] - times[j]
        return jax.vmap(lambda x, key, given: sampler.step(bound(field, given), x, t, h, noise(key, j)))(
            state, keys, given
        )

    def finish(state: Any, keys: Array, given: Any) -> tuple[Array, Array | None]:
        t, h = times[count - 1], times[count] - times[count - 1]
        if last == "denoise":
            spent = sampler.spent(state)
            end = jax.vmap(lambda state, given: bound(field, given).data(sampler.point(state), t))(state, given)
            return end, None if spent is None else spent + 1
        if last == "mean":
            state = jax.vmap(lambda x, given: sampler.step(bound(field, given), x, t, h, None))(state, given)
        else:
            state = advance(state, keys, given, count - 1)
        return jax.vmap(sampler.point)(state), sampler.spent(state)

    def run(state: Any, begin: Scalar, length: Scalar) -> Any:
        def through(state: Any, keys: Array, given: Any) -> Any:
            return jax.lax.fori_loop(0, length, lambda j, state: advance(state, keys, given, begin + j), state)

        return parts.map(through, state, keys, given)

    def end(state: Any) -> Simulated:
        x, spent = jax.tree.map(parts.join, parts.map(finish, state, keys, given))
        return Simulated(x, None, spent)

    state = parts.map(jax.vmap(sampler.start), parts.split(x))
    if save_every is None:
        return end(run(state, 0, count - 1))

    keep = x.shape[0] if keep is None else min(keep, x.shape[0])
    blocks, rest = divmod(times.shape[0] - 2, save_every)

    def block(state: Any, b: Array) -> tuple[Any, Array]:
        state = run(state, b * save_every, save_every)
        return state, parts.join(parts.map(jax.vmap(sampler.point), state))[:keep]

    state, saved = jax.lax.scan(block, state, jnp.arange(blocks))
    found = end(run(state, blocks * save_every, rest))
    saved_at = [*range(0, blocks * save_every + 1, save_every), times.shape[0] - 1]
    states = jnp.concatenate([x[None, :keep], saved, found.x[None, :keep]])
    return found._replace(trajectory=Trajectory(times[jnp.array(saved_at)], states))


def brownian_path(key: Key, shape: tuple[int, ...], dtype: Any) -> Callable[[Scalar, Scalar], Array]:
    """The increments W(t') - W(t) on [0, 1] of a Brownian path found from the key alone, not stored (2405.06464)."""
    from diffrax import VirtualBrownianTree  # here: it takes 0.4 s, which uncoupled noise need not wait for

    return VirtualBrownianTree(0.0, 1.0, 2.0**-BROWNIAN_LEVELS, jax.ShapeDtypeStruct(shape, dtype), key).evaluate


simulate_compiled = jax.jit(simulate, static_argnames=("last", "save_every", "keep", "coupled", "chunk"))
