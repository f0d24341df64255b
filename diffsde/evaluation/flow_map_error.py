"""The metric `flow_map`: how far a flow map's jumps end from where the exact map takes the same noise."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.fields import FlowMap, OracleField
from diffsde.metrics.figures import rms_distance
from diffsde.samplers import LoopSettings, prior, simulate_compiled
from diffsde.samplers.flow_map import FlowMapJumps
from diffsde.types import Array, Key

POINTS, PART = 4000, 1000  # noises, and those that are carried together
JUMPS = (1, 2, 4, 8)
UNSURE = 1e-4  # by which the exact map's own ends may be wrong, in float32 and by a solver's steps


@dataclasses.dataclass(frozen=True)
class FlowMapError(Metric):
    """flow_map_1, flow_map_2, flow_map_4 and flow_map_8 = sqrt(E |X_theta(X_0) - X_1(X_0)|^2), X_theta the model in so many equal jumps
    from t = 0 to 1, X_1 the exact map, both from the same noise X_0: without the chance that distances of sets of samples have.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        f"flow_map_{n}": Quantity("in the data's units", "lower", "with each coordinate in units of its std")
        for n in JUMPS
    }
    needs: ClassVar[tuple[str, ...]] = ("jumps", "law")

    def is_default(self, subject: Subject) -> bool:
        return subject.field is not None and subject.field.jumps and not isinstance(subject.field, OracleField)

    def unavailable(self, subject: Subject) -> str | None:
        return super().unavailable(subject) or (None if subject.exact else "the exact map is not known")

    def measure(self, subject: Subject, key: Key) -> Measured:
        field, exact = subject.field, subject.exact
        assert isinstance(field, FlowMap) and isinstance(exact, FlowMap)
        x0 = prior(field.path, jnp.asarray(0.0), field.shape, key, POINTS)
        labels = None if subject.field_labels is None else jnp.asarray(np.resize(subject.field_labels, POINTS))
        ends = jumped(exact, x0, labels, 1)
        figures = {}
        for n in JUMPS if field.knows_velocity else JUMPS[:1]:
            found = rms_distance(jumped(field, x0, labels, n), ends)
            found = found._replace(error=math.hypot(found.error or 0.0, UNSURE))
            figures[f"flow_map_{n}"] = found.against_exact(0.0)
        return Measured(figures, {"flow_map": {"n": POINTS}})


def jumped(field: FlowMap, x0: Array, labels: Array | None, n: int) -> np.ndarray:
    """Where n equal jumps from t = 0 to 1 take points x0 (m, *shape)."""
    at = jnp.linspace(0.0, 1.0, n + 1)
    settings = LoopSettings("step", chunk=PART)
    return np.asarray(simulate_compiled(FlowMapJumps(), field, x0, at, jax.random.key(0), labels, None, settings).x)
