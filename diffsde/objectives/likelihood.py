"""The objective likelihood: the choices of training by -log p."""

from __future__ import annotations

from diffsde.objectives.objective import Objective
from diffsde.types import choice

ADJOINTS = {
    "checkpointed": "backpropagation through the solver's steps, some of them recomputed: the gradient of the computed loss",
    "backsolve": "an ODE backward in time for the gradient (1806.07366): less memory, and an error of the solver's in the gradient",
}


@choice
class Likelihood(Objective):
    """likelihood: E[-log p_theta(z)]/d in nats, of a continuous normalizing flow (1806.07366; FFJORD, 1810.01367) in the field's place.

    log p_theta(z) = log N(x_0; 0, beta_0^2 I) - int_0^1 div u_t(x_t) dt along the ODE dx = u_t(x) dt that ends in z: no x_t of a path
    is regressed on. The ODE is solved from t = 1 to 0 by diffrax, all points of a batch together, by `solver`: in `steps` equal
    steps, or (null) in steps whose error, rms over the batch, stays below atol + rtol |x|.
    adjoint: how the gradient comes about (ADJOINTS). divergence: exact (one derivative per coordinate), or Hutchinson's estimate
    by one probe per point and solve (1810.01367, section 3.1): rademacher, gaussian; auto: exact up to 16 coordinates.
    kinetic, jacobian: weights of the regularisers int |u|^2/d dt and int |du/dx|_F^2/d dt (2002.02798), which make the ODE cheap
    to solve; the latter by the divergence's probe where that is estimated.
    """

    solver: str = "tsit5"
    steps: int | None = None
    rtol: float = 1e-3
    atol: float = 1e-3
    adjoint: str = "checkpointed"
    divergence: str = "auto"
    kinetic: float = 0.0
    jacobian: float = 0.0

    def check(self) -> None:
        """Raise ValueError for a tolerance of fixed steps, and for adaptive steps of a solver without an estimate of its error."""
        if self.steps is not None and (self.rtol, self.atol) != (type(self).rtol, type(self).atol):
            raise ValueError(
                f"rtol and atol are of adaptive steps, and objective.steps is {self.steps}; give one or the other"
            )
        if self.steps is None and self.solver == "euler":
            raise ValueError(
                "objective.solver=euler has no estimate of its error to adapt steps by; give objective.steps=, or another solver"
            )
