"""log p(x) under a field, by its probability-flow ODE from the data back to the prior (1806.07366; 2011.13456, eq. 39)."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets.finite import HALF_RANGE
from diffsde.errors import UserError
from diffsde.fields import Field, bound, divergence
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.samplers import LoopSettings, Sampler, simulate
from diffsde.samplers.adaptive import Adaptive
from diffsde.samplers.grids import Grid
from diffsde.samplers.ode import RK4, Euler, Heun, Midpoint
from diffsde.solver_error import LENGTHS, FromSource, of_std
from diffsde.stability import finite_velocity
from diffsde.types import Array, Key, Prediction, Scalar, register

SOLVERS: dict[str, type[Sampler]] = {
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "rk4": RK4,
    "adaptive": Adaptive,
}
# Grids without a long last step to t = 1: a network's velocity is steepest there, and one long step can make a model seem
# better than it is by several bits.
GRIDS = ("uniform", "quadratic", "cosine")
PROBES = {
    "exact": "the divergence itself, a derivative of the velocity per coordinate",
    "rademacher": "Hutchinson's estimate v^T (du/dx) v, every coordinate of v -1 or 1: one derivative",
    "gaussian": "the same for a standard normal v, of larger variance",
}
EXACT = 16  # most coordinates of a point for which probe=auto is the exact divergence
SHORT = 1e-5  # distance from t = 1 at which the ODE begins if the field is infinite at t = 1 (2011.13456, appendix C)


class LogLikelihood(NamedTuple):
    """log p(x) of n points: log_p (n,) in nats; nfe (n,), evaluations of the field, if they differ by point."""

    log_p: Array
    nfe: Array | None


class Condition(NamedTuple):
    """The condition of a ReversedFlow: Hutchinson's probe (*shape,), None for the exact divergence; and the field's label ()."""

    probe: Array | None
    label: Scalar | None


@partial(register, static=["shape"])
@dataclasses.dataclass(frozen=True)
class ReversedFlow(Field):
    """The probability-flow ODE and its log-density, reversed in time: s = 1 - t, dx/ds = -u_{1-s}(x), dl/ds = div u_{1-s}(x).

    The state (x, l) has shape (d + 1,), x flattened. `probe` estimates the divergence; None: it is exact. Only `velocity` is
    defined: `output` raises TypeError.
    """

    field: Field
    shape: tuple[int, ...]
    probe: Array | None = None

    def bind(self, condition: Condition) -> ReversedFlow:
        return dataclasses.replace(self, field=bound(self.field, condition.label), probe=condition.probe)

    def velocity(self, x: Array, t: Scalar) -> Array:
        point, t = x[:-1].reshape(self.field.shape), 1 - t
        if self.probe is None:
            u, div = self.field.velocity(point, t), divergence(self.field, point, t)
        else:
            u, change = jax.jvp(lambda x: self.field.velocity(x, t), (point,), (self.probe,))
            div = jnp.sum(self.probe * change)
        return jnp.append(-u.ravel(), div)

    def output(self, x: Array, t: Scalar) -> Prediction:
        raise TypeError("the flow of a density has a velocity, and neither data nor noise")


def log_likelihood(
    solver: Sampler,
    field: Field,
    x: Array,
    times: Array,
    key: Key,
    labels: Array | None = None,
    steps: Scalar | None = None,
    source: Mixture | None = None,
    probe: str = "exact",
) -> LogLikelihood:
    """log p(x_n) at times[-1] for points x (n, *shape): log N(x_0; 0, beta(t_0)^2 I) - int div u dt, t_0 = times[0].

    source: the law of y at t = 0, whose density, that of beta y + gamma eps, takes the place of N(0, beta^2 I); None: that.

    The solver goes from times[-1] to times[0]. labels (n,): conditions of the field, for log p(x_n | label_n); None: none.
    probe: a key of PROBES; the probe of point i is drawn once from fold_in(key, i) and fixed along its trajectory, so that
    the integrand is smooth and the mean over probes is log p up to the solver's error.
    steps: only the last `steps` steps of `times` are taken, a traced number; times[0] must be their end (`coarser`).
    Memory does not grow with the number of steps.
    """
    n, d = x.shape[0], math.prod(field.shape)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))
    draw = {"exact": None, "rademacher": jax.random.rademacher, "gaussian": jax.random.normal}[probe]
    probes = None if draw is None else jax.vmap(lambda key: draw(key, field.shape, x.dtype))(keys)
    condition = None if probes is None and labels is None else Condition(probes, labels)
    start = jnp.append(x.reshape(n, d), jnp.zeros((n, 1), x.dtype), axis=1)
    flow = ReversedFlow(field, (d + 1,))
    end, _, nfe = simulate(solver, flow, start, (1 - times)[::-1], key, condition, steps, LoopSettings("mean"))
    if source is not None:
        start_law = starting_law(source, field.path, times[0])
        return LogLikelihood(jax.vmap(partial(mixtures.log_prob, start_law))(end[:, :-1]) - end[:, -1], nfe)
    beta = field.path.beta(times[0])
    square = jnp.sum((end[:, :-1] / beta) ** 2, axis=1)
    return LogLikelihood(-square / 2 - d * jnp.log(beta * math.sqrt(2 * math.pi)) - end[:, -1], nfe)


def starting_law(source: Mixture, path: GaussianPath, t: Scalar) -> Mixture:
    """The law of beta y + gamma eps at t, y of the source: where samples start."""
    c = coefficients(path, t)
    return mixtures.marginal(source, c._replace(alpha=c.beta, beta=c.gamma))


log_likelihood_compiled = jax.jit(log_likelihood, static_argnames="probe")


def gaussian_error(solver: Sampler, path: GaussianPath, times: Array, stds: tuple[float, ...]) -> np.ndarray:
    """The solver's error of E log p for N(0, std^2) data with the exact field, in nats per coordinate: (k,), per std of `stds`.

    For a linear field the solver's log p is a + b x^2, so that its mean over the data is its value at x = std.
    """
    padded = coarser(jnp.zeros(len(times) + -len(times) % LENGTHS), times)  # one program for every number of steps
    found = _log_p(solver, path, padded, jnp.asarray(stds, times.dtype), len(times) - 1)
    return np.asarray(found, np.float64) + 0.5 + np.log(np.asarray(stds) * math.sqrt(2 * math.pi))


@jax.jit
def _log_p(solver: Sampler, path: GaussianPath, times: Array, stds: Array, steps: Scalar) -> Array:
    def of(std: Array) -> Array:
        field, key = of_std(path, std), jax.random.key(0)
        source = None
        if isinstance(path, FromSource):
            source = Mixture(jnp.zeros((1, 1)), jnp.full((1, 1), path.source_std**2), jnp.ones(1))
        return log_likelihood(solver, field, std[None, None], times, key, steps=steps, source=source).log_p[0]

    return jax.vmap(of)(stds)


def coarser(times: Array, coarse: Array) -> Array:
    """The grid `coarse` padded in front to the length of `times`, so that both go through the same compiled program."""
    return jnp.concatenate([jnp.full(len(times) - len(coarse), coarse[0]), coarse])


def choose_probe(probe: str, shape: tuple[int, ...]) -> str:
    """A key of PROBES; `auto` becomes exact up to 16 coordinates, else rademacher. Raises UserError for any other word."""
    if probe == "auto":
        return "exact" if math.prod(shape) <= EXACT else "rademacher"
    if probe not in PROBES:
        raise UserError(f"probe is '{probe}'; choose one of auto, {', '.join(PROBES)}")
    return probe


def choose_end(field: Field, grid: Grid) -> Grid:
    """The grid, ending at t = 1 - 1e-5 if the velocity is infinite at t = 1. Raises UserError if an end is still singular."""
    if grid.end == 1 and not finite_velocity(field, 1.0):
        grid = dataclasses.replace(grid, end=1 - SHORT)  # type: ignore[type-var]  # every grid is a dataclass
    for t in (grid.start, grid.end):
        if not finite_velocity(field, t):
            raise UserError(
                f"likelihood: the velocity of this field is infinite at t={t:g}, where its ODE begins or ends;"
                " it needs a field that was trained with precondition=true"
            )
    return grid


def bits_per_dim(log_p: Array, dimension: int) -> Array:
    """Bits per dimension of images in bytes: -log p/(d ln 2) + log2(127.5), log p of points scaled to [-1, 1].

    The mean over the dequantisation noise is an upper bound of the bits per byte of the discrete model P(k) = int p over
    the bin of k (1511.01844, eq. 4). A density uniform over all bins has 8.
    """
    return -log_p / (dimension * math.log(2)) + math.log2(HALF_RANGE)
