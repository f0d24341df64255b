"""Inverse problems: linear measurements y of a point z, and fields of the posterior p(z | y), made from the field of p(z)."""

from __future__ import annotations

from diffsde.inverse.measurements import Inpaint, Linear, Measurement, Superresolution, measure
from diffsde.inverse.operators import Operator
from diffsde.inverse.posteriors import DPS, MMPS, Exact, Observed, Posterior

MEASUREMENTS: dict[str, type[Measurement]] = {
    "inpaint": Inpaint,
    "superresolution": Superresolution,
    "linear": Linear,
}
POSTERIORS: dict[str, type[Posterior]] = {"mmps": MMPS, "dps": DPS, "exact": Exact}

__all__ = ["MEASUREMENTS", "MMPS", "POSTERIORS", "Measurement", "Observed", "Operator", "Posterior", "measure"]
