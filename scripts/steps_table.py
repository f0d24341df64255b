"""The steps that `diffsde sample` chooses for the exact field of the 11-component mixture, and what they make of its modes.

    python scripts/steps_table.py [--paths ot vp] [--samplers heun em]

For each sampler: the steps, the error by halving as a share of the samples' std, the std of 16,384 samples about their modes
(exact: 1, +- 0.004), and how far it is from that of 1024 steps from the same starts.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp

from diffsde.datasets.mixture import Ring
from diffsde.errors import UserError
from diffsde.fields import OracleField
from diffsde.metrics.mixture import mixture_figures
from diffsde.paths import PATHS
from diffsde.runs import machine
from diffsde.runs.starting import trial_of, trial_points, trial_starts
from diffsde.samplers import SAMPLERS, LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import padded, prior
from diffsde.solver_error import SamplingPlan, data_stds
from diffsde.stability import choose_last_step
from diffsde.step_choice import MOST, choose_steps, fewest

N, MANY = 16_384, 1024
SHOWN = [name for name, kind in SAMPLERS.items() if not kind.adaptive and name not in ("langevin", "ald", "best")]
LATE = 0.001  # where samplers start that are infinite at t = 0


def row(name: str, path: str) -> str:
    """A line of the table."""
    sampler: Sampler = SAMPLERS[name]()
    field, grid = OracleField(PATHS[path](), Ring().mixture(), (2,)), UniformGrid()
    try:
        last = choose_last_step(sampler, field, times(grid, fewest(sampler), field.path), "auto")
    except UserError:
        grid = UniformGrid(LATE)
        last = choose_last_step(sampler, field, times(grid, fewest(sampler), field.path), "auto")
    stds = data_stds(Ring(), jax.random.key(0))
    x0 = trial_starts(field, Ring(), grid.start, trial_points(field.shape), None)
    found = choose_steps(
        SamplingPlan(sampler, grid, MOST, last), field.path, stds, trial_of(sampler, field, grid, last, x0, None)
    )
    start = prior(field.path, jnp.asarray(grid.start), (2,), jax.random.key(1), N)

    def within(steps: int) -> float:
        at, count = padded(times(grid, steps, field.path))
        x = simulate_compiled(sampler, field, start, at, jax.random.key(2), None, count, LoopSettings(last)).x
        return float(mixture_figures(Ring().mixture(), x).within_mode_std)

    mine, limit = within(found.steps), within(MANY)
    error = "" if found.error is None else f"{found.error:.2%}"
    cells = name, path, found.steps, sampler.nfe(found.steps, last), error, f"{mine:.4f}", f"{mine - limit:+.4f}"
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", nargs="+", choices=list(PATHS), default=["ot", "vp"])
    parser.add_argument("--samplers", nargs="+", choices=SHOWN, default=SHOWN)
    asked = parser.parse_args()
    machine.set_compilation_cache(True, None)
    print(
        "| sampler | path | steps | evaluations | error | within-mode std | beside 1024 steps |\n|---|---|---:|---:|---:|---:|---:|"
    )
    for path in asked.paths:
        for name in asked.samplers:
            print(row(name, path), flush=True)


if __name__ == "__main__":
    main()
