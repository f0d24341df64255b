"""diffsde simulate: paths of any SDE dX = b(X, t) dt + sigma(X, t) dW, held against what is known of its law."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from diffsde import ensembles
from diffsde.build import as_config, name_of
from diffsde.errors import UserError
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.mixing import Mixing, changes_of_mode, in_words, mixing_of, modes_of
from diffsde.evaluation.mixture_fit import MixtureFit
from diffsde.evaluation.process_figures import closed_form_figures, stationary_moments
from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure
from diffsde.processes import Process
from diffsde.processes.potential import Langevin
from diffsde.runs import clock, jobs, processes, progress
from diffsde.runs.machine import Machine
from diffsde.runs.process_config import SimulateConfig, in_config_words, simulate_choices, without_generative
from diffsde.runs.process_start import Starts, rates_of, starts_of, steps_of, unstable
from diffsde.runs.results import Cell, Report, Result, summary_figures
from diffsde.runs.simulating import (
    SimulationBatch,
    SimulationInputs,
    SteppedJob,
    check_finite,
    evaluations_made,
    simulate_jobs,
)
from diffsde.samplers import Saving
from diffsde.samplers.loop import Simulated, Trajectory, padded
from diffsde.types import Array, Key, on_device

if TYPE_CHECKING:
    from diffsde.pictures import PathScene

FEW = 40  # paths of each job in the picture of a sweep
NOT_RANKED = "figures of a process describe its law; one that is nearer to the exact value by chance is no better"
TITLE = 45  # letters of a picture's title
REMEDY = "more steps, or an earlier t_end if the process itself is infinite by then"
STATES = 256  # saved states, at least, if there are that many steps: the figures at several times are of these
NUMBERS = 2**23  # in all of them, at most: where there are more, fewer paths are kept


def simulate(config: dict[str, Any], out: Path) -> float:
    """Simulate a process, write the folder `out`, and return the first figure's distance from its target."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Simulate many processes, jobs that differ in numbers alone by one vmapped program; the outcome of each job."""
    return jobs.together(VERB, asked)


@dataclasses.dataclass
class ProcessJob(SteppedJob):
    """A job of simulating a process: the choices, the process as it is simulated, where its paths start, and the steps."""

    config: dict[str, Any]
    chosen: SimulateConfig
    out: Path
    process: Process
    starts: Starts
    steps: int
    key: Key
    warnings: list[str]
    unstable: bool = False
    last: str = "step"  # the noise of the last step belongs to the process
    coupled: bool = False
    condition: Any = None

    @property
    def n(self) -> int:  # type: ignore[override]  # here and below read-only
        return self.chosen.n

    @property
    def machine(self) -> Machine:  # type: ignore[override]
        return self.chosen.machine

    @property
    def x0(self) -> Array:  # type: ignore[override]
        return self.starts.x

    @property
    def grid(self) -> Array:  # type: ignore[override]
        return on_device(np.linspace(0, self.chosen.t_end, self.steps + 1), float)

    @property
    def every(self) -> int:
        """Steps between two saved states: a divisor of save_every, at most 1/STATES of all."""
        wanted, quarter = max(1, self.steps // STATES), self.steps // 4
        asked = self.chosen.save_every
        able = [i for i in range(1, wanted + 1) if asked is None or asked % i == 0]
        return max([i for i in able if quarter % i == 0 and 4 * i >= wanted] or able)  # a state at each quarter

    @property
    def saving(self) -> Saving:  # type: ignore[override]
        states = (self.steps - 1) // self.every
        asked = 0 if self.chosen.save_every is None else self.chosen.keep or self.n
        most = max(asked, NUMBERS // ((states + 2) * math.prod(self.x0.shape[1:])), 1)
        return Saving(self.every, min(self.n, most), states)

    def inputs(self) -> SimulationInputs:
        at, steps = padded(self.grid)
        return SimulationInputs(self.chosen.sampler, self.process, self.x0, at, self.key, None, steps)

    def asked_for(self, way: Trajectory) -> dict[str, np.ndarray]:
        """The arrays of trajectory.npz: the states after every save_every steps and the last, of the first `keep` paths."""
        assert self.chosen.save_every is not None
        rows = sorted({*range(0, len(way.times) - 1, self.chosen.save_every // self.every), len(way.times) - 1})
        return {"times": np.asarray(way.times)[rows], "x": np.asarray(way.x)[rows, : self.chosen.keep]}


def prepare(chosen: SimulateConfig, config: dict[str, Any], out: Path, held: ExitStack) -> ProcessJob:
    """The job: the process, its starting points, the number of steps, and warnings about them. Raises UserError."""
    process = chosen.process.resolved()
    key_start, key_noise = jax.random.split(jax.random.key(chosen.seed))
    starts = starts_of(chosen, process, key_start)
    if {*chosen.drawn} - {"default", "all"}:  # a wrong name is refused before anything is computed
        from diffsde.pictures import chosen_pictures

        chosen_pictures(chosen.drawn, kind_of_paths(starts.x))
    if not np.isfinite(np.asarray(process.drift_at(starts.x[0], 0.0))).all():
        first = np.array2string(np.asarray(starts.x[0]), separator=",", precision=4)
        raise UserError(f"the drift is not a finite number at the start x0={first}; say another x0=")
    rates = rates_of(process, starts.x)
    steps = steps_of(chosen, rates)
    warning = unstable(chosen.sampler, rates, chosen.t_end, steps)
    warnings = [warning] if warning else []
    return ProcessJob(config, chosen, out, process, starts, steps, key_noise, warnings, bool(warning))


def draw(group: list[ProcessJob]) -> Iterator[Result | UserError]:
    """Simulate jobs of one structure by one program; the result of each."""
    batch = simulate_jobs(group)
    clock.lap("simulating", compiling=batch.compiling)
    remark = f" for {len(group)} jobs at once" if len(group) > 1 else ""
    for job, found in zip(group, batch.found, strict=True):
        yield one_of(job, found, batch, remark)


def one_of(job: ProcessJob, found: Simulated, batch: SimulationBatch, remark: str) -> Result | UserError:
    """The result of one job: its paths, written before anything is measured, the report and the pictures."""
    try:
        check_finite(found.x, job.chosen.sampler, REMEDY)
    except UserError as error:
        return error
    assert found.trajectory is not None
    arrays = {"samples": {"x": np.asarray(found.x)}}
    if job.chosen.save_every is not None:
        arrays["trajectory"] = job.asked_for(found.trajectory)
    drawing = partial(pictures_of, job, found) if processes.is_main_process() and job.chosen.drawn else None
    return Result(partial(report_of, job, found, batch), arrays, drawing, together=remark)


def report_of(job: ProcessJob, found: Simulated, batch: SimulationBatch) -> Report:
    """The report of a job: the figures of its paths, and how they were made."""
    chosen = job.chosen
    figures, lines = figures_of(job, found)
    how = {"n": job.n, **evaluations_made(job, chosen.sampler, found), "steps": job.steps, "t_end": chosen.t_end}
    summary = {
        **how,
        "step": chosen.t_end / job.steps,
        "start": job.starts.words,
        "seconds": batch.seconds,
        "cpu_seconds": batch.cpu_seconds,
        "seconds_compile": batch.compiling,
        "members": len(batch.found),
        "process": as_config(chosen.process),
        "metrics": summary_figures(figures),
        "not_ranked": NOT_RANKED,
        "remarks": lines,
    }
    rows = [
        ("equation", equation_of(chosen.process)),
        ("start", job.starts.words),
        ("steps", steps_in_words(job, how)),
        *[(label_of(name), shown_figure(figure)) for name, figure in figures.items()],
        *[("", line) for line in lines],
    ]
    score = next(iter(figures.values())).distance_from_target
    return Report(f"simulated {job.n:,} paths of {described(job)}", rows, summary, score)


def figures_of(job: ProcessJob, found: Simulated) -> tuple[dict[str, Figure], list[str]]:
    """The figures of the paths, and what they say in words: against closed forms at several times, or the stationary law."""
    way, d = found.trajectory, math.prod(found.x.shape[1:])
    assert way is not None
    times, x = np.asarray(way.times, np.float64), np.asarray(way.x)
    figures: dict[str, Figure] = {}
    law = job.process.stationary(d)
    if isinstance(job.chosen.process, Langevin) and law is not None:
        subject = Subject(job.chosen.process.dataset, None, job.n, found.x)
        fit = MixtureFit().measure(subject, job.key).figures
        figures |= {name: each for name, each in fit.items() if law.weights.size > 1 or name != "mode_weight_kl"}
    figures |= closed_form_figures(job.process, times, x, np.asarray(found.x), job.starts.law, job.starts.groups)
    if job.unstable or (law is None and not is_stationary(job.process)):
        return figures, []  # of paths that grow at every step there is no time after which they forget
    limit = stationary_moments(job.process, d)
    mixing = mixing_of(times, x.reshape(*x.shape[:2], d), None if limit is None else limit.mean)
    if mixing is None:
        return figures, []
    known = job.process.autocorrelation_time(d)
    if mixing.found.resolved:
        time = mixing.time if known is None else mixing.time.against_exact(known)
        figures |= {"autocorrelation_time": time, "ess_of_half_a_path": mixing.ess}
    elif known is None:  # the paths are too short for more than a bound
        figures["autocorrelation_time_at_least"] = Figure(mixing.time.value)
        figures["ess_of_half_a_path_at_most"] = Figure(mixing.ess.value)
    return figures, remarks_of(job, x.reshape(*x.shape[:2], d), mixing, known, figures)


def remarks_of(
    job: ProcessJob, x: np.ndarray, mixing: Mixing, known: float | None, figures: dict[str, Figure]
) -> list[str]:
    """What is said of the mixing; adds the changes of mode to the figures."""
    if known is not None:
        return []
    modes = modes_of(x, job.process.stationary(x.shape[-1]))
    changes = None
    if modes is not None:
        changes = figures["changes_of_mode"] = changes_of_mode(modes)
    return in_words(mixing, changes)


def is_stationary(process: Process) -> bool:
    """Whether a coordinate of the process has a stationary density."""
    return process.log_stationary(np.zeros(1)) is not None


def label_of(name: str) -> str:
    """A figure's name for the table: variance_t0.5 as `variance at t=0.5`."""
    word, *times = name.split("_t") if name.startswith(("mean", "variance", "autocovariance")) else [name]
    return word.replace("_", " ") + (" at t=" + ", ".join(times) if times else "")


def equation_of(process: Process) -> str:
    """The equation of a process, from the first line of its docstring."""
    return (type(process).__doc__ or "").strip().splitlines()[0].partition(": ")[2].rstrip(".")


def steps_in_words(job: ProcessJob, how: dict[str, Any]) -> str:
    """How the steps were taken."""
    sampler, end = job.chosen.sampler, job.chosen.t_end
    if sampler.adaptive:
        return f"{job.steps} segments to t={end:g}, {how['nfe']:.1f} evaluations a path on average, {how['nfe_max']} at most"
    order = f"{'weak ' if sampler.stochastic else ''}order {sampler.order}"
    return f"{job.steps} of {end / job.steps:.4g} to t={end:g} by {name_of(sampler)}, {order}, {progress.evaluations(how['nfe'])}"


def described(job: ProcessJob) -> str:
    """A job's process, its numbers and its sampler in words."""
    return f"{described_process(job)} sampler={name_of(job.chosen.sampler)}"


def described_process(job: ProcessJob) -> str:
    """A job's process and its numbers in words."""
    return f"process={in_config_words(job.config['process'])}"


def kind_of_paths(x: Array) -> str:
    """The kind of pictures, a key of PICTURES, for points x (n, *shape)."""
    from diffsde.pictures import PATHS, PATHS_IN_PLANE  # here: matplotlib takes a while

    return PATHS_IN_PLANE if x.shape[1:] == (2,) else PATHS


def scene_of(job: ProcessJob, found: Simulated, n: int) -> PathScene:
    """What a job's pictures are drawn of; n: the number of paths, as the title says it."""
    from diffsde.pictures import PathScene

    way, starts = found.trajectory, job.starts
    assert way is not None
    title, sampler = described_process(job), name_of(job.chosen.sampler)
    about = f"{sampler}, {job.steps} steps of {job.chosen.t_end / job.steps:.3g}, n = {n:,}, {starts.words}"
    states = np.asarray(way.times, np.float64), np.asarray(way.x), np.asarray(found.x)
    if len(title) > TITLE:
        title, about = f"process={name_of(job.chosen.process)}", f"{title}; {about}"
    return PathScene(job.process, *states, starts.law, starts.parts, title, about)


def pictures_of(job: ProcessJob, found: Simulated) -> list[Path]:
    """Draw the pictures of `pictures=`; their paths."""
    from diffsde.pictures import chosen_pictures, draw_pictures, more_pictures

    kind = kind_of_paths(found.x)
    wanted = chosen_pictures(job.chosen.drawn, kind)
    paths = draw_pictures(scene_of(job, found, job.n), wanted, job.out / "plots")
    if more := more_pictures(wanted, kind):
        progress.say(more)
    return paths


def sweep_pictures(cells: list[Cell], where: Path) -> list[Path]:
    """Draw the first paths of every job in one picture, a panel a job, rows by the first key swept and columns by the second.

    The paths are simulated again, by one program for jobs of one structure: a path's noise depends on its number and the seed
    alone, so they are the first of each job's own.
    """
    from diffsde.pictures import save_figure
    from diffsde.pictures.process_grid import process_grid

    words = {"n": FEW, "save_every": None, "keep": None, "pictures": "none"}
    again = []
    with ExitStack() as held:
        for cell in cells:
            config = cell.config | words | {"n": min(FEW, int(cell.config["n"])), "steps": cell.summary["steps"]}
            job = prepare(simulate_choices(config), config, cell.job, held)
            job.warnings.clear()
            again.append(job)
    scenes: dict[int, PathScene] = {}
    for rows in ensembles.grouped({i: job.group() for i, job in enumerate(again)}):
        batch = simulate_jobs([again[i] for i in rows])
        scenes |= {
            i: scene_of(again[i], found, int(cells[i].config["n"])) for i, found in zip(rows, batch.found, strict=True)
        }
    drawn = process_grid([cell.overrides for cell in cells], [scenes[i] for i in range(len(cells))])
    return [] if drawn is None else [save_figure(where / "paths.png", drawn)]


VERB = jobs.Verb("simulate", without_generative, simulate_choices, prepare, draw)
