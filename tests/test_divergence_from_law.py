"""The KL divergence that `train` prints, of fields whose law is known; the regret, of networks whose loss is known."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import DATA, made

from diffsde.cli.main import main
from diffsde.datasets import CustomMixture, Ring
from diffsde.evaluation.kl import is_available, kl_from_law
from diffsde.fields import OracleField
from diffsde.objectives import irreducible, loss
from diffsde.paths import OT, VP
from diffsde.runs import clock
from diffsde.stability import UntrainedField
from diffsde.training import examples, regret
from diffsde.types import Moments


def between_gaussians(mean: np.ndarray, std: float, other_mean: np.ndarray, other_std: float) -> float:
    """KL(N(mean, std^2 I) || N(other_mean, other_std^2 I)) in nats, over the coordinates."""
    ratio = (std / other_std) ** 2
    return float(len(mean) * (ratio - 1 - np.log(ratio)) / 2 + np.sum((mean - other_mean) ** 2) / (2 * other_std**2))


@pytest.mark.parametrize("path", [OT(), VP()], ids=["ot", "vp"])
def test_kl_of_a_gaussian_field(path: OT | VP) -> None:
    """A preconditioned network of output 0 is the field of N(mean, std^2 I), whatever p is."""
    field = UntrainedField(path, Moments(jnp.array([0.8, -2.0]), jnp.asarray(0.6)), "velocity", True)
    clock.begin()
    found = kl_from_law(field, DATA, jax.random.key(0))
    assert clock.parts()["compiling"] > 0  # and not given to the figures
    exact = between_gaussians(np.array([1.0, -2.0]), 0.5, np.array([0.8, -2.0]), 0.6)
    assert found is not None
    assert abs(found.value - exact) < 4 * found.error < 0.05


def test_kl_given_labels() -> None:
    """Of a field that is given labels: the mean of the KL divergences of its laws given each."""
    law = CustomMixture(means=((-2.0, 0.0), (2.0, 1.0)), stds=(0.5, 1.0), conditional=True)
    other = CustomMixture(means=((-2.3, 0.0), (2.0, 0.6)), stds=(0.6, 0.9)).mixture()
    found = kl_from_law(OracleField(OT(), other, (2,)), law, jax.random.key(1))
    exact = [
        between_gaussians(np.array([-2.0, 0.0]), 0.5, np.array([-2.3, 0.0]), 0.6),
        between_gaussians(np.array([2.0, 1.0]), 1.0, np.array([2.0, 0.6]), 0.9),
    ]
    assert found is not None and abs(found.value - np.mean(exact)) < 4 * found.error < 0.06


def test_the_solvers_error_is_in_the_figures() -> None:
    """Of the exact field every log p is exact, so that the solver's steps are all there is."""
    ring = Ring()
    found = kl_from_law(OracleField(OT(), ring.mixture(), (2,)), ring, jax.random.key(2))
    assert found is not None and abs(found.value) < 2 * found.error < 0.005


def test_where_there_is_one() -> None:
    assert is_available(Ring(), 1000) and not is_available(Ring(), 999)
    assert not is_available(CustomMixture(means=((0.0,) * 17, (1.0,) * 17)), 5000)


def test_regret_of_the_exact_field_is_0() -> None:
    """Preconditioned, the exact field of a Gaussian is an output of 0."""
    run, params = made()
    exact = {name: leaf * 0 if name.startswith("layers/1/") else leaf for name, leaf in params.items()}
    assert float(regret(run, run.arrays, exact, jax.random.key(3), 512)) < 1e-9
    assert float(regret(run, run.arrays, params, jax.random.key(3), 512)) > 0.01


def test_regret_is_the_expected_loss_less_its_floor() -> None:
    run, params = made()
    key, count = jax.random.key(4), 2**15
    found = float(regret(run, run.arrays, params, key, count))
    batch = examples(run, key, count)
    above = jax.jit(jax.vmap(lambda one: loss(run.problem, params, one) - irreducible(run.problem, run.arrays, one)))(
        batch
    )
    assert abs(float(jnp.mean(above)) - found) < 4 * float(jnp.std(above)) / count**0.5 < found


@pytest.mark.slow
def test_train_prints_what_the_summary_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The row of a run of 1000 steps, the figure in summary.json, and a regret in every line of the log, that falls."""
    words = ["dataset=mixture", "net.widths=[16]", "steps=1000", "batch_size=64", f"hydra.run.dir={tmp_path}"]
    assert main(["train", *words]) == 0
    kl = json.loads((tmp_path / "summary.json").read_text())["kl"]
    row = next(line for line in capsys.readouterr().out.splitlines() if "KL(p || p_theta)" in line)
    assert f"{kl['value']:.4f} +- {kl['error']:.4f} nats (2,000 points)" in row
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    regrets = [line["regret"] for line in lines]
    assert len(regrets) == 10 and 0 < regrets[-1] < regrets[0] / 2
