"""What `explain` is asked, and what its reports have in common: docstrings, tables, diffusions and samplers as lines of text."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np

from diffsde.build import as_config, name_of
from diffsde.datasets import Dataset, Snapshots
from diffsde.nets import Net
from diffsde.objectives import Likelihood, Objective
from diffsde.paths import GaussianPath
from diffsde.runs import progress
from diffsde.runs.sample_config import Stepping
from diffsde.runs.sampler_search import POINTS
from diffsde.runs.train_config import check_between
from diffsde.samplers import LAST_STEPS, Grid, Sampler
from diffsde.samplers.best import Best
from diffsde.samplers.grids import AutoGrid, OptimisedGrid
from diffsde.time_distributions import TimeDistribution

SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)  # times of the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig(Stepping):
    """The knobs of configs/explain.yaml, which documents each, in addition to the knobs of Stepping."""

    dataset: Dataset
    path: GaussianPath
    objective: Objective
    time: TimeDistribution
    precondition: bool
    source: Dataset | None = None
    net: Net | None = None

    def check(self) -> None:
        super().check()
        if self.net is not None:
            self._check_net(self.net)
        if isinstance(self.dataset, Snapshots):
            raise ValueError(
                "dataset: explain is of two laws, not of many snapshots; give two of them, source= and dataset="
            )
        if self.between_laws:
            check_between(self.path, self.objective)

    def _check_net(self, net: Net) -> None:
        from diffsde.nets import CouplingNet  # here: flax takes a while

        if not isinstance(net, CouplingNet):
            raise ValueError(
                f"net={name_of(net)}: what is said of a field is true of every net, leave it out; of a discrete flow say"
                " net=realnvp or spline"
            )
        if not isinstance(self.objective, Likelihood):
            raise ValueError(f"net={name_of(net)} is a discrete flow, which has no velocity; say objective=likelihood")

    @property
    def between_laws(self) -> bool:
        """Whether the field is between two laws; else from noise, by a Gaussian path."""
        return self.source is not None or self.path.has_gamma


def doc_lines(choice: Any, paragraphs: int = 1) -> list[str]:
    """The first paragraphs of the docstring of a choice's class, as lines: the equation and its source."""
    found = inspect.cleandoc(type(choice).__doc__ or "").split("\n\n")[:paragraphs]
    return [f"  {line}" for paragraph in found for line in paragraph.splitlines()]


def about_diffusion(chosen: ExplainConfig) -> list[str]:
    """Lines on the diffusion of an SDE sampler, whose marginals are those of the ODE; none for an ODE sampler."""
    diffusion = getattr(chosen.sampler, "diffusion", None)
    if not diffusion:
        return []
    same = "  dX = [u_t(X) + sigma_t^2/2 grad log p_t(X)] dt + sigma_t dW: the marginals of the ODE for any sigma_t"
    return [*doc_lines(diffusion), same]


def table(columns: dict[str, np.ndarray]) -> list[str]:
    """The columns as lines of text, with a header."""
    cells = [list(columns)] + [[f"{float(v):.4g}" for v in row] for row in zip(*columns.values(), strict=True)]
    return [
        "".join(f"{cell:>{max(12, len(name) + 2)}}" for cell, name in zip(row, columns, strict=True)) for row in cells
    ]


def about_search(chosen: Stepping) -> list[str]:
    """Lines on what `sample` does before it samples where the sampler or the times are still to be found; [] where both are said."""
    if isinstance(chosen.sampler, Best):
        names = ", ".join(chosen.sampler.candidates)
        asked = "as many evaluations as heun would make" if chosen.steps is None else progress.evaluations(chosen.steps)
        lines = [
            f"  sample tries {names} with {asked} on up to {POINTS:,} points of its field, each against a fine solution"
        ]
        if isinstance(chosen.grid, AutoGrid):
            lines.append(
                "  of the same ODE, on every grid of a fixed shape, and takes the sampler and the grid that err least"
            )
        else:
            lines.append("  of the same ODE, and takes the sampler that errs least")
    elif isinstance(chosen.grid, OptimisedGrid):
        lines = [
            f"  sample tries every grid of a fixed shape with {chosen.steps} steps on up to {POINTS:,} points of its field"
        ]
    else:
        return []
    if isinstance(chosen.grid, OptimisedGrid):
        lines += doc_lines(chosen.grid)
    return [*lines, "  what is found is said, kept in the cache, and written to summary.json"]


def about_sampler(sampler: Sampler, grid: Grid, steps: int, how_many: str, last: str) -> list[str]:
    """Lines on a sampler's order, steps, evaluations and last step, and on its grid; how_many: a word on the number of steps."""
    cost = f"{progress.evaluations(sampler.nfe(steps, last))} of the field"
    if sampler.adaptive:
        cost = "as many evaluations as the tolerance needs"
    order = f"{'weak ' if sampler.stochastic else ''}order {sampler.order}" if sampler.order else "no order in h"
    return [
        f"  {order}, {steps} steps{how_many}, {cost}, last step: {last} ({LAST_STEPS[last]})",
        f"  {progress.described_grid(as_config(grid))}",
    ]
