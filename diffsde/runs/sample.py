"""diffsde sample: draw samples from a trained field, or from the exact one."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import empirical, mixtures
from diffsde.build import positive, read, valid_last, valid_seed
from diffsde.datasets import Dataset, FiniteDataset, MixtureDataset, draw_many
from diffsde.errors import UserError
from diffsde.fields import EmpiricalField, Field, OracleField
from diffsde.metrics.distances import MOST, w2
from diffsde.metrics.mixture import mixture_figures
from diffsde.paths import GaussianPath
from diffsde.rails import instability, settle_last, takes_sigma
from diffsde.runs import folder, report, runtime
from diffsde.runs.pictures import draw_pictures
from diffsde.runs.train import named, restore
from diffsde.samplers import SAMPLERS, Grid, Sampler, simulate_compiled, times
from diffsde.types import Array, Key

OUTPUTS = Path("outputs")
REFERENCES = 8  # pairs of sets that a distance and its floor are averaged over: one alone varies by a third


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The knobs of configs/sample.yaml, which documents each."""

    sampler: Sampler
    grid: Grid
    run: str
    n: int
    steps: int | None
    sigma: float | None
    seed: int
    coupled: bool
    last: str
    save_every: int | None
    keep: int | None
    plots: bool
    cache: bool
    cache_dir: str | None
    threads: int | None = None
    dataset: Dataset | None = None
    path: GaussianPath | None = None

    def check(self) -> None:
        positive(self, "n", "steps", "save_every", "keep")
        valid_seed(self.seed)
        valid_last(self.last)
        if self.sigma is not None and self.sigma < 0:
            raise ValueError(f"sigma is {self.sigma}; it must be 0 or more")
        takes_sigma(self.sampler, self.sigma)
        if self.coupled and not self.sampler.coupled:
            able = ", ".join(name for name, kind in SAMPLERS.items() if kind.coupled)
            raise ValueError(f"coupled needs a sampler whose noise is that of one Brownian path: {able}")
        if self.keep is not None and self.save_every is None:
            raise ValueError("keep says of how many samples to save a trajectory; say how often with save_every")
        if self.run == "oracle":
            if self.path is None or self.dataset is None:
                raise ValueError("run=oracle needs a dataset= and a path=, e.g. dataset=gmm path=ot")
            if not isinstance(self.dataset, MixtureDataset | FiniteDataset):
                raise ValueError(
                    "run=oracle knows the exact field of mixtures (dataset=gmm, mixture, 8gaussians) and of finite data"
                    " (dataset=array)"
                )
        elif self.path is not None or self.dataset is not None:
            raise ValueError("dataset= and path= belong to the trained run; give them with run=oracle only")


def sample(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Draw samples, write the sample folder `out`, and return its summary."""
    runtime.use_threads(config)
    chosen = read(SampleConfig, config)
    folder.claim(out, "config.json")
    runtime.keep_programs(chosen.cache, chosen.cache_dir)
    field, dataset, origin = load_field(chosen)
    steps = chosen.grid.steps(chosen.steps, chosen.sampler.default_steps)
    grid = times(chosen.grid, steps, field.path)
    key_prior, key_noise, key_true = jax.random.split(jax.random.key(chosen.seed), 3)
    last = settle_last(chosen.sampler, field, grid, chosen.last)
    if unstable := instability(chosen.sampler, field.path, grid, last, dataset.least_variance()):
        report.warn(unstable)

    compiler = runtime.Compiler()
    x0 = prior(field.path, grid[0], field.shape, key_prior, chosen.n)
    kept = {"last": last, "save_every": chosen.save_every, "keep": chosen.keep, "coupled": chosen.coupled}
    program = compiler(simulate_compiled, chosen.sampler, field, x0, grid, key_noise, **kept)
    begin = time.perf_counter(), time.process_time()
    x, trajectory, spent = jax.block_until_ready(program(chosen.sampler, field, x0, grid, key_noise))
    seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    if not bool(jnp.isfinite(x).all()):
        bad = int((~jnp.isfinite(x.reshape(chosen.n, -1))).any(axis=1).sum())
        mend = "a larger sampler.rtol and sampler.atol" if chosen.sampler.adaptive else "more steps or a smaller sigma"
        raise UserError(f"{bad} of {chosen.n} samples are NaN or infinite; take {mend}")

    nfe: dict[str, float] = {"nfe": chosen.sampler.nfe(steps, last)}
    if spent is not None:
        nfe = {"nfe": float(spent.mean()), "nfe_max": int(spent.max())}
    metrics = figures(x, dataset, key_true)
    summary = {
        "n": chosen.n,
        **nfe,
        "steps": steps,
        "last": last,
        "start": float(grid[0]),
        "end": float(grid[-1]),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_compile": compiler.seconds,
        "field": origin,
        "metrics": metrics,
    }
    folder.write_config(out, "sample", config)
    folder.write(out / "samples.npz", lambda path: np.savez(path, x=np.asarray(x, np.float32)))
    if trajectory is not None:
        kept_times, kept_x = np.asarray(trajectory.times), np.asarray(trajectory.x, np.float32)
        folder.write(out / "trajectory.npz", lambda path: np.savez(path, times=kept_times, x=kept_x))
    pictures = (
        draw_pictures(chosen.sampler, field, dataset, x0, grid, last, key_noise, out / "plots", chosen.coupled)
        if chosen.plots
        else []
    )
    folder.write_json(out / "summary.json", summary)
    report.table(
        f"sampled {chosen.n:,} points with {describe(config)} from {origin}",
        [
            (
                "stretches" if chosen.sampler.adaptive else "steps",
                f"{steps} from t={float(grid[0]):g} to {float(grid[-1]):g}, {described_nfe(nfe)}, last step: {last}",
            ),
            *[(name.replace("_", " "), shown_figure(value)) for name, value in metrics.items()],
            ("time", f"{seconds:.2f} s + {compiler.seconds:.1f} s to compile"),
            ("samples", report.shown(out / "samples.npz")),
            *([("trajectory", report.shown(out / "trajectory.npz"))] if trajectory is not None else []),
            *[("picture", report.shown(path)) for path in pictures],
        ],
    )
    return summary


def load_field(chosen: SampleConfig) -> tuple[Field, Dataset, str]:
    """The field, the dataset it is compared with, and where it comes from."""
    if chosen.run == "oracle":
        assert chosen.dataset is not None and chosen.path is not None
        if isinstance(chosen.dataset, FiniteDataset):
            points = chosen.dataset.load()
            exact = EmpiricalField(chosen.path, empirical.arrange(points), len(points), points.shape[1:])
            return exact, chosen.dataset, f"the exact field of {len(points):,} points"
        assert isinstance(chosen.dataset, MixtureDataset)
        mixture = chosen.dataset.mixture()
        return OracleField(chosen.path, mixture, mixture.means.shape[1:]), chosen.dataset, "the exact field"
    where = folder.latest(OUTPUTS) if chosen.run == "latest" else Path(chosen.run)
    trained, field, step = restore(where)
    return field, trained.dataset, f"the parameter average at step {step} of {report.shown(where)} ({named(trained)})"


def prior(path: GaussianPath, start: Array, shape: tuple[int, ...], key: Key, n: int) -> Array:
    """n draws of N(0, beta(t0)^2), t0 the first time of the grid: point i depends on its own index alone."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))
    return path.beta(start) * jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def figures(x: Array, dataset: Dataset, key: Key) -> dict[str, dict[str, float]]:
    """What can be known of the samples: exact figures for a mixture, else a distance with its floor."""
    if isinstance(dataset, MixtureDataset):
        mixture = dataset.mixture()
        found = mixture_figures(mixture, x)
        entropy = mixtures.entropy(mixture)
        cross_entropy = {"value": float(found.cross_entropy), "error": float(found.cross_entropy_error)}
        return {
            "cross_entropy": cross_entropy | ({} if entropy is None else {"exact": entropy}),
            "within_mode_std": {"value": float(found.within_mode_std), "exact": 1.0},
            "mode_weight_kl": {
                "value": float(found.mode_weight_kl),
                "floor": (mixture.weights.size - 1) / (2 * x.shape[0]),
            },
        }
    size = min(len(x), MOST)
    true = np.asarray(draw_many(dataset, dataset.load(), key, 2 * REFERENCES * size)).reshape(
        2, REFERENCES, size, *x.shape[1:]
    )
    mine = np.asarray(x)[np.arange(REFERENCES * size) % len(x)].reshape(true[0].shape)
    value, floor = (np.mean([w2(a, b) for a, b in zip(sets, true[0], strict=True)]) for sets in (mine, true[1]))
    return {"w2": {"value": float(value), "floor": float(floor), "points": size}}


def described_nfe(nfe: dict[str, float]) -> str:
    if "nfe_max" in nfe:
        return f"{nfe['nfe']:.1f} evaluations of the field a sample on average, {nfe['nfe_max']} at most"
    return f"{nfe['nfe']} evaluations of the field a sample"


def shown_figure(figure: dict[str, float]) -> str:
    text = f"{figure['value']:.4g}" if abs(figure["value"]) < 0.1 else f"{figure['value']:.4f}"
    if "error" in figure:
        text += f" +- {figure['error']:.4f}"
    if "exact" in figure:
        text += f"  (exact: {figure['exact']:.4f})"
    if "floor" in figure:
        size = f"{figure['points']} true points" if "points" in figure else "a true sample of this size"
        text += f"  ({size}: {figure['floor']:.2g})"
    return text


def describe(config: dict[str, Any]) -> str:
    """sampler=em sigma=0.5 and the like, from the config."""
    sampler = config["sampler"]
    diffusion = sampler.get("diffusion")
    words = f"sampler={sampler['name']}"
    return words + (f" diffusion={diffusion['name']} sigma={diffusion['scale']:g}" if diffusion else "")
