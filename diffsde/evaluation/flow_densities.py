"""Likelihoods of test points under a discrete flow: exact, by one pass of its network."""

from __future__ import annotations

import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset
from diffsde.datasets.finite import dequantised
from diffsde.datasets.scaling import Scaling, log_volume
from diffsde.discrete_flow import DiscreteFlow, log_probs
from diffsde.errors import UserError
from diffsde.evaluation.densities import TestPoints, density_figures, test_points
from diffsde.metrics.figures import Figure
from diffsde.runs import machine
from diffsde.types import Key


def flow_figures(
    flow: DiscreteFlow, points: TestPoints, repeats: int, key: Key, scaling: Scaling | None
) -> tuple[dict[str, Figure], dict[str, Any], np.ndarray]:
    """(figures, a record of how they were computed, log p (n,) of every point in the data's own units).

    For bytes, log p is the mean over `repeats` draws of the dequantisation noise. Raises UserError where some are not finite.
    """
    n = len(points.x)
    rows = np.arange(n * repeats) % n
    x = dequantised(points.x[rows], key) if points.bytes else points.x[rows]
    labels = None if points.labels is None else points.labels[rows]
    compiler = machine.Compiler()
    program = compiler(log_probs, flow, x, labels)
    begun = time.perf_counter()
    found = np.asarray(program(flow, x, labels), np.float64)
    seconds = time.perf_counter() - begun
    mean = found.reshape(repeats, n).mean(axis=0) - log_volume(scaling, flow.shape)
    if bad := int((~np.isfinite(mean)).sum()):
        raise UserError(f"likelihood: {bad} of {n} values are NaN or infinite")
    about = {
        "n": n,
        "dequantisations": repeats if points.bytes else 0,
        "nfe": 1,
        "seconds": seconds,
        "seconds_compile": compiler.seconds,
    }
    return density_figures(mean, points), about, mean


def flow_kl(flow: DiscreteFlow, dataset: Dataset, key: Key, count: int) -> Figure | None:
    """E_p[log p - log p_theta] over `count` points of the data's known law p, in nats; None where it is not finite.

    For a conditional flow: the mean over the labels of KL(p(.|label) || p_theta(.|label)).
    """
    labels = np.arange(flow.classes) if flow.classes else None
    points = test_points(dataset, count, labels, key)
    log_p = np.asarray(log_probs(flow, jnp.asarray(points.x), points.labels), np.float64)
    return density_figures(log_p, points)["kl"] if np.isfinite(log_p).all() else None
