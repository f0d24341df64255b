"""DEIS (2204.13902) and iPNDM: multistep methods on E[eps|x], x'/alpha' = x/alpha + integral of E[eps|x] drho, rho = beta/alpha."""

from __future__ import annotations

import abc
from typing import ClassVar

import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.paths import GaussianPath, coefficients, log_snr
from diffsde.samplers.multistep import Memory, Multistep, advance, first_correction, weights
from diffsde.samplers.sampler import Noise
from diffsde.samplers.step_moments import exponential_moments, falling_moments
from diffsde.types import Array, Coefficients, Scalar, choice

VARIABLES = ("auto", "t", "log_rho", "rho")
# Largest ratios of the widths of two steps, in the polynomial's variable, at which two and three values are used, by
# scripts/choose_polynomials.py.
MOST_WIDER = {"t": (jnp.inf, 1.5), "log_rho": (3.0, 3.0), "rho": (jnp.inf, 1.5)}


class NoisePolynomial(Multistep):
    """x' = alpha' D + beta' eps + alpha' (integral of the polynomial of eps, less the integral of constant eps).

    rho = beta/alpha is infinite where alpha = 0: a first step from there takes eps constant.
    """

    def step(self, field: Field, x: Memory, t: Scalar, h: Scalar, key: Noise) -> Memory:
        c, end = coefficients(field.path, t), coefficients(field.path, t + h)
        known = field.output(x.x, t)
        w1, w2 = (jnp.where(x.known > 0, w, 0.0) for w in self.differences(field.path, x, t, h))
        change = w1 * (x.values[0] - known.noise) + w2 * (x.values[1] - known.noise)
        # the division inside, since alpha may be 0 before the first step
        late = jnp.where(x.known == 1, self.late(field.path, x, t, c, known.noise) / c.alpha, 0.0)
        known_end = end.alpha * (known.data + change + late) + end.beta * known.noise
        return advance(x, known_end, known.noise, t)

    def late(self, path: GaussianPath, x: Memory, t: Scalar, c: Coefficients, noise: Array) -> Array:
        """The correction of the first step (*shape,). It took E[z|x] constant: from its start to t, E[z|x] changes by rho (eps - eps')."""
        return first_correction(path, x.places[0], t, c.beta / c.alpha * (x.values[0] - noise))

    @abc.abstractmethod
    def differences(self, path: GaussianPath, x: Memory, t: Scalar, h: Scalar) -> tuple[Scalar, Scalar]:
        """Weights of the differences of the two remembered values from the new one; of no meaning before the second step."""


class DEIS(NoisePolynomial):
    """DEIS: eps a polynomial in the variable that is chosen.

    variable: t (tAB, the weight drho integrated by 16 Gauss-Legendre nodes), log_rho, rho (rho-AB), or auto: t, but log_rho
    over a step in which alpha does not change, as on `ve` and `edm`, where t but names the noise level.
    """

    variable: str

    def differences(self, path: GaussianPath, x: Memory, t: Scalar, h: Scalar) -> tuple[Scalar, Scalar]:
        if self.variable != "auto":
            return limited(self.variable, self.order, path, x, t, h)
        still = path.alpha(t + h) == path.alpha(t)
        a, b = (limited(variable, self.order, path, x, t, h) for variable in ("log_rho", "t"))
        return jnp.where(still, a[0], b[0]), jnp.where(still, a[1], b[1])


def limited(variable: str, order: int, path: GaussianPath, x: Memory, t: Scalar, h: Scalar) -> tuple[Scalar, Scalar]:
    """Weights of the remembered values in the integral of their polynomial in this variable, fewer of them where steps widen."""
    place, before, older, after = (place_in(variable, path, r) for r in (t, x.places[0], x.places[1], t + h))
    width, last, earlier = after - place, place - before, before - older
    two, three = MOST_WIDER[variable]
    points = jnp.where(jnp.maximum(width / last, last / earlier) <= three, 3, jnp.where(width / last <= two, 2, 1))
    moments = (jnp.zeros_like(h), *moments_in(variable, path, t, h, place, after))
    return weights(moments, -last, -last - earlier, jnp.minimum(points, jnp.minimum(order, x.known + 1)))[1:]


def place_in(variable: str, path: GaussianPath, t: Scalar) -> Scalar:
    """The variable's value at t."""
    if variable == "t":
        return t
    return log_snr(path, t) if variable == "log_rho" else path.beta(t) / path.alpha(t)


def moments_in(
    variable: str, path: GaussianPath, t: Scalar, h: Scalar, place: Scalar, after: Scalar
) -> tuple[Scalar, Scalar]:
    """Integrals over the step of (s - place)^i drho, i = 1, 2, s the variable."""
    if variable == "t":
        return falling_moments(path, t, h)
    d = after - place
    if variable == "rho":
        return d**2 / 2, d**3 / 3
    m0, m1, m2 = exponential_moments(d)  # of e^(r - d) r^i, r = d - (s - place): drho = -rho ds and rho falls as e^-s
    rho = path.beta(t) / path.alpha(t)
    return -rho * (d * m0 - m1), -rho * (d**2 * m0 - 2 * d * m1 + m2)


@choice
class DEIS2(DEIS):
    """DEIS of order 2 (2204.13902): eps linear in the variable. Order 2."""

    order: ClassVar[int] = 2

    variable: str = "auto"


@choice
class DEIS3(DEIS):
    """DEIS of order 3 (2204.13902): eps quadratic in the variable. Order 3."""

    order: ClassVar[int] = 3

    variable: str = "auto"


@choice
class IPNDM(NoisePolynomial):
    """iPNDM (2202.09778; 2204.13902, section 4): the DDIM step with eps from the classical Adams-Bashforth weights 23/12, -4/3, 5/12.

    The weights are those for equal steps in rho, whatever the steps are. Order 2 on grids whose steps vary smoothly.
    """

    order: ClassVar[int] = 2

    def differences(self, path: GaussianPath, x: Memory, t: Scalar, h: Scalar) -> tuple[Scalar, Scalar]:
        d = path.beta(t + h) / path.alpha(t + h) - path.beta(t) / path.alpha(t)
        three = x.known >= 2
        newer, older = jnp.where(three, 4 / 3 - 5 / 12, 0.5), jnp.where(three, -5 / 12, 0.0)
        return d * (older - newer), -d * older

    def late(self, path: GaussianPath, x: Memory, t: Scalar, c: Coefficients, noise: Array) -> Array:
        return jnp.zeros_like(noise)
