"""The loop in parts: however it is cut, padded or vmapped, the samples are those of one loop, by one program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import ensembles
from diffsde.cli.main import main
from diffsde.fields import OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import OT
from diffsde.runs import progress, simulating
from diffsde.runs.simulating import SimulationInputs, simulate_members, simulate_shared
from diffsde.samplers import SAMPLERS, simulate_compiled, times
from diffsde.samplers.chunks import chunks
from diffsde.samplers.grids import UniformGrid
from diffsde.samplers.loop import (
    LENGTH,
    ChunkedLoop,
    LoopSettings,
    Saving,
    alike,
    loop_end_compiled,
    loop_start_compiled,
    loop_steps_compiled,
    padded,
)
from diffsde.samplers.sde import EulerMaruyama

FIELD = OracleField(OT(), Mixture(jnp.array([[-2.0], [1.5]]), jnp.array([[0.3], [1.0]]), jnp.array([0.4, 0.6])), (1,))
POINTS = jnp.linspace(-2.0, 2.0, 7)[:, None]
KEY = jax.random.key(3)


@contextmanager
def compiled() -> Iterator[list[str]]:
    """The names of the programs that XLA compiles, or reads from the cache, inside."""
    names: list[str] = []

    def note(event: str, seconds: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize(("name", "last"), [("heun", "mean"), ("em", "mean"), ("em", "denoise"), ("unipc", "step")])
def test_segments_give_the_bits_of_one_dispatch(name: str, last: str) -> None:
    """9 steps of 7 samples in chunks of 3, as 9, as 1 + 8 and as 4 + 3 + 2 dispatched steps: one program, the same bits; and
    `simulate`, another program, the same to rounding.
    """
    sampler, (at, steps) = SAMPLERS[name](), padded(times(UniformGrid(0.0, 0.95), 9, OT()))
    loop = ChunkedLoop(chunks(7, 3), last, False)
    whole = 9 if alike(sampler, loop) else 8
    ends = []
    for cuts in ([whole], [1, whole - 1], [4, 3, whole - 7]):
        inputs, state = loop_start_compiled(sampler, FIELD, POINTS, at, KEY, None, steps, loop=loop)
        done = 0
        for count in cuts:
            state, mark = loop_steps_compiled(inputs, state, jnp.int32(done), jnp.int32(count), loop=loop)
            done += count
            assert int(mark) == done
        ends.append(np.asarray(loop_end_compiled(inputs, state, loop=loop).x))
    for end in ends[1:]:
        np.testing.assert_array_equal(end, ends[0])
    plain = simulate_compiled(
        sampler, FIELD, POINTS, times(UniformGrid(0.0, 0.95), 9, OT()), KEY, settings=LoopSettings(last)
    ).x
    np.testing.assert_allclose(ends[0], plain, atol=2e-5)


def members(counts: list[int]) -> list[SimulationInputs]:
    found = []
    for count in counts:
        at, steps = padded(times(UniformGrid(0.0, 1.0), count, OT()))
        found.append(SimulationInputs(EulerMaruyama(), FIELD, POINTS, at, KEY, None, steps))
    return found


def test_members_of_one_program_take_their_own_steps() -> None:
    """3, 7 and 12 steps, vmapped: each ends where it does alone, though all are in the loop until the last is done."""
    group = members([3, 7, 12])
    inputs, split = ensembles.stack(group)
    together = simulate_members(inputs, split, LoopSettings())
    for i, count in enumerate((3, 7, 12)):
        alone = simulate_compiled(EulerMaruyama(), FIELD, POINTS, times(UniformGrid(), count, OT()), KEY)
        np.testing.assert_allclose(together.x[i], alone.x, atol=2e-5)


def test_a_trajectory_of_a_traced_number_of_steps() -> None:
    """Saving.states is all that is compiled for: 7 steps and 9, every third saved, by one program each two states and both ends."""
    for count in (7, 9):
        (inputs,) = members([count])
        found = simulate_shared(inputs, LoopSettings(saving=Saving(3, 4, states=2))).trajectory
        grid = times(UniformGrid(), count, OT())
        plain = simulate_compiled(
            EulerMaruyama(), FIELD, POINTS, grid, KEY, settings=LoopSettings(saving=Saving(3, 4))
        ).trajectory
        assert found is not None and plain is not None and found.x.shape == (4, 4, 1)
        np.testing.assert_array_equal(found.times, plain.times)
        np.testing.assert_allclose(found.x, plain.x, atol=2e-5)


def test_padding_serves_up_to_a_power_of_two() -> None:
    at, steps = padded(times(UniformGrid(), 5, OT()))
    assert len(at) == LENGTH + 1 and int(steps) == 5 and float(at[5]) == float(at[-1]) == 1
    assert len(padded(jnp.linspace(0, 1, LENGTH + 2))[0]) == 2 * LENGTH + 1


def test_a_sweep_over_steps_compiles_once(here: Path) -> None:
    """Two jobs compile all that there is to compile; those of other steps, given or chosen, and a trajectory, nothing."""
    words = "sample run=oracle dataset=gmm path=ot sampler=em n=100 plots=false hydra.run.dir="
    for i, more in enumerate(["steps=140", ""]):
        assert main([*(words + f"w{i}").split(), *more.split()]) == 0
    with compiled() as names:
        for i, more in enumerate(["steps=999", "", "steps=150 save_every=40", "steps=300 save_every=70"]):
            assert main([*(words + f"x{i}").split(), *more.split()]) == 0
    # `loop_points` reads a state off for the first trajectory, `stage` brings an array of another length to the device
    assert set(names) <= {"jit(loop_points)", "jit(stage)"} and names.count("jit(loop_points)") == 1, names
    with np.load("x2/trajectory.npz") as archive:
        assert archive["x"].shape == (5, 100, 2)
        np.testing.assert_allclose(archive["times"], [0, 40 / 150, 80 / 150, 120 / 150, 1], atol=1e-6)


def test_long_sampling_says_how_far_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dispatches of a step at a time, and lines from the first: to the same samples, in the bits, as without either."""
    words = "sample run=oracle dataset=gmm path=ot sampler=em n=100 plots=false steps=50 save_every=20 hydra.run.dir="
    assert main((words + "plain").split()) == 0
    assert "steps/s" not in capsys.readouterr().out
    monkeypatch.setattr(simulating, "PATIENCE", 0.0)
    monkeypatch.setattr(simulating, "SEGMENT", 0.0)
    assert main((words + "cut").split()) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sample ")]
    assert len(said) <= progress.LINES + 1 and said[-1].startswith("sample 50/50") and "steps/s" in said[0]
    for name in ("samples", "trajectory"):
        with np.load(f"plain/{name}.npz") as plain, np.load(f"cut/{name}.npz") as cut:
            np.testing.assert_array_equal(plain["x"], cut["x"])


def test_the_steps_that_were_chosen_are_said_and_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "sample run=oracle dataset=gmm path=ot n=100 plots=false hydra.run.dir="
    assert main((words + "chosen").split()) == 0
    assert "32 (error 0.1% of the samples' std; steps= to choose) from t=0 to 1" in capsys.readouterr().out
    summary = json.loads(Path("chosen/summary.json").read_text())
    assert summary["steps"] == summary["steps_chosen"]["steps"] == 32
    assert 0 < summary["steps_chosen"]["error"] < summary["steps_chosen"]["tolerance"]
    assert main((words + "given steps=32").split()) == 0
    assert "steps_chosen" not in json.loads(Path("given/summary.json").read_text())
    with np.load("chosen/samples.npz") as chosen, np.load("given/samples.npz") as given:
        np.testing.assert_array_equal(chosen["x"], given["x"])
