"""How accurate the ODE's log-likelihood is, and whether its error bars cover: the figures in docs/evaluating.md.

Run: python scripts/likelihood_accuracy.py. First the largest error of log p over 64 points of a mixture of three components with full
covariances, by the exact field on the path ot in float64, against the closed form. Then how many of 20 seeds have the true KL
within two standard errors of `kl`, as `evaluate` finds it in float32: of the exact field, whose KL is 0, and of that of another Gaussian.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import mixtures
from diffsde.datasets import DATASETS, Dataset
from diffsde.datasets.mixture import Gaussian
from diffsde.evaluation.likelihood import Likelihood
from diffsde.evaluation.metric import Subject
from diffsde.fields import OracleField
from diffsde.likelihood import SOLVERS, log_likelihood_compiled
from diffsde.paths import OT
from diffsde.samplers import GRIDS, times

DIMENSIONS, STEPS, POINTS, SEEDS = range(1, 11), (50, 100, 200, 400), 64, 20


def largest_error(dimension: int, steps: int, seed: int = 0) -> float:
    """The largest |log p - exact| over the points, by RK4 on the quadratic grid."""
    keys = jax.random.split(jax.random.key(seed), 3)
    factors = jax.random.normal(keys[0], (3, dimension, dimension)) / math.sqrt(dimension)
    covariances = factors @ factors.swapaxes(1, 2) + 0.2 * jnp.eye(dimension)
    means = 2 * jax.random.normal(keys[1], (3, dimension))
    mixture = mixtures.with_covariances(means, covariances, jnp.array([0.5, 0.3, 0.2]))
    x = mixtures.sample(mixture, keys[2], POINTS)
    field = OracleField(OT(), mixture, (dimension,))
    at = times(GRIDS["quadratic"](), steps, field.path)
    found = log_likelihood_compiled(SOLVERS["rk4"](), field, x, at, keys[0]).log_p
    exact = jax.vmap(lambda x: mixtures.log_prob(mixture, x))(x)
    return float(np.abs(np.asarray(found) - np.asarray(exact)).max())


def covered(data: Dataset, other: Dataset, true: float) -> tuple[int, float, float]:
    """Of the seeds, how many kl are within two errors of the true one; and the means of kl and of its error."""
    found = []
    for seed in range(SEEDS):
        subject = Subject(data, other.exact_field(OT()))
        found.append(Likelihood().measure(subject, jax.random.key(seed)).figures["kl"])
    within = sum(abs(each.value - true) <= 2 * float(each.error or 0) for each in found)
    return (
        within,
        float(np.mean([each.value for each in found])),
        float(np.mean([float(each.error or 0) for each in found])),
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    print("largest error of log p, float64, by the steps of rk4:", *STEPS, sep=" | ")
    for dimension in DIMENSIONS:
        print(dimension, *(f"{largest_error(dimension, steps):.1e}" for steps in STEPS), sep=" | ", flush=True)
    jax.config.update("jax_enable_x64", False)
    gmm, plain = DATASETS["gmm"](), Gaussian(mean=(0.0, 0.0), std=1.0)
    print("exact field of gmm, KL 0:", *covered(gmm, gmm, 0.0), sep=" | ", flush=True)
    mean, std = 0.3, 1.1
    true = 1 / std**2 - 1 + mean**2 / (2 * std**2) + 2 * math.log(std)
    other = Gaussian(mean=(mean, 0.0), std=std)
    print(
        f"N(0, I) against N(({mean}, 0), {std}^2 I), KL {true:.5f}:",
        *covered(plain, other, true),
        sep=" | ",
        flush=True,
    )


if __name__ == "__main__":
    main()
