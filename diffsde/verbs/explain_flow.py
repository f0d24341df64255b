"""What `explain` says of a discrete flow: its equations, its size, and between which values its loss lies."""

from __future__ import annotations

import math

import jax

from diffsde.build import name_of
from diffsde.datasets import point_shape
from diffsde.errors import UserError
from diffsde.mixtures import entropy
from diffsde.nets import Net, count, structure
from diffsde.objectives import DiscreteLikelihood
from diffsde.verbs.explain_config import ExplainConfig, doc_lines


def lines_of_flow(chosen: ExplainConfig, net: Net) -> tuple[str, ...]:
    """The lines of the report."""
    dataset, arrays = chosen.dataset, chosen.dataset.load()
    shape, moments = point_shape(dataset, arrays), dataset.moments(arrays, jax.random.key(0))
    against: list[str] = []
    if dataset.in_bytes(arrays) and not dataset.dequantise:
        against.append("refused: the density of bytes as they are has no bound; say dataset.dequantise=true")
    try:
        size = [f"  {count(structure(net, shape)[1]):,} parameters, for points of shape {shape}"]
    except UserError as error:
        size, against = [], [*against, f"refused: {error}"]
    untrained = math.log(float(moments.std) * math.sqrt(2 * math.pi)) + 0.5
    floor = []
    if (law := dataset.law()) is not None:
        least = entropy(law).value / math.prod(shape)
        floor = [f"  trained at best: {least:.4g}, the entropy of dataset={name_of(dataset)} per coordinate"]
    return (
        f"net={name_of(net)} dataset={name_of(dataset)}",
        *doc_lines(net),
        "  z = f(y), y = (x - mean)/std, x = mean + std f^-1(z): log p(x) = log N(z; 0, I) + log |det df/dy| - d log std",
        "  sampled in one pass of f^-1; no path, no time, no velocity, and so no sampler",
        *size,
        "\nobjective=likelihood",
        *doc_lines(DiscreteLikelihood()),
        f"  untrained: {untrained:.4g}, since f is the identity and p then N(mean, std^2 I), std = {float(moments.std):.4g}",
        *floor,
        "\nbefore it runs",
        *(f"  {line}" for line in against or ["nothing speaks against it"]),
    )
