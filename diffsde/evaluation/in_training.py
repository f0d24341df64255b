"""The figure that a run is judged by: of samples that are drawn while, or when, it is trained."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from diffsde.datasets import Dataset
from diffsde.errors import UserError
from diffsde.evaluation.metric import Metric, Subject
from diffsde.evaluation.references import POINTS, usual_number
from diffsde.evaluation.table import METRICS, QUANTITIES
from diffsde.fields import Field
from diffsde.knobs import RUN_METRICS
from diffsde.metrics.figures import Figure
from diffsde.runs.starting import choose_grid, stds_of
from diffsde.samplers import LoopSettings, prior, simulate_compiled, times
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.ode import Heun
from diffsde.stability import choose_last_step
from diffsde.types import Array, Key

SAMPLER, STEPS = Heun(), 100  # what the samples are drawn by
# Of a figure how far it is from its target, by the word that was its name before.
GAPS = {"cross_entropy_gap": "cross_entropy"}


def figure_words(dataset: Dataset) -> dict[str, tuple[type[Metric], str]]:
    """The words of `metric=` for runs on this dataset besides `loss`: the metric and the figure that each means."""
    subject = Subject(dataset, n=usual_number(dataset))
    found: dict[str, tuple[type[Metric], str]] = {}
    for metric in METRICS.values():
        figures = in_training(metric)
        if figures and metric().unavailable(subject) is None:
            found |= {name: (metric, name) for name in figures if name not in found}
    return found | {old: found[new] for old, new in GAPS.items() if new in found}


def check_metric(word: str, dataset: Dataset) -> None:
    """Raise UserError for a metric that is not available for runs on this dataset."""
    if word == "loss":
        return
    able = figure_words(dataset)
    if word not in able:
        raise UserError(f"metric is '{word}'; of this dataset there are loss, {', '.join(able)}")


def sampling_times(field: Field, dataset: Dataset) -> tuple[Array, str]:
    """The times and the last step of the samples. Raises UserError for a field that cannot be sampled over them."""
    grid = times(choose_grid(AutoGrid(), field, stds_of(dataset)), STEPS, field.path)
    return grid, choose_last_step(SAMPLER, field, grid, "auto")


def measured_figure(field: Field, dataset: Dataset, word: str, key: Key, cache: Path | None = None) -> Figure:
    """That figure of samples drawn by Heun's method in 100 steps: 10,000, beside real images as many as there are
    test images. cache: the folder where the classifier of images is kept, which every checkpoint needs; None: nowhere.
    """
    metric, name = figure_words(dataset)[word]
    key_prior, key_noise, key_true = jax.random.split(key, 3)
    grid, last = sampling_times(field, dataset)
    n = usual_number(dataset) if "images" in metric.needs else POINTS
    x0 = prior(field.path, grid[0], field.shape, key_prior, n)
    x = simulate_compiled(SAMPLER, field, x0, grid, key_noise, settings=LoopSettings(last)).x
    return metric().measure(Subject(dataset, field, n, np.asarray(x), cache=cache), key_true).figures[name]


def score_name(word: str) -> str:
    """The name of the number that a run is judged by: where the figure has a target its distance from it, the figure's gap."""
    return f"{word}_gap" if word in QUANTITIES and QUANTITIES[word].direction == "target" else word


def metric_words() -> list[str]:
    """Every word that `metric=` takes, for some dataset."""
    return ["loss", *GAPS, *(name for kind in METRICS.values() for name in in_training(kind))]


def in_training(metric: type[Metric]) -> list[str]:
    """The figures of a metric that a run may be judged by: of samples without labels, named in knobs.py."""
    return [name for name in metric.quantities if name in RUN_METRICS]
