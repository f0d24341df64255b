"""The figure `metric=` of a training run: a metric of samples drawn from the run's field at a checkpoint or at the end."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from diffsde.datasets import Dataset
from diffsde.discrete_flow import DiscreteFlow, samples
from diffsde.errors import UserError
from diffsde.evaluation.metric import Metric, Subject
from diffsde.evaluation.references import usual_number
from diffsde.evaluation.table import METRICS, quantities
from diffsde.fields import Field
from diffsde.knobs import RUN_METRICS
from diffsde.metrics.figures import Figure
from diffsde.runs.starting import choose_grid, standing_in, starting_points, stds_of
from diffsde.samplers import LoopSettings, prior, simulate_compiled, times
from diffsde.samplers.flow_map import FlowMapJumps
from diffsde.samplers.grids import AutoGrid, UniformGrid
from diffsde.samplers.ode import Heun
from diffsde.stability import choose_last_step
from diffsde.types import Array, Key

SAMPLER, STEPS = Heun(), 100  # how the samples are drawn
# Former names of figures, by which their distances from the target are still known.
GAPS = {"cross_entropy_gap": "cross_entropy"}


def figure_words(dataset: Dataset) -> dict[str, tuple[type[Metric], str]]:
    """The words of `metric=` for runs on a dataset, except `loss`: for each, the metric and the name of its figure."""
    subject = Subject(dataset, n=usual_number(dataset))
    found: dict[str, tuple[type[Metric], str]] = {}
    for metric in METRICS.values():
        figures = in_training(metric)
        if figures and metric().unavailable(subject) is None:
            found |= {name: (metric, name) for name in figures if name not in found}
    return found | {old: found[new] for old, new in GAPS.items() if new in found}


def check_metric(word: str, dataset: Dataset) -> None:
    """Raise UserError for a word of `metric=` that is not available for runs on the dataset."""
    if word == "loss":
        return
    able = figure_words(dataset)
    if word not in able:
        raise UserError(
            f"metric: '{word}' is not a metric of runs on this dataset; choose one of {', '.join(['loss', *able])}"
        )


def sampling_times(field: Field, dataset: Dataset, source: Dataset | None = None) -> tuple[Array, str]:
    """The times and the last step's policy by which samples are drawn, of a flow map by one jump. Raises UserError for a field that
    is singular there.
    """
    if field.jumps:
        return times(UniformGrid(), 1, field.path), "step"
    placed = choose_grid(AutoGrid(), field, stds_of(dataset), standing_in(field, source))
    grid = times(placed, STEPS, field.path)
    return grid, choose_last_step(SAMPLER, field, grid, "auto")


def measured_figure(
    field: Field | DiscreteFlow,
    dataset: Dataset,
    word: str,
    key: Key,
    cache: Path | None = None,
    source: Dataset | None = None,
) -> Figure:
    """The figure `word` of samples drawn by Heun's method in 100 steps, of a flow map by one jump, of a discrete flow in one pass: 10,000,
    or as many images as there are test images.

    cache: the folder where the classifier of images is kept, which every checkpoint needs; None: nowhere. source: the law that
    samples start from, between two laws.
    """
    name = GAPS.get(word, word)
    metric = next(metric for metric in METRICS.values() if name in in_training(metric))  # available: see check_metric
    key_prior, key_noise, key_true = jax.random.split(key, 3)
    n = usual_number(dataset)
    if isinstance(field, DiscreteFlow):
        subject = Subject(dataset, None, n, np.asarray(samples(field, key_noise, None, n)), cache=cache, model=field)
        return metric().measure(subject, key_true).figures[name]
    grid, last = sampling_times(field, dataset, source)
    if source is None:
        x0 = prior(field.path, grid[0], field.shape, key_prior, n)
    else:
        x0, _ = starting_points(field, dataset, float(grid[0]), key_prior, n, None, source)
    sampler = FlowMapJumps() if field.jumps else SAMPLER
    x = simulate_compiled(sampler, field, x0, grid, key_noise, settings=LoopSettings(last)).x
    return metric().measure(Subject(dataset, field, n, np.asarray(x), cache=cache), key_true).figures[name]


def score_name(word: str) -> str:
    """The name of the number that a run is judged by: where the figure has a target its distance from it, the figure's gap."""
    return f"{word}_gap" if word in (known := quantities()) and known[word].direction == "target" else word


def metric_words() -> list[str]:
    """Every word that `metric=` takes for some dataset."""
    return ["loss", *GAPS, *(name for kind in METRICS.values() for name in in_training(kind))]


def in_training(metric: type[Metric]) -> list[str]:
    """The figures of a metric that `metric=` may name (RUN_METRICS in knobs.py): figures of samples without labels."""
    return [name for name in metric.quantities if name in RUN_METRICS]
