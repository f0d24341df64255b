"""What objective=likelihood is for a discrete flow, whose likelihood takes no ODE."""

from __future__ import annotations

from typing import Any

from diffsde.discrete_flow import DiscreteFlow
from diffsde.objectives.objective import Draw, Objective, Problem
from diffsde.types import Scalar, choice


@choice
class DiscreteLikelihood(Objective):
    """likelihood: E[-log p_theta(z)]/d in nats, of a discrete flow (net=realnvp or spline), by the change of variables
    log p_theta(z) = log N(f(z); 0, I) + log |det df/dz|.
    """


def discrete_loss(problem: Problem, params: Any, sample: Draw) -> Scalar:
    """-log p_theta(z)/d in nats, (), for one example."""
    flow = DiscreteFlow(params, problem.moments, problem.graph, label=sample.label)
    return -flow.log_prob(sample.z) / sample.z.size
