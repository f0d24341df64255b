"""Objectives: the target y of the regression, and its weight in t. The loss is written for one example and vmapped.

A preconditioned network (predictions.py) has the same unit-variance target F* whatever the objective, and the loss
    weight(t) |y_hat - y|^2 / d = weight(t) c_out(t)^2 |F - F*|^2 / d
is computed by the right-hand side, which has no 0/0: an objective is then exactly a weight in t.
"""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.nets import Graph
from diffsde.paths import GaussianPath
from diffsde.paths.piecewise import Piecewise
from diffsde.preconditioning import Ends
from diffsde.time_distributions import TimeDistribution
from diffsde.types import Array, Moments, PredictionType, Scalar, choice, register

SHORT = 2.0**-24  # the least distance of a uniform from 0 and 1

TARGETS = {
    "conditional": "y of the example's own z and eps (2210.02747, eq. 9)",
    "marginal": "E[y | x_t], exactly: of mixtures, and of finite data (2210.02747, eq. 5), less the variance of y given x_t",
}
WEIGHTS = {
    "unit": "1: the mean squared error of the prediction itself",
    "beta2": "beta^2: turns the score loss into the noise loss (2011.13456, eq. 7)",
    "balanced": "1/c_out^2: the same expected loss at every t for an untrained network (2206.00364, table 1)",
    "auto": "unit where its expectation is finite and c_out^2 varies along t by a factor of at most 10, else balanced",
}


class Objective(abc.ABC):  # noqa: B024  # what networks learn shares a place in the config, no method
    """What a network learns from x_t and t: a combination of z and eps (Regression), the label (Classification), where the ODE
    leads (FlowMapObjective); or p(z) itself (Likelihood). times: how many times its network is given, 2 for where a jump begins and ends.
    """

    times: ClassVar[int] = 1


class Regression(Objective):
    """Regression on y = a z + b eps, (a, b) the row of `kind` (predictions.row): E[weight(t) |y_hat(x_t, t) - y|^2 / d]."""

    kind: ClassVar[PredictionType]
    weight: str

    @property
    def marginal(self) -> bool:
        """Whether the target is E[y | x_t], of the known law of the data, in the place of y."""
        return False

    @abc.abstractmethod
    def __init__(self, weight: str) -> None: ...


class PathRegression(Regression):
    """A regression on a Gaussian path, by its `target` (TARGETS) on y or on E[y | x_t]: both have one minimiser, and one gradient in
    expectation.
    """

    target: str

    @property
    def marginal(self) -> bool:
        return self.target == "marginal"

    @abc.abstractmethod
    def __init__(self, weight: str, target: str) -> None: ...


@choice
class VelocityMatching(PathRegression):
    """cfm: y = dalpha z + dbeta eps, conditional flow matching (2210.02747, eq. 9)."""

    kind: ClassVar[PredictionType] = "velocity"
    weight: str = "auto"
    target: str = "conditional"


@choice
class VelocityAndScore(Regression):
    """cfm+score: two networks, of the drift E[dalpha z + dbeta y | x] and of the score, between two laws ([SF]2M, 2307.03672).

    E[weight(t) |drift - (dalpha z + dbeta y)|^2 + |gamma score + eps|^2]/d, for paths with gamma > 0; u = drift - gamma dgamma
    score.
    """

    kind: ClassVar[PredictionType] = "velocity"
    weight: str = "balanced"


@choice
class ScoreMatching(PathRegression):
    """score: y = -eps/beta, denoising score matching (Vincent 2011; 2011.13456, eq. 7)."""

    kind: ClassVar[PredictionType] = "score"
    weight: str = "beta2"
    target: str = "conditional"


@choice
class NoisePrediction(PathRegression):
    """noise: y = eps (DDPM, 2006.11239, eq. 14)."""

    kind: ClassVar[PredictionType] = "noise"
    weight: str = "unit"
    target: str = "conditional"


@choice
class DataPrediction(PathRegression):
    """data: y = z, the denoiser, with EDM's weight (2206.00364, eq. 2 and table 1)."""

    kind: ClassVar[PredictionType] = "data"
    weight: str = "balanced"
    target: str = "conditional"


@choice
class VPrediction(PathRegression):
    """v: y = alpha eps - beta z (2202.00512, appendix D)."""

    kind: ClassVar[PredictionType] = "v"
    weight: str = "auto"
    target: str = "conditional"


class FlowMapObjective(Objective):
    """A flow map X_{s,t}(x), learnt from points x_s at pairs of times s <= t (flow_maps.py): a field where s = t.

    diagonal: the share of examples with s = t, which learn the velocity. power: of the weight 1/(|residual|^2/d + 0.001)^power.
    ends_only: whether only jumps to t = 1 are learnt, so that the velocity is not known. guidance: the weight w of a guided
    velocity u(x) + w (u(x|label) - u(x)), whose map is learnt; null: no guidance. kappa: how much of it, from scratch, is the
    network's own guided velocity (2505.13447, appendix).
    """

    times: ClassVar[int] = 2
    diagonal: float
    power: float
    ends_only: bool = False
    guidance: float | None
    kappa: float

    def check(self) -> None:
        """Raise ValueError for numbers that contradict one another."""
        if self.kappa and self.guidance is None:
            raise ValueError(f"kappa is {self.kappa:g}, a part of guidance; give guidance= too")
        if self.ends_only and self.diagonal:
            raise ValueError(
                f"objective.diagonal is {self.diagonal:g}: with ends_only=true every jump ends at t = 1; say diagonal=0"
            )

    @abc.abstractmethod
    def loss(self, problem: Problem, params: Any, sample: Draw) -> tuple[Scalar, Scalar]:
        """(training loss, loss) (), for one example whose jump is from sample.t to sample.until: the first is differentiated, the
        second, without weights that depend on the error, is reported.
        """

    def jump_times(self, problem: Problem, u: Scalar, v: Array) -> tuple[Scalar, Scalar]:
        """(s, t) (), from a uniform u () and two more v (2,): with probability `diagonal` both are the time at u of the distribution
        of t, else u and v[0] in order: of a jump the ends are anywhere. t = 1 where only such jumps are learnt, s by that distribution.
        """
        one = time_at(problem, u)
        if self.ends_only:
            return one, jnp.ones_like(one)
        same = v[1] < self.diagonal
        return jnp.where(same, one, jnp.minimum(u, v[0])), jnp.where(same, one, jnp.maximum(u, v[0]))


@choice
class Classification(Objective):
    """classifier: cross-entropy E[-log p(label | x_t, t)], of a classifier that can guide a field (2105.05233, section 4)."""


@partial(register, static=["graph", "precondition", "gaussian_source"])
@dataclasses.dataclass(frozen=True)
class Problem:
    """What defines a loss, apart from parameters and data: path, objective, distribution of t, the data's moments, network.

    source_moments: the source's, of a problem between two laws; None: a Gaussian path, from noise. gaussian_source: whether
    that source is N(0, I), independent of the data. teacher: the field from which a flow map is distilled; None: from scratch.
    progress: the share of the steps that are done, (), for what changes in the course of training. frozen: the parameters of
    the end of the last round, of an objective that learns in rounds; else None.
    """

    path: GaussianPath
    objective: Objective
    time: TimeDistribution
    moments: Moments
    graph: Graph
    precondition: bool
    source_moments: Moments | None = None
    gaussian_source: bool = False
    teacher: Field | None = None
    progress: Scalar = 0.0
    frozen: Any = None

    @property
    def ends(self) -> Ends:
        """The moments of both laws. Raises TypeError on a Gaussian path."""
        if self.source_moments is None:
            raise TypeError("a Gaussian path has no source")
        return Ends(self.moments, self.source_moments)


class Draw(NamedTuple):
    """One training example: data z and noise eps (*shape,), time t (), and the label () of z; None: no label.

    y (*shape,): the source's point, between two laws, where eps is the noise between them (zeros where gamma is 0). mean: the posterior mean E[z | x_t] (*shape,) over some data points, the source of the target (posterior_targets.py);
    None: the target is made from z itself. noise: E[eps | x_t] (*shape,) beside it, where that is known by a better formula than
    from mean and x_t. until (): where a jump from t ends, of a flow map, and share (): the share of it after which it is cut in
    two, uniform in [0, 1); else None.
    """

    z: Array
    eps: Array
    t: Scalar
    label: Scalar | None = None
    mean: Array | None = None
    y: Array | None = None
    until: Scalar | None = None
    share: Scalar | None = None
    noise: Array | None = None


def time_at(problem: Problem, u: Scalar) -> Scalar:
    """The time t () at a uniform u () by the distribution of t; between two laws `log_normal` is of beta s_y/(alpha s_z).

    On a path through several laws every interval is as likely, and the distribution is of the time within it.
    """
    if isinstance(problem.path, Piecewise):
        place = u * problem.path.intervals
        interval = jnp.clip(jnp.floor(place), 0, problem.path.intervals - 1).astype(jnp.int32)
        return time_within(problem, interval, jnp.clip(place - interval, SHORT, 1 - SHORT))
    return _quantile(problem, problem.path, u)


def time_within(problem: Problem, interval: Scalar, u: Scalar) -> Scalar:
    """The time t () at a uniform u () of an interval () of a path through several laws."""
    assert isinstance(problem.path, Piecewise)
    return problem.path.at(interval, _quantile(problem, problem.path.each, u))  # type: ignore[arg-type]  # an integer


def _quantile(problem: Problem, path: GaussianPath, u: Scalar) -> Scalar:
    moments = problem.moments
    if problem.source_moments is not None:
        moments = moments._replace(std=moments.std / problem.source_moments.std)
    return problem.time.quantile(u, path, moments)


def regression(problem: Problem) -> Regression:
    """The problem's objective, if it is a regression. Raises TypeError for a classifier."""
    if not isinstance(problem.objective, Regression):
        raise TypeError(f"{type(problem.objective).__name__} is not a regression")
    return problem.objective
