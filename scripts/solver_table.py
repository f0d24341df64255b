"""Which solver and grid come nearest to the exact answer for a given number of evaluations, with the exact field.

    python scripts/solver_table.py [--paths ot vp] [--nfe 5 10 20 50] [--points 2000]

ODE: root mean square distance |x - x*| from the exact flow map of the 11-component mixture (fine RK4, float64), the best
of the grids tried for each solver. SDE: cross-entropy minus entropy in nats, 20,000 samples (error 0.007), uniform grid.
"""

from __future__ import annotations

import argparse
import math
from functools import cache, partial

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  # after the precision is chosen
import numpy as np  # noqa: E402

from diffsde import mixtures  # noqa: E402
from diffsde.datasets.mixture import Ring  # noqa: E402
from diffsde.errors import UserError  # noqa: E402
from diffsde.fields import Field, OracleField  # noqa: E402
from diffsde.paths import GAUSSIAN, PATHS, GaussianPath  # noqa: E402
from diffsde.samplers import SAMPLERS, Sampler, simulate_compiled, times  # noqa: E402
from diffsde.samplers.grids import CosineGrid, Grid, LogSNRGrid, QuadraticGrid, RhoGrid, ShiftedGrid, UniformGrid  # noqa: E402
from diffsde.samplers.ode import RK4  # noqa: E402
from diffsde.stability import finite_step  # noqa: E402
from diffsde.types import Array  # noqa: E402

LONGEST = 4096  # steps that the one compiled loop can take
OTHERS = ("edm", "langevin", "ald")  # stochastic, but churn 0 is the ODE's, and the others need many more evaluations
START = 1e-3  # of the samplers that begin where alpha > 0


def grids(start: float) -> dict[str, Grid]:
    """Those tried, by what the user would type."""
    found: dict[str, Grid] = {
        "uniform": UniformGrid(start),
        "quadratic": QuadraticGrid(start),
        "cosine": CosineGrid(start),
        "rho": RhoGrid(start),
    }
    found |= {f"shifted grid.shift={shift:g}": ShiftedGrid(start, 1.0, shift) for shift in (0.33, 0.5, 2.0, 3.0)}
    for low in (-5.0, -4.0, -3.0, -2.0):
        for high in (0.0, 0.5, 1.0, 2.0, 3.0):
            found[f"log_snr grid.low={low:g} grid.high={high:g}"] = LogSNRGrid(start, 1.0, low, high)
    return found


@cache
def placed(grid: Grid, steps: int, path: GaussianPath) -> np.ndarray | None:
    """The grid's times; None where it has no so many steps."""
    try:
        return np.asarray(times(grid, steps, path))
    except UserError:
        return None


def run(sampler: Sampler, field: Field, x: Array, grid: Grid, nfe: int) -> Array | None:
    """The points after so many evaluations on a grid; None where they are too few for a step, or the grid has no so many.

    One program whatever the number of steps.
    """
    steps = nfe // sampler.evaluations
    at = placed(grid, steps, field.path) if steps else None
    if at is None:
        return None
    padded = jnp.pad(at, (0, LONGEST - steps))
    return simulate_compiled(sampler, field, x, padded, jax.random.key(1), steps=jnp.asarray(steps)).x


def ode_rows(path_name: str, points: int, wanted: list[int]) -> dict[str, dict[int, tuple[float, str]]]:
    """For each solver and number of evaluations, the least error and the grid that had it."""
    field = OracleField(PATHS[path_name](), Ring().mixture(), (2,))
    noise = jax.random.normal(jax.random.key(0), (points, 2))

    @cache
    def exact(start: float) -> tuple[Array, Array]:
        x = field.path.beta(jnp.asarray(start)) * noise
        end = run(RK4(), field, x, UniformGrid(start), RK4.evaluations * (LONGEST - 1))
        assert end is not None
        return x, end

    rows: dict[str, dict[int, tuple[float, str]]] = {}
    for name, kind in SAMPLERS.items():
        sampler = kind()
        if (sampler.stochastic and name != "edm") or sampler.adaptive or name == "best":
            continue
        start = 0.0 if finite_step(sampler, field, jnp.asarray(0.0), jnp.asarray(0.1)) else START
        x, truth = exact(start)
        rows[name] = {}
        for nfe in wanted:
            best, uniform = (math.inf, ""), math.nan
            for grid_name, grid in grids(start).items():
                found = run(sampler, field, x, grid, nfe)
                if found is None:
                    continue
                error = float(jnp.sqrt(jnp.mean(jnp.sum((found - truth) ** 2, axis=-1))))
                if grid_name == "uniform":
                    uniform = error
                if error < best[0]:  # also where it is not a number
                    best = error, grid_name
            rows[name][nfe] = best
            if name == "euler":
                rows.setdefault("euler, uniform grid", {})[nfe] = uniform, "uniform"
    return rows


def sde_rows(path_name: str, wanted: list[int]) -> dict[str, dict[int, float]]:
    """Cross-entropy minus entropy for each SDE solver and number of evaluations, from t = 0.001 on a uniform grid."""
    mixture = Ring().mixture()
    field = OracleField(PATHS[path_name](), mixture, (2,))
    entropy = mixtures.entropy(mixture).value
    x = field.path.beta(jnp.asarray(START)) * jax.random.normal(jax.random.key(0), (20_000, 2))
    rows: dict[str, dict[int, float]] = {}
    for name, kind in SAMPLERS.items():
        sampler = kind()
        if not sampler.stochastic or name in OTHERS:
            continue
        rows[name] = {}
        for nfe in wanted:
            found = run(sampler, field, x, UniformGrid(START), nfe)
            if found is not None:
                rows[name][nfe] = float(-jnp.mean(jax.vmap(partial(mixtures.log_prob, mixture))(found))) - entropy
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", nargs="+", default=[name for name in GAUSSIAN if name != "expression"])
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--points", type=int, default=2000)
    chosen = parser.parse_args()
    head = "".join(f" {nfe} |" for nfe in chosen.nfe)
    for path in chosen.paths:
        print(
            f"\n### {path}: error of ODE solvers by evaluations\n\n| sampler |{head}\n|---|{'---:|' * len(chosen.nfe)}"
        )
        rows = ode_rows(path, chosen.points, chosen.nfe)
        for name, row in rows.items():
            print(f"| {name} |" + "".join(f" {row[nfe][0]:.4f} |" for nfe in chosen.nfe), flush=True)
        for nfe in chosen.nfe:
            best = min(rows, key=lambda name: rows[name][nfe][0])
            error, grid = rows[best][nfe]
            print(f"\nBest at {nfe}: sampler={best} grid={grid}: {error:.4f}")
        print(
            f"\n### {path}: cross-entropy minus entropy of SDE solvers\n\n| sampler |{head}\n|---|{'---:|' * len(chosen.nfe)}"
        )
        for name, found in sde_rows(path, chosen.nfe).items():
            cells = (f"{found[nfe]:.4f}" if nfe in found else "" for nfe in chosen.nfe)
            print(f"| {name} |" + "".join(f" {cell} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
