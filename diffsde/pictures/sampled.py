"""The pictures of `diffsde sample`, for a job whose samples are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsde.build import name_of
from diffsde.datasets import are_images
from diffsde.datasets.snapshots import Snapshot
from diffsde.inverse import MMPS
from diffsde.pictures.drawn import Drawn, described_sampler
from diffsde.pictures.flows import FlowScene
from diffsde.pictures.posterior import PosteriorScene
from diffsde.pictures.table import (
    PICTURES,
    chosen_pictures,
    draw_pictures,
    kind_of,
    kind_of_flow,
    more_pictures,
    scene_of,
)
from diffsde.runs import progress
from diffsde.samplers.adaptive import Adaptive
from diffsde.types import Array

if TYPE_CHECKING:
    from diffsde.runs.flow_sampling import FlowJob
    from diffsde.runs.simulating import SampleJob


def draw_samples(job: SampleJob, x: Array, nfe: float) -> list[Path]:
    """Draw the pictures of `pictures=` for samples x, which took nfe evaluations each, print where they are and which others there are; their paths."""
    chosen, shape = job.chosen, job.field.shape
    kind = kind_of(shape, job.problem is not None, job.dataset)
    wanted = chosen_pictures(chosen.drawn, kind)
    if not PICTURES[kind]:
        progress.say(f"no pictures: there are none of {kind}")
    if not wanted or not (job.known or are_images(shape)):
        return []
    scene: Any
    if job.problem is not None:
        own = job.problem.about_mean(x)
        scene = PosteriorScene(job.problem, own, job.dataset, job.key_true, job.plain, title_of(job, nfe))
    else:
        drawn = Drawn(
            sampler=chosen.sampler,
            field=job.field,
            dataset=job.dataset,
            x0=job.x0,
            x=x,
            times=job.grid,
            key=job.key_noise,
            last=job.last,
            coupled=chosen.coupled,
            condition=job.labels,
            scaling=job.scaling,
            about=title_of(job, nfe),
            known=job.known,
            coordinates=chosen.coordinates,
            source=job.source,
            coupling=job.coupling,
        )
        scene = scene_of(drawn, wanted)
    paths = draw_pictures(scene, wanted, job.out / "plots")
    if more := more_pictures(wanted, kind):
        progress.say(more)
    return paths


def title_of(job: SampleJob, nfe: float) -> str:
    """The title of a job's pictures, in a line: sampler, steps, evaluations, path, guidance, measurement, data and run."""
    chosen, sampler = job.chosen, job.chosen.sampler
    steps = f"tolerance {sampler.rtol:g}" if isinstance(sampler, Adaptive) else counts(job.steps, "step")
    words = [described_sampler(sampler), steps, f"{nfe:.4g} NFE", f"path {name_of(job.field.path)}"]
    if chosen.guidance is not None:
        words.append(f"guidance {chosen.guidance:g}")
    if chosen.measurement is not None:
        words.append(f"{name_of(chosen.measurement)} by {name_of(chosen.posterior or MMPS())}")
    data = name_of(job.dataset)
    if job.source is not None and not isinstance(job.source, Snapshot):
        data = f"{name_of(job.source)} to {data}"
    words.append(
        f"exact field of {data}" if chosen.run == "oracle" else f"{data}, from {progress.shown_path(Path(chosen.run))}"
    )
    return ", ".join(words)


def counts(n: int, what: str) -> str:
    """`1 step`, `25 steps`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def draw_flow_samples(job: FlowJob, x: Array) -> list[Path]:
    """Draw the pictures of `pictures=` for samples x, print where they are and which others there are; their paths."""
    kind = kind_of_flow(job.flow.shape)
    wanted = chosen_pictures(job.chosen.drawn, kind)
    if not wanted or not (job.known or are_images(job.flow.shape)):
        return []
    paths = draw_pictures(FlowScene(job, np.asarray(x)), wanted, job.out / "plots")
    if more := more_pictures(wanted, kind):
        progress.say(more)
    return paths
