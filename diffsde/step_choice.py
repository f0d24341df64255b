"""How many steps to take where the user does not say: the fewest, of powers of 2 up to 512, that change no sample by much."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffsde.errors import UserError
from diffsde.paths import GaussianPath
from diffsde.samplers import Sampler
from diffsde.samplers.edm import EDMHeun
from diffsde.solver_error import TOLERATED, SamplingPlan, std_ratios

MOST = 512  # steps; the trial takes twice as many as are chosen
EVALUATIONS = 64  # of the field, at least: on the 11-component mixture fewer pass the trial too, but change within-mode stds by 1.3%
UNTRIED = 128  # steps at least of a sampler that has no trial
TOLERANCE = 0.004  # of the samples' std: the error at the end, measured by halving
TOLERANCE_NOISY = 0.008  # of a sampler with noise, which lets samples forget what earlier steps erred by
STD_TOLERANCE = 0.01  # of the least of the data's stds; TOLERATED of the others
AWAY = 0.05  # of the trial's points, those that differ most, are left out of the error
LEAST_RATIO = math.sqrt(2)  # by which half as many steps err more, at least: that of order 1/2
QUIET = 1e-6  # sigma in a trial: none, but for where sigma_t is infinite, and 0 times it would be no number


class StepChoice(NamedTuple):
    """A number of steps, and what it errs by: `error` as a share of the samples' std, by halving, to be within `tolerance`; and
    `std_error`, the furthest from 1 that the std of Gaussian data of the data's scales is times its own. None: not measured.
    """

    steps: int
    error: float | None
    tolerance: float
    std_error: float | None

    @property
    def accurate(self) -> bool:
        """Whether the error by halving is within its tolerance."""
        return self.error is None or self.error <= self.tolerance


Trial = Callable[
    [int], np.ndarray
]  # where so many steps take a few points, (points, *shape), the same whatever their number


def quiet(sampler: Sampler) -> Sampler | None:
    """The sampler without noise, by the same formula; None where it has none, or takes steps of its own."""
    if sampler.adaptive:
        return None
    if not sampler.stochastic:
        return sampler
    if isinstance(sampler, EDMHeun):
        return dataclasses.replace(sampler, churn=0.0)
    diffusion: Any = getattr(sampler, "diffusion", None)
    if diffusion is None:
        return None
    noisy: Any = sampler
    return dataclasses.replace(noisy, diffusion=dataclasses.replace(diffusion, sigma=QUIET))


def choose_steps(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...], trial: Trial | None) -> StepChoice:
    """The fewest steps for the sampler, the grid and the last step of `how`, by two measures.

    The stds of Gaussian data of the data's scales are exact (solver_error.std_ratios), noise included: they see the least scale,
    and what a last step without noise leaves out. The trial sees the field itself: the ends of the quiet sampler with N and
    with 2N steps. Noisy samples of two numbers of steps cannot be compared one by one, even on one Brownian path: a small
    difference early sends some to another mode, and their law is right long before they agree (measured on the
    11-component mixture: `ddpm` in 512 steps has the std of its components to 0.5% where samples differ by 1.4%). A sampler that
    no number of steps makes right (Langevin's, say) takes the fewest that more would not change.
    """
    tolerance = TOLERANCE_NOISY if how.sampler.stochastic else TOLERANCE
    counts = doubled(fewest(how.sampler) if trial else UNTRIED, MOST)
    wrong = {steps: std_errors(how._replace(steps=steps), path, stds) for steps in counts}
    placed = [steps for steps, each in wrong.items() if np.isfinite(each).all()]  # beyond, times of the grid coincide
    able = [steps for steps in placed if fits(wrong[steps])]
    if not able:
        able = [steps for steps in placed if fits(wrong[steps] - wrong[placed[-1]])]
    ends: dict[int, np.ndarray] = {}
    error = None
    for steps in able or counts[:1]:
        error = halving_error(trial, ends, steps, how.sampler.order) if trial else None
        if error is None or error <= tolerance:
            break
    return StepChoice(steps, error, tolerance, float(np.abs(wrong[steps]).max()) if stds else None)


def fewest(sampler: Sampler) -> int:
    """The power of 2 with which a sampler makes EVALUATIONS, or fewer, down to 8."""
    return 2 ** max(3, int(math.log2(EVALUATIONS / max(1, sampler.evaluations))))


def doubled(first: int, last: int) -> list[int]:
    """first, 2 first, ..., last."""
    return [first * 2**i for i in range(int(math.log2(last // first)) + 1)]


def std_errors(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...]) -> np.ndarray:
    """How far the ratio of each std is from 1, the least std first; infinite where the grid's times do not increase."""
    try:
        found = np.array([each.ratio - 1 for each in std_ratios(how, path, stds)])
    except UserError:
        return np.full(len(stds), np.inf)
    return np.where(np.isfinite(found), found, np.inf)


def fits(errors: np.ndarray) -> bool:
    """Whether these errors of the stds, the least std first, are tolerated."""
    most = np.full(len(errors), TOLERATED)
    most[:1] = STD_TOLERANCE
    return bool((np.abs(errors) <= most).all())


def halving_error(trial: Trial, ends: dict[int, np.ndarray], steps: int, order: int) -> float:
    """How far `steps` steps end from where infinitely many would, as a share of the std of the ends, which are kept in `ends`.

    With the differences d, d' of N/2 and N, and of N and 2N steps, and r = d/d' the error of N steps is d' r/(r - 1)
    (Richardson). r is measured; 2^order bounds it from above, LEAST_RATIO from below, so that neither luck nor a stated
    order that is not reached yet makes the error small. Infinite where an end is not finite, or no such grid exists.
    """
    try:
        half, whole = (kept(trial, ends, count) for count in (steps // 2, steps))
    except UserError:
        return math.inf
    first = trimmed_rms(half, whole)
    try:
        double = kept(trial, ends, 2 * steps)
    except (
        UserError
    ):  # times of so fine a grid coincide: from N/2 and N alone, as if they converged as slowly as is allowed for
        return first / (LEAST_RATIO - 1) / scale(whole) if math.isfinite(first) else math.inf
    second = trimmed_rms(whole, double)
    if not math.isfinite(second):
        return math.inf
    ratio = first / second if second > 0 and math.isfinite(first) else LEAST_RATIO
    ratio = min(max(ratio, LEAST_RATIO), 2.0 ** max(order, 1))
    return second * ratio / (ratio - 1) / scale(double)


def kept(trial: Trial, ends: dict[int, np.ndarray], steps: int) -> np.ndarray:
    if steps not in ends:
        ends[steps] = np.asarray(trial(steps), np.float64)
    return ends[steps]


def trimmed_rms(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square over points and coordinates, but for the AWAY share of the points that differ most: of two modes a
    point near their border may end in either, which changes the law of all points little, and this mean much.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.square(one - other).reshape(len(one), -1).mean(axis=1)
    nearest = np.sort(squares)[: max(1, math.ceil((1 - AWAY) * len(squares)))]  # NaN is sorted to the end
    return float(np.sqrt(nearest.mean()))


def scale(ends: np.ndarray) -> float:
    """The std of the ends over all coordinates; of ends that are all as good as one, a thousandth of their size."""
    return max(float(np.sqrt(ends.var(axis=0).mean())), 1e-3 * float(np.sqrt(np.square(ends).mean())), 1e-30)
