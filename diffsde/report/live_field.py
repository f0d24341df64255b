"""A field as numbers from which a page evaluates it: a mixture or a finite set of points, or the weights of an MLP."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.fields import EmpiricalField, Field, LearnedField, OracleField
from diffsde.mixtures import Mixture
from diffsde.nets import MLP
from diffsde.nets.net import Net
from diffsde.paths import GaussianPath, coefficients
from diffsde.report.packing import packed
from diffsde.types import Array, Coefficients

MOST_POINTS = 3000  # of a finite set, for a page to sum over at every step


def live_field(field: Field, net: Net | None) -> tuple[dict[str, Any] | None, str]:
    """(the field's numbers, "") where a page can evaluate it; else (None, why it cannot). net: of a trained field."""
    if isinstance(field, OracleField):
        return law_of_mixture(field.mixture), ""
    if isinstance(field, EmpiricalField):
        if field.count > MOST_POINTS:
            return None, f"the exact field of {field.count:,} points is too slow to evaluate in a page"
        return law_of_points(points_of(field), field.shape[-1]), ""
    if not isinstance(field, LearnedField):
        return None, f"a page does not evaluate a {type(field).__name__}"
    if not isinstance(net, MLP):
        return None, f"a page evaluates networks of net=mlp, this one is {type(net).__name__.lower()}"
    return _network(field, net), ""


def points_of(field: EmpiricalField) -> np.ndarray:
    """The points (count, d) of a finite set's exact field."""
    return np.asarray(field.chunks).reshape(-1, field.shape[-1])[: field.count]


def law_of_mixture(law: Mixture) -> dict[str, Any]:
    """A mixture in one or two dimensions: means, covariances xx, xy, yy and weights; a second coordinate of a line is 0."""
    means = np.asarray(law.means, np.float64)
    count, d = means.shape
    spread = np.broadcast_to(np.asarray(law.variances, np.float64), means.shape)
    axes = np.broadcast_to(np.eye(d), (count, d, d)) if law.rotations is None else np.asarray(law.rotations, np.float64)
    full = np.einsum("kij,kj,klj->kil", axes, spread, axes)
    both = np.zeros((count, 2))
    both[:, :d] = means
    across = full[:, 0, 1] if d > 1 else np.zeros(count)
    covariances = np.stack([full[:, 0, 0], across, full[:, -1, -1]], axis=1)
    return {
        "kind": "mixture",
        "dimension": d,
        "means": packed(both, "f64"),
        "covariances": packed(covariances, "f64"),
        "weights": packed(law.weights, "f64"),
    }


def law_of_points(points: np.ndarray, d: int) -> dict[str, Any]:
    """Equal atoms at points (n, d): a mixture whose components have no variance of their own."""
    both = np.zeros((len(points), 2))
    both[:, :d] = points
    return {"kind": "mixture", "dimension": d, "points": packed(both, "f32")}


def _network(field: LearnedField, net: MLP) -> dict[str, Any]:
    params = {name: np.asarray(value) for name, value in field.params.items()}

    def layer(name: str) -> dict[str, str]:
        return {part: packed(params[f"{name}/{part}"], "f32") for part in ("kernel", "bias")}

    found: dict[str, Any] = {
        "kind": "network",
        "dimension": field.shape[0],
        "prediction": field.kind,
        "precondition": field.precondition,
        "mean": np.asarray(field.moments.mean, np.float64).ravel().tolist(),
        "std": float(field.moments.std),
        "activation": net.activation,
        "time_frequencies": net.time_frequencies,
        "space_frequencies": net.space_frequencies,
        "layers": [layer(f"layers/{i}") for i in range(len(net.widths) + 1)],
    }
    if net.gated_skip:
        found |= {name: layer(name) for name in ("skip_in", "skip_out", "gate")}
    if field.classes:  # the last row stands for "no label"
        found["label"] = packed(params["labels/embedding"][-1], "f32")
    return found


def grid_numbers(path: GaussianPath, times: np.ndarray) -> dict[str, str]:
    """The path's coefficients at the times of a grid (m,), in float64; where one is infinite the page never reads it."""
    with jax.enable_x64(True):
        found = _coefficients(path, jnp.asarray(times, jnp.float64))
        parts = {"t": np.asarray(times, np.float64)} | {k: np.asarray(v) for k, v in found._asdict().items()}
    return {name: packed(values, "f64") for name, values in parts.items()}


@jax.jit
def _coefficients(path: GaussianPath, times: Array) -> Coefficients:
    return jax.vmap(lambda t: coefficients(path, t))(times)
