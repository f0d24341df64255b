"""How good samples are: exact figures for a mixture, else a distance with its floor; and one of them to choose runs by."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset, draw_many
from diffsde.errors import UserError
from diffsde.fields import Field
from diffsde.metrics.distances import MOST, w2
from diffsde.metrics.errors import Figure, mean_figure, paired_error, prefixed, reference, root_mean_figure, with_error
from diffsde.metrics.mixture import expected_kl, kl_error, label_probabilities, mixture_figures, mixture_values
from diffsde.overlap import Estimate
from diffsde.runs.starting import settle_grid, stds_of
from diffsde.samplers import simulate_compiled, times
from diffsde.samplers.grids import AutoGrid
from diffsde.samplers.loop import prior
from diffsde.samplers.ode import Heun
from diffsde.stability import settle_last
from diffsde.types import Array, Key

REFERENCES = 8  # pairs of sets that a distance and its floor are averaged over: one alone varies by a third
# Numbers in all true points of a distance: of larger ones, images, there are fewer sets, then fewer points in each.
NUMBERS = 2**23
MEASURED = 10_000  # samples, and
MEASURED_BY, MEASURED_STEPS = Heun(), 100  # what a metric during training is measured with

METRICS = {
    "loss": "the mean training loss over the last tenth of the steps",
    "cross_entropy_gap": "how far -E log p of 10,000 samples under the mixture is from its entropy, above or below",
    "mode_weight_kl": "KL divergence of the samples' mode weights from the mixture's",
    "w2": "the 2-Wasserstein distance of samples from the data, where its law is not a mixture",
}


def check_metric(name: str, dataset: Dataset) -> None:
    """Raise UserError for a metric that cannot be had of this dataset."""
    able = ["loss", *(["cross_entropy_gap", "mode_weight_kl"] if isinstance(dataset, MixtureDataset) else ["w2"])]
    if name not in able:
        raise UserError(f"metric is '{name}'; of this dataset there are {', '.join(able)}")


def settled(field: Field, dataset: Dataset) -> tuple[Array, str]:
    """The times and the last step of `measured`. Raises UserError for a field that cannot be sampled over them."""
    grid = times(settle_grid(AutoGrid(), field, stds_of(dataset)), MEASURED_STEPS, field.path)
    return grid, settle_last(MEASURED_BY, field, grid, "auto")


def measured(field: Field, dataset: Dataset, name: str, key: Key) -> float:
    """That figure of 10,000 samples, by Heun's method in 100 steps."""
    key_prior, key_noise, key_true = jax.random.split(key, 3)
    grid, last = settled(field, dataset)
    x0 = prior(field.path, grid[0], field.shape, key_prior, MEASURED)
    x = simulate_compiled(MEASURED_BY, field, x0, grid, key_noise, last=last).x
    if name == "cross_entropy_gap":
        assert isinstance(dataset, MixtureDataset)
        return cross_entropy_gap(x, dataset.mixture())
    return figures(x, dataset, key_true)[name]["value"]


def cross_entropy_gap(x: Array, mixture: mixtures.Mixture) -> float:
    """|-E log p - H| in nats: samples that collapse onto the modes have too small a cross-entropy, not a good one."""
    return abs(float(mixture_figures(mixture, x).cross_entropy) - mixtures.entropy(mixture).value)


def figures(
    x: Array, dataset: Dataset, key: Key, labels: Array | None = None, guided: bool = False
) -> dict[str, Figure]:
    """What can be known of the samples: exact figures for a mixture, else a distance with its floor.

    labels (n,): of samples given labels, which are compared with points of the same labels, as often. guided: whether they
    were drawn by a guided field, whose law is another than the data's: no value of that one is beside their figures.
    """
    dealt = None if labels is None else np.asarray(labels)
    if isinstance(dataset, MixtureDataset):
        found = of_mixture(x, dataset.mixture(), dealt)
    else:
        found = {"w2": distance(x, dataset, key, dealt)}
    if guided:
        own = ("value", "error", "points")
        return {name: {key: figure[key] for key in own if key in figure} for name, figure in found.items()}
    return found


def of_mixture(x: Array, whole: mixtures.Mixture, labels: np.ndarray | None) -> dict[str, Figure]:
    """cross_entropy, within_mode_std and mode_weight_kl, or label_probability of samples that were given labels."""
    mixture = whole if labels is None else mixtures.only(whole, labels)
    log_p, r, squares = (np.asarray(part, np.float64) for part in mixture_values(mixture, x))
    known = {
        "cross_entropy": mean_figure(-log_p, labels) | reference(mixtures.entropy(mixture)),
        "within_mode_std": root_mean_figure(squares, labels) | {"exact": 1.0},
    }
    if labels is not None:  # whose shares are as dealt: how far they are from the weights says nothing
        return known | {"label_probability": label_probability(whole, x, labels)}
    kl = float(mixture_figures(mixture, x).mode_weight_kl)
    weights = with_error(kl, kl_error(r, np.asarray(mixture.weights, np.float64)))
    floor, floor_error = expected_kl(mixture, len(x))
    return known | {"mode_weight_kl": weights | {"floor": floor, "floor_error": floor_error}}


def distance(x: Array, dataset: Dataset, key: Key, labels: np.ndarray | None) -> Figure:
    """The mean W2 of sets of samples from as many true points, and of other true points from these: value and floor.

    error, floor_error: by the scatter over the pairs; samples that are in several pairs, of fewer than all sets take, count
    once (paired_error).
    """
    references, size = pairs(len(x), x[0].size)
    count, arrays = 2 * references * size, dataset.load()
    if isinstance(dataset, FiniteDataset) and labels is not None:
        drawn = dataset.draw_given(arrays, jnp.asarray(labels), key, count)
    else:
        drawn = np.asarray(draw_many(dataset, arrays, key, count))
    true = drawn.reshape(2, references, size, *x.shape[1:])
    mine = np.asarray(x)[np.arange(references * size) % len(x)].reshape(true[0].shape)
    values, floors = (np.array([w2(a, b) for a, b in zip(sets, true[0], strict=True)]) for sets in (mine, true[1]))
    floor = with_error(floors.mean(), paired_error(floors, references))
    value = with_error(values.mean(), paired_error(values, len(x) / size))
    return value | prefixed("floor", floor) | {"points": size}


def label_probability(mixture: mixtures.Mixture, x: Array, labels: np.ndarray) -> Figure:
    """The mean of P(label | x) under the mixture, and that of true points of each label."""
    found = np.asarray(label_probabilities(mixture, x, jnp.asarray(labels)), np.float64)
    shares, known = np.bincount(labels, minlength=mixture.weights.size) / len(labels), mixtures.overlap(mixture)
    true = Estimate(float(shares @ known.own), float(np.linalg.norm(shares * known.own_error)))
    return mean_figure(found, labels) | reference(true)


def pairs(count: int, dimension: int) -> tuple[int, int]:
    """How many pairs of sets a distance of `count` samples is averaged over, and the points in a set."""
    size = min(count, MOST, max(1, NUMBERS // (2 * dimension)))
    return min(REFERENCES, max(1, NUMBERS // (2 * size * dimension))), size
