"""A model that jumps to t = 1 alone (objective=consistency) is refused wherever a velocity, or what it gives, is asked of it; and a
run that learns in rounds is validated by the round that it is in.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.datasets.mixture import Ring
from diffsde.errors import UserError
from diffsde.evaluation.validation import of_round
from diffsde.fields import Field
from diffsde.flow_maps import LearnedFlowMap
from diffsde.guidance import ClassifierFree
from diffsde.interpolants import Backward
from diffsde.inverse.posteriors import MMPS
from diffsde.nets import MLP, structure
from diffsde.objectives import Eulerian, Problem, Semigroup
from diffsde.optimizers import Adam
from diffsde.paths import PATHS
from diffsde.runs import lengthen, load_field, run_pairs
from diffsde.samplers import SAMPLERS
from diffsde.stability import check_sampler
from diffsde.time_distributions import Uniform
from diffsde.training import Run, start
from diffsde.types import Moments
from diffsde.verbs import train_report


def last_alone() -> LearnedFlowMap:
    graph, shapes = structure(MLP((4,)), (2,), times=2)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return LearnedFlowMap(PATHS["ot"](), params, Moments(jnp.zeros(2), jnp.ones(())), graph, ends_only=True)


def wrapped() -> dict[str, Field]:
    field, operator = last_alone(), object()
    return {
        "guided": ClassifierFree(field, jnp.asarray(2.0)),
        "backward": Backward(field),
        "given a measurement": MMPS().field(field, operator, 0.1, jnp.zeros(1)),  # type: ignore[arg-type]  # never asked for anything
    }


@pytest.mark.parametrize("name", list(wrapped()))
def test_no_wrapping_makes_a_velocity_of_jumps(name: str) -> None:
    with pytest.raises(UserError, match=r"sampler=heun asks for the velocity"):
        check_sampler(SAMPLERS["heun"](), wrapped()[name], "heun")


def test_guidance_direction_and_pairs_are_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: Any = load_field.Loaded(last_alone(), Ring(), "a run")
    monkeypatch.setattr(load_field, "load_unguided", lambda chosen: alone)
    monkeypatch.setattr(
        run_pairs, "restore", lambda place, which: (SimpleNamespace(source=None, dataset=None), alone.field, 3)
    )
    monkeypatch.setattr(run_pairs, "check_same_ends", lambda *args: None)
    asked: Any = SimpleNamespace(guidance=2.0, guide=None, direction="forward", guidance_interval=(0, 1))
    with pytest.raises(UserError, match="guidance: this model has learnt jumps to t = 1 alone"):
        load_field.load_field(asked)
    asked = SimpleNamespace(guidance=None, direction="backward")
    with pytest.raises(UserError, match="direction=backward: this model has learnt jumps"):
        load_field.load_field(asked)
    coupling: Any = SimpleNamespace(run="there", checkpoint="last", sigma=0.0)
    ends: Any = SimpleNamespace(source=None, dataset=SimpleNamespace(conditional=False))
    with pytest.raises(UserError, match=r"coupling\.run: 'there': this model has learnt jumps"):
        run_pairs.pairs_of_run(coupling, ends, jax.random.key(0), None)


def test_python_refuses_what_is_not_learnt_and_gives_the_jump() -> None:
    exact = diffsde.oracle(dataset="gmm", path="ot")
    run, x = dataclasses.replace(exact, field=last_alone()), [[0.5, 0.0]]
    for what in ("velocity", "score", "data", "noise", "divergence", "log_prob"):
        with pytest.raises(UserError, match=f"{what}: this model has learnt jumps"):
            getattr(run, what)(x, 0.5)
    assert run.jump(x, 0.5, 1.0).shape == (1, 2)


def test_no_kl_is_told_of_it() -> None:
    """It would be that of an ODE whose velocity is not learnt."""
    chosen = SimpleNamespace(dataset=Ring(), steps=3000, objective=Eulerian(ends_only=True, diagonal=0.0))
    job: Any = SimpleNamespace(chosen=chosen, run=SimpleNamespace(problem=SimpleNamespace(objective=None), source=None))
    assert train_report.kl_of(job, None) is None  # type: ignore[arg-type]  # no parameters are looked at


def test_jumps_are_not_asked_of_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run=oracle", "dataset=gmm", "path=ot", "measurement=linear", "measurement.matrix=[[1,0]]"]
    assert main(["sample", *words, "sampler=flow_map", "n=4"]) == 2
    assert "no map is known, which sampler=flow_map asks for" in capsys.readouterr().err


def test_a_run_in_rounds_is_validated_by_its_round_and_not_lengthened(monkeypatch: pytest.MonkeyPatch) -> None:
    field, objective = dataclasses.replace(last_alone(), ends_only=False), Semigroup(finest=4, in_rounds=True)
    problem = Problem(field.path, objective, Uniform(), field.moments, field.graph, True)
    key, steps = jax.random.key(0), jnp.asarray(6)
    run = Run(problem, Ring(), Ring().load(), Adam(), key, steps, jnp.array([0.5]), 8)
    state = start(run, field.params)._replace(step=jnp.asarray(5))
    now = of_round(run, state).problem
    s, t = objective.jump_times(now, jnp.asarray(0.3), jnp.array([0.5, 0.99]))
    assert (float(s), float(t)) == (0, 1) and now.frozen is state.frozen  # the last round: one jump
    begun: Any = SimpleNamespace(steps=6, objective=objective, coupling=None, optimizer=Adam())
    monkeypatch.setattr(lengthen, "train_choices", lambda config: begun)
    monkeypatch.setattr(lengthen.folder, "read_config", lambda place: {})
    monkeypatch.setattr(lengthen, "named", lambda config: "objective=progressive")
    longer: Any = SimpleNamespace(steps=12)
    with pytest.raises(UserError, match=r"begun for 6 steps in rounds.*init=there steps=6"):
        lengthen.lengthen(Path("there"), longer, {}, 6)
