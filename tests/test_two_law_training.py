"""Training between two laws, from the command line: what is learnt, resumed to the bit, in which units, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import checkpoints, mixtures
from diffsde.cli.main import main
from diffsde.datasets import CustomMixture
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.common_scaling import ScaledDataset, common, measured
from diffsde.datasets.finite import Batch
from diffsde.datasets.fixed import FixedPoints
from diffsde.datasets.toys import Moons
from diffsde.errors import UserError
from diffsde.interpolants import OracleInterpolant
from diffsde.paths import coefficients
from diffsde.runs.restore import restore_network
from diffsde.verbs.train_setup import measured_covariance

SMALL = "net.widths=[48,48] batch_size=256 pictures=none threads=1 log_every=100".split()
BOTH = "objective=cfm+score path=bridge path.sigma=1.5".split()


def trained(here: Path, *words: str, out: str = "run", status: int = 0) -> dict[str, Any]:
    """The summary of a run with these words."""
    assert main(["train", *SMALL, *words, f"hydra.run.dir={out}"]) == status
    return json.loads((here / out / "summary.json").read_text()) if status == 0 else {}


def errors(run: Path) -> tuple[float, float]:
    """E|u - u*|^2 and E|s - s*|^2, t uniform on [0.05, 0.95], of a run against the exact field of its two mixtures, as shares of
    their own mean squares.
    """
    found = restore_network(run, None, "last", None)
    source, data = found.config.source.law(), found.config.dataset.law()  # type: ignore[union-attr]
    exact = OracleInterpolant(found.config.path, source, data, (2,))
    keys, t = jax.random.split(jax.random.key(0), 3), jnp.linspace(0.05, 0.95, 4000)
    z, y = mixtures.sample(data, keys[0], 4000), mixtures.sample(source, keys[1], 4000)

    @jax.jit
    @jax.vmap
    def both(z: jax.Array, y: jax.Array, eps: jax.Array, t: jax.Array) -> Any:
        c = coefficients(found.config.path, t)
        x = c.alpha * z + c.beta * y + c.gamma * eps
        return found.field.output(x, t), exact.output(x, t)

    ours, theirs = both(z, y, jax.random.normal(keys[2], z.shape), t)
    pairs = [(ours.velocity, theirs.velocity)] + ([] if ours.score is None else [(ours.score, theirs.score)])
    shares = [float(jnp.mean((a - b) ** 2) / jnp.mean(b**2)) for a, b in pairs]
    return shares[0], shares[1] if len(shares) > 1 else np.nan


LAWS = "source=8gaussians source.radius=2 dataset=gmm dataset.components=4 dataset.radius=3 dataset.std=0.5".split()


@pytest.mark.slow
def test_both_outputs_learn_the_exact_field(here: Path) -> None:
    """Drift and score between two mixtures: a loss near its floor, a regret that has fallen, and errors of a few percent."""
    found = trained(here, *LAWS, *BOTH, "steps=700")
    loss = found["loss"]
    assert -0.02 * loss["floor"] < loss["value"] - loss["floor"] < 0.05 * loss["floor"]
    lines = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["regret"] < lines[0]["regret"] / 3
    velocity, score = errors(here / "run")
    assert velocity < 0.04 and score < 0.08
    assert found["data"]["source"]["classes"] == 8 and found["parameters"] == 2 * 3746


def test_resumed_in_the_bits_of_a_run_that_never_stopped(here: Path) -> None:
    """60 steps of both outputs, and 30 that are made 60."""
    words = [*LAWS, *BOTH, "optimizer.schedule=constant", "log_every=10"]
    trained(here, *words, "steps=60", out="whole")
    trained(here, *words, "steps=30", out="parts")
    assert main(["train", "run=parts", "steps=60", "threads=1"]) == 0
    states = [checkpoints.load(here / out / "checkpoints", pytest.fail)[1] for out in ("whole", "parts")]
    ours, theirs = (jax.tree.leaves(state) for state in states)
    assert len(ours) == len(theirs) and "source_moments" in states[0]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def files(here: Path) -> None:
    """Two files of unequal sizes, scales and places, of labelled data."""
    random = np.random.default_rng(0)
    np.save(here / "a.npy", random.normal(size=(300, 2)) * [100.0, 0.02] + [1000.0, 0.5])
    labels = np.arange(500) % 2
    np.savez(here / "b.npz", x=random.normal(size=(500, 2)) * [50.0, 0.01] + [1200.0, 0.4], y=labels)


def test_one_scaling_for_both_ends(here: Path) -> None:
    """Of two files that count the same, of a file and a toy, of given numbers; a line in the model's units is one in the data's."""
    files(here)
    a, b = ArrayFile(file="a.npy"), ArrayFile(file="b.npz")
    source, data = common(a, b)
    rows = np.load("a.npy"), np.load("b.npz")["x"]
    mean = (rows[0].mean(0) + rows[1].mean(0)) / 2
    std = np.sqrt(sum(((each - mean) ** 2).mean(0) for each in rows) / 2)
    for end, own in ((source, rows[0]), (data, rows[1])):
        scaling = end.scaling((2,))
        np.testing.assert_allclose(scaling.mean, mean)
        np.testing.assert_allclose(scaling.std, std)
        np.testing.assert_allclose(end.load().x, (own - mean) / std, atol=1e-5)
    law = CustomMixture(means=((900.0, 0.3), (1100.0, 0.6)), stds=((10.0, 0.01), (30.0, 0.1)))
    toy, _ = common(law, b)
    assert isinstance(toy, ScaledDataset) and toy.classes(toy.load()) == 2
    points = np.asarray(toy.draw(toy.load(), jax.random.key(0), 20_000))
    moments = toy.moments(toy.load(), jax.random.key(0))
    np.testing.assert_allclose(points.mean(0), moments.mean, atol=0.03)
    own = points * toy.scaling((2,)).std + toy.scaling((2,)).mean
    np.testing.assert_allclose(own.mean(0), [1000.0, 0.45], rtol=0.01)
    given = ArrayFile(file="a.npy", mean=(0.0, 0.0), std=(2.0, 3.0))
    np.testing.assert_array_equal(measured(given, b).std, [2.0, 3.0])
    assert measured(law, Moons()) is None
    with pytest.raises(UserError, match="both ends have one scaling"):
        measured(given, ArrayFile(file="b.npz", mean=(0.0, 0.0), std=(1.0, 1.0)))


def test_points_in_memory_are_scaled_once(here: Path) -> None:
    """Fixed points beside a file: trained on, held out, asked for by label or index, and of one covariance with what is drawn."""
    files(here)
    fixed = FixedPoints(
        drawn_from=CustomMixture(means=((900.0, 0.3), (1100.0, 0.6)), stds=((10.0, 0.01),) * 2), size=500
    )
    _, data = common(ArrayFile(file="a.npy"), fixed)
    scaling, key = data.scaling((2,)), jax.random.key(0)
    assert scaling is not None

    def known(x: Any, of: Any) -> bool:
        rows = {*map(tuple, np.round((np.asarray(of, np.float64) - scaling.mean) / scaling.std, 3))}
        return {*map(tuple, np.round(np.asarray(x, np.float64), 3))} <= rows

    arrays, held_out = data.load(), data.held_out()
    for x in (
        arrays.x,
        data.draw(arrays, key, 50),
        data.draw_given(arrays, None, key, 50),
        data.draw_by_index(arrays, key, 50),
    ):
        assert known(x, fixed.load().x)
    for x in (
        held_out.x,
        data.draw(Batch(*held_out), key, 500),
        data.draw_given(held_out, None, key, 50),
        data.true_points(None, key, 50),
    ):
        assert known(x, fixed.held_out().x)
    points = np.asarray(arrays.x, np.float64)
    np.testing.assert_allclose(measured_covariance(data, arrays, 2, key), np.cov(points.T), rtol=1e-4)
    np.testing.assert_allclose(data.moments(arrays, key).mean, points.mean(0), rtol=1e-4)


@pytest.mark.slow
def test_own_files_with_labels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Own arrays at both ends: a field of two labels in one scale, said and kept; and a validation loss of rows set apart."""
    files(here)
    words = "source=array source.file=a.npy dataset=array dataset.file=b.npz dataset.conditional=true dataset.test=0.1"
    found = trained(here, *words.split(), "steps=100", "log_every=50")
    said = capsys.readouterr().out
    assert "source: 300 points of 2 coordinates from a.npy" in said
    assert found["data"]["points"] == 450 and found["validation_loss"]["value"] > 0
    config = restore_network(here / "run", None, "last", None).config
    scaling = json.loads((here / "run/config.json").read_text())["scaling"]
    for end in (config.source, config.dataset):
        np.testing.assert_array_equal(end.scaling((2,)).mean, scaling["mean"])  # type: ignore[union-attr]
    how = "run=run steps=8 n=400 pictures=none threads=1".split()
    laws = {"forward": ("b.npz", "labels=[1]"), "backward": ("a.npy", "labels=[0]")}
    for direction, (file, label) in laws.items():
        assert main(["sample", *how, f"direction={direction}", label, f"hydra.run.dir={direction}"]) == 0
        assert "have changed" not in capsys.readouterr().err
        own, x = np.load(file), np.load(here / direction / "samples.npz")["x"]
        rows = own if file == "a.npy" else own["x"]
        np.testing.assert_allclose(x.mean(0), rows.mean(0), atol=6 * rows.std(0).max() / 20, rtol=0.03)
        np.testing.assert_allclose(x.std(0), rows.std(0), rtol=0.2)
    assert main(["sample", *how, "sampler=em", "hydra.run.dir=em"]) == 2
    assert "objective=cfm+score" in capsys.readouterr().err
    np.save("a.npy", np.load("a.npy") + 1000)
    assert main(["sample", *how, "hydra.run.dir=changed"]) == 0
    assert "the data have changed" in capsys.readouterr().err


REFUSED = {
    "path=ve source=8gaussians": "alpha(0)",
    "path=bridge objective=noise": "objective=noise is for Gaussian paths",
    "source=moons objective=classifier dataset.conditional=false": "objective=classifier is for Gaussian paths",
    "source=moons path=ot objective=cfm+score": "path=ot has none",
    "objective=cfm+score": "the velocity gives the score",
    "path=bridge path.sigma=0 objective=cfm+score": "path=bridge has none (gamma = 0); give path.sigma= above 0",
    "path=interpolant path.gamma_t=0 objective=cfm+score": "give path.gamma_t= above 0 between the ends",
    "path=bridge objective.weight=beta2": "objective.weight=beta2",
    "source=moons posterior_points=64": "posterior_points is 64",
    "source=8gaussians source.conditional=true": "source.conditional",
    "source=gaussian source.mean=[0,0,0]": "source: its points have shape (3,), the data's (2,)",
    "source=moons2": "source: 'moons2' is not a choice (did you mean 'moons'?)",
    "source=before.npy": "source: 'before.npy' is not a choice; for a file say source=array source.file=before.npy",
    "dataset=after.csv": "dataset: 'after.csv' is not a choice; for a file say dataset=array dataset.file=after.csv",
    "source=array": "source.file=",
    "source=moons dataset=array dataset.file=x.npy dataset.stream=true": "dataset.stream=true",
    "source=array source.file=nowhere.npy": "source.file: 'nowhere.npy' is not a file",
}


@pytest.mark.parametrize("words", list(REFUSED))
def test_refused_in_one_line(here: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    np.save(here / "x.npy", np.eye(2))
    trained(here, *words.split(), "steps=10", status=2)
    said = capsys.readouterr().err.strip()
    assert REFUSED[words] in said and "\n" not in said
