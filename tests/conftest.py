"""Fixtures that many tests share: double precision, every path, and the reference values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from diffsde.paths import EDM, PATHS, VE, VP, Cosine, Expression, GaussianPath, SubVP

REFERENCE = Path("reference", "gaussian_paths.json")

EVERY_PATH: dict[str, GaussianPath] = {
    **{name: cls() for name, cls in PATHS.items() if name != "expression"},
    "expression": Expression(alpha_t="t**2", beta_t="(1-t)*(1+t)"),
    "expression-variance": Expression(alpha_t="t", variance_t="1-t**2"),
    "cosine-plain": Cosine(offset=0.0),
    "vp-mild": VP(rate_min=0.5, rate_max=8.0),
    "subvp-flat": SubVP(rate_min=4.0, rate_max=4.0),
    "ve-narrow": VE(noise_min=0.1, noise_max=10.0),
    "edm-linear": EDM(noise_min=0.05, noise_max=20.0, rho=1.0),
}


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; arrays that it uses have to be made inside it."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=list(EVERY_PATH))
def path(request: pytest.FixtureRequest) -> GaussianPath:
    """Every entry of PATHS with its defaults, and some with other numbers."""
    return EVERY_PATH[request.param]


@pytest.fixture(scope="session")
def reference() -> list[dict[str, Any]]:
    """The 168 cases computed elsewhere with 50 digits, from $DIFFSDE_SHARED or a folder `shared` beside the repository."""
    shared = Path(os.environ.get("DIFFSDE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    file = shared / REFERENCE
    if not file.is_file():
        pytest.skip(
            f"the reference values are not here: no {REFERENCE} in {shared}; set DIFFSDE_SHARED to their folder"
        )
    cases = json.loads(file.read_text())["cases"]
    assert len(cases) == 168
    return cases
