"""Pairs that are coupled ahead of the steps: what they are, whatever the timing, and training by them."""

import dataclasses
import os
import signal
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import checkpoints, pairs_ahead
from diffsde.cli.main import main
from diffsde.couplings import BatchCoupling, OptimalTransport, Plan, Sinkhorn, Unbalanced
from diffsde.datasets import Batch, CustomMixture, Gaussian
from diffsde.datasets.fixed import FixedPoints
from diffsde.objectives import Problem
from diffsde.pairs_ahead import PairsAhead, couple_held_out, draw_ends, draw_groups, draw_held_out
from diffsde.paths import OT
from diffsde.runs import training_loop
from diffsde.training import Run
from diffsde.types import choice
from diffsde.verbs.train_pairs import row_of_cost, summary_of_cost

DATA = CustomMixture(means=((3.0, 0.0), (-3.0, 1.0)), stds=(0.5, 0.2), conditional=True)
SOURCE = Gaussian(mean=(0.0, 0.0), std=1.0)


def run_of(coupling: BatchCoupling, seed: int = 0, classes: int = 0) -> Run:
    """A run of 8 examples a step, as far as its pairs go."""
    nothing: Any = None
    problem = Problem(OT(), nothing, nothing, nothing, nothing, True)
    run = Run(problem, DATA, DATA.load(), nothing, jax.random.key(seed), 0, jnp.zeros(1), 8, classes)
    return dataclasses.replace(run, source=SOURCE, source_arrays=SOURCE.load(), coupling=coupling)


def pairs(runs: list[Run], first: int, last: int, longest: int = 4) -> list[Any]:
    """The pairs of each step, as a program of `longest` steps a dispatch is given them."""
    with closing(PairsAhead(runs, longest, (first, last))) as ahead:
        axis, found = int(len(runs) > 1), []
        for step in range(first, last):
            of_step = partial(np.take, indices=step % ahead.capacity, axis=axis)
            found.append(jax.tree.map(of_step, jax.tree.map(np.asarray, ahead.buffer(step))))
        return found


def assert_equal(ours: list[Any], theirs: list[Any]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_steps_pairs_are_its_own_points_in_the_plans_order() -> None:
    """The points are those that an independent coupling would draw at that step; labels travel with their z."""
    run = run_of(OptimalTransport())
    for step, (y, z, label) in enumerate(pairs([run], 0, 6)):
        drawn = jax.tree.map(np.asarray, draw_ends(run, jax.random.fold_in(run.key, step), 8))
        plan = OptimalTransport().plan(drawn.y, drawn.z, np.random.default_rng(0))
        np.testing.assert_allclose(y, drawn.y[plan.i], atol=1e-6)
        np.testing.assert_allclose(z, drawn.z[plan.j], atol=1e-6)
        np.testing.assert_array_equal(label, drawn.label[plan.j])


def test_where_the_network_sees_labels_pairs_are_within_a_label() -> None:
    """The y of a label are then distributed as all are: here its mean tells the side of the data."""
    seen, unseen = (
        jax.tree.map(
            lambda *parts: np.concatenate(parts), *pairs([run_of(OptimalTransport(), classes=classes)], 0, 200)
        )
        for classes in (2, 0)
    )
    for found, least, most in ((seen, -0.2, 0.2), (unseen, 0.5, 2.0)):
        assert least < found.y[found.label == 0, 0].mean() < most


def test_neither_timing_nor_buffers_nor_a_resumed_start_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    run, honest = run_of(Sinkhorn(epsilon=1.0)), pairs_ahead.couple
    whole = pairs([run], 0, 13)

    def late(*args: Any) -> Any:
        time.sleep(0.01 * np.random.default_rng().random())
        return honest(*args)

    monkeypatch.setattr(pairs_ahead, "couple", late)
    monkeypatch.setattr(pairs_ahead, "n_solvers", lambda: 4)
    assert_equal(pairs([run], 0, 13), whole)
    assert_equal(pairs([run], 6, 13), whole[6:])
    assert_equal(pairs([run], 0, 13, longest=5), whole)
    assert np.any(whole[0].y != pairs([run_of(Sinkhorn(epsilon=1.0), seed=1)], 0, 1)[0].y)


def test_steps_share_a_larger_batch() -> None:
    """Three steps of 8 take the 24 pairs of one plan, each once."""
    coupling = OptimalTransport(batch_size=24, block=12)
    run = run_of(coupling)
    found = pairs([run], 1, 9)
    drawn = jax.tree.map(lambda leaf: np.asarray(leaf[0]), draw_groups(run, 1, 1, 24))
    plan = coupling.plan(drawn.y, drawn.z, np.random.default_rng(0))
    np.testing.assert_array_equal(np.concatenate([found[k].z for k in (2, 3, 4)]), drawn.z[plan.j])  # steps 3, 4, 5


def test_each_member_of_a_sweep_has_its_own() -> None:
    runs = [run_of(Sinkhorn(epsilon=epsilon), seed) for epsilon, seed in ((1.0, 0), (5.0, 0), (1.0, 3))]
    together = pairs(runs, 0, 6)
    for i, run in enumerate(runs):
        assert_equal([jax.tree.map(lambda leaf: leaf[i], one) for one in together], pairs([run], 0, 6))  # noqa: B023


@pytest.mark.parametrize(
    "coupling", [OptimalTransport(), Sinkhorn(epsilon=0.1), Unbalanced(rho=5.0)], ids=lambda each: type(each).__name__
)
def test_held_out_points_are_paired_as_in_training(coupling: BatchCoupling) -> None:
    """Batch by batch, each point in its place (but by the one that leaves some out), nearer to its y than by chance."""
    data = FixedPoints(drawn_from=Gaussian(mean=(1.0, 0.0), std=1.0), size=20)
    held_out, run = Batch(*data.load()), dataclasses.replace(run_of(coupling), dataset=data)
    found = couple_held_out(run, held_out, jax.random.key(1), 3)
    drawn = jax.tree.map(
        np.asarray, draw_held_out(dataclasses.replace(run, coupling=None), held_out, jax.random.key(1), 3)
    )
    if not isinstance(coupling, Unbalanced):
        np.testing.assert_array_equal(found.z, np.tile(held_out.x, (3, 1)))
    assert {*map(tuple, np.asarray(found.y[:8]))} <= {*map(tuple, drawn.y[:8])}
    costs = [((pairs.y - pairs.z) ** 2).sum(-1).mean() for pairs in (found, drawn)]
    assert costs[0] < 0.8 * costs[1]


@choice
class Failing(BatchCoupling):
    block: int | None = None
    batch_size: int | None = None

    def pair(self, costs: np.ndarray, random: np.random.Generator) -> Plan:
        raise ValueError("no plan")


def test_the_rest_of_a_step_is_never_below_nothing() -> None:
    """Plans that were begun before training count whole when they end."""
    with closing(PairsAhead([run_of(OptimalTransport())], 4, (0, 8))) as ahead:
        ahead.buffer(0)
        ahead._spent, ahead._began = pairs_ahead.Spent(1e6, 8), (time.perf_counter(), time.process_time(), 0.0)
        summary = summary_of_cost(OptimalTransport(), ahead.cost())
    assert summary["step_ms"]["value"] == 0
    assert "beside" not in row_of_cost(OptimalTransport(), summary, "", 8)[1]


def test_what_is_said_to_be_faster_runs(tmp_path: Path) -> None:
    def said(waited: float, points: int, coupling: BatchCoupling) -> str:
        return row_of_cost(coupling, summary_of_cost(coupling, pairs_ahead.Cost(0.06, 0.001, waited, 0.0)), "", points)[
            1
        ]

    assert "faster" not in said(0.4, 512, OptimalTransport())
    assert "block=64" not in said(0.9, 500, OptimalTransport()) + said(0.9, 512, OptimalTransport(block=32))
    _, word = said(0.96, 512, OptimalTransport()).split("faster: ")
    assert word == "coupling.block=64"
    words = [
        "dataset=moons",
        "coupling=ot",
        "batch_size=512",
        "steps=2",
        "net.widths=[8]",
        "pictures=none",
        "threads=1",
    ]
    assert main(["train", *words, word, f"hydra.run.dir={tmp_path / 'run'}"]) == 0


def test_an_error_of_a_thread_reaches_who_asks_and_no_thread_stays() -> None:
    before = threading.active_count()
    with closing(PairsAhead([run_of(Failing())], 4, (0, 100))) as ahead, pytest.raises(ValueError, match="no plan"):
        ahead.buffer(0)
    with closing(PairsAhead([run_of(OptimalTransport())], 4, (0, 10**9))):
        pass  # nobody takes what it makes
    assert threading.active_count() == before


TRAIN = (
    "train source=8gaussians dataset=moons path=ot coupling=ot batch_size=32 net=mlp net.widths=[16] threads=1 steps=150"
    " log_every=30 checkpoint_every=50 pictures=none"
).split()


def ending(run: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoints.load(run / "checkpoints", pytest.fail)[1])]


def test_a_stopped_run_goes_on_to_the_same_bits(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "hydra.run.dir=whole"]) == 0
    said = capsys.readouterr().out
    assert "coupling" in said and "training waited for it" in said
    honest, sent = training_loop.progress.Steps.update, []

    def update(self: Any, done: int, note: str = "") -> None:
        honest(self, done, note)
        if done >= 60 and not sent:
            sent.append(done)
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop.progress.Steps, "update", update)
        assert main([*TRAIN, "hydra.run.dir=run"]) == 143
    assert main([*TRAIN, "hydra.run.dir=run"]) == 0
    for ours, theirs in zip(ending(here / "run"), ending(here / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("coupling=ot coupling.block=20", "coupling.block is 20; it must divide batch_size=32"),
        ("coupling=ot coupling.batch_size=40", "coupling.batch_size is 40; it must be a multiple of batch_size=32"),
        ("coupling=sinkhorn", "coupling.epsilon is null, which is 2 sigma^2 of path=bridge"),
        ("coupling=sinkhorn coupling.epsilon=0", "coupling.epsilon is 0; it must be positive"),
        ("coupling=ot path=vp objective=noise", "between two laws"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main([*TRAIN, *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
