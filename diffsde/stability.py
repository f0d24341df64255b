"""What can be said before anything runs: what is infinite where, and whether a step is stable on the data at hand."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import predictions
from diffsde.errors import UserError
from diffsde.fields import VELOCITY_ALONE, Field, FlowMap, NetworkField, OracleField
from diffsde.interpolants import Backward
from diffsde.inverse.operators import from_matrix
from diffsde.inverse.posteriors import PosteriorField
from diffsde.mixtures import Mixture
from diffsde.paths import GaussianPath, coefficients
from diffsde.samplers import Sampler
from diffsde.samplers.diffusions import Memoryless, Vanishing
from diffsde.solver_error import LENGTHS, noise_variance, of_std
from diffsde.time_distributions import invert_log_snr
from diffsde.types import Array, Moments, Prediction, PredictionType, Scalar, on_device, register

ODE_SAMPLERS = "take heun, rk4, euler, midpoint, ab2, ab3 or adaptive, which solve its ODE"
LEAST_SIGNAL = 0.1  # alpha/beta from which a network of the noise may start: its error in E[z|x] is 10 times its own


@partial(register, static=["kind", "precondition"])
@dataclasses.dataclass(frozen=True)
class UntrainedField(NetworkField):
    """A network whose output is 0, in the place of one that is not trained yet: infinite just where that will be."""

    path: GaussianPath
    moments: Moments
    kind: PredictionType
    precondition: bool

    def network(self, x: Array, t: Scalar) -> Array:
        return jnp.zeros_like(x)


@partial(register, static=["ends_only"])
@dataclasses.dataclass(frozen=True)
class UntrainedFlowMap(FlowMap):
    """The same of a flow map: the map of isotropic Gaussian data with these moments."""

    path: GaussianPath
    moments: Moments
    ends_only: bool = False

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]  # read-only, derived
        return self.moments.mean.shape

    @property
    def knows_velocity(self) -> bool:
        return not self.ends_only

    def output(self, x: Array, t: Scalar) -> Prediction:
        return predictions.from_network(jnp.zeros_like(x), x, coefficients(self.path, t), self.moments)

    def jump(self, x: Array, s: Scalar, t: Scalar) -> Array:
        c = coefficients(self.path, s), coefficients(self.path, t)
        return predictions.jump(jnp.zeros_like(x), x, *c, self.moments)


def finite_step(sampler: Sampler, field: Field, t: Scalar, h: Scalar) -> bool:
    """Whether one step from t, tried on one point, meets nothing infinite."""
    return bool(_finite_step(sampler, field, t, h))


@partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it runs twice: compiling is what it costs
def _finite_step(sampler: Sampler, field: Field, t: Scalar, h: Scalar) -> Array:
    state = sampler.start(jnp.full(field.shape, 0.5))
    return jnp.isfinite(sampler.point(sampler.step(field, state, t, h, jax.random.key(0)))).all()


def choose_last_step(sampler: Sampler, field: Field, times: Array, last: str) -> str:
    """The policy of the last step, `auto` decided. Tries the first and the last step on one point.

    Raises UserError where the first, or the last with a policy that was asked for, meets something infinite.
    """
    at = np.asarray(times)  # whose parts are read without a program for each length
    if sampler.adaptive and not finite_velocity(field, at[-1]):
        raise UserError(
            f"the velocity of this field is infinite at t={float(at[-1]):.3g}; keep off, e.g. grid.end=0.999"
        )
    begins = finite_step(sampler, field, at[0], at[1] - at[0])
    if last == "denoise" and not field.follows_path:
        raise UserError(f"last=denoise: {VELOCITY_ALONE}; say last=mean")
    if last == "denoise" and not field.knows_data:
        raise UserError(
            "last: this field knows no E[z|x]: on a path with noise on the way (gamma) the velocity alone does not give it;"
            " say last=mean, or train with objective=cfm+score"
        )
    if not begins and field.gaussian and not finite_data(field, at[0]):
        raise UserError(infinite_at_the_start(field, at[0]))
    if not begins and sampler.adaptive:
        raise UserError(
            f"from t={float(at[0]):.3g} to t={float(at[1]):.6g} the tolerance needs more than 4096 steps;"
            " loosen sampler.rtol and sampler.atol"
        )
    if not begins and len(at) > 2:
        raise UserError(
            f"grid.start: at t={float(at[0]):.3g} this sampler or its diffusion is infinite on this path;"
            " start later, e.g. grid.start=0.001"
        )
    if last == "denoise":
        return last
    if not begins:
        raise UserError(
            f"steps: the one step from t={float(at[0]):.3g} to t={float(at[1]):.6g} meets something infinite;"
            " take more, e.g. steps=50"
        )
    arrives = len(at) == 2 or finite_step(sampler, field, at[-2], at[-1] - at[-2])
    if last == "auto" and not arrives and not field.knows_data:
        raise UserError(
            f"grid.end: the step to t={float(at[-1]):.6g} meets something infinite there; stop at grid.end=0.999"
        )
    if last == "auto":
        return "mean" if arrives else "denoise"
    if not arrives:
        raise UserError(f"last: the step to t={float(at[-1]):.6g} meets something infinite there; say last=denoise")
    return last


def infinite_at_the_start(field: Field, t: Scalar) -> str:
    """What to do where a network says nothing of the data: of noise, where alpha = 0. Near there E[z|x] = (x - beta eps)/alpha
    multiplies its error by beta/alpha, which the steps that follow do not undo: a start at 0.001 would be no remedy.
    """
    later = math.ceil(100 * float(invert_log_snr(field.path, jnp.log(LEAST_SIGNAL)))) / 100
    return (
        f"grid.start: at t={float(t):.3g} this network says nothing of the data, and just after it its error counts beta/alpha"
        f" times; start where that is 10, from p_t of the data: grid.start={later:g}; or train with precondition=true"
    )


def finite_velocity(field: Field, t: Scalar) -> bool:
    """Whether the velocity at t, tried on one point, is finite."""
    return bool(_finite_velocity(field, on_device(t, float)))


@partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def _finite_velocity(field: Field, t: Scalar) -> Array:
    return jnp.isfinite(field.velocity(jnp.full(field.shape, 0.5), t)).all()


def finite_data(field: Field, t: Scalar) -> bool:
    """Whether E[z|x] at t, tried on one point, is finite."""
    return bool(jnp.isfinite(field.data(jnp.full(field.shape, 0.5), jnp.asarray(t))).all())


def amplification_factor(sampler: Sampler, path: GaussianPath, times: Array, variance: float) -> np.ndarray:
    """What each step, without its noise, multiplies a deviation from the data by, for N(0, variance) data: (steps,).

    There every sampler's step is linear in x. Euler-Maruyama's on a point is 1 + h (dbeta/beta - sigma^2/(2 beta^2)),
    below -1 from h = 4 beta^2/sigma^2 on, or so: deviations change sign and grow. Of a method with memory, its first step.
    """
    return factors_of(sampler, of_std(path, jnp.asarray(math.sqrt(variance))), times)


def factors_of(sampler: Sampler, field: Field, times: Array) -> np.ndarray:
    """What each step multiplies a deviation by, (steps,), of a field of points on a line."""
    return np.asarray(_amplification(sampler, field, filled(times)))[: len(times) - 1]


def filled(times: Array) -> np.ndarray:
    """The times, the last repeated until a program holds them that serves other numbers of steps too."""
    return np.pad(np.asarray(times), (0, -len(times) % LENGTHS), mode="edge")


@jax.jit
def _amplification(sampler: Sampler, field: Field, times: Array) -> Array:
    def factor(t: Array, h: Array) -> Array:
        def end(x: float) -> Array:
            return sampler.point(sampler.step(field, sampler.start(jnp.full((1,), x)), t, h, None))[0]

        return end(1.0) - end(0.0)

    return jax.vmap(factor)(times[:-1], jnp.diff(times))


def instability(
    sampler: Sampler,
    path: GaussianPath,
    times: Array,
    last: str,
    variance: float,
    gaussian: bool = True,
    backward: bool = False,
) -> str | None:
    """One line where steps of an SDE's solver grow deviations from the data, and what would mend it. gaussian: Field.gaussian.
    backward: whether the path's own t is 1 less the times.
    """
    if not sampler.stochastic:
        return None
    factors = amplification_factor(sampler, path, times, variance)
    unstable = unstable_steps(factors, path, times, last, variance)
    if not unstable.size:
        return None
    begin, until = (1 - t if backward else t for t in (float(times[unstable[0]]), float(times[unstable[-1] + 1])))
    about = "data on a thin set" if variance == 0 else f"data of variance {variance:.2g}"
    return (
        f"on {about} the sampler is unstable in {unstable.size} of {len(times) - 1} steps, t={begin:.4g} to {until:.4g}:"
        f" a step amplifies perturbations off the data by up to {np.abs(factors[unstable]).max():.3g};"
        f" take {mend(sampler, gaussian)}"
    )


@jax.jit
def _variances(path: GaussianPath, variance: Scalar, times: Array) -> Array:
    return jax.vmap(lambda t: jnp.asarray(path.alpha(t) ** 2 * variance + noise_variance(path, t)))(times)


def unstable_steps(factors: np.ndarray, path: GaussianPath, times: Array, last: str, variance: float) -> np.ndarray:
    """The steps that multiply a deviation by more than the law of N(0, variance) data itself grows by."""
    scales = np.asarray(_variances(path, jnp.asarray(variance), filled(times)))[: len(times)]
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.sqrt(scales[1:] / scales[:-1])
    return np.flatnonzero((np.abs(factors) > 1.05 * np.fmax(1, own))[: -1 if last == "denoise" else None])


def likelihood_instability(
    sampler: Sampler, field: PosteriorField, times: Array, last: str, variance: float
) -> str | None:
    """One line where steps grow deviations from what is measured, and what would mend it.

    Tried on N(0, variance) data, measured in one direction with the operator's largest singular value: there every field of
    a posterior is affine. Between parts of data on a thin set the likelihood is steeper still.
    """
    path, operator = field.path, from_matrix(np.array([[field.operator.gain]]), (1,))
    prior = OracleField(path, Mixture(jnp.zeros((1, 1)), jnp.full((1, 1), variance), jnp.ones(1)), (1,))
    line = dataclasses.replace(field, prior=prior, operator=operator, y=jnp.zeros(1))  # type: ignore[type-var]

    def steep(times: Array) -> tuple[np.ndarray, np.ndarray]:
        factors = factors_of(sampler, line, times)
        return factors, unstable_steps(factors, path, times, last, variance)

    factors, unstable = steep(times)
    if not unstable.size:
        return None
    worst = factors[unstable][np.abs(factors[unstable]).argmax()]
    enough = next((more for more in (2, 4, 8, 16, 32) if not steep(refined(times, more))[1].size), None)
    return (
        f"the likelihood of a noise of {float(field.noise_std):.3g} is too steep for {unstable.size} of {len(times) - 1} steps,"
        f" t={float(times[unstable[0]]):.4g} to {float(times[unstable[-1] + 1]):.4g}: a step amplifies perturbations"
        f" off the measurement by up to {abs(worst):.3g}; take {f'{enough} times as many steps, ' if enough else ''}posterior=mmps, or a larger"
        " measurement.noise"
    )


def refined(times: Array | np.ndarray, more: int) -> Array:
    """Each step as so many equal ones."""
    places = np.asarray(times)
    return on_device(np.interp(np.arange(more * (len(places) - 1) + 1) / more, np.arange(len(places)), places), float)


def mend(sampler: Sampler, gaussian: bool = True) -> str:
    """What would make an unstable step stable; h < 4 beta^2/sigma^2 is Euler-Maruyama's limit."""
    diffusion = getattr(sampler, "diffusion", None)
    if not gaussian:  # where there is no sampler=exponential
        if diffusion is None:
            return "more steps, smaller ones of Langevin where it has them, or sampler=heun"
        if not float(diffusion.sigma):
            return "more steps, or sampler=heun"
        fade = "" if isinstance(diffusion, Vanishing) else "diffusion=vanishing, "
        return f"{fade}a smaller sigma, more steps, or sampler=heun"
    if diffusion is None:
        return "more steps, smaller ones of Langevin where it has them, or sampler=exponential"
    if isinstance(diffusion, Vanishing):
        return "a smaller sigma, more steps, or sampler=exponential (h < 4 beta^2/sigma_t^2 is the limit)"
    return "diffusion=vanishing or sampler=exponential (h < 4 beta^2/sigma_t^2 is the limit)"


def check_sampler(sampler: Sampler, field: Field, name: str) -> None:
    """Raise UserError for a sampler, of this name, or a diffusion that the field cannot serve."""
    if sampler.jumps and not field.jumps:
        raise UserError(f"sampler={name} asks a flow map where its ODE leads, and {without_jumps(field)}")
    if not sampler.jumps and not field.knows_velocity:
        raise UserError(
            f"sampler={name} asks for the velocity, and this model has learnt jumps to t = 1 alone; say sample run=..."
            " sampler=consistency, which makes several of them with fresh noise between, or sampler=flow_map for one"
        )
    if not field.follows_path and sampler.needs != "velocity":
        raise UserError(f"sampler={name}: {VELOCITY_ALONE}; {ODE_SAMPLERS}")
    if not field.gaussian:
        check_sampler_between(sampler, name, field.knows_score)


def without_jumps(field: Field) -> str:
    """Why a field knows no jumps, and what to do: of one made from a flow map, by guidance or backward in time, leave that out."""
    inner, backward = field, False
    while (within := getattr(inner, "field", None) or getattr(inner, "forward", None)) is not None:
        backward |= isinstance(inner, Backward)
        inner = within
    if not inner.jumps:
        return (
            "this field knows its velocity alone; train one (objective=meanflow), take run=oracle, whose map is exact, or"
            " sampler=heun"
        )
    if backward:
        return "a field backward in time has none; leave out direction=backward, or take sampler=heun"
    return (
        "a guided field has none; leave out guidance= (train with objective.guidance= to have it in the map), or take"
        " sampler=heun"
    )


def check_jumps(sampler: Sampler, field: Field, times: Array) -> None:
    """Raise UserError for jumps to times before t = 1 of a model that has learnt none of them."""
    at = np.asarray(times)
    if field.knows_velocity or sampler.stochastic or not sampler.jumps:
        return
    if len(at) > 2 or at[-1] < 1:
        where = f"steps is {len(at) - 1}" if len(at) > 2 else f"grid.end is {at[-1]:g}"
        raise UserError(
            f"{where}, and this model has learnt jumps to t = 1 alone; take steps=1 to there, or sampler=consistency, which goes back"
            " by fresh noise"
        )


def check_sampler_between(sampler: Sampler, name: str, knows_score: bool) -> None:
    """Raise UserError for a sampler, of this name, or a diffusion that a field between two laws cannot serve."""
    if sampler.needs == "gaussian":
        raise UserError(
            f"sampler={name} takes alpha and beta for those of a Gaussian path from N(0, I); between two laws take heun, rk4,"
            " euler, midpoint, ab2, ab3 or adaptive for the ODE, em or stochastic_heun for the SDE"
        )
    if isinstance(getattr(sampler, "diffusion", None), Memoryless):
        raise UserError(
            "diffusion=memoryless is of a Gaussian path from N(0, I); between two laws take another, e.g. diffusion=constant"
        )
    if sampler.needs == "score" and not knows_score:
        raise UserError(
            f"sampler={name} needs the score, which the velocity alone does not give between two laws; train with"
            " path=bridge objective=cfm+score, or take sampler=heun"
        )


def takes_sigma(sampler: Sampler, sigma: float | None) -> None:
    """Raise ValueError for a sigma that the sampler would not look at."""
    if sigma is None or hasattr(sampler, "diffusion") or hasattr(getattr(sampler, "predictor", None), "diffusion"):
        return
    if sampler.stochastic:
        raise ValueError(f"sigma is {sigma}, but the noise of this sampler is not set by it; take sampler=em")
    if sigma:
        raise ValueError(f"sigma is {sigma}, but this sampler solves the ODE, without noise; take sampler=em")
