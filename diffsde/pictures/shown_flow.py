"""`diffsde show what=density` of runs of discrete flows, whose density is of the data alone: no path leads to it."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.datasets.scaling import log_volume, same_scaling, to_model
from diffsde.discrete_flow import DiscreteFlow, log_probs
from diffsde.errors import UserError
from diffsde.pictures.places import log_law, places, plane_of
from diffsde.pictures.subjects import Shown, ShownSubject, bound_label, ends_name
from diffsde.plots import densities as plots
from diffsde.runs import progress
from diffsde.runs.load_flow import names_flow
from diffsde.runs.restore import read_train_config, restore_flow
from diffsde.runs.show_config import ShowConfig

SIDE, LINE = 160, 400  # places along a side, and on a line
DRAWN = 4000  # points of the data, from which the window is found


def flow_densities(chosen: ShowConfig) -> Shown:
    """The densities of flows, with of=both beside the exact one, as heat maps, contours or lines."""
    of = chosen.of or "run"
    if of == "difference":
        raise UserError("of=difference is of what=field; of=both draws the two densities, one over the other")
    for key in ("times", "steps"):
        if getattr(chosen, key) is not None:
            raise UserError(
                f"{key}: a discrete flow has neither time nor velocity, which {key}= would not change; leave it out"
            )
    flows = {f"{title} {i + 1}" if i else title: each for i, (title, each) in enumerate(read_flows(chosen))}
    dataset, where = data_of(chosen)
    first = next(iter(flows.values()))
    name = f"density of {ends_name(None, dataset)}{'' if chosen.label is None else f', class {chosen.label}'}; {where}"
    found = ShownSubject(dataset, None, first.shape, dataset.scaling(first.shape), None, (), chosen.label, name, None)
    plane_of(found, chosen)  # refuses images before anything is computed
    data = found.own(found.data(DRAWN, jax.random.key(0)))
    at = places(found, chosen, [data], data.mean(axis=0), chosen.resolution or (LINE if found.d == 1 else SIDE))
    x = jnp.asarray(to_model(found.scaling, at.points).reshape(-1, *found.shape), first.moments.mean.dtype)
    rows = {}
    if of != "run":
        law = dataset.law(None if chosen.label is None else np.asarray([chosen.label]))
        if law is None:
            raise UserError(f"of={of}: the density of dataset={name_of(dataset)} is not known; leave of= out")
        rows["exact"] = log_law(law, x.reshape(-1, found.d))
    if of != "exact":
        rows |= {title: log_probs(flow, x, None) for title, flow in flows.items()}
    volume, shape = log_volume(found.scaling, found.shape), (1, *at.points.shape[:-1])
    densities = {title: np.asarray(each, np.float64).reshape(shape) - volume for title, each in rows.items()}
    names = ["log_prob" + ("" if i == 0 else f"_{i + 1}") for i in range(len(densities))]
    arrays = {**at.axes(), **dict(zip(names, densities.values(), strict=True))}
    about, scale = name + at.note, chosen.scale or "linear"
    if len(at.plane) == 2:
        style = chosen.style or "heat"
        return Shown(arrays, lambda: plots.densities(densities, None, at.extent, style, scale, about), about)
    if chosen.style is not None:
        raise UserError("style is of densities in the plane; on a line they are drawn as lines")
    line = at.points[:, 0], None, at.extent.names[0], scale, about
    return Shown(arrays, lambda: plots.lines_of_densities(densities, None, *line), about)


def read_flows(chosen: ShowConfig) -> list[tuple[str, DiscreteFlow]]:
    """The flow of each run with its title, its label bound. Raises UserError where a run is of a field, or of other data."""
    found: list[tuple[str, DiscreteFlow]] = []
    kept = None
    for run in chosen.runs:
        if not names_flow(run):
            raise UserError(
                f"run: '{run}' is of a field, whose density is that of a path, and the first run is a discrete flow, which has"
                " none; draw them apart"
            )
        config, flow, _ = restore_flow(Path(run), chosen.ema, chosen.checkpoint or "last", chosen.machine.precision)
        if config.label_dropout == 0 and chosen.label is None:
            raise UserError(f"label: '{run}' was trained with label_dropout=0 and needs one; give label=, e.g. label=0")
        scaling = config.dataset.scaling(flow.shape)
        if found and (flow.shape != found[0][1].shape or not same_scaling(scaling, kept)):
            raise UserError(f"run: '{run}' is of other points, or of another mean and std, than the first run")
        kept = scaling
        found.append((name_of(config.net), bound_label(flow, chosen.label)))
    return found


def data_of(chosen: ShowConfig) -> tuple[Dataset, str]:
    """The dataset of the first run, and the runs' folders as text."""
    where = ", ".join(progress.shown_path(Path(run)) for run in chosen.runs)
    return read_train_config(Path(chosen.runs[0])).dataset, where
