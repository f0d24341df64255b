"""The Sinkhorn divergence: entropic optimal transport between two samples, without its bias."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diffsde.types import Array, Scalar

ANNEALING = 0.5  # what the regularisation is multiplied by from an iteration to the next, down to its end
CHANGE = 1e-2  # of the potentials by an iteration, in units of the regularisation, at which they are done
MOST = 100  # iterations; the value is off by the square of what is left


@jax.jit
def sinkhorn_divergence(x: Array, y: Array, epsilon: Scalar) -> Scalar:
    """S = OT(x, y) - OT(x, x)/2 - OT(y, y)/2 of samples (n, d) (1810.08278), where OT = min over plans P of
    sum P |x - y|^2 + epsilon KL(P | uniform). 0 for equal sets, and towards W2^2 as epsilon -> 0.
    """
    return _entropic(x, y, epsilon) - (_entropic(x, x, epsilon) + _entropic(y, y, epsilon)) / 2


def _entropic(x: Array, y: Array, epsilon: Scalar) -> Scalar:
    """OT by Sinkhorn's iterations on the potentials, averaged at each (so that equal sets keep equal ones), with annealing."""
    costs = jnp.sum((x[:, None] - y) ** 2, axis=-1)

    def soft(potential: Array, costs: Array, eps: Scalar) -> Array:
        """-eps log mean_j exp((potential_j - C_ij)/eps)."""
        return -eps * (jax.scipy.special.logsumexp((potential - costs) / eps, axis=1) - jnp.log(costs.shape[1]))

    def body(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        i, f, g, _ = state
        eps = jnp.maximum(jnp.max(costs) * ANNEALING**i, epsilon)
        moved = (f + soft(g, costs, eps)) / 2, (g + soft(f, costs.T, eps)) / 2
        return i + 1, *moved, jnp.where(eps > epsilon, jnp.inf, jnp.max(jnp.abs(moved[0] - f)))

    def more(state: tuple[Array, Array, Array, Array]) -> Array:
        return (state[0] < MOST) & (state[3] > CHANGE * epsilon)

    start = jnp.asarray(0), jnp.zeros(len(x)), jnp.zeros(len(y)), jnp.asarray(jnp.inf)
    _, f, g, _ = jax.lax.while_loop(more, body, start)
    f = soft(g, costs, epsilon)  # now the plan's second marginal is exact
    return jnp.mean(f) + jnp.mean(soft(f, costs.T, epsilon))
