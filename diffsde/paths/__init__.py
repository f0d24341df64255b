"""Paths, from source or noise (t = 0) to data (t = 1): what every path is (path), those from noise alone (gaussian), and those
with noise added on the way (with_gamma)."""

from __future__ import annotations

from diffsde.paths.gaussian import EDM, OT, VE, VP, Cosine, Expression, Sqrt, SubVP, Trig
from diffsde.paths.path import GaussianPath, check_ends, coefficients, log_snr, written
from diffsde.paths.with_gamma import ICFM, Bridge, Interpolant

PATHS: dict[str, type[GaussianPath]] = {
    "ot": OT,
    "sqrt": Sqrt,
    "trig": Trig,
    "cosine": Cosine,
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "expression": Expression,
    "bridge": Bridge,
    "icfm": ICFM,
    "interpolant": Interpolant,
}
GAUSSIAN = tuple(name for name, path in PATHS.items() if not path().has_gamma)  # those that lead from noise alone

__all__ = [
    "EDM",
    "GAUSSIAN",
    "ICFM",
    "OT",
    "PATHS",
    "VE",
    "VP",
    "Bridge",
    "Cosine",
    "Expression",
    "GaussianPath",
    "Interpolant",
    "Sqrt",
    "SubVP",
    "Trig",
    "check_ends",
    "coefficients",
    "log_snr",
    "written",
]
