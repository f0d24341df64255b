"""diffsde evaluate: how good a field is, by the likelihood of points it has not seen, and how good its samples are."""

from __future__ import annotations

import dataclasses
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffsde import likelihood
from diffsde.build import name_of, read
from diffsde.datasets import Dataset, FiniteDataset
from diffsde.datasets.scaling import Scaling, to_model
from diffsde.errors import UserError, suggestion
from diffsde.evaluation import densities, references
from diffsde.evaluation.densities import Plan, Solving
from diffsde.evaluation.references import Real
from diffsde.fields import EmpiricalField, Field, LearnedField, bound
from diffsde.guidance import Guided
from diffsde.likelihood import SOLVERS, settle_probe
from diffsde.metrics.balls import COVERAGE
from diffsde.runs import folder, jobs, progress, sample_config
from diffsde.runs.load_field import load_field
from diffsde.runs.restore import read_train_config
from diffsde.runs.sample_config import SampleConfig
from diffsde.runs.starting import stds_of
from diffsde.samplers import GRIDS, Sampler
from diffsde.samplers.adaptive import Adaptive
from diffsde.verbs import sample
from diffsde.verbs.judging import Job, Samples, finish

# In this order, unless the user gives another: a sweep is judged by the first figure, and most are over how samples are drawn.
METRICS = {
    "distance": "of samples of a known mixture its exact figures, else their 2-Wasserstein distance from the data",
    "frechet": "squared Frechet distance of samples and real images in a classifier's features",
    "balls": "precision, recall, density and coverage of samples in those features",
    "labels": "how many samples look like the label that they were given",
    "neighbours": "how near samples lie to the training images, beside images for tests",
    "likelihood": "log p of test points by the ODE: bits a dimension of images in bytes, else nats",
}
LEAST = {"frechet": 2, "balls": COVERAGE + 1}  # samples
OF_FEATURES = {"frechet", "balls", "labels"}
OF_IMAGES = OF_FEATURES | {"neighbours"}

# sample's knobs and groups that evaluate does not have
APART = {
    "coupled": False,
    "save_every": None,
    "keep": None,
    "pictures": "none",
    "plots": None,
    "truth": None,
    "measurements": None,
}
PARTS = ("measurement", "posterior")
IMAGES = 2000  # samples of images unless another number is asked for, or fewer where there are fewer for tests
POINTS = 10_000  # of other points
RAW = "the run was trained on bytes as they are, whose density has no bound; train with dataset.dequantise=true"


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
        for name in self.metrics or ():
            if name not in METRICS:
                raise ValueError(f"metrics: '{name}' is not one{suggestion(name, METRICS)}")
        if self.metrics == () or len(set(self.metrics or ())) < len(self.metrics or ()):
            raise ValueError(
                f"metrics is {list(self.metrics or ())}; name each that is wanted once, e.g. metrics=[likelihood]"
            )
        if self.tolerance is not None and self.solver != "adaptive":
            raise ValueError(f"tolerance is {self.tolerance}, which is of solver=adaptive alone")

    def plan(self, field: Field, labels: np.ndarray | None) -> Plan:
        """Of a field that is given one of these labels, where there are any. Raises UserError where its ODE has no end."""
        solver: Sampler = SOLVERS[self.solver]()
        if self.tolerance is not None:
            solver = Adaptive(rtol=self.tolerance, atol=self.tolerance)
        steps = self.solver_steps or (1 if solver.adaptive else 50)
        told = None if labels is None else jnp.asarray(labels[0])
        grid = likelihood.settle_end(bound(field, told), GRIDS[self.solver_grid]())
        solving = Solving(solver, grid, steps, settle_probe(self.probe, field.shape))
        return Plan(self.n_test, labels, solving, self.dequantisations)


class Chosen(NamedTuple):
    """What is measured and how, and how samples are drawn."""

    own: EvaluateConfig
    draws: SampleConfig


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
    return sample_config.settle(config)


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
        dataset = read_train_config(Path(draws.run)).dataset
    assert dataset is not None
    if not has_images(dataset):
        return POINTS
    assert isinstance(dataset, FiniteDataset)
    labels = np.arange(dataset.classes(dataset.load())) if draws.labels == "all" else draws.labels
    test = references.split(dataset, None).test
    known = None if labels is None or test.y is None else np.asarray(labels)
    return max(1, references.most(test, IMAGES, known))


def has_images(dataset: Dataset) -> bool:
    return isinstance(dataset, FiniteDataset) and dataset.load().x.dtype == np.uint8


def prepare(chosen: Chosen, config: dict[str, Any], out: Path, held: ExitStack) -> Job:
    """The field, the samples or what draws them, and the metrics. Raises UserError for one that cannot be had."""
    own, draws = chosen
    samples: sample.Job | Samples | None
    if own.samples is not None:
        field, dataset, origin = load_field(draws)
        samples = read_samples(Path(own.samples), field.shape, dataset.scaling(field.shape))
        draws = dataclasses.replace(draws, n=len(samples.x))
        labels = samples.y
    else:
        samples = sample.prepare(draws, config, out, held)
        field, dataset, origin = samples.field, samples.dataset, samples.origin
        labels = None if samples.labels is None else np.asarray(samples.labels)
    images, named = has_images(dataset), own.metrics is not None
    wanted = list(own.metrics or (name for name in METRICS if name != "distance" or not images))
    missing = lacking(field, dataset, labels is not None)
    if not named and untouched(field, dataset):
        missing.setdefault("likelihood", f"{RAW}; metrics=[likelihood] measures it all the same")
    plan = planned(own, field, dataset, given_labels(draws, field), missing) if "likelihood" in wanted else None
    real = compared(wanted, draws.n, dataset, labels, missing) if OF_IMAGES & set(wanted) else None
    for name in wanted:
        if name in missing and (named or (images and name in LEAST and draws.n < LEAST[name] and config["n"])):
            raise UserError(f"metrics: {name} cannot be had: {missing[name]}")
        if name in missing and (images or name not in OF_IMAGES):
            progress.say(f"not measured: {name}: {missing[name]}")
    metrics = [name for name in wanted if name not in missing]
    if not metrics:
        raise UserError("metrics: there is none that can be had")
    if metrics == ["likelihood"]:
        samples = None
    return Job(config, draws, out, field, dataset, origin, metrics, named, plan, real, samples)


def planned(
    own: EvaluateConfig, field: Field, dataset: Dataset, labels: np.ndarray | None, missing: dict[str, str]
) -> Plan | None:
    """How the likelihood is computed; None where it is missing, or becomes so, the reason added. Raises UserError for numbers
    that the test points do not allow.
    """
    if "likelihood" in missing:
        return None
    if isinstance(dataset, FiniteDataset):
        densities.of_test(dataset, own.n_test, labels)
    if own.dequantisations > 1 and not has_images(dataset):
        raise UserError(f"dequantisations is {own.dequantisations}, but the data are no images in bytes; leave it at 1")
    try:
        plan = own.plan(field, labels)
    except UserError as error:
        missing["likelihood"] = str(error).removeprefix("likelihood: ")
        return None
    if untouched(field, dataset):
        progress.warn(f"likelihood: {RAW}")
    if wrong := densities.solver_warning(plan.solving, field.path, stds_of(dataset)):
        progress.warn(wrong)
    return plan


def compared(
    wanted: list[str], n: int, dataset: Dataset, labels: np.ndarray | None, missing: dict[str, str]
) -> Real | None:
    """The real images beside n samples; None where no metric is left that needs any. A metric that has too few of them is
    added to those missing. Raises UserError for more samples than there are images for tests.
    """
    if not OF_IMAGES & set(wanted) - missing.keys():
        return None
    assert isinstance(dataset, FiniteDataset)
    known = labels if dataset.classes(dataset.load()) else None
    real = references.beside(references.split(dataset, None if known is None else np.unique(known)), n, known)
    for name, least in LEAST.items():
        if n < least:
            missing.setdefault(name, f"it takes {least} or more samples; n is {n}")
        elif len(real.rows) < least:
            missing.setdefault(name, f"it takes {least} or more images for training; there are {len(real.rows)}")
    return real


def given_labels(draws: SampleConfig, field: Field) -> np.ndarray | None:
    """The labels that there are among those given to the field; None where it is given none."""
    if draws.labels is None:
        return None
    return np.arange(field.classes) if draws.labels == "all" else np.unique(draws.labels)


def untouched(field: Field, dataset: Dataset) -> bool:
    """Whether the field was trained on bytes that were not dequantised."""
    learned = isinstance(unguided(field), LearnedField)
    return learned and isinstance(dataset, FiniteDataset) and has_images(dataset) and not dataset.dequantise


def unguided(field: Field) -> Field:
    return unguided(field.field) if isinstance(field, Guided) else field


def lacking(field: Field, dataset: Dataset, labelled: bool) -> dict[str, str]:
    """The metrics that cannot be had, and why."""
    found = {}
    if isinstance(unguided(field), EmpiricalField):
        found["likelihood"] = "the exact field of finite data has no density"
    elif isinstance(dataset, FiniteDataset):
        try:
            if labelled and dataset.held_out().y is None:
                found["likelihood"] = "the test points have no labels that the field could be given"
            dataset.held_out()
        except UserError:
            found["likelihood"] = f"dataset={name_of(dataset)} has no test split, and its training points would flatter"
        scaling = dataset.scaling(field.shape)
        if scaling is not None and not scaling.std.all():
            at = int(np.argmin(scaling.std.ravel()))
            name = (dataset.column_names() or tuple(map(str, range(scaling.std.size))))[at]
            found["likelihood"] = f"coordinate {name} is constant, and has no density; leave it out (dataset.columns=)"
    classes = dataset.classes(dataset.load())
    if labelled and not classes:
        found.setdefault("likelihood", "the points for tests have no labels that the field could be given")
    if not has_images(dataset):
        return found | dict.fromkeys(sorted(OF_IMAGES), "the data are no images in bytes")
    if classes < 2:
        reason = "there is one label alone" if classes else "the images have no labels"
        found |= dict.fromkeys(sorted(OF_FEATURES), f"{reason}, and so no classifier for its features")
    elif not labelled:
        found["labels"] = "the samples were given none; say labels=all to a conditional field"
    return found


def read_samples(place: Path, shape: tuple[int, ...], scaling: Scaling | None) -> Samples:
    """x (n, *shape) and y (n,) of a sample folder, whose own units this scaling ties to the model's."""
    path = place / "samples.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"] if "y" in archive.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"samples: '{path}' cannot be read: {str(error).splitlines()[0]}") from None
    if x.dtype.kind not in "fiu":
        raise UserError(f"samples: '{path}' holds x of type {x.dtype}; it must be numbers")
    if x.shape[1:] != shape:
        raise UserError(f"samples: '{path}' has points of shape {x.shape[1:]}, the field of {shape}")
    if bad := int((~np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum()):
        raise UserError(
            f"samples: {bad} of the {len(x)} points in '{path}' are NaN or infinite; leave them out of the file"
        )
    return Samples(to_model(scaling, x), y)


def measure(group: list[Job]) -> list[jobs.Outcome]:
    """Measure jobs one after another."""
    return [jobs.outcome(finish, job) for job in group]


VERB = jobs.Verb("evaluate", settle, choose, prepare, measure)
