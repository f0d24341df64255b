"""How near posterior samples come to the exact posterior of the 11-component mixture, of which one coordinate is measured.

    python scripts/inverse_table.py [--noise 2 0.5 0.1] [--steps 50 200] [--truths 16] [--samples 128]

The mean over the truths of: total variation of the mode weights from the exact ones; W2 from exact samples, beside that
between two exact sets; calibration and misfit as `diffsde sample` gives them. Exact field, path ot, uniform grid.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import Ring
from diffsde.evaluation.reconstruction import reconstruction_figures
from diffsde.fields import OracleField
from diffsde.inverse.measurements import Linear
from diffsde.inverse.posteriors import DPS, MMPS, Exact, Posterior
from diffsde.inverse.problem import InverseProblem, law, pose
from diffsde.metrics.figures import Figure
from diffsde.paths import PATHS
from diffsde.samplers import Sampler, simulate_compiled, times
from diffsde.samplers.diffusions import Vanishing
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.ode import Heun
from diffsde.samplers.sde import EulerMaruyama
from diffsde.stability import likelihood_instability
from diffsde.types import Array

POSTERIORS: dict[str, Posterior] = {"exact": Exact(), "mmps": MMPS(), "dps": DPS()}
SAMPLERS: dict[str, Sampler] = {"heun": Heun(), "em vanishing": EulerMaruyama(Vanishing(1.0))}


def mode_distance(problem: InverseProblem, x: Array) -> float:
    """Total variation of the mode weights from the exact ones, the mean over the measurements."""
    k, found = len(problem.truth), []
    for i in range(k):
        exact = law(problem, Ring(), i)
        assert exact is not None
        share = jax.vmap(lambda x, exact=exact: mixtures.responsibilities(exact, x))(x[i::k]).mean(axis=0)
        found.append(float(jnp.abs(share - exact.weights).sum() / 2))
    return float(np.mean(found))


def beside(figure: Figure) -> tuple[float, float]:
    """The value, and what it is held against."""
    assert figure.reference is not None
    return figure.value, figure.reference.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[2.0, 0.5, 0.1])
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--truths", type=int, default=16)
    parser.add_argument("--samples", type=int, default=128)
    chosen = parser.parse_args()
    prior = OracleField(PATHS["ot"](), Ring().mixture(), (2,))
    n = chosen.truths * chosen.samples
    x0 = jax.random.normal(jax.random.key(1), (n, 2))
    print("noise steps sampler      posterior  modes TV  W2 (floor)     calibration  misfit (truth)  warned of")
    moments = Ring().moments(Ring().load(), jax.random.key(3))
    for noise in chosen.noise:
        problem = pose(
            Linear(matrix=((1.0, 0.0),), noise=noise), None, chosen.truths, Ring(), moments, jax.random.key(0)
        )
        for name, sampler in SAMPLERS.items():
            for steps in chosen.steps:
                for which, posterior in POSTERIORS.items():
                    field = posterior.field(prior, problem.operator, noise, problem.y[0])
                    grid = times(UniformGrid(), steps, prior.path)
                    warned = likelihood_instability(sampler, field, grid, "mean", 51.0)
                    x = simulate_compiled(sampler, field, x0, grid, jax.random.key(2), condition=problem.condition(n)).x
                    head = f"{noise:<5g} {steps:<5} {name:<12} {which:<9} "
                    bad = int((~(jnp.abs(x) < 1e3)).any(axis=1).sum())
                    if bad:
                        print(
                            f"{head}  {bad} of {n} samples are NaN or beyond 1000   {'yes' if warned else 'no'}",
                            flush=True,
                        )
                        continue
                    found = reconstruction_figures(problem, x, Ring(), jax.random.key(3))
                    (w2, floor), (misfit, truth) = (beside(found[name]) for name in ("w2", "misfit"))
                    print(
                        f"{head}  {mode_distance(problem, x):.3f}     {w2:.2f} ({floor:.2f})"
                        f"    {found['calibration'].value:.3f}        {misfit:.2f} ({truth:.2f})"
                        f"     {'yes' if warned else 'no'}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
