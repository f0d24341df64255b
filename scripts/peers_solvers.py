"""Our few-step solvers beside those of diffusers on the exact field of the 11-component mixture, the same times, the same points.

    python scripts/peers_solvers.py [--paths ot vp edm cosine] [--steps 5 10 20 40]      (pip install diffusers torch==2.13.0)

500 points, uniform times from 0.001 to 0.999, float64; rms distance from the exact map (RK4, 4000 steps in log SNR). Of a peer
two figures: as it comes (lower_order_final=True: its last steps are of lower order) and without (its last step like all
others); in brackets ours over the better of the two. diffusers' schedulers are told alpha and beta at each time by a subclass
whose _sigma_to_alpha_sigma_t looks them up by beta/alpha; on ot that gives what their own use_flow_sigmas gives (checked).
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  # after the precision is chosen
import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)

from diffsde.datasets.mixture import Ring  # noqa: E402
from diffsde.fields import OracleField  # noqa: E402
from diffsde.paths import PATHS  # noqa: E402
from diffsde.samplers import SAMPLERS, Sampler, simulate_compiled, times  # noqa: E402
from diffsde.samplers.grids import LogSNRGrid, UniformGrid  # noqa: E402
from diffsde.samplers.ode import RK4  # noqa: E402
from diffsde.samplers.unipc import UniPC  # noqa: E402
from diffsde.types import Array  # noqa: E402

START, END, POINTS, FINE = 0.001, 0.999, 500, 4000
MIN = {"final_sigmas_type": "sigma_min"}  # the last time is END, not one without noise
PEERS: dict[str, tuple[Any, dict[str, Any], Sampler]] = {
    "UniPC 2, bh2": (UniPCMultistepScheduler, {"solver_order": 2, "solver_type": "bh2", **MIN}, SAMPLERS["unipc"]()),
    "UniPC 2, bh2, beside our bh2": (
        UniPCMultistepScheduler,
        {"solver_order": 2, "solver_type": "bh2", **MIN},
        UniPC("bh2"),
    ),
    "DEIS 2": (DEISMultistepScheduler, {"solver_order": 2}, SAMPLERS["deis2"]()),
    "DEIS 3": (DEISMultistepScheduler, {"solver_order": 3}, SAMPLERS["deis3"]()),
    "DPM++ 3M": (DPMSolverMultistepScheduler, {"solver_order": 3, **MIN}, SAMPLERS["dpmpp_3m"]()),
    "DPM++ 2M": (DPMSolverMultistepScheduler, {"solver_order": 2, **MIN}, SAMPLERS["dpmpp_2m"]()),
}


def on_path(kind: Any, alpha: np.ndarray, beta: np.ndarray, native: bool = False, **options: Any) -> Any:
    """A scheduler for the times at which a path has alpha and beta (steps + 1,); native: on ot by its own use_flow_sigmas."""
    rho = torch.tensor(beta / alpha)
    levels = {float(r): (torch.tensor(a), torch.tensor(b)) for r, a, b in zip(rho, alpha, beta, strict=True)}

    class OnPath(kind):
        def _sigma_to_alpha_sigma_t(self, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return levels[float(sigma)]

    steps = len(alpha) - 1
    scheduler = (kind if native else OnPath)(prediction_type="sample", use_flow_sigmas=native, **options)
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor(beta) if native else rho
    scheduler.timesteps = torch.arange(steps)
    scheduler.num_inference_steps = steps
    scheduler.set_begin_index(0)
    return scheduler


def peers_end(scheduler: Any, field: OracleField, at: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Where a scheduler takes the points."""
    for step, t in zip(scheduler.timesteps, at, strict=False):
        z = np.asarray(predicted(field, jnp.asarray(x), jnp.asarray(t)))
        x = scheduler.step(torch.tensor(z), step, torch.tensor(x)).prev_sample.numpy()
    return x


@jax.jit
def predicted(field: OracleField, x: Array, t: Array) -> Array:
    return jax.vmap(lambda x: field.data(x, t))(x)


def row(name: str, path_name: str, steps: list[int]) -> str:
    """A row of the table."""
    kind, options, ours = PEERS[name]
    path = PATHS[path_name]()
    field = OracleField(path, Ring().mixture(), (2,))
    x = float(path.beta(jnp.asarray(START))) * np.asarray(jax.random.normal(jax.random.key(0), (POINTS, 2)))

    def end(sampler: Sampler, at: Array, length: int) -> np.ndarray:
        padded = jnp.pad(at, (0, length - len(at)))
        return np.asarray(
            simulate_compiled(
                sampler, field, jnp.asarray(x), padded, jax.random.key(0), steps=jnp.asarray(len(at) - 1)
            ).x
        )

    truth = end(RK4(), times(LogSNRGrid(START, END, -20, 20), FINE, path), FINE + 1)

    def error(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.sum((found - truth) ** 2, axis=-1))))

    cells = []
    for count in steps:
        at = times(UniformGrid(START, END), count, path)
        alpha, beta = (
            np.broadcast_to(np.asarray(f(at), float), at.shape).copy()
            for f in (jax.vmap(path.alpha), jax.vmap(path.beta))
        )
        theirs = []
        for lower in (True, False):
            scheduler = on_path(kind, alpha, beta, lower_order_final=lower, **options)
            theirs.append(error(peers_end(scheduler, field, np.asarray(at), x)))
            if path_name == "ot":
                native = on_path(kind, alpha, beta, native=True, lower_order_final=lower, **options)
                assert abs(error(peers_end(native, field, np.asarray(at), x)) / theirs[-1] - 1) < 1e-9
        own = error(end(ours, at, max(steps) + 1))
        cells.append(f"{own:.4g}, {theirs[0]:.4g} or {theirs[1]:.4g} ({own / min(theirs):.2f})")
    return f"| {path_name} | {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", nargs="+", default=["ot", "vp", "edm", "cosine"])
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 40])
    asked = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    print(f"diffusers {version('diffusers')}, torch {version('torch')}, jax {version('jax')}\n")
    print("| path | theirs | " + " | ".join(map(str, asked.steps)) + " |\n|---|---|" + "---|" * len(asked.steps))
    for path in asked.paths:
        for name in PEERS:
            print(row(name, path, asked.steps), flush=True)


if __name__ == "__main__":
    main()
