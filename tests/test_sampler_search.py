"""sampler=best and grid=optimised: held against the exact end of Gaussian data, and repeated from what a folder says."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.cli.rerun import rerun
from diffsde.datasets.mixture import Gaussian
from diffsde.fields import OracleField
from diffsde.mixtures import Mixture
from diffsde.paths import PATHS
from diffsde.runs import sampler_search
from diffsde.sampler_trials import TrialPoints, fine_solution, most_steps, ranked, tried
from diffsde.samplers import SAMPLERS, simulate_compiled
from diffsde.samplers.grids import CosineGrid, QuadraticGrid, UniformGrid
from diffsde.stability import finite_step
from diffsde.time_tuning import tuned
from diffsde.verbs.sample import search_sampler

KEY = jax.random.key(0)
STD = 0.4  # of the Gaussian data: their ODE multiplies a point by it from t = 0 to 1
LAW = Mixture(jnp.zeros((1, 1)), jnp.full((1, 1), STD**2), jnp.ones(1))
X0 = np.random.default_rng(3).normal(size=(64, 1)).astype(np.float32)
ON = TrialPoints(OracleField(PATHS["ot"](), LAW, (1,)), jnp.asarray(X0), None)
GRIDS = {"uniform": UniformGrid(), "quadratic": QuadraticGrid(), "cosine": CosineGrid()}
TRIED = {name: SAMPLERS[name]() for name in ("ab2", "rk4")}


def end(name: str, at: np.ndarray) -> np.ndarray:
    """Where the product's own loop takes the points."""
    return np.asarray(simulate_compiled(SAMPLERS[name](), ON.field, ON.x0, jnp.asarray(at, float), KEY).x)


def test_the_fine_solution_is_the_exact_end() -> None:
    fine = fine_solution(ON, GRIDS.values())
    np.testing.assert_allclose(fine.x, STD * X0, atol=2e-6)
    assert fine.error < 1e-5


def test_candidates_are_ranked_by_their_distance_from_the_exact_end() -> None:
    """Each with the steps that the budget allows; the distance is that of the product's own loop on the candidate's times."""
    rows, _ = ranked(tried(TRIED, GRIDS, ON, 9, "auto"), ON, GRIDS.values())
    assert {(row.sampler, row.steps) for row in rows} == {("ab2", 9), ("rk4", 2)} and len(rows) == 6
    for row in rows:
        apart = end(row.sampler, row.times) - STD * X0
        assert row.rms == pytest.approx(float(np.sqrt(np.mean(np.square(apart, dtype=np.float64)))), abs=3e-6)
    assert [row.rms for row in rows] == sorted(row.rms for row in rows)


@pytest.mark.parametrize("name", SAMPLERS["best"]().candidates)  # type: ignore[attr-defined]
def test_candidates_step_from_noise_alone(name: str) -> None:
    """From t = 0, where alpha = 0 and rho = beta/alpha is infinite."""
    assert finite_step(SAMPLERS[name](), ON.field, jnp.asarray(0.0), jnp.asarray(0.1))


def test_steps_of_a_budget() -> None:
    heun = SAMPLERS["heun"]()
    assert [most_steps(heun, 5, last) for last in ("mean", "denoise")] == [2, 3]
    assert most_steps(SAMPLERS["rk4"](), 3, "mean") == 0


@pytest.mark.parametrize("path, last", [("ot", "auto"), pytest.param("vp", "denoise", marks=pytest.mark.slow)])
def test_tuned_times_end_nearer_than_every_fixed_grid(path: str, last: str) -> None:
    """On the held-out half, by its closed-form end; the times increase between the same ends."""
    field = OracleField(PATHS[path](), LAW, (1,))
    on = ON._replace(field=field)
    unipc = {"unipc": SAMPLERS["unipc"]()}
    rows, fine = ranked(tried(unipc, GRIDS, on, 6, last), on, GRIDS.values())
    found, fixed = tuned(rows, unipc, on, fine)
    assert (found.times[[0, -1]] == [0, 1]).all() and (np.diff(found.times) > 0).all() and len(found.times) == 7
    exact = fine.x[32:] if last == "denoise" else STD * X0[32:]
    assert found.rms == pytest.approx(float(np.sqrt(np.mean((found.x - exact) ** 2))), abs=3e-6)
    held = [float(np.sqrt(np.mean((row.x[32:] - exact) ** 2))) for row in rows]
    assert fixed == pytest.approx(min(held), abs=3e-6) and found.rms < fixed / 3


def test_the_cache_holds_what_was_found_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was cut, or that names what is no sampler any more, is warned of and not believed."""
    ab2 = {"name": "ab2"}
    row = sampler_search.Found(
        ab2, {"name": "shifted", "shift": 2.0}, 4, "mean", 4, 4, 0.1, 0.1, 64, 1e-6, [["ab2", "grid=shifted", 4, 0.1]]
    )
    file = tmp_path / "samplers" / "key.json"
    assert sampler_search.kept(file) is None and capsys.readouterr().err == ""
    sampler_search.keep(file, row)
    assert sampler_search.kept(file) == row
    assert sampler_search.said(row, False, True)[1] == "the same by: sampler=ab2 steps=4 grid=shifted grid.shift=2"
    whole = file.read_text()
    for damaged in (whole[:-40], whole.replace('"ab2"', '"ab9"'), "[]"):
        file.write_text(damaged)
        assert sampler_search.kept(file) is None and "samplers are tried again" in capsys.readouterr().err


def found_by(words: str, where: Path) -> tuple[int, dict[str, Any]]:
    base = "run=oracle dataset=gmm path=ot n=30 pictures=none cache_dir=cache"
    code = main(["sample", *base.split(), *words.split(), f"hydra.run.dir={where}"])
    return code, json.loads((where / "summary.json").read_text()).get("found", {})


@pytest.mark.slow
def test_a_command_finds_caches_and_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "sampler=best sampler.candidates=[ab2,rk4] grid=optimised steps=4"
    code, first = found_by(words, Path("one"))
    assert code == 0 and first["evaluations"] <= 4 and first["rms"] < first["fixed_rms"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("the same by: "))
    (kept,) = Path("cache/samplers").glob("*.json")

    with monkeypatch.context() as patch:  # another seed, and another number: what was found serves them
        patch.setattr(sampler_search, "search", lambda *_: pytest.fail("searched again"))
        assert found_by(f"{words} seed=5 n=40", Path("two"))[1] == first
    assert found_by(f"{words} path=vp", Path("other"))[1] != first and len([*Path("cache/samplers").iterdir()]) == 2
    kept.write_text(kept.read_text()[:-40])
    assert found_by(words + " seed=6", Path("three"))[1] == first
    assert "not what was written" in capsys.readouterr().err

    typed = line.removeprefix("the same by: ").replace("'", "")
    assert found_by(typed, Path("typed"))[1] == {}
    one, same = (np.load(tmp_path / name / "samples.npz")["x"] for name in ("one", "typed"))
    np.testing.assert_array_equal(one, same)
    with monkeypatch.context() as patch:
        patch.setattr(sampler_search, "search", lambda *_: pytest.fail("searched again"))
        Path("cache").rename("gone")
        assert rerun(["one"], tmp_path / "again").same


@pytest.mark.slow
def test_the_error_that_a_search_measured_is_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said of Gaussian data where a sampler was named is not said beside it."""
    monkeypatch.chdir(tmp_path)
    assert found_by("sampler=ab2 grid=uniform steps=1 cache=false", Path("named"))[0] == 0
    assert "the solver's own error" in capsys.readouterr().err
    assert found_by("sampler=best sampler.candidates=[ab2] grid=uniform steps=1 cache=false", Path("searched"))[0] == 0
    said = capsys.readouterr()
    assert "best of 1 evaluation: ab2" in said.out and "1 evaluation of the field" in said.out
    assert "the solver's own error" not in said.err


def test_a_search_on_a_flow_map_says_that_it_jumps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sampler_search, "resolved", lambda chosen, *_: (chosen, None))
    data = Gaussian()
    for run, name, jumps in (("here", "best", True), ("oracle", "best", False), ("here", "ab2", False)):
        chosen: Any = SimpleNamespace(run=run, sampler=SAMPLERS[name](), grid=UniformGrid(), steps=3)
        search_sampler(chosen, ON.field, data, (1.0,), None, None)
        assert ("sampler=flow_map steps=3 makes as many evaluations" in capsys.readouterr().out) == jumps


@pytest.mark.parametrize(
    "words, message",
    [
        ("sampler=em grid=optimised steps=5", "tunes the times of an ODE's solver"),
        ("sampler=edm sampler.churn=0.1 grid=optimised steps=5", "tunes the times of an ODE's solver"),
        ("grid=optimised", "needs their number"),
        ("sampler=rk4 grid=optimised steps=65", "steps is 65"),
        ("sampler=best sampler.candidates=[heun,adaptive]", "'adaptive' cannot be tried"),
        ("sampler=best sampler.candidates=[best]", "'best' cannot be tried"),
        ("sampler=best grid=list", "name a sampler"),
        ("sampler=best sigma=1", "sigma is 1"),
        ("sampler=best measurement=linear 'measurement.matrix=[[1.0]]'", "without a measurement"),
        ("sampler=best sampler.candidates=[rk4] steps=3", "with 3 evaluations no candidate"),
    ],
)
def test_what_cannot_be_found_is_refused(
    words: str, message: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [word.strip("'") for word in words.split()]
    assert main(["sample", "run=oracle", "dataset=gaussian", "path=ot", "pictures=none", "cache=false", *typed]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said


def test_between_two_laws_candidates_step_by_a_velocity() -> None:
    chosen: Any = dataclasses.make_dataclass("Chosen", ["sampler"])(SAMPLERS["best"]())

    class Between:
        gaussian = False

    assert {*sampler_search.candidates_of(chosen, Between())} == {"ab2", "ab3", "rk4"}  # type: ignore[arg-type]


def test_the_key_of_the_cache_knows_what_decides() -> None:
    """Labels, a field's numbers, its static choices and the budget; the key is the same for the same."""
    chosen: Any = dataclasses.make_dataclass("Chosen", ["last", "grid"])("auto", UniformGrid())

    def key(on: TrialPoints = ON, budget: int = 5, **more: Any) -> str:
        return sampler_search.fingerprint(chosen, budget, on, more.get("samplers", TRIED), GRIDS)  # type: ignore[arg-type]

    law = LAW._replace(variances=LAW.variances + 1e-6)
    others = [
        key(budget=6),
        key(samplers={"ab2": TRIED["ab2"]}),
        key(ON._replace(condition=jnp.zeros(64, int))),
        key(ON._replace(field=dataclasses.replace(ON.field, mixture=law))),
        key(ON._replace(field=dataclasses.replace(ON.field, path=PATHS["trig"]()))),
    ]
    assert key() == key(ON._replace(x0=jnp.asarray(X0.copy()))) and len({key(), *others}) == 6
    assert math.isfinite(int(key(), 16))
