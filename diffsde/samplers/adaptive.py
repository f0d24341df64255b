"""The ODE to a tolerance: steps of its own choice. diffrax, because its controllers and Runge-Kutta pairs are well kept."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.samplers.sampler import Noise, Sampler
from diffsde.types import Array, Scalar, choice

# With the evaluations of a step: one less than its stages, as each begins with the last stage of the one before.
PAIRS = {"bosh3": ("Bosh3", 3), "tsit5": ("Tsit5", 6), "dopri5": ("Dopri5", 6), "dopri8": ("Dopri8", 13)}
TRIES = 4096  # steps within one segment before it is given up
FIRST_STEP = 0.01  # width of a segment's first step, which the controller makes up to 10 times wider at once


class Segment(NamedTuple):
    """The state: the point, and the evaluations it took so far."""

    x: Array
    nfe: Array


@choice
class Adaptive(Sampler):
    """A Runge-Kutta pair whose step the local error decides: rms over coordinates of error/(atol + rtol |x|) below 1.

    Every sample takes its own steps, and the evaluations reported are those that were made. The grid's `steps` are
    segments, each ended exactly. pair: bosh3 (order 3), tsit5 (Tsitouras 2011; 5), dopri5 (Dormand & Prince 1980; 5),
    dopri8 (Prince & Dormand 1981; 8). A segment that needs more than 4096 steps gives NaN.
    """

    order: ClassVar[int] = 0
    evaluations: ClassVar[int] = 0
    evaluates_end: ClassVar[bool] = True
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

    def step(self, field: Field, x: Segment, t: Scalar, h: Scalar, key: Noise) -> Segment:
        import diffrax  # here: it takes 0.4 s, which the other samplers need not wait for

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
            adjoint=diffrax.ForwardMode(),  # a plain loop: nothing is kept for a backward pass
            max_steps=TRIES,
            throw=False,
        )
        arrived = solution.result == diffrax.RESULTS.successful
        spent = x.nfe + 1 + evaluations * solution.stats["num_steps"]
        assert solution.ys is not None
        return Segment(jnp.where(arrived, solution.ys[0], jnp.nan), spent)
