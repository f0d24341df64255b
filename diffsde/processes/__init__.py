"""Processes: any SDE dX = b(X, t) dt + sigma(X, t) dW, and the table of those that a config can name."""

from __future__ import annotations

from diffsde.processes.expression import ExpressionProcess
from diffsde.processes.linear import OU, Brownian, GeometricBrownian
from diffsde.processes.potential import DoubleWell, Langevin
from diffsde.processes.process import Process

PROCESSES: dict[str, type[Process]] = {
    "brownian": Brownian,
    "ou": OU,
    "geometric_brownian": GeometricBrownian,
    "langevin": Langevin,
    "double_well": DoubleWell,
    "expression": ExpressionProcess,
}

__all__ = ["PROCESSES", "Process"]
