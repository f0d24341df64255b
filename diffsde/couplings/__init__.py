"""Couplings: how the points of a batch's two ends, source y and data z, are paired."""

from diffsde.couplings.coupling import BatchCoupling, Coupling, Plan, plan_in_batches
from diffsde.couplings.methods import COUPLINGS, Independent, OptimalTransport, Sinkhorn, Unbalanced
from diffsde.couplings.pairs import FilePairs, IteratedPairs, PairCoupling, RunPairs

__all__ = [
    "COUPLINGS",
    "BatchCoupling",
    "Coupling",
    "FilePairs",
    "Independent",
    "IteratedPairs",
    "OptimalTransport",
    "PairCoupling",
    "Plan",
    "RunPairs",
    "Sinkhorn",
    "Unbalanced",
    "plan_in_batches",
]
