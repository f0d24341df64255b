"""Adaptive solvers of the probability-flow ODE: diffrax's embedded Runge-Kutta pairs, the step size set by a tolerance."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.processes import Process
from diffsde.samplers.sampler import Noise, Sampler
from diffsde.types import Array, Scalar, choice

# diffrax's class, and evaluations per step: one less than the stages, as a step begins with the last stage of the one before.
PAIRS = {"bosh3": ("Bosh3", 3), "tsit5": ("Tsit5", 6), "dopri5": ("Dopri5", 6), "dopri8": ("Dopri8", 13)}
TRIES = 4096  # most steps of the solver within one segment; a segment that needs more gives NaN
FIRST_STEP = 0.01  # width of a segment's first step; the controller may widen the next up to 10 times


class Segment(NamedTuple):
    """State of an adaptive solve between two segments: the point x (*shape,), and the evaluations nfe () made so far."""

    x: Array
    nfe: Array


@choice
class Adaptive(Sampler):
    """An embedded Runge-Kutta pair with adaptive steps: the rms over coordinates of error/(atol + rtol |x|) stays below 1.

    Every sample has step sizes of its own, and nfe counts the evaluations really made. The grid's `steps` intervals are
    segments, each solved to its exact end. pair: bosh3 (order 3), tsit5 (Tsitouras 2011; order 5), dopri5 (Dormand &
    Prince 1980; order 5), dopri8 (Prince & Dormand 1981; order 8). A segment that needs more than 4096 steps gives NaN.
    """

    order: ClassVar[int] = 0
    evaluations: ClassVar[int] = 0
    evaluates_end: ClassVar[bool] = True
    needs_field: ClassVar[bool] = False
    adaptive: ClassVar[bool] = True

    pair: str = "tsit5"
    rtol: float = 1e-4
    atol: float = 1e-4

    def start(self, x: Array) -> Segment:
        return Segment(x, jnp.zeros((), jnp.int32))

    def point(self, state: Segment) -> Array:
        return state.x

    def spent(self, state: Segment) -> Array:
        return state.nfe

    def step(self, field: Field | Process, x: Segment, t: Scalar, h: Scalar, key: Noise) -> Segment:
        import diffrax  # here: the import takes 0.4 s, which the other samplers need not wait for

        pair, evaluations = PAIRS[self.pair]

        def velocity(t: Any, x: Array, _: None) -> Array:
            return field.velocity(x, t)

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            getattr(diffrax, pair)(),
            t0=t,
            t1=t + h,
            dt0=jnp.minimum(FIRST_STEP, h),
            y0=x.x,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=diffrax.ForwardMode(),  # a plain loop: nothing is stored for a backward pass
            max_steps=TRIES,
            throw=False,
        )
        arrived = solution.result == diffrax.RESULTS.successful
        spent = x.nfe + 1 + evaluations * solution.stats["num_steps"]
        assert solution.ys is not None
        return Segment(jnp.where(arrived, solution.ys[0], jnp.nan), spent)
