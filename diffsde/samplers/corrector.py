"""Langevin dynamics at fixed t: dX = (sigma^2/2) grad log p_t dt + sigma dW, which leaves p_t invariant."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.samplers.diffusions import Constant, Diffusion
from diffsde.samplers.sampler import Noise, Sampler, gaussian, split_key
from diffsde.samplers.sde import ReverseDiffusion
from diffsde.types import Array, Scalar, choice

NORMS = ("sample", "dimension")


def langevin(score: Array, x: Array, size: Scalar, key: Noise) -> Array:
    """One unadjusted Langevin step of size `size`: x + size s + sqrt(2 size) xi, all of shape (*shape,)."""
    return x + size * score + jnp.sqrt(2 * size) * gaussian(key, x)


@choice
class PredictorCorrector(Sampler):
    """A predictor's step to t + h, then `corrections` Langevin steps at t + h (2011.13456, algorithm 1).

    norm sets the size of a Langevin step. `sample`: 2 (snr |xi|/|s|)^2, with the norms of the sample itself (algorithms 4
    and 5 average the norms over the batch, which would make a sample depend on its neighbours). `dimension`: 2 (snr beta)^2,
    the same for the average norms. Take `sample` in many dimensions only: in few, |s| is often near 0, and the step is then
    far too long. No correction where beta = 0.
    No order: the bias of a Langevin step depends on the step's own size, which more steps do not reduce.
    """

    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True
    evaluates_end: ClassVar[bool] = True

    predictor: Sampler = dataclasses.field(default_factory=ReverseDiffusion)
    corrections: int = 1
    snr: float = 0.16
    norm: str = "dimension"

    def check(self) -> None:
        if type(self.predictor).start is not Sampler.start:
            raise ValueError("the predictor must be a method without memory, e.g. reverse_diffusion, em or heun")

    @property
    def evaluations(self) -> int:  # type: ignore[override]  # of the predictor and the corrections together
        return self.predictor.evaluations + self.corrections

    @property
    def draws(self) -> int:
        return 1 + self.corrections

    def nfe(self, steps: int, last: str) -> int:
        return Sampler.nfe(self, steps, last) - (self.corrections if last == "mean" else 0)  # none without noise

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        keys = split_key(key, self.corrections + 1)
        x = self.predictor.step(field, x, t, h, keys[0])
        beta = jnp.asarray(coefficients(field.path, t + h).beta)
        safe = jnp.where(beta > 0, t + h, t)
        for part in keys[1:] if key is not None else []:
            score = field.score(x, safe)
            noise = jnp.linalg.norm(gaussian(part, x).ravel())
            ratio = noise / jnp.linalg.norm(score.ravel()) if self.norm == "sample" else beta
            x = jnp.where(beta > 0, langevin(score, x, 2 * (self.snr * ratio) ** 2, part), x)
        return x


@choice
class AnnealedLangevin(Sampler):
    """`corrections` Langevin steps of size step_size beta^2 at t, then x alpha'/alpha at t + h (1907.05600, algorithm 1).

    In the paper alpha = 1, and nothing is rescaled. No order: the method is exact only in the limit of many corrections.
    Start where alpha > 0.
    """

    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True
    evaluates_end: ClassVar[bool] = False

    corrections: int = 10
    step_size: float = 0.1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return self.corrections

    @property
    def draws(self) -> int:
        return self.corrections

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        for part in split_key(key, self.corrections):
            x = langevin(field.score(x, t), x, self.step_size * c.beta**2, part)
        return x * (end.alpha / c.alpha)


@choice
class Langevin(Sampler):
    """The SDE up to t = freeze, then Langevin dynamics at p_freeze: dX = (sigma^2/2) s(X, freeze) dt + sigma dW.

    The steps after `freeze` leave the law p_freeze invariant. Weak order 1 up to `freeze`.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    coupled: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False

    diffusion: Diffusion = dataclasses.field(default_factory=Constant)
    freeze: float = 0.9

    @property
    def needs(self) -> str:
        return "score"

    def step(self, field: Field, x: Array, t: Scalar, h: Scalar, key: Noise) -> Array:
        at = jnp.minimum(t, self.freeze)
        sigma, known = self.diffusion.sigma_at(at, coefficients(field.path, at)), field.output(x, at)
        assert known.score is not None
        flow = jnp.where(t < self.freeze, known.velocity, 0.0)
        return langevin(known.score, x, sigma**2 * h / 2, key) + h * flow
