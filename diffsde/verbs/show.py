"""diffsde show: pictures of a path, data, a density or a field, exact or trained, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde.datasets import are_images
from diffsde.errors import UserError
from diffsde.pictures.coordinates import numbers_of
from diffsde.pictures.drawn import described_sampler
from diffsde.pictures.shown import SHOWN
from diffsde.pictures.shown_marginals import DRAWN, IMAGES, TIMES, ShownStates, marginals
from diffsde.pictures.subjects import Shown, need_exact, subject
from diffsde.runs import clock, folder, jobs
from diffsde.runs.drawn_arrays import read_drawn, read_trajectory
from diffsde.runs.results import Report, Result
from diffsde.runs.sample_config import SampleConfig, sample_choices
from diffsde.runs.show_config import ShowConfig, resolve_run, show_choices
from diffsde.runs.simulating import how_drawn
from diffsde.samplers import Diffusion, EulerMaruyama, Heun, LoopSettings, Sampler, Saving, simulate_compiled
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.grids import AutoGrid
from diffsde.stability import check_jumps
from diffsde.types import on_device
from diffsde.verbs import sample

NEAR = 0.1  # steps within which a time of the grid gives way to one of times=


@dataclasses.dataclass
class ShowJob:
    """A picture to be made, in the folder `out`."""

    config: dict[str, Any]
    chosen: ShowConfig
    out: Path

    def group(self) -> Any:
        """Pictures are never made together: every job is a group of its own."""
        return self.out


def show(config: dict[str, Any], out: Path) -> float:
    """Make one picture and write the folder `out`."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Make many pictures, one after another; the outcome of each job."""
    return jobs.together(VERB, asked)


def prepare(chosen: ShowConfig, config: dict[str, Any], out: Path, held: ExitStack) -> ShowJob:
    """The job; everything is read and refused where it is computed, before anything is written."""
    return ShowJob(config, chosen, out)


def work(group: list[ShowJob]) -> Iterator[Result | UserError]:
    """The picture of each job as a Result, whose figure is drawn and written when it is delivered."""
    for job in group:
        try:
            shown = shown_of(job)
        except UserError as error:
            yield error
            continue
        clock.lap("computing")
        name = f"{job.chosen.what}.{job.chosen.format}"
        yield Result(partial(_report, shown), {"show": shown.arrays}, figures=partial(_figures, shown, name))


def _figures(shown: Shown, name: str) -> dict[str, Any]:
    """The picture by the name of its file."""
    return {name: shown.draw()}


def _report(shown: Shown) -> Report:
    """Rows and numbers of the picture; a picture is judged by nothing."""
    title = shown.title.replace("$", "")
    return Report(title, shown.rows, {"metrics": {}, "title": title, **shown.summary}, float("nan"))


def shown_of(job: ShowJob) -> Shown:
    """The picture of a job, computed and not yet drawn. Raises UserError."""
    if job.chosen.what != "marginals":
        return SHOWN[str(job.chosen.what)](job.chosen)
    return _saved_samples(job.chosen) if job.chosen.samples is not None else _new_samples(job)


def _new_samples(job: ShowJob) -> Shown:
    """Samples drawn now, by the machinery of `diffsde sample`, on its grid with the times of the picture put in."""
    chosen = job.chosen
    found, times = subject(chosen), np.asarray(chosen.times or TIMES)
    if len(found.shape) == 1 and chosen.coordinates is not None:
        numbers_of(chosen.coordinates, found.dataset.column_names(), found.d)
    if not found.runs and not are_images(found.shape):
        need_exact(found, "marginals")
    draws = _sampling(chosen, IMAGES if len(found.shape) > 1 else DRAWN)
    try:
        draws.check()
    except ValueError as error:
        raise UserError(str(error)) from None
    with ExitStack() as held:
        made = sample.prepare_field(draws, job.config, job.out, held)
        begin, end = (float(each) for each in np.asarray(made.grid)[[0, -1]])
        times = np.clip(times, begin, end) if times[-1] > end or times[0] < begin else times
        times = np.unique(times)
        grid = with_times(np.asarray(made.grid), np.asarray(on_device(times, float)))
        check_jumps(draws.sampler, made.field, on_device(grid))  # a flow map's, to the picture's times
        settings = LoopSettings(made.last, saving=Saving(1))
        drawn = simulate_compiled(
            made.chosen.sampler, made.field, made.x0, on_device(grid), made.key_noise, made.condition, settings=settings
        )
    for line in made.warnings:
        jobs.progress.warn(line)
    how_drawn(made, drawn)  # refuses samples that are not finite
    assert drawn.trajectory is not None
    at = np.searchsorted(grid, np.asarray(on_device(times, float)))
    x = found.own(np.asarray(drawn.trajectory.x)[at])
    from_ = found.runs[0].title if found.runs else "the exact field"
    how = f"{described_sampler(made.chosen.sampler)}, {len(grid) - 1} steps, from {from_}"
    return marginals(chosen, found, ShownStates(times, x, how), made.key_true)


def with_times(grid: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A grid with `times` between its ends put in. Inner times of its own that are NEAR one of them give way: between the two
    would be a step so short that a multistep method's extrapolation from it is rounding alone.
    """
    steps, inner = np.diff(grid), grid[1:-1]
    near = np.abs(inner[:, None] - times).min(axis=1) < NEAR * np.minimum(steps[:-1], steps[1:])
    return np.unique(np.concatenate([grid[[0, -1]], inner[~near], times]))


def _sampling(chosen: ShowConfig, usual: int) -> SampleConfig:
    """The choices of `diffsde sample` that a picture of marginals stands for. Raises UserError."""
    if len(chosen.runs) > 1:
        raise UserError("run: what=marginals draws the samples of one run")
    return SampleConfig(
        sampler=_sampler(chosen),
        grid=AutoGrid(),
        steps=chosen.steps,
        sigma=chosen.sigma,
        last="auto",
        run=chosen.runs[0] if chosen.runs else "oracle",
        checkpoint=chosen.checkpoint or "last",
        ema=chosen.ema,
        n=chosen.n or usual,
        seed=chosen.seed or 0,
        labels=None if chosen.label is None else (chosen.label,),
        guidance=None,
        guidance_interval=(0.0, 1.0),
        guide=None,
        guide_checkpoint="last",
        dataset=chosen.dataset,
        path=chosen.path,
        source=chosen.source,
        machine=chosen.machine,
    )


def _sampler(chosen: ShowConfig) -> Sampler:
    """The sampler of sampler=, with the diffusion of diffusion=; without them Heun, or with sigma= Euler-Maruyama."""
    diffusion: Diffusion | None = chosen.diffusion
    if chosen.sampler is None:
        if diffusion is None and chosen.sigma is None:
            return Heun()
        return EulerMaruyama(diffusion or Constant(chosen.sigma or 0.0))
    if diffusion is None:
        return chosen.sampler
    if not hasattr(chosen.sampler, "diffusion"):
        raise UserError("diffusion: this sampler solves the ODE, or has a diffusion of its own; take sampler=em")
    return dataclasses.replace(chosen.sampler, diffusion=diffusion)  # type: ignore[type-var]


def _saved_samples(chosen: ShowConfig) -> Shown:
    """Samples of a folder of `diffsde sample`, at the saved times that are nearest to those of times=."""
    where = Path(str(chosen.samples))
    drawn = sample_choices(folder.read_config(where, "samples", "sample"))
    if not (where / "trajectory.npz").exists():
        raise UserError(f"samples: '{where}' has no trajectory.npz; draw them with save_every=, e.g. save_every=10")
    if drawn.measurement is not None:
        raise UserError(
            f"samples: those of '{where}' are given a measurement, and no draws of the data compare with them"
        )
    kept, x = read_trajectory(where)
    wanted = np.asarray(chosen.times or TIMES)
    at = np.unique([int(np.abs(kept - t).argmin()) for t in wanted])
    if drawn.direction == "backward":
        raise UserError(
            f"samples: those of '{where}' go backward in time; what=marginals shows samples that go forward"
        )
    label, labels = None, None
    if drawn.labels is not None:  # the data above have the same ones
        labels = read_drawn(where)[1]
        if labels is None:
            raise UserError(f"samples: '{where / 'samples.npz'}' has no labels y, and its config says labels=")
        labels = labels[: x.shape[1]]
        if len(set(labels.tolist())) == 1:
            label, labels = int(labels[0]), None
    run = None if drawn.run == "oracle" else drawn.run
    found = subject(
        dataclasses.replace(
            chosen, run=run, dataset=drawn.dataset, source=drawn.source, path=drawn.path, label=label, samples=None
        )
    )
    guided = "" if drawn.guidance is None else f", guidance {drawn.guidance:g}"
    how = f"{described_sampler(drawn.sampler)}{guided}, {where.name}"
    return marginals(chosen, found, ShownStates(kept[at], x[at], how, labels), jax.random.key(drawn.seed))


VERB = jobs.Verb("show", resolve_run, show_choices, prepare, work)
