"""Snapshots: read from files or refused, made data against their SDE, and the path through them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffsde.cli.main import main
from diffsde.consecutive import draw_consecutive, in_one, times_within
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.drifting import Drifting
from diffsde.datasets.snapshot_files import SnapshotFiles
from diffsde.errors import UserError
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.snapshot_fit import SnapshotFit
from diffsde.objectives import Problem, VelocityMatching, time_at
from diffsde.paths import ICFM, OT, Bridge, Trig, coefficients
from diffsde.paths.piecewise import Piecewise
from diffsde.runs.data_report import described
from diffsde.runs.restore import restore_network
from diffsde.time_distributions import Uniform, draw_uniforms
from diffsde.types import Moments


def three(folder: Path) -> dict[str, np.ndarray]:
    """Points of two coordinates at the times 3, 7 and 15, of 4, 5 and 6 rows in no order, in folder/cells.npz."""
    random = np.random.default_rng(0)
    time = random.permutation(np.repeat([3.0, 7.0, 15.0], [4, 5, 6]))
    x = random.normal(size=(15, 2)) * [1.0, 50.0] + time[:, None]
    np.savez(folder / "cells.npz", x=x, time=time)
    return {"x": x, "time": time}


def test_one_file_is_cut_by_its_times(tmp_path: Path) -> None:
    """Each row is in the snapshot of its time; knots are in proportion to the times; one scale, of all rows trained on."""
    there = three(tmp_path)
    dataset = SnapshotFiles(file=str(tmp_path / "cells.npz"))
    times, x = dataset.series()
    assert times.tolist() == [3, 7, 15] and np.allclose(dataset.knots, [0, 1 / 3, 1])
    for time, rows in zip(times, x, strict=True):
        assert np.array_equal(rows, there["x"][there["time"] == time])
    own = np.concatenate(dataset.trained()) * there["x"].std(axis=0) + there["x"].mean(axis=0)
    assert np.allclose(own, np.concatenate(x), rtol=1e-5)
    assert np.array_equal(dataset.load().x, dataset.trained()[-1])


def test_a_table_and_files_say_the_same(tmp_path: Path) -> None:
    """A table with the time among its columns, by name or number, and a file for each time, are the same snapshots."""
    there = three(tmp_path)
    rows = np.column_stack([there["x"][:, 0], there["time"], there["x"][:, 1]])
    np.savetxt(tmp_path / "cells.csv", rows, delimiter=",", header="a,day,b", comments="", fmt="%.17g")
    np.savetxt(tmp_path / "bare.tsv", rows, delimiter="\t", fmt="%.17g")
    for time in (3, 7, 15):
        np.save(tmp_path / f"{time}.npy", there["x"][there["time"] == time])
    wanted = SnapshotFiles(file=str(tmp_path / "cells.npz")).series()
    files = tuple(str(tmp_path / f"{time}.npy") for time in (3, 7, 15))
    named = SnapshotFiles(file=str(tmp_path / "cells.csv"), time="day")
    for dataset in (
        named,
        SnapshotFiles(file=str(tmp_path / "cells.csv"), time="1", columns=("a", "b")),
        SnapshotFiles(file=str(tmp_path / "cells.csv"), time="1"),
        SnapshotFiles(file=str(tmp_path / "bare.tsv"), time="1"),
        SnapshotFiles(files=files, times=(3.0, 7.0, 15.0)),
    ):
        found = dataset.series()
        assert np.array_equal(found.times, wanted.times)
        for one, other in zip(found.x, wanted.x, strict=True):
            assert np.array_equal(one, other)
    assert named.column_names() == ("a", "b")


def test_what_is_left_out_is_not_seen(tmp_path: Path) -> None:
    """Neither the path nor the scale knows the snapshot at leave_out; `at` still gives it, in the scale of the others."""
    there = three(tmp_path)
    dataset = SnapshotFiles(file=str(tmp_path / "cells.npz"), leave_out=7.0)
    kept = there["x"][there["time"] != 7]
    assert np.allclose(dataset.knots, [0, 1]) and [len(x) for x in dataset.trained()] == [4, 6]
    scaling = dataset.scaling((2,))
    assert scaling is not None and np.allclose(scaling.mean, kept.mean(axis=0))
    left = dataset.at(1)
    assert left.t == pytest.approx(1 / 3)
    own = np.asarray(left.load().x) * scaling.std + scaling.mean
    assert np.allclose(own, there["x"][there["time"] == 7], rtol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "fields", "words"),
    [
        ({"x": np.zeros((4, 2))}, {}, "no array 'time'"),
        ({"x": np.zeros((4, 2)), "time": np.zeros(4)}, {}, "one time alone"),
        ({"x": np.zeros((4, 2)), "time": np.zeros(3)}, {}, "4 numbers"),
        ({"x": np.zeros((4, 2)), "time": np.array([0, 1, np.nan, 1])}, {}, "row 2"),
        ({"x": np.zeros((4, 2)), "time": np.arange(4.0)}, {}, "round the times"),
        ({"x": np.zeros((4, 2, 2)), "time": np.array([0, 0, 1, 1])}, {}, "points (n, d)"),
        ({"x": np.zeros((6, 2)), "time": np.repeat([0, 1, 2], 2)}, {"leave_out": 0.0}, "choose one of 1"),
        ({"x": np.zeros((6, 2)), "time": np.repeat([0, 1, 2], 2)}, {"leave_out": 1.5}, "choose one of 1"),
        ({"x": np.zeros((4, 2)), "time": np.repeat([0, 1], 2)}, {"leave_out": 1.0}, "neither of which"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], fields: dict[str, float], words: str
) -> None:
    np.savez(tmp_path / "cells.npz", **arrays)
    with pytest.raises(UserError, match=r"^dataset") as refusal:
        SnapshotFiles(file=str(tmp_path / "cells.npz"), **fields).trained()
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_fields_that_contradict_one_another_are_refused() -> None:
    for fields, words in (
        ({}, "give one file"),
        ({"file": "a.npz", "files": ("b.npy", "c.npy")}, "give one file"),
        ({"file": "a.npy"}, ".npz"),
        ({"files": ("a.npy",)}, "two times"),
        ({"files": ("a.npy", "b.npy"), "times": (1.0,)}, "one for each"),
        ({"files": ("a.npy", "b.npy"), "times": (1.0, 0.0)}, "increase"),
    ):
        with pytest.raises(ValueError, match=words.replace(".", r"\.")):
            SnapshotFiles(**fields).check()  # type: ignore[arg-type]


def test_drifting_points_follow_their_sde() -> None:
    """The law at time 3 is that of dX = A X ds + sigma dW from the points at time 0, by Euler's method in 3000 steps."""
    dataset = Drifting(components=1, std=0.5, sigma=0.6, turn=0.07, growth=0.1)
    random, h = np.random.default_rng(0), 1e-3
    a = np.array([[0.1, -2 * np.pi * 0.07], [2 * np.pi * 0.07, 0.1]])
    x = np.array([2.0, 0.0]) + 0.5 * random.normal(size=(4000, 2))
    for _ in range(3000):
        x = x + h * x @ a.T + 0.6 * np.sqrt(h) * random.normal(size=x.shape)
    means, std, _ = dataset.own_law_at(3.0)
    error = std / np.sqrt(len(x))
    assert np.abs(x.mean(axis=0) - means[0]).max() < 4 * error
    assert np.abs(x.std(axis=0) - std).max() < 4 * error
    drawn = Drifting(components=1).series().x[3]
    assert np.abs(drawn.mean(axis=0) - Drifting(components=1).own_law_at(3.0)[0][0]).max() < 0.1


def test_piecewise_path_is_each_path_in_its_interval() -> None:
    """alpha and beta are the path's at the local time, their derivatives its own over the interval's length."""
    path, knots = Trig(), jnp.array([0.0, 0.2, 0.5, 1.0])
    whole = Piecewise(path, knots)
    for k in range(3):
        begin, end = float(knots[k]), float(knots[k + 1])
        for s in (0.0, 0.3, 0.9):
            found = coefficients(whole, begin + s * (end - begin))
            own = coefficients(path, s)
            for name in ("alpha", "beta"):
                assert float(getattr(found, name)) == pytest.approx(float(getattr(own, name)), abs=2e-6)
                slope = float(getattr(own, f"d{name}")) / (end - begin)
                assert float(getattr(found, f"d{name}")) == pytest.approx(slope, rel=1e-5, abs=1e-5)
    one, same = coefficients(Piecewise(OT(), jnp.array([0.0, 1.0])), 0.3), coefficients(OT(), 0.3)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.isclose(a, b)), one, same))


def test_a_bridge_is_of_one_brownian_motion_in_every_interval() -> None:
    """gamma^2 = sigma^2 (t - a)(b - t)/(b - a) between the snapshots at a and b; a constant gamma is what it is."""
    whole = Piecewise(Bridge(sigma=0.7), jnp.array([0.0, 0.2, 1.0]))
    for t, a, b in ((0.05, 0.0, 0.2), (0.15, 0.0, 0.2), (0.3, 0.2, 1.0), (0.9, 0.2, 1.0)):
        c = coefficients(whole, t)
        assert float(c.gamma) ** 2 == pytest.approx(0.49 * (t - a) * (b - t) / (b - a), rel=1e-4)
        assert float(c.gamma_dgamma) == pytest.approx(0.49 * (a + b - 2 * t) / (b - a) / 2, rel=1e-4, abs=1e-6)
    assert float(coefficients(Piecewise(ICFM(sigma=0.3), jnp.array([0.0, 0.2, 1.0])), 0.1).gamma) == pytest.approx(0.3)


def test_examples_lie_between_neighbours() -> None:
    """y of one snapshot, z of the next, t between their times and uniform there; as many examples of each interval."""
    knots = jnp.array([0.0, 0.1, 0.4, 1.0])
    laws = in_one(tuple(jnp.full((n, 1), float(k)) for k, n in enumerate((3, 4, 5, 6))))
    moments = Moments(jnp.zeros(1), 1.0)
    for stratified in (True, False):
        law = Uniform(stratified=stratified)
        problem = Problem(Piecewise(OT(), knots), VelocityMatching(), law, moments, None, True, moments)  # type: ignore[arg-type]

        @jax.jit
        @jax.vmap
        def batch(key: jax.Array, problem: Problem = problem) -> tuple[jax.Array, ...]:
            y, z, interval = draw_consecutive(laws, key, 10)
            u = draw_uniforms(jax.random.fold_in(key, 1), 10, problem.time.stratified)
            return y[:, 0], z[:, 0], interval, times_within(problem, interval, u, jax.random.fold_in(key, 2))

        y, z, interval, t = map(np.asarray, batch(jax.random.split(jax.random.key(0), 2000)))
        assert np.array_equal(y, interval) and np.array_equal(z, interval + 1)
        assert np.bincount(interval[0]).tolist() == [4, 3, 3]
        s = (t - np.asarray(knots)[interval]) / np.diff(knots)[interval]
        for k in range(3):
            mine = s[interval == k]
            assert mine.min() > 0 and mine.max() < 1 and stats.kstest(mine, stats.uniform.cdf).pvalue > 1e-3
        t = np.asarray(jax.vmap(partial(time_at, problem))(draw_uniforms(jax.random.key(3), 3000, True)))
        assert [np.sum((a < t) & (t < b)) for a, b in pairwise(knots)] == [1000] * 3


def test_snapshots_their_times_and_what_is_left_out_are_said() -> None:
    series = Drifting(size=50, snapshots=4, leave_out=2.0)
    said = described({"dataset": "drifting"} | series.about(series.load()))
    assert said.endswith("; 3 snapshots, at times (points) 0 (50), 1 (50), 3 (50); left out: 2"), said


@pytest.mark.slow
def test_a_trained_field_carries_each_snapshot_to_the_next(tmp_path: Path) -> None:
    """Within four errors and the floor, and nowhere near where nothing has moved; the units are the data's own."""
    words = [
        "dataset=drifting",
        "dataset.size=4000",
        "steps=1500",
        "pictures=none",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert main(["train", *words]) == 0
    trained = restore_network(tmp_path / "run", None, "last", None)
    found = SnapshotFit().measure(Subject(trained.config.dataset, trained.field), jax.random.key(0))
    value, error, floor, _ = found.figures["next_w2"]
    assert floor is not None and error is not None
    assert value < floor.value + 4 * np.hypot(error, floor.error or 0.0)
    still = [each["w2_still"] for each in found.about["snapshots"]]
    assert np.mean(still) > 1.5 * value


def test_a_run_keeps_to_the_times_it_was_begun_with(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The points are as before, so mean and std too; other times are another path."""
    x = np.random.default_rng(0).normal(size=(30, 2))
    np.savez("cells.npz", x=x, time=np.repeat([0.0, 1.0, 4.0], 10))
    words = ["dataset=snapshots", "dataset.file=cells.npz", "net.widths=[8]", "batch_size=8", "steps=4", "threads=1"]
    train = ["train", *words, "pictures=none", "hydra.run.dir=run"]
    assert main(train) == 0
    assert np.allclose(restore_network(Path("run"), None, "last", None).config.path.knots, [0, 0.25, 1])  # type: ignore[attr-defined]
    np.savez("cells.npz", x=x, time=np.repeat([0.0, 2.0, 4.0], 10))
    Path("run/summary.json").unlink()  # as if it had been stopped
    capsys.readouterr()
    for again in (train, ["sample", "run=run", "n=5", "steps=4", "plots=false", "threads=1"]):
        assert main(again) == 2
        error = capsys.readouterr().err
        assert "was begun, from [0, 1, 4] to [0, 2, 4]" in error and error.count("\n") == 1


def test_what_would_be_right_is_said(tmp_path: Path) -> None:
    """A column of times by another name is given as it is typed; of an .npz, that its y needs no labels=."""
    (tmp_path / "cells.csv").write_text("day,g1,g2\n0,1,2\n0,2,3\n1,3,4\n1,4,6\n")
    with pytest.raises(UserError, match=r"say e\.g\. dataset.time=day$"):
        SnapshotFiles(file=str(tmp_path / "cells.csv")).series()
    with pytest.raises(ValueError, match=r"the array y of a \.npz is taken without it"):
        ArrayFile(file="cells.npz", labels="y").check()
