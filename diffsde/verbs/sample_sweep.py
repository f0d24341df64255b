"""The picture at the end of a sweep of `sample`: the jobs' samples side by side, with a row without label where guidance is swept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.datasets import are_images
from diffsde.datasets.scaling import to_own
from diffsde.errors import UserError
from diffsde.runs import progress
from diffsde.runs.load_field import load_field
from diffsde.runs.record import as_found
from diffsde.runs.results import Cell
from diffsde.runs.sample_config import SampleConfig, sample_choices
from diffsde.runs.simulating import SampleJob, simulate_jobs

Prepare = Callable[[SampleConfig, dict[str, Any], Path, ExitStack], SampleJob]
FEW, IMAGES = 2000, 10  # points, or images, that are drawn without label


def grid_of(cells: list[Cell], where: Path, prepare: Prepare) -> list[Path]:
    """Draw the grid of the jobs' samples into the sweep's folder; prepare: of the verb; its path, or [] where there is nothing to lay side by side."""
    from diffsde.pictures.sweep_grid import draw_grid, swept_keys  # here: matplotlib takes a while

    swept = "guidance" in swept_keys(cells) and all(cell.config.get("labels") is not None for cell in cells)
    return draw_grid(cells, where, without_label(cells[0], prepare) if swept else None)


def without_label(cell: Cell, prepare: Prepare) -> np.ndarray | None:
    """The first samples of a job's field without label and guidance, from the same noise in the same steps; in the data's own
    units. None where the run does not know how to do without a label.
    """
    plain = {
        **{"labels": None, "guidance": None, "guide": None, "guide_checkpoint": "last", "guidance_interval": [0, 1]},
        **{"save_every": None, "keep": None, "pictures": "none", "plots": None},
    }
    config = {**as_found(cell.config, cell.summary), **plain}
    if config["sampler"].get("name") != "adaptive" and config["grid"].get("name") != "list":
        config["steps"] = cell.summary["steps"]
    try:
        with ExitStack() as held:
            chosen = sample_choices(config)
            few = IMAGES if are_images(load_field(chosen)[0].shape) else FEW
            job = prepare(dataclasses.replace(chosen, n=min(chosen.n, few)), config, cell.job, held)
            with progress.working("samples without label"):
                x = simulate_jobs([job]).found[0].x
    except UserError as error:
        progress.warn(f"no row without label: {error}")
        return None
    return to_own(job.scaling, x)
