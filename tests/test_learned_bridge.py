"""Learned bridges between two Gaussians against the Schroedinger bridge's closed form: from entropic pairs, and in rounds of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffsde.cli.main import main

GAUSSIANS = [
    "source=gaussian",
    "dataset=gaussian",
    "dataset.mean=[2,0]",
    "dataset.std=[0.5,1.5]",
    "path=bridge",
    "objective=cfm+score",
]
TRAIN = [*GAUSSIANS, "time=uniform", "steps=1500", "batch_size=256", "net.widths=[64,64]", "threads=1", "pictures=none"]
COUPLINGS = {
    "sinkhorn": ["coupling=sinkhorn", "coupling.block=128"],
    "iterated": ["coupling=iterated", "coupling.rounds=5", "coupling.pairs=10000"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUPLINGS)
def test_a_learned_bridge_is_near_the_closed_form(name: str, here: Path) -> None:
    """Of independent pairs the cross-covariance would be off by 0.55; at the ends and between, the law is that of the bridge."""
    assert main(["train", *TRAIN, *COUPLINGS[name], "hydra.run.dir=run"]) == 0
    judged = ["sampler=em", "steps=50", "last=step", "n=10000", "metrics=[bridge]", "threads=1"]
    assert main(["evaluate", "run=run", *judged, "hydra.run.dir=judged"]) == 0
    found = json.loads(Path("judged/summary.json").read_text())["metrics"]
    assert found["cross_covariance_error"]["value"] < 0.06
    assert found["bridge_kl"]["value"] < 0.02 and found["bridge_kl_between"]["value"] < 0.01
