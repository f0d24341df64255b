"""sampler=best and grid=optimised resolved for the field at hand: found by trials, cached, and said with what they are better than."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsde.build import as_config, choose, name_of, table
from diffsde.errors import Unreadable, UserError
from diffsde.fields import Field
from diffsde.runs import files, progress
from diffsde.runs.sample_config import SampleConfig
from diffsde.sampler_trials import Candidate, TrialPoints, policies, ranked, tried
from diffsde.samplers import Grid, Sampler
from diffsde.samplers.best import Best
from diffsde.samplers.grids import (
    AutoGrid,
    CosineGrid,
    ListGrid,
    LogSNRGrid,
    OptimisedGrid,
    QuadraticGrid,
    RhoGrid,
    ShiftedGrid,
    UniformGrid,
)
from diffsde.solver_remedies import log_snr_grids
from diffsde.time_tuning import tuned

POINTS, NUMBERS, LEAST = 1024, 16_384, 8  # most points of a trial, most numbers in them, and points at least
STARTS = 3  # samplers whose times are tuned, each from its best grid; of one sampler, grids
VERSION = 1  # of the search: another finds others for the same field
ROUNDING = 1e-4  # of the ends' std: a fine solution is as fine as this, where a candidate is as good
SAID = 6  # samplers that a line names


class Found(NamedTuple):
    """A sampler and a grid found for a field, and how well they do, as plain data, for summary.json.

    sampler, grid, steps, last: as the config has them. evaluations: made, of a budget. rms: distance to the fine solution, which errs
    by fine_error, on so many points, none of them tuned on. tried: [sampler, grid, steps, rms] of each sampler's best fixed grid,
    the best first. fixed_rms: of the best of these on the points of rms.
    """

    sampler: dict[str, Any]
    grid: dict[str, Any]
    steps: int
    last: str
    evaluations: int
    budget: int
    rms: float
    fixed_rms: float
    points: int
    fine_error: float
    tried: list[list[Any]]


def is_open(chosen: SampleConfig) -> bool:
    """Whether the sampler or the grid is to be found by trials."""
    return isinstance(chosen.sampler, Best) or isinstance(chosen.grid, OptimisedGrid)


def search_points(shape: tuple[int, ...]) -> int:
    """Number of points that samplers are tried on, for points of a shape."""
    return max(LEAST, min(POINTS, NUMBERS // math.prod(shape)))


def resolved(
    chosen: SampleConfig, budget: int, on: TrialPoints, stds: tuple[float, ...], auto: Grid, scaled: bool
) -> tuple[SampleConfig, Found]:
    """The choices with a sampler, a grid, steps and a last step found for the field `on`; and what was found, which is said.

    budget: evaluations. auto: grid=auto resolved, on which the fine solution is looked for. scaled: whether a model's unit is a
    coordinate's std. Raises UserError where no candidate works.
    """
    samplers, grids = candidates_of(chosen, on.field), grids_of(chosen.grid, stds)
    cache, found = chosen.machine.cache_folder, None
    file = cache and cache / "samplers" / f"{fingerprint(chosen, budget, on, samplers, grids)[:24]}.json"
    if file:
        found = kept(file)
    if fresh := found is None:
        with progress.working("tuning the times" if isinstance(chosen.grid, OptimisedGrid) else "trying samplers"):
            found = search(chosen, budget, on, samplers, grids, auto)
    if file and fresh:
        keep(file, found)
    for line in said(found, scaled, not fresh):
        progress.say(line)
    grid = choose(Grid, found.grid, "grid")  # type: ignore[type-abstract]
    sampler = choose(Sampler, found.sampler, "sampler")  # type: ignore[type-abstract]
    return dataclasses.replace(chosen, sampler=sampler, grid=grid, steps=found.steps, last=found.last), found


def candidates_of(chosen: SampleConfig, field: Field) -> dict[str, Sampler]:
    """The samplers that are tried on a field, by their names."""
    if not isinstance(chosen.sampler, Best):
        return {name_of(chosen.sampler): chosen.sampler}
    every = {name: table(Sampler)[name]() for name in chosen.sampler.candidates}
    found = {name: each for name, each in every.items() if field.gaussian or each.needs == "velocity"}
    if not found:
        raise UserError(
            "sampler.candidates: none of these steps by a velocity alone, which is all that is known between two laws;"
            " add some of euler, midpoint, heun, rk4, ab2, ab3"
        )
    return found


def grids_of(grid: Grid, stds: tuple[float, ...]) -> dict[str, Grid]:
    """The grids that are tried, by their words on the command line: the fixed ones, two about the data's stds and two more shifted;
    a grid that was named alone.
    """
    if not isinstance(grid, AutoGrid | OptimisedGrid):
        return {grid_words(grid): grid}
    kinds: list[Any] = [UniformGrid, QuadraticGrid, CosineGrid, ShiftedGrid, LogSNRGrid, RhoGrid]
    every: list[Grid] = [kind(grid.start, grid.end) for kind in kinds]
    every += [ShiftedGrid(grid.start, grid.end, shift) for shift in (0.5, 2.0)]
    if stds:
        every += log_snr_grids(AutoGrid(grid.start, grid.end), stds)
    return {grid_words(each): each for each in every}


def grid_words(grid: Grid) -> str:
    """A grid as it is typed: its name, and those of its numbers that are not usual."""
    usual = as_config(type(grid)())
    own = {key: value for key, value in as_config(grid).items() if key != "name" and value != usual[key]}
    return " ".join([f"grid={name_of(grid)}", *(f"grid.{key}={number_words(value)}" for key, value in own.items())])


def number_words(value: Any) -> str:
    """A number, or a list of times, as it is typed: with as many digits as make the same times again."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(number_words, value))}]"
    return f"{value:.8g}"


def search(
    chosen: SampleConfig,
    budget: int,
    on: TrialPoints,
    samplers: dict[str, Sampler],
    grids: dict[str, Grid],
    auto: Grid,
) -> Found:
    """The sampler and the grid that err least, measured now. Raises UserError where none comes to an end, or none can be judged."""
    rows = tried(samplers, grids, on, budget, chosen.last)
    if not rows:
        raise UserError(
            f"sampler={name_of(chosen.sampler)}: with {progress.evaluations(budget)} no candidate ends in a finite point; take more steps,"
            " another last=, or grid.start=0.001"
        )
    rows, fine = ranked(rows, on, (auto, QuadraticGrid(chosen.grid.start, chosen.grid.end)))
    if not fine.error < max(rows[0].rms, ROUNDING * float(fine.x.std())):
        raise UserError(
            f"sampler={name_of(chosen.sampler)}: this field's ODE cannot be solved finely enough to judge samplers by: twice the steps"
            f" still move its ends by {fine.error:.3g}; name a sampler and a grid"
        )
    firsts: dict[str, Candidate] = {}
    for row in rows:
        firsts.setdefault(row.sampler, row)
    first, fixed, points, grid = rows[0], rows[0].rms, len(fine.x), grids[rows[0].grid]
    if isinstance(chosen.grid, OptimisedGrid):
        starts = list(firsts.values())[:STARTS] if len(firsts) > 1 else rows[:STARTS]
        first, fixed = tuned(starts, samplers, on, fine)
        at = tuple(first.times.tolist())
        points, grid = points - points // 2, ListGrid(at[0], at[-1], at)
    sampler = samplers[first.sampler]
    return Found(
        as_config(sampler),
        json.loads(json.dumps(as_config(grid))),
        first.steps,
        first.last,
        sampler.nfe(first.steps, first.last),
        budget,
        first.rms,
        fixed,
        points,
        fine.error,
        [[row.sampler, row.grid, row.steps, row.rms] for row in firsts.values()],
    )


def fingerprint(
    chosen: SampleConfig, budget: int, on: TrialPoints, samplers: dict[str, Sampler], grids: dict[str, Grid]
) -> str:
    """A hash of everything that the search depends on: the field, its path, the points, the candidates, the budget and VERSION; not
    of the machine's rounding, nor of folders' names.
    """
    of_grids = {name: as_config(grid) for name, grid in grids.items()}
    told = [VERSION, budget, policies(chosen.last, on.field), as_config(chosen.grid), of_grids]
    told += [{name: as_config(sampler) for name, sampler in samplers.items()}]
    digest = hashlib.sha256(json.dumps(told, default=float, sort_keys=True).encode())
    leaves, structure = jax.tree.flatten(on)
    digest.update(
        re.sub(r" at 0x[0-9a-f]+", "", str(structure)).encode()
    )  # names and static choices, not their addresses
    for leaf in leaves:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def keep(file: Path, found: Found) -> None:
    """Write what was found, whole or not at all; a warning where that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, found._asdict())
    except OSError as error:
        progress.warn(
            f"the sampler found cannot be kept in '{file.parent}': {error.strerror}; it is found again next time"
        )


def kept(file: Path) -> Found | None:
    """What a file of the cache holds; None where it is absent or, with a warning, not what `keep` writes."""
    try:
        content = files.parsed(file)
        if content is None:
            return None
        found = Found(**content)
        choose(Grid, found.grid, "grid")  # type: ignore[type-abstract]
        choose(Sampler, found.sampler, "sampler")  # type: ignore[type-abstract]
        said(found, False, True)
    except (Unreadable, UserError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        progress.warn(f"'{file}' is not what was written ({str(error)[:80]}); samplers are tried again")
        return None
    return found


def said(found: Found, scaled: bool, from_cache: bool) -> list[str]:
    """What was found, in lines: the choice and its error, what it is better than, and the words that repeat it."""
    of = "in stds of the coordinates" if scaled else "in the data's units"
    how = f"rms to a fine solution, on {found.points:,} points, {of}" + (", from the cache" if from_cache else "")
    name, tuned_here = found.sampler["name"], found.grid["name"] == "list"
    others = [f"{sampler} {error:.3g}" for sampler, *_, error in found.tried if sampler != name]
    more = len(others) - SAID
    rest = ", ".join(others[:SAID]) + (f" and {more} more" if more > 0 else "")
    lines = []
    if tuned_here:
        best = found.tried[0]
        lines.append(
            f"times tuned for {name} in {found.steps} steps: {found.rms:.3g}; the best fixed grid {found.fixed_rms:.3g}"
            f" ({best[0]} {best[1]}) ({how})"
        )
    else:
        beaten = f"; the others at their best: {rest}" if rest else ""
        lines.append(
            f"best of {progress.evaluations(found.budget)}: {name} {words_of(found)}: {found.rms:.3g}{beaten} ({how})"
        )
    return [*lines, f"the same by: sampler={name} {words_of(found)}"]


def words_of(found: Found) -> str:
    """The grid, the steps and the last step that were found, as they are typed."""
    grid = choose(Grid, found.grid, "grid")  # type: ignore[type-abstract]
    if isinstance(grid, ListGrid):
        typed = f"grid=list 'grid.times={number_words(grid.times)}'"
    else:
        typed = grid_words(grid)
    return f"steps={found.steps} {typed}" + (" last=denoise" if found.last == "denoise" else "")
