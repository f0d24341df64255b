"""diffsde evaluate: how good a field is, by the likelihood of points it has not seen, and how good its samples are."""

from __future__ import annotations

import dataclasses
import zipfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood
from diffsde.build import name_of, read
from diffsde.datasets import Dataset, FiniteDataset
from diffsde.errors import UserError, suggestion
from diffsde.fields import EmpiricalField, Field
from diffsde.likelihood import SOLVERS, settle_probe
from diffsde.runs import folder, jobs, measures, report, runtime, sample
from diffsde.runs.classifiers import judge
from diffsde.runs.measures import Figures, Solving, Split
from diffsde.runs.quality import figures, judged, off
from diffsde.runs.sample import SampleConfig
from diffsde.runs.train import TrainConfig
from diffsde.samplers import Sampler
from diffsde.samplers.adaptive import Adaptive
from diffsde.types import Key, positive

METRICS = {
    "likelihood": "log p of test points by the ODE: bits a dimension of images in bytes, else nats",
    "distance": "of samples of a known mixture its exact figures, else their 2-Wasserstein distance from the data",
    "frechet": "squared Frechet distance of samples and real images in a classifier's features",
    "balls": "precision, recall, density and coverage of samples in those features",
    "labels": "how many samples look like the label that they were given",
    "neighbours": "how near samples lie to the training images, beside images for tests",
}
OF_FEATURES = {"frechet", "balls", "labels"}
OF_IMAGES = OF_FEATURES | {"neighbours"}

# sample's knobs and groups that evaluate does not have
APART = {"coupled": False, "save_every": None, "keep": None, "plots": False, "truth": None, "measurements": None}
PARTS = ("measurement", "posterior")
IMAGES = 2000  # samples of images unless another number is asked for, or fewer where there are fewer for tests
POINTS = 10_000  # of other points


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """The knobs of configs/evaluate.yaml that sample does not have; the file documents each."""

    samples: str | None
    metrics: tuple[str, ...] | None
    n_test: int | None
    solver: str
    solver_steps: int | None
    solver_grid: str
    tolerance: float | None
    probe: str
    dequantisations: int

    def check(self) -> None:
        positive(self, "n_test", "solver_steps", "dequantisations")
        for name in self.metrics or ():
            if name not in METRICS:
                raise ValueError(
                    f"metrics: '{name}' is not one{suggestion(name, METRICS)}; there are {', '.join(METRICS)}"
                )
        if self.metrics == () or len(set(self.metrics or ())) < len(self.metrics or ()):
            raise ValueError(
                f"metrics is {list(self.metrics or ())}; name each that is wanted once, e.g. metrics=[likelihood]"
            )
        for knob, names in (("solver", tuple(SOLVERS)), ("solver_grid", likelihood.GRIDS)):
            if (word := getattr(self, knob)) not in names:
                raise ValueError(f"{knob} is '{word}'; there are {', '.join(names)}")
        if self.tolerance is not None and (self.solver != "adaptive" or self.tolerance <= 0):
            raise ValueError(f"tolerance is {self.tolerance}; it must be positive, and is of solver=adaptive alone")

    def solving(self, shape: tuple[int, ...]) -> Solving:
        solver: Sampler = SOLVERS[self.solver]()
        if self.tolerance is not None:
            solver = Adaptive(rtol=self.tolerance, atol=self.tolerance)
        steps = self.solver_steps or (1 if solver.adaptive else 50)
        return Solving(solver, self.solver_grid, steps, settle_probe(self.probe, shape))


class Chosen(NamedTuple):
    """What is measured and how, and how samples are drawn."""

    own: EvaluateConfig
    draws: SampleConfig


class Samples(NamedTuple):
    """x (n, *shape), and the labels y (n,) that they were given."""

    x: np.ndarray
    y: np.ndarray | None


@dataclasses.dataclass
class Job:
    """A field or a set of samples to be judged: all that was read before anything is computed."""

    config: dict[str, Any]
    chosen: Chosen
    out: Path
    field: Field
    dataset: Dataset
    origin: str
    metrics: list[str]
    real: Split | None
    samples: sample.Job | Samples | None

    def group(self) -> Any:
        """Each is worked on by itself."""
        return self.out


def evaluate(config: dict[str, Any], out: Path) -> float:
    """Measure, write the folder `out`, and return how far the first of the figures is off."""
    return jobs.alone(VERB, config, out)


def settle(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with the folder that run=latest means now and, of samples that are there, as they were drawn."""
    if config["samples"] is not None:
        theirs = folder.read_config(Path(str(config["samples"])), "samples", "sample")
        if theirs.get("measurement") is not None:
            raise UserError("samples: these are reconstructions, judged by what was measured where they were drawn")
        config = config | {key: theirs[key] for key in drawing_knobs() if key in theirs}
    return sample.settle(config)


def drawing_knobs() -> list[str]:
    """The knobs that say how samples are drawn, which those of samples= were."""
    apart = {*folder.MACHINE, *APART, *PARTS, "resume", "precision", "devices"}
    return [field.name for field in dataclasses.fields(SampleConfig) if field.name not in apart]


def refuse_words(words: list[str]) -> None:
    """Raise UserError for a word of the command line that says how to draw samples, beside samples= that are there."""
    for word in words:
        key = word.partition("=")[0].lstrip("+~").partition("@")[0]
        if key.partition(".")[0] in (*drawing_knobs(), "diffusion"):
            raise UserError(f"samples= are judged as they were drawn; it takes no {word}")


def choose(config: dict[str, Any]) -> Chosen:
    names = {field.name for field in dataclasses.fields(EvaluateConfig)}
    own = read(EvaluateConfig, {key: value for key, value in config.items() if key in names})
    rest = {key: value for key, value in config.items() if key not in names} | APART
    draws = read(SampleConfig, rest | ({"n": 1} if rest["n"] is None else {}))
    return Chosen(own, draws if rest["n"] is not None else dataclasses.replace(draws, n=usual_number(draws)))


def usual_number(draws: SampleConfig) -> int:
    """Samples, where none were asked for: as many as there are images for tests, at most 2000; 10,000 of other points."""
    dataset = draws.dataset
    if draws.run != "oracle":
        dataset = read(TrainConfig, folder.read_config(Path(draws.run))).dataset
    assert dataset is not None
    if not has_images(dataset):
        return POINTS
    assert isinstance(dataset, FiniteDataset)
    return min(IMAGES, len(measures.split(dataset, wanted(draws)).test.x))


def has_images(dataset: Dataset) -> bool:
    return isinstance(dataset, FiniteDataset) and dataset.load().x.dtype == np.uint8


def wanted(draws: SampleConfig) -> np.ndarray | None:
    """The labels that were asked for, where they are some of all."""
    return np.unique(draws.labels) if isinstance(draws.labels, tuple) else None


def prepare(chosen: Chosen, config: dict[str, Any], out: Path, held: ExitStack) -> Job:
    """The field, the samples or what draws them, and the metrics. Raises UserError for one that cannot be had."""
    own, draws = chosen
    samples: sample.Job | Samples | None
    if own.samples is not None:
        field, dataset, origin = sample.load_field(draws)
        samples = read_samples(Path(own.samples), field.shape)
        draws = dataclasses.replace(draws, n=len(samples.x))
        labels = samples.y
    else:
        samples = sample.prepare(draws, config, out, held)
        field, dataset, origin = samples.field, samples.dataset, samples.origin
        labels = None if samples.labels is None else np.asarray(samples.labels)
    missing = lacking(field, dataset, labels is not None)
    metrics = list(own.metrics or (name for name in METRICS if name not in missing))
    if own.metrics is None and has_images(dataset):
        metrics.remove("distance")
    for name in metrics:
        if name in missing:
            raise UserError(f"metrics: {name} cannot be had: {missing[name]}")
    if own.metrics is None:
        for name, reason in missing.items():
            if has_images(dataset) or name not in OF_IMAGES:
                report.say(f"not measured: {name}: {reason}")
    real = None
    if OF_IMAGES & set(metrics):
        assert isinstance(dataset, FiniteDataset)
        real = measures.split(dataset, None if labels is None else np.unique(labels))
        if draws.n > len(real.test.x):
            raise UserError(
                f"n is {draws.n}, but there are {len(real.test.x)} real images for tests beside which as many samples are"
                f" judged; take n={len(real.test.x)} or fewer"
            )
    if not set(metrics) - {"likelihood"}:
        samples = None
    return Job(config, Chosen(own, draws), out, field, dataset, origin, metrics, real, samples)


def lacking(field: Field, dataset: Dataset, labelled: bool) -> dict[str, str]:
    """The metrics that cannot be had, and why."""
    found = {}
    if isinstance(field, EmpiricalField):
        found["likelihood"] = "the exact field of finite data has no density"
    elif isinstance(dataset, FiniteDataset):
        try:
            dataset.test()
        except UserError:
            found["likelihood"] = f"dataset={name_of(dataset)} has no test split, and its training points would flatter"
    if not has_images(dataset):
        return found | dict.fromkeys(sorted(OF_IMAGES), "the data are no images in bytes")
    if not dataset.classes(dataset.load()):
        found |= dict.fromkeys(sorted(OF_FEATURES), "the images have no labels, and so no classifier for its features")
    elif not labelled:
        found["labels"] = "the samples were given none; say labels=all to a conditional field"
    return found


def read_samples(place: Path, shape: tuple[int, ...]) -> Samples:
    """x (n, *shape) and y (n,) of a sample folder."""
    path = place / "samples.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"] if "y" in archive.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"samples: '{path}' cannot be read: {str(error).splitlines()[0]}") from None
    if x.shape[1:] != shape:
        raise UserError(f"samples: '{path}' has points of shape {x.shape[1:]}, the field of {shape}")
    return Samples(x, y)


def measure(group: list[Job]) -> list[jobs.Outcome]:
    """Measure jobs one after another."""
    outcomes: list[jobs.Outcome] = []
    for job in group:
        try:
            outcomes.append(finish(job))
        except UserError as error:
            outcomes.append(error)
    return outcomes


@dataclasses.dataclass
class Record:
    """What has been found of a job: its figures, what else its summary and its table say, and arrays by the file's name."""

    figures: Figures
    summary: dict[str, Any]
    rows: list[tuple[str, str]]
    arrays: dict[str, dict[str, np.ndarray]]


def finish(job: Job) -> float:
    """Measure, write the folder and say what came out; how far the first figure is off is returned."""
    record = Record({}, {"field": job.origin}, [], {})
    samples = get_samples(job, record)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(job.chosen.draws.seed), 1))
    if "likelihood" in job.metrics:
        judge_field(job, record, keys[0])
    if samples is not None and "distance" in job.metrics:
        labels = None if samples.y is None else jnp.asarray(samples.y)
        record.figures |= figures(jnp.asarray(samples.x), job.dataset, keys[1], labels)
    if samples is not None and job.real is not None:
        judge_images(job, record, samples, job.real)
    summary = record.summary | {"metrics": record.figures}
    folder.write_config(job.out, "evaluate", job.config)
    for name, arrays in record.arrays.items():
        folder.write(job.out / f"{name}.npz", partial(np.savez, **arrays))  # type: ignore[arg-type]
    folder.write_json(job.out / "summary.json", summary)
    record.rows += [(name.replace("_", " "), sample.shown_figure(value)) for name, value in record.figures.items()]
    report.table(f"judged {job.origin}", [*record.rows, ("written to", report.shown(job.out))])
    return off(judged(summary)[1])


def get_samples(job: Job, record: Record) -> Samples | None:
    """Those that are there, or drawn now and written too; None where no metric needs any."""
    if job.samples is None:
        return None
    if isinstance(job.samples, Samples):
        record.summary["n"] = len(job.samples.x)
        record.rows.append(("samples", f"{len(job.samples.x):,} of {report.shown(Path(str(job.chosen.own.samples)))}"))
        return job.samples
    drawn = sample.simulated([job.samples])
    how = sample.how_drawn(job.samples, drawn.found[0])
    record.summary |= how | {"seconds": drawn.seconds, "seconds_compile": drawn.compiling}
    record.rows.append(("samples", f"{how['n']:,} with {sample.describe(job.config)}"))
    record.rows.append(("steps", sample.described_steps(how)))
    record.arrays["samples"] = sample.sample_arrays(job.samples, drawn.found[0].x)
    return Samples(np.asarray(drawn.found[0].x), record.arrays["samples"].get("y"))


def judge_field(job: Job, record: Record, key: Key) -> None:
    """The likelihood of points that the field was not trained on; given their labels where samples are."""
    (own, draws), key_points, key_solve = job.chosen, *jax.random.split(key)
    labels = np.arange(job.field.classes) if draws.labels == "all" else draws.labels
    points = measures.test_points(job.dataset, own.n_test, None if labels is None else np.unique(labels), key_points)
    solving = own.solving(job.field.shape)
    found, told, log_p = measures.likelihood_figures(job.field, points, solving, own.dequantisations, key_solve)
    record.figures |= found
    record.summary["likelihood"] = told | {"solver": own.solver, "given_labels": points.labels is not None}
    record.arrays["likelihood"] = {"log_p": log_p}
    about = f"{told['n']:,} test points, {own.solver}, {told['nfe']:.0f} evaluations, divergence: {told['probe']}"
    repeats = f", {told['dequantisations']} dequantisation(s)" if points.bytes else ""
    record.rows.append(("likelihood", f"{about}{repeats}, {told['seconds']:.1f} s"))
    if "change" in told:
        name, unit = next(iter(found)).replace("_", " "), "bits" if points.bytes else "nats"
        record.rows.append(("", f"{told['change']:+.2g} {unit} in {name}, from half as many steps to these"))


def judge_images(job: Job, record: Record, samples: Samples, real: Split) -> None:
    """Samples beside real images: in the features of a classifier, by its classes, and by their neighbours."""
    assert isinstance(job.dataset, FiniteDataset)
    images, metrics = measures.as_bytes(samples.x), set(job.metrics)
    if metrics & OF_FEATURES:
        whole = measures.split(job.dataset, None)
        eye = judge(name_of(job.dataset), whole.train, job.dataset.flip, cache_of(job.chosen.draws))
        right = float((eye.look(np.asarray(whole.test.x))[1] == np.asarray(whole.test.y)).mean())
        record.summary["classifier"] = {"name": eye.name, "accuracy": right, "judged_on": whole.told}
        record.rows.append(("features", f"of classifier {eye.name}, right on {right:.2%} of {whole.told}"))
        seen = measures.look(eye, images, real)
        if "frechet" in metrics:
            record.figures |= measures.frechet_figures(seen)
        if "balls" in metrics:
            record.figures |= measures.ball_figures(seen)
        if "labels" in metrics:
            assert samples.y is not None
            record.figures |= measures.label_figures(seen, samples.y, real.test)
    if "neighbours" in metrics:
        found = measures.nearby(images, real, job.dataset.flip)
        record.figures |= measures.neighbour_figures(found)
        record.arrays["neighbours"] = {
            "distances": found.samples.distances,
            "indices": found.samples.indices,
            "test_distances": found.test.distances,
            "test_indices": found.test.indices,
        }


def cache_of(draws: SampleConfig) -> Path | None:
    """Where classifiers are kept; None: nowhere."""
    return Path(draws.cache_dir or runtime.cache_home()) / "classifiers" if draws.cache else None


VERB = jobs.Verb("evaluate", settle, choose, prepare, measure)
