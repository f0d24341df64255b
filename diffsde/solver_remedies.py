"""What gets the data's scales right where a sampler does not (solver_error.py): grid=auto decided, and the remedy named."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp

from diffsde.errors import UserError
from diffsde.paths import GaussianPath
from diffsde.samplers.exponential import DDIM
from diffsde.samplers.grids import AutoGrid, CosineGrid, Grid, ListGrid, LogSNRGrid, QuadraticGrid, UniformGrid
from diffsde.samplers.ode import RK4, Heun
from diffsde.solver_error import TOLERATED, FromSource, SamplingPlan, StdRatio, noise_std, std_ratios, worst

MARGINS = (5.0, 3.0)  # of a grid in log(alpha/beta): how far it goes beyond alpha std = beta at either end
AUTO_STEPS = 250  # steps of Heun's method by which grid=auto is decided, whatever the sampler: a sweep has one grid
AUTO_TOLERATED = 0.01  # how far from 1 the ratio may be on the uniform grid, before another is taken
MORE = (2, 4, 8)  # times as many steps, tried in turn
ENOUGH = (32, 64, 128, 256)  # ... and then so many, where these are still more
SAMPLERS = {"heun": Heun(), "rk4": RK4(), "ddim": DDIM()}  # tried in the place of another


def resolve_grid(grid: Grid, path: GaussianPath, stds: tuple[float, ...], last: str) -> Grid:
    """grid=auto decided: uniform where Heun's method in 250 steps gets every std right to 1% on it, else log_snr about the
    stds where that does; else the one that is within what is tolerated, and uniform where neither is.

    It depends on path, data and the last step's policy alone, and not on sampler and steps, which a sweep varies.
    """
    if not isinstance(grid, AutoGrid) or not stds:
        return UniformGrid(grid.start, grid.end) if isinstance(grid, AutoGrid) else grid
    plain = UniformGrid(grid.start, grid.end)
    wrong: dict[Grid, float] = {}
    for each in (plain, *log_snr_grids(grid, stds)):
        wrong[each] = accuracy(SamplingPlan(Heun(), each, AUTO_STEPS, last), path, stds)
        if wrong[each] <= AUTO_TOLERATED:
            return each
    return next((each for each in wrong if wrong[each] <= TOLERATED), plain)


def log_snr_grids(grid: Grid, stds: tuple[float, ...]) -> Iterator[LogSNRGrid]:
    """Grids of equal steps in log(alpha/beta), the start and the end kept: from where alpha std = beta of the widest data
    to where it is of the narrowest, over alpha = beta, about which the path itself bends, and MARGINS further.
    """
    for margin in MARGINS:
        low, high = -math.log(max(stds[-1], 1)) - margin, -math.log(min(stds[0], 1)) + margin
        yield LogSNRGrid(grid.start, grid.end, round(low, 1), round(high, 1))


def find_remedy(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...]) -> str | None:
    """What gets every std right, in the words of the command line: another grid, or more steps, or both, or another sampler;
    of the first kind that does, the best. None where none does.
    """
    between = isinstance(path, FromSource) or path.has_gamma  # where samplers of a Gaussian path are refused
    for kind in candidates(how, stds):
        if between:
            kind = {words: other for words, other in kind.items() if other.sampler.needs != "gaussian"}
        able = {words: accuracy(other, path, stds) for words, other in kind.items()}
        words = min(able, key=lambda words: able[words], default="")
        if words and able[words] <= TOLERATED:
            return words
    return None


def accuracy(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...]) -> float:
    """How far the ratio of the worst std is from 1; infinite where the grid's times do not increase."""
    try:
        return max(each.excess for each in std_ratios(how, path, stds))
    except UserError:
        return math.inf


def candidates(how: SamplingPlan, stds: tuple[float, ...]) -> Iterator[dict[str, SamplingPlan]]:
    """What is tried in the place of `how`, by its words on the command line; the cheap ones first."""
    grids, around = other_grids(how.grid, stds)
    yield {words: how._replace(grid=grid) for words, grid in (grids | around).items() if grid != how.grid}
    if not how.sampler.adaptive:
        times_more = [factor * how.steps for factor in MORE]
        for count in [*times_more, *(enough for enough in ENOUGH if enough > times_more[-1])]:
            more = how._replace(steps=count)
            both = {f"steps={more.steps} {words}": more._replace(grid=grid) for words, grid in around.items()}
            yield ({} if isinstance(how.grid, ListGrid) else {f"steps={more.steps}": more}) | both
    for name, sampler in SAMPLERS.items():
        if sampler.jumps:  # which asks for another network
            continue
        other = how._replace(sampler=sampler, steps=max(how.steps, AUTO_STEPS if how.sampler.adaptive else 1))
        steps = f" steps={other.steps}" if other.steps != how.steps else ""
        both = {f"sampler={name}{steps} {words}": other._replace(grid=grid) for words, grid in around.items()}
        yield {f"sampler={name}{steps}": other} | both


def other_grids(grid: Grid, stds: tuple[float, ...]) -> tuple[dict[str, Grid], dict[str, Grid]]:
    """Grids with the same ends, by their words on the command line: the plain ones, and those about the data's stds."""
    ends = (("start", grid.start, 0), ("end", grid.end, 1))
    kept = "".join(f" grid.{name}={at:.9g}" for name, at, usual in ends if at != usual)
    plain: dict[str, Grid] = {
        f"grid=uniform{kept}": UniformGrid(grid.start, grid.end),
        f"grid=quadratic{kept}": QuadraticGrid(grid.start, grid.end),
        f"grid=cosine{kept}": CosineGrid(grid.start, grid.end),
    }
    around: dict[str, Grid] = {
        f"grid=log_snr grid.low={each.low:g} grid.high={each.high:g}{kept}": each for each in log_snr_grids(grid, stds)
    }
    return plain, around


def solver_error(how: SamplingPlan, path: GaussianPath, stds: tuple[float, ...]) -> str | None:
    """One line where the sampler's own error changes a std of the data by more than is tolerated, and what mends it."""
    wrong = worst(std_ratios(how, path, stds))
    if wrong is None:
        return None
    mend = find_remedy(how, path, stds)
    return (
        f"the solver's own error: of Gaussian data with a std of {wrong.std:.3g}, which is one of this data's scales, samples"
        f" would have {wrong.ratio:.3g} times that, by the exact field; "
        + (f"{mend} mends that" if mend else unmended(how, path, wrong))
    )


def unmended(how: SamplingPlan, path: GaussianPath, wrong: StdRatio) -> str:
    """What to say where no other grid, steps or sampler helps: the path itself ends in noise, or the data's scale is at fault."""
    left = float(noise_std(path, jnp.asarray(1.0))) / (float(path.alpha(1.0)) * wrong.std)
    if how.grid.end == 1 and left > TOLERATED:
        return f"the path ends in noise of {left:.3g} times that std; take one whose beta is near 0 at t=1"
    return "scale the data to a std of about 1: no other grid, steps or sampler tried mends it"
