"""Pairs made before the steps: they stay together, are where the exact field carries them, are cached, and rounds resume to the bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import checkpoints, mixtures, schroedinger
from diffsde.cli.main import main
from diffsde.couplings.pairs import IteratedPairs, draw, pair_set, round_ends
from diffsde.datasets import DATASETS
from diffsde.datasets.normal import StandardNormal
from diffsde.errors import UserError
from diffsde.interpolants import OracleInterpolant
from diffsde.paths import EDM, ICFM, OT
from diffsde.runs import training_loop
from diffsde.runs.pairs import Carrying, Ends, carried_pairs
from diffsde.runs.run_pairs import pairs_of_file
from diffsde.schroedinger import Gaussian

SMALL = ["net.widths=[16]", "batch_size=32", "threads=1", "pictures=none", "objective.weight=balanced"]


def test_pairs_stay_together_and_some_are_kept_from_training() -> None:
    n = 40
    y, z = np.arange(n, dtype=np.float32)[:, None], 100 + np.arange(n, dtype=np.float32)[:, None]
    joint, apart = (pair_set(y, z, np.arange(n), joint=each, held_out=0.1) for each in (True, False))
    for pairs in (joint, apart):
        drawn = [np.asarray(each).ravel() for each in draw(pairs, jax.random.key(0), 2000)]
        assert set(drawn[0]) == set(range(36)) and set(drawn[1]) == {100 + i for i in range(36)}
        np.testing.assert_array_equal(drawn[1] - 100, drawn[2])  # a label is its z's
        together = np.mean(drawn[0] == drawn[2])
        assert together == 1 if pairs is joint else together < 0.1


def ends_of(*laws: Gaussian) -> Ends:
    source, data = (
        DATASETS["mixture"](means=(tuple(law.mean),), covariances=(tuple(map(tuple, law.covariance)),)) for law in laws
    )
    return Ends(source, source.load(), data, data.load())


START, END = (
    Gaussian(np.zeros(2), np.diag([1.0, 0.25])),
    Gaussian(np.array([3.0, -1.0]), np.array([[1.0, 0.6], [0.6, 1.0]])),
)


def test_pairs_by_an_ode_are_where_the_exact_flow_ends() -> None:
    """Between Gaussians with the same axes, independent, on ot: the flow is affine, from std to std along each axis."""
    end = Gaussian(END.mean, np.diag([4.0, 0.04]))
    ends = ends_of(START, end)
    laws = (
        mixtures.Mixture(
            jnp.asarray(law.mean, float)[None], jnp.asarray(np.diag(law.covariance), float)[None], jnp.ones(1)
        )
        for law in (START, end)
    )
    found = carried_pairs(OracleInterpolant(OT(), *laws, (2,)), ends, Carrying(100), 500, jax.random.key(0))
    wanted = end.mean + np.sqrt(np.diag(end.covariance) / np.diag(START.covariance)) * (
        np.asarray(found.y) - START.mean
    )
    np.testing.assert_allclose(found.z, wanted, atol=2e-3)
    assert np.std(np.asarray(found.y), axis=0) == pytest.approx([1.0, 0.5], rel=0.15) and bool(found.joint)


@pytest.mark.slow
def test_pairs_start_where_samples_do() -> None:
    """From beta(0) y + gamma(0) eps: 80 y on path=edm, the source widened on icfm; z then follow the law at t = 1."""
    end = ends_of(START, END).dataset
    noise = StandardNormal((2,))
    edm = end.exact_field(EDM())
    icfm = OracleInterpolant(ICFM(sigma=0.8), noise.law(), end.law(), (2,))
    for field, added in ((edm, 0.0), (icfm, 0.8)):
        found = carried_pairs(field, Ends(noise, None, end, end.load()), Carrying(100), 4000, jax.random.key(0))
        assert np.std(np.asarray(found.y)) == pytest.approx(1.0, rel=0.05)
        np.testing.assert_allclose(np.cov(np.asarray(found.z).T), END.covariance + added**2 * np.eye(2), atol=0.12)
        assert np.corrcoef(found.y[:, 0], found.z[:, 0])[0, 1] > 0.6


@pytest.mark.parametrize("backward", [False, True])
def test_pairs_by_the_bridges_sde_are_coupled_as_the_closed_form(backward: bool) -> None:
    """Both ways in time, so that rounds of iterated Markovian fitting leave the Schroedinger bridge as it is."""
    known, n = schroedinger.bridge(START, END, 0.8), 20_000
    how = Carrying(100, known.sigma, backward)
    found = carried_pairs(schroedinger.exact_field(known), ends_of(START, END), how, n, jax.random.key(0))
    y, z = np.asarray(found.y, np.float64), np.asarray(found.z, np.float64)
    cross = (y - y.mean(axis=0)).T @ (z - z.mean(axis=0)) / n
    spread = np.sqrt((np.outer(np.diag(START.covariance), np.diag(END.covariance)) + known.cross**2) / n)
    assert (np.abs(cross - known.cross) < 5 * spread + 0.01).all(), (cross, known.cross)
    for points, law in ((y, START), (z, END)):
        assert schroedinger.kl(schroedinger.fitted(points), law) < 1e-3


def test_rounds_share_the_steps_and_the_last_learns_from_true_data() -> None:
    assert round_ends(IteratedPairs(rounds=3), 10) == (3, 6, 10)
    four = IteratedPairs(rounds=4)
    assert [four.backward(made) for made in (1, 2, 3)] == [True, False, True]


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in found]


ROUNDS = [
    "train",
    "source=8gaussians",
    "dataset=moons",
    "path=bridge",
    "objective=cfm+score",
    "coupling=iterated",
    *SMALL,
]
ROUNDS += [
    "optimizer.schedule=constant",
    "coupling.rounds=3",
    "coupling.pairs=200",
    "coupling.steps=4",
    "steps=30",
    "log_every=10",
    "checkpoint_every=5",
]


@pytest.mark.slow
def test_a_run_stopped_within_a_round_goes_on_to_the_same_bits(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pairs are read again; where they are damaged it is said so in a line."""
    assert main([*ROUNDS, "hydra.run.dir=whole"]) == 0
    assert "after round 2" in (said := capsys.readouterr().out) and "SDE backward from the data" in said
    whole = json.loads(Path("whole/summary.json").read_text())
    assert [line["round"] for line in whole["rounds"]] == [1, 2, 3] and whole["straightness"]["value"] > 0
    assert main(["train", "run=whole", "steps=60", "threads=1", "pictures=none"]) == 2
    assert "was begun for 30 steps in 3 rounds, equal shares of them" in capsys.readouterr().err
    honest = training_loop.save

    def stopping(members: Any, state: Any, step: int, score: Any) -> None:
        honest(members, state, step, score)
        if step == 25:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_loop, "save", stopping)
        assert main([*ROUNDS, "hydra.run.dir=parts"]) == 130
    kept = Path("parts/pairs/round-3.npz")
    written = kept.read_bytes()
    kept.write_bytes(written[:-300])
    assert main([*ROUNDS, "hydra.run.dir=parts"]) == 2
    assert "parts/pairs/round-3.npz' cannot be read: File is not a zip file" in capsys.readouterr().err
    kept.write_bytes(written)
    assert main([*ROUNDS, "hydra.run.dir=parts"]) == 0
    assert lines(Path("whole")) == lines(Path("parts"))
    ours, theirs = (checkpoints.load(Path(run, "checkpoints"), pytest.fail)[1]["state"] for run in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_a_trained_runs_pairs_are_made_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the cache the second time, made again where the file is damaged, by no run of other data; rerun by `latest`."""
    words = ["source=gaussian", "dataset=moons", *SMALL, "steps=4", "cache_dir=cache"]
    assert main(["train", *words]) == 0
    reflow = ["train", *words, "coupling=run", "coupling.pairs=50", "coupling.steps=5", "resume=false"]
    capsys.readouterr()
    states, said = [], []
    for run in ("first", "second", "third"):
        assert main([*reflow, "coupling.run=" + run_folder(here), f"hydra.run.dir={run}"]) == 0
        said.append(capsys.readouterr())
        states.append(checkpoints.load(Path(run, "checkpoints"), pytest.fail)[1]["state"]["params"])
        (file,) = Path("cache/pairs").glob("*.npz")
        if run == "second":
            file.write_bytes(file.read_bytes()[:-200])
    assert "50 pairs by" in said[0].out and "from the cache" not in said[0].out and "from the cache" in said[1].out
    assert "they are made again" in said[2].err and "from the cache" not in said[2].out
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, states[0], state)
    first = json.loads(Path("first/config.json").read_text())
    assert (
        first["provenance"]["used"]["coupling.run"]
        == json.loads(Path(run_folder(here), "config.json").read_text())["provenance"]["id"]
    )
    Path(
        "first/summary.json"
    ).unlink()  # as if it had been stopped: it goes on while the run of its pairs is the same one
    going_on = [*reflow, "coupling.run=" + run_folder(here), "hydra.run.dir=first", "resume=true"]
    kept, beside = Path(run_folder(here), "checkpoints"), Path("checkpoints_of_other_parameters")
    assert main(["train", *words, "seed=1", "hydra.run.dir=other"]) == 0
    kept.rename(beside)
    Path("other/checkpoints").rename(kept)
    capsys.readouterr()
    assert main(going_on) == 2
    error = capsys.readouterr().err
    assert "would make other pairs than when" in error and error.count("\n") == 1
    kept.rename("other/checkpoints")
    beside.rename(kept)
    assert main(going_on) == 0
    other = [word.replace("dataset=moons", "dataset=circles") for word in reflow]
    assert main([*other, "coupling.run=" + run_folder(here)]) == 2
    assert "was trained on another dataset" in capsys.readouterr().err


def run_folder(here: Path) -> str:
    (run,) = (here / "outputs" / "train").glob("*/*")
    return str(run)


@pytest.mark.slow
def test_pairs_of_files_in_their_own_units(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Row i with row i: of z = 50 + 3 y the flow is learnt to be straight from the first step, without crossing."""
    random = np.random.default_rng(0)
    y = random.normal(size=(300, 2)) * [1.0, 20.0]
    np.save("y.npy", y)
    np.save("z.npy", 50 + 3 * y)
    np.savez("pairs.npz", y=y, z=50 + 3 * y)
    np.save("few.npy", y[:-1])
    ends = [
        "source=array",
        "source.file=y.npy",
        "dataset=array",
        "dataset.file=z.npy",
        "coupling=pairs",
        *SMALL,
        "steps=60",
    ]
    losses = []
    for more in ([], ["coupling.file=pairs.npz"]):
        assert main(["train", *ends, *more, "hydra.run.dir=run" + str(len(more))]) == 0
        losses.append([line["loss"] for line in lines(Path("run" + str(len(more))))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for more, says in (
        (["dataset.file=few.npy"], "the source has 300 rows, the data 299"),
        (["dataset.test=0.1"], "dataset.test keeps rows back"),
        (["coupling.file=y.npy"], "coupling.file: 'y.npy' cannot be read"),
        (["coupling.file=none.npz"], "coupling.file: 'none.npz' is not a file"),
    ):
        capsys.readouterr()
        assert main(["train", *ends, *more, "hydra.run.dir=refused"]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(("array", "by"), [("y", 5e4), ("z", 9e4), ("y", 0.01), ("z", 10.0), (None, 1.0)])
def test_pairs_of_another_scale_are_refused(
    array: str | None, by: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, file = np.random.default_rng(0), str(tmp_path / "pairs.npz")
    pairs = {
        name: random.multivariate_normal(law.mean, law.covariance, 700) for name, law in (("y", START), ("z", END))
    }
    if array:
        pairs[array] = pairs[array] + by if by > 1e3 else pairs[array] * by
    np.savez(file, **pairs)
    if array is None:
        assert len(pairs_of_file(file, ends_of(START, END)).y) == 700
        assert "pairs: 700 of " in capsys.readouterr().out
        return
    mean, end = pairs[array].mean(), {"y": "source", "z": "data"}[array]
    with pytest.raises(
        UserError, match=f"{array} of '.*' has mean {re.escape(f'{mean:.4g}')}, std .*, and the {end} mean"
    ):
        pairs_of_file(file, ends_of(START, END))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["path=bridge", "coupling=iterated"], "needs the score: take objective=cfm+score"),
        (["coupling=iterated", "coupling.rounds=1"], "rounds is 1, in which no pairs are made"),
        (["coupling=iterated", "coupling.rounds=9", "steps=8"], "coupling.rounds is 9, of steps=8"),
        (["coupling=pairs"], "source=array and dataset=array, and source is none"),
        (["coupling=run", "coupling.run=nowhere"], "there is no folder 'nowhere'"),
        (["coupling=run", "coupling.pairs=0"], "coupling.pairs is 0; it must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    words: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "source=8gaussians", "dataset=moons", *SMALL, *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
