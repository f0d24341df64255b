"""Any value at any key: taken as what it says, or refused in one line; scripts/fuzz_configs.py tries whole commands so."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsde import knobs
from diffsde.build import GROUPS, choose, read_parts, table
from diffsde.cli.main import composed, main
from diffsde.couplings.methods import OptimalTransport
from diffsde.datasets.drifting import Drifting
from diffsde.datasets.mixture import Ring
from diffsde.datasets.scaling import check_scale
from diffsde.errors import UserError
from diffsde.expressions import evaluate_expression
from diffsde.metrics.modes import mode_errors
from diffsde.paths import PATHS
from diffsde.runs.process_config import simulate_choices
from diffsde.runs.sample_config import sample_choices
from diffsde.runs.show_config import show_choices
from diffsde.runs.train_config import train_choices
from diffsde.verbs import evaluate

CHOOSE: dict[str, Callable[[dict[str, Any]], object]] = {
    **{"train": train_choices, "sample": sample_choices, "show": show_choices, "simulate": simulate_choices},
    "evaluate": lambda config: read_parts(config, *evaluate.PARTS),
}
ROOT = Path(__file__).parent.parent
NUMBERS = [knob for knob in knobs.KNOBS.values() if isinstance(knob, knobs.Number)]
EXTREMES = (0, -1, 1e-300, 1e300, -1e300, 1e-30, 1e30, math.nan, math.inf, 2**31, 2**63, 10**400, 1e-40, 0.999999999)
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.sampled_from(EXTREMES), st.integers(), st.floats(), st.text(max_size=8)),
    st.sampled_from(["1e5", "-1", "nan", "t", "auto", "latest", "gmm", "x.npy"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "a"]), inner, max_size=2),
    max_leaves=5,
)
# A file is looked for, and an expression compiled, when the choice is made: what they may be, other tests say.
FILES = ("file", "folder", "files", "labels", "test", "run", "data_dir", "init", "guide", "teacher", "samples", "truth")
PLACES = [
    (kind, name, field.name)
    for kind in GROUPS
    for name, cls in sorted(table(kind).items())
    if name != "expression"
    for field in dataclasses.fields(cls)
    if field.name not in FILES
]


@given(st.sampled_from(NUMBERS), st.one_of(st.sampled_from(EXTREMES), st.floats(), st.integers()))
@settings(deadline=None, max_examples=400)
def test_a_number_that_is_taken_is_the_same_in_single_precision(knob: knobs.Number, value: float) -> None:
    """Still in its range, with a cube that is finite, and not 0 where it was not."""
    if knob.refusal(value) is not None:
        return
    if knob.whole:
        assert np.int32(value) == value
        return
    single = np.float32(value)
    assert knob.holds(float(single)) and (single != 0) == (value != 0)
    if knob.largest == knobs.LARGEST:
        assert np.isfinite(single**3)


@given(st.sampled_from(PLACES), VALUES)
@settings(deadline=None, max_examples=300)
def test_any_value_of_a_choices_key_is_read_or_refused_in_one_line(place: tuple[type, str, str], value: Any) -> None:
    kind, name, key = place
    try:
        made = choose(kind, {"name": name, key: value}, GROUPS[kind])
    except UserError as error:
        assert "\n" not in str(error) and str(error)
    else:
        assert type(made) is table(kind)[name]


@cache
def usual(verb: str) -> dict[str, Any]:
    """The config of a verb without words; of the exact field, where it is asked for."""
    oracle = ["run=oracle", "dataset=gaussian", "path=ot"]
    return composed(verb, {"sample": oracle, "show": [*oracle, "what=field"]}.get(verb, []))


@pytest.mark.parametrize("verb", CHOOSE)
def test_any_value_of_a_verbs_key_is_read_or_refused_in_one_line(verb: str) -> None:
    config, keys = usual(verb), sorted({*usual(verb)} - {*FILES})

    @given(st.sampled_from(keys), VALUES)
    @settings(deadline=None, max_examples=80)
    def each(key: str, value: Any) -> None:
        try:
            CHOOSE[verb](config | {key: value})
        except UserError as error:
            assert "\n" not in str(error) and str(error)

    each()


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("sample run=oracle dataset=gaussian path=ot dataset.std=1e30", "dataset.std"),
        ("sample run=oracle dataset=gmm path=ot sampler=em sampler.diffusion=1e-8", "sampler.diffusion"),
        ("train ema=0.999999999", "ema"),
        ("train lr=1e300", "lr"),
        ("simulate t_end=1e300", "t_end"),
        ("simulate sampler.diffusion=abc", "sampler.diffusion"),
        ("explain grid.end=1e-300", "grid.end"),
        ("explain dataset=mixture dataset.means=[[1e200,0],[0,0]]", r"dataset.means[0][0]"),
    ],
)
def test_a_command_is_refused_by_its_key_and_leaves_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], words: str, key: str
) -> None:
    """Without a word of numpy or of jax before the line."""
    assert main(words.split()) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"diffsde: {key} is ") and said.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "tags"), [("tag=inf", ["inf"]), ("tag=[1e5,a b]", ["1e5", "a b"]), ("tag=a,2", ["a", "2"])]
)
def test_a_tag_is_the_text_that_was_typed(word: str, tags: list[str]) -> None:
    """inf was null in config.json, and 1e5 100000.0."""
    assert composed("simulate", [word])["tag"] == tags


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: OptimalTransport().resolved(PATHS["ot"](), 2**24),
            "a plan of 16,777,216 points: 2 PiB of memory or more",
        ),
        (lambda: Drifting(size=10**9, snapshots=1000).check(), "dataset.size=1,000,000,000 of 1000 snapshots: "),
        (lambda: Drifting(growth=30.0).check(), "growth is 30: by the last of 5 snapshots all distances are exp"),
        (lambda: check_scale(1e30, "dataset"), r"dataset: a std of 1e\+30, as the network and the solvers see it"),
        (lambda: check_scale(math.nan, "dataset"), "dataset: a std of nan"),
        (
            lambda: evaluate_expression("1e300*t", {"t": 0.5}),
            r"'1e300\*t': its number 1e\+300 is 0 or infinite in single",
        ),
        (lambda: evaluate_expression("t + 1" + 400 * "0", {"t": 0.5}), "is 0 or infinite in single"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_made(make: Callable[[], object], says: str) -> None:
    with pytest.raises((UserError, ValueError), match=says):
        make()
    check_scale(0.0, "dataset")  # constant data are no matter of scale


@pytest.mark.filterwarnings("error")
def test_modes_without_samples_have_no_errors() -> None:
    """The mean over no mode is nothing, and no warning of numpy."""
    assert mode_errors(Ring().mixture(), np.full((3, 2), 100.0) * np.eye(3, 2)) == ({}, 11)


@pytest.mark.slow
def test_random_commands_run_or_are_refused_in_one_line(tmp_path: Path) -> None:
    """Of seed 7, which nothing was mended by."""
    told = [sys.executable, str(ROOT / "scripts" / "fuzz_configs.py"), "--seed", "7", "--commands", "60"]
    done = subprocess.run([*told, "--folder", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
