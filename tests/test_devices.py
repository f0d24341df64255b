"""Several devices and processes: the same results as one device's, within rounding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde import checkpoints
from diffsde.cli.main import main
from tests.conftest import double_precision
from tests.test_resume import DIFFSDE, two_processes

TRAIN = ["train", "steps=60", "batch_size=64", "net.widths=[32,32]", "log_every=20", "optimizer.warmup=5"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main([*TRAIN, f"hydra.run.dir={out}"]) == 0
    return out


def diffsde(words: list[str], here: Path) -> None:
    subprocess.run([*DIFFSDE, *words], check=True, cwd=here, stdout=subprocess.DEVNULL)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["shard=true"], marks=pytest.mark.slow),
        ["accumulate=2", "shard=true"],
    ],
    ids=" ".join,
)
def test_eight_devices_train_what_one_does(words: list[str], alone: Path, tmp_path: Path) -> None:
    """The batch split over 8, with the parameters whole and split, and in accumulated parts."""
    diffsde([*TRAIN, *words, "devices=8", "hydra.run.dir=run"], tmp_path)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["devices"] == 8
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=2e-5)


def test_eight_devices_sample_what_one_does(alone: Path, tmp_path: Path) -> None:
    """Samples and trajectories split over 8, which does not divide their number."""
    few = ["sample", f"run={alone}", "n=101", "steps=6", "sampler=em", "sigma=0.5", "plots=false", "save_every=2"]
    assert main([*few, f"hydra.run.dir={tmp_path / 'one'}"]) == 0
    diffsde([*few, "devices=8", "hydra.run.dir=eight"], tmp_path)
    for file in ("samples.npz", "trajectory.npz"):
        ours, theirs = (np.load(tmp_path / name / file)["x"] for name in ("eight", "one"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_processes_train_and_sample_what_one_does(alone: Path, tmp_path: Path) -> None:
    """Two real processes on this machine, the parameters split between them; the folder is the first one's.

    They train by an address and sample as a SLURM job step.
    """
    out, drawn = tmp_path / "two", tmp_path / "drawn"
    assert two_processes([*TRAIN, "shard=true", f"hydra.run.dir={out}"]) == [0, 0]
    np.testing.assert_allclose(losses(out), losses(alone), rtol=2e-5)
    assert json.loads((out / "summary.json").read_text())["devices"] == 2
    few = ["sample", f"run={out}", "n=101", "steps=6", "sampler=em", "sigma=0.5", "plots=false"]
    assert two_processes([*few, f"hydra.run.dir={drawn}"], slurm=True) == [0, 0]
    assert main([*few, f"hydra.run.dir={tmp_path / 'one'}"]) == 0
    ours, theirs = (np.load(folder / "samples.npz")["x"] for folder in (drawn, tmp_path / "one"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


IN_EIGHT = """
import jax, jax.numpy as jnp, numpy as np, dataclasses, json
jax.config.update("jax_num_cpu_devices", 8)
from diffsde import ensembles
from diffsde.sharding import Sharding, member_sharding, replicate, shard_members, shard_parameters
from diffsde.runs.machine import mesh
from diffsde.cli.main import composed
from diffsde.runs.train_config import train_choices
from diffsde.verbs.train_setup import prepare
from diffsde.training import start, train_members, train_steps
words = ["batch_size=64", "net.widths=[32,32]", "shard=true"]
run, params = prepare(train_choices(composed("train", words)))
sharding = Sharding(mesh(None), shard=True)
state = shard_parameters(sharding, start(run, jax.tree.map(jnp.copy, params)))  # steps take their state's memory
kernel = "layers/1/kernel"
spread_run = dataclasses.replace(replicate(sharding, run), sharding=sharding)
state, _ = train_steps(spread_run, state, np.int32(3), chunk=3)
own = {name: [int(shard.data.size) for shard in tree[kernel].addressable_shards]
       for name, tree in (("params", state.params), ("ema", state.ema))}
moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == (32, 32)]
runs = [dataclasses.replace(run, key=jax.random.key(seed)) for seed in range(12)]
half = member_sharding(mesh(None), 12)
together, split = ensembles.stack(runs)
stacked = ensembles.stack_all([start(run, params) for run in runs])
stacked = shard_members(half, stacked, (True,) * len(jax.tree.leaves(stacked)))
stacked, many = train_members(shard_members(half, together, split), stacked, np.int32(3), chunk=3, split=split)
single = [train_steps(run, start(run, jax.tree.map(jnp.copy, params)), np.int32(3), chunk=3)[1] for run in runs]
print(json.dumps({
    "size": 32 * 32, "own": own, "moments": [len({str(s.index) for s in m.addressable_shards}) for m in moments],
    "split": sum(split), "member devices": len(stacked.params[kernel].addressable_shards),
    "apart": float(np.max(np.abs(np.asarray(many) - np.asarray(single)))),
}))
"""


def test_parameters_and_members_lie_where_they_should() -> None:
    """Sharded, each of 8 devices holds an eighth of a kernel, of its average and of Adam's two moments; an ensemble of
    12 lies on 6 of the 8, two members each, its runs differing in the key alone, and each member equals its own run.
    """
    said = subprocess.run([sys.executable, "-c", IN_EIGHT], capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    for sizes in found["own"].values():
        assert sizes == [found["size"] // 8] * 8
    assert found["moments"] == [8, 8]
    assert found["split"] == 1 and found["member devices"] == 6
    assert found["apart"] < 1e-4


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    words = [*DIFFSDE, *TRAIN, "devices=3"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("diffsde: batch_size: 64 examples at once do not divide evenly among 3 devices")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float64", marks=pytest.mark.slow)])
def test_precision_is_that_of_the_products(precision: str, alone: Path, tmp_path: Path) -> None:
    """bfloat16 stays near float32's losses but not on them, its parameters float32; float64 has numbers of its own, drawn
    in double precision, and its parameters are not float32's.
    """
    run, drawn = tmp_path / "run", tmp_path / "drawn"
    with double_precision():  # what the command switches is as it was afterwards
        assert main([*TRAIN, f"precision={precision}", f"hydra.run.dir={run}"]) == 0
        kept = checkpoints.load(run / "checkpoints", pytest.fail)[1]["state"]["params"]
        assert main(["sample", f"run={run}", "n=50", "steps=4", "plots=false", f"hydra.run.dir={drawn}"]) == 0
    apart = np.max(np.abs(np.array(losses(run)) / np.array(losses(alone)) - 1))
    if precision == "bfloat16":
        assert 1e-5 < apart < 0.05 and kept["layers/0/kernel"].dtype == "float32"
    else:
        assert 1e-5 < apart < 0.2 and kept["layers/0/kernel"].dtype == "float64"
    figure = json.loads((drawn / "summary.json").read_text())["metrics"]["within_mode_std"]["value"]
    assert 0.5 < figure < 20


def test_a_sweep_whose_path_is_tried_by_a_program_begins_with_its_devices(tmp_path: Path) -> None:
    """JAX reads their number once, before the program that asks whether the expressions are a path."""
    path = ["path=expression", "path.alpha_t=t", "path.beta_t=1-t", "run=oracle", "dataset=gmm"]
    few = ["n=8", "steps=1", "pictures=none", "devices=2", "hydra.sweep.dir=sweep"]
    diffsde(["sample", "-m", "seed=0,1", *path, *few], tmp_path)
    assert all((tmp_path / "sweep" / job / "summary.json").exists() for job in "01")
