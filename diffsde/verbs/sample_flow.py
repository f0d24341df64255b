"""Samples of a discrete flow: drawn in one pass of its network, without a sampler, steps or starting points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde.datasets.scaling import to_own
from diffsde.errors import UserError
from diffsde.evaluation.metric import Measured, Subject
from diffsde.evaluation.shown import directions, figure_rows, units
from diffsde.evaluation.table import METRICS, name_of_fit
from diffsde.runs import clock, processes
from diffsde.runs.flow_sampling import FlowJob, FlowSamples, drawn_of
from diffsde.runs.load_field import labels_of
from diffsde.runs.load_flow import load_flow
from diffsde.runs.results import Report, Result, summary_figures
from diffsde.runs.sample_config import SampleConfig
from diffsde.types import Array


def prepare_flow(chosen: SampleConfig, config: dict[str, Any], out: Path) -> FlowJob:
    """The job: flow and labels. Raises UserError for choices that are of fields alone."""
    flow, dataset, origin = load_flow(chosen)
    if {*chosen.drawn} - {"default", "all"}:  # a wrong name is refused before anything is computed
        from diffsde.pictures import chosen_pictures, kind_of_flow

        chosen_pictures(chosen.drawn, kind_of_flow(flow.shape))
    if chosen.coordinates is not None:
        from diffsde.pictures import check_coordinates

        check_coordinates(chosen.coordinates, flow.shape, dataset, False)
    key, _, key_true = jax.random.split(jax.random.key(chosen.seed), 3)
    labels, scaling = labels_of(chosen, flow), dataset.scaling(flow.shape)
    return FlowJob(config, chosen, out, flow, dataset, origin, labels, key, key_true, scaling)


def draw_flows(group: list[FlowJob]) -> Iterator[Result | UserError]:
    """The result of each job."""
    for job in group:
        try:
            found = drawn_of(job)
        except UserError as error:
            yield error
            continue
        clock.lap("sampling", compiling=found.compiling)
        drawing = None
        if processes.is_main_process() and job.chosen.drawn:
            drawing = partial(pictures_of, job, found.x)
        yield Result(partial(_report, job, found), {"samples": sample_arrays(job, found.x)}, drawing)


def sample_arrays(job: FlowJob, x: Array) -> dict[str, Any]:
    """The arrays of samples.npz: x (n, *shape) in the data's own units, and labels y (n,) where there are any."""
    labels = {} if job.labels is None else {"y": np.asarray(job.labels, np.int32)}
    return {"x": to_own(job.scaling, x), **labels}


def how_drawn(found: FlowSamples) -> dict[str, Any]:
    """A record of how the samples were drawn: the one pass of the network is one evaluation."""
    return {"n": len(found.x), "nfe": 1, "seconds": found.seconds, "seconds_compile": found.compiling}


def _report(job: FlowJob, found: FlowSamples) -> Report:
    scaled, measured = job.scaling is not None, Measured({})
    if job.known:
        subject = Subject(job.dataset, n=len(found.x), x=found.x, labels=job.data_labels, model=job.flow)
        measured = METRICS[name_of_fit(subject)]().measure(subject, job.key_true)
    summary = {
        **how_drawn(found),
        "cpu_seconds": found.cpu_seconds,
        "members": 1,
        "field": job.origin,
        "metrics": summary_figures(measured.figures),
        "units": units(measured.figures, scaled),
        "directions": directions(measured.figures),
        **measured.about,
    }
    rows = [
        ("steps", PASS),
        *([("units", "x in the data's own")] if scaled else []),
        *figure_rows(measured.figures, False, scaled),
        *measured.rows,
    ]
    score = next((figure.distance_from_target for figure in measured.figures.values()), math.nan)
    return Report(f"sampled {job.chosen.n:,} points from {job.origin}", rows, summary, score)


PASS = "none: a discrete flow maps noise to a sample in one pass"


def pictures_of(job: FlowJob, x: Array) -> list[Path]:
    """Draw the pictures of `pictures=`; their paths."""
    from diffsde.pictures.sampled import draw_flow_samples  # here: matplotlib takes a while

    return draw_flow_samples(job, x)
