"""The times of a sampler's steps tuned for one field: those with which a few points end nearest to a fine solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from diffsde.sampler_trials import Candidate, FineSolution, TrialPoints, ends, rms
from diffsde.samplers import Sampler

NUDGE = 1e-3  # of the logarithm of one step's width: the difference by which the ends' derivative is found
DAMPINGS = (0.1, 1.0, 10.0, 100.0)  # times the last that was best: those that are tried in each round
FIRST_DAMPING = 0.1
SHORT, LONG = 3, 12  # rounds that every start is given, and that the best of them goes on to
ENOUGH = 0.002  # a round that improves the points tuned on by less is the last
EXACT = 2**24  # times are multiples of its inverse, as those of every grid


class Tuned(NamedTuple):
    """A grid in tuning: the candidate, its times now, the damping that was best; of the times that did best on the held-out points
    their rms there; and whether a round still improved it.
    """

    start: Candidate
    times: np.ndarray
    damping: float
    best: np.ndarray
    held_out: float
    going: bool = True


def tuned(
    starts: list[Candidate], samplers: Mapping[str, Sampler], on: TrialPoints, fine: FineSolution
) -> tuple[Candidate, float]:
    """The candidate with the least error whose times were tuned, from several starts, its x and rms on the held-out half of the
    points; and the least rms of the starts there.

    Half of the points are tuned on by Levenberg and Marquardt's method: the ends are linearised in the logarithms of the widths
    of the steps, so that times stay in order, and the distance to the fine solution is minimised with several dampings, of which
    the best is taken. The derivatives are differences: so every field and sampler can be tuned, by the program that tried it.
    The other half says which round's times are taken: where the first half is fitted by chance alone, they get no better.
    """
    found = [begun(each, samplers[each.sampler], on, fine) for each in starts]
    fixed = min(each.held_out for each in found)
    for _ in range(SHORT):
        found = [round_of(each, samplers[each.start.sampler], on, fine) for each in found]
    best = min(found, key=lambda each: each.held_out)
    for _ in range(LONG - SHORT):
        best = round_of(best, samplers[best.start.sampler], on, fine)
    held = halves(on, fine)[1]
    x = ends(samplers[best.start.sampler], held[0], [best.best], best.start.last)[0]
    return best.start._replace(grid="optimised", times=best.best, x=x, rms=best.held_out), fixed


def halves(on: TrialPoints, fine: FineSolution) -> list[tuple[TrialPoints, np.ndarray]]:
    """The points in two halves, each with its ends by the fine solution."""
    middle = len(fine.x) // 2
    found = []
    for part in (slice(0, middle), slice(middle, 2 * middle)):
        condition = jax.tree.map(lambda leaf, part=part: leaf[part], on.condition)
        found.append((TrialPoints(on.field, on.x0[part], condition), fine.x[part]))
    return found


def begun(start: Candidate, sampler: Sampler, on: TrialPoints, fine: FineSolution) -> Tuned:
    """The tuning of a candidate before its first round."""
    held, target = halves(on, fine)[1]
    error = rms(ends(sampler, held, [start.times], start.last)[0], target)
    return Tuned(start, start.times, FIRST_DAMPING, start.times, error)


def round_of(now: Tuned, sampler: Sampler, on: TrialPoints, fine: FineSolution) -> Tuned:
    """One round: a linearisation, and the best of several steps by it; unchanged where the last round improved nothing."""
    if not now.going:
        return now
    (fitted, target), (held, held_target) = halves(on, fine)
    widths = np.log(np.diff(now.times))
    nudged = [placed(now.times, widths + NUDGE * unit) for unit in np.eye(len(widths))]
    x = ends(sampler, fitted, [now.times, *nudged], now.start.last)
    before = rms(x[0], target)
    jacobian = ((x[1:] - x[0]) / NUDGE).reshape(len(widths), -1)
    kept = np.isfinite(jacobian).all(axis=0)
    jacobian, residual = jacobian[:, kept], (x[0] - target).ravel()[kept]
    square, slope = jacobian @ jacobian.T, jacobian @ residual
    diagonal = np.diag(square) + 1e-3 * np.trace(square) / len(square) + 1e-30
    dampings = [now.damping * each for each in DAMPINGS]
    steps = [np.linalg.solve(square + each * np.diag(diagonal), -slope) for each in dampings]
    tries = [placed(now.times, widths + np.clip(step, -1.0, 1.0)) for step in steps]
    errors = [rms(each, target) for each in ends(sampler, fitted, tries, now.start.last)]
    first = int(np.argmin(errors))
    if not errors[first] < before:
        return now._replace(damping=now.damping * DAMPINGS[-1], going=now.damping < 1e3)
    error = rms(ends(sampler, held, [tries[first]], now.start.last)[0], held_target)
    going = errors[first] < (1 - ENOUGH) * before
    now = now._replace(times=tries[first], damping=dampings[first], going=going)
    return now._replace(best=tries[first], held_out=error) if error < now.held_out else now


def placed(at: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Times with the ends of `at`, whose steps are as wide as `widths` says, the logarithms up to a common constant."""
    parts = np.exp(widths - widths.max())
    inner = at[0] + (at[-1] - at[0]) * np.cumsum(parts) / parts.sum()
    found = np.round(np.concatenate([at[:1], inner]) * EXACT) / EXACT
    found[-1] = at[-1]
    return found if (np.diff(found) > 0).all() else at
