"""configs/ and the tables of build.py are one thing said twice: they must agree."""

import dataclasses
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffsde import knobs
from diffsde.build import GROUPS, read, table
from diffsde.errors import UserError
from diffsde.evaluation.in_training import metric_words
from diffsde.evaluation.likelihood import Likelihood
from diffsde.likelihood import GRIDS as SOLVER_GRIDS
from diffsde.likelihood import PROBES, SOLVERS
from diffsde.nets.dit import POSITIONS
from diffsde.nets.layers import ACTIVATIONS
from diffsde.objectives import WEIGHTS
from diffsde.optimizers import SCHEDULES
from diffsde.runs.machine import PRECISIONS, Machine
from diffsde.runs.sample_config import SampleConfig
from diffsde.runs.train_config import TrainConfig
from diffsde.samplers.adaptive import PAIRS
from diffsde.samplers.corrector import NORMS
from diffsde.samplers.sampler import LAST_STEPS
from diffsde.verbs.evaluate import APART, PARTS, EvaluateConfig
from diffsde.verbs.explain import ExplainConfig

CONFIGS = Path(__file__).parent.parent / "configs"
TABLES = {group: (kind, table(kind)) for kind, group in GROUPS.items()}
CHOICES = [(group, path.stem) for group in TABLES for path in sorted((CONFIGS / group).glob("*.yaml"))]


def load(group: str, choice: str) -> dict:
    return yaml.safe_load((CONFIGS / group / f"{choice}.yaml").read_text())


def nested(content: dict) -> dict:
    """Groups nested by a defaults list: {'diffusion': 'constant'}."""
    return {key.split("@")[1]: value for entry in content.get("defaults", []) for key, value in entry.items()}


@pytest.mark.parametrize("group", TABLES)
def test_files_are_the_tables_entries(group: str) -> None:
    """Every entry has a file of its name; a file of another name is a preset, a published point of an entry."""
    names = {path.stem: load(group, path.stem)["name"] for path in (CONFIGS / group).glob("*.yaml")}
    assert {stem for stem, name in names.items() if stem == name} == set(TABLES[group][1])
    assert set(names.values()) <= set(TABLES[group][1])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_keys_are_the_fields(group: str, choice: str) -> None:
    content = load(group, choice)
    keys = set(content) - {"name", "defaults"} | set(nested(content))
    assert keys == {field.name for field in dataclasses.fields(TABLES[group][1][content["name"]])}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_files_say_the_classes_defaults(group: str, choice: str) -> None:
    """A class built in Python and one chosen on the command line are equal, interpolated knobs (${default:${lr},0.01})
    left null.
    """
    content = {
        key: yaml.safe_load(fallback[1]) if (fallback := re.fullmatch(r"\$\{default:.*,(.+)\}", str(value))) else value
        for key, value in load(group, choice).items()
    }
    for field in dataclasses.fields(TABLES[group][1][content["name"]]):
        if field.name in content and not str(content[field.name]).startswith("${"):
            default = field.default
            as_lists = (
                [list(row) if isinstance(row, tuple) else row for row in default]
                if isinstance(default, tuple)
                else default
            )
            assert content[field.name] == as_lists, field.name


def scalars(hint: Any) -> set[type]:
    """The kinds of number, word or switch in a hint, those of a list's entries too; of nested lists none."""
    members = [member for member in typing.get_args(hint) if member not in (type(None), Ellipsis)]
    if typing.get_origin(hint) is tuple and any(typing.get_origin(member) is tuple for member in members):
        return set()
    return set().union(*map(scalars, members)) if members else {hint} & {int, float, bool, str}


FREE_NUMBERS = {"means", "stds", "covariances", "weights", "matrix", "labels"}  # nested lists, numbers or other words


def test_every_number_and_switch_has_a_knob_of_its_kind() -> None:
    """What the command line refuses before the classes are imported is what the classes' own types say."""
    used = set()
    for group, (_, choices) in TABLES.items():
        for choice, cls in choices.items():
            for name, hint in typing.get_type_hints(cls).items():
                if name not in {field.name for field in dataclasses.fields(cls)} or name in FREE_NUMBERS:
                    continue
                used.add(check_kind(hint, name, group, choice))
    for cls in (TrainConfig, SampleConfig, EvaluateConfig, Likelihood, ExplainConfig, Machine):
        for name, hint in typing.get_type_hints(cls).items():
            if name not in FREE_NUMBERS:
                used.add(check_kind(hint, name, "", ""))
    assert knobs.KNOBS.keys() <= used


def check_kind(hint: Any, name: str, group: str, choice: str) -> str:
    """The key of KNOBS that holds for a field, of which kind it must be; '' where the field is text."""
    kinds, knob = scalars(hint), knobs.knob(name, group, choice)
    key = next((key for key in (f"{choice}.{name}", f"{group}.{name}", name) if key in knobs.KNOBS), "")
    if isinstance(knob, knobs.Number):
        assert kinds == {int if knob.whole else float}, (group, choice, name)
    elif isinstance(knob, knobs.Switch):
        assert kinds == {bool}, (group, choice, name)
    elif isinstance(knob, knobs.Word | knobs.Text):
        assert kinds == {str}, (group, choice, name)
    else:
        assert not kinds & {int, float, bool}, (group, choice, name)
    return key


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("schedule", SCHEDULES),
        ("activation", ACTIVATIONS),
        ("weight", WEIGHTS),
        ("metric", metric_words()),
        ("precision", PRECISIONS),
        ("positions", POSITIONS),
        ("norm", NORMS),
        ("pair", PAIRS),
        ("solver", SOLVERS),
        ("solver_grid", SOLVER_GRIDS),
        ("probe", ("auto", *PROBES)),
        ("last", ("auto", *LAST_STEPS)),
    ],
)
def test_words_are_those_of_the_code(name: str, choices: Iterable[str]) -> None:
    knob = knobs.KNOBS[name]
    assert isinstance(knob, knobs.Word) and set(knob.choices) == set(choices)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"steps": "many"}, "steps is 'many'; it must be a whole number"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"seed": 2**31}, r"seed is 2147483648; it must be in \[0, 2\^31\)"),
        ({"ema": [0.9, 1.0]}, r"ema\[1\] is 1.0; it must be in \[0, 1\)"),
        ({"lr": float("nan")}, "lr is nan; it must be a number"),
        ({"cache": "yes"}, "cache is 'yes'; it must be true or false"),
        ({"net": {"name": "mlp", "widths": [64, 0]}}, r"net.widths\[1\] is 0; it must be 1 or more"),
        ({"dataset": {"name": "array", "std": [-1.0]}}, r"dataset.std\[0\] is -1.0; it must be 0 or more"),
        ({"dataset": {"name": "gmm", "std": 0}}, "dataset.std is 0; it must be positive"),
        (
            {"sampler": {"name": "em", "diffusion": {"name": "constant", "scale": -1}}},
            "sampler.diffusion.scale is -1; it must be 0 or more",
        ),
        ({"optimizer": {"name": "muon", "rms": 0}}, "optimizer.rms is 0; it must be positive"),
        ({"optimizer": {"name": "adam", "schedule": "cosin"}}, "optimizer.schedule is 'cosin'; choose one of constant"),
    ],
    ids=str,
)
def test_a_value_beyond_its_knob_is_refused(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        knobs.check(config)


def test_a_scale_may_be_above_1() -> None:
    """Muon's rms is the size of a step's entries, not a memory like momentum."""
    knobs.check({"optimizer": {"name": "muon", "rms": 1.5}})


@pytest.mark.parametrize(
    ("verb", "cls"), [("train", TrainConfig), ("sample", SampleConfig), ("explain", ExplainConfig)]
)
def test_every_knob_is_a_field_and_is_explained(verb: str, cls: type) -> None:
    knobs, groups = knobs_and_groups((CONFIGS / f"{verb}.yaml").read_text())
    fields = {field.name for field in dataclasses.fields(cls)}
    assert knobs == fields - groups


def knobs_and_groups(text: str) -> tuple[set[str], set[str]]:
    """Of a verb's file; every knob is explained."""
    content = yaml.safe_load(text)
    groups = {key.split("/")[0] for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    knobs = set(content) - {"defaults", "hydra"}
    assert set(re.findall(r"^(\w+): \S+ +# \S", text, flags=re.M)) == knobs
    return knobs, groups - {"override hydra"}


def test_evaluate_takes_samples_words_and_its_own() -> None:
    text = (CONFIGS / "evaluate.yaml").read_text()
    knobs, groups = knobs_and_groups(text)
    names = [{field.name for field in dataclasses.fields(cls)} for cls in (EvaluateConfig, Likelihood, SampleConfig)]
    own, theirs = names[0] | names[1], names[2]
    assert not own & theirs
    assert knobs | groups == own | theirs - {*APART, *PARTS}
    drawing, _ = knobs_and_groups((CONFIGS / "sample.yaml").read_text())
    for knob in drawing & knobs - {"n"}:  # said in the same words
        (line,) = re.findall(rf"^{knob}: .*$", text, flags=re.M)
        assert line in (CONFIGS / "sample.yaml").read_text()


@dataclasses.dataclass(frozen=True)
class Sample:
    count: int
    rate: float
    flag: bool = False
    widths: tuple[int, ...] = (1,)
    label: str | None = None


def test_read_takes_what_the_types_say() -> None:
    made = read(Sample, {"count": 1e4, "rate": "1e-3", "widths": [3, 4.0], "label": None})
    assert made == Sample(10_000, 1e-3, False, (3, 4), None)
    assert isinstance(made.count, int) and isinstance(made.widths[1], int)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 1.5}, "count is 1.5; it must be a whole number"),
        ({"count": "many"}, "count is 'many'; it must be a whole number"),
        ({"count": True}, "count is True"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": None}, "rate is None; it must be a number"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"widths": 3}, "widths is 3; it must be a list"),
        ({"widths": ["a"]}, "widths[0] is 'a'"),
        ({"cuont": 3}, "cuont is not known (did you mean 'count'?)"),
    ],
)
def test_read_refuses_in_one_line(change: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        read(Sample, {"count": 1, "rate": 1.0} | change, "group")
    assert f"group.{says}" in str(error.value) and "\n" not in str(error.value)


def test_read_wants_every_field_without_a_default() -> None:
    with pytest.raises(UserError, match="rate is missing"):
        read(Sample, {"count": 1})
