"""What the defaults of DEIS, UniPC and DPM-Solver++(3M) were chosen by: errors on eight paths and six grids, with other choices beside.

    python scripts/choose_polynomials.py [--paths ot vp] [--points 200]

rms distance from the exact map of the 11-component mixture, t = 0.001 to 0.999, float64, geometric means over 5, 10, 20 and
40 steps; by path over the grids uniform, quadratic, cosine, shifted, log_snr and rho, and by grid over the paths. `worst`: the
largest factor, of all paths, grids and numbers of steps, by which a row's error is above that of its family's first row.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  # after the precision is chosen
import numpy as np  # noqa: E402

from diffsde.datasets.mixture import Ring  # noqa: E402
from diffsde.fields import OracleField  # noqa: E402
from diffsde.paths import GAUSSIAN, PATHS  # noqa: E402
from diffsde.samplers import GRIDS, SAMPLERS, Sampler, deis, dpm_solver, simulate_compiled, times, unipc  # noqa: E402
from diffsde.samplers.grids import LogSNRGrid  # noqa: E402
from diffsde.samplers.ode import RK4  # noqa: E402
from diffsde.types import Array  # noqa: E402

START, END, FINE, STEPS = 0.001, 0.999, 4000, (5, 10, 20, 40)
GRID_NAMES = [name for name in GRIDS if name not in ("auto", "list")]
INF = float("inf")
Change = tuple[Any, str, Any]  # of a module's constant


def deis_limits(**limits: tuple[float, float]) -> list[Change]:
    return [(deis, "MOST_WIDER", deis.MOST_WIDER | limits)]


Row = tuple[str, Sampler, list[Change]]


def deis_rows(kind: type[deis.DEIS2 | deis.DEIS3]) -> list[Row]:
    return [
        ("auto", kind(), []),
        *[(variable, kind(variable), []) for variable in ("t", "log_rho", "rho")],
        ("t, three values to a ratio of 1.25", kind("t"), deis_limits(t=(INF, 1.25))),
        ("t, three values to a ratio of 3", kind("t"), deis_limits(t=(INF, 3.0))),
        ("t, two values to a ratio of 3", kind("t"), deis_limits(t=(3.0, 1.5))),
        ("log_rho, no limit", kind("log_rho"), deis_limits(log_rho=(INF, INF))),
    ]


FAMILIES: dict[str, list[Row]] = {
    "deis2": deis_rows(deis.DEIS2),
    "deis3": deis_rows(deis.DEIS3),
    "dpmpp_3m": [
        ("as it is", SAMPLERS["dpmpp_3m"](), []),
        ("no damping of the first difference", SAMPLERS["dpmpp_3m"](), [(dpm_solver, "DAMPING", 0.0)]),
        ("damping 0.2", SAMPLERS["dpmpp_3m"](), [(dpm_solver, "DAMPING", 0.2)]),
        ("no limit of the ratio", SAMPLERS["dpmpp_3m"](), [(dpm_solver, "MOST_WIDER", INF)]),
        ("dpmpp_2m", SAMPLERS["dpmpp_2m"](), []),
    ],
    "unipc": [
        *[(f"coefficients={name}", unipc.UniPC(name), []) for name in ("t", "vary", "bh1", "bh2")],
        ("t, no damping", unipc.UniPC(), [(unipc, "DAMPING", 0.0)]),
        ("t, no limit of the ratio", unipc.UniPC(), [(unipc, "MOST_WIDER", INF)]),
    ],
}


def errors(sampler: Sampler, path_name: str, x: Array, truth: Array) -> dict[tuple[str, int], float]:
    """The error on each grid for each number of steps."""
    path = PATHS[path_name]()
    field, found = OracleField(path, Ring().mixture(), (2,)), {}
    for name in GRID_NAMES:
        grid = GRIDS[name](START, END)  # type: ignore[call-arg]
        for count in STEPS:
            at = jnp.pad(times(grid, count, path), (0, max(STEPS) - count))
            end = simulate_compiled(sampler, field, x, at, jax.random.key(0), steps=jnp.asarray(count)).x
            found[name, count] = float(jnp.sqrt(jnp.mean(jnp.sum((end - truth) ** 2, axis=-1))))
    return found


def measured(sampler: Sampler, changes: list[Change], starts: dict[str, tuple[Array, Array]]) -> np.ndarray:
    """Logarithms of the errors (paths, grids, steps), with some constants changed."""
    kept = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    if changes:
        jax.clear_caches()  # programs know the constants
    rows = [list(errors(sampler, path, *starts[path]).values()) for path in starts]
    for module, name, value in kept:
        setattr(module, name, value)
    if changes:
        jax.clear_caches()
    return np.log(rows).reshape(len(starts), len(GRID_NAMES), len(STEPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", nargs="+", default=[name for name in GAUSSIAN if name != "expression"])
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--points", type=int, default=200)
    asked = parser.parse_args()
    starts = {}
    for name in asked.paths:
        path = PATHS[name]()
        x = path.beta(jnp.asarray(START)) * jax.random.normal(jax.random.key(0), (asked.points, 2))
        field, fine = OracleField(path, Ring().mixture(), (2,)), times(LogSNRGrid(START, END, -20, 20), FINE, path)
        starts[name] = x, simulate_compiled(RK4(), field, x, fine, jax.random.key(0)).x
    heads = ["all", *asked.paths, *GRID_NAMES, "worst"]
    for family in asked.families:
        print(f"\n| {family} | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads))
        first = None
        for label, sampler, changes in FAMILIES[family]:
            found = measured(sampler, changes, starts)
            first = found if first is None else first
            means = [found.mean(), *found.mean(axis=(1, 2)), *found.mean(axis=(0, 2))]
            cells = [f"{value:.3g}" for value in (*np.exp(means), np.exp((found - first).max()))]
            print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
