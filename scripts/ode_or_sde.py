"""When does it make sense to simulate the SDE? A field with an error, and the exact one, sampled by both at every budget.

    python scripts/ode_or_sde.py [--out docs/pictures/ode_or_sde.png] [--train-steps 300]

A network is stopped long before it is trained. The error is the sliced Wasserstein distance of 20,000 samples from as many
true samples of the 11-component mixture, over 64 directions; the floor is that
between two sets of true samples. After figure 5 of SiT (2401.08740), which shows the crossover on images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffsde import mixtures
from diffsde.cli.main import main as diffsde
from diffsde.datasets.mixture import Ring
from diffsde.fields import Field, OracleField
from diffsde.runs.restore import restore
from diffsde.samplers import Sampler, times
from diffsde.samplers.diffusions import Memoryless, Vanishing
from diffsde.samplers.dpm_solver import DPMSolverPP2MSDE
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import Euler, Heun
from diffsde.samplers.sde import EulerMaruyama
from diffsde.types import Array

BUDGETS = (4, 8, 16, 32, 64, 128, 256, 512)  # evaluations of the field per sample
N, DIRECTIONS, START = 20_000, 64, 1e-3
SAMPLERS: dict[str, Sampler] = {
    "ODE: euler": Euler(),
    "ODE: heun": Heun(),
    "SDE: em, sigma = 2 beta": EulerMaruyama(Vanishing(2.0)),
    "SDE: dpmpp_2m_sde, memoryless": DPMSolverPP2MSDE(Memoryless(1.0)),
}
# A network with a visible error: of targets of one point each, at uniform times.
PLAIN = ["time=uniform", "batch_size=1000", "posterior_points=0", "net.activation=silu", "net.space_frequencies=8"]
COLOURS = ("#1f5fa8", "#6fa8dc", "#c0392b", "#e59866")


@jax.jit
def sliced_w2(a: Array, b: Array) -> Array:
    """Sliced 2-Wasserstein distance of two sets of as many points: rms difference of the sorted projections."""
    angles = jnp.pi * jnp.arange(DIRECTIONS) / DIRECTIONS
    directions = jnp.stack([jnp.cos(angles), jnp.sin(angles)])
    return jnp.sqrt(jnp.mean((jnp.sort(a @ directions, axis=0) - jnp.sort(b @ directions, axis=0)) ** 2))


@jax.jit
def end(sampler: Sampler, field: Field, at: Array, steps: Array, key: Array) -> Array:
    """N points after `steps` steps over the first steps + 1 times, the last without its noise; one program for every number."""
    key_prior, key_noise = jax.random.split(key)
    x = field.path.beta(at[0]) * jax.random.normal(key_prior, (N, 2))

    def step(j: Array, state: Any, noisy: bool = True) -> Any:
        t, h, keys = at[j], at[j + 1] - at[j], jax.random.split(jax.random.fold_in(key_noise, j), N)
        return jax.vmap(lambda x, key: sampler.step(field, x, t, h, key if noisy else None))(state, keys)

    state = jax.lax.fori_loop(0, steps - 1, step, jax.vmap(sampler.start)(x))
    return jax.vmap(sampler.point)(step(steps - 1, state, noisy=False))


def curve(sampler: Sampler, field: Field, truth: Array) -> list[float]:
    """The error at each budget."""
    errors = []
    for budget in BUDGETS:
        steps = budget // sampler.evaluations
        at = jnp.pad(times(UniformGrid(START), steps, field.path), (0, BUDGETS[-1] - steps))
        errors.append(float(sliced_w2(end(sampler, field, at, jnp.asarray(steps), jax.random.key(0)), truth)))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/ode_or_sde.png"))
    parser.add_argument("--train-steps", type=int, default=300)
    chosen = parser.parse_args()
    law = Ring().mixture()
    truth, other = (mixtures.sample(law, jax.random.key(seed), N) for seed in (10, 11))
    floor = float(sliced_w2(truth, other))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if status := diffsde(["train", "path=ot", f"steps={chosen.train_steps}", *PLAIN, f"hydra.run.dir={run}"]):
            raise SystemExit(status)
        _, learned, _ = restore(run)
    fields: dict[str, Field] = {
        f"network after {chosen.train_steps} steps": learned,
        "exact field": OracleField(learned.path, law, (2,)),
    }

    print(
        "| field | sampler |" + "".join(f" {budget} |" for budget in BUDGETS) + f"\n|---|---|{'---:|' * len(BUDGETS)}"
    )
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (title, field) in zip(panels, fields.items(), strict=True):
        for (name, sampler), colour in zip(SAMPLERS.items(), COLOURS, strict=True):
            errors = curve(sampler, field, truth)
            print(f"| {title} | {name} |" + "".join(f" {error:.3f} |" for error in errors), flush=True)
            panel.plot(BUDGETS, errors, marker="o", markersize=4, color=colour, label=name)
        panel.axhline(floor, color="#888888", linestyle="--", linewidth=1, label="two true samples")
        panel.set(title=title, xlabel="evaluations of the field per sample", xscale="log", yscale="log")
        panel.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("sliced Wasserstein distance from the data")
    panels[1].legend(frameon=False)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chosen.out, dpi=110)
    print(f"\nfloor, between two true samples: {floor:.3f}; picture: {chosen.out}")


if __name__ == "__main__":
    main()
