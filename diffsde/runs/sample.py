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

from diffsde import empirical, ensembles
from diffsde.build import read, valid_last, valid_seed
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field, LearnedField, OracleField
from diffsde.guidance import Autoguided, ClassifierFree, ClassifierGuided
from diffsde.inverse import MMPS, Measurement, Posterior
from diffsde.layouts import Layout, member_layout, spread, spread_members
from diffsde.paths import GaussianPath
from diffsde.rails import instability, likelihood_instability, settle_last, takes_sigma
from diffsde.runs import folder, jobs, processes, report, runtime
from diffsde.runs.inverse import MEASUREMENTS, Problem, draw_reconstructions, pose, reconstruction_figures
from diffsde.runs.pictures import Drawn, draw_pictures
from diffsde.runs.quality import figures, judged, off, prior
from diffsde.runs.train import named
from diffsde.runs.trained import restore, restore_guide
from diffsde.samplers import SAMPLERS, Grid, Sampler, simulate, simulate_compiled, times
from diffsde.samplers.sampler import Simulated
from diffsde.types import Array, Key, positive


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The knobs of configs/sample.yaml, which documents each."""

    sampler: Sampler
    grid: Grid
    run: str
    checkpoint: str
    ema: float | None
    n: int
    steps: int | None
    sigma: float | None
    seed: int
    labels: str | tuple[int, ...] | None
    guidance: float | None
    guidance_interval: tuple[float, ...]
    guide: str | None
    guide_checkpoint: str
    coupled: bool
    last: str
    truth: str | None
    measurements: int | None
    save_every: int | None
    keep: int | None
    plots: bool
    resume: bool
    precision: str | None
    devices: int | None
    coordinator: str | None
    processes: int | None
    process: int | None
    cache: bool
    cache_dir: str | None
    threads: int | None
    dataset: Dataset | None = None
    path: GaussianPath | None = None
    measurement: Measurement | None = None
    posterior: Posterior | None = None

    def check(self) -> None:
        positive(self, "n", "steps", "measurements", "save_every", "keep")
        valid_seed(self.seed)
        valid_last(self.last)
        if self.sigma is not None and self.sigma < 0:
            raise ValueError(f"sigma is {self.sigma}; it must be 0 or more")
        takes_sigma(self.sampler, self.sigma)
        self._check_guidance()
        if self.coupled and not self.sampler.coupled:
            able = ", ".join(name for name, kind in SAMPLERS.items() if kind.coupled)
            raise ValueError(f"coupled needs a sampler whose noise is that of one Brownian path: {able}")
        if self.keep is not None and self.save_every is None:
            raise ValueError("keep says of how many samples to save a trajectory; say how often with save_every")
        for name in ("posterior", "truth", "measurements"):
            if self.measurement is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of an inverse problem; say what is measured with measurement=")
        if self.run == "oracle":
            if self.checkpoint != "last" or self.ema is not None:
                raise ValueError("run=oracle has no checkpoint and no ema; they belong to a trained run")
            if self.path is None or self.dataset is None:
                raise ValueError("run=oracle needs a dataset= and a path=, e.g. dataset=gmm path=ot")
            if not isinstance(self.dataset, MixtureDataset | FiniteDataset):
                raise ValueError(
                    "run=oracle knows the exact field of mixtures (dataset=gmm, mixture, 8gaussians) and of finite data"
                    " (dataset=array, image_folder, digits, mnist, fashion_mnist)"
                )
        elif self.path is not None or self.dataset is not None:
            raise ValueError("dataset= and path= belong to the trained run; give them with run=oracle only")

    def _check_guidance(self) -> None:
        if isinstance(self.labels, str) and self.labels != "all":
            raise ValueError(f"labels is '{self.labels}'; it must be all, or a list, e.g. labels=[0,1,2]")
        if self.labels == ():
            raise ValueError("labels is empty; give a list, e.g. labels=[0,1,2], or all")
        interval = self.guidance_interval
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"guidance_interval is {list(interval)}; it must be [t0,t1] with 0 <= t0 <= t1 <= 1")
        if self.guidance is None:
            if self.guide is not None:
                raise ValueError("guide says what guides; say how much with guidance, e.g. guidance=2")
            if interval != (0, 1):
                raise ValueError("guidance_interval says when to guide; say how much with guidance, e.g. guidance=2")
        if self.guide is None:
            if self.guide_checkpoint != "last":
                raise ValueError("guide_checkpoint is of the run that guides; name it with guide=<run folder>")
            if self.guidance is not None and self.labels is None:
                raise ValueError(
                    "guidance leans towards labels; say which, e.g. labels=[0,1,2] or labels=all (or guide=<run folder>)"
                )


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
    grid: Array
    last: str
    x0: Array
    labels: Array | None
    key_noise: Key
    key_true: Key
    problem: Problem | None

    def inputs(self) -> tuple[Any, ...]:
        """What the compiled program takes."""
        return self.chosen.sampler, self.field, self.x0, self.grid, self.key_noise, self.given

    @property
    def given(self) -> Any:
        """What each sample is conditioned on, as the field is bound to it."""
        return self.labels if self.problem is None else self.problem.given(self.chosen.n, self.labels)

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


def settle(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with the folder that run=latest means now, and with the run's precision."""
    config = with_run(config)
    return config, with_precision(config)


def with_run(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the folder that run=latest means now, so that what goes on later does not take another for it."""
    return config | {"run": str(folder.latest())} if config.get("run") == "latest" else config


def with_precision(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the run's precision where it gives none: float64 has to be switched on before anything is read."""
    if config.get("precision") is not None or config.get("run") == "oracle":
        return config
    return config | {"precision": folder.read_config(Path(str(config.get("run")))).get("precision")}


def prepare(chosen: SampleConfig, config: dict[str, Any], out: Path, held: ExitStack) -> Job:
    """The field, the grid and the starting points, with what the user should know of the steps said."""
    field, dataset, origin = load_field(chosen)
    steps = chosen.grid.steps(chosen.steps, chosen.sampler.default_steps)
    grid = times(chosen.grid, steps, field.path)
    key_prior, key_noise, key_true = jax.random.split(jax.random.key(chosen.seed), 3)
    labels, problem = labels_of(chosen, field), None
    if chosen.measurement is not None:
        count, moments = min(chosen.n, chosen.measurements or MEASUREMENTS), dataset.measure(dataset.load(), key_true)
        problem = pose(chosen.measurement, chosen.truth, count, dataset, moments, jax.random.fold_in(key_true, 1))
        field = (chosen.posterior or MMPS()).field(field, problem.operator, problem.noise, problem.y[0])
        if steep := likelihood_instability(chosen.sampler, field, grid, chosen.last, float(moments.std) ** 2):
            report.warn(steep)
    x0 = prior(field.path, grid[0], field.shape, key_prior, chosen.n)
    job = Job(
        config, chosen, out, field, dataset, origin, steps, grid, chosen.last, x0, labels, key_noise, key_true, problem
    )
    tried = field if job.given is None else field.bind(jax.tree.map(lambda leaf: leaf[0], job.given))
    job.last = settle_last(chosen.sampler, tried, grid, chosen.last)
    if unstable := instability(chosen.sampler, field.path, grid, job.last, dataset.least_variance()):
        report.warn(unstable)
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
    return [jobs.outcome(finish, job, found, batch) for job, found in zip(group, batch.found, strict=True)]


def simulated(group: list[Job]) -> Batch:
    """The samples of jobs of one structure, by one program."""
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
        mend = "a larger sampler.rtol and sampler.atol" if chosen.sampler.adaptive else "more steps or a smaller sigma"
        raise UserError(f"{bad} of {chosen.n} samples are NaN or infinite; take {mend}")
    nfe: dict[str, float] = {"nfe": chosen.sampler.nfe(job.steps, job.last)}
    if spent is not None:
        nfe = {"nfe": float(spent.mean()), "nfe_max": int(spent.max())}
    ends = {"start": float(job.grid[0]), "end": float(job.grid[-1])}
    return {"n": chosen.n, **nfe, "steps": job.steps, "last": job.last, **ends}


def sample_arrays(job: Job, x: Array) -> dict[str, Any]:
    """What samples.npz holds: x (n, *shape); the labels y (n,) that they were given; the truth and what was measured of it."""
    arrays: dict[str, Any] = {"x": np.asarray(x, np.float32)}
    if job.labels is not None:
        arrays["y"] = np.asarray(job.labels, np.int32)
    if job.problem is not None:
        arrays |= {"truth": np.asarray(job.problem.truth), "measured": np.asarray(job.problem.y)}
    return arrays


def finish(job: Job, found: Simulated, batch: Batch) -> float:
    """Write the samples, their figures and their pictures, say what came out, and return how far the first figure is off."""
    chosen, out, (x, trajectory, _) = job.chosen, job.out, found
    how, members, (_, seconds, cpu_seconds, compiling) = how_drawn(job, found), len(batch.found), batch
    if job.problem is None:
        metrics = figures(x, job.dataset, job.key_true, job.labels)
    else:
        metrics = reconstruction_figures(job.problem, x, job.dataset, job.key_true, job.labels is None)
    summary = {
        **how,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_compile": compiling,
        "members": members,
        "field": job.origin,
        "metrics": metrics,
    }
    folder.write_config(out, "sample", job.config)
    arrays = sample_arrays(job, x)
    samples = folder.write(out / "samples.npz", lambda path: np.savez(path, **arrays))
    if trajectory is not None:
        kept_times, kept_x = np.asarray(trajectory.times), np.asarray(trajectory.x, np.float32)
        folder.write(out / "trajectory.npz", lambda path: np.savez(path, times=kept_times, x=kept_x))
    pictures = pictures_of(job, x) if chosen.plots and processes.leads() else []
    folder.write_json(out / "summary.json", summary)
    others = f" for {members} jobs at once" if members > 1 else ""
    report.table(
        f"sampled {chosen.n:,} points with {describe(job.config)} from {job.origin}",
        [
            ("stretches" if chosen.sampler.adaptive else "steps", described_steps(how)),
            *[(name.replace("_", " "), shown_figure(value)) for name, value in metrics.items()],
            ("time", f"{seconds:.2f} s + {compiling:.1f} s to compile{others}"),
            ("samples", report.shown(samples)),
            *([("trajectory", report.shown(out / "trajectory.npz"))] if trajectory is not None else []),
            *[("picture", report.shown(path)) for path in pictures],
        ],
    )
    return off(judged(summary)[1])


def pictures_of(job: Job, x: Array) -> list[Path]:
    """The pictures of the samples x, written."""
    chosen, plots = job.chosen, job.out / "plots"
    if job.problem is not None:
        return draw_reconstructions(job.problem, x, job.dataset, job.key_true, plots)
    how = job.grid, job.key_noise, job.last, chosen.coupled, job.labels
    return draw_pictures(Drawn(chosen.sampler, job.field, job.dataset, job.x0, x, *how), plots)


def labels_of(chosen: SampleConfig, field: Field) -> Array | None:
    """The label of each sample (n,), those that were asked for in turn. Raises UserError for one that the field knows not."""
    if chosen.labels is None:
        return None
    if not field.classes:
        raise UserError(
            "labels: this field knows none; train with dataset.conditional=true, or give guide=<a classifier>"
        )
    labels = range(field.classes) if chosen.labels == "all" else chosen.labels
    for label in labels:
        if not 0 <= int(label) < field.classes:
            raise UserError(f"labels: {label} is not a label of this field; they are 0 to {field.classes - 1}")
    return jnp.asarray(np.resize(np.asarray(labels, np.int32), chosen.n))


def load_field(chosen: SampleConfig) -> tuple[Field, Dataset, str]:
    """The field, guided where that is asked for, the dataset it is compared with, and where it comes from."""
    field, dataset, origin = load_unguided(chosen)
    if chosen.guidance is None:
        return field, dataset, origin
    start, end = chosen.guidance_interval
    how = chosen.guidance, jnp.asarray(start), jnp.asarray(end)
    if chosen.guide is None:
        if not field.classes:
            raise UserError("guidance needs a conditional field; train with dataset.conditional=true, or give guide=")
        return ClassifierFree(field, *how), dataset, f"{origin}, guided by itself without label"
    guide = restore_guide(Path(chosen.guide), chosen.guide_checkpoint, chosen.precision)
    shape = guide.moments.mean.shape
    if shape != field.shape:
        raise UserError(f"guide: '{chosen.guide}' is of points of shape {shape}, the field of {field.shape}")
    if not ensembles.equal(guide.path, field.path):
        raise UserError(f"guide: '{chosen.guide}' was trained on another path than the field; train it on the same")
    shown = report.shown(Path(chosen.guide))
    if isinstance(guide, LearnedField):
        if guide.classes not in (0, field.classes):
            raise UserError(f"guide: '{chosen.guide}' knows {guide.classes} labels, the field {field.classes}")
        return Autoguided(field, guide, *how), dataset, f"{origin}, guided by the worse {shown}"
    if chosen.labels is None:
        raise UserError("guide: a classifier leans towards labels; say which, e.g. labels=[0,1,2] or labels=all")
    known = field.classes or (dataset.mixture().weights.size if isinstance(dataset, MixtureDataset) else 0)
    if known not in (0, guide.classes):
        raise UserError(f"guide: '{chosen.guide}' knows {guide.classes} labels, the field {known}")
    return ClassifierGuided(field, guide, *how), dataset, f"{origin}, guided by the classifier {shown}"


def load_unguided(chosen: SampleConfig) -> tuple[Field, Dataset, str]:
    """The field itself, the dataset it is compared with, and where it comes from."""
    if chosen.run == "oracle":
        assert chosen.dataset is not None and chosen.path is not None
        if isinstance(chosen.dataset, FiniteDataset):
            points = chosen.dataset.points(chosen.dataset.load())
            exact = EmpiricalField(chosen.path, empirical.arrange(points), len(points), points.shape[1:])
            return exact, chosen.dataset, f"the exact field of {len(points):,} points"
        assert isinstance(chosen.dataset, MixtureDataset)
        mixture = chosen.dataset.mixture()
        return OracleField(chosen.path, mixture, mixture.means.shape[1:]), chosen.dataset, "the exact field"
    where = Path(chosen.run)
    trained, field, step = restore(where, chosen.ema, chosen.checkpoint, chosen.precision)
    if isinstance(trained.dataset, FiniteDataset) and trained.dataset.stream:
        report.streamed(trained.dataset, trained.dataset.load())
    if trained.label_dropout == 0 and (chosen.labels is None or (chosen.guidance is not None and chosen.guide is None)):
        raise UserError(
            "labels: this run was trained with label_dropout=0 and does not know how to do without a label; give labels=,"
            " and guide= with guidance="
        )
    what = "the parameters" if chosen.ema == 0 else "the parameter average"
    return field, trained.dataset, f"{what} at step {step} of {report.shown(where)} ({named(trained)})"


def described_steps(how: dict[str, Any]) -> str:
    cost = f"{how['nfe']} evaluations of the field a sample"
    if "nfe_max" in how:
        cost = f"{how['nfe']:.1f} evaluations of the field a sample on average, {how['nfe_max']} at most"
    return f"{how['steps']} from t={how['start']:g} to {how['end']:g}, {cost}, last step: {how['last']}"


BESIDE = {  # what a figure is shown beside, where its dict has it
    "exact": "exact",
    "true": "of the true law",
    "real": "real ones",
    "measurement": "the measurement alone",
    "truth": "the truth",
}


def shown_figure(figure: dict[str, float]) -> str:
    text = f"{figure['value']:.4g}" if abs(figure["value"]) < 0.1 else f"{figure['value']:.4f}"
    if "error" in figure:
        text += f" +- {figure['error']:.4f}"
    for name, what in BESIDE.items():
        if name in figure:
            text += f"  ({what}: {figure[name]:.4f})"
    if "floor" in figure:
        size = f"{figure['points']} true points" if "points" in figure else "a true sample of this size"
        text += f"  ({size}: {figure['floor']:.2g})"
    return text


def describe(config: dict[str, Any]) -> str:
    """sampler=em sigma=0.5 and the like, from the config."""
    sampler = config["sampler"]
    diffusion = sampler.get("diffusion")
    words = f"sampler={sampler['name']}"
    if config["guidance"] is not None:
        words += f" guidance={config['guidance']:g}"
    return words + (f" diffusion={diffusion['name']} sigma={diffusion['scale']:g}" if diffusion else "")


VERB = jobs.Verb("sample", settle, lambda config: read(SampleConfig, config), prepare, draw)
