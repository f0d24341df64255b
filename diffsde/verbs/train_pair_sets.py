"""Runs that learn from sets of pairs: the set they begin with, and, of coupling=iterated, the rounds after which another is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from diffsde import ensembles
from diffsde.couplings import FilePairs, IteratedPairs, RunPairs
from diffsde.datasets import point_shape
from diffsde.datasets.dataset import draw_many
from diffsde.errors import UserError
from diffsde.evaluation.shown import figure_rows
from diffsde.evaluation.straightness import figures_of
from diffsde.evaluation.validation import check_of
from diffsde.metrics.figures import Figure
from diffsde.runs import progress, sizes
from diffsde.runs.pairs import Carrying, Ends, carried_pairs, draw_labelled, independent_pairs
from diffsde.runs.results import Report
from diffsde.runs.run_pairs import keep_pairs, pairs_of_files, pairs_of_run, read_pairs
from diffsde.runs.sealed_arrays import Damaged
from diffsde.runs.train_config import TrainConfig, field_of
from diffsde.samplers.grids import UniformGrid
from diffsde.training import Run, TrainState
from diffsde.verbs.train_setup import learned

if TYPE_CHECKING:
    from diffsde.verbs.train_report import TrainJob

MEASURED = ("straightness", "one_step_error")
POINTS = 4000  # trajectories of which these are measured
KEY = 2**31 - 64  # folded into the run's key for the pairs that it begins with, below it for those of later rounds
MEASURING = KEY + 1  # ... and for the points of which figures are measured


def with_pair_set(chosen: TrainConfig, run: Run) -> Run:
    """The run with the pairs that it begins with, where its coupling is a set of them. Raises UserError."""
    coupling, key = run.coupling, jax.random.fold_in(run.key, KEY)
    if isinstance(coupling, RunPairs | IteratedPairs):
        sizes.require_pairs(coupling.pairs, point_shape(run.dataset, run.arrays))
    match coupling:
        case FilePairs():
            made = pairs_of_files(coupling, ends_of(run))
        case RunPairs():
            made = pairs_of_run(coupling, ends_of(run), key, chosen.machine.cache_folder)
        case IteratedPairs():
            made = independent_pairs(ends_of(run), coupling.pairs, key)
        case _:
            return run
    return dataclasses.replace(run, pair_set=made if run.classes else made._replace(label=None))


def ends_of(run: Run) -> Ends:
    """The two laws of a run between two laws."""
    assert run.source is not None
    return Ends(run.source, run.source_arrays, run.dataset, run.arrays)


def resumed(job: TrainJob) -> Run:
    """The run of a job of coupling=iterated with the pairs of the round that its state is in. Raises UserError."""
    step = int(job.state.step)
    made = sum(end <= step for end in job.member.plan.round_ends)
    if made == 0 or step == job.chosen.steps:
        return job.run
    file = file_of(job, made)
    try:
        return dataclasses.replace(job.run, pair_set=read_pairs(file))
    except (Damaged, FileNotFoundError) as error:
        why = str(error) if isinstance(error, Damaged) else "the file is gone"
        raise UserError(
            f"run: the pairs of round {made + 1} in '{progress.shown_path(file)}' cannot be read: {why}; begin another run (resume=false)"
        ) from None


def file_of(job: TrainJob, made: int) -> Path:
    """The file of the pairs that are made after `made` rounds."""
    return job.out / "pairs" / f"round-{made + 1}.npz"


def next_round(job: TrainJob, step: int, run: Run, state: TrainState) -> Run:
    """At the last step of a round: measure and log the field, and give the run the pairs of the next, which are written first."""
    coupling, ends = run.coupling, job.member.plan.round_ends
    assert isinstance(coupling, IteratedPairs)
    made, field = ends.index(step) + 1, field_at(job, state)
    figures = flow_figures(run, field)
    job.member.log.write({"step": step, "round": made, **flat(figures)})
    said = f"round {made} of {len(ends)}: {said_figures(figures)}"
    if made == len(ends):
        progress.say(said)
        return run
    how = carrying(job.chosen, coupling, made)
    pairs = carried_pairs(field, ends_of(run), how, coupling.pairs, jax.random.fold_in(run.key, KEY - made))
    keep_pairs(file_of(job, made), pairs)
    way = f"SDE {'backward from the data' if how.backward else 'forward from the source'}" if how.sigma else "ODE"
    progress.say(f"{said}; {coupling.pairs:,} pairs for the next by its {way}")
    run = dataclasses.replace(run, pair_set=pairs)
    job.member.check = check_of(job.chosen, run)
    return run


def field_at(job: TrainJob, state: TrainState) -> Any:
    """The field of the first parameter average."""
    return field_of(job.chosen, learned(job.run), ensembles.member(state.ema, 0))


def carrying(chosen: TrainConfig, coupling: IteratedPairs, made: int) -> Carrying:
    """How the pairs after `made` rounds are made: on the bridge of a Brownian motion by the SDE of its sigma, else by the ODE."""
    sigma = float(chosen.path.reference_sigma or 0.0)
    return Carrying(coupling.steps, sigma, sigma > 0 and coupling.backward(made))


def flow_figures(run: Run, field: Any) -> dict[str, Figure]:
    """Straightness and one-step error of the ODE's trajectories from points of the source, the same points at each call."""
    ends, key = ends_of(run), jax.random.fold_in(run.key, MEASURING)
    x0 = draw_many(ends.source, ends.source_arrays, key, POINTS)
    label = draw_labelled(ends.dataset, ends.arrays, key, POINTS)[1] if run.classes else None
    found = figures_of(field, UniformGrid(), x0, label)
    return {name: found[name] for name in MEASURED}


def with_flow(job: TrainJob, state: TrainState, report: Report) -> Report:
    """The report of a run that learnt from pairs with how straight its flow is, and of coupling=iterated after each round."""
    if job.run.pair_set is None:
        return report
    figures = flow_figures(job.run, field_at(job, state))
    rounds = job.member.log.rounds
    rows = [
        (
            f"after round {line['round']:g}",
            said_figures({name: Figure(line[name], line.get(f"{name}_error")) for name in MEASURED}),
        )
        for line in rounds[:-1]
    ]
    rows += figure_rows(figures)
    summary = report.summary | {name: figure.as_dict() for name, figure in figures.items()}
    if rounds:
        summary["rounds"] = rounds
    return report._replace(rows=[*report.rows[:2], *rows, *report.rows[2:]], summary=summary)


def said_figures(figures: dict[str, Figure]) -> str:
    """Figures as part of a line."""
    return ", ".join(f"{name} {text}" for name, text in figure_rows(figures))


def flat(figures: dict[str, Figure]) -> dict[str, float]:
    """Figures as numbers of a log's line."""
    found: dict[str, float] = {}
    for name, figure in figures.items():
        found |= {name: figure.value} | ({} if figure.error is None else {f"{name}_error": figure.error})
    return found
