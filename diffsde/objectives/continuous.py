"""The likelihood of continuous normalizing flows, differentiable: the ODE of a batch and its log-density, solved by diffrax.

diffsde/likelihood.py is its counterpart for evaluation, by the samplers' own solvers, which keep nothing for a backward pass.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.continuous_flow import ContinuousFlow
from diffsde.objectives.likelihood import Likelihood
from diffsde.objectives.objective import Draw, Problem
from diffsde.types import Array, Scalar

# diffrax's class, and evaluations per step: one less than the stages where a step begins with the last stage of the one before.
SOLVERS = {
    "euler": ("Euler", 1),
    "midpoint": ("Midpoint", 2),
    "heun": ("Heun", 2),
    "bosh3": ("Bosh3", 3),
    "tsit5": ("Tsit5", 6),
    "dopri5": ("Dopri5", 6),
    "dopri8": ("Dopri8", 13),
}
FIRST_STEP = 0.05  # of adaptive steps; the controller may widen the next up to 10 times
MOST_STEPS = 512  # adaptive steps from t = 1 to 0; a solve that needs more gives NaN
EXACT = 16  # most coordinates for which divergence=auto is exact


class State(NamedTuple):
    """State of the ODE of B points: x (B, *shape), and the integrals (B,) from t to 1 of div u, |u|^2/d and |du/dx|_F^2/d."""

    x: Array
    divergence: Array
    kinetic: Array
    jacobian: Array


class Solved(NamedTuple):
    """log p (B,) in nats, the two regularisers (B,), and the evaluations of the network, nfe ()."""

    log_p: Array
    kinetic: Array
    jacobian: Array
    nfe: Array


def flow_of(problem: Problem, params: Any) -> ContinuousFlow:
    """The flow that a problem's network is."""
    return ContinuousFlow(problem.path, params, problem.moments, problem.graph, problem.precondition)


def rates(flow: ContinuousFlow, x: Array, probe: Array | None, label: Scalar | None, t: Scalar) -> State:
    """The state's derivatives in t at one point x (*shape,). probe (*shape,): of Hutchinson's estimates; None: exact."""

    def velocity(x: Array) -> Array:
        return dataclasses.replace(flow, label=label).velocity(x, t)

    def along(direction: Array) -> tuple[Array, Array]:
        return jax.jvp(velocity, (x,), (direction,))

    directions = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape) if probe is None else probe[None]
    u, columns = jax.vmap(along, out_axes=(None, 0))(directions)
    d = x.size
    return State(u, -jnp.sum(directions * columns), -jnp.sum(u**2) / d, -jnp.sum(columns**2) / d)


def probes(objective: Likelihood, eps: Array) -> Array | None:
    """Probes of the divergence, from standard normal eps (B, *shape); None where it is exact."""
    kind = objective.divergence
    if kind == "auto":
        kind = "exact" if math.prod(eps.shape[1:]) <= EXACT else "rademacher"
    return {"exact": None, "rademacher": jnp.where(eps < 0, -1.0, 1.0).astype(eps.dtype), "gaussian": eps}[kind]


def solve(objective: Likelihood, flow: ContinuousFlow, batch: Draw) -> Solved:
    """The likelihoods of a batch z (B, *shape) under a flow, one solve for all of its points; NaN where it needs too many steps."""
    import diffrax  # here: the import takes 0.4 s

    solver, evaluations = SOLVERS[objective.solver]
    z, nothing = batch.z, jnp.zeros(len(batch.z), batch.z.dtype)

    def derivative(t: Any, state: State, args: Any) -> State:
        flow, probe, label = args
        return jax.vmap(partial(rates, flow), in_axes=(0, 0, 0, None))(state.x, probe, label, t)

    if objective.steps is None:
        first, most, throw = FIRST_STEP, MOST_STEPS, False
        controller: Any = diffrax.PIDController(rtol=objective.rtol, atol=objective.atol, norm=error_norm)
        backward: Any = diffrax.PIDController(
            rtol=objective.rtol, atol=objective.atol, norm=diffrax.adjoint_rms_seminorm
        )
    else:
        first, most, throw = 1 / objective.steps, objective.steps + 1, False
        controller = backward = diffrax.ConstantStepSize()
    checkpointed = objective.adjoint == "checkpointed"
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(derivative),
        getattr(diffrax, solver)(),
        t0=1.0,
        t1=0.0,
        dt0=-first,
        y0=State(z, nothing, nothing, nothing),
        args=(flow, probes(objective, batch.eps), batch.label),
        stepsize_controller=controller,
        adjoint=diffrax.RecursiveCheckpointAdjoint()
        if checkpointed
        else diffrax.BacksolveAdjoint(stepsize_controller=backward),
        max_steps=most,
        throw=throw,
    )
    assert solution.ys is not None
    end = State(*(leaf[0] for leaf in solution.ys))
    arrived = solution.result == diffrax.RESULTS.successful
    beta, d = flow.path.beta(jnp.zeros(())), z[0].size
    square = jnp.sum((end.x / beta).reshape(len(z), -1) ** 2, axis=1)
    log_p = -square / 2 - d * jnp.log(beta * math.sqrt(2 * math.pi)) - end.divergence
    nfe = solution.stats["num_steps"] * evaluations
    return Solved(jnp.where(arrived, log_p, jnp.nan), end.kinetic, end.jacobian, nfe)


def error_norm(state: State) -> Array:
    """The rms over points and log-densities of a state of scaled errors; the regularisers are left out, which no one measures."""
    points = state.x.reshape(len(state.x), -1)
    return jnp.sqrt(jnp.mean(jnp.append(points, state.divergence[:, None], axis=1) ** 2))


def likelihood_losses(problem: Problem, params: Any, batch: Draw) -> tuple[Array, Array]:
    """(training losses, losses), each (B,), of a batch of examples: -log p/d, the first with the regularisers."""
    assert isinstance(problem.objective, Likelihood)
    found = solve(problem.objective, flow_of(problem, params), batch)
    own = -found.log_p / batch.z[0].size
    return own + problem.objective.kinetic * found.kinetic + problem.objective.jacobian * found.jacobian, own


def likelihood_nfe(problem: Problem, params: Any, batch: Draw) -> Array:
    """Evaluations of the network () in the solve of a batch; its gradient takes about three times as long again."""
    assert isinstance(problem.objective, Likelihood)
    return solve(problem.objective, flow_of(problem, params), batch).nfe
