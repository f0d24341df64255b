"""What sampler=best and grid=optimised find, held against every fixed sampler and grid on points that neither saw.

    python scripts/best_sampler.py [--paths ot vp edm cosine] [--trained gmm moons] [--evaluations 5 10 20]

The exact field of the 11 components on each path, and fields trained in 3,000 steps. Errors are rms distances to a fine solution of the
same field, on 4096 points. fixed: the best of the README's samplers of the ODE on the README's grids at their defaults, found on
these points themselves; best, and best with grid=optimised, were found on other points; tuned: the sampler of `fixed`, its times tuned.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Iterator

import jax
import numpy as np

import diffsde
from diffsde.datasets import Dataset
from diffsde.datasets.mixture import Ring
from diffsde.fields import Field
from diffsde.paths import PATHS
from diffsde.runs.machine import Machine
from diffsde.runs.sample_config import SampleConfig, is_noise_free
from diffsde.runs.starting import stds_met
from diffsde.sampler_trials import TrialPoints, ends, ranked, rms, tried
from diffsde.samplers import GRIDS, SAMPLERS, Grid, Sampler, times
from diffsde.types import on_device
from diffsde.verbs.sample import search_sampler

N, STEPS = 4096, 3000
FIXED = {name: GRIDS[name]() for name in ("uniform", "quadratic", "cosine", "shifted", "log_snr", "rho")}
SOLVERS = {name: kind() for name, kind in SAMPLERS.items() if name != "best" and is_noise_free(kind())}


def fields(paths: list[str], trained: list[str]) -> Iterator[tuple[str, Field, Dataset]]:
    """The fields, with what each is called and its data."""
    for path in paths:
        yield f"gmm, exact, {path}", Ring().exact_field(PATHS[path]()), Ring()
    for name in trained:
        run = diffsde.train(dataset=name, steps=STEPS)
        assert run.field is not None and run.dataset is not None
        yield f"{name}, trained, ot", run.field, run.dataset


def asked(sampler: Sampler, grid: Grid, steps: int) -> SampleConfig:
    """The choices of `diffsde sample sampler=... grid=... steps=...`, without a cache."""
    machine = Machine(None, None, None, None, None, cache=False, cache_dir=None, threads=None)
    own = {
        "sampler": sampler,
        "grid": grid,
        "steps": steps,
        "sigma": None,
        "last": "auto",
        "run": "oracle",
        "n": 1,
        "seed": 0,
    }
    of_run = {"checkpoint": "last", "ema": None, "labels": None, "guide": None, "guide_checkpoint": "last"}
    return SampleConfig(**own, **of_run, guidance=None, guidance_interval=(0.0, 1.0), machine=machine)  # type: ignore[arg-type]


def rows(name: str, field: Field, dataset: Dataset, evaluations: list[int]) -> Iterator[str]:
    """The lines of the table of one field."""
    normal = np.random.default_rng(1).normal(size=(N, *field.shape))
    on, stds = (
        TrialPoints(field, on_device(float(field.path.beta(0.0)) * normal, float), None),
        stds_met(field, dataset),
    )
    for budget in evaluations:
        ours, fine = ranked(tried(SOLVERS, FIXED, on, budget, "auto"), on, (GRIDS["quadratic"](), GRIDS["log_snr"]()))
        fixed = ours[0]

        def found(sampler: Sampler, grid: Grid, steps: int, fine: np.ndarray = fine.x, least: float = fixed.rms) -> str:
            begin = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):  # what a command would say
                chosen, _ = search_sampler(asked(sampler, grid, steps), field, dataset, stds, None, None)
            assert chosen.steps is not None
            x = ends(chosen.sampler, on, [np.asarray(times(chosen.grid, chosen.steps, field.path))], chosen.last)[0]
            of = type(chosen.sampler).__name__
            error, seconds = rms(x, fine), time.process_time() - begin
            return f"{of} {error:.3g} ({error / least:.2f}x, {seconds:.0f} CPU s)"

        best = SAMPLERS["best"]()
        cells = (
            f"{fixed.sampler} {fixed.grid} {fixed.rms:.3g}",
            found(best, GRIDS["auto"](), budget),
            found(SOLVERS[fixed.sampler], GRIDS["optimised"](), fixed.steps),
            found(best, GRIDS["optimised"](), budget),
        )
        yield "| " + " | ".join([name, str(budget), *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", nargs="*", default=["ot", "vp", "edm", "cosine"], choices=list(PATHS))
    parser.add_argument("--trained", nargs="*", default=["gmm", "moons"])
    parser.add_argument("--evaluations", nargs="+", type=int, default=[5, 10, 20])
    words = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    print("| field | evaluations | fixed | best | tuned | best, optimised |\n|---|---|---|---|---|---|")
    for name, field, dataset in fields(words.paths, words.trained):
        for row in rows(name, field, dataset, words.evaluations):
            print(row, flush=True)


if __name__ == "__main__":
    main()
