"""The generative SDE of a field and a diffusion as a process: dX = [u + sigma_t^2/2 s] dt + sigma_t dW."""

from __future__ import annotations

import dataclasses
from functools import partial

from diffsde.fields import Field
from diffsde.paths import coefficients
from diffsde.processes import Process
from diffsde.samplers.diffusions import Diffusion
from diffsde.types import Array, Scalar, register


@partial(register, static=[])
@dataclasses.dataclass(frozen=True)
class GenerativeProcess(Process):
    """dX = [u_t(X) + sigma_t^2/2 grad log p_t(X)] dt + sigma_t dW, whose marginals are the field's p_t for every sigma_t."""

    field: Field
    diffusion: Diffusion

    def at(self, x: Array, t: Scalar) -> tuple[Array, Scalar]:
        sigma, known = self.diffusion_at(x, t), self.field.output(x, t)
        assert known.score is not None  # samplers/sampler.py: `needs`
        return known.velocity + sigma**2 / 2 * known.score, sigma

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return self.at(x, t)[0]

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return self.diffusion.sigma_at(t, coefficients(self.field.path, t))


def process_of(field: Field | Process, diffusion: Diffusion) -> Process:
    """The process that an SDE sampler steps: the one that it is given, or the generative one of a field with its own diffusion."""
    return field if isinstance(field, Process) else GenerativeProcess(field, diffusion)
