"""diffsde sample: draw samples from a trained field, or from the exact one."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import ensembles
from diffsde.build import as_config, read
from diffsde.datasets import Dataset, point_shape
from diffsde.datasets.scaling import Scaling, same_scaling, to_own
from diffsde.errors import UserError
from diffsde.fields import Field, bound
from diffsde.inverse import MMPS
from diffsde.layouts import Layout, member_layout, spread, spread_members
from diffsde.metrics.columns import Column
from diffsde.metrics.errors import Figure
from diffsde.rails import instability, likelihood_instability, settle_last
from diffsde.runs import clock, folder, jobs, processes, report, runtime
from diffsde.runs.columns import column_figures, column_rows, column_summary
from diffsde.runs.data_report import say_data
from diffsde.runs.inverse import MEASUREMENTS, Problem, pose, reconstruction_figures
from diffsde.runs.quality import figures, judged, off
from diffsde.runs.sample_setup import SampleConfig, describe, labels_of, load_field, settle
from diffsde.runs.starting import settle_grid, starting_points, stds_met
from diffsde.samplers import Grid, simulate, simulate_compiled, times
from diffsde.samplers.sampler import Simulated
from diffsde.solver_error import Steps
from diffsde.solver_remedies import solver_error
from diffsde.types import Array, Key

MISSED = 3.0  # stds of a measurement's noise, from which on samples of the posterior are said to miss it


@dataclasses.dataclass
class Job:
    """Samples to be drawn: from what, how, and where they are written."""

    config: dict[str, Any]
    chosen: SampleConfig
    out: Path
    field: Field
    dataset: Dataset
    origin: str
    steps: int
    placed: Grid
    grid: Array
    last: str
    x0: Array
    labels: Array | None
    key_noise: Key
    key_true: Key
    problem: Problem | None
    scaling: Scaling | None
    known: bool
    data: dict[str, Any]
    warnings: list[str] = dataclasses.field(
        default_factory=list
    )  # said when the work begins, after all that is refused

    def inputs(self) -> tuple[Any, ...]:
        """What the compiled program takes."""
        return self.chosen.sampler, self.field, self.x0, self.grid, self.key_noise, self.given

    @property
    def given(self) -> Any:
        """What each sample is conditioned on, as the field is bound to it."""
        return self.labels if self.problem is None else self.problem.given(self.chosen.n, self.labels)

    @property
    def guided(self) -> bool:
        """Whether the field is a guided one, whose samples follow another law than the data's."""
        return self.chosen.guidance is not None

    @property
    def plain(self) -> bool:
        """Whether the field is that of the data's whole law."""
        return self.labels is None and not self.guided

    def settings(self) -> dict[str, Any]:
        """What it is compiled for."""
        chosen = self.chosen
        return {"last": self.last, "save_every": chosen.save_every, "keep": chosen.keep, "coupled": chosen.coupled}

    def group(self) -> Any:
        """What has to be equal for jobs to be simulated as one program."""
        return ensembles.kind(self.inputs()), tuple(self.settings().items())


def sample(config: dict[str, Any], out: Path) -> float:
    """Draw samples, write the sample folder `out`, and return how far the first of its figures is off."""
    return jobs.alone(VERB, config, out)


def together(asked: list[tuple[dict[str, Any], Path]]) -> list[jobs.Outcome]:
    """Draw many sets of samples, those that differ in numbers alone by one vmapped program: the first figure of each, or
    why there is none.
    """
    return jobs.together(VERB, asked)


def prepare(chosen: SampleConfig, config: dict[str, Any], out: Path, held: ExitStack) -> Job:
    """The field, the grid and the starting points, with what the user should know of the steps said."""
    field, dataset, origin = load_field(chosen)
    if {*chosen.drawn} - {"default", "all"}:  # a name that is none is said before anything is computed
        from diffsde.runs.pictures import chosen_pictures, kind_of

        chosen_pictures(chosen.drawn, kind_of(field.shape, chosen.measurement is not None))
    steps = chosen.grid.steps(chosen.steps, chosen.sampler.default_steps)
    key_prior, key_noise, key_true = jax.random.split(jax.random.key(chosen.seed), 3)
    labels, problem, scaling = labels_of(chosen, field), None, dataset.scaling(field.shape)
    known = chosen.measurement is not None or data_here(dataset, chosen.run)
    stds = stds_met(field, dataset)
    placed = settle_grid(chosen.grid, bound(field, ensembles.member(labels, 0)), stds)
    grid = times(placed, steps, field.path)
    law = "guided" if chosen.guidance is not None else None
    if chosen.measurement is not None:
        law = "given what is measured"
        count, moments = min(chosen.n, chosen.measurements or MEASUREMENTS), dataset.measure(dataset.load(), key_true)
        key_pose = jax.random.fold_in(key_true, 1)
        problem = pose(chosen.measurement, chosen.truth, count, dataset, moments, key_pose, scaling)
        field = (chosen.posterior or MMPS()).field(field, problem.model_operator(), problem.noise, problem.y[0])
        if steep := likelihood_instability(chosen.sampler, field, grid, chosen.last, float(moments.std) ** 2):
            report.warn(steep)
    x0 = starting_points(field, dataset, grid[0], key_prior, chosen.n, labels, law)
    keys = key_noise, key_true
    about = say_data(dataset) if chosen.run == "oracle" else {}
    drawn = origin, steps, placed, grid, chosen.last, x0, labels
    job = Job(config, chosen, out, field, dataset, *drawn, *keys, problem, scaling, known, about)
    job.last = settle_last(chosen.sampler, bound(field, ensembles.member(job.given, 0)), grid, chosen.last)
    how = Steps(chosen.sampler, placed, steps, job.last)
    unstable = instability(chosen.sampler, field.path, grid, job.last, dataset.least_variance())
    job.warnings = [line for line in (unstable, solver_error(how, field.path, stds)) if line]
    return job


class Batch(NamedTuple):
    """What was found for each job of a group, and the seconds that all of it took."""

    found: list[Simulated]
    seconds: float
    cpu_seconds: float
    compiling: float


def draw(group: list[Job]) -> list[jobs.Outcome]:
    """Simulate jobs of one structure by one program, and finish each."""
    batch = simulated(group)
    clock.lap("sampling", compiling=batch.compiling)
    return [jobs.outcome(finish, job, found, batch) for job, found in zip(group, batch.found, strict=True)]


def simulated(group: list[Job]) -> Batch:
    """The samples of jobs of one structure, by one program."""
    for line in dict.fromkeys(line for job in group for line in job.warnings):
        report.warn(line)
    compiler, settings, many = runtime.Compiler(), group[0].settings(), len(group) > 1
    mesh = runtime.mesh(group[0].chosen.devices)
    if many:
        inputs, split = ensembles.stack([job.inputs() for job in group])
        inputs = spread_members(member_layout(mesh, len(group)), inputs, split)
        arguments, settings = (inputs,), settings | {"split": split}
        program = compiler(simulate_members, *arguments, **settings)
    else:
        arguments = group[0].inputs() if mesh is None else shared_out(group[0], Layout(mesh, shard=False))
        program = compiler(simulate_compiled, *arguments, **settings)
    begin = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(program(*arguments))
    seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    found = processes.gathered(found)
    each = [first(ensembles.member(found, i) if many else found, job.chosen.n) for i, job in enumerate(group)]
    return Batch(each, seconds, cpu_seconds, compiler.seconds)


@partial(jax.jit, static_argnames=("split", "last", "save_every", "keep", "coupled"))
def simulate_members(inputs: tuple[Any, ...], split: tuple[bool, ...], **settings: Any) -> Simulated:
    """simulate of m jobs at once: `inputs`, `split` from ensembles.stack; every result stacked (m, ...)."""
    return ensembles.over_members(lambda inputs: simulate(*inputs, **settings), split, inputs)


def shared_out(job: Job, layout: Layout) -> tuple[Any, ...]:
    """The inputs, the points split over all devices; the first few again at the end, so that they divide evenly."""
    rows = np.arange(-(-job.chosen.n // layout.mesh.size) * layout.mesh.size) % job.chosen.n
    points, given = jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(leaf)[rows], layout.batch()), (job.x0, job.given)
    )
    sampler, field, grid, key = spread(layout, (job.chosen.sampler, job.field, job.grid, job.key_noise))
    return sampler, field, points, grid, key, given


def first(found: Simulated, n: int) -> Simulated:
    """What was found of the first n points."""
    x, trajectory, nfe = found
    if trajectory is not None:
        trajectory = trajectory._replace(x=trajectory.x[:, :n])
    return Simulated(x[:n], trajectory, None if nfe is None else nfe[:n])


def how_drawn(job: Job, found: Simulated) -> dict[str, Any]:
    """How the samples came about: n, nfe, steps, ... Raises UserError where some are not finite."""
    chosen, (x, _, spent) = job.chosen, found
    if not bool(jnp.isfinite(x).all()):
        bad = int((~jnp.isfinite(x.reshape(chosen.n, -1))).any(axis=1).sum())
        noise = " or a smaller sigma" if getattr(chosen.sampler, "diffusion", None) else ""
        mend = "a larger sampler.rtol and sampler.atol" if chosen.sampler.adaptive else f"more steps{noise}"
        raise UserError(f"{bad} of {chosen.n} samples are NaN or infinite; take {mend}")
    nfe: dict[str, float] = {"nfe": chosen.sampler.nfe(job.steps, job.last)}
    if spent is not None:
        nfe = {"nfe": float(spent.mean()), "nfe_max": int(spent.max())}
    ends = {"start": float(job.grid[0]), "end": float(job.grid[-1])}
    return {"n": chosen.n, **nfe, "steps": job.steps, "last": job.last, **ends, "grid": as_config(job.placed)}


def sample_arrays(job: Job, x: Array) -> dict[str, Any]:
    """What samples.npz holds: x (n, *shape) in the data's own units; the labels y (n,) that they were given; the truth and what was measured of it."""
    arrays: dict[str, Any] = {"x": to_own(job.scaling, x)}
    if job.labels is not None:
        arrays["y"] = np.asarray(job.labels, np.int32)
    if job.problem is not None:
        arrays |= {"truth": job.problem.own_truth(), "measured": job.problem.own_measured()}
    return arrays


def finish(job: Job, found: Simulated, batch: Batch) -> float:
    """Write the samples and their figures, say what came out, then draw pictures; how far the first figure is off."""
    chosen, out, x = job.chosen, job.out, found.x
    how, members, (_, seconds, cpu_seconds, compiling) = how_drawn(job, found), len(batch.found), batch
    written = write_samples(job, found)
    metrics, by_column = figures_of(job, x)
    summary = {
        **how,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_compile": compiling,
        "members": members,
        "field": job.origin,
        **({"data": job.data} if job.data else {}),
        "metrics": metrics,
        "units": report.units(metrics, job.scaling is not None and job.problem is None),
        **column_summary(by_column),
    }
    folder.write_json(out / "summary.json", summary)
    others = f" for {members} jobs at once" if members > 1 else ""
    report.table(
        f"sampled {chosen.n:,} points with {describe(job.config)} from {job.origin}",
        [
            ("stretches" if chosen.sampler.adaptive else "steps", report.described_steps(how)),
            *([("units", "x in the data's own; sigma in stds of each coordinate")] if job.scaling is not None else []),
            *report.figure_rows(metrics, job.guided, job.scaling is not None and job.problem is None),
            *column_rows(by_column, job.labels is not None),
            *[(path.stem, report.shown(path)) for path in written],
        ],
    )
    clock.lap("figures")
    if processes.leads() and chosen.drawn:
        from diffsde.runs.pictures.sampled import draw_samples  # here: matplotlib takes a while

        draw_samples(job, x)
        clock.lap("drawing")
    report.say(f"time: {clock.said()}{others}")
    return off(judged(summary)[1])


def write_samples(job: Job, found: Simulated) -> list[Path]:
    """The samples, and their trajectory where one was asked for, on the disk before anything is made of them."""
    folder.write_config(job.out, "sample", job.config)
    arrays = sample_arrays(job, found.x)
    written = [folder.write(job.out / "samples.npz", lambda path: np.savez(path, **arrays))]
    if found.trajectory is not None:
        kept = {"times": np.asarray(found.trajectory.times), "x": to_own(job.scaling, found.trajectory.x)}
        written.append(folder.write(job.out / "trajectory.npz", lambda path: np.savez(path, **kept)))  # type: ignore[arg-type]
    return written


def figures_of(job: Job, x: Array) -> tuple[dict[str, Figure], dict[str, Column]]:
    """The figures of the samples, and the columns of points of one's own; none where the data is not here."""
    if job.problem is not None:
        own = job.problem.about_mean(x)
        found = reconstruction_figures(job.problem, own, job.dataset, job.key_true, job.plain)
        if (misfit := found["misfit"]["value"]) > MISSED:
            report.warn(
                f"the samples miss what was measured by {misfit:.3g} stds of its noise, {job.problem.noise:.3g}: the field is not"
                " as exact as that; take a larger measurement.noise"
            )
        return found, {}
    if not job.known:
        return {}, {}
    columns = column_figures(x, job.dataset, job.scaling, job.labels, job.key_true)
    return figures(x, job.dataset, job.key_true, job.labels, job.guided), columns


def data_here(dataset: Dataset, run: str) -> bool:
    """Whether what the samples are compared with can be read; said where it can not, or is no longer what was trained on."""
    try:
        arrays = dataset.load()
        shape = point_shape(dataset, arrays)
        kept = dataset.scaling(shape)
        measured = run != "oracle" and kept is not None and folder.read_config(Path(run))["dataset"].get("mean") is None
        if measured and not same_scaling(kept, dataset.measured_scaling()):
            report.warn(
                "the data have changed since the run was trained on them: samples are compared with what is there now"
            )
    except UserError as error:
        report.warn(f"no figures, and no picture beside the data, which is not here ({error})")
        return False
    return True


VERB = jobs.Verb("sample", settle, lambda config: read(SampleConfig, config), prepare, draw)
