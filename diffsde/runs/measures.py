"""What evaluate measures of a field and of its samples: likelihood of test points, and images beside real ones."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood, mixtures
from diffsde.datasets import Dataset, Examples, FiniteDataset, MixtureDataset
from diffsde.datasets.dataset import HALF_RANGE, dequantised, mirrored
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.metrics.balls import COVERAGE, balls
from diffsde.metrics.frechet import frechet_distance
from diffsde.metrics.memorisation import Neighbours, nearest
from diffsde.runs import report, runtime
from diffsde.runs.classifiers import Judge
from diffsde.samplers import GRIDS, Sampler, times
from diffsde.types import Array, Key

Figures = dict[str, dict[str, float]]

REFERENCE = 10_000  # real images whose features stand for the data's law
BATCHES = 10  # parts of the test points, for the progress that is shown
RESAMPLES = 200  # of the bootstrap
COPY = 0.01  # share of the images for tests that are as near to a training image as a copy


class Split(NamedTuple):
    """Real images in bytes: those to compare with, and others of the same law; told: how they were told apart."""

    train: Examples
    test: Examples
    told: str


def split(dataset: FiniteDataset, labels: np.ndarray | None) -> Split:
    """The images for training and for tests, of these labels alone where there are any, mirror images among the first.

    Where there is no test split, a fifth of the images is set apart: the run has seen it, the classifier has not.
    """
    train, told = dataset.load(), "the test split"
    try:
        test = dataset.test()
    except UserError:
        rows = np.random.default_rng(0).permutation(len(train.x))
        apart = max(1, len(rows) // 5)
        train, test = (_rows(train, part) for part in (rows[apart:], rows[:apart]))
        told = "a fifth of the images, which the run was trained on, as there is no test split"
    if labels is not None:
        train, test = (_rows(each, np.isin(np.asarray(each.y), labels)) for each in (train, test))
    return Split(train, test, told)


def _rows(examples: Examples, rows: np.ndarray) -> Examples:
    x, y = (None if each is None else np.asarray(each)[rows] for each in examples)
    return Examples(x, y)  # type: ignore[arg-type]  # on the host


class Points(NamedTuple):
    """x (n, *shape) to be found likely; labels (n,) that the field is given, or None; exact log p(x) (n,) where it is known.

    bytes: whether x are bytes.
    """

    x: Array
    labels: Array | None
    exact: np.ndarray | None
    bytes: bool


def test_points(dataset: Dataset, asked: int | None, labels: np.ndarray | None, key: Key) -> Points:
    """Points that the run has not seen: fresh ones where the law can be drawn from, else of the test split, chosen by the key.

    labels: which there are; None: the field is given none. asked: how many; None: 2000, and 200 of a test split.
    """
    if isinstance(dataset, FiniteDataset):
        test = dataset.test()
        if labels is not None:
            test = _rows(test, np.isin(np.asarray(test.y), labels))
        count = min(200, len(test.x)) if asked is None else asked
        if count > len(test.x):
            raise UserError(
                f"n_test is {count}, but there are {len(test.x)} points for tests; take n_test={len(test.x)}"
            )
        chosen = _rows(test, np.asarray(jax.random.permutation(key, len(test.x)))[:count])
        told = None if labels is None else jnp.asarray(chosen.y)
        return Points(jnp.asarray(chosen.x), told, None, chosen.x.dtype == np.uint8)
    count = asked or 2000
    if not isinstance(dataset, MixtureDataset):
        return Points(dataset.draw(dataset.load(), key, count), None, None, False)
    mixture = dataset.mixture()
    told = None if labels is None else jnp.asarray(np.resize(labels, count))
    if told is None:
        x = mixtures.sample(mixture, key, count)
    else:
        keys = jax.random.split(key, count)
        x = jax.vmap(lambda label, key: mixtures.sample(mixtures.given(mixture, label), key, 1)[0])(told, keys)
    law = jax.jit(jax.vmap(lambda x, label: mixtures.log_prob(mixtures.given(mixture, label), x)))
    return Points(x, told, np.asarray(law(x, told)), False)


class Solving(NamedTuple):
    """How the ODE of the likelihood is solved."""

    solver: Sampler
    grid: str
    steps: int
    probe: str


def likelihood_figures(
    field: Field, points: Points, how: Solving, repeats: int, key: Key
) -> tuple[Figures, dict[str, Any], np.ndarray]:
    """The figures, what they took, and log p (n,) of every point, the mean over its dequantisations.

    change: what doubling the steps to these changed of the first tenth of the points: an idea of the solver's error.

    Raises UserError where some are not finite.
    """
    grid = likelihood.settle_end(field if points.labels is None else field.bind(points.labels[0]), GRIDS[how.grid]())
    if grid.end < 1:
        report.say(f"likelihood: from t={grid.end:g}, as the velocity of this field is infinite at t=1")
    at, n = times(grid, how.steps, field.path), len(points.x)
    key_noise, key_probe = jax.random.split(key)
    rows = np.arange(n * repeats) % n  # point i of the r-th repeat is row r n + i
    x = points.x[rows]
    x = dequantised(x, key_noise) if points.bytes else x
    size, compiler = -(-len(rows) // BATCHES), runtime.Compiler()

    def batch(number: int) -> tuple[Any, ...]:
        part = np.arange(number * size, (number + 1) * size) % len(rows)  # the first again to fill the last one
        labels = None if points.labels is None else points.labels[rows[part]]
        return how.solver, field, x[part], at, jax.random.fold_in(key_probe, number), labels, np.int32(how.steps)

    program = compiler(likelihood.log_likelihood_compiled, *batch(0), probe=how.probe)
    log_p, nfe, begun = [], [], time.perf_counter()
    with report.Steps("likelihood", len(rows), unit="points") as progress:
        for number in range(-(-len(rows) // size)):
            found = jax.block_until_ready(program(*batch(number)))
            log_p.append(np.asarray(found.log_p, np.float64))
            nfe.append(
                np.full(size, how.steps * how.solver.evaluations) if found.nfe is None else np.asarray(found.nfe)
            )
            progress.update(min((number + 1) * size, len(rows)))
    seconds = time.perf_counter() - begun
    change = {}
    if how.steps > 1 and not how.solver.adaptive:  # the first batch again, with half as many steps
        half = likelihood.coarser(at, times(grid, how.steps // 2, field.path))
        rough = program(*batch(0)[:3], half, *batch(0)[4:6], np.int32(how.steps // 2)).log_p
        gained = log_p[0] - np.asarray(rough)
        scale = math.prod(field.shape) * math.log(2) if points.bytes else 1.0
        change = {"change": -float(gained.mean()) / scale}
    mean = np.concatenate(log_p)[: len(rows)].reshape(repeats, n).mean(axis=0)
    if bad := int((~np.isfinite(mean)).sum()):
        raise UserError(f"likelihood: {bad} of {n} values are NaN or infinite; take more solver_steps")
    told = {
        "n": n,
        "dequantisations": repeats if points.bytes else 0,
        "nfe": float(np.concatenate(nfe).mean()),
        "steps": how.steps,
        **change,
        "probe": how.probe,
        "start": float(at[0]),
        "end": float(at[-1]),
        "seconds": seconds,
        "seconds_compile": compiler.seconds,
    }
    return density_figures(mean, points), told, mean


def density_figures(log_p: np.ndarray, points: Points) -> Figures:
    """bits_per_dim of bytes, else nll in nats; where the law p is known also kl = E log p - E log of the model, paired."""
    if points.bytes:
        bits = np.asarray(likelihood.bits_per_dim(jnp.asarray(log_p), points.x[0].size), np.float64)
        return {"bits_per_dim": mean_figure(bits)}
    found = {"nll": mean_figure(-log_p)}
    if points.exact is not None:
        found["nll"]["true"] = float(-points.exact.mean())
        found["kl"] = mean_figure(points.exact - log_p) | {"exact": 0.0}
    return found


def mean_figure(values: np.ndarray) -> dict[str, float]:
    """The mean and its standard error."""
    return {"value": float(values.mean()), "error": float(values.std() / np.sqrt(len(values)))}


# Images ---------------------------------------------------------------------------------------------------------------


def as_bytes(x: np.ndarray) -> np.ndarray:
    """The nearest bytes of points in [-1, 1], those beyond cut: what a picture of them would hold."""
    return np.clip(np.round(np.asarray(x) * HALF_RANGE + HALF_RANGE), 0, 255).astype(np.uint8)


class Seen(NamedTuple):
    """Features of the samples, of as many real images for tests, and of real images to compare with; classes of the first two."""

    samples: np.ndarray
    test: np.ndarray
    train: np.ndarray
    sample_classes: np.ndarray
    test_classes: np.ndarray


def look(judge: Judge, images: np.ndarray, real: Split) -> Seen:
    """All that the classifier makes of the samples (n, H, W, C), bytes, and of the real images."""
    order = np.random.default_rng(0).permutation(len(real.train.x))[: max(REFERENCE, len(images))]
    test = chosen(real.test, len(images))
    mine, classes = judge.look(images)
    theirs, test_classes = judge.look(np.asarray(test.x))
    return Seen(mine, theirs, judge.look(np.asarray(real.train.x)[np.sort(order)])[0], classes, test_classes)


def chosen(test: Examples, count: int) -> Examples:
    """So many of the images for tests, always the same; the same rows in every measure."""
    return _rows(test, np.sort(np.random.default_rng(0).permutation(len(test.x))[:count]))


def frechet_figures(seen: Seen) -> Figures:
    """floor: of as many real images."""
    return {
        "frechet": {
            "value": frechet_distance(seen.samples, seen.train),
            "floor": frechet_distance(seen.test, seen.train),
        }
    }


def ball_figures(seen: Seen) -> Figures:
    """precision, recall, density, coverage, against as many real images as there are samples; real: of others of them."""
    n = len(seen.samples)
    if min(n, len(seen.train)) <= COVERAGE:
        raise UserError(
            f"n is {n}; precision, recall, density and coverage take more than {COVERAGE} images of each kind"
        )
    train = seen.train[np.random.default_rng(1).permutation(len(seen.train))[:n]]
    mine, real = balls(train, seen.samples), balls(train, seen.test)
    return {
        name: {"value": float(value), "real": float(one)}
        for name, value, one in zip(mine._fields, mine, real, strict=True)
    }


def label_figures(seen: Seen, labels: np.ndarray, test: Examples) -> Figures:
    """The share of samples that look like the label that they were given; real: of images for tests."""
    right = seen.sample_classes == labels
    real = seen.test_classes == np.asarray(chosen(test, len(seen.test)).y)
    return {"label_accuracy": mean_figure(right.astype(float)) | {"real": float(real.mean())}}


class Nearby(NamedTuple):
    """The nearest training image of each sample and of as many images for tests, distances in [-1, 1]'s units."""

    samples: Neighbours
    test: Neighbours


def nearby(images: np.ndarray, real: Split, flip: bool) -> Nearby:
    """Indices are rows of the images for training, followed by their mirror images where flip."""
    train = np.asarray(real.train.x)
    if flip:
        train = np.concatenate([train, mirrored(train)])
    test = np.asarray(chosen(real.test, len(images)).x)
    found = (nearest(each, train) for each in (images, test))
    return Nearby(*(each._replace(distances=each.distances / HALF_RANGE) for each in found))


def neighbour_figures(found: Nearby) -> Figures:
    """nearest_ratio: the median distance of samples to the training images over that of images for tests; far below 1,
    the training images were learned by heart. real: 1; error: of the bootstrap. copied: the share of samples that are
    nearer to a training image than 99 of 100 images for tests.
    """
    mine, real = found.samples.distances, found.test.distances
    rng = np.random.default_rng(0)

    def again(values: np.ndarray) -> np.ndarray:
        return np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, spread = np.median(mine) / np.median(real), again(mine) / again(real)
    if not np.isfinite(ratio):
        raise UserError(
            "neighbours: half of the images for tests are among those for training; there is nothing to compare"
        )
    copied = float((mine < np.quantile(real, COPY)).mean())
    return {
        "nearest_ratio": {"value": float(ratio), "error": float(spread[np.isfinite(spread)].std()), "real": 1.0},
        "copied": {"value": copied, "floor": COPY},
    }
