"""The discrete flow that run= names: no field, but a density with samples."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.inverse import Measurement, Posterior
from diffsde.runs import progress
from diffsde.runs.flow_words import SAMPLE, differs, refusal
from diffsde.runs.sample_config import Sampling
from diffsde.samplers import Grid, Sampler


class LoadedFlow(NamedTuple):
    """A discrete flow, the dataset to compare its samples with, and its origin as text."""

    flow: DiscreteFlow
    dataset: Dataset
    origin: str


def names_flow(run: str) -> bool:
    """Whether run= names a run whose network is a discrete flow. Raises UserError where it is no run."""
    if run == "oracle":
        return False
    from diffsde.runs.restore import read_train_config  # here: it imports flax and optax

    return read_train_config(Path(run)).is_flow


def load_flow(chosen: Sampling) -> LoadedFlow:
    """The flow of a run, in the precision asked for. Raises UserError, for a knob too that is of fields alone."""
    from diffsde.runs.restore import restore_flow
    from diffsde.runs.train_config import named

    where = Path(chosen.run)
    trained, flow, step = restore_flow(where, chosen.ema, chosen.checkpoint, chosen.machine.precision)
    refuse_of_fields(chosen, name_of(trained.net))
    if trained.label_dropout == 0 and chosen.labels is None:
        raise UserError(
            "labels: this run was trained with label_dropout=0 and does not know how to do without a label; give labels="
        )
    if trained.dataset.stream:
        progress.streamed(trained.dataset, trained.dataset.load())
    what = "the parameters" if chosen.ema == 0 else "the parameter average"
    origin = f"{what} at step {step} of {progress.shown_path(where)} ({named(trained)})"
    return LoadedFlow(flow, trained.dataset, origin)


def refuse_of_fields(chosen: Sampling, net: str) -> None:
    """Raise UserError for a choice that is of fields alone; the words of a command line are refused earlier (flow_words.py)."""
    for key, usual in SAMPLE.items():
        value = getattr(chosen, key, usual)
        if differs(name_of(value) if isinstance(value, Sampler | Grid | Measurement | Posterior) else value, usual):
            raise UserError(refusal(key, net))
